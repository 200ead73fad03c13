"""What OMA-DM devices do wrong on purpose, and what a right server answers.

A session of its own is had for what concerns credentials and for reports that are nobody's or too
long; a repeated report goes beside the right one. Lies about a result, and silence, meet no answer
of their own: they are found by the audit, which knows what the device is.
"""

from __future__ import annotations

from dataclasses import replace

from agent.misbehaviour import Misbehaviour
from protocols.omadm.model import Alert
from protocols.omadm.package0 import session_text
from protocols.omadm.session_tables import Phase
from protocols.omadm.talk import Ended, Plan, Talker

__all__ = ["MISBEHAVIOURS", "RIGHT_ANSWERS", "Wrongdoer", "another_device"]

_HEARD = frozenset({200, 202})
_UNKNOWN = frozenset({404, 412})

RIGHT_ANSWERS: dict[Misbehaviour, frozenset[int]] = {
    # A generic alert that says what is known: heard, and nothing happens.
    Misbehaviour.DUPLICATE_REPORT: _HEARD,
    # After the operation is closed; its correlator may be forgotten by then.
    Misbehaviour.LATE_REPORT: _HEARD | _UNKNOWN,
    # With a correlator that nobody gave out.
    Misbehaviour.FOREIGN_REPORT: _HEARD | _UNKNOWN,
    # Beyond any MaxMsgSize: by HTTP or by SyncML.
    Misbehaviour.OVERSIZED_REPORT: frozenset({400, 413}),
    Misbehaviour.STALE_CREDENTIAL: frozenset({401, 407}),
    # The name of another device with one's own password.
    Misbehaviour.CLONED_IDENTITY: frozenset({401, 403, 404, 407}),
}

MISBEHAVIOURS = frozenset(RIGHT_ANSWERS) | {
    Misbehaviour.NEVER_REPORT,
    Misbehaviour.FALSE_SUCCESS,
    Misbehaviour.FALSE_FAILURE,
}

OVERSIZE = 1 << 17
"""Octets of a report: servers announce a MaxMsgSize of 5 to 64 KiB."""

NOTHING: frozenset[Misbehaviour] = frozenset()


class Wrongdoer:
    """The misbehaviour of one device in one uptime: each kind once."""

    __slots__ = ("_done", "_misbehave", "_talker")

    def __init__(self, talker: Talker, misbehave: frozenset[Misbehaviour]) -> None:
        self._talker = talker
        self._misbehave = misbehave
        self._done = NOTHING

    async def before(self, report: Alert | None) -> None:
        """Sessions that come before the right one."""
        if self._once(Misbehaviour.STALE_CREDENTIAL):
            await self._session(Misbehaviour.STALE_CREDENTIAL, password="expired")
        if self._once(Misbehaviour.CLONED_IDENTITY):
            other = another_device(self._talker.device_id())
            await self._session(Misbehaviour.CLONED_IDENTITY, device_id=other)
        if report is None:
            return
        if self._once(Misbehaviour.FOREIGN_REPORT):
            foreign = replace(report, correlator="nobody's")
            await self._session(Misbehaviour.FOREIGN_REPORT, foreign)
        if self._once(Misbehaviour.OVERSIZED_REPORT):
            item = replace(report.items[0], data="0" * OVERSIZE)
            await self._session(Misbehaviour.OVERSIZED_REPORT, replace(report, items=(item,)))

    def multiplied(self, report: Alert) -> list[Alert]:
        """The report as often as this device says it."""
        return [report, report] if Misbehaviour.DUPLICATE_REPORT in self._misbehave else [report]

    async def after(self, report: Alert | None, ended: Ended, again: int) -> None:
        """What the server made of a repeated report, the alert at place `again`, and one that
        comes too late."""
        if report is None or ended.phase is not Phase.DONE:
            return
        if self._once(Misbehaviour.DUPLICATE_REPORT):
            self._judge(Misbehaviour.DUPLICATE_REPORT, ended.alert_status[again] or 0)
        if self._once(Misbehaviour.LATE_REPORT):
            await self._session(Misbehaviour.LATE_REPORT, report)

    # -- internals ------------------------------------------------------------------------------

    def _once(self, name: Misbehaviour) -> bool:
        if name not in self._misbehave or name in self._done:
            return False
        self._done |= {name}
        return True

    async def _session(
        self,
        name: Misbehaviour,
        *alerts: Alert,
        password: str | None = None,
        device_id: str | None = None,
    ) -> None:
        talker = self._talker
        plan = Plan(
            session_text(1 + talker.device.random.below(0xFFFF)),
            alerts=alerts,
            password=password,
            device_id=device_id,
        )
        ended = await talker.talk(plan)
        code = ended.http_status or ended.header_status
        if alerts and ended.alert_status[0] is not None and code < 400:
            code = ended.alert_status[0]
        self._judge(name, code)

    def _judge(self, name: Misbehaviour, code: int) -> None:
        device = self._talker.device
        device.runtime.misbehaviours.judge(
            "omadm", name, code in RIGHT_ANSWERS[name], device.name, f"{code or 'no answer'}"
        )


def another_device(name: str) -> str:
    """The identity of a neighbour: numbered fleets have one that differs in the last digit."""
    if name and name[-1].isascii() and name[-1].isdigit():
        return f"{name[:-1]}{(int(name[-1]) + 1) % 10}"
    return f"{name}-2"
