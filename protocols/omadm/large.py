"""Large objects that arrive: chunks of one item, put together or passed on as they come.

SyncML Representation Protocol, device management usage, section 6.6: chunks are contiguous, all but
the last say MoreData, and the first tells the Size of the whole as it is carried (of base64, its
length). Each chunk but the last is answered 213; the last with what became of the object. 424 when
the size is another one, and nothing is kept; a new object before the end of this one is told by
Alert 1225, which is the session's business (`open_uri`, `break_off`).

A leaf with a sink (a package) gets the octets at once, anything else is kept until the end and may
be as large as its description says.
"""

from __future__ import annotations

import binascii
from typing import NamedTuple

from protocols.omadm.model import Item, Meta, MgmtTree
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree import Sink, Tree

__all__ = ["LargeObject"]

MAX_KEPT = 64 << 10
"""Octets of an object that is put together in memory, whatever its description says."""


class _GivenUp(NamedTuple):
    """An object that was refused before its end."""

    uri: str
    add: bool
    status: StatusCode


class LargeObject:
    """The object that a session is receiving, if any."""

    __slots__ = (
        "_add",
        "_b64",
        "_ended",
        "_given_up",
        "_kept",
        "_meta",
        "_received",
        "_rest",
        "_sink",
        "_size",
        "_tree",
        "limit",
        "open_uri",
    )

    def __init__(self, tree: Tree, limit: int) -> None:
        """`limit`: the MaxObjSize that the device has announced."""
        self._tree = tree
        self.limit = limit
        self.open_uri: str | None = None
        """Of the object that has begun and not ended."""
        self._add = False
        self._given_up: _GivenUp | None = None
        self._b64 = False
        self._ended = False
        self._kept: list[str | bytes] = []
        self._meta: Meta | None = None
        self._received = 0
        self._rest = ""
        self._sink: Sink | None = None
        self._size = 0

    def continues(self, item: Item, *, add: bool) -> bool:
        """The item goes on with the object that has begun, or with one that was refused."""
        if self.open_uri is not None:
            return item.target == self.open_uri and add == self._add
        given_up = self._given_up
        if given_up is None or (item.meta is not None and item.meta.size is not None):
            return False
        return given_up.uri == item.target and given_up.add == add

    def take(self, item: Item, meta: Meta | None, *, add: bool) -> StatusCode:
        """A chunk. Raises TreeError, and the object is given up then: what still comes of it is
        answered the same, and the last of its chunks is not taken for a value."""
        given_up = self._given_up
        if given_up is not None and self.open_uri is None and self.continues(item, add=add):
            if not item.more_data:
                self._given_up = None
            raise TreeError(given_up.status, "a chunk of an object that was refused")
        try:
            if self.open_uri is None:
                self._begin(item, meta, add)
            self._append(item)
            if item.more_data:
                return StatusCode.CHUNK_BUFFERED
            return self._end()
        except TreeError as error:
            self.break_off()
            if item.more_data and item.target is not None:
                self._given_up = _GivenUp(item.target, add, error.status)
            raise

    def break_off(self) -> None:
        """Nothing more will come of it."""
        sink, self._sink = self._sink, None
        self.open_uri = None
        self._kept = []
        if sink is not None:
            sink.abort()

    # -- internals ------------------------------------------------------------------------------

    def _begin(self, item: Item, meta: Meta | None, add: bool) -> None:
        self._given_up = None
        if item.target is None:
            raise TreeError(StatusCode.INCOMPLETE, "a chunk without a target")
        meta = item.meta if meta is None else _merged(meta, item.meta)
        size = None if meta is None else meta.size
        if size is None:
            raise TreeError(StatusCode.INCOMPLETE, "a first chunk without Size")
        if size > self.limit:
            raise TreeError(StatusCode.TOO_LARGE, f"an object of {size} octets")
        schema, sink = self._tree.check_write(item.target, add=add)
        self._b64 = meta is not None and meta.format == "b64" and "bin" in schema.formats
        octets = size * 3 // 4 if self._b64 else size
        if octets > schema.max_size:
            raise TreeError(StatusCode.TOO_LARGE, f"a value of {octets} octets")
        if add:
            sink = None  # what Add makes is a node with a value; packages are replaced
        if sink is None and size > MAX_KEPT:
            raise TreeError(StatusCode.DEVICE_FULL, f"no memory for {size} octets")
        self._add, self._meta, self._size = add, meta, size
        self._received, self._rest, self._ended, self._kept = 0, "", False, []
        if sink is not None:
            sink.begin(item.target, octets)
        self._sink = sink
        self.open_uri = item.target

    def _append(self, item: Item) -> None:
        data = item.data
        if isinstance(data, MgmtTree):
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "a serialised tree in chunks")
        if data is None:
            return
        self._received += len(data if isinstance(data, bytes) else data.encode())
        if self._received > self._size:
            raise TreeError(StatusCode.SIZE_MISMATCH, f"more than the {self._size} octets told")
        if self._sink is None:
            self._kept.append(data)
            return
        octets = self._decoded(data) if self._b64 else _octets(data)
        if octets:
            self._sink.data(octets)

    def _decoded(self, data: str | bytes) -> bytes:
        """The octets of base64 that is cut anywhere."""
        try:
            text = self._rest + "".join(
                (data.decode() if isinstance(data, bytes) else data).split()
            )
            whole = len(text) & ~3
            self._rest = text[whole:]
            if not whole:
                return b""
            if self._ended:
                raise ValueError("base64 behind its padding")
            self._ended = text[whole - 1] == "="
            return binascii.a2b_base64(text[:whole], strict_mode=True)
        except ValueError:
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "Data is no base64") from None

    def _end(self) -> StatusCode:
        assert self.open_uri is not None
        if self._received != self._size:
            raise TreeError(
                StatusCode.SIZE_MISMATCH, f"{self._received} octets, {self._size} were told"
            )
        uri, sink = self.open_uri, self._sink
        if sink is not None:
            if self._rest:
                raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "base64 that ends too soon")
            self._sink = None  # from here on it is not ours to abort
            self.open_uri = None
            return sink.end()
        value = self._joined()
        self.open_uri, self._kept = None, []
        write = self._tree.add if self._add else self._tree.replace
        return write(uri, value, self._meta)

    def _joined(self) -> str | bytes:
        if all(isinstance(one, str) for one in self._kept):
            return "".join(one for one in self._kept if isinstance(one, str))
        return b"".join(_octets(one) for one in self._kept)


def _octets(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def _merged(command: Meta, item: Meta | None) -> Meta:
    """The item's meta-information, completed by its command's."""
    if item is None:
        return command
    return Meta(
        format=item.format or command.format,
        type=item.type or command.type,
        size=command.size if item.size is None else item.size,
    )
