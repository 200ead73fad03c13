"""A ThingsBoard package on one device, whatever carries it: attributes and chunks in, actions out.

No asyncio and no sockets. The adapter tells what came (`connected`, `attributes`, `chunk`,
`chunk_lost`), drains `outbox` after each call, and does what stands there, in order. What must
survive a reboot is in the update engine and in `nvm`; the pseudo URI of an attempt names its
package, so that a download goes on only with the same one.

A package that failed is not tried again until the server offers another one of its kind, or none:
the server keeps the attribute as it is, and a device that obeyed it forever would never do anything
else. Firmware and software are two kinds and share one slot: one comes after the other.

In `nvm`: `last` is the package that was begun last (mark, kind, title), written before the engine
begins; `fw` and `sw` hold the mark of what was tried of a kind, written once the engine has begun,
so that a power cut between the two costs a try and not the update.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.flash import SECONDARY
from agent.misbehaviour import Misbehaviour
from agent.outcome import Outcome
from agent.update import EngineEvent, State
from protocols.http.download import resume_key
from protocols.thingsboard.attributes import BadOffer, Kind, Offer, parse_offer
from protocols.thingsboard.checksums import Checksum, new_checksum
from protocols.thingsboard.personas import Persona
from protocols.thingsboard.tables import ERRORS, FAILED, UPDATED, words

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["Action", "Fetch", "Ota", "RequestChunk", "Telemetry", "decode_object"]

_NAMESPACE = "thingsboard"
_LAST = "last"
_MARK = 32  # bytes of a SHA-256
_KIND = 2  # and of the prefix that follows it in `nvm`, before the title
_READ = 64 << 10  # bytes of flash hashed at a time when a download goes on after a reboot

CHUNK_TRIES = 5
"""How often one chunk is asked for before the connection counts as lost."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Values to publish. `final`: once the server has them, the attempt is reported."""

    values: Mapping[str, object]
    final: bool = False


