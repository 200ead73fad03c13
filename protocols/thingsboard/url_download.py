"""A package that lies at a URL of its own (`fw_url`), for either client.

Its checksum need not be announced; what is, is that of a package that the server holds itself. The
signature of the image is checked all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from agent.device import Device
from agent.outcome import Outcome
from agent.protocol import ClientSettings
from protocols.http.carrier import Carrier, Carries
from protocols.http.download import Download, Resource
from protocols.thingsboard.attributes import Offer

__all__ = ["UrlDownload", "download_from_url"]


async def download_from_url(carrier: Carries, offer: Offer) -> bool:
    """Bring the package into the update engine; False when the attempt has ended."""
    engine = carrier.device.engine
    scheme = urlsplit(offer.url).scheme.lower()
    if scheme not in ("http", "https"):
        engine.fail(Outcome.UNSUPPORTED_PROTOCOL, scheme[:32])
        return False
    return await Download(carrier, Resource(offer.url)).run()


class UrlDownload:
    """The same for a device that speaks MQTT."""

    __slots__ = ("_carrier", "_done", "_offer")

    def __init__(
        self,
        device: Device,
        settings: ClientSettings,
        offer: Offer,
        done: Callable[[], None],
    ) -> None:
        self._carrier = Carrier(device, settings, offer.url)
        self._offer = offer
        self._done = done

    def start(self) -> None:
        self._carrier.begin(download_from_url(self._carrier, self._offer), self._done)

    def drop(self) -> None:
        self._carrier.drop()
