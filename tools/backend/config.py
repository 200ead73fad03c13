"""How a backend is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import httpx

from tools.backend.faces.base import TlsFiles
from tools.backend.store.database import MEMORY

DEFAULT_ACCOUNT = "0000000000-00001"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where devices of one face come."""

    bind: tuple[str, int] | None = ("127.0.0.1", 0)
    """None serves them in-process only, as virtual time always does."""
    tls: TlsFiles | None = None


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """How a backend is set up."""

    db: str = field(default=MEMORY, repr=False)
    """An SQLite file or the URL of a database, as `parse_database` takes it."""
    durable: str = "normal"
    """One of `store.database.DURABILITIES`."""
    listen: Mapping[str, Listen] = field(default_factory=lambda: MappingProxyType({}))
    """Where devices come, by the name of the listener; one that is not in it is at any port of the
    loopback."""
    contact: float | None = None
    """Seconds between two check-ins of an HTTP device; None takes the timing profile's."""
    rest: tuple[str, int] | None = None
    """None serves no REST listener; `Backend.app` can be called in-process all the same."""
    admin: tuple[str, int] | None = None
    """Where administrators come; None as for `rest`, with `Backend.admin_app`."""
    admin_tls: TlsFiles | None = None
    """With them administrators come over TLS; `client_ca` is not used."""
    open_metrics: bool = False
    """Whether `/metrics` asks for no token."""
    admin_token: str = field(default="", repr=False)
    """The administrator's token; empty draws a fresh one."""
    callback_ca: Path | None = None
    """PEM file of authorities that certificates of callback listeners may come from, beside those
    of the system."""
    callback_transport: httpx.AsyncBaseTransport | None = field(default=None, repr=False)
    """Takes callbacks in the network's place; virtual time has no other way to deliver them."""
    timing: str = "documented"
    account: str = DEFAULT_ACCOUNT
    pilot_waived: bool = False
    """Spare the account's campaigns the pilot that the API demands (demo, bench)."""
