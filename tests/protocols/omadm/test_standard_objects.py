"""The tree of a persona: what a device shows of itself, and where accounts stand."""

from __future__ import annotations

import pytest

from protocols.omadm.auth import AuthType
from protocols.omadm.model import Meta
from protocols.omadm.nonces import NonceBook, Side
from protocols.omadm.standard_objects import (
    AccountValues,
    DeviceValues,
    read_account,
    read_accounts,
    shared_tree,
)
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree import Execution, Hooks, Tree
from protocols.omadm.tree_nodes import OWN, TreeNode, UriLimits
from tests.protocols.omadm.device_parts import DEVICE, PERSONA, SERVER, make_nvm
from tests.protocols.omadm.musts import musts

NODE = Meta(format="node")
OWNED = {
    "./DevInfo/DevId": "IMEI:493005100592800",
    "./DevDetail/FwV": "1.0.0",
    "./DevDetail/SwV": "5.15",
    "./FUMO/State": "10",
    "./DMAcc/main/AppAuth/client/AAuthName": "IMEI:493005100592800",
    "./DMAcc/main/AppAuth/client/AAuthSecret": "device secret",
    "./DMAcc/main/AppAuth/server/AAuthName": SERVER,
    "./DMAcc/main/AppAuth/server/AAuthSecret": "server secret",
}
HOOKS = Hooks(computed={uri: (lambda text=text: text) for uri, text in OWNED.items()})


def tree_of(server: str | None = SERVER) -> Tree:
    return Tree(PERSONA, make_nvm(), server_id=server, hooks=HOOKS)


@musts("DM-066", "DM-129", "DM-157")
@pytest.mark.parametrize(
    ("uri", "value"),
    [
        ("./DevInfo", "DevId/Man/Mod/DmV/Lang"),
        ("./DevInfo/DevId", "IMEI:493005100592800"),
        ("./DevInfo/Man", "fotilla"),
        ("./DevInfo/Mod", "virtual"),
        ("./DevInfo/DmV", "1.2"),
        ("./DevInfo/Lang", "en-US"),
        ("./DevInfo?prop=Type", "urn:oma:mo:oma-dm-devinfo:1.0"),
        ("./DevDetail", "URI/DevTyp/OEM/FwV/SwV/HwV/LrgObj"),
        ("./DevDetail/URI", "MaxDepth/MaxTotLen/MaxSegLen"),
        ("./DevDetail/URI/MaxTotLen", "127"),
        ("./DevDetail/FwV", "1.0.0"),
        ("./DevDetail/LrgObj", "true"),
        ("./DevDetail?prop=Type", "urn:oma:mo:oma-dm-devdetail:1.0"),
        ("./DMAcc/main/AppID", "w7"),
        ("./DMAcc/main/ServerID", SERVER),
        ("./DMAcc/main/AppAuth/client/AAuthType", "DIGEST"),
        ("./DMAcc/main?prop=Type", "urn:oma:mo:oma-dm-dmacc:1.0"),
        ("./FUMO/State", "10"),
        ("./FUMO?prop=Type", "urn:oma:mo:oma-fumo:1.0"),
        ("./SCOMO?prop=Type", "urn:oma:mo:oma-scomo:1.0"),
        ("./SCOMO/Inventory", "Delivered/Deployed"),
    ],
)
def test_what_a_server_reads(uri: str, value: str) -> None:
    assert tree_of().get(uri)[0].data == value


@musts("DM-130", "DM-132", "DM-139")
@pytest.mark.parametrize(
    ("uri", "status"),
    [
        # Secrets are written and never read (OMA-TS-DM_StdObj 5.2).
        ("./DMAcc/main/AppAuth/client/AAuthSecret", 405),
        ("./DMAcc/main/AppAuth/server/AAuthSecret", 405),
        ("./DMAcc/main/AppAuth/client/AAuthData", 405),
        ("./FUMO/Update/PkgData", 405),
        ("./Inbox", 405),
    ],
)
def test_what_nobody_reads(uri: str, status: int) -> None:
    with pytest.raises(TreeError) as caught:
        tree_of().get(uri)
    assert caught.value.status == status
    parent = uri.rpartition("/")[0]
    shown = tree_of().get(f"{parent}?list=StructData")
    assert all("secret" not in str(item.data) for item in shown)


@musts("DM-139")
@pytest.mark.parametrize(
    ("uri", "data", "status"),
    [
        ("./DevInfo/Man", "x", 405),
        ("./DevInfo/Lang", "de", 425),  # a server's right to it is the operator's to give
        ("./DevDetail/FwV", "9", 405),
        ("./FUMO/State", "20", 405),
        ("./FUMO/PkgName", "n", 200),
        ("./FUMO/Download/PkgURL", "https://files.example/1", 200),
        ("./FUMO/Download/PkgURL", "x" * 513, 413),
        ("./FUMO/None", "x", 404),
        ("./DMAcc/main/AppAuth/client/AAuthSecret", "new secret", 200),
    ],
)
def test_what_a_server_replaces(uri: str, data: str, status: int) -> None:
    tree = tree_of()
    if status == 200:
        assert tree.replace(uri, data) == 200
        assert tree.value(uri) == data
        return
    with pytest.raises(TreeError) as caught:
        tree.replace(uri, data)
    assert caught.value.status == status


