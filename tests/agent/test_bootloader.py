from __future__ import annotations

import itertools

import pytest

from agent.bootloader import DECISIONS, Policy, SwapType, decide
from agent.flash import PRIMARY, SECONDARY, SECTOR_SIZE
from agent.image_store import ImageStore
from agent.outcome import Outcome
from agent.trailer import (
    COPY_DONE,
    IMAGE_OK,
    MAGIC,
    Flag,
    Magic,
    Trailer,
    capacity,
    read_trailer,
    trailer_sectors,
    write_flag,
    write_magic,
    write_swap,
)
from agent.update import State
from tests.agent.parts import SLOT, Board, image, new_image, old_image


def trailer(magic: Magic, image_ok: Flag = Flag.UNSET, copied: Flag = Flag.UNSET) -> Trailer:
    return Trailer(magic, image_ok, copied, SwapType.NONE, 0)


def expected(primary: Trailer, secondary: Trailer) -> SwapType:
    """The decision in words, written apart from the table."""
    if secondary.magic is Magic.GOOD:
        if secondary.image_ok is Flag.UNSET:
            return SwapType.TEST
        if secondary.image_ok is Flag.SET:
            return SwapType.PERM
    unconfirmed = (
        primary.magic is Magic.GOOD
        and primary.copy_done is Flag.SET
        and primary.image_ok is Flag.UNSET
    )
    if unconfirmed and secondary.magic is not Magic.GOOD:
        return SwapType.REVERT
    return SwapType.NONE


def test_every_combination_of_two_trailers() -> None:
    every = [trailer(m, o, c) for m, o, c in itertools.product(Magic, Flag, Flag)]
    for primary, secondary in itertools.product(every, every):
        assert decide(primary, secondary) is expected(primary, secondary)
    assert len(DECISIONS) == 4


def test_the_trailer_stands_where_mcuboot_has_it() -> None:
    flash = Board().flash
    write_magic(flash, SECONDARY)
    write_flag(flash, SECONDARY, IMAGE_OK)
    write_flag(flash, SECONDARY, COPY_DONE)
    write_swap(flash, SECONDARY, SwapType.TEST, 0x1234)
    raw = flash.read(SECONDARY, SLOT - 48, 48)
    assert raw[-16:] == MAGIC == bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
    assert (raw[-24], raw[-32], raw[-40]) == (1, 1, 2)
    assert raw[:4] == b"\x34\x12\x00\x00"
    assert read_trailer(flash, SECONDARY) == Trailer(
        Magic.GOOD, Flag.SET, Flag.SET, SwapType.TEST, 0x1234
    )


@pytest.mark.parametrize("sectors", [8, 16, 64, 256, 1024])
def test_capacity_leaves_room_for_the_log_and_the_move(sectors: int) -> None:
    size = sectors * SECTOR_SIZE
    assert trailer_sectors(size) * SECTOR_SIZE >= 48 + 24 * sectors
    assert capacity(size) == size - (trailer_sectors(size) + 1) * SECTOR_SIZE


def test_a_slot_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        capacity(2 * SECTOR_SIZE)


def installed(**options: object) -> Board:
    board = Board(**options)  # type: ignore[arg-type]
    board.boot()
    assert board.download(new_image())
    board.engine.install()
    assert board.reboots == 1
    return board


def test_trial_confirm_and_every_byte_in_place() -> None:
    board = installed()
    report = board.boot()
    assert (report.swap, report.trial, report.resumed) == (SwapType.TEST, True, False)
    assert board.flash.read(PRIMARY, 0, len(new_image())) == new_image()
    assert board.flash.read(SECONDARY, 0, len(old_image())) == old_image()
    assert board.bootloader.security_counter() == 1
    board.engine.confirm()
    assert board.bootloader.security_counter() == 2
    assert (board.engine.state, board.engine.outcome) == (State.IDLE, Outcome.SUCCESS)
    report = board.boot()
    assert (report.swap, report.trial) == (SwapType.NONE, False)
    assert report.running is not None and report.running.version.major == 2


