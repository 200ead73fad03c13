"""What statuses something went through, as one text that only grows at its end.

Theory of operation
-------------------
The newest status of a campaign, and of each device in it, is a column of its row. How it came there
is one more column of the same row: a *trail*, to which the statement that writes a status appends.
So the two are durable together, a change costs neither a row nor an index, and the memory holds
nothing of it: a first pass over 100,000 devices takes some 3 % more CPU. In SQLite alone such an
update costs 15 % more than one without a trail, and one with a row for the change 85 % more and a
third more room. A trail is read for one device, or one campaign, at a time.

A step is `store.STEP` characters: the letter of a status, and the milliseconds since the epoch in
hex. As all steps are equally long, the database can drop the oldest one of a trail that is full
without knowing what it says. What changed twice before it was written is one step: nobody else, in
a report or a callback, has seen what was in between.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from tools.backend.campaigns import states
from tools.backend.store import rows as store
from tools.backend.store import tables

__all__ = ["LETTERS", "Step", "load_last_step", "step", "steps"]

Step = tuple[float, str]
"""When, and to which status."""

LETTERS = {
    states.REQUEST_PENDING: "P",
    states.REQUEST_FAILED: "F",
    states.NOT_SCHEDULED: "N",
    states.QUEUED: "Q",
    states.PRE_SCHEDULED: "R",
    states.SCHEDULED: "S",
    states.ENDED: "E",
    states.CANCELLED: "C",
    states.ABORTED: "A",
    states.NO_DATA: "n",
    states.DATA: "d",
    states.ACCEPTED: "a",
    states.PENDING: "p",
    states.STARTED: "s",
    states.FAULT: "x",
    states.SUCCESS: "u",
    states.FAILED: "f",
    states.REJECTED: "r",
}
"""They are in databases: a letter never gets another meaning."""

_STATUSES = {letter: status for status, letter in LETTERS.items()}


def step(status: str, when: float) -> str:
    """A step of a trail."""
    return f"{LETTERS[status]}{int(when * 1000):012x}"


def load_last_step(connection: Connection, campaign: str) -> float | None:
    """When a device of a campaign last changed its status; None where that is not known."""
    # All of one length, so that the newest is the last one in the order of texts.
    members = tables.campaign_devices.c
    newest = func.max(func.substr(members.trail, func.length(members.trail) - store.STEP + 2))
    query = select(newest).where(members.campaign == campaign, members.trail != "")
    text = connection.execute(query).scalar_one_or_none()
    return int(text, 16) / 1000 if text else None


def steps(trail: str) -> list[Step]:
    """The steps of a trail, oldest first; what stayed the same is told once."""
    found: list[Step] = []
    for start in range(0, len(trail), store.STEP):
        status = _STATUSES[trail[start]]
        if not found or found[-1][1] != status:
            found.append((int(trail[start + 1 : start + store.STEP], 16) / 1000, status))
    return found
