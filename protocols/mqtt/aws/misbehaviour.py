"""What AWS devices do wrong on purpose, and what a right Jobs service answers.

A wrong request goes out beside the right ones, with a token of its own, and is judged by its
answer. `herd` only changes when a device comes back, and lies about a result (`AUDITED`) are found
by the audit, which knows what the device is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.misbehaviour import Misbehaviour
from protocols.mqtt.aws.messages import decode, encode, rejection_of
from protocols.mqtt.aws.topics import Answer, Topics

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["AUDITED", "KNOWN", "RIGHT_ANSWERS", "Mischief", "another_thing"]

_CLOSED = frozenset({"InvalidStateTransition", "TerminalStateReached"})

RIGHT_ANSWERS: dict[Misbehaviour, frozenset[str]] = {
    # After the accepted final report: a final execution changes no more.
    Misbehaviour.LATE_REPORT: _CLOSED,
    # The same update with the same expectedVersion; after a final one it is closed as well.
    Misbehaviour.DUPLICATE_REPORT: _CLOSED | {"VersionMismatch"},
    # An update that expects the version before the current one.
    Misbehaviour.OUT_OF_ORDER: frozenset({"VersionMismatch"}),
    # A job that is not this thing's.
    Misbehaviour.FOREIGN_REPORT: frozenset({"ResourceNotFound"}),
    # A value of statusDetails beyond 1024 characters (API reference, UpdateJobExecution).
    Misbehaviour.OVERSIZED_REPORT: frozenset({"InvalidRequest"}),
    # Cancelled is final; deleted is not there at all.
    Misbehaviour.IGNORE_CANCEL: _CLOSED | {"ResourceNotFound"},
}
"""Error codes; anything else, an acceptance above all, is a broken expectation."""

AUDITED = frozenset(
    {Misbehaviour.NEVER_REPORT, Misbehaviour.FALSE_SUCCESS, Misbehaviour.FALSE_FAILURE}
)
KNOWN = frozenset(RIGHT_ANSWERS) | AUDITED | {Misbehaviour.CLONED_IDENTITY, Misbehaviour.HERD}

FOREIGN_JOB = "AFR_OTA-nobodys-job"
OVERSIZE = 2000
"""Characters in one value: twice the limit, little enough to be read and refused in order."""
STRAY = "stray"


def another_thing(name: str) -> str:
    """A neighbour: numbered fleets have one that differs in the last digit."""
    if name and name[-1].isascii() and name[-1].isdigit():
        return f"{name[:-1]}{(int(name[-1]) + 1) % 10}"
    return f"{name}-2"


class Mischief:
    """The wrong requests of one device that wait for their answers."""

    __slots__ = ("_device", "_number", "_topics", "_waiting", "wanted")

    def __init__(self, device: Device, topics: Topics, wanted: frozenset[Misbehaviour]) -> None:
        self.wanted = wanted
        self._device = device
        self._topics = topics
        self._number = 0
        self._waiting: dict[str, Misbehaviour] = {}

    def update(
        self, name: Misbehaviour, job_id: str, **members: object
    ) -> tuple[str, bytes] | None:
        """Topic and payload of a wrong update; None when this device does not do such things."""
        if name not in self.wanted:
            return None
        self._number += 1
        token = f"{STRAY}.{self._device.boots}.{self._number}"
        self._waiting[token] = name
        body: dict[str, object] = {"status": "IN_PROGRESS", "statusDetails": {"stray": name.value}}
        return self._topics.update(job_id), encode({**body, **members, "clientToken": token})

    def judge(self, answer: Answer, payload: bytes) -> bool:
        """Whether the message answered one of ours. Raises
        :class:`~protocols.mqtt.aws.messages.BadMessage`."""
        if not self._waiting:
            return False
        message = decode(payload)
        name = self._waiting.pop(str(message.get("clientToken")), None)
        if name is None:
            return str(message.get("clientToken")).startswith(STRAY)
        code = "" if answer.accepted else rejection_of(message).code
        self.note(name, code in RIGHT_ANSWERS[name], code or "accepted")
        return True

    def note(self, name: Misbehaviour, kept: bool, detail: str) -> None:
        self._device.runtime.misbehaviours.judge("aws", name, kept, self._device.name, detail)
