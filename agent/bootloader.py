"""The bootloader: MCUboot's swap-using-move over the modelled flash.

Theory of operation
===================

The primary slot is what runs. The application writes a candidate into the secondary slot and puts a
magic into its trailer. At the next boot the bootloader reads both trailers and looks its decision
up in `DECISIONS`, first match wins (MCUboot design document, "Boot swap types"; the row for
swap-offset does not exist with swap-using-move):

* a swap that a power cut interrupted is finished before anything else: primary magic good,
  copy_done unset, and a swap type stored in swap_info;
* TEST: swap, run the candidate on trial. The application must set image_ok (confirm);
* PERM: swap for good;
* REVERT: the last swap finished, nobody confirmed: swap back.

Before any swap the candidate is verified as the application verified it, against the stored
security counter. A candidate that fails is erased and the primary slot gets image_ok, so that it is
not tried again (`SwapType.FAIL`). What is about to run is verified too; if that fails there is
nothing left to boot (`SwapType.PANIC`).

The swap, with n the number of sectors in use: move the n sectors of the primary slot up by one,
from the top; then for each sector copy secondary to primary and the moved one to secondary. Each
finished step is recorded in the status log of the primary trailer, and an interrupted swap goes on
with the first step that is not recorded. Each step erases its target first, so doing it again is
harmless, and never touches what a later step still needs.

Two things differ from MCUboot, both for writes that tear, which its own simulator does not model:
a revert that begins stores image_ok before the magic in the secondary trailer, so that a cut before
the primary trailer is rewritten ends as PERM of the old image and not as another trial of it; and
a bad magic in the secondary slot does not stop a revert, because it is what that write leaves when
it tears. (MCUboot takes it as NONE and would strand the device on an unconfirmed image. A revert is
judged by signature and security counter only: version and dependencies are rules for the way up.)

The security counter lives in `nvm`. It advances only to that of a confirmed or permanent image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from agent.flash import ALIGNMENT, PRIMARY, SECONDARY, SECTOR_SIZE, Flash
from agent.image_store import Node
from agent.nvm import Nvm
from agent.trailer import (
    COPY_DONE,
    IMAGE_OK,
    Flag,
    Magic,
    SwapType,
    Trailer,
    capacity,
    erase_trailer,
    is_open,
    read_trailer,
    status_entry,
    write_flag,
    write_magic,
    write_swap,
)
from firmware_images.errors import ImageRefused, Reason
from firmware_images.mcuboot import ImageInfo, TrustedKeys, Version, check_policy

__all__ = ["DECISIONS", "BootReport", "Bootloader", "Decision", "Policy", "SwapType"]


class Decision(NamedTuple):
    """A row of the boot decision; None matches anything."""

    primary_magic: Magic | None
    secondary_magic: Magic | None
    primary_ok: Flag | None
    secondary_ok: Flag | None
    primary_copied: Flag | None
    swap: SwapType


DECISIONS: tuple[Decision, ...] = (
    Decision(None, Magic.GOOD, None, Flag.UNSET, None, SwapType.TEST),
    Decision(None, Magic.GOOD, None, Flag.SET, None, SwapType.PERM),
    # The beginning of a revert, its magic torn (ours, see above).
    Decision(Magic.GOOD, Magic.BAD, Flag.UNSET, None, Flag.SET, SwapType.REVERT),
    Decision(Magic.GOOD, Magic.UNSET, Flag.UNSET, None, Flag.SET, SwapType.REVERT),
)

_RECORD = b"\x01".ljust(ALIGNMENT, b"\xff")


@dataclass(frozen=True, slots=True)
class Policy:
    """Build options of a bootloader."""

    prevent_downgrade: bool = False
    """MCUBOOT_DOWNGRADE_PREVENTION: refuse a version below the running one."""
    require_counter: bool = False
    """Refuse an image without a security counter."""


@dataclass(frozen=True, slots=True)
class BootReport:
    """What one run of the bootloader did and what it started."""

    swap: SwapType
    """What it decided, or the swap that it resumed."""
    resumed: bool
    """It found that swap interrupted."""
    running: ImageInfo | None
    """What runs now; None when nothing valid was found (PANIC)."""
    trial: bool
    """What runs is on trial: it must be confirmed, or the next boot reverts it."""
    refused: ImageRefused | None
    """Why the candidate (FAIL) or the primary slot (PANIC) was refused."""
    last_swap: SwapType
    """The swap that put the running image where it is; NONE as it came from the factory."""


class Bootloader:
    """Runs at each boot, over one device's flash. Holds no state: all of it is in the flash."""

    __slots__ = ("flash", "nvm", "policy", "trusted")

    def __init__(
        self, flash: Flash, nvm: Nvm, trusted: TrustedKeys, policy: Policy | None = None
    ) -> None:
        self.flash = flash
        self.nvm = nvm
        self.trusted = trusted
        self.policy = policy or Policy()

    # --- the boot

    def boot(self) -> BootReport:
        flash = self.flash
        primary = read_trailer(flash, PRIMARY)
        secondary = read_trailer(flash, SECONDARY)
        refused: ImageRefused | None = None
        resumed = False
        swap = decide(primary, secondary)
        if (
            primary.magic is Magic.GOOD
            and primary.copy_done is Flag.UNSET
            and primary.swap is not SwapType.NONE
        ):
            resumed = True
            swap = primary.swap
            self._swap(swap, primary.swap_size)
        elif swap is not SwapType.NONE:
            try:
                self.check_candidate(capacity(flash.slot_size), swap)
            except ImageRefused as error:
                refused = error
                swap = SwapType.FAIL
                flash.erase_from(SECONDARY)
                if primary.image_ok is Flag.UNSET:
                    write_flag(flash, PRIMARY, IMAGE_OK)
            else:
                self._begin(swap, secondary)
        flash.seal(PRIMARY)
        flash.seal(SECONDARY)
        return self._start(swap, resumed, refused)

    def _start(self, swap: SwapType, resumed: bool, refused: ImageRefused | None) -> BootReport:
        trailer = read_trailer(self.flash, PRIMARY)
        try:
            running = self.running()
        except ImageRefused as error:
            return BootReport(SwapType.PANIC, resumed, None, False, error, trailer.swap)
        trial = trailer.magic is Magic.GOOD and trailer.image_ok is Flag.UNSET
        if trailer.magic is Magic.GOOD and not trial:
            self._advance_counter(running)
        return BootReport(swap, resumed, running, trial, refused, trailer.swap)

    def confirm(self) -> None:
        """The application's part: the running image is good. Idempotent."""
        trailer = read_trailer(self.flash, PRIMARY)
        if trailer.magic is Magic.GOOD:
            if trailer.image_ok is Flag.UNSET:
                write_flag(self.flash, PRIMARY, IMAGE_OK)
                self.flash.seal(PRIMARY)
            self._advance_counter(self.running())

    def mark_for_test(self) -> None:
        """The application's part: try the image in the secondary slot at the next boot."""
        if read_trailer(self.flash, SECONDARY).magic is not Magic.GOOD:
            if read_trailer(self.flash, SECONDARY).magic is Magic.BAD:
                erase_trailer(self.flash, SECONDARY)  # a torn mark from an earlier attempt
            write_magic(self.flash, SECONDARY)
        self.flash.seal(SECONDARY)

    # --- verification

    def running(self) -> ImageInfo:
        """The image in the primary slot, verified; raises `ImageRefused`."""
        return self._verify(PRIMARY)

    def check_candidate(self, length: int, swap: SwapType = SwapType.TEST) -> ImageInfo:
        """Verify the first `length` bytes of the secondary slot as the bootloader does before
        `swap`.

        The application calls it with the bytes it received, the bootloader with the whole slot."""
        info = self._verify(SECONDARY, length)
        forward = swap is SwapType.TEST
        if forward:
            check_policy(
                info,
                security_counter=self.security_counter(),
                running=self._running_version(),
                prevent_downgrade=self.policy.prevent_downgrade,
                require_counter=self.policy.require_counter,
            )
        elif (info.security_counter or 0) < self.security_counter():
            raise ImageRefused(
                Reason.LOW_COUNTER,
                f"{info.security_counter} is below the stored {self.security_counter()}",
            )
        content = self.flash.content(SECONDARY)
        if isinstance(content, Node):
            self.flash.images.keep(content)
        return info

    def security_counter(self) -> int:
        """The lowest counter that may still run. Until something was stored it is that of the image
        from the factory, which is provisioned with it."""
        stored = self.nvm.get("boot", "counter")
        if stored is not None:
            return int.from_bytes(stored, "little")
        if read_trailer(self.flash, PRIMARY).magic is Magic.UNSET:
            try:
                return self.running().security_counter or 0
            except ImageRefused:
                return 0
        return 0

    def store_counter(self, value: int) -> None:
        self.nvm.set("boot", "counter", value.to_bytes(4, "little"))

    def _running_version(self) -> Version | None:
        try:
            return self.running().version
        except ImageRefused:
            return None

    def _verify(self, slot: int, length: int | None = None) -> ImageInfo:
        flash = self.flash
        room = capacity(flash.slot_size)
        flash.seal(slot)
        content = flash.content(slot)
        assert not isinstance(content, list)
        return flash.images.verify(content, room if length is None else length, self.trusted, room)

    def _advance_counter(self, running: ImageInfo) -> None:
        counter = running.security_counter
        if counter is not None and counter > self.security_counter():
            self.store_counter(counter)

    # --- the swap

    def _begin(self, swap: SwapType, secondary: Trailer) -> None:
        flash = self.flash
        size = max(self._size(PRIMARY), self._size(SECONDARY))
        if self.nvm.get("boot", "counter") is None:
            # From here on the primary slot no longer tells what the factory had provisioned.
            self.store_counter(self.security_counter())
        if swap is SwapType.REVERT and secondary.magic is not Magic.GOOD:
            # The primary trailer, which asks for the revert, is about to be erased; from now on the
            # secondary one asks for it. Each write tears into something that is still a revert.
            erase_trailer(flash, SECONDARY)
            write_flag(flash, SECONDARY, IMAGE_OK)
            write_magic(flash, SECONDARY)
        erase_trailer(flash, PRIMARY)
        write_swap(flash, PRIMARY, swap, size)
        write_magic(flash, PRIMARY)
        self._swap(swap, size)

    def _size(self, slot: int) -> int:
        try:
            return self._verify(slot).total_size
        except ImageRefused:
            return 0

    def _swap(self, swap: SwapType, size: int) -> None:
        """Do what is left of a swap whose primary trailer is written."""
        flash = self.flash
        count = -(-size // SECTOR_SIZE)
        moves = flash.slot_size // SECTOR_SIZE
        entry = 0
        if is_open(flash, 0):
            erase_trailer(flash, SECONDARY)
        # Moves, from the top: entry i is sector count - i.
        for entry in range(count):
            if is_open(flash, entry):
                target = count - entry
                flash.erase(PRIMARY, target)
                flash.copy_sector(PRIMARY, target - 1, PRIMARY, target)
                flash.write(PRIMARY, status_entry(flash, entry), _RECORD)
        for sector in range(count):
            entry = moves + 2 * sector
            if is_open(flash, entry):
                flash.erase(PRIMARY, sector)
                flash.copy_sector(SECONDARY, sector, PRIMARY, sector)
                flash.write(PRIMARY, status_entry(flash, entry), _RECORD)
            if is_open(flash, entry + 1):
                flash.erase(SECONDARY, sector)
                flash.copy_sector(PRIMARY, sector + 1, SECONDARY, sector)
                flash.write(PRIMARY, status_entry(flash, entry + 1), _RECORD)
        trailer = read_trailer(flash, PRIMARY)
        if swap is not SwapType.TEST and trailer.image_ok is Flag.UNSET:
            write_flag(flash, PRIMARY, IMAGE_OK)
        if trailer.copy_done is Flag.UNSET:
            write_flag(flash, PRIMARY, COPY_DONE)


def decide(primary: Trailer, secondary: Trailer) -> SwapType:
    """The first matching row of `DECISIONS`, or NONE."""
    found = (
        primary.magic,
        secondary.magic,
        primary.image_ok,
        secondary.image_ok,
        primary.copy_done,
    )
    for row in DECISIONS:
        if all(want is None or want is have for want, have in zip(row[:5], found, strict=True)):
            return row.swap
    return SwapType.NONE
