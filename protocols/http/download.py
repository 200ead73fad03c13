"""Downloads over HTTP: received once, resumed after every cut, checked, and handed on as they come.

A download is a story of an `HttpPoller`. `Transfer` carries one resource, wherever its bytes go: it
goes on at the byte where a connection broke (`ranges.py` decides what an answer means), waits as
`Retry-After` or a jittered back-off says, and gives up after some tries in a row that brought not
one byte. `Download` brings a resource into the update engine; what goes elsewhere is in `fetch.py`.

After a reboot `Download` goes on at the engine's offset; the running hashes are brought up to date
from the flash, because they lived in RAM. A package that is unpacked on the way cannot do that, for
its unpacker lived in RAM too: it begins again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from agent.flash import SECONDARY
from agent.outcome import Outcome
from agent.runtime.http import HttpFailed, HttpTimeouts, Why
from agent.update import State
from agent.update_record import URI_LIMIT
from agent.verification import OUTCOME_OF
from firmware_images.errors import ImageRefused
from firmware_images.package import Unpacker
from protocols.backoff import Backoff
from protocols.http.messages import retry_after
from protocols.http.ranges import Action, Known, Verdict, ask, judge

if TYPE_CHECKING:
    from protocols.http.carrier import Carries

__all__ = [
    "DEFAULT_DOWNLOAD",
    "Download",
    "DownloadFailed",
    "DownloadTuning",
    "Resource",
    "Sink",
    "Transfer",
    "resume_key",
]

_FLASH_PIECE = 64 * 1024
_USER_INFORMATION = re.compile(r"//[^/]*@")


@dataclass(frozen=True, slots=True)
class Resource:
    """What is to be downloaded, as far as the server announced it."""

    url: str = field(repr=False)
    size: int | None = None
    """Bytes; a resource of another size is refused."""
    hashes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By hashlib's name (`sha256`, `sha1`, `md5`) the digest of the whole body, in hex."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Authorization and the like; secret ones are dropped when a redirect leaves the origin."""
    redirects: int = 5
    shown: str = ""
    """What traces and errors call it; empty: the URL without its query and who asks."""

    @property
    def name(self) -> str:
        return self.shown or _USER_INFORMATION.sub("//", self.url.partition("?")[0])


@dataclass(frozen=True, slots=True)
class DownloadTuning:
    """How patient a download is."""

    timeouts: HttpTimeouts = HttpTimeouts()
    tries: int = 8
    """In a row without one byte of progress; with the back-off below some three minutes."""
    restarts: int = 5
    """Times that a download begins at 0 again because the resource changed. A server that answers
    every resumption with another resource would be followed for ever."""
    largest: int = 256 << 20
    """Bytes of a resource whose size nobody announced: no slot of a microcontroller is larger."""
    slowest: float = 8.0
    """Bytes a second over `slow_time` seconds of one answer. A server that trickles is no server;
    NB-IoT at its worst brings some hundred."""
    slow_time: float = 300.0
    backoff: Backoff = Backoff(first=1.0, limit=60.0)
    """Shorter than between polls: a cut in mid-body is nothing that hurts a server."""


DEFAULT_DOWNLOAD = DownloadTuning()


