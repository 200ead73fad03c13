"""Leshan's client as a foreign device of our backend: registered, read, observed, updated."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

import pytest

from agent.runtime.network import Address
from agent.runtime.runtime import Runtime
from protocols.coap import Code, Message, RequestFailed, make_options
from tests.interop.leshan.server import Json, build, running_client
from tools.backend.backend import Backend, BackendConfig

NAME = "foreign"
# The foreign client's own package format: a version, then anything.
PACKAGE = b"firmware 7.1.0\n" + bytes(range(256)) * 400
PATIENCE = 120.0


@pytest.fixture
async def backend(peers: None) -> AsyncIterator[Backend]:
    await asyncio.to_thread(build)
    async with Runtime.real(seed=3) as runtime:
        backend = Backend(runtime, BackendConfig(timing="immediate", pilot_waived=True))
        await backend.start()
        yield backend
        await backend.stop()


async def until(reached: Callable[[], bool]) -> None:
    """The backend tells of registrations to its campaigns only, so this looks again and again."""
    async with asyncio.timeout(PATIENCE):
        while not reached():
            await asyncio.sleep(0.05)


async def line(client: Json, event: str) -> Json:
    return await asyncio.to_thread(client.line, lambda line: line["event"] == event)


async def test_it_registers_and_is_updated_by_a_campaign(backend: Backend) -> None:
    host, port = backend.coap_address
    with running_client(f"coap://{host}:{port}", NAME, "--firmware", "true") as client:
        await line(client, "registered")
        await until(lambda: NAME in backend.lwm2m.identities())
        # Read at its registration.
        await until(lambda: getattr(backend.seen(NAME), "version", "") == "1.0.0")
        package = await backend.add_package(PACKAGE, name="foreign-7", version="7.1.0")
        await backend.create_campaign([NAME], package)
        arrived = await line(client, "package")
        assert arrived["detail"] == hashlib.sha256(PACKAGE).hexdigest()
        async with asyncio.timeout(PATIENCE):
            await backend.finished.wait()
        belief = backend.belief(NAME)
        assert (belief.verdict, belief.version) == ("updated", "7.1.0"), belief
        # It was told so by the device: the State and Result that were observed, the version read.
        said = backend.seen(NAME)
        assert said is not None
        assert (said.state, said.result, said.version) == ("0", "1", "7.1.0")


async def test_a_package_that_it_refuses_is_a_failed_update(backend: Backend) -> None:
    host, port = backend.coap_address
    with running_client(f"coap://{host}:{port}", NAME, "--firmware", "true") as client:
        await line(client, "registered")
        package = await backend.add_package(b"something else", name="odd", version="8.0.0")
        await backend.create_campaign([NAME], package)
        async with asyncio.timeout(PATIENCE):
            await backend.finished.wait()
        belief = backend.belief(NAME)
        assert belief.verdict == "failed", belief
        assert backend.seen(NAME) is not None


async def test_it_leaves_and_is_forgotten(backend: Backend) -> None:
    host, port = backend.coap_address
    endpoint = backend.lwm2m.endpoint
    addresses: list[Address] = []
    endpoint.trace = lambda way, address, *_: addresses.append(address)
    with running_client(f"coap://{host}:{port}", NAME) as client:
        await line(client, "registered")
        await until(lambda: NAME in backend.lwm2m.identities())
        endpoint.trace = None
        peer = endpoint.peer(*addresses[0])
        # Its values and its clock, as our server's side of CoAP sees them.
        seen: asyncio.Queue[Message | RequestFailed] = asyncio.Queue()
        read = Message(Code.GET, options=make_options(path=(3, 0, 0), accept=0))
        answer = await endpoint.ask(peer, read)
        assert (answer.code, answer.payload) == (Code.CONTENT, b"Leshan")
        clock = Message(Code.GET, options=make_options(path=(3, 0, 13), accept=112))
        handle = endpoint.observe(peer, clock, seen.put_nowait)
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                notification = await seen.get()
                assert isinstance(notification, Message)
                assert notification.options.content_format == 112
        handle.cancel()
        await asyncio.to_thread(client.stop)
        await until(lambda: NAME not in backend.lwm2m.identities())
