"""The recorded scenes over real sockets: against the state model always, and against a living
hawkBit when HAWKBIT_URL, HAWKBIT_USER and HAWKBIT_PASSWORD are set.

All scenes of a server run at once, one target each, under names that no other run has; those that
need the confirmation flow, which is a setting of the whole tenant, run alone and last. Settings are
put back, and what was made is deleted.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from agent import Runtime
from agent.credentials import Credential
from agent.misbehaviour import Misbehaviour
from agent.runtime.http import HttpIdentity
from protocols.http.transport import transport_of
from tests.protocols.http.hawkbit import scenes
from tests.protocols.http.hawkbit.world import (
    Management,
    World,
    new_image,
    tenant_setting,
    tokens,
)
from tests.protocols.http.transport.certificates import Authority
from tests.stubs.hawkbit import HawkbitStub
from tools.bench.http_nginx import Nginx

SCENE_SECONDS = 300.0
DEVICES = 200


@dataclass(frozen=True)
class Server:
    """Where a DDI server listens, and who may manage it."""

    url: str
    user: str
    password: str

    @classmethod
    def living(cls) -> Server | None:
        url = os.environ.get("HAWKBIT_URL", "").rstrip("/")
        if not url:
            return None
        return cls(url, os.environ["HAWKBIT_USER"], os.environ["HAWKBIT_PASSWORD"])


@asynccontextmanager
async def listening(name: str) -> AsyncIterator[Server]:
    if name == "stub":
        async with HawkbitStub.serve() as stub:
            yield Server(stub.url, stub.user, stub.password)
    else:
        found = Server.living()
        assert found is not None
        yield found


@asynccontextmanager
async def world(server: Server, suffix: str) -> AsyncIterator[World]:
    async with Runtime.real(seed=11) as runtime:
        http = transport_of(runtime).client(HttpIdentity("operator"))
        management = Management(http, server.url, server.user, server.password)
        built = World(runtime, server.url, management, suffix=suffix, poll=0.5, patience=120.0)
        try:
            yield built
        finally:
            await built.close()
            await built.clean_up()


Outcomes = dict[str, str]
"""By scene: empty, or the traceback of what went wrong."""


async def play(server: Server, scene: scenes.Scene, outcomes: Outcomes, suffix: str) -> None:
    try:
        async with asyncio.timeout(SCENE_SECONDS), world(server, suffix) as built:
            await scene(built)
        outcomes[scene.__name__] = ""
    except Exception:
        outcomes[scene.__name__] = traceback.format_exc()


async def play_all(name: str) -> Outcomes:
    outcomes: Outcomes = {}
    run = uuid4().hex[:8]
    async with (
        listening(name) as server,
        world(server, run) as control,
        tokens(control.management),
    ):
        await asyncio.gather(
            *(
                play(server, scene, outcomes, f"{run}-{number}")
                for number, scene in enumerate(scenes.SCENES)
            )
        )
        key = "user.confirmation.flow.enabled"
        async with tenant_setting(control.management, key, True):
            for scene in scenes.CONFIRMATION:
                await play(server, scene, outcomes, f"{run}-{scene.__name__}")
    return outcomes


SERVERS = ["stub"] if Server.living() is None else ["stub", "hawkbit"]


@pytest.fixture(scope="module", params=SERVERS)
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    yield asyncio.run(play_all(request.param))


@pytest.mark.parametrize(
    "scene", [scene.__name__ for scene in (*scenes.SCENES, *scenes.CONFIRMATION)]
)
def test_scene(outcomes: Outcomes, scene: str) -> None:
    assert not outcomes[scene], outcomes[scene]


@pytest.mark.parametrize("name", SERVERS)
def test_many_devices(name: str) -> None:
    """Every device of a rollout ends with the new image, and the server knows it."""

    async def run() -> None:
        suffix = uuid4().hex[:8]
        async with listening(name) as server, world(server, suffix) as built:
            built.poll = 2.0
            async with tokens(built.management):
                await many(built)

    asyncio.run(run())


async def many(world: World) -> None:
    sims = [await world.device(f"many{number}") for number in range(DEVICES)]
    ds = await world.publish("many", {"app.bin": new_image()})
    body = {
        "name": f"many-{world.suffix}",
        "distributionSetId": ds,
        "targetFilterQuery": f"controllerId==many*-{world.suffix}",
        "amountGroups": 1,
        "type": "forced",
        "successCondition": {"condition": "THRESHOLD", "expression": "100"},
        "errorCondition": {"condition": "THRESHOLD", "expression": "50"},
        "errorAction": {"action": "PAUSE", "expression": ""},
    }
    made = await world.management.call("POST", "/rollouts", body)
    path = f"/rollouts/{made['id']}"
    world.made.append(path)
    await scenes.rollout_is(world, path, "ready")
    await world.management.call("POST", f"{path}/start")
    await world.until(lambda: all(sim.told for sim in sims), within=240)
    assert {sim.version for sim in sims} == {"2.0.0"}
    assert {sim.told[-1][0] for sim in sims} == {"updated"}
    await scenes.rollout_is(world, path, "finished")
    installed = await world.management.call("GET", f"/distributionsets/{ds}/installedTargets")
    assert installed["total"] == DEVICES


PROXY = """
        set $device "";
        set $issuer "";
        if ($ssl_client_s_dn ~ "CN=([^,]+)") {{ set $device $1; }}
        if ($ssl_client_i_dn ~ "CN=([^,]+)") {{ set $issuer $1; }}
        location ~ ^/[^/]+/controller/ {{
            proxy_pass {origin};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-Controller-Id $device;
            proxy_set_header X-Authority $issuer;
        }}"""
"""What hawkBit's documentation asks of a proxy that ends mutual TLS."""


