"""Shared image storage: one copy of every byte sequence that really arrived.

A download is a *hash-consed rope*. Input is re-cut into pages of 1 KiB whatever sizes the transport
delivered; each `Node` is (previous node, page) and is interned below its previous node by comparing
the bytes. Two devices that received the same bytes therefore hold the same pointer, and a device
whose bytes differ in one page owns a chain of its own from that page on, and only that device pays.

What a flash slot holds once nobody writes to it any more is a `Layout`, a tuple of pages, interned
by content in the same way: idle devices share the factory layout, updated devices the updated one.

The verdict of a verification hangs on the node or layout whose bytes were checked, per trusted key
set and capacity. It is computed once for bytes that arrived, and never for bytes that did not.
`ImageStore(share=False)` turns all sharing off: every device then stores and checks for itself.

A page is `bytes` of at most 1 KiB; what is missing at its end reads as erased flash (0xff).
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from firmware_images.errors import ImageRefused, Reason
from firmware_images.mcuboot import ImageInfo, TrustedKeys, verify_image

__all__ = ["PAGE_SIZE", "ImageStore", "Layout", "Node", "PageView", "Rope", "cut_pages"]

PAGE_SIZE = 1024
"""Bytes per page: the largest CoAP block, so a block that arrives aligned is stored without a
copy."""

RECENT_IMAGES = 16
"""Verified ropes kept alive after the last download of them ended, so that a straggler still finds
the pages of the fleet. Campaigns have one target, or a few; sixteen cost at most their bytes."""

_ERASED = b"\xff"

_Verdict = ImageInfo | tuple[Reason, str]
_VerdictKey = tuple[TrustedKeys, int, int]


class Node:
    """One page of a rope and all pages before it. The child is held weakly: a rope lives exactly as
    long as somebody points at its last node."""

    __slots__ = ("__weakref__", "_child", "_siblings", "count", "page", "previous", "verdicts")

    def __init__(self, previous: Node | None, page: bytes) -> None:
        self.previous = previous
        self.page = page
        self.count: int = 0 if previous is None else previous.count + 1
        self.verdicts: dict[_VerdictKey, _Verdict] | None = None
        self._child: weakref.ref[Node] | None = None
        self._siblings: list[weakref.ref[Node]] | None = None

    def append(self, page: bytes) -> Node:
        """The node for these bytes followed by `page`; the existing one when the bytes are
        equal."""
        reference = self._child
        if reference is not None:
            child = reference()
            if child is not None and child.page == page:
                return child
        return self._diverge(page)

    def _diverge(self, page: bytes) -> Node:
        first = self._child() if self._child is not None else None
        if first is None:
            node = Node(self, page)
            self._child = weakref.ref(node)
            return node
        alive = []
        for reference in self._siblings or ():
            sibling = reference()
            if sibling is not None:
                if sibling.page == page:
                    return sibling
                alive.append(reference)
        node = Node(self, page)
        alive.append(weakref.ref(node))
        self._siblings = alive
        return node

    def back_to(self, count: int) -> Node:
        """The node with at most `count` pages on this node's own chain."""
        node = self
        while node.count > count:
            assert node.previous is not None
            node = node.previous
        return node

    def pages(self) -> list[bytes]:
        pages: list[bytes] = []
        node = self
        while node.previous is not None:
            pages.append(node.page)
            node = node.previous
        pages.reverse()
        return pages


class PrivateNode(Node):
    """A node that is never shared: every device keeps and checks its own bytes."""

    __slots__ = ()

    def append(self, page: bytes) -> Node:
        return PrivateNode(self, page)


class Layout:
    """The finished content of one flash region: immutable, interned, shared by many devices."""

    __slots__ = ("__weakref__", "pages", "verdicts")

    def __init__(self, pages: tuple[bytes, ...]) -> None:
        self.pages = pages
        self.verdicts: dict[_VerdictKey, _Verdict] | None = None


class PageView:
    """`ByteSource` over pages: what a reader of the flash, or of a rope, sees."""

    __slots__ = ("_length", "_pages")

    def __init__(self, pages: Sequence[bytes], length: int) -> None:
        self._pages = pages
        self._length = length

    def __len__(self) -> int:
        return self._length

    def read(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self._length)
        return b"".join(self.chunks(offset, end))

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        end = min(end, self._length)
        while start < end:
            index, skip = divmod(start, PAGE_SIZE)
            stop = min(PAGE_SIZE, skip + end - start)
            page = self._pages[index] if index < len(self._pages) else b""
            if len(page) < stop:
                page = page.ljust(stop, _ERASED)
            yield page if skip == 0 and stop == len(page) else page[skip:stop]
            start += stop - skip


