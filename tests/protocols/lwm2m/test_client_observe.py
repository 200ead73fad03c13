"""Observations of a real client: when notifications leave, and what ends them."""

from __future__ import annotations

import itertools

import pytest

from agent import Outcome, State
from agent.flash import CutMode, PowerCut
from protocols.coap.errors import RequestFailed
from protocols.coap.message import Message
from protocols.coap.numbers import Code
from protocols.coap.options import make_options
from protocols.coap.request_layer import RequestHandle
from protocols.lwm2m import codecs
from protocols.lwm2m import objects as device_objects
from protocols.lwm2m.client import Lwm2mClient
from protocols.lwm2m.observers import MAX_OBSERVATIONS
from tests.agent.parts import new_image
from tests.protocols.lwm2m.client_world import World, virtual, world

PUT, POST, CHANGED, CONTENT = Code.PUT, Code.POST, Code.CHANGED, Code.CONTENT


class Watch:
    """An observer and what it got."""

    def __init__(self, built: World, path: str, accept: int | None = None) -> None:
        assert built.peer is not None
        self.built = built
        self.path = path
        self.got: list[tuple[float, Message]] = []
        self.failed: RequestFailed | None = None
        segments = path.strip("/").split("/")
        message = Message(Code.GET, b"", make_options(path=segments, accept=accept))
        self.handle: RequestHandle = built.server.observe(built.peer, message, self._notified)

    def _notified(self, result: Message | RequestFailed) -> None:
        if isinstance(result, RequestFailed):
            self.failed = result
        else:
            self.got.append((self.built.now, result))

    @property
    def values(self) -> list[bytes]:
        return [message.payload for _, message in self.got]

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.got]


async def watch(built: World, path: str, accept: int | None = None) -> Watch:
    watched = Watch(built, path, accept)
    await built.until(lambda: bool(watched.got))
    return watched


def observed(built: World) -> int:
    client = built.device.client
    assert isinstance(client, Lwm2mClient)
    return len(client._management.observers)


