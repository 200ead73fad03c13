from __future__ import annotations

import pytest

from protocols.omadm import encoding, wbxml, xml
from protocols.omadm.encoding import Encoding
from protocols.omadm.errors import CodecLimits, SyncmlError
from protocols.omadm.model import Item, Meta, Replace
from tests.protocols.omadm.messages import PACKAGE_1, TREE, around, command_of
from tests.protocols.omadm.musts import musts


@musts("DM-133")
@pytest.mark.parametrize(
    ("content_type", "found"),
    [
        ("application/vnd.syncml.dm+xml", Encoding.XML),
        ("application/vnd.syncml.dm+wbxml", Encoding.WBXML),
        ("Application/vnd.syncml.DM+wbxml; charset=utf-8", Encoding.WBXML),
        (" application/vnd.syncml.dm+xml ;q=1", Encoding.XML),
        ("application/vnd.syncml+xml", Encoding.XML),  # libdmclient
        ("application/vnd.syncml+wbxml", Encoding.WBXML),
    ],
)
def test_content_types(content_type: str, found: Encoding) -> None:
    assert encoding.of(content_type) is found


@musts("DM-133")
@pytest.mark.parametrize("content_type", ["", "text/html", "application/vnd.syncml.dmtnds+xml"])
def test_content_types_that_are_others(content_type: str) -> None:
    with pytest.raises(SyncmlError, match="is not SyncML's"):
        encoding.of(content_type)


def test_each_goes_its_way() -> None:
    assert encoding.encode(PACKAGE_1, Encoding.XML) == xml.encode(PACKAGE_1)
    assert encoding.encode(PACKAGE_1, Encoding.WBXML) == wbxml.encode(PACKAGE_1)
    for way in Encoding:
        octets = encoding.encode(PACKAGE_1, way)
        assert encoding.decode(octets, way) == PACKAGE_1
        assert encoding.size_of(PACKAGE_1, way) == len(octets)
        assert encoding.of(way.content_type) is way
        with pytest.raises(SyncmlError, match="1 are taken"):
            encoding.decode(octets, way, CodecLimits(size=1))
    with pytest.raises(SyncmlError):
        encoding.decode(xml.encode(PACKAGE_1), Encoding.WBXML)
    with pytest.raises(SyncmlError):
        encoding.decode(wbxml.encode(PACKAGE_1), Encoding.XML)


@musts("DM-055", "DM-127")
def test_data_as_carried() -> None:
    """What is cut into chunks is what the message carries: base64 may be cut anywhere."""
    octets = Item(target="./x", meta=Meta("bin", "app/x"), data=b"\x00\xff" * 10)
    assert encoding.carried(octets, Encoding.WBXML) is octets
    text = encoding.carried(octets, Encoding.XML)
    assert text.meta == Meta("b64", "app/x")
    assert text.octets() == octets.data
    message = around(Replace("1", (octets,)))
    assert command_of(xml.decode(xml.encode(message))).items == (text,)
    for item in (Item(data="a"), Item(), Item(data=TREE), Item(data="YQ==", meta=Meta("b64"))):
        assert encoding.carried(item, Encoding.XML) is item
    assert encoding.carried(Item(data="a", meta=Meta("bin")), Encoding.XML) == Item(
        data="YQ==", meta=Meta("b64")
    )
    assert encoding.carried(Item(data=b"a"), Encoding.XML) == Item(data="YQ==", meta=Meta("b64"))
