"""Licences and cancellation lists in the store: plain functions over a synchronous Connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from tools.backend.licences.pool import Candidate, Licence
from tools.backend.store.rows import upsert
from tools.backend.store.tables import accounts, cancellations, licences

# An upsert: a licence that could not be dropped from the store may be there still.
PUT_LICENCE = upsert(licences, "device_id")
DROP_LICENCE = (
    delete(licences)
    .where(licences.c.device_id == bindparam("b_device_id"))
    .where(licences.c.number == bindparam("b_number"))
)
ADD_CANDIDATE = insert(cancellations)
SET_SUBSCRIPTION = (
    update(accounts)
    .where(accounts.c.name == bindparam("b_name"))
    .values(
        purchase_type=bindparam("b_purchase_type"),
        licence_count=bindparam("b_licence_count"),
        subscribed=bindparam("b_subscribed"),
    )
)


def load_licences(connection: Connection) -> Iterator[Licence]:
    """Every licence, in the order of assignment."""
    for row in connection.execute(select(licences).order_by(licences.c.number)):
        yield Licence(row.device_id, row.account, row.number, row.assigned)


def load_candidates(connection: Connection) -> Iterator[Candidate]:
    """Every entry of a cancellation list, in the order of the lists."""
    for row in connection.execute(select(cancellations).order_by(cancellations.c.number)):
        yield Candidate(row.device_id, row.account, row.number, row.listed)


def put_licences(connection: Connection, found: Sequence[Licence]) -> None:
    """Write new licences."""
    if found:
        connection.execute(PUT_LICENCE, [licence._asdict() for licence in found])


def drop_licences(connection: Connection, found: Sequence[Licence]) -> None:
    """Delete licences."""
    if found:
        connection.execute(
            DROP_LICENCE,
            [{"b_device_id": item.device_id, "b_number": item.number} for item in found],
        )


def write_list(
    connection: Connection, account: str, found: Sequence[Candidate], replace: bool
) -> None:
    """Append to an account's cancellation list, or `replace` it."""
    if replace:
        connection.execute(delete(cancellations).where(cancellations.c.account == account))
    if found:
        connection.execute(ADD_CANDIDATE, [candidate._asdict() for candidate in found])


def write_subscription(connection: Connection, row: Mapping[str, Any], keeps_list: bool) -> None:
    """Change what an account has subscribed to."""
    connection.execute(SET_SUBSCRIPTION, row)
    if not keeps_list:
        write_list(connection, row["b_name"], (), replace=True)
