"""The update engine: the one state machine behind every protocol's firmware update.

Theory of operation
===================

One attempt at a time goes through five states::

    IDLE          nothing under way; `outcome` tells how the last attempt ended
    DOWNLOADING   bytes arrive and are written to the secondary slot
    DOWNLOADED    the image is complete and verified by the application; it waits for `install`
    INSTALLING    marked for test; the device reboots, the bootloader verifies again and swaps
    TRIAL         the new image runs and must be confirmed, or the next boot reverts it

`TRANSITIONS` is the whole machine: a missing cell is our caller's mistake and raises `LocalMisuse`
with nothing changed. All changes go through `UpdateEngine._move`, which writes one record to `nvm`
and then calls the listener once. What an operation needs from the slot is a command of the
`SlotStore`; a command that fails, or is never answered, ends the attempt with INSTALL_FAILED.

Where an attempt ends follows the state machine of LwM2M's Firmware Update object (LwM2M 1.1, E.6),
which FUMO's (FUMO 1.0) can be mapped onto: a refused or lost package ends in IDLE, because there is
nothing to keep. A failed or reverted install ends in DOWNLOADED, because the image is still in the
slot and `install` may be tried again. If the bootloader erased the image the state is the same (the
application cannot tell until it looks), and the next `install` fails honestly with INSTALL_FAILED;
`keep_after_boot_failure=False` ends such attempts in IDLE and deletes the image.

Power may go away anywhere. The order of writes decides what a device finds after it:

* an attempt is recorded before its first byte is written, its progress after each 64 KiB is in
  flash. At boot a pulled download goes on at the recorded progress; a pushed one is lost;
* INSTALLING is recorded before the mark for test, the success after image_ok. What happened in
  between is told by the bootloader's report and the digest of what runs (`_judge`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from agent.bootloader import BootReport, SwapType
from agent.errors import LocalMisuse, StoreError
from agent.image_store import PAGE_SIZE
from agent.nvm import Nvm
from agent.outcome import Outcome
from agent.slot_store import Command, SlotStore
from agent.update_record import (
    URI_LIMIT,
    Attempt,
    RecordCorrupt,
    decode_attempt,
    decode_progress,
    encode_progress,
)
from agent.verification import OUTCOME_OF
from firmware_images.errors import ImageRefused
from firmware_images.mcuboot import ImageInfo

__all__ = [
    "CHECKPOINT",
    "TRANSITIONS",
    "EngineEvent",
    "Event",
    "LocalMisuse",
    "Outcome",
    "State",
    "UpdateEngine",
]

CHECKPOINT = 64 * 1024
"""Progress is recorded so often: a power cut costs at most this much of the download again, and
1 MiB costs 16 records, a fraction of an NVM sector. A multiple of the flash sector."""

_CHECKPOINT_MASK = CHECKPOINT - 1
_NAMESPACE = "update"
_SIZE_LIMIT = (1 << 32) - 1  # of what a record can hold; far above any slot


class State(enum.IntEnum):
    """Where an attempt stands; the numbers are stored in `nvm`, so they never change."""

    IDLE = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    INSTALLING = 3
    TRIAL = 4


class Event(enum.Enum):
    """What can happen to an attempt. The value is the cause in the journal."""

    BEGIN = "begin"
    BLOCK = "block"
    """Bytes arrive: checked against the table, and never recorded."""
    VERIFIED = "verified"
    REFUSED = "refused"
    """The package is complete and the application refuses it."""
    FAIL = "fail"
    """The transfer failed, or was refused before it began."""
    CANCEL = "cancel"
    DEFER = "defer"
    INSTALL = "install"
    STORE_FAILED = "store failed"
    CONFIRMED = "confirmed"
    BOOT = "boot"
    """A boot that has nothing to do with an install."""
    BOOT_RESUMABLE = "boot, resumable"
    BOOT_LOST = "boot, download lost"
    BOOT_TRIAL = "boot, trial"
    BOOT_KEPT = "boot, new image kept"
    BOOT_REVERTED = "boot, reverted"
    BOOT_REVERTED_DROP = "boot, reverted, image dropped"
    BOOT_UNCHANGED = "boot, not installed"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.IDLE: {
        Event.BEGIN: State.DOWNLOADING,
        Event.FAIL: State.IDLE,
        Event.CANCEL: State.IDLE,
        Event.BOOT: State.IDLE,
    },
    State.DOWNLOADING: {
        Event.BEGIN: State.DOWNLOADING,
        Event.BLOCK: State.DOWNLOADING,
        Event.VERIFIED: State.DOWNLOADED,
        Event.REFUSED: State.IDLE,
        Event.FAIL: State.IDLE,
        Event.CANCEL: State.IDLE,
        Event.STORE_FAILED: State.IDLE,
        Event.BOOT_RESUMABLE: State.DOWNLOADING,
        Event.BOOT_LOST: State.IDLE,
    },
    State.DOWNLOADED: {
        Event.CANCEL: State.IDLE,
        Event.DEFER: State.DOWNLOADED,
        Event.INSTALL: State.INSTALLING,
        Event.BOOT: State.DOWNLOADED,
    },
    State.INSTALLING: {
        Event.STORE_FAILED: State.DOWNLOADED,
        Event.BOOT_TRIAL: State.TRIAL,
        Event.BOOT_KEPT: State.IDLE,
        Event.BOOT_REVERTED: State.DOWNLOADED,
        Event.BOOT_REVERTED_DROP: State.IDLE,
        Event.BOOT_UNCHANGED: State.DOWNLOADED,
    },
    State.TRIAL: {
        Event.CONFIRMED: State.IDLE,
        Event.BOOT_TRIAL: State.TRIAL,
        Event.BOOT_KEPT: State.IDLE,
        Event.BOOT_REVERTED: State.DOWNLOADED,
        Event.BOOT_REVERTED_DROP: State.IDLE,
    },
}

_DOWNLOADING = State.DOWNLOADING
_FRESH = Attempt()


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """One change of the engine. `cause` is an `Event` value, with a detail where there is one."""

    old: State
    new: State
    cause: str
    outcome: Outcome | None
    detail: str = ""


class UpdateEngine:
    """The attempt of one device. Everything it knows can be read back from `nvm` at a boot."""

    __slots__ = (
        "_completing",
        "_digest",
        "_limit",
        "_nvm",
        "_pending",
        "_store",
        "attempt",
        "etag",
        "keep_after_boot_failure",
        "listener",
        "offset",
        "outcome",
        "package_name",
        "package_version",
        "report_pending",
        "state",
        "total_size",
        "uri",
        "waits",
    )

    def __init__(
        self,
        store: SlotStore,
        nvm: Nvm,
        listener: Callable[[EngineEvent], None],
        *,
        waits: Callable[[], None] | None = None,
        keep_after_boot_failure: bool = True,
    ) -> None:
        """`listener` gets each change; `waits` is called when a command of the slot store is left
        unanswered, so that somebody with a timer can call `store_silent` in the end."""
        self._store = store
        self._nvm = nvm
        self.listener = listener
        self.waits = waits
        self.keep_after_boot_failure = keep_after_boot_failure
        self._limit = store.capacity
        self.state: State
        self.outcome: Outcome | None
        self.report_pending: bool
        self.attempt: int
        self.offset: int
        self.total_size: int | None
        self.uri: str
        self.etag: bytes
        self.package_name: str
        self.package_version: str
        self._digest: bytes
        self._completing: bool
        self._pending: int
        self._set(_FRESH)
        store.sink = self

    def __repr__(self) -> str:
        outcome = f" {self.outcome.name}" if self.outcome is not None else ""
        return f"<UpdateEngine {self.state.name}{outcome} offset={self.offset}>"

    # --- what a protocol asks

    @property
    def capacity(self) -> int:
        """The largest package that can be installed."""
        return self._limit

    @property
    def pending(self) -> int:
        """Commands that the slot store has not answered yet."""
        return self._pending

    @property
    def resumable(self) -> bool:
        """The download can go on at `offset`, of the package that had `etag`, from `uri`."""
        return self.state is _DOWNLOADING and self.uri != ""

    # --- what a protocol does

    def begin(self, *, uri: str = "", etag: bytes = b"", total_size: int | None = None) -> bool:
        """Start a download, or start it again at its first byte. Without a URI it is a push.

        False when the attempt ended at once: the package cannot fit, or the URI cannot be kept."""
        if (
            self.state is _DOWNLOADING
            and not (uri or self.uri or etag or self.etag or self._pending)
            and total_size == self.total_size
            and self.offset < CHECKPOINT
        ):
            # A push that starts over before its first checkpoint: the record that stands in nvm
            # says the same, so only the slot has to be emptied.
            self.offset = 0
            return self._erase_slot()
        self._check(Event.BEGIN)
        if len(etag) > 255:
            raise ValueError(f"an ETag of {len(etag)} bytes")
        attempt = Attempt(
            state=_DOWNLOADING,
            number=(self.attempt + 1) & 0xFFFF,
            total_size=None if total_size is None else min(total_size, _SIZE_LIMIT - 1),
            uri=uri if len(uri.encode()) <= URI_LIMIT else "",
            etag=etag,
        )
        outcome = None
        if uri and not attempt.uri:
            outcome = Outcome.BAD_URI
        elif total_size is not None and total_size > self._limit:
            outcome = Outcome.NO_SPACE
        self._set(attempt, state=self.state)
        self._move(Event.BEGIN)
        if outcome is not None:
            self._move(Event.FAIL, outcome)
            return False
        return self._erase_slot()

    def _erase_slot(self) -> bool:
        self._pending += 1
        self._store.erase()
        self._issued()
        return self.state is _DOWNLOADING

    def describe(self, *, etag: bytes | None = None, total_size: int | None = None) -> bool:
        """What the first response told about a download that has begun. False as for `begin`."""
        self._check(Event.BLOCK)
        if etag is not None:
            self.etag = etag[:255]
        if total_size is not None:
            self.total_size = min(total_size, _SIZE_LIMIT - 1)
        self._save()
        if total_size is not None and total_size > self._limit:
            self._move(Event.FAIL, Outcome.NO_SPACE)
            return False
        return True

    def receive(self, data: bytes) -> bool:
        """The next bytes of the package. False when the attempt just ended, see `outcome`."""
        if self.state is not _DOWNLOADING:
            self._check(Event.BLOCK)
        offset = self.offset
        end = offset + len(data)
        if end > self._limit:
            self._move(Event.FAIL, Outcome.NO_SPACE)
            return False
        self._pending += 1
        self._store.write(offset, data)
        if self.state is not _DOWNLOADING:
            return False
        self.offset = end
        # Progress counts what is in flash: whole pages, up to the last checkpoint passed.
        if (offset ^ end) & ~_CHECKPOINT_MASK and not self._pending:
            self._nvm.set(
                _NAMESPACE, "progress", encode_progress(self.attempt, end & ~_CHECKPOINT_MASK)
            )
        return True

    def complete(self) -> bool:
        """The package is complete: verify it. False when it was refused, see `outcome`."""
        self._check(Event.VERIFIED)
        self._completing = True
        self._pending += 1
        self._store.write(self.offset, b"", True)
        self._issued()
        return self.state is not State.IDLE

    def fail(self, outcome: Outcome, detail: str = "") -> None:
        """The transfer failed for good, or was refused before it began."""
        self._check(Event.FAIL)
        if self.state is State.IDLE:
            self._set(Attempt(number=self.attempt))
        self._move(Event.FAIL, outcome, detail)

    def cancel(self, outcome: Outcome | None = None) -> None:
        """Back to IDLE; what was downloaded is deleted."""
        self._check(Event.CANCEL)
        had_image = self.state is not State.IDLE
        self._set(Attempt(number=self.attempt), state=self.state)
        self._move(Event.CANCEL, outcome)
        if had_image:
            self._pending += 1
            self._store.erase()
            self._issued()

    def defer(self) -> None:
        """The user or a window put the install off; the image stays."""
        self._move(Event.DEFER, Outcome.DEFERRED)

    def install(self) -> None:
        """Mark the image for test and ask for a reboot. Ends in DOWNLOADED with INSTALL_FAILED when
        the slot holds no image any more."""
        self._move(Event.INSTALL)
        self._pending += 1
        self._store.mark_for_test()
        self._issued()

    def confirm(self) -> None:
        """The new image is good: keep it. IDLE with SUCCESS once the slot store did it."""
        self._check(Event.CONFIRMED)
        self._pending += 1
        self._store.confirm()
        self._issued()

    def reported(self) -> None:
        """The outcome reached the server; it need not be reported again after a reboot."""
        if self.report_pending:
            self.report_pending = False
            self._save()

    # --- what the device and the store do

    def booted(self, report: BootReport) -> None:
        """Read everything back from `nvm` and judge what the boot means for the attempt."""
        try:
            stored = self._nvm.get(_NAMESPACE, "attempt")
            attempt = decode_attempt(stored) if stored is not None else _FRESH
            state = State(attempt.state)
        except (RecordCorrupt, ValueError):
            # Only a foreign or damaged record gets here: a torn one fails its CRC in `nvm`.
            attempt, state = _FRESH, State.IDLE
        self._set(attempt, state=state)
        event = self._judge(report)
        self._check(event)
        if event is Event.BOOT:
            return
        if event is Event.BOOT_RESUMABLE:
            self.offset = self._progress()
            self._move(event)
            self._pending += 1
            self._store.erase(self.offset)
            self._issued()
        elif event is Event.BOOT_TRIAL:
            if self.state is not State.TRIAL:
                self._move(event)
        elif event is Event.BOOT_KEPT:
            self._move(event, Outcome.SUCCESS)
        elif event is Event.BOOT_LOST:
            self._move(event, Outcome.CONNECTION_LOST)
        elif event is Event.BOOT_UNCHANGED:
            self._move(event, Outcome.INSTALL_FAILED)
        else:
            detail = str(report.refused) if report.refused is not None else ""
            self._move(event, Outcome.REVERTED, detail)
            if event is Event.BOOT_REVERTED_DROP:
                self._pending += 1
                self._store.erase()
                self._issued()

    def store_done(
        self, command: Command, error: StoreError | None = None, info: ImageInfo | None = None
    ) -> None:
        """Completion event of the slot store."""
        self._pending -= 1
        if error is not None:
            self._store_failed(f"{command.value}: {error}")
        elif command is Command.WRITE:
            if self._completing and self._pending == 0 and self.state is _DOWNLOADING:
                self._completing = False
                self._verify()
        elif command is Command.MARK_FOR_TEST:
            if self.state is State.INSTALLING:
                self._pending += 1
                self._store.reboot()
                self._issued()
        elif command is Command.CONFIRM and self.state is State.TRIAL:
            self._move(Event.CONFIRMED, Outcome.SUCCESS)

    def store_silent(self) -> None:
        """The device waited long enough for the slot store: what is unanswered has failed."""
        if self._pending:
            self._pending = 0
            self._store_failed("the slot store does not answer")

    # --- internals

    def _check(self, event: Event) -> State:
        new = TRANSITIONS[self.state].get(event)
        if new is None:
            raise LocalMisuse(f"update engine: {event.value!r} in state {self.state.name}")
        return new

    def _move(self, event: Event, outcome: Outcome | None = None, detail: str = "") -> None:
        """The only way to another state or outcome: one record, one event."""
        new = self._check(event)
        old = self.state
        self.state = new
        self.outcome = outcome
        self.report_pending = outcome is not None
        if new is State.IDLE:
            self._completing = False
        self._save()
        self.listener(EngineEvent(old, new, event.value, outcome, detail))

    def _set(self, attempt: Attempt, state: State = State.IDLE) -> None:
        """Take over what a record holds, except for the state that `_move` gives."""
        self.state = state
        self.outcome = attempt.outcome
        self.report_pending = attempt.report_pending
        self.attempt = attempt.number
        self.offset = attempt.offset
        self.total_size = attempt.total_size
        self.uri = attempt.uri
        self.etag = attempt.etag
        self.package_name = attempt.package_name
        self.package_version = attempt.package_version
        self._digest = attempt.digest
        self._completing = False
        self._pending = 0

    def _save(self) -> None:
        # A download's offset is the business of the progress record.
        attempt = Attempt(
            state=self.state,
            outcome=self.outcome,
            report_pending=self.report_pending,
            number=self.attempt,
            offset=0 if self.state is _DOWNLOADING else self.offset,
            total_size=self.total_size,
            uri=self.uri,
            etag=self.etag,
            package_name=self.package_name,
            package_version=self.package_version,
            digest=self._digest,
        )
        self._nvm.set(_NAMESPACE, "attempt", attempt.encode())

    def _progress(self) -> int:
        stored = self._nvm.get(_NAMESPACE, "progress")
        if stored is None:
            return 0
        try:
            number, offset = decode_progress(stored)
        except RecordCorrupt:
            return 0
        return offset if number == self.attempt and offset <= self._limit else 0

    def _issued(self) -> None:
        if self._pending and self.waits is not None:
            self.waits()

    def _store_failed(self, detail: str) -> None:
        """A store that fails outside an install or download has nothing left to end."""
        if Event.STORE_FAILED in TRANSITIONS[self.state]:
            self._move(Event.STORE_FAILED, Outcome.INSTALL_FAILED, detail)

    def _verify(self) -> None:
        try:
            info = self._store.verify(self.offset)
        except ImageRefused as refused:
            self._move(Event.REFUSED, OUTCOME_OF[refused.reason], str(refused))
            return
        self._digest = info.digest
        self.package_version = str(info.version)
        self._move(Event.VERIFIED)

    def _judge(self, report: BootReport) -> Event:
        """What this boot was for the attempt that is stored."""
        if self.state is State.IDLE or self.state is State.DOWNLOADED:
            return Event.BOOT
        if self.state is _DOWNLOADING:
            return Event.BOOT_RESUMABLE if self.uri else Event.BOOT_LOST
        reverted = Event.BOOT_REVERTED if self.keep_after_boot_failure else Event.BOOT_REVERTED_DROP
        if report.trial:
            return Event.BOOT_TRIAL
        swapped_back = (SwapType.REVERT, SwapType.PERM)
        if report.swap in swapped_back:
            return reverted
        running = report.running
        if (
            running is not None
            and running.digest == self._digest
            and report.last_swap is SwapType.TEST
        ):
            # Permanent although no success was recorded: the cut came after image_ok, or there was
            # nothing valid left to go back to. Either way it is what this device runs.
            return Event.BOOT_KEPT
        if (
            report.swap is SwapType.FAIL
            or report.last_swap in swapped_back
            or self.state is State.TRIAL
        ):
            return reverted
        return Event.BOOT_UNCHANGED


assert CHECKPOINT % PAGE_SIZE == 0
