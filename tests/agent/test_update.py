from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.bootloader import BootReport, SwapType
from agent.errors import LocalMisuse, StoreError
from agent.flash import CutMode, PowerCut, PowerLoss
from agent.image_store import ImageStore
from agent.nvm import Nvm
from agent.outcome import Outcome
from agent.slot_store import Command, SlotStore, StoreSink
from agent.update import CHECKPOINT, TRANSITIONS, EngineEvent, Event, State, UpdateEngine
from agent.update_record import (
    Attempt,
    RecordCorrupt,
    decode_attempt,
    decode_progress,
    encode_progress,
)
from firmware_images.mcuboot import ImageInfo
from tests.agent.parts import Board, image, new_image, old_image


def in_state(state: State) -> Board:
    """A board that got into `state` the way a real one does."""
    board = Board()
    board.boot()
    if state is not State.IDLE:
        board.engine.begin(uri="coap://host/fw", etag=b"tag")
    if state > State.DOWNLOADING:
        assert board.download(new_image())
    if state > State.DOWNLOADED:
        board.engine.install()
    if state > State.INSTALLING:
        board.boot()
    assert board.engine.state is state
    board.events.clear()
    return board


CELLS = [(state, event) for state in State for event in Event]


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda cell: cell.name)
def test_every_cell_of_the_table(state: State, event: Event) -> None:
    board = in_state(state)
    engine = board.engine
    before = (engine.state, engine.outcome, engine.offset, board.flash.operations)
    new = TRANSITIONS[state].get(event)
    if new is None:
        with pytest.raises(LocalMisuse, match=state.name):
            engine._move(event, Outcome.SUCCESS)
        after = (engine.state, engine.outcome, engine.offset, board.flash.operations)
        assert after == before
        assert board.events == []
    else:
        engine._move(event, Outcome.DEFERRED)
        assert engine.state is new
        assert board.events == [EngineEvent(state, new, event.value, Outcome.DEFERRED)]
        assert decode_attempt(board.nvm.get("update", "attempt") or b"").state == new


CALLS: dict[Event, Callable[[UpdateEngine], object]] = {
    Event.BEGIN: lambda engine: engine.begin(uri="coap://other"),
    Event.BLOCK: lambda engine: engine.receive(b"x" * 16),
    Event.VERIFIED: lambda engine: engine.complete(),
    Event.FAIL: lambda engine: engine.fail(Outcome.CONNECTION_LOST),
    Event.CANCEL: lambda engine: engine.cancel(),
    Event.DEFER: lambda engine: engine.defer(),
    Event.INSTALL: lambda engine: engine.install(),
    Event.CONFIRMED: lambda engine: engine.confirm(),
}


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.name)
@pytest.mark.parametrize("event", list(CALLS), ids=lambda event: event.name)
def test_a_call_without_a_cell_changes_nothing(state: State, event: Event) -> None:
    board = in_state(state)
    engine = board.engine
    before = (engine.state, engine.outcome, engine.offset, engine.uri, board.flash.operations)
    if event in TRANSITIONS[state]:
        CALLS[event](engine)
    else:
        with pytest.raises(LocalMisuse):
            CALLS[event](engine)
        after = (engine.state, engine.outcome, engine.offset, engine.uri, board.flash.operations)
        assert after == before
        assert engine.pending == 0


def test_the_story_of_a_success() -> None:
    board = in_state(State.IDLE)
    assert board.download(new_image(), block=64)
    board.engine.install()
    board.boot()
    board.engine.confirm()
    assert [(e.old.name, e.new.name, e.cause) for e in board.events] == [
        ("IDLE", "DOWNLOADING", "begin"),
        ("DOWNLOADING", "DOWNLOADED", "verified"),
        ("DOWNLOADED", "INSTALLING", "install"),
        ("INSTALLING", "TRIAL", "boot, trial"),
        ("TRIAL", "IDLE", "confirmed"),
    ]
    assert board.engine.report_pending
    assert board.engine.package_version == "2.0.0"
    board.boot()
    assert board.engine.report_pending and board.engine.outcome is Outcome.SUCCESS
    board.engine.reported()
    board.boot()
    assert not board.engine.report_pending and board.engine.outcome is Outcome.SUCCESS


def test_everything_survives_a_reboot() -> None:
    board = Board(slot_size=256 * 1024)
    board.boot()
    board.engine.begin(uri="coap://host/fw", total_size=150_000)
    assert board.engine.describe(etag=b"\x01\x02")
    package = image(2, 150_000, 2)
    for start in range(0, 100_000, 1000):
        assert board.engine.receive(package[start : start + 1000])
    board.boot()
    engine = board.engine
    assert engine.resumable
    assert (engine.offset, engine.etag, engine.uri) == (CHECKPOINT, b"\x01\x02", "coap://host/fw")
    assert engine.total_size == 150_000
    assert board.download(package)
    assert engine.begin is not None and engine.state is State.DOWNLOADED
    board.boot()
    assert board.engine.state is State.DOWNLOADED
    board.engine.install()
    assert board.boot().trial


