"""Callback listeners of three versions that keep what they accepted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.tools.backend.callbacks.callback_raw import OK, RawListener, raw

Change = tuple[str, str, str]
"""Campaign, device or nothing, status: as the messages of that version call it."""


@dataclass
class Recorder:
    """What the listeners have accepted."""

    happened: Callable[[str], None]
    alive: Callable[[], bool]
    urls: dict[int, str] = field(default_factory=dict)
    told: dict[int, list[Change]] = field(default_factory=dict)
    """By the version of the API, in order."""
    repeated: int = 0
    forged: list[str] = field(default_factory=list)
    """Messages that came a second time and said something else."""
    _bodies: dict[tuple[int, int], Any] = field(default_factory=dict)

    def accepts(self, version: int, request: bytes) -> bool:
        """Take a message; False when its sender died over it."""
        head, _, content = request.partition(b"\r\n\r\n")
        number = int(head.lower().split(b"x-message-id: ")[1].split(b"\r\n")[0])
        body = json.loads(content)
        self.happened("callback")
        if not self.alive():
            return False
        self.repeated += (version, number) in self._bodies
        if self._bodies.setdefault((version, number), body) != body:
            self.forged.append(f"message {number} of v{version}")
        self.told.setdefault(version, []).extend(changes_of(version, body))
        return True


def changes_of(version: int, body: dict[str, Any]) -> list[Change]:
    """The statuses that a message tells."""
    message = body["upgradeProgress"] if version == 1 else body
    campaign = message.get("upgradeId" if version == 1 else "campaignId")
    if not campaign:
        return []  # new firmware, or the announcement of an upgrade
    items = [(campaign, item["deviceId"], item["status"]) for item in message["deviceList"]]
    return [(campaign, "", message["status"]), *items]


@asynccontextmanager
async def recording(
    happened: Callable[[str], None], alive: Callable[[], bool]
) -> AsyncIterator[Recorder]:
    """A listener for each version of the API, on a real socket."""
    recorder = Recorder(happened, alive)
    async with AsyncExitStack() as stack:
        for version in (1, 2, 3):
            listener = await stack.enter_async_context(_listener(recorder, version))
            recorder.urls[version] = listener.url
        yield recorder


@asynccontextmanager
async def _listener(recorder: Recorder, version: int) -> AsyncIterator[RawListener]:
    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if recorder.accepts(version, listener.requests[-1]):
            writer.write(OK)
            await writer.drain()

    listener: RawListener
    async with raw(behave) as listener:
        yield listener
