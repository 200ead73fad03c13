"""Descriptions of the objects that OMA-DM devices share.

DevInfo, DevDetail, DMAcc and the inbox follow OMA-TS-DM_StdObj 1.2.1, FUMO and SCOMO their own
standards: which nodes there are, what may be done to them, and how much they hold.
"""

from __future__ import annotations

from protocols.omadm.tree_nodes import (
    ANY_NAME,
    DMACC_TYPE,
    Access,
    Schema,
    interior,
    leaf,
)

__all__ = ["DEVDETAIL", "DEVINFO", "DMACC", "FUMO", "INBOX", "SCOMO", "VENDOR"]

DEVINFO_TYPE = "urn:oma:mo:oma-dm-devinfo:1.0"
DEVDETAIL_TYPE = "urn:oma:mo:oma-dm-devdetail:1.0"
FUMO_TYPE = "urn:oma:mo:oma-fumo:1.0"
SCOMO_TYPE = "urn:oma:mo:oma-scomo:1.0"
INBOX_TYPE = "urn:oma:mo:oma-dm-inbox:1.0"

GET = Access.GET
CHANGE = Access.GET | Access.REPLACE
MAKE = Access.ADD | Access.DELETE | Access.GET | Access.REPLACE | Access.COPY
HIDDEN = MAKE & ~Access.GET
RUN = Access.GET | Access.EXEC
START = Access.EXEC

PACKAGE_LIMIT = 64 << 20
"""Octets of a package that a server writes into PkgData."""
URL_LIMIT = 512
"""Octets of a URL: longer ones do not fit what a device keeps of its tree."""

DEVINFO = interior(
    GET,
    {
        "DevId": leaf("chr", GET, permanent=True),
        "Man": leaf("chr", GET, permanent=True),
        "Mod": leaf("chr", GET, permanent=True),
        "DmV": leaf("chr", GET, permanent=True),
        "Lang": leaf("chr", CHANGE, permanent=True, max_size=32),
    },
    type=DEVINFO_TYPE,
    permanent=True,
)

DEVDETAIL = interior(
    GET,
    {
        "URI": interior(
            GET,
            {
                "MaxDepth": leaf("int", GET, permanent=True),
                "MaxTotLen": leaf("int", GET, permanent=True),
                "MaxSegLen": leaf("int", GET, permanent=True),
            },
            permanent=True,
        ),
        "DevTyp": leaf("chr", GET, permanent=True),
        "OEM": leaf("chr", GET, permanent=True),
        "FwV": leaf("chr", GET, permanent=True),
        "SwV": leaf("chr", GET, permanent=True),
        "HwV": leaf("chr", GET, permanent=True),
        "LrgObj": leaf("bool", GET, permanent=True),
    },
    type=DEVDETAIL_TYPE,
    permanent=True,
)

_PORT = interior(MAKE, {"PortNbr": leaf(("int", "chr"), MAKE, max_size=5)})
_ADDRESS = interior(
    MAKE,
    {
        "Addr": leaf("chr", MAKE, max_size=URL_LIMIT),
        "AddrType": leaf("chr", MAKE, max_size=16),
        "Port": interior(MAKE, {ANY_NAME: _PORT}),
    },
)
_CREDENTIALS = interior(
    MAKE,
    {
        "AAuthLevel": leaf("chr", MAKE, max_size=16),
        "AAuthType": leaf("chr", MAKE, max_size=32),
        "AAuthName": leaf("chr", MAKE, max_size=255),
        # Written, never read (section 5.2.1).
        "AAuthSecret": leaf(("chr", "bin"), HIDDEN, type="", max_size=255),
        "AAuthData": leaf("bin", HIDDEN, type="", max_size=128),
    },
)
ACCOUNT = interior(
    MAKE,
    {
        "AppID": leaf("chr", MAKE, max_size=16),
        "ServerID": leaf("chr", MAKE, max_size=255),
        "Name": leaf("chr", MAKE, max_size=64),
        "PrefConRef": leaf("chr", MAKE, max_size=128),
        "ToConRef": interior(
            MAKE,
            {ANY_NAME: interior(MAKE, {"ConRef": leaf("chr", MAKE, max_size=128)})},
        ),
        "AppAddr": interior(MAKE, {ANY_NAME: _ADDRESS}),
        "AAuthPref": leaf("chr", MAKE, max_size=32),
        "AppAuth": interior(MAKE, {ANY_NAME: _CREDENTIALS}),
        "Ext": interior(MAKE, {ANY_NAME: leaf(("chr", "int", "bool", "bin"), MAKE, type="")}),
    },
    type=DMACC_TYPE,
)
DMACC = interior(GET, {ANY_NAME: ACCOUNT}, permanent=True)

