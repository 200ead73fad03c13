"""Our small REST server answers as Leshan's demo server did when its exchanges were recorded.

Leshan's own client is the device, as it was then. Compared are status, content type, key sets and
types; values only where they are the point. The recorded device had more resources and objects, so
lists are compared by their elements' shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.leshan.server import JavaProcess, Leshan, LeshanApi, running_client

RECORDED = Path(__file__).parent / "vectors" / "demo-exchanges-2.0.0-M18.jsonl"
EVENTS = "server-sent events of GET /api/event, in order"
# Recorded, but not served: other parts of the demo server.
NOT_SERVED = ("server", "composite", "security", "bootstrap")
ENDPOINT = "rec1"

Json = Any


def recorded() -> list[Json]:
    exchanges = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [
        exchange
        for exchange in exchanges
        if exchange.get("server") == "demo-server"
        and exchange["scene"] not in NOT_SERVED
        and exchange["scene"] != "deregistration"
    ]


def recorded_events() -> dict[str, Json]:
    """The first recorded event of each name."""
    found: dict[str, Json] = {}
    name = ""
    for line in RECORDED.read_text().splitlines():
        entry = json.loads(line)
        if entry["scene"] == EVENTS:
            text = entry["line"]
            if text.startswith("event: "):
                name = text.removeprefix("event: ")
            else:
                found.setdefault(name, json.loads(text.removeprefix("data: ")))
    return found


def shape(value: Json) -> Json:
    """Key sets and types; a list is the set of its elements' shapes."""
    match value:
        case {"attributes": dict(), "url": _}:
            return "link"
        case dict() if value and all(key.isdigit() for key in value):
            return {"<id>": sorted({json.dumps(shape(item)) for item in value.values()})}
        case dict():
            return {key: shape(value[key]) for key in sorted(value)}
        case list():
            return sorted({json.dumps(shape(item), sort_keys=True) for item in value})
        case _:
            return type(value).__name__


def same_shape(ours: Json, theirs: Json) -> bool:
    """Equal key sets and types, except that our list may lack shapes that theirs has."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(
            same_shape(ours[key], theirs[key]) for key in ours
        )
    if isinstance(ours, list) and isinstance(theirs, list):
        return bool(ours) == bool(theirs) and set(ours) <= set(theirs)
    return bool(ours == theirs)


@pytest.fixture(scope="module")
def foreign_device(leshan: Leshan) -> Iterator[JavaProcess]:
    with running_client(leshan.coap_uri, ENDPOINT, "--lifetime", "60") as client:
        client.line(lambda line: line["event"] == "registered")
        yield client


async def replay(api: LeshanApi, exchange: Json) -> httpx.Response:
    path = exchange["path"].removeprefix("/api/")
    request = exchange["request"]
    if isinstance(request, dict):
        return await api.http.request(exchange["method"], path, json=request)
    return await api.http.request(exchange["method"], path, content=request)


async def test_every_recorded_call_is_answered_in_the_recorded_shape(
    api: LeshanApi, foreign_device: JavaProcess
) -> None:
    exchanges = recorded()
    assert len(exchanges) > 30
    for exchange in exchanges:
        what = f"{exchange['method']} {exchange['path']} {exchange['note']}"
        answer = await replay(api, exchange)
        assert answer.status_code == exchange["status"], (what, answer.text)
        if exchange["content_type"] is not None:
            assert answer.headers["content-type"] == exchange["content_type"], what
        theirs = exchange["response"]
        if isinstance(theirs, str):
            assert answer.text == theirs, what
            continue
        ours = answer.json()
        if isinstance(theirs, dict):
            for key in ("status", "valid", "success", "failure"):
                assert ours.get(key) == theirs.get(key), (what, ours)
        assert same_shape(shape(ours), shape(theirs)), (what, ours, theirs)


async def test_events_have_the_recorded_shapes(leshan: Leshan, api: LeshanApi) -> None:
    theirs = recorded_events()
    async with api.events("rec2") as log:
        with running_client(leshan.coap_uri, "rec2", "--lifetime", "60") as client:
            client.line(lambda line: line["event"] == "registered")
            answer = await api.observe("rec2", "/3/0/13", "SENML_JSON")
            assert answer["success"]
            await log.until(lambda _: len(log.values("rec2", "/3/0/13")) >= 2)
            await api.cancel("rec2", "/3/0/13", active=True)
            # A new lifetime is announced by an update at once.
            await api.write_value("rec2", "/1/0/1", "integer", "90")
            await log.until(lambda events: "UPDATED" in {event.name for event in events})
        await log.until(lambda events: events[-1].name == "DEREGISTRATION")
    ours = {event.name: event.data for event in reversed(log.events)}
    assert ours.keys() == theirs.keys()
    for name in ("REGISTRATION", "NOTIFICATION", "DEREGISTRATION"):
        assert same_shape(shape(ours[name]), shape(theirs[name])), (name, ours[name])
    # The recorded updates changed nothing but the time; ours also changed the lifetime.
    assert ours["UPDATED"]["update"].pop("lifetime") == 90
    assert same_shape(shape(ours["UPDATED"]), shape(theirs["UPDATED"])), ours["UPDATED"]


async def test_values_of_every_type_travel_both_ways(
    leshan: Leshan, api: LeshanApi, foreign_device: JavaProcess
) -> None:
    changes: list[tuple[int, str, Json]] = [
        (110, "string", "täglich"),
        (120, "integer", "-9007199254740993"),
        (130, "float", 2.5),
        (140, "boolean", False),
        (150, "opaque", "00ff10"),
        (160, "time", 1_700_000_000_000),
        (170, "objlnk", {"objectId": 1, "objectInstanceId": 0}),
    ]
    for format in ("TLV", "JSON", "SENML_JSON", "SENML_CBOR"):
        for resource, kind, value in changes:
            path = f"/3442/0/{resource}"
            answer = await api.write_value(ENDPOINT, path, kind, value, format=format)
            assert answer["status"] == "CHANGED(204)", (format, path)
            assert await api.value(ENDPOINT, path, format) == value, (format, path)


async def test_a_silent_device_is_a_gateway_timeout(leshan: Leshan, api: LeshanApi) -> None:
    with running_client(leshan.coap_uri, "mute") as client:
        client.line(lambda line: line["event"] == "registered")
        client.freeze()
        answer = await api.call("GET", "clients/mute/3/0/0", timeout=1)
        client.thaw()
    assert answer.status_code == 504
