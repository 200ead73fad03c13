"""From bytes to parts: header, areas, records. Believes nothing, checks that it all fits.

The steps are apart because a device must run them in the bootloader's order with checks between
them; `decode_image` runs them in one go, for those who look at an image without trusting it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from firmware_images.errors import ImageRefused, Reason
from firmware_images.mcuboot.format import (
    ADDRESS_LIMIT,
    AREA_HEADER,
    HEADER_SIZE,
    IMAGE_MAGIC,
    PROTECTED_MAGIC,
    RECORD_HEADER,
    UNPROTECTED_MAGIC,
    Flag,
    Header,
    Tlv,
    tlv_name,
)
from firmware_images.mcuboot.version import Version
from firmware_images.source import ByteSource

__all__ = ["Areas", "Dependency", "ImageInfo", "Layout", "Record", "decode_image"]

_DEPENDENCY = struct.Struct("<B3x8s")
_COUNTER = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Dependency:
    """`image_id` must be present in version `minimum` or later."""

    image_id: int
    minimum: Version

    def encode(self) -> bytes:
        return _DEPENDENCY.pack(self.image_id, self.minimum.encode())

    def __str__(self) -> str:
        return f"image {self.image_id} >= {self.minimum}"


@dataclass(frozen=True, slots=True)
class Record:
    kind: int
    value: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{tlv_name(self.kind)}, {len(self.value)} bytes"


@dataclass(frozen=True, slots=True)
class Areas:
    """Where the record areas lie."""

    protected_start: int
    protected_end: int
    """Also where the hashed region ends and the unprotected area starts."""
    end: int

    @property
    def protected_size(self) -> int:
        return self.protected_end - self.protected_start


@dataclass(frozen=True, slots=True)
class Layout:
    """A parsed image of which nothing has been verified."""

    header: Header
    areas: Areas
    protected: tuple[Record, ...]
    unprotected: tuple[Record, ...]

    def find(self, kind: Tlv) -> bytes | None:
        """The first record of this kind, wherever it stands."""
        for record in (*self.protected, *self.unprotected):
            if record.kind == kind:
                return record.value
        return None

    def security_counter(self) -> int | None:
        for record in self.protected:
            if record.kind == Tlv.SEC_CNT:
                return int(_COUNTER.unpack(_exactly(record, _COUNTER.size))[0])
        return None

    def dependencies(self) -> tuple[Dependency, ...]:
        return tuple(
            Dependency(image_id, Version.decode(version))
            for image_id, version in (
                _DEPENDENCY.unpack(_exactly(record, _DEPENDENCY.size))
                for record in self.protected
                if record.kind == Tlv.DEPENDENCY
            )
        )


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a verified image says about itself."""

    version: Version
    header_size: int
    image_size: int
    """Length of the payload alone."""
    total_size: int
    """Header, payload and all records: what the image occupies in a slot."""
    security_counter: int | None
    dependencies: tuple[Dependency, ...]
    digest: bytes
    """SHA-256 over header, payload and protected records: the image's name everywhere else."""
    key_hash: bytes
    flags: Flag
    load_addr: int


def read_header(source: ByteSource) -> Header:
    """Check 1: the magic. Looked at before the length, so that a wrong file is called wrong."""
    data = source.read(0, HEADER_SIZE)
    magic = data[:4]
    if len(magic) == 4 and int.from_bytes(magic, "little") != IMAGE_MAGIC:
        raise ImageRefused(
            Reason.BAD_MAGIC,
            f"begins with {magic.hex()} instead of {IMAGE_MAGIC.to_bytes(4, 'little').hex()}",
        )
    if len(data) < HEADER_SIZE:
        raise ImageRefused(
            Reason.TRUNCATED, f"{len(data)} bytes are less than the header of {HEADER_SIZE}"
        )
    return Header.decode(data)


