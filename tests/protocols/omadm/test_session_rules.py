"""Rules of the protocol's text that no story of a whole session shows by itself."""

from __future__ import annotations

import base64

import pytest

from agent.credentials import Credential
from protocols.omadm import encoding as syncml
from protocols.omadm import package0, wsp
from protocols.omadm.auth import AuthType, challenge, md5, parse_hmac_header
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Chal,
    Command,
    Delete,
    Get,
    Header,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Status,
)
from protocols.omadm.peer_auth import Account, ClientAuth, ServerAuth, Verdict
from protocols.omadm.personas import PERSONAS
from protocols.omadm.session import DevInfo, DmSession, SessionSetup
from protocols.omadm.session_tables import Phase
from protocols.omadm.status import StatusCode
from protocols.omadm.tree import Hooks
from tests.protocols.omadm.device_parts import SERVER, small_tree
from tests.protocols.omadm.dm_server import MAC, MD5, Session
from tests.protocols.omadm.dm_world import FUMO, World, order, run
from tests.protocols.omadm.musts import musts

URI = "https://srv.example/dm"
DEVICE = "IMEI:493005100592800"
BOTH = Credential(username="user", password="client secret", token="server secret")
ACCOUNT = "./DMAcc/Factory/AppAuth/client"


def account(auth: AuthType = AuthType.MD5, server_auth: AuthType = AuthType.NONE) -> Account:
    return Account(SERVER, "user", "secret", SERVER, "server secret", auth, server_auth)


def session(
    known: Account | None = None,
    *,
    by_server: bool = False,
    alerts: tuple[Alert, ...] = (),
    hooks: Hooks | None = None,
    nonce: bytes = b"first",
) -> DmSession:
    known = known or account()
    return DmSession(
        SessionSetup(
            "1F",
            DEVICE,
            URI,
            known.user,
            DevInfo((("DevId", DEVICE), ("Man", "fotilla"))),
            by_server=by_server,
            alerts=alerts,
        ),
        PERSONAS["default"],
        small_tree(hooks=hooks),
        ClientAuth(known, nonce),
        ServerAuth(known, b"", lambda size: bytes(range(size))),
        lambda message: syncml.size_of(message, Encoding.XML),
    )


def said(number: int, *commands: Command, final: bool = True, code: int = 212) -> Message:
    """What the server says: the Status of our header, then `commands`."""
    head = Status("1", number, "0", "SyncHdr", code)
    return Message(Header("1F", number, DEVICE, URI), (head, *commands), final)


def statuses(message: Message | None) -> list[tuple[str, int]]:
    assert message is not None
    return [(one.cmd, one.code) for one in message.commands if isinstance(one, Status)]


def get(*uris: str, number: str = "2") -> Get:
    return Get(number, tuple(Item(target=uri) for uri in uris))


def stories(*packages: object, **arguments: object) -> tuple[World, Session]:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session(*packages)

    world = run(story, **arguments)  # type: ignore[arg-type]
    return world, world.server.session


# -- packages -----------------------------------------------------------------------------------


@musts("DM-015", "DM-016", "DM-025", "DM-027", "DM-028", "DM-022")
@pytest.mark.parametrize(("by_server", "code"), [(True, 1200), (False, 1201)])
def test_package_1(by_server: bool, code: int) -> None:
    message = session(by_server=by_server).start()
    alert, devinfo = message.commands
    assert isinstance(alert, Alert) and alert.code == code
    assert isinstance(devinfo, Replace)
    assert [item.source for item in devinfo.items] == ["./DevInfo/DevId", "./DevInfo/Man"]
    header = message.header
    assert (header.ver_dtd, header.ver_proto) == ("1.2", "DM/1.2")
    assert (header.session_id, header.msg_id) == ("1F", 1)
    assert (header.target, header.source, header.source_name) == (URI, DEVICE, "user")
    assert header.cred is not None
    assert header.cred.data == md5("user", "secret", b"first")
    assert message.final


