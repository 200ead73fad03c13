"""One of our devices in the hands of a person at Leshan's console: what is not firmware update."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.interop.leshan.fleet import Fleet, running_fleet
from tests.interop.leshan.server import Event, Leshan

NAME = "single"
# Objects that a device has, with the version in its registration where it is not the default.
OBJECTS = {"1", "3", "4", "5"}


@pytest.fixture
async def fleet(leshan: Leshan) -> AsyncIterator[Fleet]:
    async with running_fleet(leshan) as fleet:
        fleet.add(NAME)
        await fleet.registered()
        yield fleet


def updates(events: list[Event]) -> list[Event]:
    return [event for event in events if event.name == "UPDATED"]


async def test_what_it_registers_with(fleet: Fleet) -> None:
    client = await fleet.api.client(NAME)
    assert client is not None
    assert client["availableInstances"].keys() == OBJECTS
    assert (client["lwM2mVersion"], client["lifetime"]) == ("1.1", 300)
    assert (client["bindingMode"], client["queuemode"], client["rootPath"]) == ("U", False, "/")


async def test_every_object_is_discovered_and_every_tree_is_read(fleet: Fleet) -> None:
    api = fleet.api
    for number in sorted(OBJECTS):
        found = await api.discover(NAME, f"/{number}")
        assert found["success"]
        assert {link["url"] for link in found["objectLinks"]} >= {f"/{number}", f"/{number}/0"}
        for format in ("TLV", "JSON", "SENML_JSON", "SENML_CBOR"):
            answer = await api.read(NAME, f"/{number}", format)
            assert answer["success"], (number, format, answer)
            (instance,) = answer["content"]["instances"]
            kinds = {entry["id"]: entry["type"] for entry in instance["resources"]}
            assert "OPAQUE" not in kinds.values(), (number, format, kinds)
    assert (await api.read(NAME, "/0"))["status"] == "UNAUTHORIZED(401)"
    assert (await api.read(NAME, "/3/0/99"))["status"] == "NOT_FOUND(404)"
    assert (await api.read(NAME, "/3/1"))["status"] == "NOT_FOUND(404)"
    assert (await api.read(NAME, "/5/0/0"))["status"] == "METHOD_NOT_ALLOWED(405)"
    for format in ("TEXT", "CBOR", "TLV", "SENML_JSON", "SENML_CBOR"):
        answer = await api.read(NAME, "/3/0/11/0", format)
        assert answer["content"]["value"] == "0", (format, answer)


@pytest.mark.parametrize("format", ["TEXT", "TLV", "JSON", "SENML_JSON", "SENML_CBOR", "CBOR"])
async def test_a_new_lifetime_is_written_and_announced(fleet: Fleet, format: str) -> None:
    answer = await fleet.api.write_value(NAME, "/1/0/1", "integer", "400", format=format)
    assert answer["status"] == "CHANGED(204)", answer
    await fleet.log.until(lambda events: bool(updates(events)))
    (event, *_) = updates(fleet.log.events)
    assert event.data["update"]["lifetime"] == 400
    assert await fleet.api.value(NAME, "/1/0/1", format) == "400"


async def test_a_partial_write_and_a_refused_one(fleet: Fleet) -> None:
    node = {
        "kind": "instance",
        "id": 0,
        "resources": [
            {"id": 2, "kind": "singleResource", "type": "integer", "value": "1"},
            {"id": 3, "kind": "singleResource", "type": "integer", "value": "60"},
        ],
    }
    for format in ("TLV", "SENML_JSON", "SENML_CBOR"):
        answer = await fleet.api.write(NAME, "/1/0", node, format=format, replace="false")
        assert answer["status"] == "CHANGED(204)", (format, answer)
    assert await fleet.api.value(NAME, "/1/0/3") == "60"
    answer = await fleet.api.write_value(NAME, "/3/0/0", "string", "x")
    assert answer["status"] == "METHOD_NOT_ALLOWED(405)"


async def test_create_and_delete_are_refused_where_they_must_be(fleet: Fleet) -> None:
    assert not (await fleet.api.delete(NAME, "/3/0"))["success"]
    node = {"kind": "instance", "id": 1, "resources": []}
    answer = await fleet.api.create(NAME, "/5", node, format="SENML_JSON")
    assert answer["status"] in ("METHOD_NOT_ALLOWED(405)", "BAD_REQUEST(400)")


async def test_update_trigger_and_reboot(fleet: Fleet) -> None:
    assert (await fleet.api.execute(NAME, "/1/0/8"))["status"] == "CHANGED(204)"
    await fleet.log.until(lambda events: bool(updates(events)))
    assert (await fleet.api.execute(NAME, "/3/0/4"))["status"] == "CHANGED(204)"
    await fleet.registered(times=2)
    assert fleet.devices[NAME].boots == 2
    answer = await fleet.api.execute(NAME, "/3/0/0")
    assert answer["status"] == "METHOD_NOT_ALLOWED(405)"


@pytest.mark.parametrize("active", [True, False])
async def test_attributes_make_it_report_and_both_cancels_end_it(
    fleet: Fleet, active: bool
) -> None:
    api = fleet.api
    answer = await api.attributes(NAME, "/3/0/13", pmin=0, pmax=1)
    assert answer["status"] == "CHANGED(204)"
    links = (await api.discover(NAME, "/3/0/13"))["objectLinks"]
    assert links[0]["attributes"] == {"pmin": "0", "pmax": "1"}
    assert (await api.observe(NAME, "/3/0/13", "SENML_CBOR"))["success"]
    await fleet.log.until(lambda _: len(fleet.log.values(NAME, "/3/0/13")) >= 2)
    await api.cancel(NAME, "/3/0/13", active=active)
    # The device is still there, and can be observed again.
    assert (await api.observe(NAME, "/3/0/13", "TLV"))["success"]
    await api.cancel(NAME, "/3/0/13", active=True)
