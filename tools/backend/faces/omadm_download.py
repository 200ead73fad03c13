"""Where devices fetch packages: a descriptor in front (OMA Download 1.0), the package behind it.

The path names device and package, and carries a ticket that only we can make: a device's download
client often knows no credentials, and nobody else is to fetch in its name. Nothing is stored for
it, so that a URL that a device was given before a restart is good after it.
"""

from __future__ import annotations

import hashlib
import hmac
from xml.sax.saxutils import escape

from protocols.omadm.descriptor import CONTENT_TYPE, NAMESPACE
from tools.backend.faces.base import Package
from tools.backend.faces.omadm_accounts import DmAccount
from tools.backend.faces.omadm_large import MEDIA_TYPE

__all__ = ["CONTENT_TYPE", "PREFIX", "descriptor", "path_of", "right_ticket", "ticket"]

PREFIX = "/dlota/"

TICKET = 32
"""Hex digits of a ticket: 128 bits."""


def ticket(account: DmAccount, digest: str) -> str:
    """What proves that a device was given this URL."""
    text = f"{account.device}\n{digest}".encode()
    return hmac.new(account.server_password.encode(), text, hashlib.sha256).hexdigest()[:TICKET]


def right_ticket(account: DmAccount, digest: str, given: str) -> bool:
    return hmac.compare_digest(ticket(account, digest).encode(), given.encode())


def path_of(account: DmAccount, device_id: str, digest: str, what: str) -> str:
    """The path of a descriptor (`dd`), a package (`package`) or the install-notify (`status`)."""
    return f"{PREFIX}{device_id}/{ticket(account, digest)}/{digest}/{what}"


def descriptor(package: Package, base: str) -> bytes:
    """The descriptor of a package; the paths of package and install-notify begin with `base`."""
    elements = (
        ("DDVersion", "1.0"),
        ("name", package.name),
        ("size", str(len(package.body))),
        ("type", MEDIA_TYPE),
        ("objectURI", f"{base}/package"),
        ("installNotifyURI", f"{base}/status"),
    )
    body = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in elements)
    return f'<?xml version="1.0"?><media xmlns="{NAMESPACE}">{body}</media>'.encode()