@pytest.fixture
def battery(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The battery level of every device, and a way to change it."""
    level = [50]
    monkeypatch.setitem(device_objects._READERS, (3, 9), lambda device: level[0])
    monkeypatch.setitem(device_objects.SINGLES, (3, 0, 9), lambda device: level[0])
    return level


async def charge(built: World, battery: list[int], level: int) -> None:
    battery[0] = level
    client = built.device.client
    assert isinstance(client, Lwm2mClient)
    client._management.observers.changed((3, 0, 9))
    await built.sleep(0.5)


@virtual
async def test_a_change_is_notified_and_nothing_else() -> None:
    async with world() as built:
        watched = await watch(built, "/1/0/1")
        assert watched.got[0][1].options.observe is not None
        await built.sleep(500)
        assert watched.values == [b"300"]
        await built.text("/1/0/1", "100")
        await built.text("/1/0/1", "100")
        await built.text("/1/0/1", "101")
        await built.sleep(1)
        assert watched.values == [b"300", b"100", b"101"]
        numbers = [message.options.observe for _, message in watched.got]
        assert None not in numbers and numbers == sorted(set(numbers))  # type: ignore[type-var]


@virtual
async def test_an_update_is_told_step_by_step() -> None:
    async with world() as built:
        state = await watch(built, "/5/0/3")
        await built.push(new_image())
        await built.send(POST, "/5/0/2")
        await built.sleep(0.5)
        assert state.values == [b"0", b"1", b"2", b"3"]
        assert ("dev-1", "unfinished", "state 3, result 0", None) in built.told
        await built.until(lambda: built.device.engine.state is State.IDLE and built.registered)
        # A reboot forgets its observers: the server observes again after the registration.
        assert observed(built) == 0
        result = await watch(built, "/5/0/5")
        assert result.values == [b"1"]


@virtual
async def test_pmin_holds_back_and_pmax_repeats() -> None:
    async with world() as built:
        await built.send(PUT, "/1/0/1", queries=("pmin=10", "pmax=60"))
        watched = await watch(built, "/1/0/1")
        began = watched.times[0]
        await built.text("/1/0/1", "100")
        await built.text("/1/0/1", "101")
        await built.sleep(5)
        assert watched.values == [b"300"]
        await built.sleep(200)
        assert watched.values == [b"300", b"101", b"101", b"101", b"101"]
        gaps = [
            later - earlier for earlier, later in itertools.pairwise([began, *watched.times[1:]])
        ]
        assert gaps[0] == pytest.approx(10, abs=0.5)
        assert gaps[1:] == pytest.approx([60] * 3, abs=0.5)


@virtual
async def test_attributes_that_are_written_later_count_at_once() -> None:
    async with world() as built:
        watched = await watch(built, "/3/0/0")
        await built.send(PUT, "/3", queries=("pmax=20",))
        await built.sleep(61)
        assert len(watched.got) == 4
        await built.send(PUT, "/3", queries=("pmax",))
        await built.sleep(100)
        assert len(watched.got) == 4


@pytest.mark.parametrize("partial", [True, False])
def test_the_servers_default_periods(partial: bool) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            watched = await watch(built, "/3/0/0")
            body = [("/1/0/2", 5), ("/1/0/3", 30)]
            assert (await built.write("/1/0", body, codecs.TLV, partial=partial)).code == CHANGED
            await built.sleep(95)
            assert len(watched.got) == 4
            assert (await built.text("/1/0/3", "0")).code == CHANGED
            await built.sleep(95)
            assert len(watched.got) == 4
            assert (await built.text("/1/0/3", "30")).code == CHANGED
            # A replace that leaves them out takes them away.
            assert (await built.write("/1/0", [("/1/0/1", 300)], codecs.TLV)).code == CHANGED
            count = len(watched.got)
            await built.sleep(95)
            assert len(watched.got) == count

    run()


@virtual
async def test_the_default_pmin_holds_back() -> None:
    async with world() as built:
        await built.text("/1/0/2", "40")
        watched = await watch(built, "/3/0/15")
        await built.text("/3/0/15", "Mars")
        await built.sleep(30)
        assert len(watched.got) == 1
        await built.sleep(12)
        assert watched.values == [b"Etc/UTC", b"Mars"]


def test_thresholds(battery: list[int]) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            await built.send(PUT, "/3/0/9", queries=("gt=80", "lt=20"))
            watched = await watch(built, "/3/0/9")
            for level in (60, 79, 81, 90, 70, 30, 19, 10, 25):
                await charge(built, battery, level)
            assert watched.values == [b"50", b"81", b"70", b"19", b"25"]

    run()


def test_steps(battery: list[int]) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            await built.send(PUT, "/3/0/9", queries=("st=10",))
            watched = await watch(built, "/3/0/9")
            for level in (55, 59, 60, 65, 71, 62, 61):
                await charge(built, battery, level)
            assert watched.values == [b"50", b"60", b"71", b"61"]

    run()


def test_an_instance_is_notified_of_what_is_in_it(battery: list[int]) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            watched = await watch(built, "/3/0", codecs.TLV)
            await charge(built, battery, 49)
            records = codecs.decode(codecs.TLV, (3, 0), watched.values[-1], lambda path: None)
            assert len(watched.got) == 2
            assert [record.value for record in records if record.path == (3, 0, 9)] == [b"1"]

    run()


@virtual
async def test_the_format_of_the_first_answer_stays() -> None:
    async with world() as built:
        watched = await watch(built, "/1/0/1", codecs.SENML_CBOR)
        await built.text("/1/0/1", "100")
        await built.sleep(1)
        formats = {message.options.content_format for _, message in watched.got}
        assert formats == {codecs.SENML_CBOR} and len(watched.got) == 2


@virtual
async def test_cancel_by_option() -> None:
    async with world() as built:
        watched = await watch(built, "/1/0/1")
        token = watched.handle.token
        # Somebody else's token at another path ends nothing.
        await built.send(Code.GET, "/3/0/0", observe=1)
        assert observed(built) == 1
        answer = await built.send(Code.GET, "/1/0/1", observe=1)
        assert (answer.code, answer.options.observe) == (CONTENT, None)
        assert observed(built) == 0
        assert token == watched.handle.token
        await built.text("/1/0/1", "100")
        await built.sleep(1)
        assert len(watched.got) == 1


@virtual
async def test_cancel_by_reset() -> None:
    async with world() as built:
        watched = await watch(built, "/1/0/1")
        watched.handle.cancel()
        assert observed(built) == 1
        await built.text("/1/0/1", "100")
        await built.sleep(1)
        assert observed(built) == 0
        await built.alive()


@virtual
async def test_an_observer_that_never_acknowledges_is_dropped() -> None:
    async with world() as built:
        watched = await watch(built, "/3/0/0")
        await built.send(PUT, "/3/0/0", queries=("pmax=10",))
        built.runtime.network.loss = 1.0  # type: ignore[attr-defined]
        await built.sleep(120)
        assert observed(built) == 0
        built.runtime.network.loss = 0.0  # type: ignore[attr-defined]
        await built.sleep(200)
        assert len(watched.got) == 1


@virtual
async def test_observing_again_replaces() -> None:
    async with world() as built:
        first = await watch(built, "/1/0/1")
        second = await watch(built, "/1/0/1")
        assert observed(built) == 1
        await built.text("/1/0/1", "100")
        await built.sleep(1)
        assert (len(first.got), len(second.got)) == (1, 2)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/0/0/0", Code.UNAUTHORIZED),
        ("/99", Code.NOT_FOUND),
        ("/3/0/4", Code.METHOD_NOT_ALLOWED),
        ("/5/0/0", Code.METHOD_NOT_ALLOWED),
        ("/1/0/2", Code.NOT_FOUND),
    ],
)
def test_what_cannot_be_observed(path: str, code: Code) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            watched = await watch(built, path)
            assert watched.got[0][1].code == code
            assert watched.got[0][1].options.observe is None
            assert observed(built) == 0

    run()


@virtual
async def test_too_many_observations_are_answered_without() -> None:
    async with world() as built:
        for number in range(1, 8):
            await built.write("/1", [(f"/1/{number}/1", 60)], codecs.TLV, partial=True)
        paths = [f"/1/{instance}/{resource}" for instance in range(8) for resource in (0, 1, 6, 7)]
        for path in [*paths, "/3/0/0"]:
            last = await watch(built, path)
        assert len(paths) == MAX_OBSERVATIONS
        assert observed(built) == MAX_OBSERVATIONS
        assert last.got[0][1].options.observe is None


@virtual
async def test_a_deleted_instance_ends_its_observations_with_not_found() -> None:
    async with world() as built:
        await built.write("/1", [("/1/3/1", 60)], codecs.TLV, partial=True)
        inside = await watch(built, "/1/3/1")
        above = await watch(built, "/1")
        await built.send(Code.DELETE, "/1/3")
        await built.sleep(1)
        assert inside.got[-1][1].code == Code.NOT_FOUND
        assert len(above.got) == 2 and above.got[-1][1].code == CONTENT
        assert observed(built) == 1


@virtual
async def test_a_resource_that_goes_away_ends_its_observation() -> None:
    async with world() as built:
        await built.text("/1/0/5", "60")
        watched = await watch(built, "/1/0/5")
        await built.write("/1/0", [("/1/0/1", 300)], codecs.TLV)
        await built.sleep(1)
        assert watched.got[-1][1].code == Code.NOT_FOUND
        assert observed(built) == 0


@virtual
async def test_a_notification_that_does_not_fit_is_the_first_block() -> None:
    async with world() as built:
        for number in range(1, 8):
            body = [(f"/1/{number}/1", 60), (f"/1/{number}/22", "x" * 80)]
            await built.write("/1", body, codecs.TLV, partial=True)
        watched = await watch(built, "/1", codecs.JSON_OLD)
        assert watched.got[0][1].options.block2 is not None
        await built.text("/1/3/1", "61")
        await built.sleep(1)
        assert len(watched.got) == 2
        block = watched.got[1][1].options.block2
        assert block is not None and block.more and block.number == 0
        assert len(watched.got[1][1].payload) == block.size


@virtual
async def test_switched_off_nobody_is_notified() -> None:
    async with world() as built:
        watched = await watch(built, "/3/0/0")
        await built.send(PUT, "/3/0/0", queries=("pmax=10",))
        built.device.power_off()
        await built.sleep(100)
        assert len(watched.got) == 1


@virtual
async def test_a_disabled_device_notifies_nobody() -> None:
    async with world() as built:
        await built.text("/1/0/5", "100")
        watched = await watch(built, "/3/0/0")
        await built.send(PUT, "/3/0/0", queries=("pmax=10",))
        assert (await built.send(POST, "/1/0/4")).code == CHANGED
        await built.sleep(50)
        assert len(watched.got) == 1
        await built.registration()
        await watch(built, "/3/0/0")
        assert observed(built) == 1


@virtual
async def test_power_that_goes_when_an_acknowledgement_comes() -> None:
    async with world() as built:
        await watch(built, "/5/0/5")
        cut = PowerCut(CutMode.BEFORE, 1, lambda: built.device.cut_power(back_after=1.0))
        # What is learned from the acknowledgement is noted in nvm: the flash loses power there.
        built.device.engine.fail(Outcome.BAD_URI)
        built.device.flash.arm(1, cut)
        await built.sleep(0.5)
        assert built.device.boots == 1 and not built.registered
        await built.registration()
        assert await built.shown() == (0, 7)
