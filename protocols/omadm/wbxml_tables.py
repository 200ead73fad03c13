"""WBXML numbers: global tokens, charsets, public identifiers, and the code pages of SyncML 1.2.

Pages 0 and 1 are those of SyncML Representation Protocol and Meta-Information 1.2, page 2 is the
one that OMA-DM adds for the Device Description Framework, of which a serialised tree (TNDS) uses a
part. A tag's octet is its code, plus CONTENT when something is inside it.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ASCII",
    "ATTRIBUTES",
    "CONTENT",
    "DEFAULT_PUBLIC_ID",
    "END",
    "ENTITY",
    "GLOBAL_NAMES",
    "LITERAL",
    "LITERAL_C",
    "OPAQUE",
    "PAGES",
    "PUBLIC_IDS",
    "PUBLIC_NAMES",
    "STR_I",
    "STR_T",
    "SWITCH_PAGE",
    "TREE_PUBLIC_NAME",
    "UTF_8",
]

# Global tokens (WBXML 1.3 section 7.1). They are the same in every page.
SWITCH_PAGE: Final = 0x00
END: Final = 0x01
ENTITY: Final = 0x02
STR_I: Final = 0x03
LITERAL: Final = 0x04
LITERAL_C: Final = 0x44
STR_T: Final = 0x83
OPAQUE: Final = 0xC3

GLOBAL_NAMES: Final = {
    0x40: "EXT_I_0",
    0x41: "EXT_I_1",
    0x42: "EXT_I_2",
    0x43: "PI",
    0x80: "EXT_T_0",
    0x81: "EXT_T_1",
    0x82: "EXT_T_2",
    0x84: "LITERAL_A",
    0xC0: "EXT_0",
    0xC1: "EXT_1",
    0xC2: "EXT_2",
    0xC4: "LITERAL_AC",
}
"""Those that have no place in SyncML: it has no attributes, extensions or instructions."""

CONTENT: Final = 0x40
ATTRIBUTES: Final = 0x80

# IANA's MIBenum numbers.
ASCII: Final = 3
UTF_8: Final = 106

DEFAULT_PUBLIC_ID: Final = 0x1201
PUBLIC_IDS: Final = {0x0FD1: "SyncML 1.0", 0x0FD3: "SyncML 1.1", 0x1201: "SyncML 1.2"}
TREE_PUBLIC_NAME: Final = "-//OMA//DTD-DM-DDF 1.2//EN"
"""Of a serialised tree that is a document of its own. It has no number, so it goes as text."""
PUBLIC_NAMES: Final = frozenset(
    name.casefold()
    for name in (TREE_PUBLIC_NAME, *(f"-//SYNCML//DTD {name}//EN" for name in PUBLIC_IDS.values()))
)
"""Public identifiers as text; compared case-blind."""


def _page(first: int, names: str) -> dict[str, int]:
    """Tag codes count up from `first`; "-" is reserved."""
    codes = {name: code for code, name in enumerate(names.split(), first)}
    codes.pop("-", None)
    return codes


PAGES: Final = (
    _page(
        0x05,
        """
        Add Alert Archive Atomic Chal Cmd CmdID CmdRef Copy Cred Data Delete Exec Final Get Item
        Lang LocName LocURI Map MapItem Meta MsgID MsgRef NoResp NoResults Put Replace RespURI
        Results Search Sequence SessionID SftDel Source SourceRef Status Sync SyncBody SyncHdr
        SyncML Target TargetRef - VerDTD VerProto NumberOfChanges MoreData Field Filter Record
        FilterType SourceParent TargetParent Move Correlator
        """,
    ),
    _page(
        0x05,
        """
        Anchor EMI Format FreeID FreeMem Last Mark MaxMsgSize Mem MetInf Next NextNonce
        SharedMem Size Type Version MaxObjSize FieldLevel
        """,
    ),
    _page(
        0x05,
        """
        AccessType ACL Add b64 bin bool chr CaseSense CIS Copy CS date DDFName DefaultValue
        Delete Description DFFormat DFProperties DFTitle DFType Dynamic Exec float Format Get
        int Man MgmtTree MIME Mod Name Node node NodeName null Occurrence One OneOrMore OneOrN
        Path Permanent Replace RTProperties Scope Size time Title TStamp Type Value VerDTD VerNo
        xml ZeroOrMore ZeroOrN ZeroOrOne
        """,
    ),
)
"""Of each page, name to code."""