@musts("DM-015", "DM-017", "DM-027", "DM-084")
def test_package_1_again_after_a_challenge() -> None:
    device = session(account(AuthType.BASIC))
    first = device.start()
    refusal = Status("1", 1, "0", "SyncHdr", 407, chal=challenge(AuthType.MD5, b"nonce"))
    answer = Message(
        Header("1F", 1, DEVICE, URI),
        (refusal, Status("2", 1, "1", "Alert", 407), Status("3", 1, "2", "Replace", 407)),
        True,
    )
    again = device.received(answer)
    assert again is not None
    head, *rest = again.commands
    assert isinstance(head, Status)
    assert (head.cmd_ref, head.cmd, head.msg_ref) == ("0", "SyncHdr", 1)
    assert [one.name for one in rest] == ["Alert", "Replace"]
    assert [one.items for one in rest if isinstance(one, Replace)] == [
        one.items for one in first.commands if isinstance(one, Replace)
    ]
    assert (again.header.session_id, again.header.msg_id) == ("1F", 2)
    assert again.header.cred is not None
    assert again.header.cred.data == md5("user", "secret", b"nonce")
    assert again.final


@musts("DM-020")
def test_nothing_is_said_when_nothing_was_asked() -> None:
    device = session()
    device.start()
    assert device.received(said(1)) is None
    assert device.phase is Phase.DONE
    _, whole = stories()
    assert len(whole.messages) == 1


@musts("DM-044")
def test_an_abort_of_the_device_is_final() -> None:
    device = session()
    device.start()
    device.received(said(1, get(".")))
    message = device.abort()
    (alert,) = message.commands
    assert isinstance(alert, Alert) and alert.code == 1223
    assert message.final
    assert device.phase is Phase.ABORTED


@musts("DM-043")
def test_a_server_may_abort_between_the_messages_of_a_package() -> None:
    device = session()
    device.start()
    more = device.received(said(1, get("./Fixed/Name"), final=False))
    assert more is not None and not more.final
    assert device.received(said(2, Alert("2", 1223))) is None
    assert device.phase is Phase.ABORTED


@musts("DM-042", "DM-039")
def test_the_next_message_is_asked_for_without_final() -> None:
    device = session()
    device.start()
    answer = device.received(said(1, get("./Fixed/Name"), final=False))
    assert answer is not None
    assert statuses(answer) == [("SyncHdr", 200), ("Get", 200)]
    last = answer.commands[-1]
    assert isinstance(last, Alert) and last.code == 1222
    assert not answer.final
    answer = device.received(said(2, get("./Fixed/Lang")))
    assert answer is not None and answer.final


# -- statuses and results -----------------------------------------------------------------------


@musts("DM-032", "DM-033", "DM-034", "DM-035")
def test_a_status_for_each_item_then_one_results() -> None:
    device = session()
    device.start()
    answer = device.received(said(1, get("./Fixed/Name", "./None", "./Fixed/Lang")))
    assert answer is not None
    head, *parts = answer.commands
    assert isinstance(head, Status)
    assert (head.cmd_ref, head.cmd) == ("0", "SyncHdr")
    *told, results = parts
    assert [
        (one.cmd_ref, one.code, one.target_refs) for one in told if isinstance(one, Status)
    ] == [
        ("2", 200, ("./Fixed/Name",)),
        ("2", 404, ("./None",)),
        ("2", 200, ("./Fixed/Lang",)),
    ]
    assert isinstance(results, Results)
    assert (results.msg_ref, results.cmd_ref) == (1, "2")
    assert [item.source for item in results.items] == ["./Fixed/Name", "./Fixed/Lang"]


class _Stubborn:
    """A sink that cannot take a package back."""

    def begin(self, uri: str, size: int | None) -> None: ...

    def data(self, chunk: bytes) -> None: ...

    def end(self) -> StatusCode:
        return StatusCode.OK

    def abort(self) -> None: ...

    def undo(self) -> bool:
        return False


