"""Attaching to an operator network over HTTP, before the first session."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.errors import UnusableSettings
from protocols.omadm.options import read_options
from tests.protocols.omadm.dm_world import World, run

OPERATOR = "http://operator.test"


class OperatorNetwork:
    """Notes who attaches; refuses the first `busy` times with `refusal`."""

    def __init__(self, world: World, busy: int = 0, refusal: int = 503) -> None:
        self.world = world
        self.busy = busy
        self.refusal = refusal
        self.asked: list[tuple[float, str, str, object]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        assert headers["authorization"] == "Bearer network token"
        content = json.loads(body) if body else None
        now = self.world.runtime.clock.now()
        self.asked.append((now, scope["method"], scope["path"], content))
        self.busy -= 1
        status = self.refusal if self.busy >= 0 else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def attached(busy: int = 0, refusal: int = 503) -> tuple[World, OperatorNetwork]:
    networks: list[OperatorNetwork] = []

    async def story(world: World) -> None:
        network = OperatorNetwork(world, busy, refusal)
        networks.append(network)
        world.web.serve(OPERATOR, network)
        await world.until(lambda: world.client.registered)
        world.device.reboot("test")
        await world.sleep(30.0)

    options = {"operator": f"{OPERATOR}/", "operator-token": "network token", "cell": "c17"}
    world = run(story, options=options, bind="10.0.0.7")
    return world, networks[0]


@pytest.mark.parametrize("busy", [0, 2])
def test_attach_comes_first_and_detach_last(busy: int) -> None:
    world, network = attached(busy)
    path = "/operator/devices/490154203237518"
    methods = [method for _, method, where, _ in network.asked if where == path]
    assert methods == ["PUT"] * busy + ["PUT", "PUT", "DELETE"]
    content = network.asked[-2][3]
    assert isinstance(content, dict)
    assert content["cell"] == "c17"
    assert content["push"].startswith("10.0.0.7:")
    lines = [line for line in world.lines if "attach" in line or "session" in line]
    assert "< 200 attach" in lines[busy]
    assert "network token" not in repr(world.lines)


@pytest.mark.parametrize("refusal", [401, 403])
def test_a_refused_token_keeps_no_device_from_its_server(refusal: int) -> None:
    """Once a boot it is tried; who was never attached does not detach."""
    world, network = attached(9, refusal)
    assert [method for _, method, _, _ in network.asked] == ["PUT", "PUT"]
    assert world.server.sessions
    assert "the operator network refuses operator-token" in str(world.events)


def test_where_to_push_must_be_known() -> None:
    options = {"operator": OPERATOR, "push": "off"}
    with pytest.raises(UnusableSettings, match="push cannot be off"):
        read_options(options)
    assert "secret" not in repr(read_options({"operator": OPERATOR, "operator-token": "secret"}))

    async def story(world: World) -> None:
        raise AssertionError("the device does not even start")

    with pytest.raises(UnusableSettings, match="where to push"):
        run(story, options={"operator": OPERATOR})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"nothing": "1"}, "no option 'nothing'"),
        ({"persona": "nobody"}, "no persona 'nobody'"),
        ({"encoding": "json"}, "encoding is one of wbxml, xml"),
        ({"auth": "digest"}, "auth is one of none, basic, md5, hmac"),
        ({"interval": "0"}, "interval is a number"),
        ({"interval": "x"}, "interval is a number"),
        ({"push": "70000"}, "push is a UDP port"),
        ({"server-id": ""}, "server-id has 1 to 64"),
        ({"download-auth": "yes"}, "download-auth is one of none, device"),
        ({"operator": "ftp://x"}, "http:// or https://"),
    ],
)
def test_options_that_cannot_be(options: dict[str, str], problem: str) -> None:
    with pytest.raises(UnusableSettings, match=problem):
        read_options(options)
