"""A device that is pushed a DM account: it obeys the new server from then on, and never answers."""

from __future__ import annotations

import pytest

from agent.credentials import Credential
from agent.runtime.network import DatagramSocket
from protocols.omadm import package0, wbxml, wsp
from protocols.omadm.bootstrap import CONTENT_TYPE, BootstrapSecrets, Security, protection
from protocols.omadm.model import Add, Header, Item, Message, Meta, MgmtTree, Node
from protocols.omadm.options import read_options
from protocols.omadm.package0 import Notification
from protocols.omadm.tree_nodes import DMACC_TYPE
from tests.protocols.omadm.dm_server import MD5
from tests.protocols.omadm.dm_world import DEVICE, DM, World, run
from tests.protocols.omadm.musts import musts

NEW = "new.example"
NONCE = b"\x80 of the account"
SECRETS = Credential(username="user", password="client secret", token="server secret")
OPTIONS = {"push": "2948", "bootstrap-pin": "2468", "bootstrap-secret": "of the network"}
KNOWN = BootstrapSecrets(b"of the network", "2468")


def _leafs(**values: str | bytes) -> tuple[Node, ...]:
    return tuple(
        Node(name, format="bin" if isinstance(value, bytes) else "chr", value=value)
        for name, value in values.items()
    )


def _node(name: str, *children: Node) -> Node:
    return Node(name, format="node", children=children)


def message() -> bytes:
    account = Node(
        "new",
        format="node",
        ddf_name=DMACC_TYPE,
        children=(
            *_leafs(AppID="w7", ServerID=NEW),
            _node("AppAddr", _node("1", *_leafs(Addr=DM, AddrType="URI"))),
            _node(
                "AppAuth",
                _node(
                    "client",
                    *_leafs(
                        AAuthLevel="CLCRED",
                        AAuthType="DIGEST",
                        AAuthName="user",
                        AAuthSecret="client secret",
                    ),
                ),
                _node(
                    "server",
                    *_leafs(
                        AAuthLevel="SRVCRED",
                        AAuthType="DIGEST",
                        AAuthName="fotilla",
                        AAuthSecret="server secret",
                        AAuthData=NONCE,
                    ),
                ),
            ),
        ),
    )
    meta = Meta(format="xml", type="application/vnd.syncml.dmtnds+wbxml")
    add = Add("1", (Item(target="./Inbox", meta=meta, data=MgmtTree((account,))),))
    return wbxml.encode(Message(Header("0", 1, DEVICE, NEW), (add,), final=True))


def push(security: Security = Security.USERPIN, secrets: BootstrapSecrets = KNOWN) -> bytes:
    body = message()
    parameters = protection(security, body, secrets).parameters
    return wsp.encode(wsp.Push(CONTENT_TYPE, body, wsp.DM_APPLICATION, parameters))


def package(nonce: bytes) -> bytes:
    data = package0.encode(Notification(9, NEW), "fotilla", "server secret", nonce)
    return wsp.encode(wsp.Push(package0.CONTENT_TYPE, data, wsp.DM_APPLICATION))


def sender_of(world: World, heard: list[bytes]) -> DatagramSocket:
    return world.runtime.network.open(("10.9.9.9", 0), lambda data, source: heard.append(data))


@musts("DM-160", "DM-161")
@pytest.mark.parametrize("security", list(Security))
def test_the_new_server_begins_a_session(security: Security) -> None:
    heard: list[bytes] = []

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        where = world.client.push_address
        assert where is not None
        sender = sender_of(world, heard)
        sender.send(package(NONCE), where)
        await world.sleep(5.0)
        assert len(world.server.sessions) == 1, "a server that nobody knows"
        sender.send(push(security), where)
        await world.sleep(1.0)
        world.device.reboot("the account outlives it")
        await world.sleep(1.0)
        await world.until(lambda: world.client_or_none() is not None and world.client.registered)
        before = len(world.server.sessions)
        sender.send(package(NONCE), where)
        await world.until(
            lambda: len(world.server.sessions) == before + 1 and world.server.session.over
        )

    world = run(story, options=OPTIONS, credential=SECRETS, server={"server_auth": MD5})
    assert world.server.session.id == "9"
    assert world.server.session.codes == [1200]
    assert heard == [], "it is never answered"
    assert ("account", "NONE", "KNOWN", f"bootstrap of {NEW}") in world.events


@musts("DM-096", "DM-161")
@pytest.mark.parametrize(
    ("options", "secrets"),
    [
        (OPTIONS, BootstrapSecrets(user_pin="1357")),
        ({"push": "2948"}, KNOWN),
        ({"push": "2948", "bootstrap-secret": "of the network"}, KNOWN),
    ],
)
def test_a_forged_one_meets_silence(options: dict[str, str], secrets: BootstrapSecrets) -> None:
    heard: list[bytes] = []

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        where = world.client.push_address
        assert where is not None
        sender = sender_of(world, heard)
        sender.send(push(secrets=secrets), where)
        sender.send(package(NONCE), where)
        await world.sleep(10.0)

    world = run(story, options=options, credential=SECRETS, server={"server_auth": MD5})
    assert len(world.server.sessions) == 1
    assert heard == []
    assert all(event[0] != "account" for event in world.events)
    assert any("MAC of USERPIN is wrong" in line for line in world.lines)
    shown = str(world.lines) + str(world.events) + repr(read_options(options))
    assert "2468" not in shown and "of the network" not in shown
