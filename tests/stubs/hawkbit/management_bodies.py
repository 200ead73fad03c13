"""Bodies of management requests, checked: whatever is wrong is Refused(400), never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.stubs.hawkbit.deployments import Assignment
from tests.stubs.hawkbit.errors import invalid, unreadable
from tests.stubs.hawkbit.model import Condition, ForceType, MaintenanceWindow, Target
from tests.stubs.hawkbit.query import TARGET_FIELDS, rsql
from tests.stubs.hawkbit.rollouts import RolloutOrder
from tests.stubs.hawkbit.schedule import Schedule, refused
from tests.stubs.hawkbit.state import HawkbitState

Record = dict[str, Any]

MAX_GROUPS = 500
MAX_ASSIGNED = 5000
"""Targets of one manual assignment."""


def records(content: Any) -> list[Record]:
    """The bulk resources take an array of objects and nothing else."""
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise unreadable()
    return content


def parse_name(record: Record, member: str, default: str | None = None) -> str:
    """A text member of at most 128 characters (descriptions 512); required without a default."""
    value = record.get(member)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise unreadable()
    if not value or len(value) > (512 if member == "description" else 128):
        raise invalid(f"{member} has a wrong length")
    return value


def _number(record: Record, member: str, default: int, low: int, high: int) -> int:
    value = record.get(member)
    if value is None:
        return default
    if type(value) is not int:
        raise unreadable()
    if not low <= value <= high:
        raise invalid(f"{member} must be between {low} and {high}")
    return value


def _force_type(record: Record) -> ForceType:
    value = record.get("type")
    if value is None:
        return ForceType.FORCED
    try:
        return ForceType(value)
    except ValueError:
        raise unreadable() from None


def _flag(record: Record, member: str) -> bool:
    value = record.get(member)
    if value is None:
        return True
    if not isinstance(value, bool):
        raise unreadable()
    return value


def _window(record: Record) -> MaintenanceWindow | None:
    value = record.get("maintenanceWindow")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise unreadable()
    parts = [value.get(member) for member in ("schedule", "duration", "timezone")]
    texts = [part for part in parts if isinstance(part, str) and part]
    if len(texts) != len(parts):
        raise refused("All of schedule, duration and timezone should either be null or non empty.")
    window = MaintenanceWindow(*texts)
    Schedule(window)
    return window


def parse_assignments(content: Any) -> list[tuple[str, Callable[[Target], Assignment]]]:
    """Controller id and what makes its assignment, for each element of the array."""
    found: list[tuple[str, Callable[[Target], Assignment]]] = []
    for record in records(content):
        kind, window = _force_type(record), _window(record)
        forced_at = _number(record, "forcetime", 0, 0, 2**62)
        weight = _number(record, "weight", 1000, 0, 1000)
        confirm = _flag(record, "confirmationRequired")

        def make(
            target: Target,
            kind: ForceType = kind,
            forced_at: int = forced_at,
            weight: int = weight,
            confirm: bool = confirm,
            window: MaintenanceWindow | None = window,
        ) -> Assignment:
            return Assignment(target, kind, forced_at, weight, confirm, window)

        found.append((parse_name(record, "id"), make))
    if len(found) > MAX_ASSIGNED:
        raise invalid(f"more than {MAX_ASSIGNED} targets in one assignment")
    return found


def _condition(record: Record, member: str, default: int) -> Condition:
    value = record.get(member)
    if value is None:
        return Condition(default)
    if not isinstance(value, dict) or value.get("condition", "THRESHOLD") != "THRESHOLD":
        raise unreadable()
    text = value.get("expression")
    if not isinstance(text, str) or not text.isdecimal() or int(text) > 100:
        raise invalid(f"{member} needs a percentage")
    return Condition(int(text))


def _action(record: Record, member: str, known: str) -> None:
    value = record.get(member)
    if value is not None and (not isinstance(value, dict) or value.get("action") != known):
        raise unreadable()


def parse_rollout(content: Any, state: HawkbitState) -> RolloutOrder:
    """Raises Refused(404) for an unknown set, Refused(400) for everything else that is wrong."""
    if not isinstance(content, dict):
        raise unreadable()
    if "groups" in content:
        raise invalid("this stub models rollouts by amountGroups only")
    name, query = parse_name(content, "name"), parse_name(content, "targetFilterQuery")
    if type(content.get("distributionSetId")) is not int:
        raise unreadable()
    ds = state.distribution_set(content["distributionSetId"])
    test = rsql(query, TARGET_FIELDS)
    _action(content, "successAction", "NEXTGROUP")
    _action(content, "errorAction", "PAUSE")
    return RolloutOrder(
        name,
        parse_name(content, "description", ""),
        ds,
        query,
        [target for _, target in sorted(state.targets.items()) if test(target)],
        _number(content, "amountGroups", 1, 1, MAX_GROUPS),
        _force_type(content),
        _number(content, "forcetime", 0, 0, 2**62),
        _number(content, "weight", 1000, 0, 1000),
        _flag(content, "confirmationRequired"),
        _condition(content, "successCondition", 50),
        _condition(content, "errorCondition", 50),
    )
