"""Nothing is left behind: steps back in order, in spite of failures and of Ctrl-C."""

from __future__ import annotations

import asyncio

import pytest

from tools.drivers.errors import CleanupIncomplete, DriverError, ServerUnreachable
from tools.drivers.undo import Stage, Undo, each, each_in_spite, finish


class Server:
    """Remembers what was removed; refuses what is in `stubborn`."""

    def __init__(self) -> None:
        self.removed: list[str] = []
        self.stubborn: set[str] = set()

    async def remove(self, what: str) -> None:
        if what in self.stubborn:
            raise DriverError("not now")
        self.removed.append(what)


def filled(server: Server) -> Undo:
    undo = Undo()
    for stage, what in (
        (Stage.SETTING, "setting"),
        (Stage.DEVICE, "device 1"),
        (Stage.PACKAGE, "package"),
        (Stage.DEVICE, "device 2"),
        (Stage.CAMPAIGN, "campaign"),
    ):
        undo.add(stage, what, lambda what=what: server.remove(what))  # type: ignore[misc]
    return undo


async def test_what_refers_to_others_goes_first_and_the_newest_before_the_oldest() -> None:
    server = Server()
    undo = filled(server)
    await undo.run()
    assert server.removed == ["campaign", "device 2", "device 1", "package", "setting"]
    assert len(undo) == 0
    await undo.run()
    assert len(server.removed) == 5


async def test_a_step_that_fails_stays_and_the_others_are_taken() -> None:
    server = Server()
    server.stubborn = {"device 2", "setting"}
    undo = filled(server)
    with pytest.raises(CleanupIncomplete) as raised:
        await undo.run()
    assert raised.value.left == ("device 2 (not now)", "setting (not now)")
    assert server.removed == ["campaign", "device 1", "package"]
    server.stubborn.clear()
    await undo.run()
    assert server.removed[3:] == ["device 2", "setting"]


async def test_a_cleanup_that_is_cut_off_can_go_on() -> None:
    server = Server()
    undo = filled(server)
    hanging = asyncio.Event()

    async def hang() -> None:
        await hanging.wait()
        server.removed.append("slow")

    undo.add(Stage.DEVICE, "slow", hang)
    task = asyncio.ensure_future(undo.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.removed == ["campaign"]
    hanging.set()
    await undo.run()
    assert server.removed == ["campaign", "slow", "device 2", "device 1", "package", "setting"]


async def test_ctrl_c_lets_a_call_end_so_that_its_answer_is_not_lost() -> None:
    answered = asyncio.Event()
    made: list[str] = []

    async def create() -> str:
        await answered.wait()
        made.append("id 7")
        return "id 7"

    task = asyncio.ensure_future(finish(create()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made == ["id 7"]


async def test_a_second_ctrl_c_ends_it() -> None:
    async def create() -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(finish(create()))
    for _ in range(2):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_so_many_at_once_and_no_more() -> None:
    running = most = 0
    done: list[int] = []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await each(range(20), work, parallel=3)
    assert sorted(done) == list(range(20))
    assert most == 3


async def test_the_first_failure_ends_the_rest() -> None:
    started: list[int] = []

    async def work(item: int) -> None:
        started.append(item)
        if item == 2:
            raise DriverError("refused")
        await asyncio.Event().wait()

    with pytest.raises(DriverError, match="refused"):
        await each(range(20), work, parallel=4)
    assert started == [0, 1, 2, 3]


async def test_what_one_refuses_does_not_save_the_others() -> None:
    done: list[int] = []

    async def work(item: int) -> None:
        if item % 10 == 3:
            raise DriverError(f"{item} is in use")
        done.append(item)

    with pytest.raises(DriverError, match="2 failed: 3 is in use"):
        await each_in_spite(range(20), work)
    assert len(done) == 18


async def test_a_server_that_is_gone_is_not_asked_a_thousand_times() -> None:
    asked = 0

    async def work(item: int) -> None:
        nonlocal asked
        asked += 1
        raise ServerUnreachable("cannot be reached")

    with pytest.raises(ServerUnreachable):
        await each_in_spite(range(1000), work, parallel=4)
    assert asked < 20
