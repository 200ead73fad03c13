"""The stub answers 208 recorded requests as hawkBit 1.0.4 did: one test a scene, one server."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from tests.stubs.hawkbit import HawkbitStub
from tests.stubs.hawkbit_replay import Exchange, Names, compare, load, request_of, scenes

EXCHANGES = load()
SCENES = scenes(EXCHANGES)

START = 1_795_421_019.0
"""Seconds since the epoch when the recording began; the timeforced scene names a moment near it."""

TICK = 2.0
"""Seconds between two requests: the rollout scheduler has looked in between."""

BASE = "http://hawkbit.test"

EARLIER_TOKEN = "TargetToken t"


class Replay:
    """Plays the scenes in order; a scene asked for alone is played after those before it."""

    def __init__(self) -> None:
        self.clock = START - 3600
        self.stub = HawkbitStub(now=lambda: self.clock)
        self.names = Names()
        self.played: dict[str, list[str]] = {}

    async def until(self, scene: str) -> list[str]:
        """Differences of `scene`."""
        transport = httpx.ASGITransport(self.stub.app)
        async with httpx.AsyncClient(transport=transport) as client:
            if not self.played:
                await earlier_runs(client)
                self.clock = START
            for name in SCENES[len(self.played) : SCENES.index(scene) + 1]:
                found: list[str] = []
                for exchange in EXCHANGES:
                    if exchange.scene == name:
                        found += await self._play(client, exchange)
                self.played[name] = found
        return self.played[scene]

    async def _play(self, client: httpx.AsyncClient, exchange: Exchange) -> list[str]:
        self.clock += TICK
        response = await client.request(**request_of(exchange, self.names, BASE))
        found = compare(exchange, response, self.names, BASE)
        return [f"{exchange.title}: {difference}" for difference in found]


async def earlier_runs(client: httpx.AsyncClient) -> None:
    """What the recorded server had seen before: settings touched, two targets, one update."""
    admin, rest = ("admin", "admin"), f"{BASE}/rest/v1"
    for key, value in (
        ("user.confirmation.flow.enabled", False),
        ("authentication.targettoken.enabled", True),
    ):
        answer = await client.put(f"{rest}/system/configs/{key}", json={"value": value}, auth=admin)
        assert answer.status_code == 204
    targets = [
        {"controllerId": name, "name": name, "securityToken": "t"} for name in ("a17951", "a17966")
    ]
    await client.post(f"{rest}/targets", json=targets, auth=admin)
    module = {"name": "earlier", "version": "1", "type": "os"}
    await client.post(f"{rest}/softwaremodules", json=[module], auth=admin)
    ds = module | {"modules": [{"id": 1}]}
    await client.post(f"{rest}/distributionsets", json=[ds], auth=admin)
    token = {"authorization": EARLIER_TOKEN}
    for name in ("a17951", "a17966"):
        await client.get(f"{BASE}/default/controller/v1/{name}", headers=token)
    device = f"{BASE}/default/controller/v1"
    await client.put(f"{device}/a17951/configData", json={"data": {"hw": "r1"}}, headers=token)
    assignment = [{"id": "a17966"}]
    url = f"{rest}/distributionsets/1/assignedTargets"
    await client.post(url, json=assignment, auth=admin)
    done = {"status": {"execution": "closed", "result": {"finished": "success"}}}
    url = f"{device}/a17966/deploymentBase/1/feedback"
    answer = await client.post(url, json=done, headers=token)
    assert answer.status_code == 200


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay()


@pytest.mark.parametrize("scene", SCENES)
async def test_scene_as_recorded(replay: Replay, scene: str) -> None:
    differences = await replay.until(scene)
    assert not differences, "\n" + "\n".join(differences)


def test_the_whole_recording_is_played() -> None:
    assert len(EXCHANGES) == 208
    assert len(SCENES) == 17
    assert Counter(exchange.status for exchange in EXCHANGES)[410] == 3
