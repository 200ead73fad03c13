"""Two hundred of our devices under a real LwM2M server: from the registration to the new image."""

from __future__ import annotations

from typing import Any

from firmware_images.mcuboot import Version
from tests.interop.images import VERSION, signed
from tests.interop.leshan.fleet import Fleet, each, package_server, running_fleet
from tests.interop.leshan.server import Leshan

DEVICES = 200
IMAGE = signed()
# What each format can carry, as Leshan asks for it by Accept.
OF_ONE_VALUE = ("TEXT", "CBOR", "TLV", "JSON", "SENML_JSON", "SENML_CBOR")
OF_A_TREE = ("TLV", "JSON", "SENML_JSON", "SENML_CBOR")

Json = Any


def values(content: Json) -> dict[tuple[int, ...], Json]:
    """Resource (and resource instance) values of a tree, by id."""
    match content["kind"]:
        case "obj":
            return {
                (instance["id"], *path): value
                for instance in content["instances"]
                for path, value in values(instance).items()
            }
        case "instance":
            return {
                path: value
                for resource in content["resources"]
                for path, value in values(resource).items()
            }
        case "multiResource":
            return {(content["id"], int(key)): value for key, value in content["values"].items()}
        case _:
            return {(content["id"],): content["value"]}


async def inspect(fleet: Fleet, name: str) -> None:
    """Discover and read in every format that Leshan knows."""
    api = fleet.api
    found = await api.discover(name, "/5")
    links = {link["url"] for link in found["objectLinks"]}
    assert {"/5", "/5/0", *(f"/5/0/{number}" for number in (0, 1, 2, 3, 5, 9))} <= links
    for format in OF_ONE_VALUE:
        assert await api.value(name, "/3/0/3", format) == "1.0.0", (name, format)
        assert await api.value(name, "/5/0/3", format) == "0", (name, format)
    # A text is not opaque, and a tree is no single value.
    assert (await api.read(name, "/3/0/3", "OPAQUE"))["status"] == "NOT_ACCEPTABLE(406)"
    assert (await api.read(name, "/3/0", "TEXT"))["status"] == "NOT_ACCEPTABLE(406)"
    trees = []
    for format in OF_A_TREE:
        answer = await api.read(name, "/5/0", format)
        assert answer["success"], (name, format, answer)
        trees.append(values(answer["content"]))
    assert trees[0][3,] == "0" and trees[0][5,] == "0"
    assert all(tree == trees[0] for tree in trees), trees


async def test_two_hundred_devices_are_updated(leshan: Leshan) -> None:
    async with running_fleet(leshan) as fleet:
        for number in range(DEVICES):
            fleet.add(f"fleet-{number:03d}")
        await fleet.registered()
        clients = {client["endpoint"]: client for client in await fleet.api.clients()}
        assert clients.keys() >= set(fleet.names)
        assert {client["lwM2mVersion"] for client in clients.values()} == {"1.1"}
        await each(fleet.names, lambda name: inspect(fleet, name))

        async def observe(name: str) -> None:
            for path, format in (("/5/0/3", "TLV"), ("/5/0/5", "SENML_CBOR")):
                answer = await fleet.api.observe(name, path, format)
                assert answer["content"]["value"] == "0", (name, answer)

        await each(fleet.names, observe)
        async with package_server(fleet.runtime, {"image": IMAGE}) as packages:

            async def deliver(name: str) -> None:
                if int(name[-3:]) % 2:
                    uri = f"{packages}/image"
                    answer = await fleet.api.write_value(name, "/5/0/1", "string", uri)
                else:
                    answer = await fleet.api.write_value(
                        name, "/5/0/0", "opaque", IMAGE, format="OPAQUE", timeout=120
                    )
                assert answer["status"] == "CHANGED(204)", (name, answer)

            await each(fleet.names, deliver)
            await fleet.notified(dict.fromkeys(fleet.names, "2"), "/5/0/3")

        async def install(name: str) -> None:
            answer = await fleet.api.execute(name, "/5/0/2")
            assert answer["status"] == "CHANGED(204)", (name, answer)

        await each(fleet.names, install)
        await fleet.registered(times=2)

        async def check(name: str) -> None:
            assert await fleet.firmware(name) == ("0", "1"), name
            assert await fleet.api.value(name, "/3/0/3") == VERSION

        await each(fleet.names, check)
        for name, device in fleet.devices.items():
            assert device.running is not None
            assert device.running.version == Version.parse(VERSION), name
            assert device.boots == 2, name
            assert fleet.log.values(name, "/5/0/3")[:3] == ["1", "2", "3"], name


async def test_a_large_image_goes_by_push(leshan: Leshan) -> None:
    """256 KiB in blocks of 512, which takes longer than Leshan's usual five seconds may allow."""
    image = signed(payload=bytes(256 * 1024))
    async with running_fleet(leshan) as fleet:
        fleet.add("large", slot_size=1 << 20)
        await fleet.registered()
        answer = await fleet.api.write_value(
            "large", "/5/0/0", "opaque", image, format="OPAQUE", timeout=120
        )
        assert answer["status"] == "CHANGED(204)"
        assert await fleet.firmware("large") == ("2", "0")
        # The name and version of what lies there are known before it is installed.
        assert await fleet.api.value("large", "/5/0/7") == VERSION
