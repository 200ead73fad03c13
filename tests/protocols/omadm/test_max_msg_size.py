"""A device never sends a message that is larger than the server's MaxMsgSize, however small."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.omadm import encoding as syncml
from protocols.omadm.auth import AuthType, credentials
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Command,
    Header,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Status,
)
from protocols.omadm.personas import PERSONAS
from protocols.omadm.session_tables import ENDED, Phase
from tests.protocols.omadm.musts import musts
from tests.protocols.omadm.session_parts import chr_item, get
from tests.protocols.omadm.small_server import DEVICE, NONCE, SERVER, Listener

LONG = "".join(f"{number} & <ü>\r" for number in range(300))

asked: list[Command] = [
    Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),)),
    Add("", (chr_item("./Vendor/a/text", LONG[:900]),)),
    Add("", (chr_item("./Vendor/a/short", "ü&<"),)),
    get("./DevInfo/Man", "./Nowhere", "./Vendor/a/text", "./Vendor/a/short"),
    get("./DevInfo?list=StructData"),
    get("./DevDetail?list=TNDS"),
    Atomic("", (Add("1a", (chr_item("./Vendor/a/b", "1"),)), get("./DevInfo"))),
    Atomic("", tuple(Add(f"2{n}", (chr_item(f"./Vendor/a/n{n}", "1"),)) for n in range(9))),
    Replace("", (Item(target="./Vendor/a/short", data="x", more_data=True),)),
    Alert("", 4711),
]


@musts("DM-030", "DM-031")
@settings(max_examples=150)
@given(
    limit=st.one_of(st.integers(0, 1600), st.integers(0, 20_000)),
    encoding=st.sampled_from(Encoding),
    commands=st.lists(st.sampled_from(asked), max_size=5),
    challenges=st.booleans(),
    shows=st.booleans(),
    persona=st.sampled_from(["default", "small-buffer"]),
)
@example(1000, Encoding.XML, asked, True, True, "default")
@example(350, Encoding.WBXML, asked, True, True, "default")
def test_a_device_never_says_more_than_its_server_takes(
    limit: int,
    encoding: Encoding,
    commands: list[Command],
    challenges: bool,
    shows: bool,
    persona: str,
) -> None:
    server = Listener(limit, encoding, commands, challenges, shows, persona)
    session = server.talk()
    assert server.kept, (limit, server.sizes)
    assert session.phase in ENDED
    if session.phase is not Phase.DONE:
        assert session.phase is Phase.ABORTED
        assert session.detail.startswith(f"{limit} octets are too few for a ")


def last_words(encoding: Encoding) -> int:
    """Octets of the header of a device that was challenged, and of Alert 1223."""
    cred = credentials(AuthType.MD5, "user", "secret", NONCE)
    profile = PERSONAS["default"]
    header = Header(
        "1F",
        2,
        SERVER,
        DEVICE,
        source_name="user",
        cred=cred,
        max_msg_size=profile.max_msg_size,
        max_obj_size=profile.max_obj_size,
    )
    return syncml.size_of(Message(header, (Alert("1", 1223),), True), encoding)


@musts("DM-031")
@pytest.mark.parametrize(("encoding", "enough"), [(Encoding.XML, 1003), (Encoding.WBXML, 340)])
def test_what_becomes_of_a_session_that_has_no_room(encoding: Encoding, enough: int) -> None:
    """docs/omadm.md has the arithmetic: `enough` is what one item of DevInfo takes beside header,
    credentials and the Status of the header."""
    silent = last_words(encoding)

    def said(limit: int) -> tuple[bool, bool, Phase]:
        server = Listener(limit, encoding, [])
        session = server.talk()
        assert server.kept
        return len(server.sizes) > 1, server.aborted, session.phase

    for limit in range(1400):
        if limit < silent:
            assert said(limit) == (False, False, Phase.ABORTED)
        elif limit < enough:
            assert said(limit) == (True, True, Phase.ABORTED)
        else:
            assert said(limit) == (True, False, Phase.DONE)


@musts("DM-031")
def test_a_value_that_no_message_takes_is_refused_and_the_session_goes_on() -> None:
    server = Listener(1200, Encoding.XML, [get("./DevDetail?list=TNDS", "./DevInfo/Man")], False)
    session = server.talk()
    assert (session.phase, server.kept) == (Phase.DONE, True)
    assert server.codes("Get") == [413, 200]
    assert server.values() == ["m"]


@musts("DM-031", "DM-041")
@pytest.mark.parametrize(("encoding", "limit"), [(Encoding.XML, 1300), (Encoding.WBXML, 700)])
def test_characters_that_grow_in_xml_are_cut_where_they_fit(encoding: Encoding, limit: int) -> None:
    value = "&<>\r" * 200
    commands: list[Command] = [
        Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),)),
        Add("", (chr_item("./Vendor/a/text", value),)),
        get("./Vendor/a/text"),
    ]
    server = Listener(limit, encoding, commands)
    assert server.talk().phase is Phase.DONE
    assert server.kept
    assert max(server.sizes[2:]) > limit - 50
    parts = [one.items[0] for one in server.heard if isinstance(one, Results)]
    assert "".join(str(one.data) for one in parts) == value
    assert parts[0].meta is not None and parts[0].meta.size == len(value)


@musts("DM-031")
def test_octets_are_cut_as_base64_in_xml() -> None:
    octets = bytes(range(256)) * 3
    text = base64.b64encode(octets).decode()
    commands: list[Command] = [
        Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),)),
        Add("", (Item(target="./Vendor/a/bin", meta=Meta(format="bin"), data=octets),)),
        get("./Vendor/a/bin"),
    ]
    server = Listener(1300, Encoding.XML, commands)
    assert server.talk().phase is Phase.DONE and server.kept
    parts = [one.items[0] for one in server.heard if isinstance(one, Results)]
    assert len(parts) > 2
    assert "".join(str(one.data) for one in parts) == text


MEMBERS = 9


def atomic(count: int) -> Atomic:
    node = Meta(format="node")
    nodes = [Item(target=f"./Vendor/n{at}", meta=node) for at in range(count)]
    return Atomic("", tuple(Add(f"9{at}", (one,)) for at, one in enumerate(nodes)))


@musts("DM-114")
@pytest.mark.parametrize("encoding", Encoding)
def test_an_atomic_whose_answers_need_two_messages_fails_and_is_rolled_back(
    encoding: Encoding,
) -> None:
    """A client that cannot execute its members together knows no other way."""
    limit = 1600 if encoding is Encoding.XML else 600
    commands: list[Command] = [atomic(MEMBERS), get("./Vendor")]
    server = Listener(limit, encoding, commands, persona="small-buffer")
    assert server.talk().phase is Phase.DONE and server.kept
    assert server.codes("Atomic") == [517]
    done = server.codes("Add").index(215)
    assert 0 < done < MEMBERS
    assert server.codes("Add") == [216] * done + [215] * (MEMBERS - done)
    assert server.values() == [""]


@musts("DM-114")
def test_a_client_that_executes_an_atomic_as_a_whole_may_split_its_answers() -> None:
    commands: list[Command] = [atomic(MEMBERS), get("./Vendor")]
    server = Listener(1600, Encoding.XML, commands)
    assert server.talk().phase is Phase.DONE and server.kept
    assert (server.codes("Atomic"), server.codes("Add")) == ([200], [200] * MEMBERS)
    assert len(_with_adds(server)) > 1
    assert server.values() == ["/".join(f"n{at}" for at in range(MEMBERS))]


@musts("DM-114")
@settings(max_examples=60)
@given(
    limit=st.integers(300, 4000),
    encoding=st.sampled_from(Encoding),
    count=st.integers(1, MEMBERS),
    before=st.integers(0, 4),
)
def test_the_answers_of_an_atomic_are_in_one_message_or_it_is_not_done(
    limit: int, encoding: Encoding, count: int, before: int
) -> None:
    commands: list[Command] = [
        *(get("./DevInfo/Man") for _ in range(before)),
        atomic(count),
        get("./Vendor"),
    ]
    server = Listener(limit, encoding, commands, persona="small-buffer")
    session = server.talk()
    assert server.kept and session.phase in ENDED
    if session.phase is not Phase.DONE:
        return
    [code] = server.codes("Atomic")
    assert code in (200, 517)
    if code == 200:
        assert server.codes("Add") == [200] * count
        [message] = _with_adds(server)
        assert any(isinstance(one, Status) and one.cmd == "Atomic" for one in message.commands)
    else:
        assert set(server.codes("Add")) <= {215, 216}
    if server.codes("Get")[-1] == 200:
        kept = "/".join(f"n{at}" for at in range(count))
        assert server.values()[-1] == (kept if code == 200 else "")


def _with_adds(server: Listener) -> list[Message]:
    return [
        message
        for message in server.messages
        if any(isinstance(one, Status) and one.cmd == "Add" for one in message.commands)
    ]
