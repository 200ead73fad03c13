"""Block-wise transfers (RFC 7959): bodies larger than a datagram, in both directions.

Every step happens inside the callback of the response before it: a transfer of a megabyte makes
no Task, no Future and no timer handle of its own.

* :class:`Transfer` is the client: it sends a body by Block1, then fetches the rest of the response
  by Block2. The block size is negotiated down (section 2.3, 4.13 with a smaller Block1, section
  2.9.3), 4.08 starts the body again, a changed ETag starts the response again.
* :class:`BodyAssembler` is the server: it joins the blocks of a request body, refuses gaps (4.08)
  and bodies that are too large (4.13 with Size1), and lets a new block 0 start over (section 2.5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from firmware_images.source import ByteSource
from protocols.coap.errors import RequestFailed, TransferFailed
from protocols.coap.message import Message, response
from protocols.coap.numbers import Code, OptionNumber, code_text
from protocols.coap.options import Block, Options, encode_uint
from protocols.coap.peer import Peer
from protocols.coap.request_layer import OnResult, RequestHandle

__all__ = ["BodyAssembler", "OnBlock", "Transfer"]

# How often a transfer begins again (4.08, a changed ETag) before it is given up: a server that
# answers so every time would otherwise keep a device busy for ever.
MAX_RESTARTS = 4
LARGEST_SZX = 6  # section 2.2: 1024 bytes
MAX_BLOCK_NUMBER = (1 << 20) - 1  # section 2.2: 20 bits

# (offset, data, total size or None, ETag) of each response block, in order. False stops the
# transfer. Offset 0 again means that it started over.
OnBlock = Callable[[int, bytes, int | None, bytes], bool]


class Requester(Protocol):
    """What a transfer needs of its endpoint."""

    def request(
        self, peer: Peer, message: Message, on_result: OnResult, *, timeout: float | None = None
    ) -> RequestHandle: ...


class Transfer:
    """One request with its whole body and its whole response."""

    __slots__ = (
        "_body",
        "_cancelled",
        "_download_number",
        "_etag",
        "_handle",
        "_max_body",
        "_on_block",
        "_on_progress",
        "_on_result",
        "_parts",
        "_received",
        "_requester",
        "_restarts",
        "_szx",
        "_template",
        "_timeout",
        "_uploaded",
        "peer",
        "total",
    )

    def __init__(
        self,
        requester: Requester,
        peer: Peer,
        message: Message,
        on_result: OnResult,
        *,
        body: ByteSource | None,
        szx: int,
        max_body: int,
        timeout: float | None = None,
        on_block: OnBlock | None = None,
        on_progress: Callable[[int], None] | None = None,
        offset: int = 0,
        etag: bytes = b"",
    ) -> None:
        self._requester = requester
        self.peer = peer
        self._template = message
        self._on_result = on_result
        self._body = body
        self._szx = min(szx, peer.largest_block)
        self._max_body = max_body
        self._timeout = timeout
        self._on_block = on_block
        self._on_progress = on_progress
        self._etag = etag
        self._cancelled = False
        self._restarts = 0
        self._uploaded = 0
        self._parts: list[bytes] = []
        # Resuming: whole blocks only; what lies between is fetched again and cut off.
        self._received = offset
        self._download_number = offset >> (self._szx + 4)
        self._handle: RequestHandle | None = None
        self.total: int | None = None

    def start(self) -> None:
        if self._body is not None:
            self._send_block1()
        else:
            self._ask_block2(first=self._received == 0)

    def cancel(self) -> None:
        """Stop; ``on_result`` is not called any more."""
        self._cancelled = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _send(self, options: Options, payload: bytes, on_result: OnResult) -> None:
        if self._cancelled:  # in the callback that brought us here
            return
        message = Message(self._template.code, b"", options, payload)
        self._handle = self._requester.request(self.peer, message, on_result, timeout=self._timeout)

    def _fail(self, text: str) -> None:
        self._handle = None
        self._on_result(TransferFailed(text))

    def _restart_allowed(self, why: str) -> bool:
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            self._fail(f"{self.peer.uri}: {why}; it began again {MAX_RESTARTS} times before")
            return False
        return True

    # -- Block1: our body -----------------------------------------------------------------------

    def _send_block1(self) -> None:
        body = self._body
        assert body is not None
        size = 16 << self._szx
        offset = self._uploaded
        total = len(body)
        more = offset + size < total
        pairs = self._template.options.pairs
        if more or offset:
            number = offset >> (self._szx + 4)
            if number > MAX_BLOCK_NUMBER:
                self._fail(f"{total} bytes are too many for blocks of {size}")
                return
            block = Block(number, more, self._szx)
            pairs = (*pairs, (OptionNumber.BLOCK1, block.encode()))
            if offset == 0:
                pairs = (*pairs, (OptionNumber.SIZE1, encode_uint(total)))
        self._send(Options.of(*pairs), body.read(offset, size), self._uploaded_block)

    def _uploaded_block(self, result: Message | RequestFailed) -> None:
        body = self._body
        assert body is not None
        if isinstance(result, RequestFailed):
            self._handle = None
            self._on_result(result)
            return
        options = result.options
        size = 16 << self._szx
        more = self._uploaded + size < len(body)
        # Section 2.3: a final code with Block1 before the last block means that each block was
        # acted upon by itself; the others are still expected.
        if result.code == Code.CONTINUE or (
            more and result.code < 96 and options.block1 is not None and not options.block1.more
        ):
            if not more:
                self._fail(f"{self.peer.uri} asks for more than the whole body")
                return
            self._uploaded += size
            answered = options.block1
            if answered is not None and answered.szx < self._szx:
                self._szx = answered.szx  # section 2.3: go on with the smaller size
            if self._on_progress is not None:
                self._on_progress(self._uploaded)
            self._send_block1()
            return
        if result.code == Code.REQUEST_ENTITY_INCOMPLETE and self._uploaded:
            if self._restart_allowed("4.08 Request Entity Incomplete"):
                self._uploaded = 0
                self._send_block1()
            return
        if result.code == Code.REQUEST_ENTITY_TOO_LARGE:
            answered = options.block1
            if answered is not None and answered.szx < self._szx:
                # Section 2.9.3: not too large a body but too large a block.
                self._szx = answered.szx
                self._uploaded = 0
                self._send_block1()
                return
        if result.code < 128:
            if more:
                self._fail(
                    f"{self.peer.uri} answered {code_text(result.code)} "
                    f"after {self._uploaded + size} of {len(body)} bytes"
                )
                return
            if self._on_progress is not None:
                self._on_progress(len(body))
        self._downloaded_block(result)

    # -- Block2: the response -------------------------------------------------------------------

    def _ask_block2(self, *, first: bool) -> None:
        pairs = self._template.options.pairs
        number = self._download_number
        if number > MAX_BLOCK_NUMBER:
            self._fail(f"{self.peer.uri} has more blocks than a Block option can count")
            return
        if self._on_block is not None or not first or self._prefers_small:
            block = Block(number, False, self._szx)
            pairs = (*pairs, (OptionNumber.BLOCK2, block.encode()))
            if number == 0 and self._on_block is not None:
                pairs = (*pairs, (OptionNumber.SIZE2, b""))
        self._send(Options.of(*pairs), b"", self._downloaded_block)

    @property
    def _prefers_small(self) -> bool:
        """Whether to name a block size before knowing that there is more than one block."""
        return self._szx < LARGEST_SZX and self._template.code in (Code.GET, Code.FETCH)

    def _begin_again(self, why: str) -> None:
        if self._restart_allowed(why):
            self._received = 0
            self._download_number = 0
            self._etag = b""
            self._parts.clear()
            self._ask_block2(first=False)

    def _downloaded_block(self, result: Message | RequestFailed) -> None:
        if isinstance(result, RequestFailed):
            self._handle = None
            self._on_result(result)
            return
        options = result.options
        block = options.block2
        if result.code == Code.REQUEST_ENTITY_INCOMPLETE and self._received:
            # A server that keeps transfers by client address does not know a resumed one.
            self._begin_again("4.08 in mid-transfer")
            return
        if result.code >= 128 or (block is None and not self._received):
            self._whole(result)
            return
        if block is None:
            self._begin_again("a response without Block2 in mid-transfer")
            return
        if options.size2 is not None:
            self.total = options.size2
        if self._received and self._etag != options.etag:
            self._begin_again("the ETag changed")  # section 2.4: another representation
            return
        self._etag = options.etag
        offset = block.offset
        data = result.payload
        if len(data) > block.size or (block.more and len(data) != block.size):
            self._fail(f"{self.peer.uri} sent {len(data)} bytes as a block of {block.size}")
            return
        end = offset + len(data)
        if block.more and offset <= self._received >= end and block.szx < self._szx:
            # Resumed inside a block that the server makes smaller: ask for the right one.
            self._szx = block.szx
            self._download_number = self._received >> (self._szx + 4)
            self._ask_block2(first=False)
            return
        if offset > self._received or (
            end <= self._received if block.more else end < self._received
        ):
            self._fail(
                f"{self.peer.uri} sent block {block.number} (byte {offset}), "
                f"byte {self._received} was asked for"
            )
            return
        fresh = data[self._received - offset :] if offset < self._received else data
        start, self._received = self._received, end
        self._szx = min(self._szx, block.szx)
        self._handle = None
        if self._on_block is not None:
            if not self._on_block(start, fresh, self.total, self._etag) or self._cancelled:
                return
        elif end > self._max_body:
            self._fail(f"the response of {self.peer.uri} exceeds {self._max_body} bytes")
            return
        else:
            self._parts.append(fresh)
        if block.more:
            self._download_number = end >> (self._szx + 4)
            self._ask_block2(first=False)
            return
        self._on_result(Message(result.code, result.token, options, b"".join(self._parts)))

    def _whole(self, result: Message) -> None:
        self._handle = None
        if result.code < 128 and self._on_block is not None:
            data = result.payload
            if not self._on_block(0, data, len(data), result.options.etag) or self._cancelled:
                return
        self._on_result(result)


class _Partial:
    __slots__ = ("content_format", "data", "expires")

    def __init__(self, content_format: int | None, expires: float) -> None:
        self.data = bytearray()
        self.content_format = content_format
        self.expires = expires


_Key = tuple[Peer, int, tuple[str, ...], tuple[str, ...]]  # method, path, queries


class BodyAssembler:
    """Joins Block1 requests; one partial body per peer and target, bounded in size and age."""

    __slots__ = ("_lifetime", "_limit", "_partial", "_szx")

    MAX_PARTIAL = 64  # bodies under way at once; the oldest is dropped, its client gets 4.08

    def __init__(self, limit: int, lifetime: float, szx: int = 6) -> None:
        self._limit = limit
        self._lifetime = lifetime
        self._szx = szx
        self._partial: dict[_Key, _Partial] = {}

    def take(self, peer: Peer, request: Message, now: float) -> bytes | Message:
        """The whole body once its last block is here; until then the response to send."""
        options = request.options
        block = options.block1
        if block is None:
            return request.payload
        key = (peer, request.code, options.path, options.queries)
        for stale in [name for name, part in self._partial.items() if part.expires <= now]:
            del self._partial[stale]
        if (options.size1 or 0) > self._limit:
            self._partial.pop(key, None)
            return self._too_large()
        if block.number == 0:
            while len(self._partial) >= self.MAX_PARTIAL:
                del self._partial[next(iter(self._partial))]
            self._partial[key] = _Partial(options.content_format, now + self._lifetime)
        partial = self._partial.get(key)
        if (
            partial is None
            or len(partial.data) != block.offset
            or partial.content_format != options.content_format
        ):
            self._partial.pop(key, None)
            return self._answer(Code.REQUEST_ENTITY_INCOMPLETE, block)
        length = len(request.payload)
        if length > block.size or (block.more and length != block.size):
            del self._partial[key]
            return self._answer(Code.BAD_REQUEST, block)
        if len(partial.data) + length > self._limit:
            del self._partial[key]
            return self._too_large()
        partial.data += request.payload
        partial.expires = now + self._lifetime
        if block.more:
            return self._answer(Code.CONTINUE, block)
        del self._partial[key]
        return bytes(partial.data)

    def _answer(self, code: int, block: Block) -> Message:
        szx = min(block.szx, self._szx)
        number = block.number if szx == block.szx else block.offset >> (szx + 4)
        echoed = Block(number, block.more, szx)
        return response(code, Options.of((OptionNumber.BLOCK1, echoed.encode())))

    def _too_large(self) -> Message:
        size = Options.of((OptionNumber.SIZE1, encode_uint(self._limit)))
        return response(Code.REQUEST_ENTITY_TOO_LARGE, size)


def describe(result: Message | RequestFailed) -> str:
    """A result as one line for logs and reports."""
    return str(result) if isinstance(result, RequestFailed) else code_text(result.code)
