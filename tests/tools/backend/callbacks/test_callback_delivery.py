"""Delivery in virtual time: order, retries, the end of a message's life, addresses that change."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from tests.tools.backend.callbacks.callback_room import (
    ACCOUNT,
    BROKEN,
    SILENT,
    URL,
    Room,
    ScriptedListener,
    room,
)
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual
from tools.backend.callbacks import delivery, service
from tools.backend.callbacks.delivery import LIFE, LONGEST_DELAY, TIMEOUT, delay_after
from tools.backend.campaigns import states
from tools.backend.errors import RequestRefused, StoreError
from tools.backend.store import tables
from tools.backend.store.database import MEMORY
from tools.backend.timing import DAY

ELSEWHERE = "https://elsewhere.example/fota"
TICK = 1 / 16
"""Seconds: the wheel is never early, and late by less than two of its ticks."""


def gaps(listener: ScriptedListener) -> list[float]:
    times = [arrival.when for arrival in listener.arrivals]
    return [later - earlier for earlier, later in zip(times, times[1:], strict=False)]


def close(found: list[float], wanted: list[float]) -> bool:
    return len(found) == len(wanted) and all(
        want <= got < want + TICK for got, want in zip(found, wanted, strict=True)
    )


@rules("BR-132")
@virtual
async def test_tries_are_doubled_up_to_five_minutes(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.answer = 503
        await made.queue(1)
        await made.runtime.clock.sleep(1500)
        delays = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
        assert close(gaps(listener), [float(delay) for delay in delays])
        [waiting] = made.callbacks.pending()
        assert (waiting.state, waiting.tries, waiting.error) == ("waiting", 13, "answered 503")
        [row] = await made.rows(tables.outbox)
        assert (row["tries"], row["error"], row["due"]) == (13, "answered 503", waiting.due)
        listener.answer = 204
        await made.runtime.clock.sleep(LONGEST_DELAY)
        [row] = await made.rows(tables.outbox)
        assert (row["state"], row["tries"], row["body"]) == ("delivered", 14, "")
        assert not made.callbacks.pending()
        assert made.callbacks.counters() == {
            "listeners": 1,
            "waiting": 0,
            "composed": 0,
            "delivered": 1,
            "dropped": 0,
            "failed": 13,
        }
        assert made.journal == [("callback 1", "callback", "waiting", "delivered", "accepted")]


@rules("BR-132")
@virtual
async def test_after_a_day_a_message_is_dropped(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.answer = 404
        await made.queue(2)
        await made.runtime.clock.sleep(DAY - 1)
        assert len(made.callbacks.pending()) == 2
        await made.runtime.clock.sleep(2)
        # The last try is at the end of its life; what is behind it and as old goes with it.
        assert DAY <= listener.arrivals[-1].when < DAY + TICK
        assert {arrival.number for arrival in listener.arrivals} == {1}
        assert not made.callbacks.pending()
        found = await made.callbacks.recent()
        assert [(item.number, item.state, item.error) for item in found] == [
            (2, "dropped", "answered 404"),
            (1, "dropped", "answered 404"),
        ]
        assert found[0].finished == found[1].finished
        assert await made.callbacks.recent(account=ACCOUNT, state="dropped") != []
        assert await made.callbacks.recent(state="waiting") == []
        assert await made.callbacks.recent(account="0000000000-00009") == []
        [_first, second] = await made.rows(tables.outbox)
        assert second["body"] == '{"n": 2}'  # what nobody got can be looked at
        # A younger one is tried all the same.
        listener.answer = 200
        made.move(made.campaign(), states.QUEUED)
        await made.runtime.clock.sleep(2)
        assert [arrival.number for arrival in listener.accepted] == [3]


@rules("BR-131")
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (301, "answered 301"),
        (307, "answered 307"),
        (400, "answered 400"),
        (199, "answered 199"),
        (SILENT, "no answer within 10 s"),
        (BROKEN, "the connection broke"),
    ],
)
@virtual
async def test_what_is_no_acceptance(tmp_path: Path, answer: int, error: str) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.script = deque([answer])
        await made.queue(1)
        await made.runtime.clock.sleep(0.5 + (TIMEOUT if answer == SILENT else 0))
        [waiting] = made.callbacks.pending()
        assert waiting.error == error
        await made.runtime.clock.sleep(2)
        assert [arrival.url for arrival in listener.arrivals] == [URL, URL]
        assert [item.error for item in await made.callbacks.recent()] == [error]


@pytest.mark.parametrize("answer", [SILENT, BROKEN, 500])
@virtual
async def test_a_dead_listener_holds_up_nobody_else(tmp_path: Path, answer: int) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.hosts = {"dead.example": answer}
        await made.callbacks.register(ACCOUNT, 2, "https://dead.example/")
        dead = made.campaign(2, "dead", devices=1)
        alive = made.campaign(3, "alive", devices=1)
        for number in range(20):
            for campaign in (dead, alive):
                [member] = campaign.members.values()
                made.change(member, states.PENDING, f"reason {number}")
            await made.runtime.clock.sleep(2)
        assert [
            item["resultReason"]
            for arrival in listener.accepted
            for item in arrival.body["deviceList"]
        ] == [f"reason {number}" for number in range(20)]
        assert all(arrival.body["campaignId"] == "alive" for arrival in listener.accepted)
        assert {message.campaign for message in made.callbacks.pending()} == {"dead"}
        assert len(made.callbacks.pending(limit=3)) == 3


@rules("BR-130")
@virtual
async def test_messages_wait_for_the_one_before_them(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.script = deque([500, 500, 200, 500, 200, 200])
        await made.queue(3)
        await made.runtime.clock.sleep(10)
        assert [arrival.number for arrival in listener.arrivals] == [1, 1, 1, 2, 2, 3]
        # Each message has its own delays.
        assert close(gaps(listener), [1.0, 2.0, 0.0, 1.0, 0.0])


@rules("BR-135")
@virtual
async def test_undelivered_messages_move_to_a_new_address(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.hosts = {"listener.example": 503}
        await made.queue(3)
        await made.runtime.clock.sleep(100)
        before = len(listener.arrivals)
        await made.callbacks.change(ACCOUNT, 3, ELSEWHERE)
        await made.runtime.clock.sleep(TICK)  # at once, and not after the next delay
        assert [arrival.number for arrival in listener.accepted] == [1, 2, 3]
        assert {arrival.url for arrival in listener.arrivals[before:]} == {ELSEWHERE}


@virtual
async def test_a_new_address_that_fails_is_tried_from_one_second_on(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.answer = 503
        await made.queue(1)
        await made.runtime.clock.sleep(100)
        listener.arrivals.clear()
        await made.callbacks.register(ACCOUNT, 3, ELSEWHERE)
        await made.runtime.clock.sleep(4)
        assert close(gaps(listener), [1.0, 2.0])


@virtual
async def test_an_address_that_changes_during_a_try(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.hosts = {"listener.example": SILENT}
        await made.queue(1)
        await made.runtime.clock.sleep(5)
        await made.callbacks.change(ACCOUNT, 3, ELSEWHERE)
        assert len(listener.arrivals) == 1
        await made.runtime.clock.sleep(TIMEOUT - 5 + TICK)
        assert [arrival.url for arrival in listener.arrivals] == [URL, ELSEWHERE]


@virtual
async def test_a_listener_that_is_gone_gets_nothing_any_more(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.answer = SILENT
        await made.queue(2)
        campaign = made.campaign(devices=1)
        made.move(campaign, states.QUEUED)
        await made.runtime.clock.sleep(5)
        [member] = campaign.members.values()
        made.change(member, states.DATA)
        await made.callbacks.deregister(ACCOUNT, 3)
        made.change(member, states.PENDING)
        await made.runtime.clock.sleep(5)
        assert len(listener.arrivals) == 1
        assert not made.callbacks.pending()
        assert await made.rows(tables.listeners) == []
        assert await made.rows(tables.outbox_changes) == []
        found = await made.callbacks.recent()
        assert [(item.state, item.error) for item in found] == [
            ("dropped", service.DEREGISTERED)
        ] * 3
        with pytest.raises(RequestRefused, match="No callback listener is registered"):
            await made.callbacks.deregister(ACCOUNT, 3)
        # Who comes later has not asked for what was before.
        listener.answer = 200
        listener.arrivals.clear()
        await made.callbacks.register(ACCOUNT, 3, URL)
        await made.runtime.clock.sleep(600)
        assert not listener.arrivals
        made.change(member, states.STARTED)
        await made.runtime.clock.sleep(2)
        [arrival] = listener.arrivals
        assert [item["status"] for item in arrival.body["deviceList"]] == [states.STARTED]


@virtual
async def test_changes_around_a_deregistration_leave_nothing_behind(tmp_path: Path) -> None:
    """Told between the commit and its end, when the listener is still known."""
    async with room(tmp_path / "b.db") as (made, listener):
        [member] = made.campaign(devices=1).members.values()
        await made.runtime.clock.sleep(1)

        def meanwhile(_result: object, _error: Exception | None) -> None:
            made.change(member, states.PENDING)

        made.writer.submit_nowait(lambda _connection: None, meanwhile)
        await made.callbacks.deregister(ACCOUNT, 3)
        await made.runtime.clock.sleep(5)
        assert await made.rows(tables.outbox_changes) == []
        assert not listener.arrivals


@virtual
async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    listener = ScriptedListener(answer=503)
    async with Runtime.in_memory() as runtime:
        listener.now = runtime.clock.now
        former = Room(runtime, tmp_path / "b.db", "immediate", listener)
        await former.start()
        await former.callbacks.register(ACCOUNT, 3, URL)
        await former.queue(3)
        await runtime.clock.sleep(40)  # five tries, the last at 31 s; the next one is at 63 s
        await former.kill()
        listener.answer = 200
        later = Room(runtime, tmp_path / "b.db", "immediate", listener)
        await later.start()
        assert [message.tries for message in later.callbacks.pending()] == [6, 0, 0]
        await runtime.clock.sleep(20)
        assert not listener.accepted
        await runtime.clock.sleep(5)
        assert [arrival.number for arrival in listener.accepted] == [1, 2, 3]
        found = await later.callbacks.recent()
        assert [(item.number, item.tries, item.state) for item in found] == [
            (3, 1, "delivered"),
            (2, 1, "delivered"),
            (1, 7, "delivered"),
        ]
        await later.stop()


@virtual
async def test_a_message_that_was_delivered_and_not_marked_is_sent_again(tmp_path: Path) -> None:
    listener = ScriptedListener()
    async with Runtime.in_memory() as runtime:
        listener.now = runtime.clock.now
        former = Room(runtime, tmp_path / "b.db", "immediate", listener)
        await former.start()
        await former.callbacks.register(ACCOUNT, 3, URL)
        await former.queue(1)
        former.writer._push = lambda _change: None  # type: ignore[method-assign]
        former.callbacks._delivery._writer.read = _body  # type: ignore[method-assign,assignment]
        await runtime.clock.sleep(1)
        await former.kill()
        assert [arrival.number for arrival in listener.accepted] == [1]
        later = Room(runtime, tmp_path / "b.db", "immediate", listener)
        await later.start()
        await runtime.clock.sleep(1)
        assert [arrival.number for arrival in listener.accepted] == [1, 1]
        await later.stop()


async def _body(_work: object) -> str:
    return "{}"


@virtual
async def test_rows_without_a_listener_are_erased_at_the_start(tmp_path: Path) -> None:
    """Killed in the middle of a deregistration."""
    listener = ScriptedListener(answer=503)
    async with Runtime.in_memory() as runtime:
        listener.now = runtime.clock.now
        former = Room(runtime, tmp_path / "b.db", "immediate", listener)
        await former.start()
        await former.callbacks.register(ACCOUNT, 3, URL)
        await former.queue(2)
        former.move(former.campaign(), states.QUEUED)
        await former.writer.submit(lambda connection: connection.execute(tables.listeners.delete()))
        await former.kill()
        later = Room(runtime, tmp_path / "b.db", "immediate", listener)
        await later.start()
        assert not later.callbacks.pending()
        assert await later.rows(tables.outbox_changes) == []
        assert {item.state for item in await later.callbacks.recent()} == {"dropped"}
        await later.stop()


@virtual
async def test_a_store_that_cannot_be_read_costs_a_try(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        read = made.writer.read
        broken = True

        async def refuse(work: object) -> object:
            if broken:
                raise StoreError("no")
            return await read(work)  # type: ignore[arg-type]

        made.writer.read = refuse  # type: ignore[method-assign,assignment]
        await made.queue(1)
        await made.runtime.clock.sleep(0.5)
        [waiting] = made.callbacks.pending()
        assert waiting.error == "the message cannot be read from the store"
        broken = False
        await made.runtime.clock.sleep(1)
        assert len(listener.accepted) == 1


@virtual
async def test_what_was_finished_is_forgotten_after_a_week(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        await made.queue(2)
        await made.runtime.clock.sleep(6.9 * DAY)
        assert len(await made.callbacks.recent()) == 2
        assert len(await made.callbacks.recent(1)) == 1
        await made.runtime.clock.sleep(0.2 * DAY)
        assert await made.callbacks.recent() == []


@virtual
async def test_virtual_time_without_a_transport_says_so(tmp_path: Path) -> None:
    async with Runtime.in_memory() as runtime:
        made = Room(runtime, tmp_path / "b.db", "immediate", None)
        await made.start()
        await made.callbacks.register(ACCOUNT, 3, URL)
        await made.queue(1)
        await runtime.clock.sleep(0.5)
        assert [item.error for item in made.callbacks.pending()] == ["cannot send: NoNetwork"]
        await made.stop()


@virtual
async def test_an_application_takes_the_place_of_the_network(tmp_path: Path) -> None:
    bodies = []

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        message = await receive()  # type: ignore[operator]
        bodies.append(message["body"])
        start = {"type": "http.response.start", "status": 202, "headers": []}
        await send(start)  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"{}"})  # type: ignore[operator]

    async with Runtime.in_memory() as runtime:
        made = Room(
            runtime,
            tmp_path / "b.db",
            "immediate",
            httpx.ASGITransport(app=app),  # type: ignore[arg-type]
        )
        await made.start()
        await made.callbacks.register(ACCOUNT, 3, URL)
        await made.queue(2)
        await runtime.clock.sleep(1)
        assert bodies == [b'{"n": 1}', b'{"n": 2}']
        await made.stop()


@virtual
async def test_waiting_follows_the_clock_when_it_is_moved(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        listener.answer = 503
        await made.queue(1)
        await made.runtime.clock.sleep(1500)
        before = len(listener.arrivals)
        made.time.advance(200)  # in the middle of five minutes
        await made.runtime.clock.sleep(110)
        assert len(listener.arrivals) == before + 1
        made.time.advance(DAY)
        await made.runtime.clock.sleep(1)
        assert [item.state for item in await made.callbacks.recent()] == ["dropped"]


# -- any sequence of answers, against a model ---


def model(script: list[int], count: int) -> list[tuple[int, float]]:
    """Number and instant of every try."""
    answers = deque(script)
    tries: list[tuple[int, float]] = []
    now = 0.0
    messages = deque(range(1, count + 1))
    while messages:
        failures = 0
        while True:
            answer = answers.popleft() if answers else 200
            tries.append((messages[0], now))
            if answer == SILENT:
                now += TIMEOUT
            if 200 <= answer < 300:
                messages.popleft()
                break
            failures += 1
            if now >= LIFE:
                messages.clear()  # all of them are as old
                break
            now = min(now + delay_after(failures), LIFE)
    return tries


ANSWERS = st.sampled_from([200, 201, 204, 302, 404, 500, SILENT, BROKEN])


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(ANSWERS, max_size=25),
        st.integers(280, 320).map(lambda count: [503] * count),  # longer than a message lives
    ),
    st.integers(1, 5),
)
def test_any_sequence_of_answers(script: list[int], count: int) -> None:
    async def run() -> None:
        async with room(Path(MEMORY)) as (made, listener):
            listener.script = deque(script)
            await made.queue(count)
            await made.runtime.clock.sleep(2 * DAY)
            wanted = model(script, count)
            found = [(arrival.number, arrival.when) for arrival in listener.arrivals]
            assert [number for number, _when in found] == [number for number, _when in wanted]
            # Each wait is up to a tick late, and they add up.
            slack = TICK * (len(wanted) + 1)
            assert all(
                expected <= when + 1e-6 <= expected + slack
                for (_number, when), (_same, expected) in zip(found, wanted, strict=True)
            )
            accepted = [arrival.number for arrival in listener.accepted]
            assert accepted == sorted(set(accepted))
            ended = {item.number: item.state for item in await made.callbacks.recent()}
            # Nothing is lost: it was accepted, or it is known to be dropped.
            assert ended == {
                number: "delivered" if number in accepted else "dropped"
                for number in range(1, count + 1)
            }
            assert not made.callbacks.pending()

    run_virtual(run())


@rules("BR-130")
@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["change", "kill", "answer", "move", "wait"]),
            st.integers(0, 4),
        ),
        max_size=25,
    )
)
def test_any_sequence_of_kills_and_moves(tmp_path_factory: object, steps: list[object]) -> None:
    """At least once and in order, whatever happens to the backend and its listener."""
    folder = tmp_path_factory.mktemp("kills")  # type: ignore[attr-defined]

    async def run() -> None:
        listener = ScriptedListener()
        async with Runtime.in_memory() as runtime:
            listener.now = runtime.clock.now
            made = Room(runtime, folder / "b.db", "immediate", listener)
            await made.start()
            await made.callbacks.register(ACCOUNT, 3, URL)
            campaign = made.campaign(devices=5)
            members = list(campaign.members.values())
            committed: list[str] = []
            for number, step in enumerate(steps):
                what, value = step  # type: ignore[misc]
                if what == "change":
                    made.change(members[value], states.PENDING, f"r{number}")
                    # Where the engine submits the change itself.
                    made.writer.submit_nowait(
                        lambda _connection: None,
                        lambda _result, error, number=number: committed.append(f"r{number}"),
                    )
                elif what == "kill":
                    if value % 2:
                        await made.writer.flushed()
                    await made.kill()
                    made = Room(runtime, folder / "b.db", "immediate", listener)
                    made.campaigns[campaign.id] = campaign
                    await made.start()
                elif what == "answer":
                    listener.answer = (200, 503, SILENT, BROKEN, 302)[value]
                elif what == "move":
                    await made.callbacks.register(ACCOUNT, 3, f"https://h{value}.example/")
                else:
                    await runtime.clock.sleep((0.0, 0.5, 1.1, 5.0, 60.0)[value])
            await made.writer.flushed()
            listener.answer = 200
            await runtime.clock.sleep(700)
            told = [
                item["resultReason"]
                for arrival in listener.accepted
                for item in arrival.body["deviceList"]
            ]
            first = list(dict.fromkeys(told))
            # Nothing that was committed is missing, and first tellings are in order.
            assert [reason for reason in first if reason in committed] == committed
            assert not made.callbacks.pending()
            await made.stop()

    run_virtual(run())


def test_delays_are_bounded() -> None:
    assert delay_after(1) == delivery.FIRST_DELAY
    assert delay_after(10_000) == LONGEST_DELAY
