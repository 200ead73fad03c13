"""The measured process: the reference backend's device wire, or the bare route beside it.

usage: python -m tools.bench.checkin_host OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)

Both are served by the same listener and take the same body. The bare route parses it and answers as
many bytes; it knows nobody, decides nothing and stores nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from sqlalchemy import func, select

from agent.runtime.runtime import Runtime
from tools.backend.backend import Backend
from tools.backend.config import BackendConfig
from tools.backend.faces.http_wire import CheckIn
from tools.backend.listener import AsgiListener
from tools.backend.store import tables
from tools.bench.control import answer_commands

FIRST_ID = 350_000_000_000_000
PATH = "/device/v1/checkin"
ANYWHERE = ("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Options:
    devices: int
    database: str = ""
    """Of the backend; empty serves the bare route."""


def body_of(name: str) -> bytes:
    """What an idle device says."""
    said = {
        "deviceId": name,
        "reason": "schedule",
        "clientType": "RovaClient",
        "make": "fotilla",
        "model": "virtual",
        "software": [{"name": "firmware", "version": "1.0.0"}],
        "files": [],
    }
    return json.dumps(said, separators=(",", ":")).encode()


def request_of(name: str, token: str) -> str:
    """A whole check-in, as it goes over the wire."""
    body = body_of(name)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head + body.decode()


async def cpu() -> Mapping[str, object]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"user": usage.ru_utime, "sys": usage.ru_stime}


def bare_app() -> FastAPI:
    """The yardstick."""
    app = FastAPI()

    @app.post(PATH)
    async def check_in(asked: CheckIn) -> dict[str, Any]:
        return {"serverTime": "2030-01-01T00:00:00.000Z", "nextCheckIn": 86_400}

    return app


async def serve_bare(options: Options) -> None:
    listener = AsgiListener(bare_app(), ANYWHERE)
    await listener.start()

    async def load() -> Mapping[str, object]:
        requests = [
            request_of(str(FIRST_ID + number), "x" * 32) for number in range(options.devices)
        ]
        gc.freeze()
        return {"address": listener.local, "requests": requests}

    try:
        await answer_commands({"load": load, "cpu": cpu})
    finally:
        await listener.stop()


async def serve_backend(options: Options) -> None:
    async with Runtime.real() as runtime:
        backend = Backend(runtime, BackendConfig(db=options.database))
        await backend.start()

        async def load() -> Mapping[str, object]:
            names = [f"urn:imei:{FIRST_ID + number}" for number in range(options.devices)]
            await backend.load_devices({"name": name, "protocol": "HTTP"} for name in names)
            tokens = await backend.mint_tokens(names)
            gc.collect()
            gc.freeze()
            place = urlsplit(backend.url("http"))
            return {
                "address": (place.hostname, place.port),
                "requests": [request_of(name, tokens[name]) for name in names],
            }

        async def stored() -> Mapping[str, object]:
            count = select(func.count()).select_from(tables.check_ins)
            return {
                "rows": await backend.writer.read(
                    lambda connection: connection.execute(count).scalar_one()
                )
            }

        try:
            await answer_commands({"load": load, "cpu": cpu, "stored": stored})
        finally:
            await backend.stop()


if __name__ == "__main__":
    told = Options(**json.loads(sys.argv[1]))
    asyncio.run(serve_backend(told) if told.database else serve_bare(told))