def test_without_confirmation_the_next_boot_reverts() -> None:
    board = installed()
    board.boot()
    report = board.boot()
    assert (report.swap, report.trial) == (SwapType.REVERT, False)
    assert board.flash.read(PRIMARY, 0, len(old_image())) == old_image()
    assert board.flash.read(SECONDARY, 0, len(new_image())) == new_image()
    assert (board.engine.state, board.engine.outcome) == (State.DOWNLOADED, Outcome.REVERTED)
    assert board.bootloader.security_counter() == 1
    board.engine.install()
    assert board.boot().trial
    board.engine.confirm()
    assert board.engine.outcome is Outcome.SUCCESS


def test_an_image_damaged_after_verification_is_erased_and_never_tried_again() -> None:
    board = installed()
    board.flash.damage(SECONDARY, 2, 5)
    report = board.boot()
    assert report.swap is SwapType.FAIL and report.refused is not None
    assert board.flash.is_blank(SECONDARY)
    assert read_trailer(board.flash, PRIMARY).image_ok is Flag.SET
    assert (board.engine.state, board.engine.outcome) == (State.DOWNLOADED, Outcome.REVERTED)
    board.engine.install()
    assert (board.engine.state, board.engine.outcome) == (State.DOWNLOADED, Outcome.INSTALL_FAILED)
    assert "empty" in board.events[-1].detail
    board.engine.cancel()
    assert board.download(new_image())
    board.engine.install()
    assert board.boot().trial


def test_policy_to_drop_the_image_after_a_failed_boot() -> None:
    board = installed(keep=False)
    board.boot()
    board.boot()
    assert (board.engine.state, board.engine.outcome) == (State.IDLE, Outcome.REVERTED)
    assert board.flash.is_blank(SECONDARY)


def test_the_counter_follows_only_a_confirmed_image() -> None:
    board = installed()
    board.boot()
    board.engine.confirm()
    assert not board.download(image(1, 9000, 1))
    assert board.engine.outcome is Outcome.DOWNGRADE
    assert board.download(image(3, 9000, 2))


def test_a_factory_image_sets_the_floor() -> None:
    board = Board(factory=image(1, 9000, 7))
    assert board.bootloader.security_counter() == 7
    assert board.flash.operations == 0
    assert not board.download(new_image())
    assert board.engine.outcome is Outcome.DOWNGRADE


def test_a_revert_is_not_a_downgrade() -> None:
    board = installed(policy=Policy(prevent_downgrade=True))
    board.boot()
    assert board.boot().swap is SwapType.REVERT


def test_nothing_to_go_back_to_keeps_what_runs() -> None:
    board = installed()
    board.boot()
    board.flash.damage(SECONDARY, 1, 1)  # the old image
    report = board.boot()
    assert report.swap is SwapType.FAIL
    assert report.running is not None and report.running.version.major == 2
    assert (board.engine.state, board.engine.outcome) == (State.IDLE, Outcome.SUCCESS)


def test_nothing_valid_is_a_panic() -> None:
    board = Board()
    board.flash.damage(PRIMARY, 2, 1)
    report = board.boot()
    assert report.swap is SwapType.PANIC and report.running is None
    assert report.refused is not None


def test_a_large_and_a_small_image_change_places() -> None:
    board = Board(factory=image(1, 20000, 1))
    assert board.download(image(2, 3000, 1))
    board.engine.install()
    assert board.boot().trial
    assert board.flash.read(SECONDARY, 0, 20000) == image(1, 20000, 1)[:20000]
    board.boot()
    assert board.flash.read(PRIMARY, 0, 20000) == image(1, 20000, 1)[:20000]


def test_the_same_image_again_is_told_apart() -> None:
    board = Board()
    assert board.download(old_image())
    board.engine.install()
    assert board.boot().trial
    board.boot()
    assert board.engine.outcome is Outcome.REVERTED
    board.engine.install()
    board.boot()
    board.engine.confirm()
    assert board.engine.outcome is Outcome.SUCCESS


def test_without_sharing_the_update_is_the_same() -> None:
    board = installed(images=ImageStore(share=False))
    assert board.boot().trial
    board.engine.confirm()
    assert board.engine.outcome is Outcome.SUCCESS
