"""Rules that the server keeps in every session, whoever is on the other side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.omadm.encoding import Encoding
from protocols.omadm.model import (
    Alert,
    Atomic,
    Copy,
    Get,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Sequence,
    Status,
)
from tests.protocols.omadm.musts import musts
from tests.tools.backend.omadm_device import SERVER
from tests.tools.backend.test_omadm import campaign_of, fleet, member_of
from tests.tools.backend.virtual import virtual
from tools.backend.faces.base import Delivery, Position


def heads(messages: list[Message]) -> list[Status]:
    """The Status of our header, of each message that has one."""
    return [
        one
        for message in messages
        for one in message.commands
        if isinstance(one, Status) and one.cmd_ref == "0"
    ]


def commands(messages: list[Message]) -> list[object]:
    return [one for message in messages for one in message.commands]


@musts("DM-033", "DM-022", "DM-025", "DM-036", "DM-019")
@pytest.mark.parametrize("delivery", ["pull", "push"])
@pytest.mark.parametrize("auth", ["none", "basic", "md5", "hmac"])
@virtual
async def test_every_message_of_a_session(delivery: Delivery, auth: str) -> None:
    async with fleet(auth=auth) as (backend, [device], firmware):
        device.max_msg = 1024
        campaign = await campaign_of(backend, [device], firmware, delivery)
        said = await device.session()
        assert member_of(campaign, device).position == Position.INSTALLING
        assert len(said) >= 4
        assert [one.header.msg_id for one in said] == list(range(1, len(said) + 1))
        for message in said:
            header = message.header
            assert (header.ver_dtd, header.ver_proto) == ("1.2", "DM/1.2")
            assert (header.source, header.target) == (SERVER, device.name)
            first = message.commands[0]
            assert isinstance(first, Status)
            assert (first.cmd_ref, first.cmd) == ("0", "SyncHdr")
            for one in message.commands:
                assert not isinstance(one, Status) or one.cmd != "Results"
                assert not isinstance(one, Atomic | Sequence | Copy | Results)
        assert said[-1].final


@musts("DM-054", "DM-055", "DM-056", "DM-057", "DM-058")
@pytest.mark.parametrize("encoding", Encoding)
@virtual
async def test_nothing_stands_between_the_chunks_of_a_package(encoding: Encoding) -> None:
    async with fleet() as (backend, [device], firmware):
        device.encoding, device.max_msg = encoding, 1500 if encoding is Encoding.XML else 1024
        await campaign_of(backend, [device], firmware, "push")
        said = await device.session()
        uri = f"{device.root}/Update/PkgData"
        carriers = [
            (message, one)
            for message in said
            for one in message.commands
            if isinstance(one, Replace) and one.items[0].target == uri
        ]
        assert len(carriers) > 2
        carried = 0
        for at, (message, chunk) in enumerate(carriers):
            (item,) = chunk.items
            last = at == len(carriers) - 1
            assert item.more_data is not last
            assert item.meta is not None
            assert item.meta.format == ("b64" if encoding is Encoding.XML else "bin")
            assert (item.meta.size is not None) == (at == 0)
            assert message.commands[-1] is chunk or last
            assert message.final is False or last
            data = item.data
            assert isinstance(data, str | bytes)
            carried += len(data)
        (first,) = carriers[0][1].items
        assert first.meta is not None
        assert first.meta.size == carried
        numbers = [message.header.msg_id for message, _ in carriers]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@musts("DM-091")
@virtual
async def test_the_mac_is_answered_by_200_and_a_new_nonce_each_time() -> None:
    async with fleet(auth="hmac") as (backend, [device], firmware):
        await campaign_of(backend, [device], firmware)
        told = heads(await device.session())
        # The nonce of an account begins empty on both sides: nobody is challenged.
        assert [one.code for one in told] == [200] * len(told)
        nonces = {one.chal.next_nonce for one in told if one.chal is not None}
        assert len(nonces) == len(told)


@musts("DM-021", "DM-040")
@virtual
async def test_a_package_without_work_is_answered_and_ends() -> None:
    async with fleet() as (_backend, [device], _firmware):
        await device.session()
        answer = await device.post(device.package_1())
        assert answer.final
        assert [type(one) for one in answer.commands] == [Status] * 3


@musts("DM-070")
@virtual
async def test_several_generic_alerts_and_items() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        await device.session()
        other = Item(meta=Meta(type="org.example.thing"), data="x")
        result = device.result(200)
        device.install()
        answer = await device.post(
            device.package_1(
                Alert("", 1226, (other,)),
                replace(result, items=(other, *result.items)),
            )
        )
        told = [one for one in answer.commands if isinstance(one, Status) and one.cmd == "Alert"]
        assert [one.code for one in told] == [200, 200, 200]
        while (own := device.answer(answer)) is not None:
            answer = await device.post(own)
        member = member_of(campaign, device)
        assert member.said == "result 200, version 2.0.0"


@musts("DM-041")
@virtual
async def test_a_command_is_never_cut_over_two_messages() -> None:
    async with fleet() as (backend, [device], firmware):
        device.max_msg = 700
        await campaign_of(backend, [device], firmware)
        said = await device.session()
        asked = [one for one in commands(said) if isinstance(one, Get | Replace)]
        assert asked
        assert all(len(one.items) == 1 and not one.items[0].more_data for one in asked)
        assert len(device.executed) == 1
