"""The endpoint on a network: in memory under virtual time, and once on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from agent.runtime.clock import run_virtual
from agent.runtime.network import BindError
from agent.runtime.runtime import Runtime
from protocols.coap import (
    DEFAULT_TUNING,
    CoapEndpoint,
    Code,
    EndpointClosed,
    Message,
    RequestTimeout,
    TransportTuning,
    make_options,
    parse_uri,
    response,
)
from tests.protocols.coap.wire import get

BODY = bytes(range(251)) * 20


def image(peer: object, request: Message, exchange: object) -> Message:
    if request.code == Code.GET:
        return response(Code.CONTENT, payload=BODY)
    return response(Code.CHANGED, make_options(block1=request.options.block1))


def in_virtual_time(story: Any, **how: Any) -> Any:
    """Run ``story(runtime, client, server)`` with two endpoints joined in memory."""

    async def main() -> Any:
        async with Runtime.in_memory(**how) as runtime:
            server = CoapEndpoint(
                runtime, bind=("10.0.0.1", 5683), handler=image, random=runtime.random(1, 0)
            )
            client = CoapEndpoint(runtime, bind=("10.0.0.2", 0), random=runtime.random(1, 1))
            result = await story(runtime, client, server)
            client.close()
            server.close()
            return result

    coroutine: Coroutine[Any, Any, Any] = main()
    return run_virtual(coroutine)


def test_a_coroutine_asks_and_gets_the_whole_response() -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> bytes:
        message = await client.ask(client.peer(*server.local), get("image"), szx=3)
        return message.payload

    assert in_virtual_time(story) == BODY


@pytest.mark.parametrize("seed", range(5))
def test_loss_and_duplication_only_cost_time(seed: int) -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> tuple:
        message = await client.fetch(parse_uri("coap://10.0.0.1/image"))
        counters = runtime.metrics.counters
        return message.payload == BODY, counters["retransmissions"] > 0, runtime.clock.now()

    how = {"loss": 0.2, "duplication": 0.2, "seed": seed}
    whole, repeated, seconds = in_virtual_time(story, **how)
    assert whole
    # The same seed takes the same time, to the last bit.
    assert in_virtual_time(story, **how) == (whole, repeated, seconds)


def test_silence_raises_a_timeout() -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> float:
        with pytest.raises(RequestTimeout, match="coap://10.9.9.9:5683"):
            await client.ask(client.peer("10.9.9.9", 5683), get())
        return runtime.clock.now()

    assert 62 <= in_virtual_time(story) <= 94


def test_a_cancelled_coroutine_stops_its_request() -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await client.ask(client.peer("10.9.9.9", 5683), get())
        sent = runtime.metrics.counters["datagrams_out"]
        await runtime.clock.sleep(200)
        assert not client._requests._waiting
        return runtime.metrics.counters["datagrams_out"] - sent

    assert in_virtual_time(story) == 0


def test_closing_fails_what_is_under_way_and_abandoning_says_nothing() -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> None:
        asking = asyncio.ensure_future(client.ask(client.peer("10.9.9.9", 1), get()))
        await runtime.clock.sleep(1)
        client.close()
        with pytest.raises(EndpointClosed):
            await asking
        told: list[object] = []
        silent = CoapEndpoint(runtime, bind=("10.0.0.3", 0))
        silent.request(silent.peer("10.9.9.9", 1), get(), told.append)
        silent.abandon()
        sent = runtime.metrics.counters["datagrams_out"]
        await runtime.clock.sleep(200)
        assert not told and runtime.metrics.counters["datagrams_out"] == sent

    in_virtual_time(story)


def test_an_answer_that_was_promised_before_the_power_went_never_leaves() -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> None:
        exchanges: list[Any] = []

        def slow(peer: object, request: Message, exchange: object) -> None:
            exchanges.append(exchange)

        device = CoapEndpoint(runtime, bind=("10.0.0.4", 5683), handler=slow)
        told: list[object] = []
        client.request(client.peer(*device.local), get(), told.append, timeout=10)
        await runtime.clock.sleep(0.1)
        device.abandon()
        exchanges[0].respond(response(Code.CONTENT))
        await runtime.clock.sleep(60)
        assert [type(result) for result in told] == [RequestTimeout]

    in_virtual_time(story)


def test_pings_find_out_who_is_there() -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> list[bool]:
        told: list[bool] = []
        client.ping(client.peer(*server.local), told.append)
        client.ping(client.peer("10.9.9.9", 1), told.append)
        await runtime.clock.sleep(200)
        return told

    assert in_virtual_time(story) == [True, False]


def test_the_trace_shows_both_directions() -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> list[str]:
        lines: list[str] = []
        server.trace = lambda way, address, mtype, mid, message: lines.append(f"{way} {message!r}")
        assert server.trace is not None
        await client.ask(client.peer(*server.local), Message(Code.PUT, payload=b"x"))
        return [line.split()[0] + line.split("<")[-1].split()[0] for line in lines]

    assert in_virtual_time(story) == ["<PUT", ">2.04"]


def test_an_address_in_use_is_named() -> None:
    async def story(runtime: Runtime, client: CoapEndpoint, server: CoapEndpoint) -> None:
        with pytest.raises(BindError, match="10.0.0.1:5683"):
            CoapEndpoint(runtime, bind=server.local)

    in_virtual_time(story)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_two_endpoints_on_real_sockets(host: str) -> None:
    tuning: TransportTuning = replace(DEFAULT_TUNING, burst=4, socket_buffer=1 << 16)
    async with Runtime.real() as runtime:
        try:
            server = CoapEndpoint(runtime, bind=(host, 0), handler=image, tuning=tuning)
        except BindError:
            if host != "::1":
                raise
            pytest.skip("this system has no IPv6 loopback")
        client = CoapEndpoint(runtime, bind=(host, 0), random=runtime.random(0, 1))
        peer = client.peer(*server.local)
        assert (await client.ask(peer, get("image"))).payload == BODY
        result = await client.ask(peer, Message(Code.PUT, payload=b"x"))
        assert result.code == Code.CHANGED
        counters = runtime.metrics.counters
        assert counters["datagrams_in"] == counters["datagrams_out"] == 12
        client.close()
        server.close()
