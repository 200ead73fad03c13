"""The modelled flash of a device: strict NOR rules, shared pages, power loss at any operation.

Three regions: the primary slot (what runs), the secondary slot (what was downloaded) and the `NVM`
region (two sectors of key/value log). The rules are stricter than most hardware, as in MCUboot's
own simulator: only erased bytes can be written, writes are aligned to 8 bytes, only whole sectors
of 4 KiB are erased, and erased bytes read 0xff. Breaking a rule is a bug in the device code that
did it, so `FlashViolation` is an error of ours and never a simulated fault.

Each programmed page portion and each erased sector counts as one operation. A `PowerCut` armed at
operation k raises `PowerLoss` there: *before* it, *after* it, or *torn* within it. A torn write
leaves a prefix and one half-programmed byte; a torn erase leaves some pages erased and one with
random bits. `PowerLoss` is a `BaseException`, so that no `except Exception` in device code swallows
it; the callback of the cut runs first, so that the device is already off while the stack unwinds.

Content is held in one of three shapes. A `Layout` is finished and shared. A `Node` is a slot that
is being filled front to back by a download; it costs one pointer. A list is private to this device
while something writes to it (the swap, the trailer, the NVM log), and `seal` makes a layout of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from agent.image_store import PAGE_SIZE, ImageStore, Layout, Node
from agent.runtime.random import DeviceRandom

__all__ = [
    "ALIGNMENT",
    "NVM",
    "NVM_SIZE",
    "PRIMARY",
    "SECONDARY",
    "SECTOR_SIZE",
    "CutMode",
    "Flash",
    "FlashViolation",
    "PowerCut",
    "PowerLoss",
]

ALIGNMENT = 8
"""Write alignment: MCUboot's default BOOT_MAX_ALIGN."""
SECTOR_SIZE = 4096
"""Erase unit: the page size of the common Cortex-M parts (nRF52840 and most SPI NOR)."""
NVM_SIZE = 2 * SECTOR_SIZE
"""One active and one spare sector, the least that survives a power cut while compacting."""

PRIMARY, SECONDARY, NVM = 0, 1, 2

_PAGES = SECTOR_SIZE // PAGE_SIZE
_EMPTY_SECTOR = [b""] * _PAGES
_BLANK = 0xFF

Content = Layout | Node | list[bytes]
Snapshot = tuple[tuple[Content, ...], int]


class FlashViolation(Exception):
    """Device code broke a rule of NOR flash: a bug of the caller, never a simulated fault."""


class PowerLoss(BaseException):
    """The power went away during a flash operation. Nothing of the device's RAM survives."""


class CutMode(enum.Enum):
    """Where in operation k the power goes away."""

    BEFORE = "before"
    AFTER = "after"
    TORN = "torn"


