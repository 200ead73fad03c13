"""The DM accounts of devices: credentials of both sides, nonces, and what sessions remember.

One row a device, written before what depends on it leaves: a nonce before the challenge that brings
it, a session number before the notification that names it, a result before its alert is answered.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from sqlalchemy import (
    Column,
    Connection,
    Float,
    LargeBinary,
    Table,
    bindparam,
    select,
    update,
)

from agent.credentials import Credential
from protocols.omadm.auth import AuthType
from tools.backend.store.rows import upsert
from tools.backend.store.tables import metadata
from tools.backend.store.types import Integer, String

SERVER_ID = "fotilla"
"""AAuthName of the server and ServerID of the account: equal, as the two normally are."""

AUTH_TYPES = {
    "none": AuthType.NONE,
    "basic": AuthType.BASIC,
    "md5": AuthType.MD5,
    "hmac": AuthType.HMAC,
}
"""How an account names its scheme, for both directions."""

dm_accounts = Table(
    "dm_accounts",
    metadata,
    Column("device", String(255), primary_key=True),
    Column("auth", String(8), nullable=False),
    Column("server_id", String(64), nullable=False),
    Column("username", String(64), nullable=False),
    # In clear, because basic sends them so and a notification's digest is made of one; the file of
    # the database is made with mode 0600.
    Column("password", String(64), nullable=False),
    Column("server_password", String(64), nullable=False),
    # What the device must use next, and what we must use next towards it.
    Column("client_nonce", LargeBinary, nullable=False),
    Column("server_nonce", LargeBinary, nullable=False),
    # Root of the FUMO management object, once it was found; empty before.
    Column("root", String(255), nullable=False),
    # The last session id that a notification named.
    Column("session", Integer, nullable=False),
    # A success that was accepted, while the version that runs is still to be asked for.
    Column("result", String(255), nullable=False),
    # When the device was last in a session.
    Column("seen", Float, nullable=False),
)

PUT_ACCOUNT = upsert(dm_accounts, "device")
SET_STATE = (
    update(dm_accounts)
    .where(dm_accounts.c.device == bindparam("b_device"))
    .values(
        client_nonce=bindparam("b_client_nonce"),
        server_nonce=bindparam("b_server_nonce"),
        root=bindparam("b_root"),
        session=bindparam("b_session"),
        result=bindparam("b_result"),
        seen=bindparam("b_seen"),
    )
)


@dataclass(slots=True)
class DmAccount:
    """What device and server share, as a bootstrap would have put it into DMAcc."""

    device: str
    auth: str
    server_id: str
    username: str
    password: str = field(repr=False)
    server_password: str = field(repr=False)
    client_nonce: bytes = field(repr=False)
    server_nonce: bytes = field(repr=False)
    root: str = ""
    session: int = 0
    result: str = ""
    seen: float = 0.0

    @property
    def scheme(self) -> AuthType:
        return AUTH_TYPES[self.auth]


def mint(device: str, auth: str) -> DmAccount:
    """A fresh account with secrets of its own. ValueError for an unknown scheme."""
    if auth not in AUTH_TYPES:
        raise ValueError(f"auth is one of {', '.join(AUTH_TYPES)}, not {auth!r}")
    return DmAccount(
        device=device,
        auth=auth,
        server_id=SERVER_ID,
        username=device[:64],
        password=secrets.token_urlsafe(18),
        server_password=secrets.token_urlsafe(18),
        # None was given yet: both sides begin with the empty one, and the first session brings
        # others.
        client_nonce=b"",
        server_nonce=b"",
    )


def credential_of(account: DmAccount) -> Credential:
    """The device's side of an account; `token` is the server's password. The one time that the
    secrets can be read."""
    return Credential(
        username=account.username, password=account.password, token=account.server_password
    )


def row_of(account: DmAccount) -> dict[str, object]:
    """The row of a new account."""
    return asdict(account)


_STATE = ("device", "client_nonce", "server_nonce", "root", "session", "result", "seen")


def state_of(account: DmAccount) -> dict[str, object]:
    """The parameters of SET_STATE."""
    return {f"b_{name}": getattr(account, name) for name in _STATE}


def load(connection: Connection) -> Iterator[DmAccount]:
    for row in connection.execute(select(dm_accounts)).mappings():
        yield DmAccount(**row)
