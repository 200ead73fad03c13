"""Downloads into the update engine: resumed, checked, cut, refused; in virtual time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import FaultPlan, Outcome
from agent.flash import SECONDARY
from agent.runtime import run_virtual
from agent.update import State
from firmware_images.errors import PackageRefused, Reason
from protocols.http.download import (
    Download,
    DownloadFailed,
    DownloadTuning,
    Resource,
)
from protocols.http.fetch import check, fetch
from tests.agent.parts import image, new_image
from tests.protocols.http.http_world import (
    ORIGIN,
    Asked,
    Reply,
    World,
    ranged,
    virtual,
    world,
)

IMAGE = new_image()
URL = f"{ORIGIN}/image?signature=secret"
SHA256 = hashlib.sha256(IMAGE).hexdigest()
GOOD = Resource(URL, len(IMAGE), {"sha256": SHA256, "md5": hashlib.md5(IMAGE).hexdigest()})


def stored(here: World) -> bytes:
    return here.device.flash.read(SECONDARY, 0, len(IMAGE))


@virtual
async def test_a_download_ends_verified_in_the_slot() -> None:
    async with world() as here:
        here.server.judge = ranged(IMAGE)
        progress: list[tuple[int, int | None]] = []
        download = Download(
            here.poller, GOOD, on_progress=lambda at, size: progress.append((at, size))
        )
        assert await download.run()
        assert here.device.engine.state is State.DOWNLOADED
        assert stored(here) == IMAGE
        assert progress[-1] == (len(IMAGE), len(IMAGE))
        assert download.received == len(IMAGE) and download.status == 200
        (asked,) = here.server.asked
        assert asked.headers["accept-encoding"] == "identity"
        assert "range" not in asked.headers


@virtual
async def test_a_planned_cut_is_resumed_at_its_byte_and_happens_once() -> None:
    faults = FaultPlan(cut_downloads=(5000, 9000))
    async with world(faults=faults) as here:
        here.server.judge = ranged(IMAGE)
        download = Download(here.poller, GOOD)
        assert await download.run()
        ranges = [one.headers.get("range") for one in here.server.asked]
        assert ranges == [None, "bytes=5000-", "bytes=9000-"]
        assert [one.headers.get("if-range") for one in here.server.asked] == [None, '"1"', '"1"']
        assert download.received == len(IMAGE), "resumed: no byte crossed the wire twice"
        assert faults.cut_downloads == ()


@virtual
async def test_a_weak_tag_never_goes_into_if_range() -> None:
    async with world(faults=FaultPlan(cut_downloads=(5000,))) as here:
        here.server.judge = ranged(IMAGE, 'W/"1"')
        assert await Download(here.poller, GOOD).run()
        second = here.server.asked[1]
        assert second.headers["range"] == "bytes=5000-"
        assert "if-range" not in second.headers


@virtual
async def test_a_download_goes_on_at_its_checkpoint_after_a_power_loss() -> None:
    """Fewer bytes cross the wire, and the hash covers those that were in flash already."""
    big = image(2, 150_000, 2)
    resource = Resource(URL, len(big), {"sha256": hashlib.sha256(big).hexdigest()})
    async with world(faults=FaultPlan(cut_power_at=110), slot_size=256 * 1024) as here:
        here.server.judge = ranged(big)
        downloads: list[Download] = []
        done: list[bool] = []

        async def story() -> None:
            downloads.append(Download(here.poller, resource))
            done.append(await downloads[-1].run())

        here.poller.begin(story())
        await here.sleep(30)
        assert done == [] and here.device.boots == 2
        assert here.device.engine.resumable
        here.poller.begin(story())
        await here.sleep(30)
        assert done == [True]
        assert here.device.flash.read(SECONDARY, 0, len(big)) == big
        first, second = here.server.asked
        assert "range" not in first.headers
        assert second.headers["range"] == "bytes=65536-"
        assert downloads[1].received == len(big) - 65536


@virtual
async def test_an_engine_at_an_offset_is_resumed_there_with_the_hash_from_the_flash() -> None:
    async with world() as here:
        here.server.judge = ranged(IMAGE)
        engine = here.device.engine
        assert engine.begin(uri=URL, etag=b'"1"', total_size=len(IMAGE))
        assert engine.receive(IMAGE[:6144])
        download = Download(here.poller, GOOD)
        assert await download.run()
        assert here.server.asked[0].headers["range"] == "bytes=6144-"
        assert download.received == len(IMAGE) - 6144


@virtual
async def test_another_resource_under_the_same_url_restarts_at_0() -> None:
    async with world() as here:
        here.server.judge = ranged(IMAGE, '"2"')
        engine = here.device.engine
        assert engine.begin(uri=URL, etag=b'"1"', total_size=len(IMAGE))
        assert engine.receive(b"x" * 6144)
        assert await Download(here.poller, GOOD).run()
        assert stored(here) == IMAGE
        assert here.server.asked[0].headers["if-range"] == '"1"'


@virtual
async def test_a_part_of_another_resource_restarts_at_0() -> None:
    """Without If-Range (a weak tag) the change shows in the answer."""
    async with world() as here:
        here.server.judge = ranged(IMAGE, 'W/"2"')
        engine = here.device.engine
        assert engine.begin(uri=URL, etag=b'W/"1"', total_size=len(IMAGE))
        assert engine.receive(b"x" * 6144)
        assert await Download(here.poller, GOOD).run()
        assert [one.headers.get("range") for one in here.server.asked] == ["bytes=6144-", None]
        assert stored(here) == IMAGE


def at_first(*replies: Reply, then: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    left = list(replies)
    return lambda asked: left.pop(0) if left else then(asked)


@virtual
async def test_a_busy_server_is_asked_again_when_it_said() -> None:
    async with world() as here:
        here.server.judge = at_first(
            Reply(503, [("Retry-After", "100")]),
            Reply(429, [("Retry-After", "Tue, 01 Jan 2030 00:10:00 GMT")]),
            then=ranged(IMAGE),
        )
        assert await Download(here.poller, GOOD).run()
        first, second, third = (one.time for one in here.server.asked)
        assert 100 <= second - first < 106
        assert 600 <= third < 606


@virtual
async def test_tries_without_a_byte_end_the_attempt() -> None:
    async with world() as here:
        here.server.judge = lambda asked: Reply(500)
        tuning = DownloadTuning(tries=3)
        assert not await Download(here.poller, GOOD, tuning=tuning).run()
        assert here.device.engine.outcome is Outcome.CONNECTION_LOST
        assert len(here.server.asked) == 3


@virtual
async def test_a_connection_that_brings_bytes_is_never_one_of_the_lost_tries() -> None:
    async with world() as here:
        whole = ranged(IMAGE)

        def judge(asked: Asked) -> Reply:
            reply = whole(asked)
            reply.sent = 1000
            return reply

        here.server.judge = judge
        assert await Download(here.poller, GOOD, tuning=DownloadTuning(tries=2)).run()
        assert len(here.server.asked) == -(-len(IMAGE) // 1000)


@pytest.mark.parametrize(
    ("resource", "reply", "outcome"),
    [
        (GOOD, Reply(404), Outcome.BAD_URI),
        (GOOD, Reply(401), Outcome.BAD_URI),
        (GOOD, Reply(410), Outcome.BAD_URI),
        (GOOD, Reply(302, [("Location", "ftp://elsewhere/")]), Outcome.BAD_URI),
        (GOOD, Reply(302, [("Location", URL)]), Outcome.BAD_URI),
        (Resource("gopher://host/"), Reply(200), Outcome.BAD_URI),
        (GOOD, Reply(200, (), IMAGE + b"x"), Outcome.INTEGRITY),
        (GOOD, Reply(200, (), IMAGE[:-1]), Outcome.INTEGRITY),
        (GOOD, Reply(200, (), IMAGE[:-1] + b"x"), Outcome.INTEGRITY),
        (Resource(URL, None, {"sha1": "00"}), Reply(200, (), IMAGE), Outcome.INTEGRITY),
        (Resource(URL, None, {"nonsense": "00"}), Reply(200, (), IMAGE), Outcome.INTEGRITY),
        (Resource(URL), Reply(200, (), bytes(200_000)), Outcome.NO_SPACE),
        (Resource(URL), Reply(200, (), b"no image at all"), Outcome.UNSUPPORTED_PACKAGE),
    ],
)
def test_what_ends_an_attempt(resource: Resource, reply: Reply, outcome: Outcome) -> None:
    async def story() -> None:
        async with world() as here:
            here.server.judge = lambda asked: reply
            assert not await Download(here.poller, resource).run()
            assert here.device.engine.state is State.IDLE
            assert here.device.engine.outcome is outcome
            assert not any("secret" in line for line in here.trace)

    run_virtual(story())


@virtual
async def test_a_cancel_in_mid_download_is_not_overruled() -> None:
    async with world(bandwidth=1000.0) as here:
        here.server.judge = ranged(IMAGE)
        done: list[bool] = []

        async def story() -> None:
            done.append(await Download(here.poller, GOOD).run())

        here.poller.begin(story())
        await here.sleep(3)
        here.device.engine.cancel(Outcome.CANCELLED)
        await here.sleep(30)
        assert done == [False]
        assert here.device.engine.outcome is Outcome.CANCELLED


class Xor:
    """A package format: every byte is flipped, and one more ends it."""

    def __init__(self) -> None:
        self.fed = b""

    def feed(self, data: bytes) -> bytes:
        self.fed += data
        return bytes(byte ^ 0xFF for byte in data if byte != 0xFF or len(data) > 1)

    def finish(self) -> None:
        if not self.fed:
            raise PackageRefused(Reason.TRUNCATED, "nothing came")


PACKAGE = bytes(byte ^ 0xFF for byte in IMAGE)


@virtual
async def test_a_package_is_unpacked_on_the_way_and_resumed_within_an_uptime() -> None:
    async with world(faults=FaultPlan(cut_downloads=(5000,))) as here:
        here.server.judge = ranged(PACKAGE)
        download = Download(here.poller, Resource(URL, len(PACKAGE)), unpacker=Xor())
        assert await download.run()
        assert stored(here) == IMAGE and download.received == len(PACKAGE)


@virtual
async def test_a_package_that_is_refused_says_why() -> None:
    class Refusing(Xor):
        def finish(self) -> None:
            raise PackageRefused(Reason.WRONG_DEVICE, "for a toaster")

    async with world() as here:
        here.server.judge = ranged(PACKAGE)
        assert not await Download(here.poller, Resource(URL), unpacker=Refusing).run()
        assert here.device.engine.outcome is Outcome.WRONG_DEVICE


@virtual
async def test_a_package_that_changes_is_unpacked_anew() -> None:
    async with world(faults=FaultPlan(cut_downloads=(5000,))) as here:
        here.server.judge = at_first(
            Reply(200, [("ETag", '"1"')], b"\x00" * 9000), then=ranged(PACKAGE, '"2"')
        )
        assert await Download(here.poller, Resource(URL), unpacker=Xor).run()
        assert stored(here) == IMAGE


@virtual
async def test_check_keeps_nothing_and_fetch_keeps_what_fits() -> None:
    async with world(faults=FaultPlan(cut_downloads=(5000,))) as here:
        here.server.judge = ranged(IMAGE)
        await check(here.poller, GOOD)
        assert here.device.engine.state is State.IDLE
        assert await fetch(here.poller, GOOD, 20_000) == IMAGE
        with pytest.raises(DownloadFailed) as caught:
            await fetch(here.poller, GOOD, 1000)
        assert caught.value.outcome is Outcome.OUT_OF_MEMORY
        here.server.judge = ranged(IMAGE[:-1] + b"x")
        with pytest.raises(DownloadFailed) as caught:
            await check(here.poller, GOOD)
        assert caught.value.outcome is Outcome.INTEGRITY


@virtual
async def test_a_body_without_end_is_left() -> None:
    async with world() as here:
        here.server.judge = lambda asked: Reply(200, (), bytes(100_000), chunked=True)
        with pytest.raises(DownloadFailed) as caught:
            await check(here.poller, Resource(URL), tuning=DownloadTuning(largest=50_000))
        assert caught.value.outcome is Outcome.NO_SPACE
        assert not here.http.clients


@virtual
async def test_a_server_that_trickles_is_left() -> None:
    async with world() as here:
        here.http.bandwidth = 5.0
        here.server.judge = ranged(IMAGE)
        assert not await Download(here.poller, GOOD).run()
        assert here.device.engine.outcome is Outcome.CONNECTION_LOST


@virtual
async def test_a_slow_link_is_not_the_servers_fault() -> None:
    async with world(bandwidth=9.0) as here:
        here.server.judge = ranged(IMAGE)
        assert await Download(here.poller, GOOD).run()


@virtual
async def test_the_links_rate_is_kept() -> None:
    async with world(bandwidth=1000.0) as here:
        here.server.judge = ranged(IMAGE)
        before = here.runtime.clock.now()
        assert await Download(here.poller, GOOD).run()
        assert len(IMAGE) / 1000 <= here.runtime.clock.now() - before < len(IMAGE) / 1000 + 2


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_a_random_server_never_makes_a_wrong_image(seed: int, faults: int) -> None:
    """Cuts, weak tags, changes, whole answers to ranges, wrong places: it ends, and what is in the
    slot is what was announced, or the attempt has failed."""
    dice = random.Random(seed)
    good = ranged(IMAGE)
    left = faults

    def judge(asked: Asked) -> Reply:
        nonlocal left
        if left == 0:
            return good(asked)
        left -= 1
        reply = good(asked)
        trick = dice.randrange(9)
        if trick == 0:
            reply.sent = dice.randrange(len(reply.body) + 1)
        elif trick == 1:
            return Reply(200, [("ETag", 'W/"weak"')], IMAGE, dice.randrange(len(IMAGE)))
        elif trick == 2:
            return Reply(200, (), IMAGE, dice.randrange(len(IMAGE)))
        elif trick == 3:
            return Reply(dice.choice([500, 503, 429, 408]))
        elif trick == 4:
            return Reply(416, [("Content-Range", f"bytes */{dice.randrange(20000)}")])
        elif trick == 5:
            start = dice.randrange(len(IMAGE))
            place = f"bytes {start}-{len(IMAGE) - 1}/{len(IMAGE)}"
            return Reply(206, [("Content-Range", place), ("ETag", '"1"')], IMAGE[start:])
        elif trick == 6:
            other = dice.randbytes(dice.randrange(1, 20000))
            return ranged(other, dice.choice(['"9"', 'W/"9"', ""]))(asked)
        elif trick == 7:
            return Reply(206, [("Content-Range", "bytes nonsense")], b"nonsense")
        else:
            reply.delay = 1000.0
        return reply

    async def story() -> None:
        async with world(seed=seed) as here:
            here.server.judge = judge
            resource = dice.choice([GOOD, Resource(URL), Resource(URL, len(IMAGE))])
            ended = await Download(here.poller, resource).run()
            engine = here.device.engine
            if ended:
                assert engine.state is State.DOWNLOADED and stored(here) == IMAGE
            else:
                assert engine.state is State.IDLE and engine.outcome is not None

    run_virtual(story())