@musts("DM-112", "DM-110", "DM-111")
def test_what_cannot_be_taken_back_is_516() -> None:
    device = session(hooks=Hooks(on_replace={"./Package": _Stubborn()}))
    device.start()
    package = Item(target="./Package", meta=Meta(format="bin"), data=b"octets")
    answer = device.received(
        said(
            1,
            Atomic(
                "2",
                (
                    Replace("3", (Item(target="./Box/note", data="x"),)),
                    Replace("4", (package,)),
                    Delete("5", (Item(target="./None"),)),
                    Delete("6", (Item(target="./Box/one"),)),
                ),
            ),
        )
    )
    assert statuses(answer)[1:] == [
        ("Atomic", 507),
        ("Replace", 216),
        ("Replace", 516),
        ("Delete", 404),
        ("Delete", 215),
    ]


# -- large objects ------------------------------------------------------------------------------


@musts("DM-054", "DM-055", "DM-056", "DM-057", "DM-058")
def test_nothing_stands_between_the_chunks_of_a_device() -> None:
    value = "".join(chr(97 + at % 26) for at in range(1000))
    _, whole = stories(
        [
            Add("", (Item(target="./Vendor/a", meta=Meta(format="node")),)),
            Add("", (Item(target="./Vendor/a/long", meta=Meta(format="chr"), data=value),)),
            Get("", (Item(target="./Vendor/a/long"),)),
            Get("", (Item(target="./DevInfo/Man"),)),
        ],
        server={"max_msg_size": 700},
    )
    long = "./Vendor/a/long"
    carriers = [
        message
        for message in whole.messages
        if any(isinstance(one, Results) and one.items[0].source == long for one in message.commands)
    ]
    assert len(carriers) > 2
    chunks = []
    for message in carriers:
        heads = [one for one in message.commands if isinstance(one, Status)]
        assert [one.cmd for one in heads if one.cmd_ref == "0"] == ["SyncHdr"]
        results = [one for one in message.commands if isinstance(one, Results)]
        assert results[0].items[0].source == long, "nothing comes before the rest of it"
        chunks.append(results[0].items[0])
        if results[0].items[0].more_data:
            assert message.commands[-1] is results[0], "nothing else comes behind it"
            assert len(results) == 1
            assert not message.final
    assert [one.more_data for one in chunks] == [True] * (len(chunks) - 1) + [False]
    metas = [one.meta for one in chunks]
    assert all(meta is not None and meta.format == "chr" for meta in metas)
    assert [meta.size for meta in metas if meta is not None] == [1000] + [None] * (len(chunks) - 1)
    numbers = [one.header.msg_id for one in carriers]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@musts("DM-063", "DM-062")
@pytest.mark.parametrize("apart", [True, False])
def test_an_item_between_two_chunks_ends_the_object(apart: bool) -> None:
    chunk = Item(target="./Box/note", meta=Meta(format="chr", size=6), data="abc", more_data=True)
    other = Item(target="./Fixed/Lang", data="de")
    commands = (
        (Replace("2", (chunk,)), Replace("3", (other,)))
        if apart
        else (Replace("2", (chunk, other)),)
    )
    device = session()
    device.start()
    answer = device.received(said(1, *commands, final=False))
    assert answer is not None
    assert [code for name, code in statuses(answer) if name == "Replace"] == [213, 200]
    alerts = [one for one in answer.commands if isinstance(one, Alert)]
    assert [one.code for one in alerts] == [1225, 1222]
    assert alerts[0].items[0].target == "./Box/note"
    answer = device.received(said(2, get("./Box/note", "./Fixed/Lang")))
    assert answer is not None
    (results,) = (one for one in answer.commands if isinstance(one, Results))
    assert [item.data for item in results.items] == ["first", "de"]