class DownloadFailed(Exception):
    """The download has ended without the resource. `str` holds no secret."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome.name.lower()}: {detail}")
        self.outcome = outcome
        self.detail = detail


class _Ended(Exception):
    """Whoever takes the bytes wants no more and has said why already."""


class Sink(Protocol):
    """Where the bytes of a resource go. May raise DownloadFailed, _Ended, PowerLoss."""

    def restart(self, etag: str, size: int | None) -> None:
        """The next byte is the first one."""
        ...

    def described(self, etag: str, size: int | None) -> None:
        """More is known of the resource than when it began."""
        ...

    def take(self, data: bytes) -> None: ...


def resume_key(url: str) -> str:
    """What the engine's record knows a download by: its URL, without the query when the record
    cannot hold it (signed links are long, and another signature is still the same resource)."""
    return url if len(url.encode()) <= URI_LIMIT else url.partition("?")[0]


class Transfer:
    """Receives one resource to its end, over as many connections as it takes."""

    __slots__ = (
        "_hashes",
        "_known",
        "_poller",
        "_progress",
        "_resource",
        "_restarts",
        "_sink",
        "_slow_bytes",
        "_slow_since",
        "_tries",
        "_tuning",
        "received",
        "status",
    )

    def __init__(
        self,
        poller: Carries,
        resource: Resource,
        sink: Sink,
        tuning: DownloadTuning,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self._poller = poller
        self._resource = resource
        self._sink = sink
        self._tuning = tuning
        self._progress = progress
        self._known = Known()
        self._hashes: dict[str, Any] = {}
        self._tries = 0
        self._restarts = 0
        self._slow_since = 0.0
        self._slow_bytes = 0
        self.received = 0
        """Bytes that came over the wire."""
        self.status: int | None = None
        """Of the last answer."""
        self._forget()

    def resume(self, known: Known, stored: Callable[[int, int], bytes]) -> None:
        """Go on where an earlier uptime stopped; `stored` reads back what it had received."""
        self._known = known
        for offset in range(0, known.offset, _FLASH_PIECE):
            piece = stored(offset, min(_FLASH_PIECE, known.offset - offset))
            for digest in self._hashes.values():
                digest.update(piece)

    async def run(self) -> None:
        """Returns when everything arrived and is what was announced."""
        while not await self._once():
            pass
        size = self._size()
        if size is not None and self._known.offset != size:
            raise DownloadFailed(
                Outcome.INTEGRITY, f"{self._known.offset} bytes came, {size} were announced"
            )
        for name, digest in self._hashes.items():
            found, announced = digest.hexdigest(), self._resource.hashes[name].lower()
            if found != announced:
                raise DownloadFailed(
                    Outcome.INTEGRITY, f"{name} is {found}, announced was {announced}"
                )

    # -- one connection -------------------------------------------------------------------------

    async def _once(self) -> bool:
        """One request and what follows from it; True: that was the end."""
        poller, resource, known = self._poller, self._resource, self._known
        size = self._size()
        if size is not None and known.offset == size > 0:
            return True  # the reboot or the cut came after the last byte
        fields = [*resource.headers, *ask(known)]
        shown = resource.name
        trace = poller.settings.trace
        if trace is not None:
            trace(f"> GET {shown} from {known.offset}")
        before = self.received
        wait: float | None = None
        try:
            async with poller.http.stream(
                "GET",
                resource.url,
                headers=fields,
                timeouts=self._tuning.timeouts,
                link=poller.link,
                redirects=resource.redirects,
            ) as answer:
                self.status = answer.status
                verdict = judge(known, answer.status, answer.headers)
                if trace is not None:
                    trace(f"< {answer.status} GET {shown}: {verdict.action.value}")
                if verdict.action is Action.DONE:
                    return True
                if verdict.action is Action.FAIL:
                    raise DownloadFailed(Outcome.BAD_URI, f"{answer.status} to GET {shown}")
                if verdict.action is Action.AGAIN:
                    self._restart(Verdict(verdict.kind, verdict.action))
                    return False
                if verdict.action is not Action.RETRY:
                    self._begin_body(verdict)
                    self._slow_since = poller.device.runtime.clock.now()
                    self._slow_bytes = 0
                    async for data in answer.chunks():
                        self._take(data)
                    if self._complete():
                        return True
                else:
                    wait = retry_after(answer.headers, poller.device.runtime.clock.utc())
                problem = f"{answer.status} to GET {shown}"
        except HttpFailed as error:
            if trace is not None:
                trace(f"! {error}")
            if error.why in (Why.BAD_URL, Why.REDIRECTS):
                raise DownloadFailed(Outcome.BAD_URI, str(error)) from None
            if error.why is Why.UNTRUSTED:
                raise DownloadFailed(Outcome.CONNECTION_LOST, str(error)) from None
            problem = str(error)
        await self._pause(problem, wait, self.received > before)
        return False

    def _begin_body(self, verdict: Verdict) -> None:
        if verdict.action is Action.WHOLE:
            announced = self._resource.size
            if announced is not None and verdict.size not in (None, announced):
                raise DownloadFailed(
                    Outcome.INTEGRITY, f"{verdict.size} bytes, {announced} were announced"
                )
            if self._known.offset:
                self._restart(verdict)
            else:
                self._describe(verdict)
        elif verdict.etag and not self._known.etag:
            self._describe(verdict)

    def _describe(self, verdict: Verdict) -> None:
        known = self._known
        if (verdict.etag, verdict.size) != (known.etag, known.size):
            self._known = Known(known.offset, verdict.etag, verdict.size)
            self._sink.described(verdict.etag, verdict.size)

    def _restart(self, verdict: Verdict) -> None:
        self._restarts += 1
        if self._restarts > self._tuning.restarts:
            raise DownloadFailed(Outcome.INTEGRITY, "the resource changes at every resumption")
        self._forget()
        self._known = Known(0, verdict.etag, verdict.size)
        self._sink.restart(verdict.etag, verdict.size)

    def _take(self, data: bytes) -> None:
        known = self._known
        offset = known.offset + len(data)
        size = self._size()
        if size is not None and offset > size:
            raise DownloadFailed(Outcome.INTEGRITY, f"more than the {size} bytes announced")
        if size is None and offset > self._tuning.largest:
            raise DownloadFailed(Outcome.NO_SPACE, f"more than {self._tuning.largest} bytes")
        self._check_speed(len(data))
        self.received += len(data)
        self._tries = 0
        for digest in self._hashes.values():
            digest.update(data)
        self._known = Known(offset, known.etag, known.size)
        self._sink.take(data)
        if self._progress is not None:
            self._progress(offset, size)

    def _check_speed(self, size: int) -> None:
        now = self._poller.device.runtime.clock.now()
        tuning = self._tuning
        self._slow_bytes += size
        if now - self._slow_since >= tuning.slow_time:
            slowest = tuning.slowest
            bandwidth = self._poller.settings.bandwidth
            if bandwidth is not None:
                slowest = min(slowest, bandwidth / 2)  # a slow link is not the server's fault
            if self._slow_bytes < slowest * tuning.slow_time:
                raise DownloadFailed(
                    Outcome.CONNECTION_LOST, f"fewer than {slowest:g} bytes a second"
                )
            self._slow_since, self._slow_bytes = now, 0

    def _complete(self) -> bool:
        """The body ended as its framing said; a part may still be missing behind it."""
        size = self._size()
        return size is None or self._known.offset >= size

    async def _pause(self, problem: str, wait: float | None, progress: bool) -> None:
        device = self._poller.device
        self._tries += 1
        if self._tries >= self._tuning.tries and not progress:
            raise DownloadFailed(
                Outcome.CONNECTION_LOST, f"{self._tries} tries without a byte, last: {problem}"
            )
        delay = self._tuning.backoff.delay(self._tries, device.random)
        if wait is not None:
            # Never earlier than asked, and not all in the same second.
            delay = wait + device.random.uniform(0.0, min(delay, 5.0))
        await device.runtime.clock.sleep(delay)

    # -- internals ------------------------------------------------------------------------------

    def _size(self) -> int | None:
        """Bytes of the whole resource, as announced or as the answers say."""
        return self._resource.size if self._resource.size is not None else self._known.size

    def _forget(self) -> None:
        try:
            self._hashes = {
                name: hashlib.new(name, usedforsecurity=False) for name in self._resource.hashes
            }
        except ValueError:
            names = ", ".join(sorted(self._resource.hashes))
            raise DownloadFailed(
                Outcome.INTEGRITY, f"one of the announced hashes cannot be checked: {names}"
            ) from None
        self._known = Known()


class Download:
    """A resource on its way into the update engine. One per attempt and uptime."""

    __slots__ = (
        "_engine",
        "_key",
        "_make",
        "_on_progress",
        "_poller",
        "_resource",
        "_transfer",
        "_tuning",
        "_unpacker",
        "_used",
        "attempt",
    )

    def __init__(
        self,
        poller: Carries,
        resource: Resource,
        *,
        unpacker: Unpacker | Callable[[], Unpacker] | None = None,
        tuning: DownloadTuning = DEFAULT_DOWNLOAD,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        """`unpacker` makes the image of the bytes that come. Given as a callable it is made anew
        when the resource changed and the download begins again; an object cannot begin again, and
        then the attempt ends with INTEGRITY."""
        self._poller = poller
        self._resource = resource
        self._tuning = tuning
        self._on_progress = on_progress
        self._engine = poller.device.engine
        self._key = resume_key(resource.url)
        self._make: Callable[[], Unpacker] | None = unpacker if callable(unpacker) else None
        self._unpacker: Unpacker | None = unpacker() if callable(unpacker) else unpacker
        self._used = False
        self._transfer: Transfer | None = None
        self.attempt = -1

    @property
    def status(self) -> int | None:
        """The last HTTP status."""
        return None if self._transfer is None else self._transfer.status

    @property
    def received(self) -> int:
        """Bytes that came over the wire in this uptime."""
        return 0 if self._transfer is None else self._transfer.received

    async def run(self) -> bool:
        """Bring the resource into the engine: begin or resume, receive, complete.

        True: the engine is DOWNLOADED. False: the attempt ended, `engine.outcome` says how, or
        somebody else took the engine over. Raises CancelledError and PowerLoss, nothing else."""
        engine = self._engine
        try:
            transfer = self._transfer = Transfer(
                self._poller, self._resource, self, self._tuning, self._on_progress
            )
            if not self._resume(transfer):
                self._begin("", None if self._unpacker is not None else self._resource.size)
            self.attempt = engine.attempt
            await transfer.run()
            self._check_mine()
            if self._unpacker is not None:
                self._unpacker.finish()
        except _Ended:
            return False
        except DownloadFailed as failed:
            self._fail(failed.outcome, failed.detail)
            return False
        except ImageRefused as refused:
            self._fail(OUTCOME_OF[refused.reason], str(refused))
            return False
        engine.complete()
        while engine.state is State.DOWNLOADING and engine.pending:
            # A slot store that is a real board answers in its own time; the device gives up on it.
            await self._poller.device.runtime.clock.sleep(0.1)
        return engine.state is State.DOWNLOADED

    # -- Sink ----------------------------------------------------------------------------------

    def restart(self, etag: str, size: int | None) -> None:
        self._check_mine()
        if self._unpacker is not None:
            if self._make is None and self._used:
                raise DownloadFailed(Outcome.INTEGRITY, "the resource changed under the download")
            if self._make is not None:
                self._unpacker = self._make()
            size = None
        self._begin(etag, size)
        self.attempt = self._engine.attempt

    def described(self, etag: str, size: int | None) -> None:
        self._check_mine()
        if self._unpacker is not None:
            size = None  # of the package; the engine's is the image's
        tag = _stored_tag(etag)
        engine = self._engine
        if (tag, size) != (engine.etag, engine.total_size) and not engine.describe(
            etag=tag, total_size=size
        ):
            raise _Ended

    def take(self, data: bytes) -> None:
        self._check_mine()
        if self._unpacker is not None:
            self._used = True
            data = self._unpacker.feed(data)
        if data and not self._engine.receive(data):
            raise _Ended

    # -- internals ------------------------------------------------------------------------------

    def _resume(self, transfer: Transfer) -> bool:
        engine, resource = self._engine, self._resource
        if self._unpacker is not None or not engine.resumable or engine.uri != self._key:
            return False
        size = engine.total_size
        if size is not None and resource.size is not None and size != resource.size:
            return False
        flash = self._poller.device.flash
        known = Known(engine.offset, engine.etag.decode("latin-1"), size)
        transfer.resume(known, lambda offset, length: flash.read(SECONDARY, offset, length))
        return True

    def _begin(self, etag: str, size: int | None) -> None:
        if not self._engine.begin(uri=self._key, etag=_stored_tag(etag), total_size=size):
            raise _Ended

    def _check_mine(self) -> None:
        """A cancel, a reboot or another download may have come while we waited."""
        engine = self._engine
        if engine.state is not State.DOWNLOADING or engine.attempt != self.attempt:
            raise _Ended

    def _fail(self, outcome: Outcome, detail: str) -> None:
        engine = self._engine
        # Before `begin` there is an attempt to refuse, after it the one that is ours.
        if (
            engine.state is State.DOWNLOADING
            and self.attempt in (-1, engine.attempt)
            or engine.state is State.IDLE
            and self.attempt == -1
        ):
            engine.fail(outcome, detail)


def _stored_tag(etag: str) -> bytes:
    """A tag that the record cannot hold whole is none: half a tag would match another resource."""
    tag = etag.encode("latin-1", "replace")
    return tag if len(tag) <= 255 else b""
