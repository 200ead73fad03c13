"""Verbose logging: what the device says of its own state changes while the server asks for it.

Lines are kept only while logging is on, in RAM and bounded; an upload sends them as one DeviceLog
and forgets them once the server has stored it. A reboot loses what was not uploaded, as it does on
a device that logs into RAM.
"""

from __future__ import annotations

import datetime
from collections import deque

from protocols.http.checkin.wire import rfc3339

__all__ = ["DeviceLog"]

MAX_LINES = 128
"""An update makes some twenty lines; what is older than so many is dropped and counted."""
MAX_LINE = 400
"""Characters: 128 such lines stay below the 65,536 that a log may hold."""


class DeviceLog:
    """The log of one device; exists only while logging is on."""

    __slots__ = ("_dropped", "_lines", "until")

    def __init__(self, until: datetime.datetime) -> None:
        self.until = until
        self._lines: deque[tuple[str, str]] = deque()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, utc: datetime.datetime, text: str) -> None:
        self._lines.append((rfc3339(utc), text[:MAX_LINE]))
        self._trim()

    def take(self) -> list[tuple[str, str]]:
        """All lines (time, text), which are forgotten here."""
        lines = list(self._lines)
        if self._dropped:
            lines.insert(0, (lines[0][0], f"({self._dropped} older lines were dropped)"))
        self._lines.clear()
        self._dropped = 0
        return lines

    def put_back(self, lines: list[tuple[str, str]]) -> None:
        """They were not stored by the server."""
        self._lines.extendleft(reversed(lines))
        self._trim()

    def _trim(self) -> None:
        while len(self._lines) > MAX_LINES:
            self._lines.popleft()
            self._dropped += 1