INBOX = interior(Access.ADD, {}, type=INBOX_TYPE, permanent=True)
"""Takes serialised objects and puts them where they belong; nobody looks into it."""

FUMO = interior(
    RUN,
    {
        "PkgName": leaf("chr", CHANGE, permanent=True, max_size=128),
        "PkgVersion": leaf("chr", CHANGE, permanent=True, max_size=64),
        "Download": interior(
            RUN,
            {"PkgURL": leaf("chr", CHANGE, permanent=True, max_size=URL_LIMIT)},
            permanent=True,
        ),
        "Update": interior(
            RUN,
            {
                "PkgData": leaf(
                    "bin", Access.REPLACE, type="", permanent=True, max_size=PACKAGE_LIMIT
                )
            },
            permanent=True,
        ),
        "DownloadAndUpdate": interior(
            RUN,
            {"PkgURL": leaf("chr", CHANGE, permanent=True, max_size=URL_LIMIT)},
            permanent=True,
        ),
        "State": leaf("int", GET, permanent=True),
        "Ext": interior(GET, {}, permanent=True),
    },
    type=FUMO_TYPE,
    permanent=True,
)


_IDLE = "10"
_INACTIVE = "10"
"""Delivered but not installed, or deployed but not active."""


def _operations(*names: str) -> Schema:
    return interior(GET, {name: leaf("null", START) for name in names})


# Status, State and Operations nobody can Add: they come with the node that a server or the device
# makes.


_DOWNLOAD = interior(
    MAKE,
    {
        "PkgID": leaf("chr", MAKE, max_size=128),
        "Name": leaf("chr", MAKE, max_size=128),
        "PkgURL": leaf("chr", MAKE, max_size=URL_LIMIT),
        "InstallParams": leaf("chr", MAKE, max_size=256),
        "Description": leaf("chr", MAKE, max_size=256),
        "Status": leaf("int", GET, default=_IDLE),
        "EnvType": leaf("chr", MAKE, max_size=64),
        "PkgType": leaf("chr", MAKE, max_size=64),
        "Operations": _operations("Download", "DownloadInstall", "DownloadInstallInactive"),
    },
)
_DELIVERED = interior(
    GET | Access.DELETE,
    {
        "PkgID": leaf("chr", GET),
        "Data": leaf("bin", Access.REPLACE, type="", max_size=PACKAGE_LIMIT),
        "Name": leaf("chr", CHANGE, max_size=128),
        "Description": leaf("chr", CHANGE, max_size=256),
        "InstallParams": leaf("chr", CHANGE, max_size=256),
        "Status": leaf("int", GET, default=_IDLE),
        "State": leaf("int", GET, default=_INACTIVE),
        "EnvType": leaf("chr", GET),
        "PkgType": leaf("chr", GET),
        "Operations": _operations("Remove", "Install", "InstallInactive"),
    },
)
_DEPLOYED = interior(
    GET,
    {
        "ID": leaf("chr", GET),
        "PkgIDRef": leaf("chr", GET),
        "Name": leaf("chr", GET),
        "Description": leaf("chr", GET),
        "Version": leaf("chr", GET),
        "Status": leaf("int", GET, default=_IDLE),
        "State": leaf("int", GET, default=_INACTIVE),
        "EnvType": leaf("chr", GET),
        "Operations": _operations("Remove", "Activate", "Deactivate"),
    },
)
SCOMO = interior(
    GET,
    {
        "Download": interior(GET, {ANY_NAME: _DOWNLOAD}, permanent=True),
        "Inventory": interior(
            GET,
            {
                "Delivered": interior(GET, {ANY_NAME: _DELIVERED}, permanent=True),
                "Deployed": interior(GET, {ANY_NAME: _DEPLOYED}, permanent=True),
            },
            permanent=True,
        ),
    },
    type=SCOMO_TYPE,
    permanent=True,
)

_ANY_LEAF = ("chr", "int", "bool", "bin", "b64", "null", "xml", "date", "time", "float")
_VENDOR_LEAF = leaf(_ANY_LEAF, MAKE, type="", max_size=1024)


VENDOR = interior(MAKE, {ANY_NAME: interior(MAKE, {ANY_NAME: _VENDOR_LEAF})}, permanent=True)
"""Where a vendor's servers keep what they like: `./Vendor/<group>/<name>`."""
