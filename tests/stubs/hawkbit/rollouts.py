"""Rollouts: groups of targets that are started one after the other by a scheduler.

    creating -> ready -> starting -> running <-> paused
                                     running -> finished

    group:  ready -> scheduled -> running -> finished
                                  running -> error (its error condition held: the rollout pauses)

The scheduler looks every `Settings.rollout_period` seconds, so a client that starts a rollout at
once after creating it meets `creating` and is refused, as by the real server.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.stubs.hawkbit.deployments import Assignment, Deployments
from tests.stubs.hawkbit.errors import REPOSITORY, Refused, not_found
from tests.stubs.hawkbit.model import (
    Action,
    ActionStatus,
    Condition,
    DistributionSet,
    ForceType,
    Rollout,
    RolloutGroup,
    Target,
)

OPERATIONS: dict[str, dict[str, str]] = {
    "start": {"ready": "starting"},
    "pause": {"running": "paused"},
    "resume": {"paused": "running"},
    "triggerNextGroup": {"running": "running"},
}
"""Operation, state: next state. A missing cell is `RolloutIllegalStateException`, 400."""

CATEGORIES = ("running", "notstarted", "scheduled", "cancelled", "finished", "error")
"""Keys of `totalTargetsPerStatus`."""


@dataclass(frozen=True, slots=True)
class RolloutOrder:
    """The body of `POST /rollouts`, checked."""

    name: str
    description: str
    distribution_set: DistributionSet
    query: str
    targets: list[Target]
    groups: int
    force_type: ForceType
    force_time: int
    weight: int
    confirm: bool
    success: Condition
    error: Condition


def _category(action: Action) -> str:
    match action.status:
        case ActionStatus.SCHEDULED:
            return "scheduled"
        case ActionStatus.FINISHED:
            return "finished"
        case ActionStatus.DOWNLOADED if action.download_only:
            return "finished"
        case ActionStatus.ERROR:
            return "error"
        case ActionStatus.CANCELED:
            return "cancelled"
        case _:
            return "running"


class Rollouts:
    """Creates and moves rollouts; `tick` is the scheduler."""

    def __init__(self, deployments: Deployments) -> None:
        self.state = deployments.state
        self.deployments = deployments
        self._last_pass = self.state.now()

    def rollout(self, identifier: int) -> Rollout:
        found = self.state.rollouts.get(identifier)
        if found is None or found.deleted:
            raise not_found("Rollout", identifier)
        return found

    def create(self, order: RolloutOrder) -> Rollout:
        if not order.targets:
            raise Refused(
                400,
                REPOSITORY + "RolloutVerificationException",
                "rollout.verificationFailed",
                "Rollout does not match any existing targets",
            )
        now = self.state.now_ms()
        rollout = Rollout(
            self.state.next_id("rollout"),
            order.name,
            order.description,
            order.query,
            order.distribution_set,
            order.force_type,
            order.force_time,
            order.weight,
            order.confirm,
            now,
            now,
            modified_by=self.state.settings.user,
        )
        self.state.lock(order.distribution_set)
        rest = list(order.targets)
        for number in range(order.groups):
            # Each group takes its percentage of what the groups before it left over.
            share = -(-len(rest) // (order.groups - number))
            mine, rest = rest[:share], rest[share:]
            rollout.groups.append(
                RolloutGroup(
                    self.state.next_id("group"),
                    f"group-{number + 1}",
                    mine,
                    100 / order.groups,
                    order.success,
                    order.error,
                    now,
                    now,
                )
            )
        self.state.rollouts[rollout.id] = rollout
        self._last_pass = self.state.now()
        return rollout

    def operate(self, rollout: Rollout, operation: str) -> None:
        following = OPERATIONS[operation].get(rollout.status)
        if following is None:
            raise Refused(
                400,
                REPOSITORY + "RolloutIllegalStateException",
                "rollout.illegalstate",
                f"Rollout can not be moved by {operation} while it is {rollout.status}",
            )
        self._last_pass = self.state.now()
        self._set(rollout, following)
        if operation == "triggerNextGroup":
            self._start_next(rollout)

    def _set(self, rollout: Rollout, status: str) -> None:
        rollout.status, rollout.modified_at = status, self.state.now_ms()

    def counts(self, rollout: Rollout) -> dict[str, int]:
        found = dict.fromkeys(CATEGORIES, 0)
        for group in rollout.groups:
            for action in group.actions:
                found[_category(action)] += 1
            found["notstarted"] += len(group.targets) - len(group.actions)
        return found

    # The scheduler

    def tick(self) -> None:
        """Run the passes that are due. Called before each request is answered."""
        period = self.state.settings.rollout_period
        passed = self.state.now() - self._last_pass
        due = int(passed / period) if period > 0 else 1000
        if due < 1:
            return
        self._last_pass = self.state.now()
        for _ in range(due):
            if not self._pass():
                break

    def _pass(self) -> bool:
        """True when anything moved."""
        moved = False
        for rollout in list(self.state.rollouts.values()):
            before = (rollout.status, [group.status for group in rollout.groups])
            if not rollout.deleted:
                self._step(rollout)
            if before != (rollout.status, [group.status for group in rollout.groups]):
                rollout.modified_by = "system"
                moved = True
        return moved

    def _step(self, rollout: Rollout) -> None:
        match rollout.status:
            case "creating":
                self._set(rollout, "ready")
            case "starting":
                self._schedule(rollout)
                self._start_next(rollout)
                self._set(rollout, "running")
            case "running":
                self._run(rollout)

    def _schedule(self, rollout: Rollout) -> None:
        for group in rollout.groups:
            self._group(group, "scheduled")
            for target in group.targets:
                assignment = Assignment(
                    target,
                    rollout.force_type,
                    rollout.force_time,
                    rollout.weight,
                    rollout.confirm,
                )
                action = self.deployments.new_action(rollout.distribution_set, assignment, rollout)
                action.status, action.active = ActionStatus.SCHEDULED, False
                group.actions.append(action)

    def _group(self, group: RolloutGroup, status: str) -> None:
        group.status, group.modified_at = status, self.state.now_ms()

    def _start_next(self, rollout: Rollout) -> None:
        for group in rollout.groups:
            if group.status == "scheduled":
                self._group(group, "running")
                for action in group.actions:
                    if action.status is ActionStatus.SCHEDULED:
                        self._start(action, rollout)
                return

    def _start(self, action: Action, rollout: Rollout) -> None:
        target = action.target
        self.deployments.touch(action)
        if target.assigned is rollout.distribution_set:
            action.status = ActionStatus.FINISHED
            text = "Update Server: Distribution Set is already assigned. Skipping this action."
            self.deployments.note(action, action.status, [text])
            return
        self.deployments.supersede(target)
        action.active = True
        waits = (
            rollout.confirm
            and self.state.setting("user.confirmation.flow.enabled")
            and target.auto_confirm is None
        )
        action.status = ActionStatus.WAIT_FOR_CONFIRMATION if waits else ActionStatus.RUNNING
        # Which words the real server writes here was not recorded.
        text = f"Assignment initiated by user '{self.state.settings.user}'"
        self.deployments.note(action, action.status, [text])
        self.deployments.assigned(target, rollout.distribution_set)

    def _run(self, rollout: Rollout) -> None:
        running = [group for group in rollout.groups if group.status == "running"]
        if not running and any(group.status == "scheduled" for group in rollout.groups):
            # Resumed after an error: the next group follows.
            self._start_next(rollout)
        for group in running:
            states = [_category(action) for action in group.actions]
            total = max(len(states), 1)
            if states.count("error") and (
                100 * states.count("error") / total >= group.error.expression
            ):
                self._group(group, "error")
                self._set(rollout, "paused")
                return
            success = 100 * states.count("finished") / total >= group.success.expression
            if success and group is running[-1]:
                self._start_next(rollout)
            if not {"running", "scheduled"} & set(states):
                self._group(group, "finished")
        if all(group.status in ("finished", "error") for group in rollout.groups):
            self._set(rollout, "finished")
