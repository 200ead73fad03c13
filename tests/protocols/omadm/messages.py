"""Messages for tests of the representations: the vectors, and any message at all."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Chal,
    Command,
    Copy,
    Cred,
    Delete,
    Exec,
    Get,
    Header,
    Item,
    Message,
    Meta,
    MgmtTree,
    Node,
    Replace,
    Results,
    Sequence,
    Status,
    Unsupported,
)

VECTORS = Path(__file__).parent / "vectors"
WBXML_VECTORS = ("pkg1.wbxml", "pkg1-nostrtbl.wbxml", "pkg1-horde.wbxml")

PACKAGE_1 = Message(
    Header(
        "1F",
        1,
        "http://127.0.0.1:8080/dm",
        "IMEI:493005100592800",
        source_name="dev1",
        cred=Cred("syncml:auth-md5", "b64", "Zz6EivR3yeaaENcRN6lpAQ=="),
        max_msg_size=5120,
        max_obj_size=1048576,
    ),
    (
        Alert("1", 1201),
        Alert(
            "2",
            1226,
            (
                Item(
                    source="./FwUpdate/Pkg1",
                    meta=Meta(
                        "chr",
                        "org.openmobilealliance.dm.firmwareupdate.downloadandupdate",
                        "informational",
                    ),
                    data="200",
                ),
            ),
            correlator="abc-1",
        ),
        Replace(
            "3",
            (
                Item(source="./DevInfo/DevId", data="IMEI:493005100592800"),
                Item(source="./DevInfo/Man", data="Acme & Söhne"),
            ),
        ),
    ),
    final=True,
)
"""What the vectors say."""

TREE = MgmtTree(
    (
        Node(
            "MyServer",
            path="./DMAcc",
            format="node",
            ddf_name="urn:oma:mo:oma-dm-dmacc:1.0",
            acl="Get=*&Replace=srv",
            children=(
                Node("AppID", format="chr", type="text/plain", value="w7"),
                Node("Nonce", format="bin", value=b"\x00\xc3\x28\x01", size=4, ver_no=7),
                Node("Empty", value=""),
                Node("Elsewhere", title=" a title ", tstamp="20010711T163817Z"),
            ),
        ),
    ),
    man="Acme",
)
"""One of everything that a serialised tree may hold."""


def read(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""To make up a message takes a while on a machine that has other things to do."""


# --- any message -----------------------------------------------------------------------------

# What XML can hold, past the first plane too.
_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
letters = st.text(_CHARACTERS | st.sampled_from("\t\n\r&<>\"' "), max_size=12)
"""Text that is kept to the letter."""
words = letters.map(lambda text: text.strip(" \t\r\n"))
"""Text around which blanks do not count."""
numbers = st.integers(0, 9_999_999_999)


formats = st.sampled_from(("chr", "int", "bool", "b64", "node", "null", "xml", "date", "float"))
"""All but bin, which only WBXML carries."""


def _tuple_of(strategy: st.SearchStrategy, most: int = 3) -> st.SearchStrategy:
    return st.lists(strategy, max_size=most).map(tuple)


