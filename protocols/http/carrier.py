"""What a download needs of its client, and the same for a client that polls nothing by HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from urllib.parse import urlsplit

from agent.credentials import Credential
from agent.device import Device
from agent.flash import PowerLoss
from agent.protocol import ClientSettings
from agent.runtime.http import HttpClient, HttpIdentity, HttpLink
from agent.runtime.network import source_address
from protocols.http.transport import link_of, transport_of

__all__ = ["Carrier", "Carries"]


class Carries(Protocol):
    """A client that downloads over HTTP."""

    @property
    def device(self) -> Device: ...

    @property
    def http(self) -> HttpClient: ...

    @property
    def link(self) -> HttpLink: ...

    @property
    def settings(self) -> ClientSettings: ...


class Carrier:
    """One download of a device whose protocol is not HTTP, told as a task.

    The server of the package is a stranger to the device: it gets neither token nor certificate."""

    __slots__ = ("_task", "device", "http", "settings")

    def __init__(self, device: Device, settings: ClientSettings, url: str) -> None:
        host = urlsplit(url).hostname or ""
        source = settings.bind
        if source is None and host.startswith("127."):
            source = source_address(None, host, device.index)[0]
        known = settings.credential(device)
        self.device = device
        self.settings = settings
        self.http = transport_of(device.runtime).client(
            HttpIdentity(device.name, source, Credential(authorities=known.authorities))
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def link(self) -> HttpLink:
        return link_of(self.device, self.settings.bandwidth)

    def begin(self, story: Coroutine[Any, Any, object], done: Callable[[], None]) -> None:
        """Tell `story`, then call `done` in the device's code, unless it was dropped."""
        self._task = asyncio.get_running_loop().create_task(self._tell(story, done))

    def drop(self) -> None:
        """End it where it stands."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.http.abort()

    async def _tell(self, story: Coroutine[Any, Any, object], done: Callable[[], None]) -> None:
        try:
            await story
        except PowerLoss:
            return  # the device is off, and its client has dropped us
        if self._task is not None:
            self._task = None
            self.device.run(done)