@musts("DM-117")
def test_the_limits_of_a_persona_are_the_ones_it_shows() -> None:
    limits = UriLimits(max_depth=5, max_total_length=50, max_segment_length=10)
    tree = Tree(shared_tree(DEVICE, limits=limits), server_id=SERVER)
    shown = [tree.value(f"./DevDetail/URI/{name}") for name in tree.names("./DevDetail/URI")]
    assert shown == ["5", "50", "10"]
    with pytest.raises(TreeError) as caught:
        tree.get("./DevDetail/URI/" + "x" * 11)
    assert caught.value.status == 414


@musts("DM-139")
@pytest.mark.parametrize(("place", "parent"), [("./FUMO", "."), ("./FwUpdate/Flash", "./FwUpdate")])
def test_the_vendor_chooses_where_the_update_object_is(place: str, parent: str) -> None:
    tree = Tree(shared_tree(DEVICE, fumo=place), server_id=SERVER)
    name = place.rpartition("/")[2]
    assert name in str(tree.get(parent)[0].data).split("/")
    assert tree.get(f"{place}?prop=Type")[0].data == "urn:oma:mo:oma-fumo:1.0"
    seen: list[Execution] = []

    def run(execution: Execution) -> StatusCode:
        seen.append(execution)
        return StatusCode.ACCEPTED

    hooks = Hooks(on_execute={f"{place}/Update": run, place: run})
    tree = Tree(shared_tree(DEVICE, fumo=place), server_id=SERVER, hooks=hooks)
    assert tree.execute(f"{place}/Update") == 202
    assert tree.execute(place) == 202, "several clients execute the object itself"
    assert len(seen) == 2


def test_a_device_without_update_objects() -> None:
    tree = Tree(shared_tree(DEVICE, fumo=None, scomo=False))
    assert tree.names(".") == ("DevInfo", "DevDetail", "DMAcc", "Inbox", "Vendor")


@pytest.mark.parametrize("place", ["./DevInfo", "./FUMO/", "./DMAcc/x", ""])
def test_places_where_it_cannot_be(place: str) -> None:
    with pytest.raises(ValueError, match="cannot be at"):
        shared_tree(DEVICE, fumo=place)


@musts("DM-157")
def test_software_packages_come_with_what_no_server_can_add() -> None:
    tree = tree_of()
    tree.add("./SCOMO/Download/app", None, NODE)
    tree.add("./SCOMO/Download/app/PkgURL", "https://files.example/app")
    assert tree.get("./SCOMO/Download/app/Status")[0].data == "10"
    names = tree.get("./SCOMO/Download/app/Operations")[0].data
    assert names == "Download/DownloadInstall/DownloadInstallInactive"
    with pytest.raises(TreeError) as caught:
        tree.execute("./SCOMO/Download/app/Operations/Download")
    assert caught.value.status == 406, "no executor stands behind it here"
    for uri in ("./SCOMO/Inventory/Deployed/x", "./SCOMO/Inventory/Delivered/x"):
        with pytest.raises(TreeError) as caught:
            tree.add(uri, None, NODE)
        assert caught.value.status == 405, "what is installed only the device knows"
    tree.server_id = None
    assert tree.add("./SCOMO/Inventory/Deployed/x", None, NODE) == 200
    assert tree.replace("./SCOMO/Inventory/Deployed/x/State", "20") == 200


def test_no_device_shows_the_mark_of_what_is_its_own() -> None:
    def walk(node: TreeNode) -> int:
        return (node.value == OWN) + sum(walk(child) for child in node.children.values())

    assert walk(PERSONA.root) == len(OWNED)
    for server in (SERVER, None):
        for item in Tree(PERSONA, server_id=server).get(".?list=StructData"):
            assert item.data != OWN


# --- accounts


@musts("DM-129")
def test_the_account_of_the_factory() -> None:
    tree = tree_of(None)
    (found,) = read_accounts(tree)
    assert (found.name, found.server_id, found.address) == (
        "main",
        SERVER,
        "https://srv.example/dm",
    )
    assert (found.auth, found.user, found.password) == (
        AuthType.MD5,
        "IMEI:493005100592800",
        "device secret",
    )
    assert (found.server_auth, found.server_user, found.server_password) == (
        AuthType.MD5,
        SERVER,
        "server secret",
    )
    assert "secret'" not in repr(found)


@musts("DM-130")
def test_a_server_changes_secrets_and_nonces_of_an_account() -> None:
    nvm = make_nvm()
    tree = Tree(PERSONA, nvm, server_id=SERVER, hooks=HOOKS)
    base = "./DMAcc/main/AppAuth/client"
    tree.replace(f"{base}/AAuthSecret", "changed")
    tree.replace(f"{base}/AAuthData", b"\x80nonce", Meta(format="bin"))
    found = read_account(Tree(PERSONA, nvm, hooks=HOOKS), "main")
    assert found is not None
    assert (found.password, found.nonce) == ("changed", b"\x80nonce")
    book = NonceBook(nvm, lambda side, server: found.nonce if side is Side.CLIENT else b"")
    assert book.get(Side.CLIENT, SERVER) == b"\x80nonce"


