"""What the update engine asks of the place where images live: commands, and completion events.

A `SlotStore` takes one command after the other and answers each with `StoreSink.store_done`, now or
later, once, or never. Commands are carried out in the order given; a store that answers later keeps
what it was given until then. The engine counts what is unanswered, and the device gives up on a
store that stays silent. Real boards answer over a wire; the modelled flash below answers at once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from agent.bootloader import Bootloader
from agent.errors import StoreError
from agent.faults import FaultPlan
from agent.flash import ALIGNMENT, PRIMARY, SECONDARY, SECTOR_SIZE, Flash
from agent.image_store import PAGE_SIZE, cut_pages
from agent.trailer import capacity
from firmware_images.errors import ImageRefused
from firmware_images.mcuboot import ImageInfo

__all__ = ["Command", "FlashSlotStore", "SlotStore", "StoreSink"]


class Command(enum.Enum):
    """The commands of a slot store."""

    ERASE = "erase"
    WRITE = "write"
    MARK_FOR_TEST = "mark for test"
    REBOOT = "reboot"
    READ_RUNNING = "read running"
    CONFIRM = "confirm"


class StoreSink(Protocol):
    """Who gets the completion events."""

    def store_done(
        self, command: Command, error: StoreError | None = None, info: ImageInfo | None = None
    ) -> None:
        """`command` is finished; `info` answers READ_RUNNING."""
        ...


class SlotStore(Protocol):
    """The commands. Each returns at once; how it went comes as a completion event."""

    sink: StoreSink | None

    @property
    def capacity(self) -> int:
        """The largest image that can be installed."""
        ...

    def erase(self, keep: int = 0) -> None:
        """Make the secondary slot writable from offset `keep`, a sector boundary, to its end."""
        ...

    def write(self, offset: int, data: bytes, last: bool = False) -> None:
        """Bytes of the candidate, in order and of any size; `last` ends them (data may be
        empty)."""
        ...

    def verify(self, length: int) -> ImageInfo:
        """Verify the candidate as its bootloader would; raises `ImageRefused`. Called only when no
        command is unanswered."""
        ...

    def mark_for_test(self) -> None: ...

    def reboot(self) -> None: ...

    def read_running(self) -> None: ...

    def confirm(self) -> None: ...


class FlashSlotStore:
    """The modelled flash as a slot store: answers each command before it returns.

    Input is re-cut into pages on the way to the flash. What does not fill a page waits in `_tail`,
    which is RAM: a power cut loses it."""

    __slots__ = ("_tail", "bootloader", "faults", "flash", "on_reboot", "sink")

    def __init__(
        self,
        bootloader: Bootloader,
        on_reboot: Callable[[], None],
        faults: FaultPlan | None = None,
    ) -> None:
        self.bootloader = bootloader
        self.flash: Flash = bootloader.flash
        self.on_reboot = on_reboot
        self.faults = faults
        self.sink: StoreSink | None = None
        self._tail = b""

    @property
    def capacity(self) -> int:
        return capacity(self.flash.slot_size)

    def erase(self, keep: int = 0) -> None:
        self._tail = b""
        if keep % SECTOR_SIZE:
            self._done(Command.ERASE, StoreError(f"offset {keep} is inside a sector"))
            return
        self.flash.erase_from(SECONDARY, keep)
        if keep:
            self.flash.refill(SECONDARY)
        self._done(Command.ERASE)

    def write(self, offset: int, data: bytes, last: bool = False) -> None:
        tail = self._tail
        if self.faults is not None and self.faults.corrupt_page is not None:
            data = self._corrupt(offset, data, self.faults)
        if not tail and not last and len(data) == PAGE_SIZE:
            self.flash.program(SECONDARY, offset // PAGE_SIZE, data)
        else:
            index = (offset - len(tail)) // PAGE_SIZE
            if not last and len(tail) + len(data) < PAGE_SIZE:
                self._tail = tail + data
            else:
                pages, rest = cut_pages(tail, data)
                self._tail = b"" if last else rest
                if last and rest:
                    pages.append(rest + b"\xff" * (-len(rest) % ALIGNMENT))
                for page in pages:
                    self.flash.program(SECONDARY, index, page)
                    index += 1
        sink = self.sink
        if sink is not None:
            sink.store_done(Command.WRITE)

    def verify(self, length: int) -> ImageInfo:
        info = self.bootloader.check_candidate(length)
        if self.faults is not None and self.faults.corrupt_slot_page is not None:
            page = min(self.faults.corrupt_slot_page, (info.total_size - 1) // PAGE_SIZE)
            self.flash.damage(SECONDARY, page, self.faults.seed)
            self.faults.corrupt_slot_page = None
        return info

    def mark_for_test(self) -> None:
        if self.flash.is_blank(SECONDARY):
            self._done(Command.MARK_FOR_TEST, StoreError("the secondary slot is empty"))
            return
        self.bootloader.mark_for_test()
        self._done(Command.MARK_FOR_TEST)

    def reboot(self) -> None:
        self.on_reboot()
        self._done(Command.REBOOT)

    def read_running(self) -> None:
        try:
            info = self.bootloader.running()
        except ImageRefused as refused:
            self._done(Command.READ_RUNNING, StoreError(f"primary slot: {refused}"))
            return
        if self.sink is not None:
            self.sink.store_done(Command.READ_RUNNING, None, info)

    def confirm(self) -> None:
        if self.flash.is_blank(PRIMARY):
            self._done(Command.CONFIRM, StoreError("the primary slot is empty"))
            return
        self.bootloader.confirm()
        self._done(Command.CONFIRM)

    def _done(self, command: Command, error: StoreError | None = None) -> None:
        if self.sink is not None:
            self.sink.store_done(command, error)

    def _corrupt(self, offset: int, data: bytes, faults: FaultPlan) -> bytes:
        """Flip a bit of the byte that is at the start of the chosen page, when it passes."""
        assert faults.corrupt_page is not None
        at = faults.corrupt_page * PAGE_SIZE - offset
        if not 0 <= at < len(data):
            return data
        faults.corrupt_page = None
        return data[:at] + bytes((data[at] ^ 1 << faults.seed % 8,)) + data[at + 1 :]