@musts("DM-064")
def test_max_obj_size_lasts_and_may_change() -> None:
    device = session()
    device.start()
    small = said(1, get("./Fixed/Name", "./Box"))
    header = Header("1F", 1, DEVICE, URI, max_obj_size=4)
    answer = device.received(Message(header, small.commands, True))
    assert statuses(answer)[1:] == [("Get", 200), ("Get", 413)]
    assert statuses(device.received(said(2, get("./Box"))))[1:] == [("Get", 413)]
    header = Header("1F", 3, DEVICE, URI, max_obj_size=400)
    answer = device.received(Message(header, said(3, get("./Box")).commands, True))
    assert statuses(answer)[1:] == [("Get", 200)]


# -- authentication -----------------------------------------------------------------------------


@musts("DM-084")
@pytest.mark.parametrize("kind", ["syncml:auth-x509", "syncml:auth-securid", ""])
def test_a_type_that_is_not_known_ends_the_session(kind: str) -> None:
    device = session()
    device.start()
    chal = Chal(kind, "b64", "AAAA")
    refusal = Status("1", 1, "0", "SyncHdr", 407, chal=chal)
    assert device.received(Message(Header("1F", 1, DEVICE, URI), (refusal,), True)) is None
    assert device.phase is Phase.FAILED


@musts("DM-075")
def test_200_wants_credentials_in_each_message() -> None:
    device = session()
    device.start()
    for number in (1, 2, 3):
        fresh = f"nonce {number}".encode()
        head = Status("1", number, "0", "SyncHdr", 200, chal=challenge(AuthType.MD5, fresh))
        answer = device.received(Message(Header("1F", number, DEVICE, URI), (head, get(".")), True))
        assert answer is not None
        assert answer.header.cred is not None
        assert answer.header.cred.data == md5("user", "secret", fresh)


@musts("DM-074", "DM-076")
def test_212_wants_no_more_credentials_and_its_nonce_is_the_next_sessions() -> None:
    known = ClientAuth(account(), b"first")
    assert known.answered(212, challenge(AuthType.MD5, b"for the next")) is Verdict.ACCEPTED
    assert known.cred() is None
    assert known.to_store == b"for the next"


@musts("DM-095")
def test_a_strangers_challenge_leaves_the_stored_nonces() -> None:
    client = ClientAuth(account(), b"stored")
    assert client.answered(401, challenge(AuthType.MD5, b"a stranger's")) is Verdict.AGAIN
    assert client.to_store is None
    server = ServerAuth(account(server_auth=AuthType.MD5), b"stored", bytes)
    assert not server.judge(None, None, b"").trusted
    assert server.to_store is None


@musts("DM-079")
def test_a_server_that_wants_nothing_is_not_challenged() -> None:
    known = account(server_auth=AuthType.MD5)
    device = session(known)
    device.start()
    assert device.received(said(1)) is None
    assert device.phase is Phase.DONE


@musts("DM-077", "DM-078", "DM-073")
def test_an_authentication_failure_is_told_by_statuses_alone() -> None:
    device = session(account(server_auth=AuthType.MD5))
    device.start()
    answer = device.received(
        said(1, get("./Fixed/Name"), Replace("3", (Item(target="./Fixed/Lang", data="de"),)))
    )
    assert answer is not None
    assert all(isinstance(one, Status) for one in answer.commands)
    assert statuses(answer) == [("SyncHdr", 407), ("Get", 401), ("Replace", 401)]
    head = answer.commands[0]
    assert isinstance(head, Status) and head.chal is not None
    assert (head.chal.type, head.chal.format) == (MD5, "b64")
    assert len(base64.b64decode(head.chal.next_nonce or "")) == 16


