"""The trailer at the end of a slot: what the bootloader and the application tell each other.

Counted from the end of the slot, for a write alignment of 8 (firmware-images notes, MCUboot design
document "Image trailer")::

    -16  magic, 16 bytes     good, unset (all erased) or bad (anything else)
    -24  image_ok            01 when the application confirmed the image
    -32  copy_done           01 when a swap finished
    -40  swap_info           low nibble: type of the swap, high nibble: image number
    -48  swap_size, u32      bytes that the interrupted swap covers
    before it: the swap status log, three write units for each sector of the slot
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.flash import ALIGNMENT, PRIMARY, SECTOR_SIZE, Flash

__all__ = [
    "Flag",
    "Magic",
    "SwapType",
    "Trailer",
    "capacity",
    "is_open",
    "erase_trailer",
    "read_trailer",
    "status_entry",
    "trailer_sectors",
    "write_flag",
    "write_magic",
    "write_swap",
]

MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
"""BOOT_MAGIC for an alignment of 8."""

_FIXED = 48  # everything but the status log
IMAGE_OK, COPY_DONE, _SWAP_INFO, _SWAP_SIZE = 24, 32, 40, 48

_STATES = 3
"""Status entries per sector with swap-using-move: moved, then the two halves of the exchange."""


class Magic(enum.Enum):
    """What the magic field holds."""

    GOOD = "good"
    BAD = "bad"
    UNSET = "unset"


class Flag(enum.Enum):
    """What a flag field holds; BAD is what a torn write leaves."""

    SET = "set"
    BAD = "bad"
    UNSET = "unset"


class SwapType(enum.IntEnum):
    """MCUboot's BOOT_SWAP_TYPE values; FAIL and PANIC never stand in flash."""

    NONE = 1
    TEST = 2
    PERM = 3
    REVERT = 4
    FAIL = 5
    PANIC = 0xFF


@dataclass(frozen=True, slots=True)
class Trailer:
    """The fixed part of a slot's trailer."""

    magic: Magic
    image_ok: Flag
    copy_done: Flag
    swap: SwapType
    swap_size: int


_BLANK = Trailer(Magic.UNSET, Flag.UNSET, Flag.UNSET, SwapType.NONE, 0)
_FLAGS = {0x01: Flag.SET, 0xFF: Flag.UNSET}
_STORED = {swap.value: swap for swap in (SwapType.TEST, SwapType.PERM, SwapType.REVERT)}


def trailer_sectors(slot_size: int) -> int:
    """Sectors that the trailer occupies, its status log sized for every sector of the slot."""
    size = _FIXED + slot_size // SECTOR_SIZE * _STATES * ALIGNMENT
    return -(-size // SECTOR_SIZE)


def capacity(slot_size: int) -> int:
    """The largest image that can be swapped: the slot without the trailer's sectors and without the
    one sector by which swap-using-move shifts the primary slot up."""
    size = slot_size - (trailer_sectors(slot_size) + 1) * SECTOR_SIZE
    if size <= 0:
        raise ValueError(f"a slot of {slot_size} bytes has no room for an image")
    return size


def read_trailer(flash: Flash, slot: int) -> Trailer:
    raw = flash.read(slot, flash.slot_size - _FIXED, _FIXED)
    if raw.count(0xFF) == _FIXED:
        return _BLANK
    magic = raw[-16:]
    info = raw[_FIXED - _SWAP_INFO]
    size = int.from_bytes(raw[:4], "little")
    return Trailer(
        Magic.GOOD
        if magic == MAGIC
        else Magic.UNSET
        if magic.count(0xFF) == len(magic)
        else Magic.BAD,
        _FLAGS.get(raw[_FIXED - IMAGE_OK], Flag.BAD),
        # Programmed only after everything was copied: a torn copy_done means that all the same.
        Flag.UNSET if raw[_FIXED - COPY_DONE] == 0xFF else Flag.SET,
        _STORED.get(info, SwapType.NONE),
        size if size <= flash.slot_size else 0,
    )


def write_magic(flash: Flash, slot: int) -> None:
    flash.write(slot, flash.slot_size - len(MAGIC), MAGIC)


def write_flag(flash: Flash, slot: int, position: int) -> None:
    flash.write(slot, flash.slot_size - position, b"\x01".ljust(ALIGNMENT, b"\xff"))


def write_swap(flash: Flash, slot: int, swap: SwapType, size: int) -> None:
    """swap_info and swap_size; the high nibble of swap_info, the image number, is 0."""
    end = flash.slot_size
    flash.write(slot, end - _SWAP_INFO, bytes((swap.value,)).ljust(ALIGNMENT, b"\xff"))
    flash.write(slot, end - _SWAP_SIZE, size.to_bytes(4, "little").ljust(ALIGNMENT, b"\xff"))


def erase_trailer(flash: Flash, slot: int) -> None:
    """Erase the trailer's sectors, the last one first: the magic goes before what it vouches
    for."""
    sectors = flash.slot_size // SECTOR_SIZE
    for sector in range(sectors - 1, sectors - 1 - trailer_sectors(flash.slot_size), -1):
        flash.erase(slot, sector)


def status_entry(flash: Flash, entry: int) -> int:
    """Where entry `entry` of the primary slot's status log stands. The first third are the moved
    sectors, the rest are pairs, one for each exchanged sector."""
    sectors = flash.slot_size // SECTOR_SIZE
    assert 0 <= entry < sectors * _STATES
    return flash.slot_size - _FIXED - (sectors * _STATES - entry) * ALIGNMENT


def is_open(flash: Flash, entry: int) -> bool:
    """Whether the status entry is still erased: its step was not recorded as done."""
    raw = flash.read(PRIMARY, status_entry(flash, entry), ALIGNMENT)
    return raw.count(0xFF) == ALIGNMENT
