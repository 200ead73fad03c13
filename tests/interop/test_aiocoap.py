"""Our endpoint against aiocoap, in both roles, over a good link and over a bad one."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiocoap
import aiocoap.numbers.constants
import aiocoap.resource
import pytest

from agent.runtime.runtime import Runtime
from protocols.coap import (
    DEFAULT_TUNING,
    CoapEndpoint,
    Code,
    Message,
    Peer,
    RequestFailed,
    make_options,
)
from tests.interop.our_server import LARGE_BODY, OurServer
from tests.interop.relay import fates, relayed
from tools.bench.ports import free_port

# Lost datagrams are repeated soon: these tests wait for real time.
QUICK = dataclasses.replace(DEFAULT_TUNING, ack_timeout=0.1, empty_ack_after=0.05)
SIZES = range(7)
BODY = bytes(range(256)) * 20 + b"the end"
# A test that hangs is a failure; the longest takes a second or two.
PATIENCE = 120.0


class QuickTuning(aiocoap.numbers.constants.TransportTuning):
    ACK_TIMEOUT = 0.1


class Stored(aiocoap.resource.ObservableResource):
    """GET and PUT; POST echoes."""

    def __init__(self, body: bytes = b"") -> None:
        super().__init__()
        self.body = body
        self.puts = 0
        self.posts = 0

    @property
    def observers(self) -> int:
        return len(self._observations)

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=self.body)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        self.puts += 1
        self.body = request.payload
        self.updated_state()
        return aiocoap.Message(code=aiocoap.CHANGED)

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.posts += 1
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload)


class Slow(aiocoap.resource.Resource):
    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        # Longer than aiocoap waits before its empty ACK (0.1 s), so the response is separate.
        await asyncio.sleep(0.3)
        return aiocoap.Message(payload=b"slow")


@dataclasses.dataclass
class TheirServer:
    port: int
    stored: Stored


@pytest.fixture
async def theirs() -> AsyncIterator[TheirServer]:
    stored = Stored()
    port = free_port(socket.SOCK_DGRAM)
    site = aiocoap.resource.Site()
    site.add_resource(["stored"], stored)
    site.add_resource(["slow"], Slow())
    context = await aiocoap.Context.create_server_context(
        site, bind=("127.0.0.1", port), transports=["udp6"]
    )
    yield TheirServer(port, stored)
    await context.shutdown()


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime.real(seed=1) as runtime:
        yield runtime


@pytest.fixture
async def ours(runtime: Runtime) -> AsyncIterator[CoapEndpoint]:
    endpoint = CoapEndpoint(runtime, tuning=QUICK)
    yield endpoint
    endpoint.close()


@asynccontextmanager
async def their_client() -> AsyncIterator[aiocoap.Context]:
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    try:
        yield context
    finally:
        await context.shutdown()


@asynccontextmanager
async def our_server(runtime: Runtime, szx: int = 6) -> AsyncIterator[OurServer]:
    server = OurServer(runtime, szx=szx, tuning=QUICK)
    try:
        yield server
    finally:
        server.close()


def to(path: str) -> Message:
    return Message(Code.GET, options=make_options(path=[path]))


def put(path: str) -> Message:
    return Message(Code.PUT, options=make_options(path=[path]))


async def streamed(endpoint: CoapEndpoint, peer: Peer, path: str, szx: int) -> tuple[bytes, int]:
    """GET with the block size in the first request; the body and its announced size."""
    parts: list[bytes] = []
    done: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def settle(result: Message | RequestFailed) -> None:
        if isinstance(result, RequestFailed):
            done.set_exception(result)
        else:
            done.set_result(result)

    def take(offset: int, data: bytes, total: int | None, etag: bytes) -> bool:
        assert offset == sum(map(len, parts))
        parts.append(data)
        return True

    transfer = endpoint.transfer(peer, to(path), settle, szx=szx, on_block=take)
    result = await done
    assert result.code == Code.CONTENT
    return b"".join(parts), transfer.total or 0


# -- our client, their server -------------------------------------------------------------------


async def test_get_put_and_post(ours: CoapEndpoint, theirs: TheirServer) -> None:
    peer = ours.peer("127.0.0.1", theirs.port)
    answer = await ours.ask(peer, put("stored"), body=b"small")
    assert answer.code == Code.CHANGED
    answer = await ours.ask(peer, to("stored"))
    assert (answer.code, answer.payload) == (Code.CONTENT, b"small")
    post = Message(Code.POST, options=make_options(path=["stored"]))
    answer = await ours.ask(peer, post, body=b"there and back")
    assert (answer.code, answer.payload) == (Code.CHANGED, b"there and back")
    assert (await ours.ask(peer, to("nowhere"))).code == Code.NOT_FOUND


async def test_a_separate_response(ours: CoapEndpoint, theirs: TheirServer) -> None:
    answer = await ours.ask(ours.peer("127.0.0.1", theirs.port), to("slow"))
    assert answer.payload == b"slow"


@pytest.mark.parametrize("szx", SIZES)
async def test_a_large_body_goes_up_and_comes_down(
    ours: CoapEndpoint, theirs: TheirServer, szx: int
) -> None:
    peer = ours.peer("127.0.0.1", theirs.port)
    answer = await ours.ask(peer, put("stored"), body=BODY, szx=szx)
    assert answer.code == Code.CHANGED
    assert (theirs.stored.body, theirs.stored.puts) == (BODY, 1)
    # The size in the first request (early negotiation), then only from the second block on.
    body, _ = await streamed(ours, peer, "stored", szx)
    assert body == BODY
    assert (await ours.ask(peer, to("stored"), szx=szx)).payload == BODY


@pytest.mark.parametrize("szx", [0, 6])
async def test_both_directions_in_one_request(
    ours: CoapEndpoint, theirs: TheirServer, szx: int
) -> None:
    peer = ours.peer("127.0.0.1", theirs.port)
    post = Message(Code.POST, options=make_options(path=["stored"]))
    assert (await ours.ask(peer, post, body=BODY, szx=szx)).payload == BODY
    assert theirs.stored.posts == 1


async def test_we_observe(ours: CoapEndpoint, theirs: TheirServer) -> None:
    theirs.stored.body = b"0"
    seen: asyncio.Queue[Message | RequestFailed] = asyncio.Queue()
    peer = ours.peer("127.0.0.1", theirs.port)
    handle = ours.observe(peer, to("stored"), seen.put_nowait)
    async with asyncio.timeout(PATIENCE):
        for number in range(4):
            notification = await seen.get()
            assert isinstance(notification, Message)
            assert notification.payload == b"%d" % number
            assert notification.options.observe is not None
            theirs.stored.body = b"%d" % (number + 1)
            theirs.stored.updated_state()
        await seen.get()
        assert theirs.stored.observers == 1
        # Forgotten here, the next notification is reset, which ends it there.
        handle.cancel()
        theirs.stored.updated_state()
        while theirs.stored.observers:
            await ours.ask(peer, to("stored"))
    assert seen.empty()


@pytest.mark.parametrize("seed", range(3))
async def test_our_client_on_a_bad_link(ours: CoapEndpoint, theirs: TheirServer, seed: int) -> None:
    up = fates(seed, loss=0.15, duplication=0.25)
    down = fates(seed + 100, loss=0.15, duplication=0.25)
    async with (
        asyncio.timeout(PATIENCE),
        relayed(("127.0.0.1", theirs.port), up=up, down=down) as relay,
    ):
        peer = ours.peer("127.0.0.1", relay.port)
        answer = await ours.ask(peer, put("stored"), body=BODY, szx=4)
        assert answer.code == Code.CHANGED
        assert (theirs.stored.body, theirs.stored.puts) == (BODY, 1)
        assert (await ours.ask(peer, to("stored"), szx=4)).payload == BODY
        assert relay.lost and relay.duplicated


# -- their client, our server -------------------------------------------------------------------


def asked(code: aiocoap.numbers.codes.Code, uri: str, payload: bytes = b"") -> aiocoap.Message:
    return aiocoap.Message(code=code, uri=uri, payload=payload, transport_tuning=QuickTuning())


async def test_they_get_put_post_and_delete(runtime: Runtime) -> None:
    async with our_server(runtime) as server, their_client() as client:
        answer = await client.request(asked(aiocoap.PUT, server.uri("new"), b"small")).response
        assert answer.code == aiocoap.CREATED
        answer = await client.request(asked(aiocoap.GET, server.uri("new"))).response
        assert (answer.code, answer.payload) == (aiocoap.CONTENT, b"small")
        answer = await client.request(asked(aiocoap.POST, server.uri("echo"), b"x")).response
        assert (answer.code, answer.payload) == (aiocoap.CHANGED, b"x")
        answer = await client.request(asked(aiocoap.DELETE, server.uri("new"))).response
        assert answer.code == aiocoap.DELETED
        answer = await client.request(asked(aiocoap.GET, server.uri("new"))).response
        assert answer.code == aiocoap.NOT_FOUND


async def test_they_understand_our_separate_response(runtime: Runtime) -> None:
    async with our_server(runtime) as server, their_client() as client:
        answer = await client.request(asked(aiocoap.GET, server.uri("slow"))).response
        assert answer.payload == b"slow"


@pytest.mark.parametrize("szx", SIZES)
async def test_their_large_bodies_at_the_size_we_dictate(runtime: Runtime, szx: int) -> None:
    async with our_server(runtime, szx) as server, their_client() as client:
        answer = await client.request(asked(aiocoap.PUT, server.uri("body"), BODY)).response
        assert answer.code == aiocoap.CREATED
        assert server.bodies[("body",)] == BODY
        answer = await client.request(asked(aiocoap.GET, server.uri("body"))).response
        assert answer.payload == BODY
        # The first block of 1024 is taken whole, the rest comes in the smaller size.
        blocks = server.codes.count(Code.PUT)
        rest = -(-(len(BODY) - 1024) // (16 << szx))
        assert blocks == 1 + rest


async def test_their_large_body_both_ways_in_one_request(runtime: Runtime) -> None:
    async with our_server(runtime, 3) as server, their_client() as client:
        answer = await client.request(asked(aiocoap.POST, server.uri("echo"), BODY)).response
        assert answer.payload == BODY


async def test_too_large_a_body_is_refused_at_once(runtime: Runtime) -> None:
    async with our_server(runtime) as server, their_client() as client:
        large = bytes(100_000)
        answer = await client.request(asked(aiocoap.PUT, server.uri("body"), large)).response
        assert answer.code == aiocoap.REQUEST_ENTITY_TOO_LARGE
        assert server.codes.count(Code.PUT) == 1


async def test_they_observe(runtime: Runtime) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        our_server(runtime) as server,
        their_client() as client,
    ):
        message = asked(aiocoap.GET, server.uri("state"))
        message.opt.observe = 0
        request = client.request(message)
        assert (await request.response).payload == b"initial"
        notifications = aiter(request.observation)
        for number in range(4):
            server.bodies[("state",)] = b"%d" % number
            server.publish()
            assert (await anext(notifications)).payload == b"%d" % number
        assert len(server.observers) == 1
        request.observation.cancel()
        # aiocoap forgets; the next notification that it reads then draws a reset.
        while server.observers:
            server.publish()
            await client.request(asked(aiocoap.GET, server.uri("large"))).response
        assert server.ended == 1


@pytest.mark.parametrize("seed", range(3))
async def test_their_client_on_a_bad_link(runtime: Runtime, seed: int) -> None:
    up = fates(seed + 200, loss=0.15, duplication=0.25)
    down = fates(seed + 300, loss=0.15, duplication=0.25)
    async with (
        asyncio.timeout(PATIENCE),
        our_server(runtime, 4) as server,
        relayed(("127.0.0.1", server.port), up=up, down=down) as relay,
        their_client() as client,
    ):
        base = f"coap://127.0.0.1:{relay.port}"
        answer = await client.request(asked(aiocoap.PUT, f"{base}/body", BODY)).response
        assert answer.code == aiocoap.CREATED
        answer = await client.request(asked(aiocoap.GET, f"{base}/large")).response
        assert answer.payload == LARGE_BODY
        for number in range(1, 11):
            answer = await client.request(asked(aiocoap.POST, f"{base}/count")).response
            # A repeated POST must not act twice, or the numbers would run ahead.
            assert answer.payload == b"%d" % number
        assert relay.lost and relay.duplicated
