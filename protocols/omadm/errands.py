"""What a device does beside its sessions: it fetches a package or a component, and tells a download
server how an update ended. Each errand is a story on a carrier of its own, one at a time; `done` is
called at its end, in the terms of :class:`~protocols.http.carrier.Carrier`.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.http.carrier import Carrier
from protocols.omadm.descriptor import NOTIFY_STATUS, NotifyStatus
from protocols.omadm.dlota import (
    ComponentDownload,
    PackageDownload,
    post_install_notify,
    refused_url,
)
from protocols.omadm.fumo_tables import Trouble
from protocols.omadm.http_auth import Account
from protocols.omadm.talk import Talker

__all__ = ["fetch_component", "fetch_package", "notify_server"]

Done = Callable[[], None]


def fetch_package(talker: Talker, done: Done) -> Carrier | None:
    """Bring the package of the order into the update engine. None: nothing can be fetched from its
    URL, and the attempt has ended."""
    order = talker.fumo.book.order
    assert order is not None  # whoever asks for a package has one
    refused = refused_url(order.url)
    if refused is not None:
        talker.device.engine.fail(*refused)
        return None
    carrier = Carrier(talker.device, talker.settings, order.url)
    download = PackageDownload(carrier, order.url, talker.options.profile.fumo, _account(talker))
    carrier.begin(_bring(talker, download), done)
    return carrier


async def _bring(talker: Talker, download: PackageDownload) -> None:
    arrived = await download.run()
    talker.fumo.book.note(trouble=download.trouble, notify=download.notify_uri)
    if arrived:
        talker.fumo.downloaded(urgent=download.urgent)


def fetch_component(talker: Talker, done: Done) -> Carrier | None:
    """Fetch what the order of SCOMO names. None: likewise."""
    order = talker.scomo.order
    assert order is not None  # whoever asks for a component has one
    refused = refused_url(order.url)
    if refused is not None:
        talker.scomo.fetched(refused[0], Trouble.NONE, None)
        return None
    carrier = Carrier(talker.device, talker.settings, order.url)
    download = ComponentDownload(carrier, order.url, talker.options.profile.fumo, _account(talker))
    carrier.begin(_measure(talker, download), done)
    return carrier


async def _measure(talker: Talker, download: ComponentDownload) -> None:
    await download.run()
    assert download.outcome is not None  # the story ends with one
    talker.scomo.fetched(download.outcome, download.trouble, download.content)


def notify_server(talker: Talker, done: Done) -> Carrier:
    """Tell the download server how the update ended, before the management server is."""
    uri, outcome = talker.fumo.book.notify, talker.device.engine.outcome
    status = NotifyStatus.SUCCESS if outcome is None else NOTIFY_STATUS[outcome]
    carrier = Carrier(talker.device, talker.settings, uri)
    carrier.begin(_notify(talker, carrier, uri, status), done)
    return carrier


async def _notify(talker: Talker, carrier: Carrier, uri: str, status: NotifyStatus | None) -> None:
    if status is not None:
        await post_install_notify(carrier, uri, status, talker.options.profile.fumo.notify_tail)
    talker.fumo.book.note(notify="")


def _account(talker: Talker) -> Account | None:
    """What a download server is shown that challenges."""
    if not talker.options.download_auth:
        return None
    known = talker.settings.credential(talker.device)
    return Account(known.username, known.password)