def _perhaps(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


metas = st.builds(
    Meta,
    format=_perhaps(formats),
    type=_perhaps(words),
    mark=_perhaps(words),
    size=_perhaps(numbers),
    next_nonce=_perhaps(words),
    max_msg_size=_perhaps(numbers),
    max_obj_size=_perhaps(numbers),
    version=_perhaps(words),
    emi=_tuple_of(words, 2),
)


def _nodes(inside: st.SearchStrategy) -> st.SearchStrategy:
    properties = {
        "name": words,
        "path": _perhaps(words),
        "type": _perhaps(words),
        "ddf_name": _perhaps(words),
        "acl": _perhaps(words),
        "title": _perhaps(letters),
        "tstamp": _perhaps(words),
        "size": _perhaps(numbers),
        "ver_no": _perhaps(numbers),
    }
    return st.builds(
        Node, **properties, format=_perhaps(formats), value=_perhaps(letters)
    ) | st.builds(Node, **properties, format=_perhaps(formats), children=_tuple_of(inside))


nodes = st.recursive(st.builds(Node, name=words, value=_perhaps(letters)), _nodes, max_leaves=5)
trees = st.builds(
    MgmtTree,
    st.lists(nodes, min_size=1, max_size=2).map(tuple),
    man=_perhaps(letters),
    mod=_perhaps(letters),
)


def _items(data: st.SearchStrategy) -> st.SearchStrategy:
    places = st.just({}) | st.fixed_dictionaries(
        {"target": words}, optional={"target_name": letters}
    )
    sources = st.just({}) | st.fixed_dictionaries(
        {"source": words}, optional={"source_name": letters}
    )
    return st.builds(
        lambda place, source, **rest: Item(**place, **source, **rest),
        places,
        sources,
        meta=_perhaps(metas),
        data=_perhaps(data),
        more_data=st.booleans(),
    )


def _commands(items: st.SearchStrategy) -> st.SearchStrategy:
    several = _tuple_of(items)
    shared = {"cmd_id": words, "no_resp": st.booleans()}
    creds = st.builds(Cred, words, _perhaps(formats), words)
    chals = st.builds(Chal, words, _perhaps(formats), _perhaps(words))
    by_server = st.one_of(
        *(
            st.builds(
                kind,
                **shared,
                items=several,
                meta=_perhaps(metas),
                correlator=_perhaps(letters),
            )
            for kind in (Get, Add, Replace, Delete, Copy, Exec)
        ),
        st.builds(Alert, **shared, code=numbers, items=several, correlator=_perhaps(letters)),
        st.builds(
            Unsupported, **shared, name=st.sampled_from(("Put", "Search", "Map", "Sync", "Move"))
        ),
    )
    nested = st.recursive(
        by_server,
        lambda inside: st.builds(
            lambda kind, **rest: kind(**rest),
            st.sampled_from((Atomic, Sequence)),
            **shared,
            commands=_tuple_of(inside),
            meta=_perhaps(metas),
        ),
        max_leaves=4,
    )
    references = {
        "cmd_id": words,
        "msg_ref": numbers,
        "cmd_ref": words,
        "target_refs": _tuple_of(words, 2),
        "source_refs": _tuple_of(words, 2),
    }
    return (
        nested
        | st.builds(Results, **references, items=several, meta=_perhaps(metas))
        | st.builds(
            Status,
            **references,
            cmd=words,
            code=numbers,
            cred=_perhaps(creds),
            chal=_perhaps(chals),
            items=several,
        )
    )


headers = st.builds(
    Header,
    words,
    numbers,
    words,
    words,
    ver_dtd=words,
    ver_proto=words,
    source_name=_perhaps(letters),
    target_name=_perhaps(letters),
    resp_uri=_perhaps(words),
    no_resp=st.booleans(),
    cred=_perhaps(st.builds(Cred, words, _perhaps(formats), words)),
    max_msg_size=_perhaps(numbers),
    max_obj_size=_perhaps(numbers),
)


def _messages(data: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(Message, headers, _tuple_of(_commands(_items(data))), st.booleans())


messages_of_text = _messages(letters)
messages = _messages(letters | trees)
"""Whatever both representations carry alike."""
messages_of_any_text = _messages(st.text(max_size=12))
"""With data that XML has no characters for."""


@st.composite
def binary_items(draw: st.DrawFn) -> Item:
    return Item(
        target=draw(words),
        meta=Meta(format="bin", type=draw(_perhaps(words))),
        data=draw(st.binary(max_size=200)),
        more_data=draw(st.booleans()),
    )


def command_of(message: Message) -> Command:
    (command,) = message.commands
    return command


def around(*commands: Command, final: bool = True) -> Message:
    """A message of these commands."""
    return Message(Header("1", 1, "http://dm.example/", "IMEI:1"), commands, final)