class PowerCut:
    """One armed power cut. `on_loss` runs before `PowerLoss` is raised."""

    __slots__ = ("mode", "on_loss", "random")

    def __init__(
        self,
        mode: CutMode = CutMode.BEFORE,
        seed: int = 0,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self.mode = mode
        self.random = DeviceRandom(seed)
        self.on_loss = on_loss


class Flash:
    """The flash of one device. Cheap while idle: three references to shared layouts."""

    __slots__ = ("_content", "_cut", "_cut_at", "images", "operations", "slot_size")

    def __init__(self, images: ImageStore, slot_size: int, image: bytes = b"") -> None:
        if slot_size <= 0 or slot_size % SECTOR_SIZE:
            raise ValueError(f"slot size {slot_size} is not a multiple of {SECTOR_SIZE}")
        if len(image) > slot_size:
            raise ValueError(f"factory image of {len(image)} bytes, slot of {slot_size}")
        self.images = images
        self.slot_size = slot_size
        self.operations = 0
        self._cut_at = 0
        self._cut: PowerCut | None = None
        self._content: list[Content] = [
            images.factory(image, slot_size),
            images.factory(b"", slot_size),
            images.factory(b"", NVM_SIZE),
        ]

    # --- power

    def arm(self, operation: int, cut: PowerCut) -> None:
        """Lose the power at the `operation`-th operation from now, the next one being 1."""
        if operation < 1:
            raise ValueError("operations are counted from 1")
        self._cut_at = self.operations + operation
        self._cut = cut

    def disarm(self) -> None:
        self._cut_at = 0
        self._cut = None

    def _lose_power(self) -> PowerLoss:
        cut = self._cut
        assert cut is not None
        at = self._cut_at
        self.disarm()
        if cut.on_loss is not None:
            cut.on_loss()
        return PowerLoss(f"power lost ({cut.mode.value}) at flash operation {at}")

    # --- reading

    def size(self, region: int) -> int:
        return NVM_SIZE if region == NVM else self.slot_size

    def content(self, region: int) -> Content:
        return self._content[region]

    def pages(self, region: int) -> Sequence[bytes]:
        """All pages of a region; a page shorter than 1 KiB ends in erased bytes."""
        content = self._content[region]
        if isinstance(content, Layout):
            return content.pages
        return self._filled(content, region) if isinstance(content, Node) else content

    def read(self, region: int, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0 or offset + size > self.size(region):
            raise FlashViolation(f"read of {size} bytes at {offset} leaves region {region}")
        pages = self.pages(region)
        parts = []
        while size:
            index, start = divmod(offset, PAGE_SIZE)
            part = min(size, PAGE_SIZE - start)
            parts.append(pages[index][start : start + part].ljust(part, b"\xff"))
            offset += part
            size -= part
        return b"".join(parts)

    def is_blank(self, region: int) -> bool:
        content = self._content[region]
        if isinstance(content, Node):
            return content.count == 0
        return not any(content.pages if isinstance(content, Layout) else content)

    # --- writing

    def program(self, region: int, index: int, page: bytes) -> None:
        """Program a whole page at its start: the hot path of a download that fills a slot in order.

        The page is kept by reference. It may be shorter than 1 KiB, by a multiple of 8 bytes."""
        content = self._content[region]
        if type(content) is not list:
            if isinstance(content, Layout) and index == 0 and self.is_blank(region):
                content = self.images.empty()
            if (
                isinstance(content, Node)
                and content.count == index
                and index < self.slot_size // PAGE_SIZE
                and len(page) & (ALIGNMENT - 1) == 0
            ):
                operation = self.operations + 1
                if operation != self._cut_at:
                    self.operations = operation
                    self._content[region] = content.append(page)
                    return
        self.write(region, index * PAGE_SIZE, page)

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Program erased bytes. What crosses pages is one operation per page."""
        size = len(data)
        if offset % ALIGNMENT or size % ALIGNMENT:
            raise FlashViolation(f"unaligned write of {size} bytes at {offset}")
        if offset < 0 or offset + size > self.size(region):
            raise FlashViolation(f"write of {size} bytes at {offset} leaves region {region}")
        pages = self._private(region)
        done = 0
        while done < size:
            index, start = divmod(offset + done, PAGE_SIZE)
            part = data[done : done + PAGE_SIZE - start]
            self._program(pages, index, start, part)
            done += len(part)

    def copy_sector(self, source: int, source_sector: int, target: int, sector: int) -> None:
        """Copy a sector page by page into an erased one. Erased pages need no programming."""
        first = source_sector * _PAGES
        pages = self._private(source)[first : first + _PAGES]
        destination = self._private(target)
        index = sector * _PAGES
        if index + _PAGES > len(destination) or len(pages) != _PAGES:
            raise FlashViolation(f"copy to sector {sector} leaves region {target}")
        operations = self.operations
        if operations < self._cut_at <= operations + _PAGES or any(
            destination[index : index + _PAGES]
        ):
            for page in pages:
                if page:
                    self._program(destination, index, 0, page)
                index += 1
            return
        destination[index : index + _PAGES] = pages
        self.operations = operations + _PAGES - pages.count(b"")

    def erase(self, region: int, sector: int) -> None:
        pages = self._private(region)
        first = sector * _PAGES
        if sector < 0 or first + _PAGES > len(pages):
            raise FlashViolation(f"erase of sector {sector} leaves region {region}")
        self.operations += 1
        if self.operations == self._cut_at:
            assert self._cut is not None
            if self._cut.mode is CutMode.AFTER:
                pages[first : first + _PAGES] = _EMPTY_SECTOR
            elif self._cut.mode is CutMode.TORN:
                self._tear_erase(pages, first, self._cut.random)
            raise self._lose_power()
        pages[first : first + _PAGES] = _EMPTY_SECTOR

    def erase_from(self, region: int, offset: int = 0) -> None:
        """Erase every dirty sector at and after `offset`, a sector boundary."""
        if offset % SECTOR_SIZE:
            raise FlashViolation(f"erase from {offset}, not a sector boundary")
        content = self._content[region]
        keep = offset // PAGE_SIZE
        dirty: Sequence[int]
        if isinstance(content, Node):
            # A rope fills a slot from its start: what is dirty needs no look at the pages.
            dirty = range(keep // _PAGES, -(-content.count // _PAGES))
        else:
            pages = self.pages(region)
            dirty = [
                first // _PAGES
                for first in range(keep, len(pages), _PAGES)
                if any(pages[first : first + _PAGES])
            ]
        if not dirty:
            return
        if self._cut_at == 0 and (isinstance(content, Node) or offset == 0):
            # Nothing can interrupt it: the same end state without private pages on the way.
            self.operations += len(dirty)
            if isinstance(content, Node) and offset:
                self._content[region] = content.back_to(keep)
            elif isinstance(content, Node):
                self._content[region] = self.images.empty()
            else:
                self._content[region] = self.images.factory(b"", self.size(region))
            return
        for sector in dirty:
            self.erase(region, sector)

    def seal(self, region: int) -> None:
        """Nobody writes there for now: share the content with every device that has the same."""
        content = self._content[region]
        if isinstance(content, list):
            self._content[region] = self.images.layout(content)

    def refill(self, region: int) -> None:
        """Make a rope of a partly filled private slot again, so that a resumed download shares."""
        content = self._content[region]
        if not isinstance(content, Node):
            pages = list(self.pages(region))
            while pages and not pages[-1]:
                pages.pop()
            if all(len(page) == PAGE_SIZE for page in pages):
                self._content[region] = self.images.rope(pages)

    def damage(self, region: int, index: int, bit: int = 0) -> None:
        """A fault, not an operation: flip one bit of a page, as radiation or wear would."""
        pages = self._private(region)
        page = pages[index] or b"\xff"
        at = (bit // 8) % len(page)
        pages[index] = page[:at] + bytes((page[at] ^ 1 << bit % 8,)) + page[at + 1 :]

    # --- snapshots, for exhaustive sweeps: pages are immutable, so only lists are copied

    def snapshot(self) -> Snapshot:
        content = tuple(list(c) if isinstance(c, list) else c for c in self._content)
        return content, self.operations

    def restore(self, snapshot: Snapshot) -> None:
        content, self.operations = snapshot
        self._content = [list(c) if isinstance(c, list) else c for c in content]
        self.disarm()

    # --- internals

    def _filled(self, node: Node, region: int) -> list[bytes]:
        pages = node.pages()
        pages.extend([b""] * (self.size(region) // PAGE_SIZE - len(pages)))
        return pages

    def _private(self, region: int) -> list[bytes]:
        content = self._content[region]
        if isinstance(content, list):
            return content
        if isinstance(content, Layout):
            pages = list(content.pages)
        else:
            pages = self._filled(content, region)
        self._content[region] = pages
        return pages

    def _program(self, pages: list[bytes], index: int, start: int, part: bytes) -> None:
        page = pages[index]
        old = page[start : start + len(part)]
        if old and old.count(_BLANK) != len(old):
            at = index * PAGE_SIZE + start
            raise FlashViolation(f"write of {len(part)} bytes at {at} over programmed bytes")
        operation = self.operations = self.operations + 1
        if operation != self._cut_at:
            pages[index] = part if not page and not start else _overlay(page, start, part)
            return
        assert self._cut is not None
        if self._cut.mode is CutMode.AFTER:
            pages[index] = _overlay(page, start, part)
        elif self._cut.mode is CutMode.TORN:
            whole = self._cut.random.below(len(part))
            half = bytes((part[whole] | self._cut.random.below(256),))
            pages[index] = _overlay(page, start, part[:whole] + half)
        raise self._lose_power()

    def _tear_erase(self, pages: list[bytes], first: int, random: DeviceRandom) -> None:
        """Erasing moves bits from 0 to 1, page after page; the cut finds one page half way."""
        torn = random.below(_PAGES)
        pages[first : first + torn] = _EMPTY_SECTOR[:torn]
        page = pages[first + torn]
        noise = random.bytes(len(page))
        pages[first + torn] = bytes(a | b for a, b in zip(page, noise, strict=True))


def _overlay(page: bytes, start: int, part: bytes) -> bytes:
    end = start + len(part)
    if len(page) <= start:
        return page.ljust(start, b"\xff") + part
    return page[:start] + part + page[end:]
