"""The life of an action: assignment, retrieval, feedback, cancel, confirmation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.stubs.hawkbit.device_view import SERVER, DeviceView
from tests.stubs.hawkbit.errors import (
    REPOSITORY,
    Plain,
    Refused,
    cancel_not_allowed,
    force_quit_not_allowed,
    quota,
)
from tests.stubs.hawkbit.feedback import (
    CANCEL_FEEDBACK,
    CANCEL_MESSAGES,
    DEFAULT_MESSAGES,
    UPDATE_FEEDBACK,
    Feedback,
)
from tests.stubs.hawkbit.model import (
    Action,
    ActionStatus,
    AutoConfirm,
    DistributionSet,
    ForceType,
    MaintenanceWindow,
    Rollout,
    StatusEntry,
    Target,
    UpdateStatus,
)
from tests.stubs.hawkbit.schedule import Schedule, refused
from tests.stubs.hawkbit.state import HawkbitState


@dataclass(frozen=True, slots=True)
class Assignment:
    """One element of an `assignedTargets` body, checked."""

    target: Target
    force_type: ForceType = ForceType.FORCED
    force_time: int = 0
    weight: int = 1000
    confirm: bool = True
    window: MaintenanceWindow | None = None


class Deployments:
    """Moves actions. Every method is one transaction."""

    def __init__(self, state: HawkbitState) -> None:
        self.state = state

    # Assignment

    def assign(
        self, ds: DistributionSet, assignments: list[Assignment], offline: bool = False
    ) -> tuple[list[Action], int]:
        """The new actions, and how many targets had the set already."""
        if not self.state.complete(ds):
            raise Refused(
                400,
                REPOSITORY + "IncompleteDistributionSetException",
                "distributionset.incomplete",
                f"Distribution set of type {ds.type} is incomplete: {ds.id}",
            )
        for assignment in assignments:
            window = assignment.window
            if window is not None and Schedule(window).next_start(self.state.now()) is None:
                raise refused("No valid maintenance window available after current time")
        self.state.lock(ds)
        fresh = [each for each in assignments if each.target.assigned is not ds]
        create = self._create_offline if offline else self._create
        return [create(ds, each) for each in fresh], len(assignments) - len(fresh)

    def _create(self, ds: DistributionSet, assignment: Assignment) -> Action:
        target = assignment.target
        self.supersede(target)
        waits = (
            assignment.confirm
            and self.state.setting("user.confirmation.flow.enabled")
            and target.auto_confirm is None
        )
        action = self.new_action(ds, assignment)
        action.status = ActionStatus.WAIT_FOR_CONFIRMATION if waits else ActionStatus.RUNNING
        self.note(action, action.status, [f"Assignment initiated by user '{self._user}'"])
        self.assigned(target, ds)
        return action

    def _create_offline(self, ds: DistributionSet, assignment: Assignment) -> Action:
        target = assignment.target
        action = self.new_action(ds, assignment)
        action.status, action.active = ActionStatus.FINISHED, False
        self.note(action, action.status, ["Action reported as offline deployment"])
        target.assigned = target.installed = ds
        target.installed_at, target.update_status = self.state.now_ms(), UpdateStatus.IN_SYNC
        return action

    @property
    def _user(self) -> str:
        return self.state.settings.user

    def new_action(
        self, ds: DistributionSet, assignment: Assignment, rollout: Rollout | None = None
    ) -> Action:
        now = self.state.now_ms()
        action = Action(
            self.state.next_id("action"),
            assignment.target,
            ds,
            assignment.force_type,
            now,
            now,
            force_time=assignment.force_time,
            weight=assignment.weight,
            window=assignment.window,
            rollout=rollout,
        )
        self.state.actions[action.id] = action
        action.target.actions.append(action)
        return action

    def assigned(self, target: Target, ds: DistributionSet) -> None:
        target.assigned, target.update_status = ds, UpdateStatus.PENDING
        target.modified_at, target.modified_by = self.state.now_ms(), self._user

    def supersede(self, target: Target) -> None:
        """A newer assignment asks the device to cancel what is open (or closes it at once)."""
        close = self.state.setting("repository.actions.autoclose.enabled")
        for action in target.actions:
            if action.active and not action.canceling_or_canceled:
                verb = "close" if close else "cancel"
                status = ActionStatus.CANCELED if close else ActionStatus.CANCELING
                action.active = not close
                self._move(action, status)
                self.note(action, status, [f"{SERVER}{verb} obsolete action due to new update"])

    # History

    def note(
        self,
        action: Action,
        status: ActionStatus,
        messages: list[str],
        timestamp: int | None = None,
        code: int | None = None,
    ) -> StatusEntry:
        now = self.state.now_ms()
        happened = now if timestamp is None else timestamp
        entry = StatusEntry(self.state.next_id("status"), status, messages, now, happened, code)
        action.history.append(entry)
        return entry

    def _move(self, action: Action, status: ActionStatus) -> None:
        action.status = status
        self.touch(action)

    def touch(self, action: Action) -> None:
        action.revision += 1
        action.modified_at = self.state.now_ms()

    def _check_quota(self, action: Action, messages: list[str], intermediate: bool) -> None:
        limits = self.state.settings
        if intermediate and len(action.history) >= limits.max_status_entries:
            raise quota("ActionStatus", f"Action {action.id}", limits.max_status_entries)
        if len(messages) > limits.max_messages:
            raise quota("Message", "ActionStatus", limits.max_messages)

    # What the device causes by looking

    def expire(self, action: Action | None) -> None:
        """An action whose last maintenance window is over is cancelled when the device looks."""
        if action is None or action.window is None or not action.active:
            return
        lapsed = Schedule(action.window).next_start(self.state.now()) is None
        if lapsed and not action.canceling_or_canceled:
            self._move(action, ActionStatus.CANCELING)
            self.note(action, action.status, ["manual cancelation requested"])

    def retrieved(self, action: Action, message: str) -> None:
        """Noted once in a row; the action itself follows unless it is being cancelled.

        A closed action that is fetched again follows too, by hawkBit's source (not recorded).
        """
        if action.history and action.history[-1].status is ActionStatus.RETRIEVED:
            return
        self.note(action, ActionStatus.RETRIEVED, [SERVER + message])
        if not action.canceling_or_canceled and action.status is not ActionStatus.RETRIEVED:
            self._move(action, ActionStatus.RETRIEVED)

    def downloads(self, action: Action, path: str) -> None:
        messages = [f"{SERVER}Target downloads {path}"]
        self._check_quota(action, messages, self.state.settings.quota_refuses_downloads)
        self.note(action, ActionStatus.DOWNLOAD, messages)

    # Feedback

    def feedback(self, action: Action, feedback: Feedback) -> None:
        """On a deployment. Raises Plain(404) while unconfirmed, Plain(410) when closed."""
        if action.status is ActionStatus.WAIT_FOR_CONFIRMATION:
            raise Plain(404)
        if not action.active:
            raise Plain(410)
        status = UPDATE_FEEDBACK[feedback.execution][feedback.finished]
        messages = list(feedback.details)
        if feedback.code is not None:
            messages.append(f"Device reported status code: {feedback.code}")
        if not messages:
            text = DEFAULT_MESSAGES.get(status, f"Target reported {feedback.execution.upper()}.")
            messages.append(SERVER + text)
        final = status in (ActionStatus.FINISHED, ActionStatus.ERROR)
        self._check_quota(action, messages, intermediate=not final)
        self._set_code(action, feedback.code)
        entry = self.note(action, status, messages, feedback.timestamp, feedback.code)
        if status is ActionStatus.FINISHED:
            self._finish(action, entry.timestamp)
        elif status is ActionStatus.ERROR:
            self._close(action, status)
            action.target.assigned = None
            action.target.update_status = UpdateStatus.ERROR
        elif status is ActionStatus.DOWNLOADED and action.download_only:
            self._close(action, status)
            action.target.update_status = UpdateStatus.IN_SYNC
            action.target.request_attributes = True

    def _set_code(self, action: Action, code: int | None) -> None:
        if action.last_code != code:
            action.last_code = code
            self.touch(action)

    def _close(self, action: Action, status: ActionStatus) -> None:
        # The close and the status code are one transaction, so `modified_at` is not moved:
        # hawkBit writes the device's changes without an audit trail.
        action.active, action.status = False, status
        action.revision += 1

    def _finish(self, action: Action, timestamp: int) -> None:
        self._close(action, ActionStatus.FINISHED)
        target = action.target
        if target.installed_at is None or target.installed_at < timestamp:
            # A device whose clock runs behind its last installation installs nothing, it seems.
            target.installed, target.installed_at = action.distribution_set, timestamp
            if action.download_only:
                target.assigned = action.distribution_set
            if target.assigned is target.installed:
                target.update_status = UpdateStatus.IN_SYNC
        target.request_attributes = True

    def cancel_feedback(self, action: Action, feedback: Feedback) -> None:
        if not action.canceling_or_canceled:
            raise cancel_not_allowed("The action is not in canceling state.")
        status = CANCEL_FEEDBACK[feedback.execution][feedback.finished]
        text = CANCEL_MESSAGES.get(status)
        messages = [SERVER + text] if text else []
        messages.extend(feedback.details)
        if feedback.code is not None:
            messages.append(f"Device reported status code: {feedback.code}")
        if status is ActionStatus.CANCELED:
            messages.append(f"{SERVER}Cancellation completion is finished successfully.")
            self._canceled(action)
        elif status in (ActionStatus.ERROR, ActionStatus.CANCEL_REJECTED):
            self._move(action, ActionStatus.RUNNING)
        else:
            self._check_quota(action, messages, intermediate=True)
        self.note(action, status, messages, feedback.timestamp, feedback.code)

    def _canceled(self, action: Action) -> None:
        self._close(action, ActionStatus.CANCELED)
        target = action.target
        following = DeviceView(self.state).current(target)
        if following is None:
            target.assigned, target.update_status = target.installed, UpdateStatus.IN_SYNC
        else:
            target.assigned = following.distribution_set

    # Management

    def cancel(self, action: Action, force: bool) -> None:
        if force:
            self._force_quit(action)
            return
        if action.canceling_or_canceled:
            raise cancel_not_allowed("Actions in canceling or canceled state cannot be canceled")
        if not action.active:
            raise cancel_not_allowed(
                f"Action [id: {action.id}] is not active and cannot be canceled"
            )
        self._move(action, ActionStatus.CANCELING)
        self.note(action, action.status, [f"{SERVER}manual cancelation requested"])

    def _force_quit(self, action: Action) -> None:
        if not action.canceling_or_canceled:
            raise force_quit_not_allowed(
                f"{action.id} is not canceled yet and cannot be force quit"
            )
        if not action.active:
            raise force_quit_not_allowed(
                f"Action [id: {action.id}] is not active and cannot be force quit"
            )
        self.note(action, ActionStatus.CANCELED, [f"{SERVER}A force quit has been performed."])
        self._canceled(action)
        action.modified_at = self.state.now_ms()

    def force(self, action: Action) -> None:
        """Soft or time-forced becomes forced: a new `c=`, nothing else."""
        if action.force_type not in (ForceType.FORCED, ForceType.DOWNLOADONLY):
            action.force_type = ForceType.FORCED
            self.touch(action)

    # Confirmation

    def confirm(self, action: Action, agreed: bool, code: int | None, details: list[str]) -> None:
        """Raises Plain(410) when the action is closed, Plain(404) when it does not wait."""
        if not action.active:
            raise Plain(410)
        if action.status is not ActionStatus.WAIT_FOR_CONFIRMATION:
            raise Plain(404)
        messages = list(details)
        if code is not None:
            messages.append(f"Device reported status code: {code}")
        if agreed:
            messages.append(
                f"{SERVER}Target confirmed action. Therefore, it will be set to the running "
                "state to proceed with the deployment."
            )
        else:
            messages.append(
                f"{SERVER}Target rejected action. Action will stay in confirmation pending state."
            )
        status = ActionStatus.RUNNING if agreed else ActionStatus.WAIT_FOR_CONFIRMATION
        self._check_quota(action, messages, intermediate=True)
        if action.last_code != code or action.status is not status:
            action.last_code = code
            self._move(action, status)
        self.note(action, status, messages, None, code)

    def activate_auto_confirm(self, target: Target, initiator: str, remark: str) -> None:
        if target.auto_confirm is not None:
            raise Refused(
                409,
                REPOSITORY + "AutoConfirmationAlreadyActiveException",
                "repo.autoConfirmAlreadyActive",
                f"Auto confirmation is already active for device {target.controller_id}",
            )
        target.auto_confirm = AutoConfirm(initiator, remark, self.state.now_ms())
        for action in target.actions:
            if action.active and action.status is ActionStatus.WAIT_FOR_CONFIRMATION:
                self._move(action, ActionStatus.RUNNING)
                text = f"{SERVER}Assignment automatically confirmed by initiator '{initiator}'."
                self.note(action, ActionStatus.RUNNING, [text])

    # Attributes

    def attributes(self, target: Target, mode: str, data: dict[str, Any]) -> None:
        for key, value in data.items():
            if not 0 < len(key) <= 128 or (value is not None and len(value) > 2048):
                raise Refused(
                    400,
                    REPOSITORY + "InvalidTargetAttributeException",
                    "repo.invalidTargetAttributes",
                    "The given target attributes are invalid",
                )
        kept = {} if mode == "replace" else dict(target.attributes)
        for key, value in data.items():
            if mode == "remove" or value is None:
                kept.pop(key, None)
            else:
                kept[key] = value
        limit = self.state.settings.max_attributes
        if len(kept) > limit:
            raise quota("Attribute", f"Target {target.controller_id}", limit)
        target.attributes = kept
        if mode != "remove":
            target.request_attributes = False

    def installed_offline(self, target: Target, ds: DistributionSet) -> bool:
        """The device says what it runs; True when that is news."""
        actions, _ = self.assign(ds, [Assignment(target)], offline=True)
        if actions:
            target.modified_by, target.modified_at = target.controller_id, self.state.now_ms()
        return bool(actions)
