"""A small LwM2M server in a process of its own, so that its cost is in nobody's figure.

usage: python -m tools.bench.server OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)

It does what the figures need and keeps nothing on disk: registrations, two observations per
device (5/0/3 and 5/0/5), and a campaign, half push and half pull. The reference backend makes
each registration durable first, which is its job and would here only make the bench longer.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.runtime.runtime import Runtime
from protocols.coap import (
    CoapEndpoint,
    Code,
    ContentFormat,
    Exchange,
    Message,
    Peer,
    RequestFailed,
    RequestHandle,
    TransportTuning,
    make_options,
    response,
)
from tools.bench.control import answer_commands

POLL_SECONDS = 0.05
TUNING = TransportTuning(burst=64, socket_buffer=4 << 20)
MAX_DEVICES = 1 << 20
DOWNLOADED, UPDATED = b"2", b"1"
"""State and result of Object 5, as text."""

WANTED = {name: ("5", "0", name) for name in ("3", "5")}


@dataclass(frozen=True, slots=True)
class Options:
    observe: bool = False
    image: str = ""
    """File that a campaign offers."""


class Registered:
    """One device, as the server knows it."""

    __slots__ = ("executed", "observations", "offered", "peer", "seen", "updates", "index")

    def __init__(self, peer: Peer, index: int) -> None:
        self.peer = peer
        self.index = index
        self.updates = 0
        self.observations: list[RequestHandle] = []
        self.seen: dict[str, bytes] = {}
        self.offered = False
        self.executed = False


class Server:
    """Registrations, observations and one campaign."""

    def __init__(self, runtime: Runtime, options: Options) -> None:
        self.options = options
        self.image = Path(options.image).read_bytes() if options.image else b""
        self.image_options = make_options(etag=b"bench", content_format=ContentFormat.OCTET_STREAM)
        self.devices: dict[str, Registered] = {}
        self.locations: dict[str, Registered] = {}
        self.failures: dict[str, int] = {}
        self.endpoint = CoapEndpoint(
            runtime,
            bind=("127.0.0.1", 0),
            handler=self.handle,
            tuning=TUNING,
            max_peers=MAX_DEVICES,
        )

    @property
    def uri(self) -> str:
        host, port = self.endpoint.local
        return f"coap://{host}:{port}"

    # --- requests of the devices

    def handle(self, peer: Peer, request: Message, exchange: Exchange) -> Message:
        path = request.options.path
        if request.code == Code.GET and path == ("image",):
            return response(Code.CONTENT, self.image_options, self.image)
        if path == ("rd",) and request.code == Code.POST:
            return self._register(peer, request)
        device = self.locations.get(path[1]) if len(path) == 2 and path[0] == "rd" else None
        if device is None:
            return response(Code.NOT_FOUND)
        if request.code == Code.POST:
            device.updates += 1
            return response(Code.CHANGED)
        if request.code == Code.DELETE:
            del self.locations[path[1]]
            return response(Code.DELETED)
        return response(Code.METHOD_NOT_ALLOWED)

    def _register(self, peer: Peer, request: Message) -> Message:
        queries = dict(query.partition("=")[::2] for query in request.options.queries)
        name = queries.get("ep", "")
        if not name:
            return response(Code.BAD_REQUEST)
        device = self.devices.get(name)
        if device is None:
            device = self.devices[name] = Registered(peer, len(self.devices))
            self.locations[str(device.index)] = device
        device.peer = peer
        device.updates = 0
        for handle in device.observations:
            handle.cancel()
        device.observations.clear()
        device.seen.clear()
        if self.options.observe:
            # After the answer to the registration, which leaves when this callback returns.
            asyncio.get_running_loop().call_soon(self._observe, device)
        return response(Code.CREATED, make_options(location=("rd", str(device.index))))

    def _observe(self, device: Registered) -> None:
        for name, path in WANTED.items():
            message = Message(Code.GET, b"", make_options(path=path, accept=0))
            heard = functools.partial(self._notified, device, name)
            device.observations.append(self.endpoint.observe(device.peer, message, heard))

    def _notified(self, device: Registered, name: str, result: Message | RequestFailed) -> None:
        if isinstance(result, RequestFailed) or result.code != Code.CONTENT:
            self._failed("observe", result)
            return
        device.seen[name] = result.payload
        if device.offered and device.seen.get("3") == DOWNLOADED and not device.executed:
            device.executed = True
            self._send(device, Message(Code.POST, b"", make_options(path=("5", "0", "2"))))

    # --- the campaign

    def _offer(self, device: Registered) -> None:
        device.offered = True
        if device.index % 2:
            path = make_options(path=("5", "0", "0"), content_format=ContentFormat.OCTET_STREAM)
            self._send(device, Message(Code.PUT, b"", path, self.image))
        else:
            path = make_options(path=("5", "0", "1"), content_format=0)
            self._send(device, Message(Code.PUT, b"", path, f"{self.uri}/image".encode()))

    def _send(self, device: Registered, message: Message) -> None:
        name = "/".join(message.options.path)

        def ended(result: Message | RequestFailed) -> None:
            if isinstance(result, RequestFailed) or result.code >= 128:
                self._failed(name, result)

        self.endpoint.transfer(device.peer, message, ended)

    def _failed(self, what: str, result: Message | RequestFailed) -> None:
        text = f"{what}: {result!r}" if isinstance(result, Message) else f"{what}: {result}"
        self.failures[text] = self.failures.get(text, 0) + 1

    # --- what the driver asks

    async def where(self) -> Mapping[str, object]:
        return {"uri": self.uri, "port": self.endpoint.local[1]}

    async def status(self) -> Mapping[str, object]:
        devices = self.devices.values()
        return {
            "registered": len(self.devices),
            "updates": min((device.updates for device in devices), default=0),
            "observed": sum(len(device.seen) for device in devices),
            "updated": sum(device.seen.get("5") == UPDATED for device in devices),
            "failures": dict(list(self.failures.items())[:5]),
        }

    async def wait(self, what: str, count: int, seconds: float) -> Mapping[str, object]:
        """Until the number `what` of :meth:`status` is at least `count`, or `seconds` passed."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            status = await self.status()
            if int(str(status[what])) >= count:
                break
            await asyncio.sleep(POLL_SECONDS)
        return {**await self.status(), "seconds": time.monotonic() - began}

    async def campaign(self) -> Mapping[str, object]:
        for device in self.devices.values():
            self._offer(device)
        return {}

    async def close(self) -> Mapping[str, object]:
        """Free the port, for a load that speaks from it."""
        self.endpoint.close()
        return {}


async def main(options: Options) -> None:
    async with Runtime.real() as runtime:
        server = Server(runtime, options)
        await answer_commands(
            {
                "where": server.where,
                "status": server.status,
                "wait": server.wait,
                "campaign": server.campaign,
                "close": server.close,
            }
        )


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
