"""Sessions against the strict server: their table, authentication, ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.credentials import Credential
from agent.errors import LocalMisuse
from protocols.omadm.model import (
    Alert,
    Status,
)
from protocols.omadm.session import DmSession
from protocols.omadm.session_tables import ENDED, TRANSITIONS, Phase, Step
from tests.protocols.omadm.dm_server import BASIC, MAC, MD5, Parts, Session
from tests.protocols.omadm.dm_world import World, run
from tests.protocols.omadm.musts import musts
from tests.protocols.omadm.session_parts import ended, get, one_session

BOTH = Credential(username="user", password="client secret", token="server secret")


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
