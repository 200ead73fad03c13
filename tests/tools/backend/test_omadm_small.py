"""The server never sends a message that is larger than the device's MaxMsgSize, however small."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.runtime.clock import run_virtual
from protocols.omadm import encoding as encodings
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import Alert, Header, Item, Message, Replace, Status
from tests.protocols.omadm.musts import musts
from tests.tools.backend.omadm_device import DmDevice
from tests.tools.backend.test_omadm import campaign_of, fleet, member_of
from tests.tools.backend.virtual import virtual
from tools.backend.campaigns import states
from tools.backend.faces.base import Delivery, Ending, Position
from tools.backend.faces.omadm_envelope import Envelope, refusal
from tools.backend.faces.omadm_tables import Phase

MESSAGES = 400
"""Of a session; the package in the smallest chunks takes more, and is not waited for."""


class Ended(Exception):
    """By HTTP, with no message."""


class Small(DmDevice):
    """One that goes on until the server has had the last word, and counts its octets."""

    async def post(self, message: Message) -> Message:
        data = encodings.encode(message, self.encoding)
        answer = await self.raw(data)
        if answer.status_code != 200:
            assert answer.status_code == 400
            assert f"MaxMsgSize of {self.max_msg}" in answer.text
            smallest = refusal(message.header, len(self.messages) + 1, 413, self.encoding)
            assert smallest is None
            raise Ended
        assert self.max_msg is not None
        assert len(answer.content) <= self.max_msg, (len(answer.content), self.max_msg)
        found = encodings.decode(answer.content, self.encoding)
        self.messages.append(found)
        if not found.final:
            # Only a large object, or what did not fit of the statuses, keeps a package open.
            work = [one for one in found.commands if not isinstance(one, Status | Alert)]
            assert all(isinstance(one, Replace) and one.items[0].more_data for one in work)
        return found

    async def visit(self, extra: int, *, known: bool) -> str:
        """A session; how it ended."""
        alerts = tuple(Alert("", 1224) for _ in range(extra))
        message: Message | None = self.package_1(*alerts)
        if not known:
            message = replace(message, header=replace(message.header, source="stranger"))
        try:
            for _ in range(MESSAGES):
                assert message is not None
                answer = await self.post(message)
                message = self.answer(answer, alerts)
                if message is None:
                    codes = [one.code for one in answer.commands if isinstance(one, Status)]
                    return "413" if codes == [413] else "over"
        except Ended:
            return "http"
        return "under way"


def small(made: DmDevice, limit: int, encoding: Encoding) -> Small:
    device = Small(made.client, made.name, made.account, auth=made.auth)
    device.max_msg, device.encoding = limit, encoding
    return device


@musts("DM-030", "DM-031", "DM-040")
@settings(max_examples=60)
@given(
    limit=st.one_of(st.integers(0, 1200), st.integers(0, 5000)),
    encoding=st.sampled_from(Encoding),
    auth=st.sampled_from(["none", "basic", "md5", "hmac"]),
    delivery=st.sampled_from(["pull", "push"]),
    extra=st.integers(0, 20),
    known=st.booleans(),
    final=st.booleans(),
)
@example(900, Encoding.XML, "md5", "pull", 0, True, True)
@example(330, Encoding.WBXML, "md5", "push", 20, True, False)
@example(857, Encoding.XML, "hmac", "pull", 16, False, True)
def test_a_server_never_says_more_than_its_device_takes(
    limit: int,
    encoding: Encoding,
    auth: str,
    delivery: Delivery,
    extra: int,
    known: bool,
    final: bool,
) -> None:
    async def story() -> None:
        async with fleet(auth=auth) as (backend, [made], firmware):
            device = small(made, limit, encoding)
            campaign = await campaign_of(backend, [made], firmware, delivery)
            if not final:
                # A package 1 whose end never comes.
                first = replace(device.package_1(), final=False)
                try:
                    await device.post(first)
                    await device.post(Message(device.header(), (Alert("1", 1224),), False))
                except Ended:
                    pass
            ended = await device.visit(extra, known=known)
            assert ended in ("413", "http", "over", "under way")
            if ended == "under way":
                assert delivery == "push"
            member = member_of(campaign, device)
            if ended == "413":
                assert member.ending in (None, Ending.REFUSED)

    run_virtual(story())


@musts("DM-031")
@pytest.mark.parametrize(
    ("encoding", "delivery", "told", "served"),
    [
        (Encoding.XML, "pull", 423, 1102),
        (Encoding.XML, "push", 423, 1102),
        (Encoding.WBXML, "pull", 123, 405),
        (Encoding.WBXML, "push", 123, 370),
    ],
)
@virtual
async def test_what_becomes_of_a_device_that_takes_next_to_nothing(
    encoding: Encoding, delivery: Delivery, told: int, served: int
) -> None:
    """docs/omadm-server.md has the figures: from `told` on the refusal fits into a message, from
    `served` on everything that the campaign has to say. Below that its attempt ends."""
    for limit, end in ((told - 1, "http"), (told, "413"), (served - 1, ""), (served, "over")):
        async with fleet() as (backend, [made], firmware):
            campaign = await campaign_of(backend, [made], firmware, delivery)
            ended = await small(made, limit, encoding).visit(0, known=True)
            assert ended == end or not end
            member = member_of(campaign, made)
            if limit == served:
                assert member.position is Position.INSTALLING
            else:
                assert (member.status, member.ending) == (states.FAILED, Ending.REFUSED)
                assert member.said == f"MaxMsgSize {limit}"


@musts("DM-031")
@virtual
async def test_statuses_do_not_pile_up_for_a_device_that_takes_few() -> None:
    async with fleet() as (backend, [made], _firmware):
        device = small(made, 450, Encoding.WBXML)
        many = tuple(Alert(str(number), 1224) for number in range(10, 2_510))
        first = replace(device.package_1(), final=False)
        answer = await device.post(replace(first, commands=(*first.commands, *many)))
        assert len(answer.commands) < 10
        answer = await device.post(Message(device.header(), many, False))
        [refused] = answer.commands
        assert isinstance(refused, Status) and refused.code == 413
        assert backend.omadm.sessions.live[device.name].session.phase is Phase.OVER


def test_the_smallest_refusal_holds_nothing_that_can_be_left_out() -> None:
    first = Header("1F", 1, "http://dm.test/dm", "IMEI:490154203237518", max_msg_size=10_000)
    for encoding in Encoding:
        message = refusal(first, 1, 413, encoding)
        assert message is not None
        size = encodings.size_of(message, encoding)
        assert refusal(replace(first, max_msg_size=size), 1, 413, encoding) == message
        assert refusal(replace(first, max_msg_size=size - 1), 1, 413, encoding) is None


@given(
    texts=st.lists(st.text(alphabet='a&"<ü\U0001f600\r', max_size=40), max_size=4),
    room=st.integers(0, 4000),
    encoding=st.sampled_from(Encoding),
)
def test_what_is_said_to_fit_does(texts: list[str], room: int, encoding: Encoding) -> None:
    """The bound by which most messages are not measured is one."""
    envelope = Envelope("1F", "IMEI:1", "http://dm.test/dm", "fotilla", encoding, room)
    items = [(Item(source=text),) for text in texts]
    commands = [Alert(str(at), 1225, item) for at, item in enumerate(items)]
    assert envelope.fits(commands) is (envelope.size(commands) <= room)
    count = envelope.fitting(commands)
    assert count == 0 or envelope.fits(commands[:count])
    assert count == len(commands) or not envelope.fits(commands[: count + 1])
