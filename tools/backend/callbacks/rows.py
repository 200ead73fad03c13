"""Listeners, changes and messages in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from tools.backend.store import tables
from tools.backend.store.rows import upsert

WAITING, DELIVERED, DROPPED = "waiting", "delivered", "dropped"

MESSAGE_TABLE: dict[str, dict[str, str]] = {
    WAITING: {"accepted": DELIVERED, "given up": DROPPED},
    DELIVERED: {},
    DROPPED: {},
}
"""The states of a message. It waits while it is tried again and again; `accepted` is an answer of
2xx, `given up` the end of its time or of its listener."""

MAX_ERROR = 255
"""Characters of `error`, as the column has them."""

Key = tuple[str, int]
"""Account and version of the API: what there is one listener for."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the messages of an account in one version of the API go."""

    account: str
    version: int
    url: str
    registered: float

    @property
    def key(self) -> Key:
        return (self.account, self.version)

    def __repr__(self) -> str:
        # The query of a URL may hold a secret.
        return f"<Listener {self.account} v{self.version}>"


class Change(NamedTuple):
    """One change of a status; the columns of `outbox_changes` in their order."""

    number: int
    account: str
    version: int
    campaign: str
    device_id: str
    """Empty: the campaign itself has changed."""
    status: str
    reason: str
    """Of a campaign: the status that it had before."""
    time: float
    recent_attempt: float | None = None
    next_attempt: float | None = None


@dataclass(slots=True, eq=False)
class Message:
    """A callback message without its body, which is read when it is sent."""

    number: int
    account: str
    version: int
    kind: str
    """The `type` of the body."""
    campaign: str
    """Empty when it is about no campaign."""
    state: str
    tries: int
    created: float
    due: float
    finished: float | None
    error: str
    """Why the last failed try failed; kept when a later one succeeds."""

    @property
    def key(self) -> Key:
        return (self.account, self.version)


_VIEW = tuple(tables.outbox.c[name] for name in Message.__slots__)

PUT_LISTENER = upsert(tables.listeners, "account", "version")
_listener = (tables.listeners.c.account == bindparam("b_account")) & (
    tables.listeners.c.version == bindparam("b_version")
)
DROP_LISTENER = delete(tables.listeners).where(_listener)

_ADD_CHANGE = insert(tables.outbox_changes)
_changes = (tables.outbox_changes.c.account == bindparam("b_account")) & (
    tables.outbox_changes.c.version == bindparam("b_version")
)
DROP_CHANGES = delete(tables.outbox_changes).where(_changes)
_composed = DROP_CHANGES.where(tables.outbox_changes.c.number <= bindparam("b_last"))
DROP_CAMPAIGN_CHANGES = _composed.where(tables.outbox_changes.c.device_id == "")
DROP_DEVICE_CHANGES = _composed.where(tables.outbox_changes.c.device_id != "")

ADD_MESSAGE = insert(tables.outbox)
_message = update(tables.outbox).where(
    (tables.outbox.c.number == bindparam("b_number")) & (tables.outbox.c.state == WAITING)
)
RETRY_MESSAGE = _message.values(
    tries=bindparam("b_tries"), due=bindparam("b_due"), error=bindparam("b_error")
)
# Nobody reads the body of a delivered message again, and of a large fleet it is large.
DELIVER_MESSAGE = _message.values(
    state=DELIVERED, tries=bindparam("b_tries"), finished=bindparam("b_finished"), body=""
)
DROP_MESSAGE = _message.values(
    state=DROPPED,
    tries=bindparam("b_tries"),
    finished=bindparam("b_finished"),
    error=bindparam("b_error"),
)
DROP_MESSAGES = (
    update(tables.outbox)
    .where(
        (tables.outbox.c.account == bindparam("b_account"))
        & (tables.outbox.c.version == bindparam("b_version"))
        & (tables.outbox.c.state == WAITING)
    )
    .values(state=DROPPED, finished=bindparam("b_finished"), error=bindparam("b_error"))
)
PURGE_MESSAGES = delete(tables.outbox).where(
    (tables.outbox.c.state != WAITING) & (tables.outbox.c.finished < bindparam("b_oldest"))
)


def key_of(key: Key) -> dict[str, object]:
    """The parameters that name a listener."""
    return {"b_account": key[0], "b_version": key[1]}


def add_changes(connection: Connection, changes: Sequence[Change]) -> None:
    """Insert many changes. The statement is compiled once and the tuples go to the driver as they
    are: a third of what one dictionary for each row costs, and there is one for each device. Not
    for text that a database may be unable to hold, which SQLAlchemy's types take care of."""
    compiled = _ADD_CHANGE.compile(dialect=connection.dialect)
    plain = all(change.reason.isascii() and "\0" not in change.reason for change in changes)
    if compiled.positional and plain:
        connection.exec_driver_sql(str(compiled), list(changes))
    else:
        connection.execute(_ADD_CHANGE, [change._asdict() for change in changes])


def load_listeners(connection: Connection) -> list[Listener]:
    return [Listener(**row) for row in connection.execute(select(tables.listeners)).mappings()]


def load_changes(connection: Connection) -> list[Change]:
    """Changes that no message holds yet, oldest first."""
    query = select(tables.outbox_changes).order_by(tables.outbox_changes.c.number)
    return [Change(*row) for row in connection.execute(query)]


def load_waiting(connection: Connection) -> list[Message]:
    """Messages that are still to be delivered, oldest first."""
    query = select(*_VIEW).where(tables.outbox.c.state == WAITING).order_by(tables.outbox.c.number)
    return [Message(*row) for row in connection.execute(query)]


def load_recent(
    connection: Connection, limit: int, account: str | None, state: str | None
) -> list[Message]:
    """The newest messages, newest first; of one account or in one state where that is asked."""
    query = select(*_VIEW).order_by(tables.outbox.c.number.desc()).limit(limit)
    if account is not None:
        query = query.where(tables.outbox.c.account == account)
    if state is not None:
        query = query.where(tables.outbox.c.state == state)
    return [Message(*row) for row in connection.execute(query)]


def load_body(connection: Connection, number: int) -> str:
    """The body of a message that waits."""
    query = select(tables.outbox.c.body).where(tables.outbox.c.number == number)
    body: str = connection.execute(query).scalar_one()
    return body


def last_message(connection: Connection) -> int:
    """The highest number that a message has."""
    number: int | None = connection.execute(select(func.max(tables.outbox.c.number))).scalar_one()
    return number or 0