async def test_mutual_tls(tmp_path: Path) -> None:
    """nginx checks the device's certificate and tells the server whose it is. No token is sent."""
    own = Authority("authority of devices")
    certificate, key = own.issue("localhost", address="127.0.0.1")
    (tmp_path / "server.pem").write_bytes(certificate + key)
    (tmp_path / "authority.pem").write_bytes(own.pem)
    suffix = uuid4().hex[:8]
    async with HawkbitStub.serve() as stub:
        server = Server(stub.url, stub.user, stub.password)
        proxy = Nginx(tmp_path, verify="on", more=PROXY.format(origin=stub.url))
        header = "authentication.header"
        async with world(server, suffix) as built:
            with proxy:
                async with (
                    built.setting(f"{header}.enabled", True),
                    built.setting(f"{header}.authority", "authority of devices"),
                ):
                    built.url = proxy.origin
                    await behind_proxy(built, own, Authority("authority of devices"))


async def behind_proxy(built: World, own: Authority, false: Authority) -> None:
    def credential(authority: Authority, name: str) -> Credential:
        certificate, key = authority.issue(f"{name}-{built.suffix}")
        return Credential(certificate=certificate, private_key=key, authorities=own.pem)

    clone = frozenset({Misbehaviour.CLONED_IDENTITY})
    sim = await built.device("tls-1", credential=credential(own, "tls-1"), misbehave=clone)
    other = await built.device("tls-2", credential=credential(own, "tls-1"))
    forged = await built.device("tls-3", credential=credential(false, "tls-3"))
    ds = await built.publish("tls", {"app.bin": new_image()})
    action = await built.assign(ds, sim)
    assert (await built.until_closed(sim, action))["status"] == "finished"
    await scenes.updated(built, sim)
    assert any(line.startswith("< 401") for line in other.lines), "another device's certificate"
    assert not any(line.startswith("< 200") for line in forged.lines), "another authority's"
    assert not other.client.registered and not forged.client.registered
    (judgement,) = built.runtime.misbehaviours.snapshot().values()
    assert (judgement.kept, judgement.broken) == (sim.device.boots, 0)