def cut_pages(tail: bytes, data: bytes) -> tuple[list[bytes], bytes]:
    """Re-cut `tail + data` into whole pages and the rest that does not fill one."""
    data = tail + data
    whole = len(data) // PAGE_SIZE * PAGE_SIZE
    return [data[i : i + PAGE_SIZE] for i in range(0, whole, PAGE_SIZE)], data[whole:]


class Rope:
    """A growing byte string in an `ImageStore`: one pointer and less than a page of private
    bytes."""

    __slots__ = ("node", "tail")

    def __init__(self, store: ImageStore) -> None:
        self.node = store.empty()
        self.tail = b""

    @property
    def length(self) -> int:
        return self.node.count * PAGE_SIZE + len(self.tail)

    def append(self, data: bytes) -> None:
        if not self.tail and len(data) == PAGE_SIZE:
            self.node = self.node.append(data)
            return
        pages, self.tail = cut_pages(self.tail, data)
        for page in pages:
            self.node = self.node.append(page)

    def view(self) -> PageView:
        return PageView([*self.node.pages(), self.tail], self.length)


class ImageStore:
    """Everything that the devices of one process share about images."""

    __slots__ = ("_factory", "_layouts", "_recent", "_root", "share")

    def __init__(self, share: bool = True) -> None:
        self.share = share
        self._root = Node(None, b"")
        self._layouts: weakref.WeakValueDictionary[tuple[bytes, ...], Layout] = (
            weakref.WeakValueDictionary()
        )
        self._factory: dict[tuple[bytes, int], Layout] = {}
        self._recent: OrderedDict[int, Node] = OrderedDict()

    def empty(self) -> Node:
        """The rope of no bytes, where every download begins."""
        return self._root if self.share else PrivateNode(None, b"")

    def rope(self, pages: Sequence[bytes]) -> Node:
        node = self.empty()
        for page in pages:
            node = node.append(page)
        return node

    def layout(self, pages: Sequence[bytes]) -> Layout:
        """The interned layout with this content."""
        key = tuple(pages)
        if not self.share:
            return Layout(key)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = Layout(key)
        return layout

    def factory(self, image: bytes, size: int) -> Layout:
        """A region of `size` bytes programmed with `image`, as it leaves the factory. Cut once per
        image, not once per device: nothing of it has arrived over a wire."""
        layout = self._factory.get((image, size))
        if layout is None:
            pages, tail = cut_pages(b"", image)
            if tail:
                pages.append(tail)
            pages.extend([b""] * (size // PAGE_SIZE - len(pages)))
            layout = self._factory[image, size] = self.layout(pages)
        return layout

    def keep(self, node: Node) -> None:
        """Keep a verified rope among the recent images."""
        if self.share:
            self._recent[id(node)] = node
            self._recent.move_to_end(id(node))
            if len(self._recent) > RECENT_IMAGES:
                self._recent.popitem(last=False)

    def verify(
        self, anchor: Node | Layout, length: int, keys: TrustedKeys, capacity: int
    ) -> ImageInfo:
        """`verify_image` over the first `length` bytes of `anchor`, at most once per distinct
        content.

        Raises `ImageRefused`, from the cache as well."""
        verdicts = anchor.verdicts
        key = (keys, capacity, length)
        if verdicts is not None and self.share:
            known = verdicts.get(key)
            if known is not None:
                if isinstance(known, tuple):
                    raise ImageRefused(*known)
                return known
        pages = anchor.pages if isinstance(anchor, Layout) else anchor.pages()
        verdict: _Verdict
        try:
            verdict = verify_image(PageView(pages, length), keys, capacity)
        except ImageRefused as refused:
            verdict = (refused.reason, refused.detail)
        if self.share:
            if verdicts is None:
                verdicts = anchor.verdicts = {}
            verdicts[key] = verdict
        if isinstance(verdict, tuple):
            raise ImageRefused(*verdict)
        return verdict
