"""Whatever a server says, a session ends or goes on: no exception, no endless growth."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.omadm import encoding as syncml
from protocols.omadm.auth import AuthType
from protocols.omadm.encoding import Encoding
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
    Replace,
    Results,
    Sequence,
    Status,
    Unsupported,
)
from protocols.omadm.peer_auth import Account, ClientAuth, ServerAuth
from protocols.omadm.personas import PERSONAS
from protocols.omadm.session import DevInfo, DmSession, SessionSetup
from protocols.omadm.session_tables import ENDED
from protocols.omadm.standard_objects import DeviceValues, shared_tree
from protocols.omadm.tree import Tree

SHARED = shared_tree(DeviceValues("m", "x"), fumo="./FwUpdate/Fotilla")
ACCOUNT = Account("fotilla", "user", "secret", "", "server secret", AuthType.MD5, AuthType.NONE)
STRICT = Account("fotilla", "user", "secret", "", "server secret", AuthType.MD5, AuthType.MD5)

uris = st.sampled_from(
    [
        "./DevInfo/Man",
        "./Vendor/a",
        "./Vendor/a/b",
        "./FwUpdate/Fotilla/Update",
        "./FwUpdate/Fotilla/Update/PkgData",
        "./SCOMO/Download/x",
        ".",
        "./DMAcc?list=TNDS",
        "./DevInfo?prop=ACL",
        "",
    ]
)
metas = st.one_of(
    st.none(),
    st.builds(
        Meta,
        format=st.sampled_from([None, "chr", "node", "b64", "bin", "int"]),
        type=st.sampled_from([None, "text/plain"]),
        size=st.one_of(st.none(), st.integers(0, 200)),
    ),
)
items = st.builds(
    Item,
    target=st.one_of(st.none(), uris),
    source=st.one_of(st.none(), uris),
    meta=metas,
    data=st.one_of(st.none(), st.text(max_size=40), st.binary(max_size=20)),
    more_data=st.booleans(),
)
lists = st.lists(items, max_size=3).map(tuple)
ids = st.sampled_from(["1", "2", "3", "0"])
simple = st.one_of(
    *(
        st.builds(kind, ids, lists, metas, st.sampled_from([None, "c"]), st.booleans())
        for kind in (Get, Add, Replace, Delete, Copy, Exec)
    ),
    st.builds(Alert, ids, st.sampled_from([1100, 1101, 1103, 1200, 1222, 1225, 1226, 7]), lists),
    st.builds(Unsupported, ids, st.just("Search")),
)
statuses = st.builds(
    Status,
    ids,
    st.integers(1, 3),
    ids,
    st.sampled_from(["SyncHdr", "Alert", "Replace", "Results"]),
    st.sampled_from([200, 202, 212, 213, 401, 404, 407, 413, 500]),
    chal=st.one_of(
        st.none(),
        st.builds(
            Chal,
            st.sampled_from(["syncml:auth-md5", "syncml:auth-basic", "syncml:auth-MAC", "x"]),
            st.just("b64"),
            st.sampled_from([None, "AAAA", "/w==", "no base64"]),
        ),
    ),
)
nested = st.one_of(
    st.builds(Sequence, ids, st.lists(simple, max_size=3).map(tuple)),
    st.builds(Atomic, ids, st.lists(simple, max_size=3).map(tuple)),
    st.builds(Results, ids, st.just(1), ids, lists),
)
commands = st.lists(st.one_of(simple, statuses, nested), max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    packages=st.lists(st.tuples(commands, st.booleans(), st.booleans()), max_size=8),
    strict=st.booleans(),
    limit=st.sampled_from([None, 300, 2000]),
    persona=st.sampled_from(sorted(PERSONAS)),
)
def test_any_conversation(
    packages: list[tuple[list[Command], bool, bool]],
    strict: bool,
    limit: int | None,
    persona: str,
) -> None:
    account = STRICT if strict else ACCOUNT
    session = DmSession(
        SessionSetup("1F", "IMEI:1", "http://dm", "user", DevInfo((("DevId", "IMEI:1"),))),
        PERSONAS[persona],
        Tree(SHARED, None, server_id="fotilla"),
        ClientAuth(account, b""),
        ServerAuth(account, b"", lambda count: b"n" * count),
        lambda message: syncml.size_of(message, Encoding.XML),
    )
    sent = session.start()
    for number, (said, final, known) in enumerate(packages, 1):
        cred = Cred("syncml:auth-md5", "b64", "x") if not known else None
        header = Header("1F", number, "IMEI:1", "http://dm", cred=cred, max_msg_size=limit)
        head = Status("9", sent.header.msg_id, "0", "SyncHdr", 212 if known else 200)
        reply = session.received(Message(header, (head, *said), final))
        if reply is None:
            assert session.phase in ENDED
            return
        assert session.phase not in ENDED
        ids = [one.cmd_id for one in reply.commands]
        assert len(set(ids)) == len(ids)
        assert {one.name for one in reply.commands} <= {"Status", "Results", "Alert", "Replace"}
        for encoding in Encoding:
            assert syncml.decode(syncml.encode(reply, encoding), encoding).header.session_id
        sent = reply
    session.lost("enough")
    assert session.phase in ENDED
