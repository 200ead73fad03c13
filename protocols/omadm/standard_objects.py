"""The tree of a persona, made of the objects that OMA-DM devices share, and its DM accounts.

What differs from device to device of one persona (identity, secrets, versions, states) holds the
value OWN in the shared tree: the device gives it through `Hooks.computed`, until a server writes
another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from protocols.omadm.auth import AuthType
from protocols.omadm.descriptions import DEVDETAIL, DEVINFO, DMACC, FUMO, INBOX, SCOMO, VENDOR
from protocols.omadm.status import TreeError
from protocols.omadm.tree import Tree
from protocols.omadm.tree_nodes import (
    DMACC_TYPE,
    OWN,
    Access,
    Given,
    Schema,
    SharedTree,
    TreeFeatures,
    Values,
    instantiate,
    interior,
)
from protocols.omadm.tree_uri import UriLimits

__all__ = [
    "AccountValues",
    "DeviceValues",
    "DmAccount",
    "account_values",
    "read_account",
    "read_accounts",
    "shared_tree",
]

FULL_ACL = "Add=*&Delete=*&Exec=*&Get=*&Replace=*"
"""Of the objects that servers work with; what an operator narrows down."""
READ_ACL = "Get=*"


@dataclass(frozen=True, slots=True)
class DeviceValues:
    """What all devices of a persona have in common."""

    man: str
    mod: str
    lang: str = "en-US"
    dm_version: str = "1.2"
    device_type: str = "modem"
    oem: str = ""
    hardware: str = "1.0"


@dataclass(frozen=True, slots=True)
class AccountValues:
    """A DM account that a persona's devices have from the factory; names and secrets are theirs,
    see OWN."""

    server_id: str
    address: str
    auth: AuthType = AuthType.MD5
    """What the device prefers."""
    server_auth: AuthType = AuthType.MD5
    """What it demands of the server; NONE leaves that account out."""


_ACCOUNT_NAMES = {
    AuthType.BASIC: "BASIC",
    AuthType.MD5: "DIGEST",
    AuthType.HMAC: "HMAC",
    AuthType.NONE: "TRANSPORT",
}


def account_values(account: AccountValues) -> Values:
    """The nodes of one account, in the order of the standard."""
    auth: dict[str, Values] = {
        "client": {
            "AAuthLevel": "CLCRED",
            "AAuthType": _ACCOUNT_NAMES[account.auth],
            "AAuthName": OWN,
            "AAuthSecret": OWN,
            "AAuthData": b"",
        }
    }
    if account.server_auth is not AuthType.NONE:
        auth["server"] = {
            "AAuthLevel": "SRVCRED",
            "AAuthType": _ACCOUNT_NAMES[account.server_auth],
            "AAuthName": OWN,
            "AAuthSecret": OWN,
            "AAuthData": b"",
        }
    return {
        "AppID": "w7",
        "ServerID": account.server_id,
        "Name": account.server_id[:64],
        "AppAddr": {"1": {"Addr": account.address, "AddrType": "URI"}},
        "AAuthPref": _ACCOUNT_NAMES[account.auth],
        "AppAuth": auth,
    }


def shared_tree(
    device: DeviceValues,
    *,
    accounts: Mapping[str, AccountValues] | None = None,
    fumo: str | None = "./FUMO",
    scomo: bool = True,
    limits: UriLimits | None = None,
    features: TreeFeatures | None = None,
    object_acl: str = FULL_ACL,
) -> SharedTree:
    """The tree of a persona: made once, shared by its devices.

    `accounts` by the name of their node below ./DMAcc; `fumo` is where the persona's vendor put
    the firmware update object, None leaves it out; `object_acl` is the ACL of what servers may
    work with (DMAcc, FUMO, SCOMO, Vendor). Raises ValueError for a place that cannot be.
    """
    limits = limits or UriLimits()
    schemas: dict[str, Schema] = {
        "DevInfo": DEVINFO,
        "DevDetail": DEVDETAIL,
        "DMAcc": DMACC,
        "Inbox": INBOX,
        "Vendor": VENDOR,
    }
    values: dict[str, Values] = {
        "DevInfo": Given(
            {
                "DevId": OWN,
                "Man": device.man,
                "Mod": device.mod,
                "DmV": device.dm_version,
                "Lang": device.lang,
            },
            acl=READ_ACL,
        ),
        "DevDetail": Given(
            {
                "URI": {
                    "MaxDepth": str(limits.max_depth),
                    "MaxTotLen": str(limits.max_total_length),
                    "MaxSegLen": str(limits.max_segment_length),
                },
                "DevTyp": device.device_type,
                "OEM": device.oem,
                "FwV": OWN,
                "SwV": OWN,
                "HwV": device.hardware,
                "LrgObj": "true",
            },
            acl=READ_ACL,
        ),
        "DMAcc": Given(
            {name: account_values(account) for name, account in (accounts or {}).items()},
            acl=object_acl,
        ),
        "Inbox": {},
        "Vendor": Given({}, acl=object_acl),
    }
    if scomo:
        schemas["SCOMO"] = SCOMO
        values["SCOMO"] = Given(
            {"Download": {}, "Inventory": {"Delivered": {}, "Deployed": {}}}, acl=object_acl
        )
    if fumo is not None:
        _put_fumo(fumo, schemas, values, object_acl)
    root = interior(Access.GET, schemas, permanent=True)
    return SharedTree(
        instantiate(root, values),
        limits=limits,
        features=features,
        inbox={DMACC_TYPE: ("DMAcc",)},
    )


def _put_fumo(
    uri: str, schemas: dict[str, Schema], values: dict[str, Values], object_acl: str
) -> None:
    path = uri.removeprefix("./").split("/")
    if "" in path or path[0] in schemas:
        raise ValueError(f"the firmware update object cannot be at {uri!r}")
    schema = FUMO
    value: Values = {
        "PkgName": "",
        "PkgVersion": "",
        "Download": {"PkgURL": ""},
        "Update": {"PkgData": b""},
        "DownloadAndUpdate": {"PkgURL": ""},
        "State": OWN,
        "Ext": {},
    }
    for name in reversed(path[1:]):
        schema = interior(Access.GET, {name: schema}, permanent=True)
        value = {name: value}
    schemas[path[0]] = schema
    values[path[0]] = Given(value, acl=object_acl)


# --- reading accounts


@dataclass(frozen=True, slots=True)
class DmAccount:
    """A DM account as it stands in a device's tree."""

    name: str
    """Of its node below ./DMAcc."""
    server_id: str
    address: str
    auth: AuthType = AuthType.NONE
    user: str = ""
    password: str = field(default="", repr=False)
    nonce: bytes = field(default=b"", repr=False)
    """AAuthData of the CLCRED account: the device's first nonce."""
    server_auth: AuthType = AuthType.NONE
    server_user: str = ""
    server_password: str = field(default="", repr=False)
    server_nonce: bytes = field(default=b"", repr=False)


