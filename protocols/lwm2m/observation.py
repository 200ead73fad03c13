"""When an observation notifies (LwM2M 1.1 core sections 5.1.2 and 6.4.2); time is handed in.

A notification is due when a change condition was met and pmin has gone by since the last one, or
when pmax has gone by. The change conditions:

- without thresholds, any change of the value;
- with thresholds, only what they name: the value crossed gt or lt since it was last looked at, or
  it moved by st or more since the last notification.

A condition that is met inside pmin is remembered: the notification leaves "as soon as pmin
expires", with the value of that moment, even when the value has meanwhile gone back.

Thresholds compare numbers. An observation of an object or an instance has no number to compare, so
any change in it counts, whatever hangs on single resources below.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeGuard

from protocols.lwm2m.attributes import Attributes

__all__ = ["Conditions", "ObservationState", "conditions"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Attributes with the server's defaults worked in and what is invalid taken out."""

    pmin: int
    pmax: int
    """0: there is none."""
    gt: float | None
    lt: float | None
    st: float | None

    @property
    def thresholds(self) -> bool:
        return not (self.gt is None and self.lt is None and self.st is None)


# Most observations of a fleet have the same conditions: one object serves them all.
@lru_cache(maxsize=256)
def conditions(
    attributes: Attributes, default_pmin: int | None = None, default_pmax: int | None = None
) -> Conditions:
    """The conditions of an observation; the defaults are resources 1/x/2 and 1/x/3.

    A pmax of 0 and one below pmin are ignored. The text of 1.1 also ignores one *equal* to pmin,
    that of 1.0 and of 1.2 does not; servers write it to get a strict period, so it counts here.
    """
    pmin = max(0, attributes.pmin if attributes.pmin is not None else default_pmin or 0)
    pmax = max(0, attributes.pmax if attributes.pmax is not None else default_pmax or 0)
    if pmax < pmin:
        pmax = 0
    if not attributes.coherent:
        return Conditions(pmin, pmax, None, None, None)
    return Conditions(pmin, pmax, attributes.gt, attributes.lt, attributes.st)


class ObservationState:
    """One observation: ask `due` at each change and at `deadline`, tell `sent` at each sending."""

    __slots__ = ("_pending", "_seen", "_sent", "_sent_at", "conditions")

    def __init__(self, now: float, value: object, wanted: Conditions) -> None:
        """The answer to the Observe itself counts as the first notification."""
        self.conditions = wanted
        self._sent_at = now
        self._sent = value
        self._seen = value
        self._pending = False

    def due(self, now: float, value: object) -> bool:
        """Whether a notification of `value` must leave now."""
        if not self._pending and self._changed(value):
            self._pending = True
        self._seen = value
        # The same sum as the timer was set to: a difference may round to just below the period.
        deadline = self.deadline
        return deadline is not None and now >= deadline

    def sent(self, now: float, value: object) -> None:
        """A notification left; pmin and pmax count from here."""
        self._sent_at = now
        self._sent = value
        self._seen = value
        self._pending = False

    @property
    def deadline(self) -> float | None:
        """When to ask `due` again even if nothing changes; None is never."""
        if self._pending:
            return self._sent_at + self.conditions.pmin
        if self.conditions.pmax > 0:
            return self._sent_at + self.conditions.pmax
        return None

    def _changed(self, value: object) -> bool:
        wanted = self.conditions
        seen, sent = self._seen, self._sent
        if not wanted.thresholds or not (_is_number(value) and _is_number(seen)):
            return value != sent
        if wanted.gt is not None and (seen > wanted.gt) != (value > wanted.gt):
            return True
        if wanted.lt is not None and (seen < wanted.lt) != (value < wanted.lt):
            return True
        return (
            wanted.st is not None
            and _is_number(sent)
            and value != sent
            and abs(value - sent) >= wanted.st
        )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