def test_progress_of_an_earlier_attempt_does_not_count() -> None:
    board = Board(slot_size=256 * 1024)
    package = image(2, 150_000, 2)
    board.engine.begin(uri="coap://host/fw")
    for start in range(0, 70 * 1024, 1024):
        board.engine.receive(package[start : start + 1024])
    board.engine.begin(uri="coap://host/fw")
    board.engine.receive(package[:1024])
    board.boot()
    assert board.engine.resumable and board.engine.offset == 0
    assert board.download(package)


def test_cancel_deletes_the_image_and_forgets_the_attempt() -> None:
    board = in_state(State.DOWNLOADED)
    board.engine.cancel(Outcome.CANCELLED)
    engine = board.engine
    assert (engine.state, engine.outcome, engine.offset) == (State.IDLE, Outcome.CANCELLED, 0)
    assert engine.uri == "" and board.flash.is_blank(1)
    engine.cancel()
    assert engine.outcome is None


def test_refused_before_it_began() -> None:
    board = in_state(State.IDLE)
    board.engine.fail(Outcome.UNSUPPORTED_PROTOCOL)
    assert (board.engine.state, board.engine.outcome) == (
        State.IDLE,
        Outcome.UNSUPPORTED_PROTOCOL,
    )
    assert not board.engine.begin(uri="coap://h/" + "x" * 2000)
    assert board.engine.outcome is Outcome.BAD_URI
    with pytest.raises(ValueError, match="ETag"):
        board.engine.begin(etag=bytes(300))


def test_deferred_stays_downloaded() -> None:
    board = in_state(State.DOWNLOADED)
    board.engine.defer()
    assert (board.engine.state, board.engine.outcome) == (State.DOWNLOADED, Outcome.DEFERRED)
    board.engine.install()
    assert board.engine.outcome is None


class SlowStore:
    """A slot store that answers when told: a board on the other end of a wire."""

    capacity = 1 << 16

    def __init__(self, inner: SlotStore) -> None:
        self.inner = inner
        self.sink: StoreSink | None = None
        self.asked: list[tuple[Command, tuple[object, ...]]] = []

    def verify(self, length: int) -> ImageInfo:
        return self.inner.verify(length)

    def erase(self, keep: int = 0) -> None:
        self.asked.append((Command.ERASE, (keep,)))

    def write(self, offset: int, data: bytes, last: bool = False) -> None:
        self.asked.append((Command.WRITE, (offset, data, last)))

    def mark_for_test(self) -> None:
        self.asked.append((Command.MARK_FOR_TEST, ()))

    def reboot(self) -> None:
        self.asked.append((Command.REBOOT, ()))

    def read_running(self) -> None:
        self.asked.append((Command.READ_RUNNING, ()))

    def confirm(self) -> None:
        self.asked.append((Command.CONFIRM, ()))

    def answer(self, error: StoreError | None = None) -> None:
        """Carry out what was asked, and tell the engine."""
        asked, self.asked = self.asked, []
        for command, arguments in asked:
            if error is None:
                getattr(self.inner, command.name.lower())(*arguments)
            assert self.sink is not None
            self.sink.store_done(command, error)


class Wired:
    """An engine on a `SlowStore`."""

    def __init__(self) -> None:
        self.board = Board()
        self.waits = 0
        self.board.store.sink = None
        self.store = SlowStore(self.board.store)
        self.engine = UpdateEngine(
            self.store, self.board.nvm, self.board.events.append, waits=self.waited
        )
        self.board.store.sink = None

    def waited(self) -> None:
        self.waits += 1

    def downloaded(self) -> UpdateEngine:
        self.engine.begin()
        for start in range(0, len(new_image()), 1024):
            assert self.engine.receive(new_image()[start : start + 1024])
        assert self.engine.complete()
        assert self.engine.state is State.DOWNLOADING
        self.store.answer()
        return self.engine


def test_a_store_that_answers_later() -> None:
    wired = Wired()
    engine = wired.downloaded()
    assert wired.waits > 0 and engine.pending == 0
    assert engine.state is State.DOWNLOADED
    engine.install()
    wired.store.answer()
    assert wired.store.asked == [(Command.REBOOT, ())] and wired.board.reboots == 0
    wired.store.answer()
    assert wired.board.reboots == 1 and engine.pending == 0


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("when", ["download", "install"])
def test_a_store_that_fails_or_never_answers(silent: bool, when: str) -> None:
    wired = Wired()
    engine = wired.engine
    if when == "install":
        wired.downloaded().install()
    else:
        engine.begin()
    if silent:
        engine.store_silent()
        engine.store_silent()
    else:
        wired.store.answer(StoreError("the probe is gone"))
    expected = State.DOWNLOADED if when == "install" else State.IDLE
    assert (engine.state, engine.outcome) == (expected, Outcome.INSTALL_FAILED)
    assert ("does not answer" if silent else "probe is gone") in wired.board.events[-1].detail


def test_a_trial_whose_confirmation_fails_stays_on_trial() -> None:
    wired = Wired()
    wired.downloaded().install()
    wired.store.answer()
    report = wired.board.reset()
    wired.engine.booted(report)
    wired.engine.confirm()
    wired.store.answer(StoreError("no"))
    assert (wired.engine.state, wired.engine.outcome) == (State.TRIAL, None)


