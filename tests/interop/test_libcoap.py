"""Our endpoint against libcoap's example server and client, over a good link and over a bad one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.runtime.runtime import Runtime
from protocols.coap import (
    DEFAULT_TUNING,
    CoapEndpoint,
    Code,
    Message,
    RequestFailed,
    make_options,
)
from tests.interop.libcoap import coap_client, coap_server
from tests.interop.our_server import LARGE_BODY, OurServer
from tests.interop.relay import fates, listed, relayed

QUICK = dataclasses.replace(DEFAULT_TUNING, ack_timeout=0.1, empty_ack_after=0.05)
SIZES = range(7)
BODY = b"".join(b"%07d;" % number for number in range(600)) + b"the end"
PATIENCE = 120.0


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime.real(seed=1) as runtime:
        yield runtime


@pytest.fixture
async def ours(runtime: Runtime) -> AsyncIterator[CoapEndpoint]:
    endpoint = CoapEndpoint(runtime, tuning=QUICK)
    yield endpoint
    endpoint.close()


@pytest.fixture
async def their_port(ours: CoapEndpoint) -> AsyncIterator[int]:
    async with coap_server(ours) as port:
        yield port


def of(code: int, path: str) -> Message:
    return Message(code, options=make_options(path=[path]))


@contextlib.asynccontextmanager
async def our_server(runtime: Runtime, szx: int = 6) -> AsyncIterator[OurServer]:
    server = OurServer(runtime, szx=szx, tuning=QUICK)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def body_file(tmp_path: Path) -> Path:
    path = tmp_path / "body"
    path.write_bytes(BODY)
    return path


# -- our client, their server -------------------------------------------------------------------


async def test_put_get_post_and_delete(ours: CoapEndpoint, their_port: int) -> None:
    peer = ours.peer("127.0.0.1", their_port)
    assert (await ours.ask(peer, of(Code.PUT, "new"), body=b"small")).code == Code.CREATED
    assert (await ours.ask(peer, of(Code.GET, "new"))).payload == b"small"
    assert (await ours.ask(peer, of(Code.PUT, "new"), body=b"other")).code == Code.CHANGED
    assert (await ours.ask(peer, of(Code.GET, "new"))).payload == b"other"
    assert (await ours.ask(peer, of(Code.POST, "new"), body=b"posted")).code == Code.CHANGED
    assert (await ours.ask(peer, of(Code.GET, "new"))).payload == b"posted"
    # Its built-in resources take no POST.
    answer = await ours.ask(peer, of(Code.POST, "time"), body=b"x")
    assert answer.code == Code.METHOD_NOT_ALLOWED
    assert (await ours.ask(peer, of(Code.DELETE, "new"))).code == Code.DELETED
    assert (await ours.ask(peer, of(Code.GET, "new"))).code == Code.NOT_FOUND


async def test_a_separate_response(ours: CoapEndpoint, their_port: int) -> None:
    message = Message(Code.GET, options=make_options(path=["async"], queries=["1"]))
    answer = await ours.ask(ours.peer("127.0.0.1", their_port), message)
    assert (answer.code, answer.payload) == (Code.CONTENT, b"done")


async def test_every_block_size_up_and_down(ours: CoapEndpoint, their_port: int) -> None:
    peer = ours.peer("127.0.0.1", their_port)
    for szx in SIZES:
        answer = await ours.ask(peer, of(Code.PUT, f"body{szx}"), body=BODY, szx=szx)
        assert answer.code == Code.CREATED
        parts: list[bytes] = []
        done: asyncio.Future[Message | RequestFailed] = asyncio.get_running_loop().create_future()

        def take(
            offset: int, data: bytes, total: int | None, etag: bytes, parts: list[bytes] = parts
        ) -> bool:
            parts.append(data)
            return True

        message = of(Code.GET, f"body{szx}")
        ours.transfer(peer, message, done.set_result, szx=szx, on_block=take)
        result = await done
        assert isinstance(result, Message), (szx, result)
        assert b"".join(parts) == BODY
        assert max(map(len, parts)) == 16 << szx
        # The same without saying the size before the second block.
        assert (await ours.ask(peer, message, szx=szx)).payload == BODY


async def test_a_download_is_resumed_in_the_middle(ours: CoapEndpoint, their_port: int) -> None:
    peer = ours.peer("127.0.0.1", their_port)
    await ours.ask(peer, of(Code.PUT, "image"), body=BODY)
    whole = await ours.ask(peer, of(Code.GET, "image"), szx=4)
    parts: dict[int, bytes] = {}
    done: asyncio.Future[Message | RequestFailed] = asyncio.get_running_loop().create_future()

    def take(offset: int, data: bytes, total: int | None, etag: bytes) -> bool:
        parts[offset] = data
        return True

    ours.transfer(
        peer,
        of(Code.GET, "image"),
        done.set_result,
        szx=4,
        on_block=take,
        offset=1000,
        etag=whole.options.etag,
    )
    assert isinstance(await done, Message)
    assert b"".join(parts[offset] for offset in sorted(parts)) == BODY[1000:]
    assert min(parts) == 1000


async def test_we_observe(ours: CoapEndpoint, their_port: int) -> None:
    peer = ours.peer("127.0.0.1", their_port)
    await ours.ask(peer, of(Code.PUT, "state"), body=b"0")
    seen: asyncio.Queue[Message | RequestFailed] = asyncio.Queue()
    async with asyncio.timeout(PATIENCE):
        handle = ours.observe(peer, of(Code.GET, "state"), seen.put_nowait)
        for number in range(4):
            notification = await seen.get()
            assert isinstance(notification, Message)
            assert notification.payload == b"%d" % number
            await ours.ask(peer, of(Code.PUT, "state"), body=b"%d" % (number + 1))
        await seen.get()
        handle.cancel()
        # Both changes draw a notification to a token that we no longer know.
        for body in (b"later", b"latest"):
            await ours.ask(peer, of(Code.PUT, "state"), body=body)
    assert seen.empty()


async def test_our_client_on_a_bad_link(ours: CoapEndpoint, their_port: int) -> None:
    up = fates(1, loss=0.15, duplication=0.25)
    down = fates(2, loss=0.15, duplication=0.25)
    async with (
        asyncio.timeout(PATIENCE),
        relayed(("127.0.0.1", their_port), up=up, down=down) as relay,
    ):
        peer = ours.peer("127.0.0.1", relay.port)
        answer = await ours.ask(peer, of(Code.PUT, "body"), body=BODY, szx=5)
        assert answer.code in (Code.CREATED, Code.CHANGED)
        assert (await ours.ask(peer, of(Code.GET, "body"), szx=5)).payload == BODY
        assert relay.lost and relay.duplicated


# -- their client, our server -------------------------------------------------------------------


async def test_they_get_put_post_and_delete(runtime: Runtime) -> None:
    async with our_server(runtime) as server:
        await coap_client("-m", "put", "-e", "small", server.uri("new"))
        assert server.bodies[("new",)] == b"small"
        assert b"small" in await coap_client("-m", "get", server.uri("new"))
        assert b"there and back" in await coap_client(
            "-m", "post", "-e", "there and back", server.uri("echo")
        )
        await coap_client("-m", "delete", server.uri("new"))
        assert b"4.04" in await coap_client("-m", "get", server.uri("new"))
        # Non-confirmable requests get non-confirmable answers.
        assert b"once" in await coap_client("-N", "-m", "post", "-e", "once", server.uri("echo"))


async def test_they_understand_our_separate_response(runtime: Runtime) -> None:
    async with our_server(runtime) as server:
        assert b"slow" in await coap_client("-m", "get", server.uri("slow"))


@pytest.mark.parametrize("szx", SIZES)
async def test_their_large_bodies_at_the_size_they_choose(
    runtime: Runtime, body_file: Path, tmp_path: Path, szx: int
) -> None:
    size, out = str(16 << szx), str(tmp_path / "out")
    async with our_server(runtime) as server:
        await coap_client("-m", "put", "-b", size, "-f", str(body_file), server.uri("body"))
        assert server.bodies[("body",)] == BODY
        assert server.codes.count(Code.PUT) == -(-len(BODY) // (16 << szx))
        await coap_client("-m", "get", "-b", size, "-o", out, server.uri("large"))
        assert Path(out).read_bytes() == LARGE_BODY


@pytest.mark.parametrize("szx", [0, 3])
async def test_their_large_bodies_at_the_size_we_dictate(
    runtime: Runtime, body_file: Path, tmp_path: Path, szx: int
) -> None:
    out = str(tmp_path / "out")
    async with our_server(runtime, szx) as server:
        await coap_client("-m", "put", "-f", str(body_file), server.uri("body"))
        assert server.bodies[("body",)] == BODY
        await coap_client("-m", "get", "-o", out, server.uri("large"))
        assert Path(out).read_bytes() == LARGE_BODY


async def test_they_observe(runtime: Runtime) -> None:
    async with asyncio.timeout(PATIENCE), our_server(runtime) as server:
        process = await asyncio.create_subprocess_exec(
            *("coap-client-notls", "-v", "3", "-w", "-s", "3", "-m", "get", server.uri("state")),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"initial\n"
        for number in range(3):
            server.bodies[("state",)] = b"state %d" % number
            server.publish()
            assert await process.stdout.readline() == b"state %d\n" % number
        # After its three seconds it deregisters by a GET with Observe 1, and prints that answer.
        await process.communicate()
        assert not server.observers


async def test_their_client_on_a_bad_link(
    runtime: Runtime, body_file: Path, tmp_path: Path
) -> None:
    """libcoap repeats after two to three seconds, so few datagrams are lost and many doubled."""
    out = str(tmp_path / "out")
    async with asyncio.timeout(PATIENCE), our_server(runtime) as server:
        up, down = listed([2, 1, 0, 2, 2, 1]), listed([2, 2, 1, 0, 1, 2])
        async with relayed(("127.0.0.1", server.port), up=up, down=down) as relay:
            base = f"coap://127.0.0.1:{relay.port}"
            await coap_client("-m", "put", "-f", str(body_file), f"{base}/body")
            assert server.bodies[("body",)] == BODY
            assert (relay.lost, relay.duplicated) == (2, 6)
            await coap_client("-m", "get", "-o", out, f"{base}/large")
            assert Path(out).read_bytes() == LARGE_BODY
        # The answer to a POST is lost: its repetition gets the same answer, and acts only once.
        async with relayed(("127.0.0.1", server.port), down=listed([0])) as relay:
            uri = f"coap://127.0.0.1:{relay.port}/count"
            assert b"1" in await coap_client("-m", "post", "-e", "x", uri)
            assert (server.count, relay.lost) == (1, 1)
            assert len([way for way, _ in relay.datagrams if way == "up"]) >= 2
