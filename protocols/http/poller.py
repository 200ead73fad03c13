"""What all check-in clients share: one timer, and stories told as tasks only while they last.

::

    OFFLINE   no poll of this uptime has been answered, or the last ones failed
    ONLINE    the server answered a poll

Between two polls a device owns a timer and nothing else. When the timer fires, `poll` runs as a
task; beside it one long story may run (`begin`), such as a download, while polls go on. A poll that
fails is tried again after a jittered back-off, or after what `Retry-After` asked for.

A power loss may strike in any call into the engine or `nvm`, inside any story: the device is off by
then and `power_lost` has cancelled every task, so the exception ends where the story began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from agent.bootloader import BootReport
from agent.device import Device
from agent.errors import LocalMisuse, UnusableSettings
from agent.flash import PowerLoss
from agent.misbehaviour import Misbehaviour, check_known
from agent.nvm import NvmFull
from agent.protocol import ClientSettings
from agent.runtime.http import (
    DEFAULT_TIMEOUTS,
    HttpFailed,
    HttpIdentity,
    HttpLink,
    HttpResponse,
    HttpTimeouts,
)
from agent.runtime.network import source_address
from agent.runtime.wheel import Timer
from agent.update import EngineEvent
from protocols.backoff import DEFAULT_BACKOFF, Backoff
from protocols.http.messages import JSON, BadAnswer, Refused, json_body, retry_after
from protocols.http.transport import link_of, transport_of
from protocols.http.urls import BadServer, Origin, parse_server

__all__ = ["TRANSITIONS", "HttpPoller"]

TRANSITIONS: dict[str, dict[str, str]] = {
    "OFFLINE": {"answered": "ONLINE"},
    "ONLINE": {"failed": "OFFLINE", "stopped": "OFFLINE"},
}

OFFLINE_AFTER = 2
"""Polls that fail in a row before a device counts as offline: one may be lost to a restart."""

FIRST_POLL_SPREAD = 2.0
"""Seconds after a boot within which the first poll falls: boots of one moment are spread again."""

COMMON_OPTIONS = frozenset({"proxy"})
"""Known to every check-in client. `proxy`: the `http://host:port` that all requests go through."""

_BEHAVES: frozenset[Misbehaviour] = frozenset()
"""Shared: an empty set of its own is 216 bytes of each idle device."""


class HttpPoller:
    """Base of the check-in clients. A subclass has a `name`, the set of `OPTIONS` that it knows,
    and `poll`; what it needs beyond a poll it tells with `begin`."""

    name = ""
    OPTIONS: frozenset[str] = frozenset()
    MISBEHAVIOURS: frozenset[Misbehaviour] = frozenset()
    """What this protocol's clients can do wrong; `herd` is known to all of them."""
    BACKOFF: Backoff = DEFAULT_BACKOFF

    __slots__ = (
        "_failures",
        "_poll",
        "_story",
        "_timer",
        "_wake",
        "device",
        "http",
        "misbehave",
        "origin",
        "registered",
        "settings",
        "state",
    )

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        unknown = sorted(settings.options.keys() - self.OPTIONS - COMMON_OPTIONS)
        if unknown:
            known = ", ".join(sorted(self.OPTIONS | COMMON_OPTIONS))
            raise UnusableSettings(f"{self.name} has no option {unknown[0]!r}; known: {known}")
        self.misbehave = settings.misbehave(device) or _BEHAVES
        check_known(self.name, self.misbehave, self.MISBEHAVIOURS | {Misbehaviour.HERD})
        self.device = device
        self.settings = settings
        self.origin: Origin = parse_server(settings.server)
        proxy = settings.options.get("proxy")
        peer = self.origin.host if proxy is None else _proxy_host(proxy)
        source = settings.bind
        if source is None and peer.startswith("127."):
            source = source_address(None, peer, device.index)[0]
        self.http = transport_of(device.runtime).client(
            HttpIdentity(device.name, source, settings.credential(device), proxy)
        )
        self.state = "OFFLINE"
        self.registered = False
        self._failures = 0
        self._timer = Timer(self._due)
        self._poll: asyncio.Task[None] | None = None
        self._story: asyncio.Task[None] | None = None
        self._wake = False

    # -- for a subclass to tell -----------------------------------------------------------------

    async def poll(self) -> float:
        """One poll and what follows from it at once; returns the seconds until the next one.
        May raise HttpFailed, Refused or BadAnswer: the poll has failed."""
        raise NotImplementedError

    def answered(self) -> None:
        """A poll was answered: the image that runs has proven itself."""
        self._failures = 0
        if self.state == "OFFLINE":
            self._move("answered")
        self.device.healthy()

    # -- ProtocolClient -------------------------------------------------------------------------

    def booted(self, report: BootReport) -> None:
        """The engine has judged the boot, and a poll reads the engine."""

    def start(self) -> None:
        spread = 0.0 if Misbehaviour.HERD in self.misbehave else FIRST_POLL_SPREAD
        self._arm(self.device.random.uniform(0.0, spread) if spread else 0.0)

    def stop(self) -> None:
        """Updates servers know no goodbye."""
        self._fall_silent()
        if self.state == "ONLINE":
            self._move("stopped")
        self.http.abort()

    def power_lost(self) -> None:
        self._fall_silent()
        self.registered = False
        self.http.abort()

    def engine_event(self, event: EngineEvent) -> None:
        """A subclass reports what its protocol wants to know."""

    # -- for a subclass to use ------------------------------------------------------------------

    @property
    def link(self) -> HttpLink:
        """What this device's link does to a download."""
        return link_of(self.device, self.settings.bandwidth)

    def wake(self) -> None:
        """Poll as soon as possible."""
        if self._poll is None:
            self._arm(0.0)
        else:
            self._wake = True

    def begin(self, story: Coroutine[Any, Any, None]) -> None:
        """Tell a long story beside the polls. There is one at a time."""
        if self._story is not None:
            story.close()
            raise LocalMisuse(f"{self.name} {self.device.name}: a story is being told already")
        self._story = asyncio.get_running_loop().create_task(self._tell(story))
        self._story.add_done_callback(self._told)
        # Cancelled before its first step, the task never gets as far as the story itself.
        self._story.add_done_callback(lambda task: story.close())

    @property
    def busy(self) -> bool:
        """A long story is being told."""
        return self._story is not None

    def drop(self) -> None:
        """End the long story where it stands."""
        if self._story is not None:
            self._story.cancel()
            self._story = None

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        json: object = None,
        body: bytes = b"",
        timeouts: HttpTimeouts = DEFAULT_TIMEOUTS,
        redirects: int = 0,
        shown: str | None = None,
    ) -> HttpResponse:
        """A request with a JSON body or none, traced; `shown` stands for a URL that is secret. 429
        and 5xx raise `Refused`, every other status is an answer that the caller judges."""
        fields = list(headers)
        if json is not None:
            body = json_body(json)
            fields.append(("Content-Type", JSON))
        trace = self.settings.trace
        if shown is None:
            shown = url.partition("?")[0]
        if trace is not None:
            trace(f"> {method} {shown} {len(body)} bytes")
        runtime = self.device.runtime
        sent = runtime.clock.now()
        answer = await self.http.request(
            method, url, headers=fields, body=body, timeouts=timeouts, redirects=redirects
        )
        runtime.metrics.request.record(runtime.clock.now() - sent)
        if trace is not None:
            trace(f"< {answer.status} {method} {shown} {len(answer.body)} bytes")
        if answer.status == 429 or answer.status >= 500:
            wait = retry_after(answer.headers, runtime.clock.utc())
            raise Refused(answer.status, f"{method} {shown}", wait)
        return answer

    # -- internals ------------------------------------------------------------------------------

    def _arm(self, delay: float) -> None:
        self.device.runtime.arm(self._timer, delay)

    def _due(self, now: float) -> None:
        if self._poll is None:
            self._wake = False
            self._poll = asyncio.get_running_loop().create_task(self._one_poll())

    async def _one_poll(self) -> None:
        task = self._poll
        try:
            delay = await self.poll()
        except (HttpFailed, BadAnswer, Refused, NvmFull) as error:
            delay = self._failed(error)
        except PowerLoss:
            return
        except Exception as error:
            # A fault of ours: told to whoever runs the loop, and this device still goes on.
            self._unforeseen(error)
            delay = self._failed(error)
        if self._poll is not task:
            return  # the device fell silent meanwhile
        self._poll = None
        self._arm(0.0 if self._wake else delay)

    def _failed(self, error: Exception) -> float:
        """Note a failed poll; returns the seconds until the next one."""
        self._failures += 1
        if self.settings.trace is not None:
            self.settings.trace(f"! {error}")
        if self.state == "ONLINE" and self._failures >= OFFLINE_AFTER:
            self._move("failed", str(error))
        elif self.state == "OFFLINE" and self._failures == 1:
            # Once, so that whoever looks at a device that never comes online learns why.
            self.device.record("check-in", self.state, self.state, f"failed: {error}")
        self._wake = False
        delay = self.BACKOFF.delay(self._failures, self.device.random)
        if isinstance(error, Refused) and error.retry_after is not None:
            # Never earlier than asked, and not all in the same second.
            return error.retry_after + self.device.random.uniform(0.0, min(delay, 5.0))
        return delay

    async def _tell(self, story: Coroutine[Any, Any, None]) -> None:
        try:
            await story
        except PowerLoss:
            return
        except Exception as error:
            # Whatever the story was about, the next poll finds where the device stands.
            self.device.record(
                "check-in", self.state, self.state, f"failed: {type(error).__name__}: {error}"
            )
            if not isinstance(error, NvmFull):
                self._unforeseen(error)
            self.wake()

    def _unforeseen(self, error: Exception) -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"{self.name} {self.device.name}: a story failed", "exception": error}
        )

    def _told(self, task: asyncio.Task[None]) -> None:
        if self._story is task:
            self._story = None

    def _fall_silent(self) -> None:
        self.device.runtime.wheel.disarm(self._timer)
        for task in (self._poll, self._story):
            if task is not None:
                task.cancel()
        self._poll = self._story = None

    def _move(self, cause: str, detail: str = "") -> None:
        old, self.state = self.state, TRANSITIONS[self.state][cause]
        self.registered = self.state == "ONLINE"
        self.device.record("check-in", old, self.state, f"{cause}: {detail}" if detail else cause)


def _proxy_host(uri: str) -> str:
    try:
        proxy = parse_server(uri)
    except BadServer as error:
        raise UnusableSettings(f"proxy: {error}") from None
    if proxy.scheme != "http":
        raise UnusableSettings("proxy: it is spoken to in plain HTTP, so its URI is http://")
    return proxy.host