@musts("DM-091", "DM-090", "DM-089")
def test_the_mac_is_given_and_asked_for_in_each_message() -> None:
    packages = [[get("./DevInfo/Man")], [get("./DevInfo/Mod")], [get("./DevInfo/Lang")]]
    names = {"auth": "hmac", "server-auth": "hmac"}
    _, whole = stories(
        *packages, options=names, server={"auth": MAC, "server_auth": MAC}, credential=BOTH
    )
    heads = [one for one in whole.statuses if one.cmd == "SyncHdr"]
    assert [one.code for one in heads] == [200] * 3
    nonces = [one.chal.next_nonce for one in heads if one.chal is not None]
    assert len(set(nonces)) == 3
    assert all(message.header.cred is None for message in whole.messages)
    device = session(account(AuthType.HMAC))
    first = device.start()
    assert parse_hmac_header(device.mac(b"body") or "").username == first.header.source_name


@musts("DM-131")
def test_a_changed_secret_counts_from_the_next_session() -> None:
    secret = Item(target=f"{ACCOUNT}/AAuthSecret", data="changed")
    heads: list[int] = []

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session([Replace("", (secret,))], [get("./DevInfo/Man")])
        assert world.server.session.code("Replace") == [200]
        assert world.server.session.code("Get") == [200], "still by the old secret"
        assert world.server.session.challenges == 0
        world.server.users = {key: ("user", "changed") for key in world.server.users}
        await world.session([get("./DevInfo/Man")])
        heads.append(world.server.session.challenges)

    run(
        story,
        options={"auth": "hmac", "server-auth": "hmac"},
        server={"auth": MAC, "server_auth": MAC},
        credential=BOTH,
    )
    assert heads == [0]


# -- the rest -----------------------------------------------------------------------------------


@musts("DM-127")
@pytest.mark.parametrize(("format", "data"), [("b64", "AAEC"), ("bin", b"\x00\x01\x02")])
def test_octets_stay_bin_however_they_came(format: str, data: str | bytes) -> None:
    tree = small_tree()
    tree.add("./Box/one/c", data, Meta(format=format))
    assert tree.get("./Box/one/c?prop=Format")[0].data == "bin"
    assert tree.get("./Box/one/c")[0].data == b"\x00\x01\x02"


@musts("DM-143", "DM-146", "DM-068")
def test_the_result_is_told_in_package_1_of_a_new_session() -> None:
    async def story(world: World) -> None:
        world.server.packages.append(order())
        await world.until(lambda: bool(world.reports()))
        await world.sleep(5.0)

    world = run(story)
    ordered, last = world.server.sessions[0], world.server.sessions[-1]
    assert ordered.id != last.id
    assert ordered.code("Exec") == [202]
    alerts = [one for one in last.messages[0].commands if isinstance(one, Alert)]
    assert [one.code for one in alerts] == [1201, 1226]
    (item,) = alerts[1].items
    assert item.source == FUMO
    assert item.meta is not None
    assert item.meta.type == "org.openmobilealliance.dm.firmwareupdate.downloadandupdate"
    assert (item.meta.format, item.data) == ("int", "200")


@musts("DM-013")
@pytest.mark.parametrize(
    ("content_type", "application", "sessions"),
    [
        (package0.CONTENT_TYPE, wsp.DM_APPLICATION, 2),
        (package0.CONTENT_TYPE, "x-wap-application:mms.ua", 1),
        ("text/plain", wsp.DM_APPLICATION, 1),
    ],
)
def test_a_push_is_known_by_its_type_and_application(
    content_type: str, application: str, sessions: int
) -> None:
    body = package0.encode(package0.Notification(7, "fotilla"), "fotilla", "server secret", b"")

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        where = world.client.push_address
        assert where is not None and where[1] == 2948
        sender = world.runtime.network.open(("10.9.9.9", 0), lambda data, source: None)
        sender.send(wsp.encode(wsp.Push(content_type, body, application)), where)
        await world.sleep(60.0)

    world = run(story, options={"push": "2948"}, server={"server_auth": MD5}, credential=BOTH)
    assert len(world.server.sessions) == sessions
