"""Devices that break the protocol: the right status or a clean end, and nothing that grows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.runtime.clock import run_virtual
from protocols.omadm import encoding as encodings
from protocols.omadm.auth import AuthType
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Command,
    Copy,
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
)
from tests.protocols.omadm.musts import musts
from tests.tools.backend.omadm_device import SERVER, DmDevice
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_omadm import campaign_of, fleet, member_of
from tests.tools.backend.virtual import virtual
from tools.backend.campaigns import states
from tools.backend.faces import omadm_envelope
from tools.backend.faces.base import Delivery, Ending, Position
from tools.backend.faces.omadm_sessions import SESSION_IDLE


def codes(message: Message) -> list[tuple[str, int]]:
    return [(one.cmd, one.code) for one in message.commands if isinstance(one, Status)]


def alerts(message: Message) -> list[int]:
    return [one.code for one in message.commands if isinstance(one, Alert)]


def with_header(message: Message, **changes: object) -> Message:
    return replace(message, header=replace(message.header, **changes))  # type: ignore[arg-type]


@rules("BR-098")
@musts("DM-072", "DM-073", "DM-077", "DM-081")
@virtual
async def test_credentials_that_are_missing_wrong_or_nobodys() -> None:
    async with fleet() as (backend, [device], _firmware):
        first = device.package_1()
        refused = await device.post(with_header(first, cred=None))
        assert codes(refused) == [("SyncHdr", 407), ("Alert", 407), ("Replace", 407)]
        assert refused.final
        status = refused.commands[0]
        assert isinstance(status, Status)
        assert status.chal is not None
        assert (status.chal.type, status.chal.format) == ("syncml:auth-md5", "b64")
        assert status.chal.next_nonce
        # Wrong ones, twice: one more challenge with a new nonce, then the end.
        said = []
        for number in (2, 3):
            again = with_header(first, msg_id=number)
            said.append(await device.post(again))
        assert [codes(one)[0] for one in said] == [("SyncHdr", 401)] * 2
        last = said[-1].commands[0]
        assert isinstance(last, Status)
        assert last.chal is None
        assert device.name not in backend.unknown_identities()
        stranger = with_header(device.package_1(), source="IMEI:000000000000000")
        device.name = "IMEI:000000000000000"
        answer = await device.post(stranger)
        assert codes(answer)[0] == ("SyncHdr", 401)
        assert device.name in backend.unknown_identities()
        assert set(backend.omadm.sessions.live) == {"IMEI:350000000000100"}


@virtual
async def test_the_server_shows_who_it_is() -> None:
    async with fleet() as (backend, [device], firmware):
        device.demand = AuthType.MD5
        device.server_nonce = b"nobody told the server"
        campaign = await campaign_of(backend, [device], firmware)
        await device.session()
        assert member_of(campaign, device).position == Position.INSTALLING
        assert len(device.executed) == 1


@musts("DM-080")
@virtual
async def test_a_device_that_believes_no_server_is_left_alone() -> None:
    async with fleet() as (backend, [device], firmware):
        device.account = replace(device.account, token="another password")
        device.demand = AuthType.MD5
        await campaign_of(backend, [device], firmware)
        said = await device.session()
        assert alerts(said[-1]) == [1223]
        assert len(said) <= 4
        assert device.executed == []


@musts("DM-026")
@virtual
async def test_versions_that_we_do_not_speak() -> None:
    async with fleet() as (_backend, [device], _firmware):
        answer = await device.post(with_header(device.package_1(), ver_proto="DM/1.3"))
        assert codes(answer) == [("SyncHdr", 513), ("Alert", 513), ("Replace", 513)]
        first = answer.commands[0]
        assert isinstance(first, Status)
        assert [item.data for item in first.items] == ["DM/1.2"]
        answer = await device.post(with_header(device.package_1(), ver_dtd="1.1"))
        assert codes(answer)[0] == ("SyncHdr", 505)


@musts("DM-024")
@virtual
async def test_no_session_without_its_alert() -> None:
    async with fleet() as (_backend, [device], _firmware):
        first = device.package_1()
        answer = await device.post(replace(first, commands=first.commands[1:]))
        assert codes(answer) == [("SyncHdr", 200), ("Replace", 506)]
        assert alerts(answer) == [1223]
        assert answer.final


@musts("DM-018")
@pytest.mark.parametrize(
    "command",
    [
        Get("9", (Item(target="./DevInfo"),)),
        Add("9", (Item(target="./x", data="y"),)),
        Delete("9", (Item(target="./x"),)),
        Copy("9", (Item(target="./x", source="./y"),)),
        Exec("9", (Item(target="./x"),)),
        Atomic("9", (Get("10", (Item(target="./x"),)),)),
        Sequence("9", ()),
        Replace("9", (Item(source="./FwUpdate/x", data="y"),)),
    ],
)
@virtual
async def test_a_device_may_not_give_orders(command: Command) -> None:
    async with fleet() as (_backend, [device], _firmware):
        first = device.package_1()
        answer = await device.post(replace(first, commands=(*first.commands, command)))
        assert codes(answer)[-1] == (command.name, 405)


@musts("DM-032", "DM-068", "DM-071", "DM-148")
@pytest.mark.parametrize(
    ("alert", "code"),
    [
        (Alert("9", 1224), 200),
        (Alert("9", 1100), 406),
        (Alert("9", 4711), 406),
        (Alert("9", 1226), 412),
        (Alert("9", 1226, (Item(data="200"),)), 412),
        (Alert("9", 1226, (Item(meta=Meta(type="org.example.thing"), data="x"),)), 200),
        (
            Alert(
                "9",
                1226,
                (
                    Item(
                        meta=Meta(
                            type="Reversed-Domain-Name: "
                            "org.openmobilealliance.dm.firmwareupdate.devicerequest"
                        )
                    ),
                ),
            ),
            202,
        ),
    ],
)
@virtual
async def test_alerts(alert: Alert, code: int) -> None:
    async with fleet() as (_backend, [device], _firmware):
        first = device.package_1()
        answer = await device.post(replace(first, commands=(*first.commands, alert)))
        assert codes(answer)[-1] == ("Alert", code)


@musts("DM-037")
@virtual
async def test_nothing_is_answered_that_wants_no_answer() -> None:
    async with fleet() as (_backend, [device], _firmware):
        first = device.package_1()
        quiet = Alert("9", 1224, no_resp=True)
        answer = await device.post(replace(first, commands=(*first.commands, quiet)))
        assert codes(answer) == [("SyncHdr", 212), ("Alert", 200), ("Replace", 200)]


@musts("DM-040", "DM-042")
@virtual
async def test_a_package_in_several_messages() -> None:
    async with fleet() as (_backend, [device], _firmware):
        first = device.package_1(final=False)
        answer = await device.post(replace(first, commands=first.commands[:1]))
        assert (codes(answer), alerts(answer)) == ([("SyncHdr", 212), ("Alert", 200)], [1222])
        assert not answer.final
        rest = Message(device.header(), (Replace("1", (Item(source="./DevInfo/Man"),)),), True)
        answer = await device.post(rest)
        assert codes(answer) == [("SyncHdr", 212), ("Replace", 200)]
        assert answer.final


def chunk(number: str, data: str, size: int | None, *, more: bool) -> Replace:
    item = Item(source="./DevInfo/Ext/x", meta=Meta(size=size), data=data, more_data=more)
    return Replace(number, (item,))


@musts("DM-059", "DM-060")
@virtual
async def test_large_objects_of_a_device() -> None:
    async with fleet() as (_backend, [device], _firmware):
        first = device.package_1(final=False)
        begun = replace(first, commands=(*first.commands, chunk("8", "abc", 6, more=True)))
        answer = await device.post(begun)
        assert codes(answer)[-1] == ("Replace", 213)
        assert alerts(answer) == [1222]
        answer = await device.post(
            Message(device.header(), (chunk("1", "def", None, more=False),), True)
        )
        assert codes(answer)[-1] == ("Replace", 200)


@musts("DM-061", "DM-062")
@virtual
async def test_large_objects_that_go_wrong() -> None:
    async with fleet() as (_backend, [device], _firmware):
        first = device.package_1(final=False)
        begun = replace(first, commands=(*first.commands, chunk("8", "abc", 6, more=True)))
        await device.post(begun)
        answer = await device.post(
            Message(device.header(), (chunk("1", "defg", None, more=False),), False)
        )
        assert codes(answer)[-1] == ("Replace", 424)
        await device.post(Message(device.header(), (chunk("1", "a", 9, more=True),), False))
        other = Alert("1", 1224)
        answer = await device.post(Message(device.header(), (other,), False))
        assert 1225 in alerts(answer)
        huge = chunk("1", "a", omadm_envelope.MAX_OBJECT + 1, more=True)
        answer = await device.post(Message(device.header(), (huge,), False))
        assert codes(answer)[-1] == ("Replace", 413)


@musts("DM-065")
@virtual
async def test_a_large_object_without_an_end_is_bounded() -> None:
    async with fleet() as (backend, [device], _firmware):
        first = device.package_1(final=False)
        text = "x" * 60_000
        begun = replace(first, commands=(*first.commands, chunk("8", "", None, more=True)))
        answer = await device.post(begun)
        for _ in range(omadm_envelope.MAX_OBJECT // len(text) + 1):
            answer = await device.post(
                Message(device.header(), (chunk("1", text, None, more=True),), False)
            )
        assert codes(answer)[-1] == ("Replace", 413)
        live = backend.omadm.sessions.live[device.name]
        assert live.session._incoming is None


@musts("DM-064")
@virtual
async def test_a_package_larger_than_the_device_takes() -> None:
    async with fleet() as (backend, [device], firmware):
        device.max_obj = 1024
        campaign = await campaign_of(backend, [device], firmware, "push")
        await device.session()
        member = member_of(campaign, device)
        assert (member.status, member.ending) == (states.FAILED, Ending.NO_SPACE)
        assert member.said == "MaxObjSize 1024"


@virtual
async def test_a_device_that_takes_next_to_nothing() -> None:
    async with fleet() as (backend, [device], firmware):
        await campaign_of(backend, [device], firmware)
        answer = await device.post(with_header(device.package_1(), max_msg_size=200))
        assert codes(answer) == [("SyncHdr", 413)]
        with pytest.raises(AssertionError, match="400.*no answer fits into a MaxMsgSize of 100"):
            await device.post(with_header(device.package_1(), max_msg_size=100))


@musts("DM-030", "DM-038")
@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("delivery", ["pull", "push"])
@virtual
async def test_small_messages_are_kept_small(encoding: Encoding, delivery: Delivery) -> None:
    async with fleet() as (backend, [device], firmware):
        device.encoding, device.max_msg = encoding, 1200 if encoding is Encoding.XML else 512
        campaign = await campaign_of(backend, [device], firmware, delivery)
        await device.session()  # the device checks the size of each message
        member = member_of(campaign, device)
        assert member.position == Position.INSTALLING, member.said
        first = device.package_1()
        many = tuple(Alert(str(number), 1224) for number in range(10, 40))
        answer = await device.post(replace(first, commands=(*first.commands, *many)))
        found = codes(answer)
        while not answer.final:
            answer = await device.post(Message(device.header(), (Alert("1", 1222),), False))
            found += codes(answer)[1:]
        assert found.count(("Alert", 200)) >= 31


@musts("DM-023")
@virtual
async def test_an_answer_that_was_lost_is_given_again() -> None:
    async with fleet() as (backend, [device], firmware):
        await campaign_of(backend, [device], firmware)
        first = device.package_1()
        answer = await device.post(first)
        assert await device.post(first) == answer
        assert backend.omadm.sessions.live[device.name].session._envelope.sent == 1
        with pytest.raises(AssertionError, match="400"):
            await device.post(replace(first, final=False, header=replace(first.header, msg_id=0)))


@musts("DM-047")
@virtual
async def test_a_reboot_in_the_middle_begins_anew() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        await device.post(device.package_1(session="1F"))
        await device.session(session="1F")
        assert member_of(campaign, device).position == Position.INSTALLING


@musts("DM-047")
@virtual
async def test_a_device_that_falls_silent_is_forgotten() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        await device.post(device.package_1())
        assert list(backend.omadm.sessions.live) == [device.name]
        await backend.runtime.clock.sleep(SESSION_IDLE + 1)
        assert backend.omadm.sessions.live == {}
        await device.session()
        assert member_of(campaign, device).position == Position.INSTALLING


@pytest.mark.parametrize(
    ("status", "ending"), [(404, Ending.REFUSED), (405, Ending.REFUSED), (500, Ending.REFUSED)]
)
@virtual
async def test_an_exec_that_is_refused(status: int, ending: Ending) -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        device.exec_status = status
        await device.session()
        member = member_of(campaign, device)
        assert (member.status, member.ending) == (states.FAILED, ending)
        assert member.said == f"Exec: {status}"


@musts("DM-149")
@pytest.mark.parametrize(
    ("data", "ending"),
    [
        ("401", Ending.CANCELLED),
        ("402", Ending.INTEGRITY),
        ("404", Ending.SIGNATURE),
        ("410", Ending.INSTALL_FAILED),
        ("503", Ending.CONNECTION_LOST),
        ("460", Ending.INSTALL_FAILED),
        ("999", Ending.NONSENSE),
        ("two hundred", Ending.NONSENSE),
        ("-1", Ending.NONSENSE),
    ],
)
@virtual
async def test_results(data: str, ending: Ending) -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        await device.session()
        await device.session(device.result(data))
        member = member_of(campaign, device)
        assert (member.status, member.ending) == (states.FAILED, ending)


@virtual
async def test_a_result_of_something_else_is_history() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        member = member_of(campaign, device)
        await device.session(device.result(200))  # before it was told anything
        assert member.position == Position.INSTALLING
        await device.session(device.result(410, correlator="another campaign"))
        assert member.position == Position.INSTALLING
        assert member.status == states.PENDING


@virtual
async def test_a_device_without_a_firmware_object() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        device.tree = {".": "DevInfo/DevDetail/Toys", "./Toys": ""}
        await device.session()
        member = member_of(campaign, device)
        assert (member.status, member.ending) == (states.FAILED, Ending.UNSUPPORTED_PROTOCOL)


@musts("DM-133")
@virtual
async def test_what_is_no_message_at_all() -> None:
    async with fleet() as (_backend, [device], _firmware):
        post = device.client.post
        xml = {"content-type": Encoding.XML.content_type}
        assert (await post(SERVER, content=b"", headers=xml)).status_code == 400
        assert (await post(SERVER, content=b"<SyncML/>", headers=xml)).status_code == 400
        assert (await post(SERVER, content=b"x")).status_code == 415
        big = b"x" * (omadm_envelope.MAX_MESSAGE + 1)
        assert (await post(SERVER, content=big, headers=xml)).status_code == 413
        assert (await device.client.get(SERVER)).status_code == 405
        assert (await device.client.get("http://dm.test/other")).status_code == 404
        bomb = b'<!DOCTYPE x [<!ENTITY a "b">]><SyncML>&a;</SyncML>'
        assert (await post(SERVER, content=bomb, headers=xml)).status_code == 400


@musts("DM-156")
@virtual
async def test_downloads_need_a_ticket() -> None:
    async with fleet(2) as (backend, [device, other], firmware):
        await campaign_of(backend, [device, other], firmware)
        await device.session()
        url = device.url
        get = device.client.get
        described = await get(url)
        assert described.status_code == 200
        assert (await device.client.head(url)).status_code == 200
        ticket = url.split("/")[-3]
        assert (await get(url.replace(ticket, "0" * 32))).status_code == 404
        assert (await get(url.replace("350000000000100", "350000000000101"))).status_code == 404
        assert (await get(url.replace("350000000000100", "nobody"))).status_code == 404
        assert (await get(url.replace("/dd", "/secrets"))).status_code == 404
        assert (await get(url.removesuffix("/dd"))).status_code == 404
        told = await device.client.post(url.replace("/dd", "/status"), content=b"900 Success \n\r")
        assert told.status_code == 200
        seen = backend.seen(device.name)
        assert seen is not None
        assert seen.result == "900 Success"
        device.install()
        await device.session(device.result(200))
        assert (await get(url)).status_code == 404  # the order is over


@rules("BR-054")
@virtual
async def test_an_abort_of_the_campaign_ends_the_order() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        answer = await device.post(device.package_1())
        await backend.engine.cancel(campaign, customer=False)
        while (own := device.answer(answer)) is not None:
            answer = await device.post(own)
        assert device.executed == []
        assert member_of(campaign, device).status == states.ABORTED


messages = st.builds(
    lambda commands, final, msg_id: (tuple(commands), final, msg_id),
    st.lists(
        st.one_of(
            st.builds(Alert, st.just("1"), st.sampled_from([1200, 1201, 1222, 1223, 1225, 1226])),
            st.builds(
                Status,
                st.just("2"),
                st.integers(0, 4),
                st.sampled_from(["0", "1", "2", "3", "4"]),
                st.sampled_from(["SyncHdr", "Get", "Exec", "Replace"]),
                st.sampled_from([200, 202, 212, 213, 401, 404, 405, 407, 424, 500]),
            ),
            st.builds(
                Results,
                st.just("3"),
                st.integers(0, 4),
                st.sampled_from(["1", "2", "3", "4"]),
                st.lists(
                    st.builds(
                        Item,
                        source=st.sampled_from(
                            [None, ".", "./FwUpdate", "./DevDetail/FwV", "./FwUpdate/x/State"]
                        ),
                        data=st.sampled_from([None, "", "State/Update", "10", "a/b", "x" * 99]),
                        more_data=st.booleans(),
                    ),
                    max_size=3,
                ).map(tuple),
            ),
            st.builds(Replace, st.just("4"), st.just((Item(source="./DevInfo/x", data="y"),))),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.integers(1, 5),
)


@musts("DM-021")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(messages, max_size=8))
def test_whatever_a_device_says_gets_an_answer(script: list) -> None:
    async def story() -> None:
        async with fleet(auth="none") as (backend, [device], firmware):
            campaign = await campaign_of(backend, [device], firmware, "push")
            await device.post(device.package_1(session="1"))
            for commands, final, msg_id in script:
                header = Header("1", msg_id, SERVER, device.name)
                data = encodings.encode(Message(header, commands, final), device.encoding)
                answer = await device.raw(data)
                assert answer.status_code in (200, 400)
                if answer.status_code == 200:
                    encodings.decode(answer.content, device.encoding)
            assert isinstance(device, DmDevice)
            assert member_of(campaign, device).attempts <= 1
            assert len(backend.omadm.sessions.live) <= 1

    run_virtual(story())


@virtual
async def test_values_that_nobody_asked_for_are_not_kept() -> None:
    async with fleet() as (backend, [device], firmware):
        await campaign_of(backend, [device], firmware)
        answer = await device.post(device.package_1())
        items = tuple(Item(source=f"./x/{number}", data="a/b/c") for number in range(500))
        own = device.answer(answer)
        assert own is not None
        extra = Results("90", 1, "1", items)
        await device.post(replace(own, commands=(*own.commands, extra)))
        assert len(backend.omadm.sessions.live[device.name].session.job._children) == 1


@virtual
async def test_uris_may_leave_out_the_dot() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        answer = await device.post(device.package_1())
        while (own := device.answer(answer)) is not None:
            bare = tuple(
                replace(
                    one,
                    items=tuple(
                        replace(item, source=(item.source or "").removeprefix("./"))
                        for item in one.items
                    ),
                )
                if isinstance(one, Results)
                else one
                for one in own.commands
            )
            answer = await device.post(replace(own, commands=bare))
        assert member_of(campaign, device).position == Position.INSTALLING
