"""What devices of the check-in do wrong on purpose, and what a right server answers.

docs/device-checkin.md is what decides. Two kinds of misbehaviour meet no answer of their own:
`herd` only changes when a device comes, and lies about a result (`AUDITED`) are found by the audit,
which knows what the device is.
"""

from __future__ import annotations

from agent.misbehaviour import Misbehaviour

__all__ = ["AUDITED", "RIGHT_ANSWERS", "another_name", "kept"]

RIGHT_ANSWERS: dict[Misbehaviour, frozenset[int]] = {
    # After the acknowledged success: the campaign is closed for this device.
    Misbehaviour.LATE_REPORT: frozenset({410}),
    # The same seq again: accepted, and nothing happens.
    Misbehaviour.DUPLICATE_REPORT: frozenset({204}),
    # Behind what the server has heard: accepted, and nothing changes.
    Misbehaviour.OUT_OF_ORDER: frozenset({204}),
    # A campaign that this device is not in.
    Misbehaviour.FOREIGN_REPORT: frozenset({404}),
    # Beyond 4 KiB.
    Misbehaviour.OVERSIZED_REPORT: frozenset({400, 413}),
    # Aborted stays aborted.
    Misbehaviour.IGNORE_CANCEL: frozenset({409}),
    Misbehaviour.STALE_CREDENTIAL: frozenset({401}),
    Misbehaviour.CLONED_IDENTITY: frozenset({401}),
}

AUDITED = frozenset(
    {Misbehaviour.NEVER_REPORT, Misbehaviour.FALSE_SUCCESS, Misbehaviour.FALSE_FAILURE}
)

OVERSIZE = 8 << 10
"""Bytes of padding: twice what the documented limit allows, little enough to be read and refused
in order."""

FOREIGN_CAMPAIGN = "00000000-0000-0000-0000-000000000000"
"""Nobody's campaign."""


def kept(name: Misbehaviour, status: int) -> bool:
    """The server answered as it should."""
    return status in RIGHT_ANSWERS[name]


def another_name(name: str) -> str:
    """The name of a neighbour: numbered fleets have one that differs in the last digit."""
    if name and name[-1].isascii() and name[-1].isdigit():
        return f"{name[:-1]}{(int(name[-1]) + 1) % 10}"
    return f"{name}-2"
