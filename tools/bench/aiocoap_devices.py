"""The yardstick of what a general CoAP library costs: aiocoap as N device-servers.

usage: python -m tools.bench.aiocoap_devices DEVICES BASE

Each device is an aiocoap context of its own with one resource, 5/0/3, at the address where
c_load_to_devices looks for it. No registration, no engine: all that can be measured is aiocoap.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from collections.abc import Mapping
from typing import Any

import aiocoap
from aiocoap.resource import Resource, Site

from tools.bench.control import answer_commands


class State(Resource):  # type: ignore[misc]  # aiocoap has no types
    async def render_get(self, request: Any) -> Any:
        return aiocoap.Message(payload=b"0", content_format=0)


async def main(devices: int, base: int) -> None:
    logging.disable(logging.CRITICAL)
    contexts = []
    for index in range(devices):
        site = Site()
        site.add_resource(["5", "0", "3"], State())
        host, port = divmod(index, 250)
        address = (f"127.{base}.{host >> 8}.{host & 255}", 10000 + port)
        contexts.append(
            await aiocoap.Context.create_server_context(site, bind=address, transports=["udp6"])
        )

    async def cpu() -> Mapping[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"user": usage.ru_utime, "sys": usage.ru_stime}

    await answer_commands({"cpu": cpu})


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