def test_the_store_reads_what_runs() -> None:
    board = Board()
    seen: list[tuple[Command, StoreError | None, ImageInfo | None]] = []

    class Sink:
        def store_done(
            self,
            command: Command,
            error: StoreError | None = None,
            info: ImageInfo | None = None,
        ) -> None:
            seen.append((command, error, info))

    board.store.sink = Sink()
    board.store.read_running()
    board.flash.damage(0, 1)
    board.store.read_running()
    board.store.erase(100)
    command, error, info = seen[0]
    assert command is Command.READ_RUNNING and error is None
    assert info is not None and info.version.major == 1
    assert isinstance(seen[1][1], StoreError) and isinstance(seen[2][1], StoreError)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_corrupt(data: bytes) -> None:
    for decode in (decode_attempt, decode_progress):
        try:
            decode(data)
        except RecordCorrupt as error:
            assert str(error)  # noqa: PT017


texts = st.text(max_size=40)


@given(
    st.integers(0, 4),
    st.none() | st.sampled_from(Outcome),
    st.none() | st.integers(0, 1 << 30),
    texts,
    st.binary(max_size=32),
    texts,
)
def test_attempts_survive_their_encoding(
    state: int, outcome: Outcome | None, size: int | None, text: str, raw: bytes, name: str
) -> None:
    attempt = Attempt(state, outcome, True, 9, 1234, size, text, raw, name, name, raw)
    assert decode_attempt(attempt.encode()) == attempt
    assert decode_progress(encode_progress(7, 65536)) == (7, 65536)


def test_a_foreign_record_is_an_idle_engine() -> None:
    board = Board()
    for junk in (b"", b"\x07" * 30, Attempt(state=9).encode()):
        board.nvm.set("update", "attempt", junk)
        board.boot()
        assert (board.engine.state, board.engine.outcome) == (State.IDLE, None)
    board.engine.begin(uri="coap://x")
    board.nvm.set("update", "progress", b"?")
    board.boot()
    assert board.engine.offset == 0


class EngineMachine(RuleBasedStateMachine):
    """Random walks through the engine, with reboots and power cuts anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board(images=SHARED)
        self.board.boot()
        self.counter = 1

    def guarded(self, call: Callable[[], object], at: int, mode: CutMode) -> None:
        """`call`, with the power going away at flash operation `at` (0: not at all)."""
        if at:
            self.board.flash.arm(at, PowerCut(mode, at))
        try:
            call()
        except LocalMisuse:
            pass
        except PowerLoss:
            self.board.boot()
        self.board.flash.disarm()

    cuts = st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8, 20, 50])
    modes = st.sampled_from(CutMode)

    @rule(pull=st.booleans(), at=cuts, mode=modes)
    def begin(self, pull: bool, at: int, mode: CutMode) -> None:
        uri = "coap://host/fw" if pull else ""
        self.guarded(lambda: self.board.engine.begin(uri=uri), at, mode)

    @rule(major=st.sampled_from([1, 2, 3]), block=st.sampled_from([512, 1024, 700]))
    @precondition(lambda self: self.board.engine.state is State.DOWNLOADING)
    def blocks(self, major: int, block: int) -> None:
        engine = self.board.engine
        package = (old_image(), new_image(), image(3, 4000, 2))[major - 1]
        while engine.offset < len(package):
            if not engine.receive(package[engine.offset : engine.offset + block]):
                break

    @rule(at=cuts, mode=modes)
    def complete(self, at: int, mode: CutMode) -> None:
        self.guarded(self.board.engine.complete, at, mode)

    @rule(at=cuts, mode=modes)
    def install(self, at: int, mode: CutMode) -> None:
        self.guarded(self.board.engine.install, at, mode)

    @rule(at=cuts, mode=modes)
    def confirm(self, at: int, mode: CutMode) -> None:
        self.guarded(self.board.engine.confirm, at, mode)

    @rule(at=cuts, mode=modes)
    def cancel(self, at: int, mode: CutMode) -> None:
        self.guarded(self.board.engine.cancel, at, mode)

    @rule(at=cuts, mode=modes)
    def boot(self, at: int, mode: CutMode) -> None:
        self.guarded(self.board.boot, at, mode)

    @invariant()
    def holds(self) -> None:
        board = self.board
        assert board.engine.pending == 0
        assert board.bootloader.running() is not None
        counter = board.bootloader.security_counter()
        assert counter >= self.counter
        self.counter = counter
        stored = Nvm(board.flash).get("update", "attempt")
        if stored is not None:
            assert decode_attempt(stored).state == board.engine.state


SHARED = ImageStore()
TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_reports_of_a_boot_in_all_its_forms() -> None:
    """A report that an engine in TRIAL cannot have caused is judged by the flash."""
    board = in_state(State.TRIAL)
    info = board.bootloader.running()
    report = BootReport(SwapType.NONE, False, info, False, None, SwapType.REVERT)
    board.engine.booted(report)
    assert board.engine.outcome is Outcome.REVERTED
