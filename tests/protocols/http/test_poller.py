"""The base of the check-in clients, in virtual time: when it polls, and what ends a poll."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import ClassVar

import pytest

from agent import FaultPlan
from agent.credentials import Credential
from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from agent.nvm import NvmFull
from agent.protocol import ClientSettings
from agent.runtime.http import HttpResponse
from protocols.http.messages import json_object
from protocols.http.poller import OFFLINE_AFTER, TRANSITIONS
from tests.protocols.http.http_world import (
    ORIGIN,
    Asked,
    IdlePoller,
    Reply,
    World,
    virtual,
    world,
)


class Asking(IdlePoller):
    """Asks for JSON once a minute."""

    INTERVAL = 60.0

    async def poll(self) -> float:
        json_object(await self.ask("GET", f"{self.origin.base}/poll"))
        self.answered()
        return self.INTERVAL


FINE = Reply(200, (), b"{}")


def times(here: World) -> list[float]:
    return [one.time for one in here.server.asked]


def gaps(here: World) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times(here))]


@virtual
async def test_the_first_poll_is_spread_and_the_others_come_on_time() -> None:
    firsts = set()
    for seed in range(20):
        async with world(poller=Asking, seed=seed) as here:
            here.server.judge = lambda asked: FINE
            begun = here.runtime.clock.now()
            await here.sleep(150)
            firsts.add(round(times(here)[0] - begun, 2))
            assert all(60 <= gap < 60.5 for gap in gaps(here))
            assert here.poller.state == "ONLINE" and here.poller.registered
    assert len(firsts) > 10 and max(firsts) <= 2.5


@virtual
async def test_a_herd_comes_at_once() -> None:
    def herd(_: object) -> frozenset[Misbehaviour]:
        return frozenset({Misbehaviour.HERD})

    for seed in range(3):
        async with world(poller=Asking, seed=seed, misbehave=herd, on=False) as here:
            here.server.judge = lambda asked: FINE
            here.device.power_on()
            await here.sleep(10)
            assert here.server.asked, "a poll right after the boot"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500),
        Reply(503),
        Reply(429),
        Reply(200, (), b"no JSON"),
        Reply(200, (), b"[]"),
        Reply(200, (), b"[" * 100_000),
        Reply(200, [("Content-Length", "5")], b"{}"),
        Reply(200, (), b"{}", sent=1),
        Reply(200, (), b"{}", delay=1000.0),
        Reply(200, (), bytes(2 << 20)),
    ],
    ids=str,
)
def test_what_fails_a_poll_backs_off(reply: Reply) -> None:
    @virtual
    async def story() -> None:
        async with world(poller=Asking) as here:
            here.server.judge = lambda asked: reply
            await here.sleep(1200)
            assert here.poller.state == "OFFLINE" and not here.poller.registered
            waits = gaps(here)
            assert len(waits) > 3
            for number, wait in enumerate(waits[:3], 1):
                longest = 5.0 * 2 ** (number - 1)
                assert longest / 2 <= wait <= longest + 31  # and the time the poll itself took
            here.server.judge = lambda asked: FINE
            await here.sleep(400)
            assert here.poller.state == "ONLINE"

    story()


@virtual
async def test_back_off_is_bounded() -> None:
    async with world(poller=Asking) as here:
        here.server.judge = lambda asked: Reply(500)
        await here.sleep(86_400)
        assert 150 <= gaps(here)[-1] <= 301


@virtual
async def test_retry_after_is_never_undercut() -> None:
    async with world(poller=Asking) as here:
        answers = [
            Reply(503, [("Retry-After", "120")]),
            Reply(429, [("Retry-After", "Tue, 01 Jan 2030 00:30:00 GMT")]),
            Reply(503, [("Retry-After", "soon")]),
        ]
        here.server.judge = lambda asked: answers.pop(0) if answers else FINE
        await here.sleep(3600)
        first, second, third = times(here)[:3]
        assert 120 <= second - first <= 126
        assert 1800 <= third <= 1806


@virtual
async def test_one_lost_poll_is_no_outage_and_two_are() -> None:
    async with world(poller=Asking) as here:
        events: list[tuple[str, str, str, str]] = []
        here.device.on_event = lambda *event: events.append(event)
        bad = {2, 5, 6}
        count = 0

        def judge(asked: Asked) -> Reply:
            nonlocal count
            count += 1
            return Reply(500) if count in bad else FINE

        here.server.judge = judge
        await here.sleep(600)
        moves = [(old, new) for machine, old, new, _ in events if machine == "check-in"]
        assert moves == [("OFFLINE", "ONLINE"), ("ONLINE", "OFFLINE"), ("OFFLINE", "ONLINE")]
        assert OFFLINE_AFTER == 2


def test_the_table_is_complete() -> None:
    causes = {"answered", "failed", "stopped"}
    cells = {(state, cause) for state, row in TRANSITIONS.items() for cause in row}
    assert cells == {("OFFLINE", "answered"), ("ONLINE", "failed"), ("ONLINE", "stopped")}
    assert {new for row in TRANSITIONS.values() for new in row.values()} == set(TRANSITIONS)
    assert {cause for _, cause in cells} == causes


@virtual
async def test_wake_polls_now_and_once_more_after_a_running_poll() -> None:
    async with world(poller=Asking) as here:
        here.server.judge = lambda asked: FINE
        await here.sleep(10)
        assert len(times(here)) == 1
        here.poller.wake()
        await here.sleep(1)
        assert len(times(here)) == 2
        here.server.judge = lambda asked: Reply(200, (), b"{}", delay=5.0)
        here.poller.wake()
        await here.sleep(1)
        here.poller.wake()
        here.poller.wake()
        await here.sleep(8)
        assert len(times(here)) == 4, "the one that ran, and one behind it"


@virtual
async def test_stop_falls_silent() -> None:
    async with world(poller=Asking) as here:
        here.server.judge = lambda asked: Reply(200, (), b"{}", delay=5.0)
        await here.sleep(10)
        client = here.poller
        client.wake()
        await here.sleep(1)
        here.device.power_off()
        assert client.state == "OFFLINE"
        asked = len(times(here))
        await here.sleep(600)
        assert len(times(here)) == asked


@virtual
async def test_a_power_loss_inside_a_poll_ends_the_poll_and_the_device_comes_back() -> None:
    """The flash loses its power while the poll writes to nvm."""

    class Writing(Asking):
        async def poll(self) -> float:
            delay = await super().poll()
            self.device.nvm.set("test", "polls", b"1" * 40)
            await self.device.runtime.clock.sleep(0)
            return delay

    async with world(poller=Writing, faults=FaultPlan(cut_power_at=3)) as here:
        here.server.judge = lambda asked: FINE
        await here.sleep(600)
        assert here.device.boots == 2
        assert here.poller.state == "ONLINE"
        assert max(gaps(here)) < 65


@virtual
async def test_a_power_loss_inside_a_story_ends_poll_and_story() -> None:
    async with world(poller=Asking, faults=FaultPlan(cut_power_at=3)) as here:
        here.server.judge = lambda asked: FINE
        await here.sleep(5)
        before = here.poller
        steps: list[int] = []

        async def story() -> None:
            for number in range(100):
                steps.append(number)
                here.device.nvm.set("test", "story", bytes([number]) * 40)
                await here.sleep(1)

        before.begin(story())
        assert before.busy
        await here.sleep(30)
        assert here.device.boots == 2 and here.poller is not before
        assert not before.busy and not here.poller.busy
        assert len(steps) < 10


@virtual
async def test_a_cut_from_outside_aborts_the_request_under_way() -> None:
    async with world(poller=Asking) as here:
        here.server.judge = lambda asked: Reply(200, (), b"{}", delay=1000.0)
        await here.sleep(5)
        here.device.cut_power(back_after=10.0)
        await here.sleep(1)
        assert not here.http.clients, "no request is under way"
        here.server.judge = lambda asked: FINE
        await here.sleep(30)
        assert here.poller.state == "ONLINE"


@virtual
async def test_one_story_at_a_time_and_drop_ends_it() -> None:
    async with world(poller=Asking) as here:
        here.server.judge = lambda asked: FINE
        ended = asyncio.Event()

        async def story() -> None:
            try:
                await here.sleep(1000)
            finally:
                ended.set()

        here.poller.begin(story())
        with pytest.raises(Exception, match="a story is being told already"):
            here.poller.begin(story())
        await here.sleep(1)
        here.poller.drop()
        await here.sleep(0)
        await here.sleep(0.1)
        assert ended.is_set() and not here.poller.busy
        here.poller.begin(story())
        assert here.poller.busy


@virtual
async def test_settings_that_cannot_be_are_refused_by_name() -> None:
    async with world(on=False) as here:
        for settings, word in (
            (ClientSettings(server=ORIGIN, options={"pol": "1"}), "pol"),
            (ClientSettings(server="coap://x"), "http://"),
            (ClientSettings(server=ORIGIN, options={"proxy": "socks://x"}), "^proxy: "),
            (ClientSettings(server=ORIGIN, options={"proxy": "https://x"}), "^proxy: "),
            (
                ClientSettings(
                    server=ORIGIN, misbehave=lambda device: frozenset({Misbehaviour.LATE_REPORT})
                ),
                "late-report",
            ),
        ):
            with pytest.raises(UnusableSettings, match=word):
                IdlePoller(here.device, settings)


@virtual
async def test_a_proxy_is_known_to_every_client() -> None:
    async with world(on=False) as here:
        settings = ClientSettings(
            server="https://far.example", options={"proxy": "http://127.0.0.1:3128"}
        )
        identity = IdlePoller(here.device, settings).http.identity  # type: ignore[attr-defined]
        assert identity.proxy == "http://127.0.0.1:3128"
        assert identity.source.startswith("127."), "of the connection, which goes to the proxy"


@virtual
async def test_no_secret_reaches_the_trace() -> None:
    class Telling(Asking):
        async def poll(self) -> float:
            answer: HttpResponse = await self.ask(
                "POST",
                f"{self.origin.base}/token-secret/x?token=secret",
                headers=[("Authorization", "secret")],
                json={"token": "secret"},
                shown="/x",
            )
            assert "secret" not in repr(answer)
            raise AssertionError("the server refuses")

    async with world(
        poller=Telling, credential=lambda device: Credential(token="secret", private_key=b"secret")
    ) as here:
        here.server.judge = lambda asked: Reply(500, (), b"secret")
        await here.sleep(100)
        assert here.trace
        assert not any("secret" in line for line in here.trace)
        assert "secret" not in repr(here.poller.http.identity)  # type: ignore[attr-defined]


class Faulty(Asking):
    """Its first two polls, and its only story, end in a way that nobody foresaw."""

    faults: ClassVar[Iterator[Exception]] = iter(())

    async def poll(self) -> float:
        fault = next(type(self).faults, None)
        if fault is not None:
            raise fault
        return await super().poll()


@virtual
async def test_what_nobody_foresaw_costs_a_back_off_and_is_told() -> None:
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    Faulty.faults = iter([KeyError("a fault of ours"), NvmFull("no room")])
    async with world(poller=Faulty) as here:
        here.server.judge = lambda asked: FINE
        await here.sleep(120)
        assert here.poller.state == "ONLINE"

        async def story() -> None:
            raise ZeroDivisionError("another one")

        polls = len(times(here))
        here.poller.begin(story())
        await here.sleep(1)
        assert not here.poller.busy
        assert len(times(here)) == polls + 1
    # A full store is no fault of ours.
    assert len(told) == 2 and all(here.device.name in message for message in told)
