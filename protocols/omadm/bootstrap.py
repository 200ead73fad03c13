"""Bootstrap by the DM profile: a pushed WBXML message that gives a device its first DM account.

OMA-TS-DM_Bootstrap 1.2.1, section 5.4, and OMA-TS-DM_Security 1.2.1, section 5.7. The Content-Type
says how the message is protected, the message itself is an ordinary one whose commands are carried
out by the device on its own behalf::

    application/vnd.syncml.dm+wbxml; SEC=USERPIN; MAC=<hex of HMAC-SHA1(key, message)>

    NETWORKID           key: a secret of the network (IMSI, ESN ...)
    USERPIN             key: what the user types in
    USERPIN_NETWORKID   key: PIN ":" secret

Unlike the MAC of a session this HMAC is that of RFC 2104. A bootstrap message is never answered,
neither by a Status nor by anything else, and one that fails in any part leaves nothing behind.
"""

from __future__ import annotations

import enum
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.errors import LocalMisuse
from protocols.omadm import wbxml
from protocols.omadm.errors import SyncmlError
from protocols.omadm.model import Add, Atomic, Command, Replace, Sequence
from protocols.omadm.standard_objects import DmAccount, read_accounts
from protocols.omadm.status import TreeError
from protocols.omadm.tree import Tree
from protocols.omadm.wsp import Push

__all__ = [
    "CONTENT_TYPE",
    "BootstrapError",
    "BootstrapSecrets",
    "Protection",
    "Security",
    "mac",
    "parse_content_type",
    "protection",
    "receive",
]

CONTENT_TYPE = "application/vnd.syncml.dm+wbxml"

_HEX_MAC = re.compile(r"[0-9A-Fa-f]{40}")
_PARAMETER = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"([^"]*)"|([^\s";]*))\s*')
_MAX_CONTENT_TYPE = 256
"""Characters; the longest that makes sense has 100."""


class BootstrapError(ValueError):
    """A bootstrap message that is dropped; the text says why, for the journal only."""


class Security(enum.Enum):
    """How a message is protected: SEC of the Content-Type."""

    NETWORKID = "NETWORKID"
    USERPIN = "USERPIN"
    USERPIN_NETWORKID = "USERPIN_NETWORKID"


@dataclass(frozen=True, slots=True)
class BootstrapSecrets:
    """What a device and its network share before any account is there."""

    network_id: bytes | None = field(default=None, repr=False)
    user_pin: str | None = field(default=None, repr=False)

    def key(self, security: Security) -> bytes | None:
        """None where this device lacks what the key is made of."""
        pin = None if not self.user_pin else self.user_pin.encode()
        network = self.network_id or None
        if security is Security.NETWORKID:
            return network
        if security is Security.USERPIN:
            return pin
        return None if pin is None or network is None else pin + b":" + network


@dataclass(frozen=True, slots=True)
class Protection:
    """SEC and MAC of a message."""

    security: Security
    mac: str
    """40 hexadecimal digits, of either case."""

    @property
    def parameters(self) -> dict[str, str]:
        """Of the Content-Type, as `wsp.Push` takes them."""
        return {"SEC": self.security.value, "MAC": self.mac}

    @property
    def content_type(self) -> str:
        return f"{CONTENT_TYPE}; SEC={self.security.value}; MAC={self.mac}"


def mac(key: bytes, body: bytes) -> str:
    return hmac.digest(key, body, "sha1").hex().upper()


def protection(security: Security, body: bytes, secrets: BootstrapSecrets) -> Protection:
    """For a message to be sent. Raises ValueError for secrets that do not make its key."""
    key = secrets.key(security)
    if key is None:
        raise ValueError(f"no secret for {security.value}")
    return Protection(security, mac(key, body))


def parse_content_type(text: str) -> Protection:
    """Raises BootstrapError."""
    if len(text) > _MAX_CONTENT_TYPE:
        raise BootstrapError(f"a Content-Type of {len(text)} characters")
    media, *rest = text.split(";")
    parameters: dict[str, str] = {}
    for part in rest:
        match = _PARAMETER.fullmatch(part)
        if match is None:
            raise BootstrapError("a Content-Type with what is no parameter")
        parameters[match[1].upper()] = match[3] if match[2] is None else match[2]
    return _protection(media.strip(), parameters)


def _protection(media: str, parameters: dict[str, str]) -> Protection:
    if media.lower() != CONTENT_TYPE:
        raise BootstrapError(f"Content-Type {media:.60}")
    try:
        security = Security(parameters.get("SEC", ""))
    except ValueError:
        raise BootstrapError("no SEC that we know") from None
    given = parameters.get("MAC", "")
    if not _HEX_MAC.fullmatch(given):
        raise BootstrapError("no MAC")
    return Protection(security, given)


def receive(
    body: bytes, content_type: str | Push, secrets: BootstrapSecrets, tree: Tree
) -> tuple[DmAccount, ...]:
    """Verify a message and carry it out on the device's own `tree`; gives the accounts that it
    made or changed. Raises BootstrapError, and the tree is as before."""
    if tree.server_id is not None:
        raise LocalMisuse("a bootstrap is the device's own doing, not a server's")
    if isinstance(content_type, Push):
        push = content_type
        given = _protection(push.content_type, dict(push.parameters))
    else:
        given = parse_content_type(content_type)
    key = secrets.key(given.security)
    # The MAC is computed even where there is no key: how long it takes tells nothing then.
    expected = mac(key or b"\0", body)
    if not hmac.compare_digest(given.mac.upper(), expected) or key is None:
        raise BootstrapError(f"the MAC of {given.security.value} is wrong")
    try:
        message = wbxml.decode(body)
    except SyncmlError as error:
        raise BootstrapError(str(error)) from None
    before = set(read_accounts(tree))
    try:
        with tree.transaction() as transaction:
            for command in _members(message.commands):
                _carry_out(command, tree)
            accounts = tuple(one for one in read_accounts(tree) if one not in before)
            if not accounts:
                raise BootstrapError("no account in it")
            transaction.commit()
    except TreeError as error:
        raise BootstrapError(str(error)) from None
    return accounts


def _members(commands: Iterable[Command]) -> Iterator[Command]:
    for command in commands:
        if isinstance(command, Atomic | Sequence):
            yield from _members(command.commands)
        else:
            yield command


def _carry_out(command: Command, tree: Tree) -> None:
    if not isinstance(command, Add | Replace):
        raise BootstrapError(f"{command.name} in a bootstrap message")
    write = tree.add if isinstance(command, Add) else tree.replace
    for item in command.items:
        if item.target is None or item.more_data:
            raise BootstrapError(f"{command.name} of an item that is not whole")
        write(item.target, item.data, item.meta or command.meta)
