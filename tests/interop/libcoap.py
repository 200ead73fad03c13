"""libcoap's example programs as subprocesses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protocols.coap import CoapEndpoint
from tools.bench.ports import free_port

# PUT creates so many resources; more are refused.
CREATABLE = 40

START_SECONDS = 60.0


@asynccontextmanager
async def coap_server(endpoint: CoapEndpoint) -> AsyncIterator[int]:
    """A running `coap-server-notls`, once it answers `endpoint`'s ping; its port."""
    port = free_port(socket.SOCK_DGRAM)
    process = await asyncio.create_subprocess_exec(
        *("coap-server-notls", "-A", "127.0.0.1", "-p", str(port)),
        *("-d", str(CREATABLE), "-v", "3"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        answered = False
        async with asyncio.timeout(START_SECONDS):
            while not answered:
                pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
                endpoint.ping(endpoint.peer("127.0.0.1", port), pong.set_result)
                answered = await pong
                assert process.returncode is None, "coap-server-notls ended"
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def coap_client(*arguments: str) -> bytes:
    """Run `coap-client-notls`; what it received, and the errors that it was answered with."""
    process = await asyncio.create_subprocess_exec(
        *("coap-client-notls", "-v", "3", "-B", "20", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output
