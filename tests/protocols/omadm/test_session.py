"""Sessions against the strict server: authentication, packages, commands, large objects, ends."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from agent.credentials import Credential
from agent.errors import LocalMisuse
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
from protocols.omadm.session import DmSession
from protocols.omadm.session_tables import ENDED, TRANSITIONS, Phase, Step
from tests.protocols.omadm.dm_server import BASIC, MAC, MD5, Large, Parts, Session, chunks
from tests.protocols.omadm.dm_world import FUMO, NEW, World, order, run
from tests.protocols.omadm.musts import musts

BOTH = Credential(username="user", password="client secret", token="server secret")


def chr_item(uri: str, data: str) -> Item:
    return Item(target=uri, meta=Meta(format="chr", type="text/plain"), data=data)


def get(*uris: str) -> Get:
    return Get("", tuple(Item(target=uri) for uri in uris))


def ended(world: World) -> tuple[str, str]:
    """Phase and cause of the last session's end."""
    return [(new, cause) for machine, _, new, cause in world.events if machine == "session"][-1]


def one_session(*packages: object, **arguments: object) -> tuple[World, Session]:
    """What a session of these packages left behind."""

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session(*packages)

    world = run(story, **arguments)  # type: ignore[arg-type]
    return world, world.server.session


def test_every_cell_of_the_table() -> None:
    for phase in Phase:
        assert set(TRANSITIONS[phase]) <= set(Step)
        assert (phase in ENDED) == (not TRANSITIONS[phase])
    reachable = {new for row in TRANSITIONS.values() for new in row.values()}
    assert reachable == set(Phase) - {Phase.NEW}


def test_illegal_calls_change_nothing() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)

    world = run(story)
    assert ended(world) == ("DONE", "nothing left")
    with pytest.raises(LocalMisuse):
        DmSession._move(_Dead(), Step.WORK)  # type: ignore[arg-type]


class _Dead:
    phase = Phase.DONE
    detail = ""
    on_step = None


# -- authentication -----------------------------------------------------------------------------


@musts("DM-028", "DM-074", "DM-076", "DM-091", "DM-093")
@pytest.mark.parametrize("encoding", ["xml", "wbxml"])
@pytest.mark.parametrize("auth", [None, BASIC, MD5, MAC])
@pytest.mark.parametrize("server_auth", [None, BASIC, MD5, MAC])
def test_all_credentials_both_ways(
    auth: str | None, server_auth: str | None, encoding: str
) -> None:
    names = {None: "none", BASIC: "basic", MD5: "md5", MAC: "hmac"}
    options = {
        "auth": names[auth],
        "server-auth": names[server_auth],
        "encoding": encoding,
    }

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session([get("./DevDetail/FwV")])
        await world.session([get("./DevInfo/Man")])

    world = run(
        story,
        options=options,
        server={"auth": auth, "server_auth": server_auth},
        credential=BOTH,
    )
    second, third = world.server.sessions[-2:]
    assert [str(one.items[0].data) for one in second.results] == ["1.0.0"]
    assert [str(one.items[0].data) for one in third.results] == ["fotilla"]
    # The nonces of the session before serve the next one at once: nobody is challenged.
    assert second.challenges == third.challenges == 0
    assert all(status.code != 407 for status in third.statuses)


@musts("DM-072", "DM-078", "DM-080", "DM-081")
def test_a_server_that_is_never_right_is_given_up() -> None:
    async def story(world: World) -> None:
        world.server.server_password = "something else"
        world.server.packages += [[get("./DevInfo/Man")] for _ in range(6)]
        await world.until(lambda: "refused" in str(world.events[-1]))

    world = run(
        story,
        options={"server-auth": "md5"},
        server={"server_auth": MD5},
        credential=BOTH,
    )
    session = world.server.sessions[0]
    heads = [one.code for one in session.statuses if one.cmd == "SyncHdr"]
    assert heads == [401, 401]
    assert session.code("Get") == [401, 401]
    assert session.results == []
    assert ended(world)[0] == "FAILED"
    challenges = {one.chal.next_nonce for one in session.statuses if one.chal is not None}
    assert len(challenges) == 2


@musts("DM-072", "DM-077", "DM-078")
def test_missing_credentials_are_407_and_nothing_is_done() -> None:
    async def story(world: World) -> None:
        world.server.packages.append([get("./DevInfo/Man")])
        await world.until(lambda: bool(world.server.sessions) and world.server.session.over)

    world = run(story, options={"server-auth": "md5"}, credential=BOTH)
    session = world.server.sessions[0]
    assert [one.code for one in session.statuses if one.cmd == "SyncHdr"][-1] == 407
    assert session.code("Get") == [401]


@musts("DM-017", "DM-022", "DM-080")
def test_wrong_password_ends_after_two_challenges() -> None:
    async def story(world: World) -> None:
        world.server.users = {key: ("user", "another") for key in world.server.users}
        await world.until(lambda: any("refused" in event[3] for event in world.events))

    world = run(story)
    session = world.server.sessions[0]
    # Package 1 whole each time, in one session, with the next MsgID.
    assert [one.header.msg_id for one in session.messages] == [1, 2, 3]
    for message in session.messages:
        kinds = [one.name for one in message.commands if not isinstance(one, Status)]
        assert kinds == ["Alert", "Replace"]
    assert ("FAILED", "refused: SyncHdr 401") in [event[2:] for event in world.events]


