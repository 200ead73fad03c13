"""The smallest job service there is: whoever asks for a job is told that there is none.

usage: python -m tools.bench.mqtt_service PORT   (of a broker on 127.0.0.1, without TLS)
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping

from agent.runtime.mqtt import MqttCause, MqttSettings
from protocols.mqtt.transport import AiomqttTransport
from tools.bench.control import answer_commands

REQUESTS = "$aws/things/+/jobs/+/get"


class Service:
    """A client like any other."""

    def __init__(self, transport: AiomqttTransport, port: int) -> None:
        self.answered = 0
        self._ready = asyncio.Event()
        settings = MqttSettings("127.0.0.1", port, "bench-service")
        self._connection = transport.open(settings, self)

    def connected(self, session_present: bool) -> None:
        self._connection.subscribe(REQUESTS)

    def subscribed(self, refused: tuple[str, ...]) -> None:
        self._ready.set()

    def received(self, topic: str, payload: bytes, qos: int, duplicate: bool) -> None:
        answer = {"timestamp": 0, "clientToken": json.loads(payload)["clientToken"]}
        self.answered += 1
        self._connection.publish(f"{topic}/accepted", json.dumps(answer).encode())

    def disconnected(self, cause: MqttCause, detail: str) -> None:
        self._ready.clear()

    async def ready(self) -> Mapping[str, object]:
        """Once it is subscribed."""
        await asyncio.wait_for(self._ready.wait(), 20.0)
        return {"answered": self.answered}


async def main(port: int) -> None:
    transport = AiomqttTransport()
    service = Service(transport, port)
    try:
        await answer_commands({"ready": service.ready})
    finally:
        await transport.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
