"""An object of a device that fits no message: cut as it is carried, in either representation."""

from __future__ import annotations

import pytest

from protocols.omadm import encoding
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import Header, Item, Meta, Results
from protocols.omadm.outbox import Outbox
from tests.protocols.omadm.musts import musts

LIMIT = 1500
OCTETS = bytes(range(256)) * 16
TEXT = "Söhne und Töchter; " * 300


def chunks(item: Item, way: Encoding) -> list[Item]:
    """What the other side gets, message by message."""
    outbox = Outbox(
        lambda message: encoding.size_of(message, way), lambda item: encoding.carried(item, way)
    )
    outbox.limit = LIMIT
    outbox.add([Results("", 1, "2", (item,))])
    found = []
    while outbox:
        message = encoding.encode(outbox.pack(Header("1", 1, "a", "b"), [], final=True), way)
        assert len(message) <= LIMIT
        decoded = encoding.decode(message, way)
        (results,) = decoded.commands
        assert isinstance(results, Results)
        found += results.items
        assert decoded.final is not results.items[0].more_data
    return found


@musts("DM-054", "DM-055", "DM-056")
@pytest.mark.parametrize("way", list(Encoding))
@pytest.mark.parametrize(
    ("format", "data"), [("bin", OCTETS), ("chr", TEXT), ("b64", "QUJD" * 1000)]
)
def test_the_chunks_are_the_object(way: Encoding, format: str, data: str | bytes) -> None:
    found = chunks(Item(source="./x", meta=Meta(format), data=data), way)
    assert len(found) > 2
    assert [item.more_data for item in found] == [True] * (len(found) - 1) + [False]
    first, *others = (item.meta for item in found)
    carried = b"".join(
        item.data if isinstance(item.data, bytes) else str(item.data).encode() for item in found
    )
    assert first is not None
    assert first.size == len(carried)
    assert all(meta == Meta(first.format) for meta in others)
    whole = Item(
        meta=Meta(first.format), data=carried.decode() if first.format != "bin" else carried
    )
    assert whole.octets() == Item(meta=Meta(format), data=data).octets()