@musts("DM-084")
def test_the_demanded_type_is_answered() -> None:
    world, session = one_session([get("./DevInfo/Man")], options={"auth": "basic"})
    assert session.code("Get") == [200]
    first = world.server.sessions[0]
    kinds = [one.header.cred.type for one in first.messages if one.header.cred is not None]
    assert kinds == [BASIC, MD5]


@musts("DM-086")
def test_a_nonce_as_text_is_never_right() -> None:
    async def story(world: World) -> None:
        world.server.new_nonce = lambda: b"\x80\xff" * 8
        await world.until(lambda: world.client.registered)  # with the empty nonce it began with
        world.server.packages.append([get("./DevInfo/Man")])
        world.client.check_now()
        await world.until(lambda: any("refused" in event[3] for event in world.events))

    world = run(story, options={"persona": "automotive"})
    assert all(session.results == [] for session in world.server.sessions)


# -- packages -----------------------------------------------------------------------------------


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


# -- ends ---------------------------------------------------------------------------------------


@musts("DM-046")
def test_an_abort_of_the_server_is_obeyed() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        requests = world.server.requests
        world.server.packages.append([Alert("", 1223)])
        world.client.check_now()
        await world.sleep(30.0)
        assert world.server.requests == requests + 1

    world = run(story)
    assert ended(world) == ("ABORTED", "aborted by the server")


@musts("DM-022")
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"session_id": "0"}, "another session's"),
        ({"msg_id": 0}, "MsgID 0 behind"),
    ],
)
def test_a_message_out_of_place_ends_the_session(change: dict[str, object], cause: str) -> None:
    async def story(world: World) -> None:
        world.server.change = lambda session, message: replace(
            message,
            header=replace(message.header, **change),  # type: ignore[arg-type]
        )
        await world.until(lambda: any(event[2] == "FAILED" for event in world.events))

    world = run(story)
    assert cause in next(event[3] for event in world.events if event[2] == "FAILED")


@musts("DM-026")
@pytest.mark.parametrize(
    ("change", "code"),
    [({"ver_proto": "DM/9.9"}, 513), ({"ver_dtd": "9.9"}, 505)],
)
def test_versions_that_are_not_known(change: dict[str, object], code: int) -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        world.server.change = lambda session, message: replace(
            message,
            header=replace(message.header, **change),  # type: ignore[arg-type]
        )
        await world.session([get("./DevInfo/Man")])

    world = run(story)
    session = world.server.session
    heads = [one for one in session.statuses if one.cmd == "SyncHdr"]
    assert heads[-1].code == code
    assert session.code("Get") == [code]


def test_a_server_that_asks_for_nothing_for_ever() -> None:
    async def story(world: World) -> None:
        world.server.packages += [Parts([[Alert("", 1222)]] * 40)]
        await world.until(lambda: any(event[2] == "ABORTED" for event in world.events))
        await world.sleep(1.0)

    world = run(story, strict=False)
    assert ended(world) == ("ABORTED", "aborted by the device: the session makes no progress")
    assert world.server.session.alerts[-1] == 1223


@musts("DM-047", "DM-133")
@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ((200, {"content-type": "text/html"}, b"<html/>"), "content type"),
        ((200, {"content-type": "application/vnd.syncml.dm+wbxml"}, b"\x02\x00"), "violat"),
        ((404, {}, b""), "HTTP 404"),
        ((302, {"location": "//[bad"}, b""), "redirect"),
    ],
)
def test_an_answer_that_is_none_ends_the_session(
    answer: tuple[int, dict[str, str], bytes], cause: str
) -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        world.server.packages += [[get("./DevInfo/Man")]]
        world.server.intervene = lambda session, message: (
            answer if message.header.msg_id == 2 else None
        )
        world.client.check_now()
        await world.until(lambda: any(event[2] == "FAILED" for event in world.events))
        world.server.intervene = lambda session, message: None
        await world.until(lambda: world.server.session.over)  # the schedule tries again

    world = run(story, strict=False)
    causes = [event[3] for event in world.events if event[2] == "FAILED"]
    assert any(cause in one or "server lost" in one for one in causes)


@musts("DM-023")
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_message_is_posted_again_after_an_error(status: int) -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        failed: list[int] = []

        def intervene(
            session: Session, message: object
        ) -> tuple[int, dict[str, str], bytes] | None:
            if len(failed) < 2:
                failed.append(status)
                return status, {"retry-after": "3"}, b""
            return None

        world.server.intervene = intervene
        await world.session([get("./DevInfo/Man")])

    world = run(story, strict=False)
    assert world.server.session.code("Get") == [200]
    assert all(event[2] != "FAILED" for event in world.events if event[0] == "session")


def test_a_redirect_is_followed_with_the_same_message() -> None:
    async def story(world: World) -> None:
        world.web.serve("http://other.test", world.server.app)
        await world.until(lambda: world.client.registered)
        sent: list[str] = []

        def intervene(
            session: Session, message: object
        ) -> tuple[int, dict[str, str], bytes] | None:
            if not sent:
                sent.append("once")
                return 307, {"location": "http://other.test/dm"}, b""
            return None

        world.server.intervene = intervene
        await world.session([get("./DevInfo/Man")])

    world = run(story, strict=False)
    assert world.server.session.code("Get") == [200]
    bodies = [body for _, body in world.server.bodies]
    assert len(bodies) == len(set(bodies)) + 1  # the same octets, posted once more