def read_accounts(tree: Tree) -> tuple[DmAccount, ...]:
    """Every account that is complete enough to begin a session with."""
    found = (read_account(tree, name) for name in tree.names("./DMAcc"))
    return tuple(account for account in found if account is not None)


def read_account(tree: Tree, name: str) -> DmAccount | None:
    """None for one that is incomplete, as while a server is adding it."""
    base = f"./DMAcc/{name}"
    own = tree.values(base)
    server_id = _text(own, "ServerID")
    address = _address(tree, f"{base}/AppAddr")
    if not server_id or not address:
        return None
    preferred = _text(own, "AAuthPref")
    client = server = _Login()
    for one in _names(tree, f"{base}/AppAuth"):
        login = _login(tree, f"{base}/AppAuth/{one}")
        if login.level == "CLCRED" and (not client.level or login.type == preferred):
            client = login
        elif login.level == "SRVCRED" and not server.level:
            server = login
    return DmAccount(
        name,
        server_id,
        address,
        AuthType.of_account(client.type) or AuthType.NONE,
        client.user,
        client.secret,
        client.nonce,
        AuthType.of_account(server.type) or AuthType.NONE,
        server.user,
        server.secret,
        server.nonce,
    )


@dataclass(frozen=True, slots=True)
class _Login:
    level: str = ""
    type: str = ""
    user: str = ""
    secret: str = field(default="", repr=False)
    nonce: bytes = field(default=b"", repr=False)


def _login(tree: Tree, base: str) -> _Login:
    values = tree.values(base)
    nonce = values.get("AAuthData", b"")
    return _Login(
        _text(values, "AAuthLevel"),
        _text(values, "AAuthType"),
        _text(values, "AAuthName"),
        _text(values, "AAuthSecret"),
        nonce if isinstance(nonce, bytes) else nonce.encode(),
    )


def _address(tree: Tree, base: str) -> str:
    """The first one; the first Port below it is that of a URL which names none."""
    for one in _names(tree, base):
        address = _text(tree.values(f"{base}/{one}"), "Addr")
        if address:
            ports = f"{base}/{one}/Port"
            name = next(iter(_names(tree, ports)), None)
            number = "" if name is None else _text(tree.values(f"{ports}/{name}"), "PortNbr")
            return _with_port(address, number)
    return ""


def _with_port(address: str, port: str) -> str:
    try:
        parts = urlsplit(address)
        if not port.isdecimal() or not parts.hostname or parts.port is not None:
            return address
    except ValueError:
        return address
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}"))


def _names(tree: Tree, uri: str) -> tuple[str, ...]:
    try:
        return tree.names(uri)
    except TreeError:
        return ()


def _text(values: Mapping[str, str | bytes], name: str) -> str:
    value = values.get(name, "")
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
