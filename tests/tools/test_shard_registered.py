"""Which devices a shard counts as known to their server: of protocols that register, and of those
that only come by, where the first visit that ended well counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agent.credentials import Credential
from agent.runtime.clock import run_virtual
from agent.runtime.mqtt import MqttSettings
from agent.runtime.runtime import Runtime
from protocols.http.memory_transport import MemoryHttp
from protocols.mqtt.broker import MemoryBroker
from tests.protocols.omadm.dm_server import DmServer
from tests.stubs.aws_iot import AwsIotStub
from tests.stubs.thingsboard import ThingsBoardStub
from tests.tools.test_shard import IMAGE, KEY
from tools.fleet.shard import Shard
from tools.fleet.spec import FleetSpec

DEVICES = 3
TOKENS = tuple(f"token-{number}" for number in range(DEVICES))

Server = Callable[[Runtime], dict[str, Any]]
"""Puts a server on the runtime's network; what a fleet must be told of it."""


def omadm(runtime: Runtime) -> dict[str, Any]:
    server = DmServer(runtime, uri="http://dm.test")
    runtime.http = MemoryHttp(runtime, {"http://dm.test": server.app})
    for number in range(DEVICES):
        server.users[f"d{number}"] = ("user", "secret")
    return {
        "protocol": "omadm",
        "server": "http://dm.test",
        "credentials": (Credential(username="user", password="secret"),) * DEVICES,
    }


def thingsboard(runtime: Runtime, server: str) -> dict[str, Any]:
    stub = ThingsBoardStub()
    broker = MemoryBroker(runtime)
    stub.serve(broker)
    runtime.mqtt = broker
    runtime.http = MemoryHttp(runtime, {"http://thingsboard.test": stub.app})
    for token in TOKENS:
        stub.add(token)
    return {
        "protocol": "thingsboard",
        "server": server,
        "credentials": tuple(Credential(token=token) for token in TOKENS),
    }


def aws(runtime: Runtime) -> dict[str, Any]:
    broker = MemoryBroker(runtime)
    AwsIotStub(runtime, broker, MqttSettings("broker", 1883, "aws"))
    runtime.mqtt = broker
    return {"protocol": "aws", "server": "mqtt://broker"}


SERVERS: dict[str, Server] = {
    "omadm": omadm,
    "thingsboard over mqtt": lambda runtime: thingsboard(runtime, "mqtt://thingsboard.test"),
    "thingsboard over http": lambda runtime: thingsboard(runtime, "http://thingsboard.test"),
    "aws": aws,
}


def counted(server: Server, *, reachable: bool = True) -> tuple[bool, int, int, Mapping[str, int]]:
    """Whether all became known, how many ever did, how many are so at the end, and what those
    without their server complain of."""

    async def main() -> tuple[bool, int, int, Mapping[str, int]]:
        async with Runtime.in_memory(seed=3) as runtime:
            told = server(runtime)
            if not reachable:
                runtime.http = MemoryHttp(runtime, {})
            spec = FleetSpec(
                devices=DEVICES,
                names=tuple(f"d{number}" for number in range(DEVICES)),
                image=IMAGE,
                keys=(KEY.public.to_pem(),),
                slot_size=32 << 10,
                **told,
            )
            shard = Shard(runtime, spec)
            try:
                await shard.start()
                done = await shard.until_registered(600.0)
                census = shard.census
                troubles = shard.snapshot().troubles
                return done, census.ever_registered, census.registered, troubles
            finally:
                shard.close()
                await runtime.clock.sleep(1.0)

    return run_virtual(main())


@pytest.mark.parametrize("server", SERVERS)
def test_a_device_counts_from_its_first_visit_that_ended_well(server: str) -> None:
    assert counted(SERVERS[server]) == (True, DEVICES, DEVICES, {})


def test_a_server_that_nobody_reaches_makes_nobody_known() -> None:
    *known, troubles = counted(omadm, reachable=False)
    assert known == [False, 0, 0]
    assert list(troubles.values()) == [DEVICES], troubles


def test_why_a_server_turns_its_devices_away_is_said() -> None:
    def wrong(runtime: Runtime) -> dict[str, Any]:
        credentials = (Credential(username="user", password="wrong"),) * DEVICES
        return {**omadm(runtime), "credentials": credentials}

    *known, troubles = counted(wrong)
    assert known == [False, 0, 0]
    assert "SyncHdr 401" in troubles
