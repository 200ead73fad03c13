"""What a fleet knows of each device while it runs, kept up to date by the device's own events.

A `Watch` costs nothing while its device is idle: no polling, however many there are. What it says
about a device is the device's truth (engine and flash), never what was reported to a server.
"""

from __future__ import annotations

import re

from agent.device import Device, Phase
from agent.files import files_of
from agent.runtime.runtime import Runtime
from agent.update import Outcome, State
from tools.fleet.audit import SUCCESS, DeviceTruth, Target
from tools.fleet.clients import is_registered

WAITING = "waiting"
UPDATED = "updated"
FAILED = "failed"
BRICKED = "bricked"
# In the order in which a device passes through them.
STATES = (
    WAITING,
    "idle",
    "downloading",
    "downloaded",
    "installing",
    "trial",
    UPDATED,
    FAILED,
    BRICKED,
)
FINAL = frozenset({UPDATED, FAILED, BRICKED})
# What became of the way to the server, in the terms of each kind of protocol.
_CUT_OFF = {
    "check-in": "OFFLINE",
    "connection": "WAITING",
    "management server": "OFFLINE",
    "registration": "UNREGISTERED",
}
_LABELS = {state: state.name.lower() for state in State}


class Census:
    """Devices by state, failures by reason, and how many are registered, at this moment."""

    __slots__ = ("changes", "ever_registered", "failures", "final", "registered", "states")

    def __init__(self, devices: int) -> None:
        self.states = dict.fromkeys(STATES, 0)
        self.states[WAITING] = devices
        self.failures: dict[str, int] = {}
        self.registered = 0
        self.ever_registered = 0
        self.final = 0
        self.changes = 0
        """Changes of any device's state so far: two equal readings mean that nothing happened."""


class Watch:
    """One device, and where it stands."""

    __slots__ = (
        "_began",
        "_census",
        "_reason",
        "_registered",
        "_seen",
        "_target",
        "_trouble",
        "deliveries",
        "device",
        "executes",
        "leaving",
        "state",
    )

    def __init__(self, device: Device, target: Target, census: Census) -> None:
        self.device = device
        self.state = WAITING
        self.executes = 0
        self.deliveries = 0
        self.leaving = False
        """It says goodbye to its server and waits for the answer."""
        self._target = target
        self._census = census
        self._began: float | None = None
        self._reason: str | None = None
        self._registered = False
        self._seen = False
        self._trouble: str | None = None
        device.on_event = self._event

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def trouble(self) -> str | None:
        """Why the device, not final, is without its server; the same for all it happens to."""
        if self.final or self._registered or self._trouble is None:
            return None
        name = rf"(?<![\w-]){re.escape(self.device.name)}(?![\w-])"
        return re.sub(name, "the device", self._trouble)

    def truth(self, protocol: str) -> DeviceTruth:
        engine = self.device.engine
        running = self.device.running
        return DeviceTruth(
            name=self.device.name,
            protocol=protocol,
            state=_LABELS[engine.state],
            outcome=None if engine.outcome is None else outcome_text(engine.outcome),
            running_version="nothing" if running is None else str(running.version),
            running_digest=b"" if running is None else running.digest,
            boots=self.device.boots,
            executes=self.executes,
            deliveries=self.deliveries,
            files=files_of(self.device.nvm),
        )

    def _event(self, machine: str, old: str, new: str, cause: str) -> None:
        if machine == "update":
            self._update_event(old, new)
        elif machine == "registration":
            self.leaving = new == "DEREGISTERING"
        if _CUT_OFF.get(machine) == new:
            self._trouble = cause
        self._look()

    def _update_event(self, old: str, new: str) -> None:
        if new == "DOWNLOADING" and self.device.engine.offset == 0:
            # A resumed download has an offset: the attempt began before the reboot.
            self._began = self.device.runtime.clock.now()
        elif new == "DOWNLOADED" and old == "DOWNLOADING":
            self.deliveries += 1
        elif new == "INSTALLING" and old != "INSTALLING":
            self.executes += 1

    def _look(self) -> None:
        """Work out where the device stands now, and tell the census if that has changed."""
        device, census = self.device, self._census
        registered = is_registered(device.client)
        if registered is not self._registered:
            self._registered = registered
            census.registered += 1 if registered else -1
            if registered and not self._seen:
                self._seen = True
                census.ever_registered += 1
        state, reason = self._judge()
        if state == self.state and reason == self._reason:
            return
        census.changes += 1
        states, failures = census.states, census.failures
        states[self.state] -= 1
        states[state] += 1
        census.final += (state in FINAL) - (self.state in FINAL)
        if self._reason is not None:
            failures[self._reason] -= 1
            if not failures[self._reason]:
                del failures[self._reason]
        if reason is not None:
            failures[reason] = failures.get(reason, 0) + 1
        self.state, self._reason = state, reason
        if state in FINAL and self._began is not None:
            runtime: Runtime = device.runtime
            runtime.metrics.update.record(runtime.clock.now() - self._began)
            self._began = None

    def _judge(self) -> tuple[str, str | None]:
        device = self.device
        if device.phase is Phase.BRICKED:
            return BRICKED, "bricked"
        engine = device.engine
        state, outcome = engine.state, engine.outcome
        # Only once its server can reach it again: until then nobody can know. What was final stays
        # so when the registration lapses.
        known = self._registered or self.state in FINAL
        if known and outcome is not None and state in (State.IDLE, State.DOWNLOADED):
            if outcome is not Outcome.SUCCESS:
                return FAILED, outcome_text(outcome)
            running = device.running
            if running is not None and running.digest == self._target.digest:
                return UPDATED, None
            return FAILED, "runs another image"
        if state is State.IDLE and not self._seen:
            return WAITING, None
        return _LABELS[state], None


def outcome_text(outcome: Outcome) -> str:
    """`SUCCESS` becomes the audit's own word; the others read as words."""
    return SUCCESS if outcome is Outcome.SUCCESS else outcome.name.lower().replace("_", " ")
