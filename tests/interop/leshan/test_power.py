"""The power goes in mid-download: a pull goes on where it was, a push is lost and said to be so."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from agent import FaultPlan, Runtime
from protocols.coap import decode_datagram
from tests.interop.images import VERSION, signed
from tests.interop.leshan.fleet import package_server, running_fleet
from tests.interop.leshan.server import Leshan
from tests.interop.our_server import OurServer
from tests.interop.relay import Relay, relayed

IMAGE = signed(payload=bytes(range(256)) * 400)
CHECKPOINT = 64 * 1024  # a download's progress is kept so often (agent/update.py)
CUT_AFTER = 80 * 1024
OUTAGE_SECONDS = 0.3
# A flash operation in the middle of the image: each page of 1 KiB is at least one.
CUT_AT_OPERATION = 60
NAME = "powerless"


def after_bytes(limit: int, call: Callable[[], None]) -> Iterator[int]:
    """A perfect link that calls once when it has carried so many of the package's blocks."""
    for _ in range(limit // 1024):
        yield 1
    call()
    while True:
        yield 1


def asked_for(relay: Relay) -> list[int]:
    """Where in the package each block began that was asked for, in order."""
    starts = []
    for way, data in relay.datagrams:
        _, _, message = decode_datagram(data)
        if way == "up" and message.options.block2 is not None:
            starts.append(message.options.block2.offset)
    return starts


@contextlib.asynccontextmanager
async def naming_server(runtime: Runtime) -> AsyncIterator[str]:
    """A package server that gives one package one ETag, whoever asks."""
    server = OurServer(runtime)
    server.bodies["image",] = IMAGE
    try:
        yield f"coap://127.0.0.1:{server.port}"
    finally:
        server.close()


@pytest.mark.parametrize("resumes", [True, False])
async def test_a_pull_survives_and_goes_on_where_it_may(leshan: Leshan, resumes: bool) -> None:
    """libcoap names no ETag to a client that begins in the middle, so nobody can tell whether it is
    still the same package: then the device begins again, as RFC 7959 section 2.4 would have it."""
    async with running_fleet(leshan) as fleet:
        device = fleet.add(NAME)
        await fleet.registered()
        down = after_bytes(CUT_AFTER, lambda: device.cut_power(back_after=OUTAGE_SECONDS))
        packages = (
            naming_server(fleet.runtime)
            if resumes
            else package_server(fleet.runtime, {"image": IMAGE})
        )
        async with packages as uri:
            port = int(uri.rpartition(":")[2])
            async with relayed(("127.0.0.1", port), down=down) as relay:
                target = f"coap://127.0.0.1:{relay.port}/image"
                await fleet.api.write_value(NAME, "/5/0/1", "string", target)
                await fleet.registered(times=2)
                # The observation died with the power; this one sees the download end.
                answer = await fleet.api.observe(NAME, "/5/0/3")
                if answer["content"]["value"] != "2":
                    await fleet.notified({NAME: "2"}, "/5/0/3")
                starts = asked_for(relay)
        again = starts.index(CHECKPOINT, starts.index(CHECKPOINT) + 1)
        # The last of these was answered to a device without power.
        assert starts[:again] == list(range(0, CUT_AFTER + 1024, 1024))
        first = CHECKPOINT if resumes else 0
        if not resumes:
            again += 1
        assert starts[again:] == list(range(first, len(IMAGE), 1024))
        assert (await fleet.api.execute(NAME, "/5/0/2"))["success"]
        await fleet.registered(times=3)
        assert await fleet.firmware(NAME) == ("0", "1")
        assert await fleet.api.value(NAME, "/3/0/3") == VERSION


async def test_a_push_is_lost_and_the_next_one_is_taken(leshan: Leshan) -> None:
    faults = FaultPlan(cut_power_at=CUT_AT_OPERATION, outage_seconds=OUTAGE_SECONDS)
    async with running_fleet(leshan) as fleet:
        device = fleet.add(NAME, faults=faults)
        await fleet.registered()
        push = {"body": {"id": 0, "kind": "singleResource", "type": "opaque", "value": IMAGE.hex()}}
        path = f"clients/{NAME}/5/0/0"
        answer = await fleet.api.call("PUT", path, timeout=30, format="OPAQUE", **push)
        # Leshan gives up a request when its device registers anew.
        assert (answer.status_code, "canceled" in answer.text) == (500, True), answer.text
        await fleet.registered(times=2)
        assert device.boots == 2
        assert await fleet.firmware(NAME) == ("0", "4")
        answer = await fleet.api.call("PUT", path, timeout=30, format="OPAQUE", **push)
        assert answer.json()["status"] == "CHANGED(204)"
        assert (await fleet.api.execute(NAME, "/5/0/2"))["success"]
        await fleet.registered(times=3)
        assert await fleet.firmware(NAME) == ("0", "1")
        assert await fleet.api.value(NAME, "/3/0/3") == VERSION
