"""Bootstrap of DM accounts: who is believed, what is done, and that nothing stays of a bad one."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import LocalMisuse
from protocols.omadm import wbxml, wsp
from protocols.omadm.auth import AuthType
from protocols.omadm.bootstrap import (
    CONTENT_TYPE,
    BootstrapError,
    BootstrapSecrets,
    Protection,
    Security,
    mac,
    parse_content_type,
    protection,
    receive,
)
from protocols.omadm.model import (
    Add,
    Atomic,
    Command,
    Delete,
    Get,
    Header,
    Item,
    Message,
    Meta,
    MgmtTree,
    Node,
    Replace,
)
from protocols.omadm.standard_objects import DmAccount, read_accounts
from protocols.omadm.tree import Tree
from protocols.omadm.tree_nodes import DMACC_TYPE
from tests.protocols.omadm.device_parts import PERSONA, SERVER, make_nvm
from tests.protocols.omadm.musts import musts

SECRETS = BootstrapSecrets(network_id=b"\x29\x43\x15\x00\x88", user_pin="2468")
TREE = Meta(format="xml", type="application/vnd.syncml.dmtnds+wbxml")
NODE = Meta(format="node")
NEW = "dm.example"
ADDRESS = "https://dm.example/dm"


def leafs(**values: str | bytes) -> tuple[Node, ...]:
    return tuple(
        Node(name, format="bin" if isinstance(value, bytes) else "chr", value=value)
        for name, value in values.items()
    )


def node(name: str, *children: Node) -> Node:
    return Node(name, format="node", children=children)


def account(name: str = "operator", *, server: str = NEW) -> Node:
    credentials = (
        ("client", "CLCRED", "DIGEST", "device", "device secret", b"\x01nonce"),
        ("server", "SRVCRED", "HMAC", server, "server secret", b"\x02nonce"),
    )
    return Node(
        name,
        format="node",
        ddf_name=DMACC_TYPE,
        acl=f"Get={server}&Replace={server}&Delete={server}",
        children=(
            *leafs(AppID="w7", ServerID=server, Name="Operator"),
            node("AppAddr", node("1", *leafs(Addr=ADDRESS, AddrType="URI"))),
            *leafs(AAuthPref="DIGEST"),
            node(
                "AppAuth",
                *(
                    node(
                        one,
                        *leafs(
                            AAuthLevel=level,
                            AAuthType=kind,
                            AAuthName=user,
                            AAuthSecret=secret,
                            AAuthData=nonce,
                        ),
                    )
                    for one, level, kind, user, secret, nonce in credentials
                ),
            ),
        ),
    )


def message(*commands: Command) -> bytes:
    return wbxml.encode(Message(Header("0", 1, "IMEI:493005100592800", NEW), commands, final=True))


def inbox(*nodes: Node) -> Add:
    return Add("1", (Item(target="./Inbox", meta=TREE, data=MgmtTree(nodes)),))


GOOD = message(inbox(account()))

EXPECTED = DmAccount(
    "operator",
    NEW,
    ADDRESS,
    AuthType.MD5,
    "device",
    "device secret",
    b"\x01nonce",
    AuthType.HMAC,
    NEW,
    "server secret",
    b"\x02nonce",
)


def device() -> Tree:
    return Tree(PERSONA, make_nvm())


def refused(body: bytes, content_type: str, *, secrets: BootstrapSecrets = SECRETS) -> str:
    tree = device()
    with pytest.raises(BootstrapError) as caught:
        receive(body, content_type, secrets, tree)
    assert tree.root is PERSONA.root, "nothing stays of it"
    return str(caught.value)


def signed(body: bytes, security: Security = Security.USERPIN) -> str:
    return protection(security, body, SECRETS).content_type


# --- protection


@musts("DM-096", "DM-160")
@pytest.mark.parametrize(
    ("security", "key"),
    [
        (Security.NETWORKID, b"\x29\x43\x15\x00\x88"),
        (Security.USERPIN, b"2468"),
        (Security.USERPIN_NETWORKID, b"2468:\x29\x43\x15\x00\x88"),
    ],
)
def test_the_mac_is_the_hmac_of_rfc_2104(security: Security, key: bytes) -> None:
    expected = hmac.new(key, GOOD, hashlib.sha1).hexdigest()
    made = protection(security, GOOD, SECRETS)
    assert made.mac == expected.upper()
    assert made.content_type == f"{CONTENT_TYPE}; SEC={security.value}; MAC={expected.upper()}"
    assert parse_content_type(made.content_type) == made


def test_rfc_2202_case_2() -> None:
    assert mac(b"Jefe", b"what do ya want for nothing?") == (
        "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79".upper()
    )


@musts("DM-096")
@pytest.mark.parametrize("security", list(Security))
@pytest.mark.parametrize("change", [str.upper, str.lower])
def test_either_case_of_hex_is_taken(security: Security, change: object) -> None:
    assert callable(change)
    made = protection(security, GOOD, SECRETS)
    text = Protection(security, change(made.mac)).content_type
    assert receive(GOOD, text, SECRETS, device()) == (EXPECTED,)


def test_over_wap_push() -> None:
    made = protection(Security.USERPIN_NETWORKID, GOOD, SECRETS)
    push = wsp.Push(CONTENT_TYPE, GOOD, wsp.DM_APPLICATION, made.parameters)
    arrived = wsp.decode(wsp.encode(push))
    assert receive(arrived.body, arrived, SECRETS, device()) == (EXPECTED,)


@musts("DM-096")
@pytest.mark.parametrize(
    ("content_type", "why"),
    [
        ("application/vnd.syncml.dm+xml; SEC=USERPIN; MAC=" + "0" * 40, "Content-Type"),
        (CONTENT_TYPE, "no SEC"),
        (f"{CONTENT_TYPE}; SEC=USERMAC; MAC=" + "0" * 40, "no SEC"),
        (f"{CONTENT_TYPE}; SEC=USERPIN", "no MAC"),
        (f"{CONTENT_TYPE}; SEC=USERPIN; MAC=", "no MAC"),
        (f"{CONTENT_TYPE}; SEC=USERPIN; MAC=" + "0" * 39, "no MAC"),
        (f"{CONTENT_TYPE}; SEC=USERPIN; MAC=" + "g" * 40, "no MAC"),
        (f"{CONTENT_TYPE}; SEC=USERPIN; MAC=" + "0" * 40, "MAC of USERPIN is wrong"),
        (f"{CONTENT_TYPE}; SEC USERPIN", "no parameter"),
        ("x" * 300, "300 characters"),
    ],
)
def test_who_is_not_believed(content_type: str, why: str) -> None:
    assert why in refused(GOOD, content_type)


@musts("DM-160")
@pytest.mark.parametrize(
    ("secrets", "security"),
    [
        (BootstrapSecrets(), Security.NETWORKID),
        (BootstrapSecrets(user_pin="2468"), Security.NETWORKID),
        (BootstrapSecrets(user_pin="2468"), Security.USERPIN_NETWORKID),
        (BootstrapSecrets(network_id=b"x"), Security.USERPIN_NETWORKID),
        (BootstrapSecrets(network_id=b"x", user_pin=""), Security.USERPIN),
        (BootstrapSecrets(user_pin="1357"), Security.USERPIN),
    ],
)
def test_a_device_without_the_secret_believes_nobody(
    secrets: BootstrapSecrets, security: Security
) -> None:
    assert "is wrong" in refused(GOOD, signed(GOOD, security), secrets=secrets)
    # Nor one who knows that there is none.
    forged = Protection(security, mac(b"", GOOD)).content_type
    assert "is wrong" in refused(GOOD, forged, secrets=secrets)
    forged = Protection(security, mac(b"\0", GOOD)).content_type
    assert "is wrong" in refused(GOOD, forged, secrets=secrets)


@musts("DM-096")
def test_a_changed_message_is_noticed() -> None:
    body = GOOD.replace(b"dm.example", b"dm.attack.")
    assert "is wrong" in refused(body, signed(GOOD))


# --- what it does


def test_the_account_can_be_used_and_outlives_a_reboot() -> None:
    nvm = make_nvm()
    assert receive(GOOD, signed(GOOD), SECRETS, Tree(PERSONA, nvm)) == (EXPECTED,)
    tree = Tree(PERSONA, nvm)
    assert EXPECTED in read_accounts(tree)
    tree.server_id = NEW
    assert tree.get("./DMAcc/operator/Name")[0].data == "Operator"
    assert tree.replace("./DMAcc/operator/Name", "Other") == 200
    tree.server_id = SERVER
    with pytest.raises(Exception, match="425"):
        tree.get("./DMAcc/operator/Name")


@musts("DM-162")
@pytest.mark.parametrize(
    "commands",
    [
        # Node by node, in an Atomic, and with the account's own place as the target.
        (
            Add("1", (Item(target="./DMAcc/operator", meta=NODE),)),
            Add(
                "2",
                (
                    Item(target="./DMAcc/operator/AppID", data="w7"),
                    Item(target="./DMAcc/operator/ServerID", data=NEW),
                    Item(target="./DMAcc/operator/AppAddr", meta=NODE),
                    Item(target="./DMAcc/operator/AppAddr/1", meta=NODE),
                    Item(target="./DMAcc/operator/AppAddr/1/Addr", data=ADDRESS),
                ),
            ),
        ),
        (Atomic("1", (inbox(account()),)),),
        (Add("1", (Item(target="./DMAcc", meta=TREE, data=MgmtTree((account(),))),)),),
        (
            inbox(account()),
            Replace("2", (Item(target="./DMAcc/operator/Name", data="Renamed"),)),
        ),
    ],
)
def test_ways_to_say_it(commands: tuple[Command, ...]) -> None:
    body = message(*commands)
    (made,) = receive(body, signed(body), SECRETS, device())
    assert (made.name, made.server_id, made.address) == ("operator", NEW, ADDRESS)


def test_a_second_one_replaces_nothing_and_finds_a_free_name() -> None:
    tree = device()
    receive(GOOD, signed(GOOD), SECRETS, tree)
    (made,) = receive(GOOD, signed(GOOD), SECRETS, tree)
    assert made.name == "operator-2"
    assert tree.names("./DMAcc") == ("main", "operator", "operator-2")


@musts("DM-162")
@pytest.mark.parametrize(
    ("commands", "why"),
    [
        ((), "no account"),
        ((inbox(node("operator", *leafs(ServerID=NEW))),), "unknown kind"),
        ((Add("1", (Item(target="./Vendor/x", meta=NODE),)),), "no account"),
        ((inbox(account()), Delete("2", (Item(target="./DMAcc/main"),))), "Delete in a"),
        ((inbox(account()), Get("2", (Item(target="."),))), "Get in a"),
        ((inbox(account()), Replace("2", (Item(target="./None", data="x"),))), "404"),
        ((inbox(account()), Add("2", (Item(data="x"),))), "not whole"),
        ((inbox(account()), Add("2", (Item(target="./x", more_data=True),))), "not whole"),
        ((Atomic("1", (inbox(account()), Get("2", (Item(target="."),)))),), "Get in a"),
    ],
)
def test_all_of_it_or_nothing(commands: tuple[Command, ...], why: str) -> None:
    body = message(*commands)
    assert why in refused(body, signed(body))


@musts("DM-162")
@given(st.binary(max_size=80))
def test_any_octets_under_a_good_mac_are_refused(body: bytes) -> None:
    assert refused(body, signed(body))
    cut = GOOD[: len(body) * 3]
    assert refused(cut, signed(cut))


def test_it_is_the_devices_own_doing() -> None:
    with pytest.raises(LocalMisuse):
        receive(GOOD, signed(GOOD), SECRETS, Tree(PERSONA, server_id=SERVER))


def test_secrets_stay_out_of_texts() -> None:
    for thing in (SECRETS, EXPECTED):
        for secret in ("2468", "secret'", "nonce"):
            assert secret not in repr(thing)
    assert "device secret" not in refused(GOOD, signed(b"other"))
