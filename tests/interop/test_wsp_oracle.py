"""tshark reads our WSP pushes: the header it prints is the one that was meant, and behind it stand
package 0 and the bootstrap message octet for octet.

tshark knows the header and both media types; it does not take package 0 apart.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from protocols.omadm import package0, wbxml
from protocols.omadm.bootstrap import CONTENT_TYPE as BOOTSTRAP
from protocols.omadm.bootstrap import BootstrapSecrets, Security, protection
from protocols.omadm.model import Add, Header, Item, Message, Meta
from protocols.omadm.package0 import Notification, UiMode
from protocols.omadm.wsp import DM_APPLICATION, PORT, Push, decode, encode

_FIELDS = (
    "udp.dstport",
    "wsp.TID",
    "wsp.pdu_type",
    "wsp.headers_length",
    "wsp.header.content_type",
    "wsp.header.x_wap_application_id",
    "wsp.parameter.sec",
    "wsp.parameter.mac",
    "media.type",
    "_ws.malformed",
)

SECRETS = BootstrapSecrets(network_id=b"\x29\x43\x15\x00", user_pin="2468")
_NUMBER_OF = {Security.NETWORKID: "0", Security.USERPIN: "1", Security.USERPIN_NETWORKID: "2"}


def dissect(push: bytes, folder: Path) -> dict[str, str]:
    """What tshark finds in a datagram to the push port."""
    lines = (f"{at:06x} {push[at : at + 16].hex(' ')}\n" for at in range(0, len(push), 16))
    capture = folder / "push.pcap"
    subprocess.run(
        ["text2pcap", "-q", "-u", f"9200,{PORT}", "-", str(capture)],
        input="".join(lines).encode(),
        check=True,
        capture_output=True,
        timeout=60,
    )
    wanted = [part for name in _FIELDS for part in ("-e", name)]
    told = subprocess.run(
        ["tshark", "-r", str(capture), "-T", "fields", "-E", "separator=|", *wanted],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return dict(zip(_FIELDS, told.stdout.rstrip("\n").split("|"), strict=True))


@pytest.mark.parametrize("transaction_id", [0, 1, 255])
@pytest.mark.parametrize("vendor", [b"", bytes(range(200))])
def test_a_notification(transaction_id: int, vendor: bytes, tmp_path: Path) -> None:
    notification = Notification(0xABCD, "srv.example", UiMode.INTERACTION, vendor=vendor)
    body = package0.encode(notification, "srv.example", "secret", b"nonce")
    push = encode(Push(package0.CONTENT_TYPE, body, DM_APPLICATION, transaction_id=transaction_id))
    found = dissect(push, tmp_path)
    assert found["udp.dstport"] == "2948"
    assert int(found["wsp.TID"], 0) == transaction_id
    assert int(found["wsp.pdu_type"], 0) == 6
    assert found["wsp.headers_length"] == "3"
    assert found["wsp.header.content_type"] == "application/vnd.syncml.notification"
    assert found["wsp.header.x_wap_application_id"] == "x-wap-application:syncml.dm"
    assert bytes.fromhex(found["media.type"]) == body
    assert found["_ws.malformed"] == ""


@pytest.mark.parametrize("security", list(Security))
def test_a_bootstrap_message(security: Security, tmp_path: Path) -> None:
    item = Item(target="./DMAcc/srv", meta=Meta(format="node"))
    message = Message(
        Header("0", 1, "IMEI:493005100592800", "srv.example"), (Add("1", (item,)),), final=True
    )
    body = wbxml.encode(message)
    protected = protection(security, body, SECRETS)
    push = Push(BOOTSTRAP, body, DM_APPLICATION, protected.parameters)
    found = dissect(encode(push), tmp_path)
    assert found["wsp.header.content_type"].startswith("application/vnd.syncml.dm+wbxml")
    assert int(found["wsp.parameter.sec"], 0) == int(_NUMBER_OF[security])
    assert found["wsp.parameter.mac"] == protected.mac
    assert found["wsp.header.x_wap_application_id"] == "x-wap-application:syncml.dm"
    assert found["_ws.malformed"] == ""


def test_names_in_full(tmp_path: Path) -> None:
    """An application that has no number here, and a media type that has none."""
    push = Push("application/x-unknown", b"body", "x-wap-application:push.sia", {"SEC": "other"})
    found = dissect(encode(push), tmp_path)
    assert found["wsp.header.content_type"].startswith("application/x-unknown")
    assert found["wsp.header.x_wap_application_id"] == "x-wap-application:push.sia"
    assert found["_ws.malformed"] == ""
    assert decode(encode(push)) == push
    assert decode(encode(replace(push, parameters={}))).parameters == {}
