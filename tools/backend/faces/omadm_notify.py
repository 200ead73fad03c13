"""Waking devices up: package 0, sent through the operator's short-message centre.

A device that is to come has an entry here, with one timer, and no Task. It gets a notification at
once, valid for the window that the campaign has for it; the centre keeps that for a device that is
not attached. Nobody acknowledges a datagram, so a notification that left and brought no session is
sent again: with the same session id, for the device begins only one session for it, and every other
time with the special nonce, in case the nonces of both sides are not the same any more
(OMA-TS-DM_Notification 1.2.1, section 6). A device that attaches is notified again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from protocols.omadm import package0, wsp
from protocols.omadm.nonces import SPECIAL_NONCE
from protocols.omadm.package0 import Notification, UiMode
from tools.backend.faces.omadm_accounts import DmAccount
from tools.backend.operator_network.network import (
    MessageRefused,
    MessageReport,
    OperatorNetwork,
)
from tools.backend.operator_network.rows import Attachment

LAST_SESSION = 0xFFFF
"""Session ids are 1 to FFFF, and then begin again."""

LONGEST_PAUSE = 3600.0
"""Seconds between two notifications of a device that does not come; they double up to this."""


@dataclass(slots=True)
class _Wanted:
    """A device that is to begin a session."""

    account: DmAccount
    device_id: str
    pause: float
    timer: Timer
    numbered: bool = False
    times: int = 0
    reminders: int = 0
    number: int = 0
    left: float = -1.0
    """When its last notification left the centre, on the runtime's clock."""


class Notifier:
    """The devices that are to come."""

    def __init__(
        self,
        runtime: Runtime,
        operator: OperatorNetwork,
        store: Callable[[DmAccount], None],
        *,
        pause: float,
        validity: float,
    ) -> None:
        """`store` queues the row of an account; what is sent after it is in the store after it."""
        self._runtime = runtime
        self._operator = operator
        self._store = store
        self._pause = pause
        self._validity = validity
        self._wanted: dict[str, _Wanted] = {}
        operator.on_attach.append(self._attached)
        operator.on_report.append(self._reported)
        self._by_id: dict[str, _Wanted] = {}

    def want(self, account: DmAccount, device_id: str, delay: float = 0.0) -> None:
        """Let a device begin a session, `delay` seconds from now."""
        self.drop(account.device)
        timer = Timer(lambda _now: self._remind(wanted))
        wanted = _Wanted(account, device_id, self._pause, timer)
        self._wanted[account.device] = wanted
        self._by_id[device_id] = wanted
        if delay:
            self._runtime.arm(timer, delay)
        else:
            self._send(wanted)

    def wants(self, device: str) -> bool:
        """Whether a device is to come."""
        return device in self._wanted

    def drop(self, device: str) -> None:
        """It came, or need not come any more."""
        wanted = self._wanted.pop(device, None)
        if wanted is not None:
            self._runtime.wheel.disarm(wanted.timer)
            del self._by_id[wanted.device_id]

    def stop(self) -> None:
        """Let no timer fire any more."""
        for wanted in self._wanted.values():
            self._runtime.wheel.disarm(wanted.timer)
        self._wanted.clear()
        self._by_id.clear()

    def _remind(self, wanted: _Wanted) -> None:
        """The timer: the first notification after a delay, or another one."""
        wanted.reminders += wanted.times > 0
        self._send(wanted)

    def _send(self, wanted: _Wanted) -> None:
        self._runtime.arm(wanted.timer, wanted.pause)
        wanted.pause = min(2 * wanted.pause, LONGEST_PAUSE)
        if self._operator.state_of(wanted.number) == "accepted":
            return  # the centre still has it, for the device is not attached
        account = wanted.account
        if not wanted.numbered:
            wanted.numbered = True
            account.session = account.session % LAST_SESSION + 1
            self._store(account)
        nonce = SPECIAL_NONCE if wanted.reminders % 2 else account.server_nonce
        notification = Notification(account.session, account.server_id, UiMode.BACKGROUND)
        trigger = package0.encode(notification, account.server_id, account.server_password, nonce)
        push = wsp.Push(
            package0.CONTENT_TYPE, trigger, wsp.DM_APPLICATION, transaction_id=wanted.times & 0xFF
        )
        wanted.times += 1
        try:
            wanted.number = self._operator.submit_nowait(
                wanted.device_id, wsp.encode(push), self._validity
            )
        except MessageRefused:
            return  # others fill its queue; the timer tries again

    def _attached(self, attachment: Attachment) -> None:
        wanted = self._by_id.get(attachment.device_id)
        # What waited in the centre has left for it just now.
        if wanted is not None and wanted.times and wanted.left < self._runtime.clock.now():
            self._send(wanted)

    def _reported(self, report: MessageReport) -> None:
        wanted = self._by_id.get(report.device_id)
        if wanted is not None and wanted.number == report.number and report.state == "sent":
            wanted.left = self._runtime.clock.now()
