"""Exhaustive power cuts: at every flash operation of an update, before it, after it and within it.

What must hold, whatever the point of the cut: the device always boots a valid image, old or new and
never mixed; the security counter never goes down and never passes an unconfirmed image; what the
engine reports agrees with the flash; and all of it within a few boots. The last tests are the
counter-check: deliberately wrong agents, which these sweeps must catch.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent.bootloader import Bootloader
from agent.flash import PRIMARY, SECONDARY, SECTOR_SIZE, CutMode, PowerCut, PowerLoss, Snapshot
from agent.image_store import ImageStore
from agent.outcome import Outcome
from agent.trailer import COPY_DONE, SwapType, write_flag
from agent.update import CHECKPOINT, Event, State, UpdateEngine
from tests.agent.parts import Board, image, new_image, old_image

MAX_BOOTS = 4  # after the power is back: finish or begin a swap, revert it, and one to be sure

Story = Callable[[Board], None]


def healthy(board: Board) -> None:
    """Install, boot, confirm when on trial."""
    if board.engine.state is State.DOWNLOADED:
        board.engine.install()
        board.boot()
    if board.engine.state is State.TRIAL:
        board.engine.confirm()


def unhealthy(board: Board) -> None:
    """Install; the new image never comes up, so nobody confirms it."""
    board.engine.install()
    board.reset()
    board.boot()


class Sweep:
    """One story, from one starting point, cut wherever it can be cut."""

    def __init__(self, story: Story, board_class: type[Board] = Board, start: bytes = b"") -> None:
        self.story = story
        self.confirms = story is healthy
        self.board = board_class(images=ImageStore())
        self.board.boot()
        assert self.board.download(start or new_image())
        self.start: Snapshot = self.board.flash.snapshot()
        self.old = self.board.running_digest()
        self.new = self.board.engine._digest
        self.operations = self.uncut()
        self.points = 0
        self.failures: list[str] = []

    def uncut(self) -> int:
        board = self.fresh()
        before = board.flash.operations
        self.story(board)
        return board.flash.operations - before

    def fresh(self) -> Board:
        self.board.flash.restore(self.start)
        self.board.boot()
        return self.board

    def run(self, modes: tuple[CutMode, ...] = tuple(CutMode)) -> list[str]:
        for mode in modes:
            for operation in range(1, self.operations + 1):
                self.cut([(operation, mode)])
        return self.failures

    def cut(self, cuts: list[tuple[int, CutMode]]) -> None:
        """The story with the first cut; each later one falls into the recovery before it."""
        self.points += 1
        try:
            self._cut(cuts)
        except Exception as error:  # every way to fail is a finding of the sweep
            self.failures.append(f"{cuts}: {type(error).__name__}: {error}")

    def _cut(self, cuts: list[tuple[int, CutMode]]) -> None:
        board = self.fresh()
        counter = board.bootloader.security_counter()
        reported: set[Outcome] = set()
        story = self.story
        for seed, (operation, mode) in enumerate(cuts):
            board.flash.arm(operation, PowerCut(mode, operation * 31 + seed))
            board.events.clear()
            try:
                story(board)
            except PowerLoss:
                reported |= {e.outcome for e in board.events if e.outcome is not None}
            story = self.recover
        board.flash.disarm()
        for _ in range(MAX_BOOTS):
            self.recover(board)
            assert board.bootloader.security_counter() >= counter, "the counter went down"
            counter = board.bootloader.security_counter()
        self.check(board, counter, reported)

    def recover(self, board: Board) -> None:
        report = board.reset()
        assert report.running is not None, f"nothing to boot: {report.refused}"
        assert report.running.digest in (self.old, self.new)
        if report.trial:
            assert report.running.digest == self.new, "the old image is on trial"
            if not self.confirms:
                return  # the image does not come up
        board.engine.booted(report)
        if board.engine.state is State.TRIAL:
            board.engine.confirm()

    def check(self, board: Board, counter: int, reported: set[Outcome]) -> None:
        state, outcome = board.engine.state, board.engine.outcome
        running = board.running_digest()
        assert not board.reset().trial, "still on trial"
        if (state, outcome) == (State.IDLE, Outcome.SUCCESS):
            assert running == self.new and counter == 2, "success without the new image"
            assert self.confirms, "a success that nobody confirmed"
        else:
            assert state is State.DOWNLOADED
            assert outcome in (None, Outcome.REVERTED, Outcome.INSTALL_FAILED)
            assert running == self.old and counter == 1, "failure with the new image"
            assert Outcome.SUCCESS not in reported, "a success was reported before"
            # The image was kept: nothing of it may have changed, and it installs after all.
            assert board.bootloader.check_candidate(len(new_image())).digest == self.new
            board.boot()
            healthy(board)
            assert board.engine.outcome is Outcome.SUCCESS, "the image cannot be installed again"
        size = len(old_image())
        assert board.flash.read(SECONDARY, 0, size) == old_image() or running == self.old


@pytest.mark.parametrize("mode", list(CutMode))
@pytest.mark.parametrize("story", [healthy, unhealthy])
def test_one_cut_anywhere(story: Story, mode: CutMode) -> None:
    sweep = Sweep(story)
    assert sweep.operations > 60
    assert sweep.run((mode,)) == []
    assert sweep.points == sweep.operations


@pytest.mark.parametrize("story", [healthy, unhealthy])
def test_two_and_three_cuts_sampled(story: Story) -> None:
    sweep = Sweep(story)
    draw = random.Random(5)
    modes = tuple(CutMode)
    for _ in range(250):
        cuts = [(draw.randint(1, sweep.operations), draw.choice(modes))]
        cuts += [(draw.randint(1, 40), draw.choice(modes)) for _ in range(draw.randint(1, 2))]
        sweep.cut(cuts)
    assert sweep.failures == []


@pytest.mark.parametrize("mode", list(CutMode))
def test_cut_anywhere_in_a_revert_that_follows_an_update(mode: CutMode) -> None:
    """The trailers are not blank any more: they tell of an earlier swap."""
    board = Board(images=ImageStore(), factory=image(1, 9000, 1))
    board.boot()
    assert board.download(image(5, 11000, 1))
    healthy(board)
    assert board.engine.outcome is Outcome.SUCCESS
    assert board.download(image(6, 16000, 1))
    old, new = board.running_digest(), board.engine._digest
    start = board.flash.snapshot()
    unhealthy(board)
    total = board.flash.operations
    for operation in range(1, total - start[1] + 1):
        board.flash.restore(start)
        board.boot()
        board.flash.arm(operation, PowerCut(mode, operation))
        with pytest.raises(PowerLoss):
            unhealthy(board)
        for _ in range(MAX_BOOTS):
            report = board.reset()
            assert report.running is not None
            assert report.running.digest in (old, new)
            if not report.trial:
                board.engine.booted(report)
        assert board.running_digest() == old
        assert board.engine.state is State.DOWNLOADED
        # None: the cut came before the install was on record.
        assert board.engine.outcome in (None, Outcome.REVERTED, Outcome.INSTALL_FAILED)
        assert board.engine.outcome is not None or operation == 1


@pytest.mark.parametrize("mode", list(CutMode))
def test_cut_anywhere_in_the_erasure_of_a_bad_image(mode: CutMode) -> None:
    board = Board(images=ImageStore())
    board.boot()
    board.download(new_image())
    board.engine.install()
    board.flash.damage(SECONDARY, 3, 3)
    start = board.flash.snapshot()
    board.boot()
    total = board.flash.operations - start[1]
    for operation in range(1, total + 1):
        board.flash.restore(start)
        board.flash.arm(operation, PowerCut(mode, operation))
        with pytest.raises(PowerLoss):
            board.boot()
        report = board.boot()
        assert report.running is not None and report.running.version.major == 1
        assert board.engine.state is State.DOWNLOADED
        assert board.engine.outcome in (Outcome.REVERTED, Outcome.INSTALL_FAILED)
        board.engine.cancel()
        assert board.download(new_image())
        healthy(board)
        assert board.engine.outcome is Outcome.SUCCESS


PACKAGE_SIZE = 150_000
DOWNLOAD_SLOT = 256 * 1024


@pytest.mark.parametrize("mode", list(CutMode))
@pytest.mark.parametrize("block", [1024, 700])
def test_a_cut_download_goes_on_where_the_flash_is_sure(mode: CutMode, block: int) -> None:
    package = image(2, PACKAGE_SIZE, 2)
    board = Board(images=ImageStore(), slot_size=DOWNLOAD_SLOT)
    board.boot()
    start = board.flash.snapshot()
    assert board.download(package, block=block)
    total = board.flash.operations - start[1]
    resumed = set()
    for operation in range(1, total + 1):
        board.flash.restore(start)
        board.boot()
        board.flash.arm(operation, PowerCut(mode, operation))
        with pytest.raises(PowerLoss):
            board.download(package, block=block)
        board.boot()
        engine = board.engine
        if engine.state is State.DOWNLOADING:
            assert engine.resumable and engine.uri == "coap://host/fw"
            assert engine.offset % CHECKPOINT == 0
            resumed.add(engine.offset)
        if engine.state is not State.DOWNLOADED:
            assert board.download(package, block=block), (operation, engine)
        assert engine.state is State.DOWNLOADED
        assert board.flash.read(SECONDARY, 0, len(package)) == package
    assert resumed == {0, CHECKPOINT, 2 * CHECKPOINT}


def test_a_pushed_download_is_lost_with_the_power() -> None:
    board = Board()
    board.engine.begin()
    board.engine.receive(bytes(1024))
    board.boot()
    assert (board.engine.state, board.engine.outcome) == (State.IDLE, Outcome.CONNECTION_LOST)


# --- the counter-check: these agents are wrong, and the sweeps must say so


class NoStatusLog(Bootloader):
    """Begins an interrupted swap anew, because it did not write down how far it was."""

    def _swap(self, swap: SwapType, size: int) -> None:
        flash = self.flash
        count = -(-size // SECTOR_SIZE)
        for target in range(count, 0, -1):
            flash.erase(PRIMARY, target)
            flash.copy_sector(PRIMARY, target - 1, PRIMARY, target)
        for sector in range(count):
            flash.erase(PRIMARY, sector)
            flash.copy_sector(SECONDARY, sector, PRIMARY, sector)
            flash.erase(SECONDARY, sector)
            flash.copy_sector(PRIMARY, sector + 1, SECONDARY, sector)
        flash.erase(SECONDARY, flash.slot_size // SECTOR_SIZE - 1)
        write_flag(flash, PRIMARY, COPY_DONE)


class FlagBeforeData(Bootloader):
    """Says that the swap is done, then does it."""

    def _swap(self, swap: SwapType, size: int) -> None:
        write_flag(self.flash, PRIMARY, COPY_DONE)
        super()._swap(swap, size)


class SuccessBeforeConfirm(UpdateEngine):
    """Reports the success before the image is confirmed."""

    __slots__ = ()

    def confirm(self) -> None:
        self._move(Event.CONFIRMED, Outcome.SUCCESS)
        self._store.confirm()


class CounterBeforeConfirm(Bootloader):
    """Advances the security counter at the trial boot."""

    def confirm(self) -> None:
        self.store_counter(self.running().security_counter or 0)
        super().confirm()


@pytest.mark.parametrize(
    "wrong", [NoStatusLog, FlagBeforeData, CounterBeforeConfirm, SuccessBeforeConfirm]
)
def test_a_wrong_agent_is_caught(wrong: type) -> None:
    part = "engine_class" if issubclass(wrong, UpdateEngine) else "bootloader_class"
    board_class = type("WrongBoard", (Board,), {part: wrong})
    sweep = Sweep(healthy, board_class)
    assert sweep.run((CutMode.BEFORE,))
