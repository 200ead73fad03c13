from __future__ import annotations

import pytest

from agent.flash import (
    NVM,
    PRIMARY,
    SECONDARY,
    SECTOR_SIZE,
    CutMode,
    Flash,
    FlashViolation,
    PowerCut,
    PowerLoss,
)
from agent.image_store import ImageStore, Layout, Node
from tests.agent.parts import SLOT, old_image

PAGE = bytes(range(256)) * 4


def make() -> Flash:
    return Flash(ImageStore(), SLOT, old_image())


def test_the_factory_image_and_erased_bytes_read_back() -> None:
    flash = make()
    image = old_image()
    assert flash.read(PRIMARY, 0, len(image)) == image
    assert flash.read(PRIMARY, len(image), 16) == b"\xff" * 16
    assert flash.read(SECONDARY, 0, SLOT) == b"\xff" * SLOT
    assert flash.is_blank(SECONDARY) and not flash.is_blank(PRIMARY)


def test_only_erased_bytes_can_be_written() -> None:
    flash = make()
    flash.write(SECONDARY, 8, b"12345678")
    flash.write(SECONDARY, 0, b"abcdefgh")
    assert flash.read(SECONDARY, 0, 24) == b"abcdefgh12345678" + b"\xff" * 8
    with pytest.raises(FlashViolation, match="over programmed bytes"):
        flash.write(SECONDARY, 8, b"xxxxxxxx")
    flash.erase(SECONDARY, 0)
    flash.write(SECONDARY, 8, b"xxxxxxxx")


@pytest.mark.parametrize(
    ("offset", "data"), [(4, b"12345678"), (0, b"1234567"), (SLOT, b"12345678"), (-8, b"12345678")]
)
def test_unaligned_and_foreign_writes_are_our_own_bug(offset: int, data: bytes) -> None:
    with pytest.raises(FlashViolation):
        make().write(SECONDARY, offset, data)


@pytest.mark.parametrize("sector", [-1, 8])
def test_an_erase_stays_in_its_region(sector: int) -> None:
    with pytest.raises(FlashViolation):
        make().erase(SECONDARY, sector)


def test_a_region_is_read_inside_its_bounds() -> None:
    with pytest.raises(FlashViolation):
        make().read(NVM, 0, 3 * SECTOR_SIZE)


def test_a_download_is_one_pointer_and_then_a_shared_layout() -> None:
    flash = make()
    for index in range(3):
        flash.program(SECONDARY, index, PAGE)
    assert isinstance(flash.content(SECONDARY), Node)
    with pytest.raises(FlashViolation):
        flash.program(SECONDARY, 1, b"other bytes, aligned".ljust(24))
    flash.seal(SECONDARY)
    assert isinstance(flash.content(SECONDARY), Layout)
    assert flash.read(SECONDARY, 2048, 1024) == PAGE


def test_a_write_that_crosses_pages_is_one_operation_per_page() -> None:
    flash = make()
    flash.write(SECONDARY, 1016, b"x" * 16)
    assert flash.operations == 2
    assert flash.read(SECONDARY, 1008, 32) == b"\xff" * 8 + b"x" * 16 + b"\xff" * 8


@pytest.mark.parametrize("mode", list(CutMode))
def test_a_cut_write_is_done_not_done_or_torn(mode: CutMode) -> None:
    flash = make()
    lost = []
    flash.arm(2, PowerCut(mode, 7, lambda: lost.append(1)))
    flash.write(SECONDARY, 0, b"a" * 64)
    with pytest.raises(PowerLoss):
        flash.write(SECONDARY, 64, b"b" * 64)
    assert lost == [1]
    assert flash.read(SECONDARY, 0, 64) == b"a" * 64
    left = flash.read(SECONDARY, 64, 64)
    if mode is CutMode.BEFORE:
        assert left == b"\xff" * 64
    elif mode is CutMode.AFTER:
        assert left == b"b" * 64
    else:
        assert left not in (b"\xff" * 64, b"b" * 64)
        assert left.lstrip(b"b")[1:] == b"\xff" * (len(left.lstrip(b"b")) - 1)
    flash.write(SECONDARY, 1024, b"c" * 8)  # disarmed


@pytest.mark.parametrize("mode", list(CutMode))
def test_a_cut_erase_leaves_bits_between_old_and_erased(mode: CutMode) -> None:
    flash = make()
    before = flash.read(PRIMARY, 0, SECTOR_SIZE)
    flash.arm(1, PowerCut(mode, 3))
    with pytest.raises(PowerLoss):
        flash.erase(PRIMARY, 0)
    after = flash.read(PRIMARY, 0, SECTOR_SIZE)
    assert all(new & old == old for new, old in zip(after, before, strict=True))
    assert (after == before) == (mode is CutMode.BEFORE)
    assert (after == b"\xff" * SECTOR_SIZE) == (mode is CutMode.AFTER)


def test_power_loss_passes_through_handlers_of_exceptions() -> None:
    assert not issubclass(PowerLoss, Exception)


def test_erasing_behind_an_offset_keeps_the_rope() -> None:
    flash = make()
    for index in range(10):
        flash.program(SECONDARY, index, PAGE)
    flash.erase_from(SECONDARY, SECTOR_SIZE)
    content = flash.content(SECONDARY)
    assert isinstance(content, Node) and content.count == 4
    with pytest.raises(FlashViolation):
        flash.erase_from(SECONDARY, 1024)


def test_both_ways_to_erase_end_the_same_and_count_the_same() -> None:
    fast, slow = make(), make()
    slow.arm(1000, PowerCut())
    for flash in (fast, slow):
        for index in range(10):
            flash.program(SECONDARY, index, PAGE)
        flash.erase_from(SECONDARY, 2 * SECTOR_SIZE)
        flash.refill(SECONDARY)
    assert fast.operations == slow.operations
    assert fast.pages(SECONDARY) == slow.pages(SECONDARY)
    assert isinstance(slow.content(SECONDARY), Node)


def test_damage_flips_one_bit() -> None:
    flash = make()
    before = flash.read(PRIMARY, 0, SLOT)
    flash.damage(PRIMARY, 1, 13)
    after = flash.read(PRIMARY, 0, SLOT)
    changed = [i for i in range(SLOT) if before[i] != after[i]]
    assert changed == [1025]


def test_a_slot_that_is_no_number_of_sectors_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        Flash(ImageStore(), 5000)
    with pytest.raises(ValueError, match="factory image"):
        Flash(ImageStore(), SECTOR_SIZE, old_image())
    with pytest.raises(ValueError, match="counted from 1"):
        make().arm(0, PowerCut())
