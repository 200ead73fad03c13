"""Sessions against the strict server: packages, commands, Sequence and Atomic, large objects."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from protocols.omadm.interaction import User, UserAnswer
from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Command,
    Copy,
    Delete,
    Exec,
    Get,
    Item,
    Message,
    Meta,
    Replace,
    Sequence,
    Status,
    Unsupported,
)
from protocols.omadm.personas import PERSONAS
from tests.protocols.omadm.dm_server import Large, Parts, Session, chunks
from tests.protocols.omadm.dm_world import FUMO, NEW, World, order, run
from tests.protocols.omadm.musts import musts
from tests.protocols.omadm.session_parts import chr_item, get, one_session


@musts("DM-034", "DM-066")
def test_get_in_all_its_ways() -> None:
    _, session = one_session(
        [
            get("./DevInfo", "DevDetail/LrgObj", "./Nowhere", "./DevInfo/Man?prop=Format"),
            get("./FwUpdate?list=Struct"),
        ]
    )
    assert session.code("Get") == [200, 200, 404, 200, 200]
    texts = [str(item.data) for one in session.results for item in one.items]
    assert texts[:3] == ["DevId/Man/Mod/DmV/Lang", "true", "chr"]
    assert len(session.results) == 2


@musts("DM-018", "DM-019", "DM-032", "DM-115")
def test_every_command_has_its_status_in_order() -> None:
    world, session = one_session(
        [
            Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),)),
            Add("", (chr_item("./Vendor/a/b", "x"),)),
            Replace("", (chr_item("./Vendor/a/b", "y"),)),
            Copy("", (Item(target="./Vendor/a/c", source="./Vendor/a/b"),)),
            get("./Vendor/a/c"),
            Delete("", (Item(target="./Vendor/a/b"),)),
            Exec("", (Item(target="./Vendor/a/c"),)),
            Unsupported("", "Search"),
            Alert("", 1201),
            Alert("", 4711),
            Replace("", ()),
        ]
    )
    codes = [one.code for one in session.statuses if one.cmd != "SyncHdr"]
    assert codes == [200, 200, 200, 200, 200, 200, 405, 406, 405, 406, 412]
    assert str(session.results[0].items[0].data) == "y"
    assert world.server.violations == []


@musts("DM-037")
def test_silence_where_no_status_is_wanted() -> None:
    _, session = one_session([Get("", (Item(target="./DevInfo/Man"),), no_resp=True), get(".")])
    assert session.code("Get") == [200]
    assert len(session.results) == 2


@musts("DM-039", "DM-042")
def test_a_package_in_several_messages() -> None:
    package = Parts([[get("./DevInfo/Man")], [get("./DevInfo/Mod")], [get("./DevInfo/Lang")]])
    _, session = one_session(package)
    assert session.code("Get") == [200, 200, 200]
    assert session.alerts == [1222, 1222]
    finals = [one.final for one in session.messages]
    assert finals[-3:] == [False, False, True]


@musts("DM-030", "DM-038")
def test_a_long_answer_takes_several_messages() -> None:
    uris = ["./DevInfo/Man", "./DevInfo/Mod", "./DevInfo/Lang", "./DevInfo/DmV"] * 6
    _, session = one_session(
        [*(get(uri) for uri in uris)], server={"max_msg_size": 1500}, options={"encoding": "xml"}
    )
    assert len(session.results) == len(uris)
    assert session.code("Get") == [200] * len(uris)
    assert sum(not one.final for one in session.messages) > 3


@musts("DM-041", "DM-054", "DM-055")
def test_a_long_value_is_cut_into_chunks() -> None:
    value = "".join(chr(97 + at % 26) for at in range(1000))
    _, session = one_session(
        [
            Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),)),
            Add("", (chr_item("./Vendor/a/long", value),)),
            get("./Vendor/a/long"),
            get("./DevInfo/Man"),
        ],
        server={"max_msg_size": 900},
    )
    chunks = [one.items[0] for one in session.results if one.items[0].source == "./Vendor/a/long"]
    assert "".join(str(one.data) for one in chunks) == value
    assert [one.more_data for one in chunks] == [True] * (len(chunks) - 1) + [False]
    sizes = [one.meta.size if one.meta else None for one in chunks]
    assert sizes == [1000] + [None] * (len(chunks) - 1)
    assert str(session.results[-1].items[0].data) == "fotilla"


@musts("DM-064")
@pytest.mark.parametrize("refusal", [Status("", 2, "2", "Results", 413), Alert("", 1225)])
def test_an_object_that_the_server_refuses_is_not_sent_to_its_end(
    refusal: Status | Alert,
) -> None:
    """It may say so by a Status of a chunk, or by Alert 1225."""

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)

        def change(session: Session, message: Message) -> Message:
            if not session.results or not session.results[-1].items[0].more_data:
                return message
            told = replace(refusal, cmd_id="77")
            if isinstance(told, Status):
                told = replace(told, msg_ref=session.last_id)
            return replace(message, commands=(*message.commands, told))

        world.server.change = change
        await world.session(
            [Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),))],
            [Add("", (chr_item("./Vendor/a/long", "x" * 1000),))],
            [get("./Vendor/a/long"), get("./DevInfo/Man")],
        )

    session = run(story, server={"max_msg_size": 900}, strict=False).server.session
    chunks = [one for one in session.results if one.items[0].source == "./Vendor/a/long"]
    assert len(chunks) == 1
    assert str(session.results[-1].items[0].data) == "fotilla"


def test_more_than_the_server_takes_is_413() -> None:
    _, session = one_session([get("./DevInfo/Man"), get("./DevInfo")], server={"max_obj_size": 10})
    assert session.code("Get") == [200, 413]
    assert len(session.results) == 1


@musts("DM-029")
def test_messages_go_where_the_server_says() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        world.web.serve("http://other.test", world.server.app)
        world.server.resp_uri = "http://other.test/dm?s=1"
        await world.session([get("./DevInfo/Man")])

    world = run(story)
    assert world.server.session.messages[-1].header.target == "http://other.test/dm?s=1"


# -- Sequence and Atomic ------------------------------------------------------------------------


def members(kind: type[Atomic] | type[Sequence], *commands: Command) -> list[Command]:
    return [kind("", commands)]


@musts("DM-108", "DM-110")
def test_sequence_and_atomic_that_succeed() -> None:
    world, session = one_session(
        members(
            Atomic,
            Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),)),
            Add("", (chr_item("./Vendor/a/b", "x"),)),
        ),
        members(
            Sequence,
            Replace("", (chr_item("./Vendor/a/b", "y"),)),
            get("./Vendor/a/b"),
        ),
    )
    assert session.code("Atomic") == [200]
    assert session.code("Add") == [200, 200]
    assert session.code("Sequence") == [200]
    assert str(session.results[0].items[0].data) == "y"
    assert world.server.violations == []


@musts("DM-052", "DM-107", "DM-110", "DM-111", "DM-113")
@pytest.mark.parametrize(
    ("spoiler", "code"),
    [
        (get("./DevInfo/Man"), 500),
        (Exec("", (Item(target=f"{FUMO}/Update"),)), 500),
        (Atomic("", (Delete("", (Item(target="./Vendor/a"),)),)), 500),
        (Delete("", (Item(target="./Nowhere"),)), 404),
        (Alert("", 1101, (Item(data=""), Item(data="Sure?"))), 304),
    ],
)
def test_a_failing_member_rolls_an_atomic_back(spoiler: Command, code: int) -> None:
    PERSONAS["no"] = replace(PERSONAS["default"], name="no", user=User(otherwise=UserAnswer.REJECT))
    try:
        _, session = one_session(
            members(
                Atomic,
                Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),)),
                spoiler,
                Delete("", (Item(target="./Vendor/a"),)),
            ),
            [get("./Vendor/a")],
            options={"persona": "no"},
        )
    finally:
        del PERSONAS["no"]
    assert session.code("Atomic")[0] == 507
    assert session.code("Add") == [216]
    assert session.code("Delete")[-1] == 215
    assert session.code("Get")[-1] == 404
    nested = session.code(spoiler.name)
    assert (nested[1] if spoiler.name == "Atomic" else nested[0]) == code


@musts("DM-109")
def test_a_pushed_package_is_taken_back_with_its_atomic() -> None:
    data = Item(target=f"{FUMO}/Update/PkgData", meta=Meta(format="bin"), data=NEW)
    _, session = one_session(
        members(Atomic, Replace("", (data,)), Delete("", (Item(target="./Nowhere"),))),
        [get(f"{FUMO}/State")],
    )
    assert session.code("Replace") == [216]
    assert str(session.results[0].items[0].data) == "10"


@musts("DM-053", "DM-108")
def test_a_no_ends_a_sequence() -> None:
    ask = Alert("", 1101, (Item(data=""), Item(data="Sure?")))
    PERSONAS["no"] = replace(PERSONAS["default"], name="no", user=User(otherwise=UserAnswer.REJECT))
    try:
        _, session = one_session(
            members(Sequence, get("./DevInfo/Man"), ask, get("./DevInfo/Mod")),
            [ask, get("./DevInfo/Mod")],
            options={"persona": "no"},
        )
    finally:
        del PERSONAS["no"]
    assert session.code("Get") == [200, 215, 200]
    assert session.code("Alert") == [304, 304]


def test_personas_without_sequence() -> None:
    _, session = one_session(
        members(Sequence, get("./DevInfo/Man")),
        [
            get("./DevInfo?list=Struct"),
            Copy("", (Item(target="./Vendor/c", source="./DevInfo"),)),
        ],
        options={"persona": "libdmclient"},
    )
    assert session.code("Sequence") == [406]
    assert session.code("Get") == [215, 406]
    assert session.code("Copy") == [501]


@musts("DM-039")
def test_final_always_breaks_the_rule() -> None:
    package = Parts([[get("./DevInfo/Man")], [get("./DevInfo/Mod")]])
    world, _ = one_session(package, options={"persona": "final-always"}, strict=False)
    assert world.server.violations == ["Final before the server's"]


# -- large objects of the server ----------------------------------------------------------------


@musts("DM-059", "DM-060")
def test_a_large_object_in_chunks() -> None:
    text = "a long text, " * 60
    _, session = one_session(
        [Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),))],
        Large("./Vendor/a/b", text, 100, "chr", add=True),
        [get("./Vendor/a/b")],
    )
    codes = session.code("Add", "./Vendor/a/b")
    assert codes == [213] * (len(codes) - 1) + [200]
    assert len(codes) == 8
    assert str(session.results[0].items[0].data) == text
    assert session.alerts == [1222] * 7


@musts("DM-061", "DM-065")
@pytest.mark.parametrize("size", [1, 779, 781, 100_000])
def test_another_size_than_was_told(size: int) -> None:
    text = "a long text, " * 60
    _, session = one_session(
        [Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),))],
        Large("./Vendor/a/b", text, 390, "chr", add=True, size=size),
        [get("./Vendor/a/b")],
    )
    codes = session.code("Add", "./Vendor/a/b")
    assert (424 if size < 1024 else 413) in codes
    assert 200 not in codes
    assert session.code("Get") == [404]


@musts("DM-062")
def test_an_object_that_does_not_end_is_told() -> None:
    text = "a long text, " * 60
    world, session = one_session(
        [Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),))],
        Parts(
            [
                *_first_chunks(text),
                [get("./DevInfo/Man")],
            ]
        ),
        [get("./Vendor/a/b")],
    )
    assert session.alerts == [1222, 1222, 1225]
    assert session.code("Get") == [200, 404]
    assert world.server.violations == []


def _first_chunks(text: str) -> list[list[Command]]:
    return chunks(Large("./Vendor/a/b", text, 200, "chr", add=True, broken_after=2))


@musts("DM-060", "DM-140")
@pytest.mark.parametrize("chunk", [1000, 1001, 4096, 50_000])
@pytest.mark.parametrize("encoding", ["xml", "wbxml"])
def test_a_package_by_replace_and_then_update(chunk: int, encoding: str) -> None:
    data: str | bytes = NEW
    format = "bin"
    if encoding == "xml":
        data, format = base64.b64encode(NEW).decode(), "b64"

    async def story(world: World) -> None:
        await world.session(
            Large(f"{FUMO}/Update/PkgData", data, chunk, format),
            [get(f"{FUMO}/State")],
            order(operation="Update"),
        )
        await world.until(lambda: bool(world.reports()))

    world = run(story, options={"encoding": encoding})
    sent = next(one for one in world.server.sessions if one.code("Exec"))
    codes = sent.code("Replace")
    assert codes == [213] * (len(codes) - 1) + [200]
    assert str(sent.results[0].items[0].data) == "50"
    assert sent.code("Exec") == [202]
    (report,) = world.reports()
    assert report.items[0].data == "200"
    assert report.items[0].meta is not None
    assert str(report.items[0].meta.type).endswith(".update")
    assert world.version == "2.0.0"