@pytest.mark.parametrize(
    ("auth", "server_auth", "names"),
    [
        (AuthType.BASIC, AuthType.NONE, ("client",)),
        (AuthType.HMAC, AuthType.HMAC, ("client", "server")),
        (AuthType.NONE, AuthType.MD5, ("client", "server")),
    ],
)
def test_schemes_of_accounts(auth: AuthType, server_auth: AuthType, names: tuple[str, ...]) -> None:
    shared = shared_tree(
        DEVICE, accounts={"a": AccountValues(SERVER, "https://srv.example/", auth, server_auth)}
    )
    tree = Tree(shared)
    assert tree.names("./DMAcc/a/AppAuth") == names
    found = read_account(tree, "a")
    assert found is not None
    assert (found.auth, found.server_auth) == (auth, server_auth)


def test_an_account_in_the_making_is_none_yet() -> None:
    tree = tree_of()
    tree.add("./DMAcc/new", None, NODE)
    assert read_account(tree, "new") is None
    tree.add("./DMAcc/new/ServerID", "new.example")
    assert read_account(tree, "new") is None
    tree.add("./DMAcc/new/AppAddr", None, NODE)
    tree.add("./DMAcc/new/AppAddr/x", None, NODE)
    tree.add("./DMAcc/new/AppAddr/x/Addr", "https://new.example/dm")
    found = read_account(tree, "new")
    assert found is not None
    assert found.auth is AuthType.NONE


@pytest.mark.parametrize(
    ("address", "port", "url"),
    [
        ("https://srv.example/dm", "8443", "https://srv.example:8443/dm"),
        ("https://srv.example:1/dm", "8443", "https://srv.example:1/dm"),
        ("https://srv.example/dm", "x", "https://srv.example/dm"),
        ("https://[::1]/dm", "8443", "https://[::1]:8443/dm"),
        ("https://[bad/dm", "8443", "https://[bad/dm"),
        ("srv.example", "8443", "srv.example"),
    ],
)
def test_a_port_beside_the_address(address: str, port: str, url: str) -> None:
    shared = shared_tree(DEVICE, accounts={"a": AccountValues(SERVER, address)})
    tree = Tree(shared, server_id=SERVER)
    tree.add("./DMAcc/a/AppAddr/1/Port", None, NODE)
    tree.add("./DMAcc/a/AppAddr/1/Port/1", None, NODE)
    tree.add("./DMAcc/a/AppAddr/1/Port/1/PortNbr", port, Meta(format="chr"))
    found = read_account(tree, "a")
    assert found is not None
    assert found.address == url


def test_a_server_whose_account_goes_loses_its_rights_everywhere() -> None:
    """OMA-TS-DM_TND 1.2.1, section 7.7.1.4."""
    shared = shared_tree(
        DEVICE,
        accounts={
            "main": AccountValues(SERVER, "https://srv.example/"),
            "other": AccountValues("other.example", "https://other.example/"),
        },
    )
    tree = Tree(shared)
    both = f"Get=other.example+{SERVER}&Replace=other.example"
    tree.replace("./Vendor?prop=ACL", both)
    tree.replace("./FUMO?prop=ACL", "Exec=other.example&Get=*")
    tree.replace(".?prop=ACL", "Add=*&Get=*&Replace=other.example")
    tree.server_id = SERVER
    assert tree.delete("./DMAcc/other") == 200
    assert tree.get("./Vendor?prop=ACL")[0].data == f"Get={SERVER}"
    assert tree.get("./FUMO?prop=ACL")[0].data == "Get=*"
    assert tree.get(".?prop=ACL")[0].data == "Add=*&Get=*", "as from the factory"
    assert tree.exists("./DMAcc/main")


def test_device_values_are_the_personas() -> None:
    device = DeviceValues("m", "x", lang="de", device_type="car", oem="o", hardware="rev 2")
    tree = Tree(shared_tree(device))
    assert [tree.value(f"./DevDetail/{name}") for name in ("DevTyp", "OEM", "HwV")] == [
        "car",
        "o",
        "rev 2",
    ]
    assert tree.value("./DevInfo/Lang") == "de"


def test_a_software_package_is_copied_with_its_operations() -> None:
    tree = tree_of()
    tree.add("./SCOMO/Download/app", None, NODE)
    tree.add("./SCOMO/Download/app/PkgURL", "https://files.example/app")
    assert tree.copy("./SCOMO/Download/app", "./SCOMO/Download/again") == 200
    assert tree.get("./SCOMO/Download/again")[0].data == "Status/Operations/PkgURL"
    # What holds a secret is not copied, wherever it would go.
    with pytest.raises(TreeError) as caught:
        tree.copy("./DMAcc/main", "./DMAcc/again")
    assert caught.value.status == 405
