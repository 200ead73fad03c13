"""The operator network in the store: who is attached, and what the short-message centre keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Column,
    Connection,
    Float,
    LargeBinary,
    Table,
    bindparam,
    delete,
    insert,
    select,
)

from tools.backend.store.rows import upsert
from tools.backend.store.tables import metadata
from tools.backend.store.types import Integer, String

attachments = Table(
    "attachments",
    metadata,
    Column("device_id", String(15), primary_key=True),
    Column("cell", String(64), nullable=False),
    Column("host", String(64), nullable=False),
    Column("port", Integer, nullable=False),
    Column("since", Float, nullable=False),
)

# Only what is still to be sent: a message that was sent or has expired leaves no row.
short_messages = Table(
    "short_messages",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("device_id", String(15), nullable=False),
    Column("pdu", LargeBinary, nullable=False),
    Column("accepted", Float, nullable=False),
    Column("expires", Float, nullable=False),
)

PUT_ATTACHMENT = upsert(attachments, "device_id")
DROP_ATTACHMENT = delete(attachments).where(attachments.c.device_id == bindparam("b_device_id"))
ADD_MESSAGE = insert(short_messages)
DROP_MESSAGE = delete(short_messages).where(short_messages.c.number == bindparam("b_number"))


@dataclass(frozen=True, slots=True)
class Attachment:
    """A device that is attached: its serving cell, and where it takes pushed datagrams."""

    device_id: str
    cell: str
    host: str
    port: int
    since: float

    @property
    def push(self) -> tuple[str, int]:
        return (self.host, self.port)


@dataclass(frozen=True, slots=True)
class ShortMessage:
    """A message that the centre has taken: an opaque PDU, valid until `expires`."""

    number: int
    device_id: str
    pdu: bytes
    accepted: float
    expires: float

    def __repr__(self) -> str:
        # The PDU may be a notification, whose digest is made with a password.
        return f"<ShortMessage {self.number} to {self.device_id}, {len(self.pdu)} bytes>"


def row_of(record: Attachment | ShortMessage) -> dict[str, object]:
    """The columns of a record."""
    return {name: getattr(record, name) for name in record.__slots__}


def load_attachments(connection: Connection) -> Sequence[Attachment]:
    rows = connection.execute(select(attachments).order_by(attachments.c.device_id)).mappings()
    return [Attachment(**row) for row in rows]


def load_messages(connection: Connection) -> Sequence[ShortMessage]:
    """In the order of acceptance."""
    rows = connection.execute(select(short_messages).order_by(short_messages.c.number)).mappings()
    return [ShortMessage(**row) for row in rows]