def locate_areas(source: ByteSource, header: Header, capacity: int) -> Areas:
    """Check 2: header, payload and both areas lie within `capacity` and within the source."""
    if header.header_size < HEADER_SIZE:
        raise ImageRefused(
            Reason.BAD_STRUCTURE,
            f"header size {header.header_size} is less than the header itself ({HEADER_SIZE})",
        )
    start = header.payload_end
    kind, size = _area_at(source, start, capacity)
    if kind == PROTECTED_MAGIC:
        middle = start + size
        kind, size = _area_at(source, middle, capacity)
    else:
        middle = start
    if kind != UNPROTECTED_MAGIC:
        raise ImageRefused(
            Reason.BAD_STRUCTURE,
            f"a second protected area at offset {middle}, where the unprotected one belongs",
        )
    return Areas(protected_start=start, protected_end=middle, end=middle + size)


def check_claim(header: Header, areas: Areas) -> None:
    """Check 5: the header, which is signed, says how long the protected area is."""
    if header.protected_size != areas.protected_size:
        raise ImageRefused(
            Reason.BAD_STRUCTURE,
            f"header claims {header.protected_size} bytes of protected records, "
            f"there are {areas.protected_size}",
        )


def read_records(source: ByteSource, start: int, end: int) -> tuple[Record, ...]:
    """The records between an area's start and end; an empty area has no header either."""
    if start == end:
        return ()
    data = source.read(start + AREA_HEADER.size, end - start - AREA_HEADER.size)
    return tuple(_split(data, start + AREA_HEADER.size))


def decode_image(source: ByteSource) -> Layout:
    """Parse without trusting: no slot, no keys, no hash. Raises `ImageRefused` if it cannot."""
    header = read_header(source)
    areas = locate_areas(source, header, ADDRESS_LIMIT)
    check_claim(header, areas)
    return Layout(
        header,
        areas,
        read_records(source, areas.protected_start, areas.protected_end),
        read_records(source, areas.protected_end, areas.end),
    )


def _area_at(source: ByteSource, offset: int, capacity: int) -> tuple[int, int]:
    """Magic and length of the area at `offset`, once it is known to fit."""
    _check_end(offset + AREA_HEADER.size, source, capacity)
    head = source.read(offset, AREA_HEADER.size)
    if len(head) < AREA_HEADER.size:
        raise ImageRefused(Reason.TRUNCATED, f"ends within the record area at offset {offset}")
    kind, size = AREA_HEADER.unpack(head)
    if kind not in (PROTECTED_MAGIC, UNPROTECTED_MAGIC):
        raise ImageRefused(
            Reason.BAD_STRUCTURE, f"no record area at offset {offset}, but 0x{kind:04x}"
        )
    if size < AREA_HEADER.size:
        raise ImageRefused(
            Reason.BAD_STRUCTURE, f"record area at offset {offset} claims {size} bytes in all"
        )
    _check_end(offset + size, source, capacity)
    return kind, size


def _check_end(end: int, source: ByteSource, capacity: int) -> None:
    if end > capacity:
        raise ImageRefused(Reason.TOO_LARGE, f"reaches to byte {end} of {capacity} available")
    if end > len(source):
        raise ImageRefused(Reason.TRUNCATED, f"reaches to byte {end}, there are {len(source)}")


def _split(data: bytes, base: int) -> Iterator[Record]:
    position = 0
    while position < len(data):
        value = position + RECORD_HEADER.size
        if value > len(data):
            raise ImageRefused(
                Reason.BAD_STRUCTURE, f"record at offset {base + position} is cut off"
            )
        kind, size = RECORD_HEADER.unpack_from(data, position)
        if value + size > len(data):
            raise ImageRefused(
                Reason.BAD_STRUCTURE,
                f"{tlv_name(kind)} at offset {base + position} reaches beyond its area",
            )
        yield Record(kind, data[value : value + size])
        position = value + size


def _exactly(record: Record, size: int) -> bytes:
    if len(record.value) != size:
        raise ImageRefused(
            Reason.BAD_STRUCTURE,
            f"{tlv_name(record.kind)} has {len(record.value)} bytes instead of {size}",
        )
    return record.value
