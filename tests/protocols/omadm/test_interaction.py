"""User interaction: options, answers of every kind of person, and over the wire."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm.interaction import ALERTS, Options, Reply, User, UserAnswer, ask, parse_options
from protocols.omadm.model import Alert, Item
from tests.protocols.omadm.dm_world import World, run
from tests.protocols.omadm.musts import musts

ACCEPT = User()
ABSENT = User(otherwise=UserAnswer.ABSENT)


def items(options: str, *choices: str) -> tuple[Item, ...]:
    return (Item(data=options), Item(data="Text"), *(Item(data=one) for one in choices))


@musts("DM-049")
def test_options() -> None:
    assert parse_options("MINDT=10&MAXDT=20&DR=1&MAXLEN=5&XX=1&ET=T&IT=A") == Options(
        10.0, 20.0, "1", 5
    )
    assert parse_options("") == Options()
    assert parse_options("MINDT=x&maxdt=&DR") == Options()
    assert parse_options("MAXDT=999999999999").longest == 600.0


@musts("DM-048", "DM-050", "DM-051")
@pytest.mark.parametrize(
    ("code", "options", "choices", "user", "reply"),
    [
        (1100, "MINDT=10", (), ACCEPT, Reply(200, seconds=10.0)),
        (1100, "", (), ABSENT, Reply(200)),
        (1101, "", (), ACCEPT, Reply(200)),
        (1101, "MAXDT=20", (), ABSENT, Reply(408, seconds=20.0)),
        (1101, "MAXDT=20&DR=0", (), ABSENT, Reply(304, seconds=20.0)),
        (1101, "MAXDT=20&DR=1", (), ABSENT, Reply(200, seconds=20.0)),
        (1101, "", (), User(otherwise=UserAnswer.REJECT), Reply(304)),
        (1101, "", (), User(otherwise=UserAnswer.CANCEL), Reply(214)),
        (1101, "", (), User(otherwise=UserAnswer.NO_DISPLAY), Reply(416)),
        (1101, "MAXDT=5", (), User(thinks=6.0), Reply(408, seconds=5.0)),
        (1102, "", (), ACCEPT, Reply(200, ("1234",))),
        (1102, "DR=hello&MAXLEN=3", (), ACCEPT, Reply(200, ("hel",))),
        (1102, "", (), User(otherwise=UserAnswer.REJECT), Reply(214)),
        (1103, "", ("a", "b"), ACCEPT, Reply(200, ("1",))),
        (1103, "DR=2", ("a", "b"), ACCEPT, Reply(200, ("2",))),
        (1103, "DR=3", ("a", "b"), ACCEPT, Reply(200, ("1",))),
        (1103, "", (), ACCEPT, Reply(412)),
        (1104, "DR=1-3-9", ("a", "b", "c"), ACCEPT, Reply(200, ("1", "3"))),
        (1104, "MAXDT=4", ("a", "b"), ABSENT, Reply(408, seconds=4.0)),
    ],
)
def test_answers(
    code: int, options: str, choices: tuple[str, ...], user: User, reply: Reply
) -> None:
    assert ask(code, items(options, *choices), user) == reply


def test_a_person_may_differ_by_question() -> None:
    user = User(answers=MappingProxyType({1101: UserAnswer.REJECT}))
    assert ask(1101, items(""), user).status == 304
    assert ask(1100, items(""), user).status == 200


@musts("DM-048", "DM-115")
def test_without_a_text_there_is_nothing_to_show() -> None:
    assert ask(1100, (Item(data=""),), ACCEPT).status == 412


@given(st.sampled_from(sorted(ALERTS)), st.text(max_size=60), st.lists(st.text(max_size=5)))
def test_any_alert(code: int, options: str, choices: list[str]) -> None:
    for answer in UserAnswer:
        reply = ask(code, items(options, *choices), User(otherwise=answer))
        assert reply.status in (200, 214, 304, 408, 412, 416)
        assert 0.0 <= reply.seconds <= 600.0


@musts("DM-050")
def test_over_the_wire() -> None:
    times: list[float] = []

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        times.append(world.runtime.clock.now())
        await world.session(
            [
                Alert("", 1100, items("MINDT=30")),
                Alert("", 1102, items("DR=name")),
                Alert("", 1104, items("DR=1-2", "a", "b")),
            ]
        )
        times.append(world.runtime.clock.now())

    world = run(story)
    answers = [one for one in world.server.session.statuses if one.cmd == "Alert"]
    assert [one.code for one in answers] == [200, 200, 200]
    assert [item.data for one in answers for item in one.items] == ["name", "1", "2"]
    assert times[1] - times[0] >= 30.0


@musts("DM-051")
def test_a_device_without_a_screen() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session([Alert("", 1101, items(""))])

    world = run(story, options={"persona": "headless"})
    assert world.server.session.code("Alert") == [416]
