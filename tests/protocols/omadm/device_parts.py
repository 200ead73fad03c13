"""Flash, nvm and trees that the tests of the device's side share."""

from __future__ import annotations

from agent.flash import Flash
from agent.image_store import ImageStore
from agent.nvm import Nvm
from protocols.omadm.standard_objects import AccountValues, DeviceValues, shared_tree
from protocols.omadm.tree import Hooks, Tree
from protocols.omadm.tree_nodes import (
    ANY_NAME,
    Access,
    Given,
    SharedTree,
    instantiate,
    interior,
    leaf,
)
from protocols.omadm.tree_uri import UriLimits

SLOT = 64 << 10
SERVER = "srv.example"
OTHER = "other.example"

GET = Access.GET
ALL = Access.ADD | Access.COPY | Access.DELETE | Access.EXEC | Access.GET | Access.REPLACE

_LEAF = leaf(("chr", "int", "bool", "bin", "float", "null"), ALL, type="", max_size=64)
_BOX = interior(ALL, {ANY_NAME: _LEAF})

SMALL = interior(
    GET,
    {
        "Fixed": interior(
            GET,
            {
                "Name": leaf("chr", GET, permanent=True),
                "Lang": leaf("chr", GET | Access.REPLACE, permanent=True),
                "Secret": leaf("chr", Access.REPLACE | Access.COPY, permanent=True),
                "Gone": leaf("chr", ALL),
                "Kept": leaf("chr", GET | Access.REPLACE),
            },
            permanent=True,
        ),
        "Box": interior(ALL, {ANY_NAME: _BOX, "note": _LEAF}, permanent=True),
        "Run": leaf("null", Access.EXEC, permanent=True),
        "Package": leaf("bin", Access.REPLACE | GET, type="", permanent=True, max_size=1 << 20),
    },
    permanent=True,
)
"""A description with one node of each kind."""

FULL = "Add=*&Delete=*&Exec=*&Get=*&Replace=*"


def small_shared(*, acl: str = FULL, limits: UriLimits | None = None) -> SharedTree:
    root = instantiate(
        SMALL,
        Given(
            {
                "Fixed": {
                    "Name": "n",
                    "Lang": "en",
                    "Secret": "hidden",
                    "Gone": "g",
                    "Kept": "k",
                },
                "Box": {"one": {"a": "1", "b": "2"}, "note": "first"},
                "Run": "",
                "Package": b"",
            },
            acl=acl,
        ),
    )
    return SharedTree(root, limits=limits or UriLimits(max_depth=4, max_total_length=64))


SHARED = small_shared()


def make_nvm() -> Nvm:
    return Nvm(Flash(ImageStore(), SLOT))


def small_tree(
    *, nvm: Nvm | None = None, server: str | None = SERVER, hooks: Hooks | None = None
) -> Tree:
    return Tree(SHARED, nvm, server_id=server, hooks=hooks or Hooks())


DEVICE = DeviceValues("fotilla", "virtual")
PERSONA = shared_tree(DEVICE, accounts={"main": AccountValues(SERVER, "https://srv.example/dm")})