@dataclass(frozen=True, slots=True)
class RequestChunk:
    """Ask for chunk `index` of the package; chunks are of `size` bytes, the last one of what is
    left."""

    offer: Offer = field(repr=False)
    index: int
    size: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download the package from its own URL."""

    offer: Offer


Action = Telemetry | RequestChunk | Fetch


class Ota:
    """The package of one device for one uptime."""

    __slots__ = (
        "_checksum",
        "_connected",
        "_device",
        "_misbehave",
        "_offer",
        "_persona",
        "_title",
        "_tries",
        "_waiting",
        "outbox",
    )

    def __init__(
        self,
        device: Device,
        title: str,
        persona: Persona,
        misbehave: frozenset[Misbehaviour] = frozenset(),
    ) -> None:
        self._device = device
        self._title = title
        self._persona = persona
        self._misbehave = misbehave
        self._offer: Offer | None = None
        self._checksum: Checksum | None = None
        self._waiting: RequestChunk | None = None
        self._tries = 0
        self._connected = False
        self.outbox: list[Action] = []

    # -- what an adapter tells ------------------------------------------------------------------

    def connected(self) -> None:
        """The server can be reached: confirm the image that runs, and tell where we stand."""
        device = self._device
        device.healthy()
        self._connected = True
        engine = device.engine
        if self._persona.updated_after_reboot and engine.resumable:
            engine.cancel()
            self.outbox.append(Telemetry({**self._current(), "fw_state": UPDATED}, final=True))
            return
        self.outbox.append(Telemetry(self._current()))
        if engine.report_pending and engine.outcome is not None:
            self._report(engine.state, engine.outcome, "")
        elif engine.state is State.DOWNLOADED and engine.outcome is None:
            self._report(State.DOWNLOADED, None, "")
            engine.install()

    def disconnected(self) -> None:
        """What was asked for will not be answered any more; `connected` begins anew."""
        self._connected = False
        self._waiting = None
        self._offer = None

    def attributes(self, shared: Mapping[str, object]) -> None:
        """All attributes of the packages, as the server has them now."""
        for kind in Kind:
            try:
                offer = parse_offer(kind, shared)
            except BadOffer as problem:
                self._bad_offer(kind, shared, str(problem))
                continue
            if offer is None:
                self._taken_back(kind)
            elif self._consider(offer):
                return

    def chunk(self, index: int, data: bytes) -> None:
        """A chunk arrived. One that nobody waits for, such as a repeated one, is dropped."""
        waiting, engine = self._waiting, self._device.engine
        if waiting is None or index != waiting.index or engine.state is not State.DOWNLOADING:
            return
        self._waiting = None
        offer = waiting.offer
        start = index * waiting.size
        expected = min(waiting.size, offer.size - start)
        if len(data) != expected:
            # An empty answer means past the end: the package is shorter than was announced.
            engine.fail(
                Outcome.INTEGRITY, f"chunk {index} has {len(data)} bytes, {expected} expected"
            )
            return
        # After a reboot the first chunk may begin before the offset that is in flash.
        data = data[engine.offset - start :]
        assert self._checksum is not None
        self._checksum.update(data)
        if not engine.receive(data):
            return
        self._tries = 0
        if engine.offset < offer.size:
            self._ask_next(offer)
        else:
            self._complete(offer)

    def chunk_lost(self) -> None:
        """The chunk that was asked for has not come in time."""
        waiting, engine = self._waiting, self._device.engine
        if waiting is None or engine.state is not State.DOWNLOADING:
            return
        if self._persona.lost_chunk_stalls:
            return
        self._tries += 1
        if self._tries >= CHUNK_TRIES:
            self._waiting = None
            engine.fail(Outcome.CONNECTION_LOST, f"chunk {waiting.index} never came")
            return
        self.outbox.append(waiting)

    def refused(self, detail: str) -> None:
        """The server does not give the package."""
        self._waiting = None
        if self._device.engine.state is State.DOWNLOADING:
            self._device.engine.fail(Outcome.BAD_URI, detail)

    def fetched(self) -> None:
        """The download from its own URL is over; the engine knows how it went."""
        if self._device.engine.state is State.DOWNLOADED and self._connected:
            self._device.engine.install()

    def engine_event(self, event: EngineEvent) -> None:
        """The engine moved: tell what the table has for it."""
        if event.new is State.DOWNLOADING or event.outcome is not None:
            self._remember_tried()
        if event.outcome is Outcome.SUCCESS:
            self._remember_success()
        if not self._connected:
            return  # told by `connected`
        if event.new is event.old and event.outcome is None:
            return
        self._report(event.new, event.outcome, event.detail)

    def reported(self) -> None:
        """A final report reached the server."""
        engine = self._device.engine
        if engine.outcome is not None:
            engine.reported()

    @property
    def waiting(self) -> RequestChunk | None:
        """What has been asked for and has not come."""
        return self._waiting

    @property
    def tries(self) -> int:
        """How often in a row a chunk was lost."""
        return self._tries

    # -- internals ------------------------------------------------------------------------------

    def _consider(self, offer: Offer) -> bool:
        """Act on an offer; True when the device is busy with it from now on."""
        engine = self._device.engine
        if engine.state in (State.INSTALLING, State.TRIAL):
            return True
        uri = _uri(offer)
        if engine.state is State.DOWNLOADING:
            if engine.uri == uri:
                if self._offer is None:
                    self._resume(offer)
                return True
            if offer.kind is not self._last_kind():
                return False  # its turn comes after the one that is on its way
            engine.cancel()  # another package while this one came in
        elif self._had(offer):
            return False
        self._begin(offer, uri)
        return True

    def _taken_back(self, kind: Kind) -> None:
        """The server offers nothing of this kind: what is on its way is dropped, and what was tried
        may be tried again, should it be assigned once more."""
        engine, nvm = self._device.engine, self._device.nvm
        if engine.state is State.DOWNLOADING and kind is self._last_kind():
            self._waiting = None
            engine.cancel()
        if engine.state in (State.IDLE, State.DOWNLOADED) and nvm.get(_NAMESPACE, kind.value):
            nvm.delete(_NAMESPACE, kind.value)

    def _begin(self, offer: Offer, uri: str) -> None:
        device = self._device
        last = _mark(offer.identity) + offer.kind.value.encode() + offer.title.encode()
        device.nvm.set(_NAMESPACE, _LAST, last)
        self._offer, self._tries = offer, 0
        engine = device.engine
        if offer.url:
            self._waiting = None
            self.outbox.append(Fetch(offer))
            return
        self._checksum = new_checksum(offer.algorithm)
        if engine.begin(uri=uri, total_size=offer.size):
            self._ask_next(offer)

    def _resume(self, offer: Offer) -> None:
        """The same package after a reboot or a reconnect: go on behind what is in flash."""
        engine, flash = self._device.engine, self._device.flash
        self._offer, self._tries = offer, 0
        self._remember_tried()
        if offer.url:
            self.outbox.append(Fetch(offer))
            return
        if self._checksum is None:
            self._checksum = new_checksum(offer.algorithm)
            for start in range(0, engine.offset, _READ):
                part = flash.read(SECONDARY, start, min(_READ, engine.offset - start))
                self._checksum.update(part)
        if engine.offset < offer.size:
            self._ask_next(offer)
        else:
            self._complete(offer)

    def _ask_next(self, offer: Offer) -> None:
        size = self._persona.chunk
        self._waiting = RequestChunk(offer, self._device.engine.offset // size, size)
        self.outbox.append(self._waiting)

    def _complete(self, offer: Offer) -> None:
        engine = self._device.engine
        assert self._checksum is not None
        found = self._checksum.hexdigest()
        self._checksum = None
        if found != offer.checksum:
            engine.fail(Outcome.INTEGRITY, f"{offer.algorithm} is {found}")
        elif engine.complete():
            engine.install()

    def _bad_offer(self, kind: Kind, shared: Mapping[str, object], problem: str) -> None:
        """Told once for the same attributes: the server keeps them as they are."""
        engine, nvm = self._device.engine, self._device.nvm
        told = sorted((name, repr(value)) for name, value in shared.items() if kind.owns(name))
        mark = _mark(f"{kind.value}\n{told}")
        if engine.state is State.IDLE and nvm.get(_NAMESPACE, kind.value) != mark:
            nvm.set(_NAMESPACE, _LAST, mark + kind.value.encode())
            engine.fail(Outcome.UNSUPPORTED_PACKAGE, problem)

    def _had(self, offer: Offer) -> bool:
        """It was tried before, or it is what runs."""
        if self._device.nvm.get(_NAMESPACE, offer.kind.value) == _mark(offer.identity):
            return True
        running = self._device.running
        return (
            running is not None
            and offer.version == str(running.version)
            and offer.title == self._running_title()
        )

    def _running_title(self) -> str:
        stored = self._device.nvm.get(_NAMESPACE, "title")
        return self._title if stored is None else stored.decode(errors="replace")

    def _last_kind(self) -> Kind:
        """Of the package that was begun last, in this life or a former one."""
        last = self._device.nvm.get(_NAMESPACE, _LAST)
        return Kind.FIRMWARE if last is None else Kind(last[_MARK : _MARK + _KIND].decode())

    def _remember_tried(self) -> None:
        nvm = self._device.nvm
        last = nvm.get(_NAMESPACE, _LAST)
        if last is not None:
            kind, mark = last[_MARK : _MARK + _KIND].decode(), last[:_MARK]
            if nvm.get(_NAMESPACE, kind) != mark:
                nvm.set(_NAMESPACE, kind, mark)

    def _remember_success(self) -> None:
        last = self._device.nvm.get(_NAMESPACE, _LAST)
        if last is not None:
            self._device.nvm.set(_NAMESPACE, "title", last[_MARK + _KIND :])

    def _current(self) -> dict[str, object]:
        running = self._device.running
        version = "" if running is None else str(running.version)
        title = self._running_title()
        return {"current_fw_title": title, "current_fw_version": version}

    def _report(self, state: State, outcome: Outcome | None, detail: str) -> None:
        misbehave = self._misbehave
        if Misbehaviour.NEVER_REPORT in misbehave:
            return
        said = words(state, outcome)
        if outcome is not None and outcome is not Outcome.DEFERRED:
            if Misbehaviour.FALSE_SUCCESS in misbehave:
                said = (UPDATED,)
            elif Misbehaviour.FALSE_FAILURE in misbehave:
                said = (FAILED,)
        if Misbehaviour.OUT_OF_ORDER in misbehave:
            said = said[::-1]
        prefix = self._last_kind().value
        for word in said:
            values: dict[str, object] = {f"{prefix}_state": word}
            if word == FAILED:
                text = ERRORS.get(outcome, "") if outcome is not None else ""
                values[f"{prefix}_error"] = f"{text}: {detail}" if detail else text
            if word in (UPDATED, FAILED):
                values = {**self._current(), **values}
            action = Telemetry(values, final=word in (UPDATED, FAILED))
            self.outbox.append(action)
            if Misbehaviour.DUPLICATE_REPORT in misbehave:
                self.outbox.append(action)


def _uri(offer: Offer) -> str:
    """The engine's name for a package that has no URL of its own."""
    if offer.url:
        return resume_key(offer.url)
    return f"thingsboard:{offer.kind.value}/{_mark(offer.identity).hex()}"


def _mark(text: str) -> bytes:
    """What stands for a long text in `nvm`."""
    return hashlib.sha256(text.encode()).digest()


def decode_object(payload: bytes) -> dict[str, object] | None:
    """A JSON object, or None for anything else."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
