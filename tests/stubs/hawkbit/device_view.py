"""What a device is shown: its current action, `c=`, sleep, handling, history. Changes nothing."""

from __future__ import annotations

from tests.stubs.hawkbit.model import Action, ActionStatus, Target
from tests.stubs.hawkbit.schedule import Schedule, clock_text, seconds
from tests.stubs.hawkbit.state import HawkbitState

SERVER = "Update Server: "
"""Prefix of the messages that the server wrote; devices never see those in `actionHistory`."""

# Java's 31-fold hash over (id, revision, class, window): reproduces the recorded `c=` values.
_ETAG_BASE = 429_146_778 - 20 * 31**4 - 31**3 - 1237


class DeviceView:
    """Reads one tenant's state."""

    def __init__(self, state: HawkbitState) -> None:
        self.state = state

    def current(self, target: Target) -> Action | None:
        """The action a poll shows: highest weight first, then the oldest."""
        active = [action for action in target.actions if action.active]
        return min(active, key=lambda action: (-action.weight, action.id), default=None)

    def installed(self, target: Target) -> Action | None:
        done = [
            action
            for action in target.actions
            if action.distribution_set is target.installed
            and action.status is ActionStatus.FINISHED
        ]
        return max(done, key=lambda action: action.id, default=None)

    def window_open(self, action: Action) -> bool | None:
        """None without a maintenance window."""
        return Schedule(action.window).open_at(self.state.now()) if action.window else None

    def etag(self, action: Action) -> int:
        """`c=`: another number after each stored change, when the time-forced moment has passed
        and while the maintenance window is open."""
        prime = 1231 if action.hits_forced_time(self.state.now_ms()) else 1237
        if self.window_open(action):
            prime = 1249
        value = _ETAG_BASE + action.id * 31**4 + action.revision * 31**3 + prime
        return (value + 2**31) % 2**32 - 2**31

    def sleep(self, action: Action | None) -> str:
        """`HH:mm:ss` until the next poll; shorter before a maintenance window opens."""
        usual: str = self.state.setting("pollingTime")
        start = None
        if action is not None and action.window is not None:
            start = Schedule(action.window).next_start(self.state.now())
        if start is None or self.state.now() > start:
            return usual
        polls: int = self.state.setting("maintenanceWindowPollCount")
        part = int(start - self.state.now()) // max(polls, 1)
        return clock_text(max(min(part, seconds(usual)), self.state.settings.min_polling_time))

    def handling(self, action: Action) -> dict[str, str]:
        """`download` and `update` of a deployment: forced, attempt or skip."""
        forced = action.download_only or action.forced(self.state.now_ms())
        how = "forced" if forced else "attempt"
        skip = action.download_only or self.window_open(action) is False
        return {"download": how, "update": "skip" if skip else how}

    def device_messages(self, action: Action, wanted: int) -> list[str]:
        """`actionHistory=n`: newest first, without the server's own remarks; below 0 all."""
        found = [
            message
            for entry in reversed(action.history)
            for message in entry.messages
            if not message.startswith(SERVER)
        ]
        return found if wanted < 0 else found[:wanted]
