"""Every kind of wrong image or address ends at its result, and the device runs on."""

from __future__ import annotations

import socket

import pytest

from agent import FaultPlan
from firmware_images.mcuboot import Version
from tests.interop.images import VERSION, WRONG, signed
from tests.interop.leshan.fleet import Fleet, each, package_server, running_fleet
from tests.interop.leshan.server import Leshan
from tools.bench.ports import free_port

GOOD = signed()


async def push(fleet: Fleet, name: str, image: bytes, format: str = "OPAQUE") -> str:
    answer = await fleet.api.write_value(name, "/5/0/0", "opaque", image, format=format, timeout=60)
    return str(answer["status"])


async def pull(fleet: Fleet, name: str, uri: str) -> str:
    return str((await fleet.api.write_value(name, "/5/0/1", "string", uri))["status"])


async def test_a_wrong_image_of_each_kind_ends_at_its_result(leshan: Leshan) -> None:
    async with running_fleet(leshan) as fleet:
        wrong = {f"{how}-{case.kind}": case for case in WRONG for how in ("push", "pull")}
        for name in wrong:
            fleet.add(name)
        await fleet.registered()
        packages = {case.kind: case.image for case in WRONG}
        async with package_server(fleet.runtime, packages) as uri:

            async def deliver(name: str) -> None:
                case = wrong[name]
                await fleet.api.observe(name, "/5/0/5")
                if name.startswith("pull"):
                    assert await pull(fleet, name, f"{uri}/{case.kind}") == "CHANGED(204)"
                elif case.kind == "too-large":
                    assert await push(fleet, name, case.image) == "REQUEST_ENTITY_TOO_LARGE(413)"
                else:
                    assert await push(fleet, name, case.image) == "CHANGED(204)", name

            await each(wrong, deliver)
            results = {name: str(case.result) for name, case in wrong.items()}
            await fleet.notified(results, "/5/0/5")

        async def check(name: str) -> None:
            assert await fleet.firmware(name) == ("0", str(wrong[name].result)), name
            # Nothing to install; and the device goes on: a good image is taken at once.
            answer = await fleet.api.execute(name, "/5/0/2")
            assert answer["status"] == "METHOD_NOT_ALLOWED(405)", name
            assert await push(fleet, name, GOOD, "TLV") == "CHANGED(204)"
            assert await fleet.firmware(name) == ("2", "0"), name

        await each(wrong, check)
        for name, device in fleet.devices.items():
            assert device.running is not None
            assert device.running.version == Version.parse("1.0.0"), name
            assert device.boots == 1, name


async def test_what_the_bootloader_finds_first_ends_in_a_failed_update(leshan: Leshan) -> None:
    """Two images that were good when they arrived: one never comes up, one rots in the slot."""
    async with running_fleet(leshan) as fleet:
        fleet.add("bad-boot", faults=FaultPlan(bad_boots=1))
        fleet.add("rotten-slot", faults=FaultPlan(corrupt_slot_page=3))
        await fleet.registered()
        for name in fleet.names:
            assert await push(fleet, name, GOOD) == "CHANGED(204)"
            assert await fleet.firmware(name) == ("2", "0")
            assert (await fleet.api.execute(name, "/5/0/2"))["success"]
        await fleet.registered(times=2)
        for name, device in fleet.devices.items():
            assert await fleet.firmware(name) == ("2", "8"), name
            assert await fleet.api.value(name, "/3/0/3") == "1.0.0"
            assert device.running is not None
            assert device.running.version == Version.parse("1.0.0")


@pytest.mark.parametrize(
    ("uri", "status", "result"),
    [
        ("http://127.0.0.1/image", "BAD_REQUEST(400)", "9"),
        ("coap://", "CHANGED(204)", "7"),
        ("coap://127.0.0.1:{package}/nowhere", "CHANGED(204)", "7"),
    ],
)
async def test_a_wrong_uri_ends_at_its_result(
    leshan: Leshan, uri: str, status: str, result: str
) -> None:
    async with running_fleet(leshan) as fleet:
        fleet.add("wrong-uri")
        await fleet.registered()
        await fleet.api.observe("wrong-uri", "/5/0/5")
        async with package_server(fleet.runtime, {}) as packages:
            uri = uri.replace("{package}", packages.rpartition(":")[2])
            assert await pull(fleet, "wrong-uri", uri) == status
            await fleet.notified({"wrong-uri": result}, "/5/0/5")
        assert await fleet.firmware("wrong-uri") == ("0", result)
        # An empty URI resets, and both resources say so.
        assert await pull(fleet, "wrong-uri", "") == "CHANGED(204)"
        assert await fleet.firmware("wrong-uri") == ("0", "0")


async def test_a_package_server_that_is_not_there_is_a_lost_connection(leshan: Leshan) -> None:
    async with running_fleet(leshan) as fleet:
        fleet.add("lost", impatient=True)
        await fleet.registered()
        await fleet.api.observe("lost", "/5/0/5")
        uri = f"coap://127.0.0.1:{free_port(socket.SOCK_DGRAM)}/image"
        assert await pull(fleet, "lost", uri) == "CHANGED(204)"
        assert (await fleet.firmware("lost"))[0] == "1"
        await fleet.notified({"lost": "4"}, "/5/0/5")
        assert await fleet.firmware("lost") == ("0", "4")
        # The package that comes in the other way then is taken.
        assert await push(fleet, "lost", GOOD) == "CHANGED(204)"
        assert (await fleet.api.execute("lost", "/5/0/2"))["success"]
        await fleet.registered(times=2)
        assert await fleet.firmware("lost") == ("0", "1")
        assert await fleet.api.value("lost", "/3/0/3") == VERSION
