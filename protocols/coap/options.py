"""Options: parsed once per distinct byte string, then shared.

A fleet says the same few things thousands of times: ``/5/0/3``, ``ct=0``, block 17 of 256. So an
:class:`Options` object is immutable and interned by its bytes; decoding a datagram whose options
were seen before is one dictionary look-up, and paths, blocks and formats are already worked out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from sys import intern

from protocols.coap.errors import CoapFormatError, LocalMisuse
from protocols.coap.numbers import OptionNumber

__all__ = ["NO_OPTIONS", "Block", "Options", "decode_uint", "encode_uint", "make_options"]

# The cache is emptied when full: a peer that sends random options costs CPU, never memory.
CACHE_LIMIT = 2048
# Longer option strings are not worth keeping (a peer's 64 KiB of options stays nobody's memory).
CACHE_KEY_LIMIT = 256

Pair = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Block:
    """RFC 7959 section 2.2: block ``number``, whether ``more`` follow, and the size exponent."""

    number: int
    more: bool
    szx: int

    @property
    def size(self) -> int:
        """Bytes in a full block, 16 to 1024."""
        return 16 << self.szx

    @property
    def offset(self) -> int:
        """Where the block starts in the body."""
        return self.number << (self.szx + 4)

    def encode(self) -> bytes:
        return encode_uint(self.number << 4 | self.more << 3 | self.szx)


def encode_uint(value: int) -> bytes:
    """RFC 7252 section 3.2: the shortest form; zero is the empty string."""
    return value.to_bytes((value.bit_length() + 7) >> 3, "big")


def decode_uint(data: bytes) -> int:
    return int.from_bytes(data, "big")


# RFC 7252 section 5.10 table 4 and RFC 7959: lengths outside make an option unrecognised.
_LENGTHS: dict[int, tuple[int, int]] = {
    OptionNumber.IF_MATCH: (0, 8),
    OptionNumber.URI_HOST: (1, 255),
    OptionNumber.ETAG: (1, 8),
    OptionNumber.IF_NONE_MATCH: (0, 0),
    OptionNumber.OBSERVE: (0, 3),
    OptionNumber.URI_PORT: (0, 2),
    OptionNumber.LOCATION_PATH: (0, 255),
    OptionNumber.URI_PATH: (0, 255),
    OptionNumber.CONTENT_FORMAT: (0, 2),
    OptionNumber.MAX_AGE: (0, 4),
    OptionNumber.URI_QUERY: (0, 255),
    OptionNumber.ACCEPT: (0, 2),
    OptionNumber.LOCATION_QUERY: (0, 255),
    OptionNumber.BLOCK2: (0, 3),
    OptionNumber.BLOCK1: (0, 3),
    OptionNumber.SIZE2: (0, 4),
    OptionNumber.PROXY_URI: (1, 1034),
    OptionNumber.PROXY_SCHEME: (1, 255),
    OptionNumber.SIZE1: (0, 4),
}
_REPEATABLE = {
    OptionNumber.IF_MATCH,
    OptionNumber.ETAG,
    OptionNumber.LOCATION_PATH,
    OptionNumber.URI_PATH,
    OptionNumber.URI_QUERY,
    OptionNumber.LOCATION_QUERY,
}


class Options:
    """One message's options. ``pairs`` in ascending order; the rest is worked out from them.

    ``unsupported`` is the number of the first critical option that this endpoint does not know or
    that is malformed, None when there is none (RFC 7252 sections 5.4.1 and 5.4.3: a request with
    one is answered 4.02, a response with one is rejected). Malformed elective options are ignored.
    """

    __slots__ = (
        "accept",
        "block1",
        "block2",
        "content_format",
        "echo",
        "etag",
        "location",
        "observe",
        "pairs",
        "path",
        "queries",
        "raw",
        "size1",
        "size2",
        "unsupported",
    )

    def __init__(self, pairs: tuple[Pair, ...], raw: bytes) -> None:
        self.pairs = pairs
        self.raw = raw
        self.content_format: int | None = None
        self.accept: int | None = None
        self.observe: int | None = None
        self.block1: Block | None = None
        self.block2: Block | None = None
        self.size1: int | None = None
        self.size2: int | None = None
        self.etag = b""
        # The answer's options to a block of a request (RFC 7959 section 2.3), made once by whoever
        # answers it: every device gets the same block.
        self.echo: Options | None = None
        self.unsupported: int | None = None
        path: list[str] = []
        queries: list[str] = []
        location: list[str] = []
        seen = -1
        for number, value in pairs:
            bounds = _LENGTHS.get(number)
            valid = bounds is not None and bounds[0] <= len(value) <= bounds[1]
            if valid and number == seen and number not in _REPEATABLE:
                valid = False
            seen = number
            if valid:
                valid = self._take(number, value, path, queries, location)
            if not valid and number & 1 and self.unsupported is None:
                self.unsupported = number
        self.path = tuple(path)
        self.queries = tuple(queries)
        self.location = tuple(location)

    def _take(
        self, number: int, value: bytes, path: list[str], queries: list[str], location: list[str]
    ) -> bool:
        try:
            if number == OptionNumber.URI_PATH:
                path.append(value.decode())
            elif number == OptionNumber.URI_QUERY:
                queries.append(value.decode())
            elif number == OptionNumber.LOCATION_PATH:
                location.append(intern(value.decode()))
        except UnicodeDecodeError:
            return False
        if number == OptionNumber.CONTENT_FORMAT:
            self.content_format = decode_uint(value)
        elif number == OptionNumber.ACCEPT:
            self.accept = decode_uint(value)
        elif number == OptionNumber.OBSERVE:
            self.observe = decode_uint(value)
        elif number == OptionNumber.ETAG:
            self.etag = self.etag or value
        elif number == OptionNumber.SIZE1:
            self.size1 = decode_uint(value)
        elif number == OptionNumber.SIZE2:
            self.size2 = decode_uint(value)
        elif number in (OptionNumber.BLOCK1, OptionNumber.BLOCK2):
            bits = decode_uint(value)
            if bits & 7 == 7:  # reserved over UDP (RFC 7959 section 2.2)
                return False
            block = Block(bits >> 4, bool(bits & 8), bits & 7)
            if number == OptionNumber.BLOCK1:
                self.block1 = block
            else:
                self.block2 = block
        elif number in (OptionNumber.PROXY_URI, OptionNumber.PROXY_SCHEME):
            return False  # known, but we are no proxy
        return True

    @property
    def shareable(self) -> bool:
        """Whether other messages will say the same. Queries and locations name one device, and so
        does what is long."""
        return not (self.queries or self.location) and len(self.raw) <= CACHE_KEY_LIMIT

    def values(self, number: int) -> list[bytes]:
        """All values of one option, in order."""
        return [value for option, value in self.pairs if option == number]

    @classmethod
    def of(cls, *pairs: Pair) -> Options:
        """The shared object for these (number, value) pairs, sorted by number as the wire needs."""
        ordered = tuple(sorted(pairs, key=_number))
        options = _by_pairs.get(ordered)
        if options is None:
            for number, value in ordered:
                low, high = _LENGTHS.get(number, (0, 0xFFFF))
                if not low <= len(value) <= high:
                    raise LocalMisuse(
                        f"option {number} takes {low} to {high} bytes, not {len(value)}"
                    )
            options = cls(ordered, _encode(ordered))
            if options.shareable:
                if len(_by_pairs) >= CACHE_LIMIT:
                    _by_pairs.clear()
                _by_pairs[ordered] = options
        return options

    def __repr__(self) -> str:
        return f"<Options {' '.join(f'{number}={value.hex()}' for number, value in self.pairs)}>"


def _number(pair: Pair) -> int:
    return pair[0]


_by_pairs: dict[tuple[Pair, ...], Options] = {}
_by_bytes: dict[bytes, Options] = {}


def _encode(pairs: Iterable[Pair]) -> bytes:
    """RFC 7252 section 3.1."""
    out = bytearray()
    last = 0
    for number, value in pairs:
        delta, last = number - last, number
        first = len(out)
        out.append(0)
        out[first] = _nibble(delta, out) << 4 | _nibble(len(value), out)
        out += value
    return bytes(out)


def _nibble(value: int, out: bytearray) -> int:
    if value < 13:
        return value
    if value < 269:
        out.append(value - 13)
        return 13
    out += (value - 269).to_bytes(2, "big")
    return 14


def parse(data: bytes, start: int) -> tuple[Options, int]:
    """The options that begin at ``start``, and where the payload begins.

    Raises :class:`CoapFormatError` for what RFC 7252 section 3 calls a message format error.
    """
    marker = data.find(0xFF, start)
    end = marker if marker >= 0 else len(data)
    # The first 0xFF is the payload marker unless it lies inside an option's value; a byte string
    # that is in the cache was parsed to its end before, so there it is the marker.
    key = data[start:end]
    options = _by_bytes.get(key)
    if options is not None:
        if marker < 0:
            return options, end
        if end + 1 == len(data):
            raise CoapFormatError("a payload marker without a payload")
        return options, end + 1
    return _parse_fresh(data, start)


def _parse_fresh(data: bytes, start: int) -> tuple[Options, int]:
    pairs: list[Pair] = []
    length = len(data)
    at = start
    number = 0
    payload = length
    try:
        while at < length:
            head = data[at]
            if head == 0xFF:
                if at + 1 == length:
                    raise CoapFormatError("a payload marker without a payload")
                payload = at + 1
                break
            at += 1
            delta, size = head >> 4, head & 15
            if delta == 15 or size == 15:
                raise CoapFormatError(f"reserved option nibble 15 at byte {at - 1}")
            if delta >= 13:
                delta, at = _extended(data, at, delta)
            if size >= 13:
                size, at = _extended(data, at, size)
            number += delta
            end = at + size
            if end > length:
                raise CoapFormatError(
                    f"option {number} claims {size} bytes, {length - at} are there"
                )
            pairs.append((number, data[at:end]))
            at = end
    except IndexError:
        raise CoapFormatError("an option header is cut short") from None
    if number > 0xFFFF:
        raise CoapFormatError(f"option number {number} is beyond 65535")
    raw = data[start:at]
    options = Options(tuple(pairs), raw)
    if options.shareable and 0xFF not in raw:
        if len(_by_bytes) >= CACHE_LIMIT:
            _by_bytes.clear()
        _by_bytes[raw] = options
    return options, payload


def _extended(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    if nibble == 13:
        return data[at] + 13, at + 1
    return (data[at] << 8 | data[at + 1]) + 269, at + 2


NO_OPTIONS = Options.of()


def make_options(
    *,
    path: Iterable[str | int] = (),
    queries: Iterable[str] = (),
    content_format: int | None = None,
    accept: int | None = None,
    observe: int | None = None,
    block1: Block | None = None,
    block2: Block | None = None,
    size1: int | None = None,
    size2: int | None = None,
    etag: bytes = b"",
    location: Iterable[str] = (),
    max_age: int | None = None,
) -> Options:
    """The shared object for options given by name."""
    pairs: list[Pair] = [(OptionNumber.URI_PATH, str(part).encode()) for part in path]
    pairs += [(OptionNumber.URI_QUERY, query.encode()) for query in queries]
    pairs += [(OptionNumber.LOCATION_PATH, part.encode()) for part in location]
    for number, value in (
        (OptionNumber.CONTENT_FORMAT, content_format),
        (OptionNumber.ACCEPT, accept),
        (OptionNumber.OBSERVE, observe),
        (OptionNumber.SIZE1, size1),
        (OptionNumber.SIZE2, size2),
        (OptionNumber.MAX_AGE, max_age),
    ):
        if value is not None:
            pairs.append((number, encode_uint(value)))
    if block1 is not None:
        pairs.append((OptionNumber.BLOCK1, block1.encode()))
    if block2 is not None:
        pairs.append((OptionNumber.BLOCK2, block2.encode()))
    if etag:
        pairs.append((OptionNumber.ETAG, etag))
    return Options.of(*pairs)
