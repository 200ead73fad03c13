"""What a right DDI server answers to each misbehaviour (hawkBit 1.0.4, recorded exchanges).

The two lies and silence have no right answer: no server can know. The audit shows them, by
comparing what the device runs with what the server believes. `herd` is judged by nobody either.
"""

from __future__ import annotations

import re

from agent.device import Device
from agent.misbehaviour import Misbehaviour

__all__ = ["EXPECTED", "KNOWN", "OVERSIZED_DETAILS", "foreign_action", "foreign_name", "judge"]

KNOWN = frozenset(Misbehaviour)

EXPECTED: dict[Misbehaviour, frozenset[int]] = {
    # After `closed`, and after a forced quit, whatever comes is answered 410.
    Misbehaviour.LATE_REPORT: frozenset({410}),
    Misbehaviour.DUPLICATE_REPORT: frozenset({410}),
    # Steps are only noted down: hawkBit takes them in any order while the action is open.
    Misbehaviour.OUT_OF_ORDER: frozenset({200}),
    Misbehaviour.FOREIGN_REPORT: frozenset({404}),
    # More than 50 messages break a quota (429); another server may refuse the body as such.
    Misbehaviour.OVERSIZED_REPORT: frozenset({400, 413, 429}),
    # A cancel that is not answered stays open, and a success that comes meanwhile wins (200); a
    # forced quit has closed the action (410).
    Misbehaviour.IGNORE_CANCEL: frozenset({200, 410}),
    Misbehaviour.STALE_CREDENTIAL: frozenset({401}),
    Misbehaviour.CLONED_IDENTITY: frozenset({401}),
}

OVERSIZED_DETAILS = ["x" * 600] * 60
"""60 messages where 50 are allowed, each longer than what hawkBit stores of one."""

_NUMBER = re.compile(r"\d+(?=\D*$)")


def judge(device: Device, name: Misbehaviour, status: int, what: str) -> None:
    """Tell the ledger how the server answered."""
    right = EXPECTED[name]
    expected = " or ".join(map(str, sorted(right)))
    detail = f"{what} was answered {status}, {expected} expected"
    device.runtime.misbehaviours.judge("hawkbit", name, status in right, device.name, detail)


def foreign_name(name: str) -> str:
    """Another device's name: the neighbour by its last number, or a name that nobody has."""
    found = _NUMBER.search(name)
    if found is None:
        return f"{name}-clone"
    digits = found[0]
    number = int(digits)
    other = number - 1 if number > 0 else 1
    return f"{name[: found.start()]}{other:0{len(digits)}d}{name[found.end() :]}"


def foreign_action(action: str) -> str:
    """Another device's action, or nobody's: hawkBit numbers all actions of a server in a row."""
    return str(int(action) + 1) if action.isdecimal() else "1"
