"""The ThingsBoard driver against a stub of the REST API. A stub: no ThingsBoard was at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from tests.stubs.thingsboard_management import ThingsboardManagement
from tools.drivers.base import DriverSettings, Secrets
from tools.drivers.errors import (
    RequestRefused,
    ServerUnreachable,
    UnsupportedServer,
    WrongCredentials,
)
from tools.drivers.thingsboard import ThingsboardDriver
from tools.fleet.audit import Belief

IMAGE = bytes(range(256)) * 20
SERVER = "http://things.example:8080"
NAMES = ["a-51", "b-51", "c-51"]


@pytest.fixture
def stub() -> ThingsboardManagement:
    return ThingsboardManagement()


def made(
    stub: ThingsboardManagement, identity: Secrets | None = None, **options: str
) -> ThingsboardDriver:
    identity = identity or Secrets("thingsboard", stub.user, stub.password)
    transport = httpx.MockTransport(stub)
    return ThingsboardDriver(DriverSettings(SERVER, identity, "51", options, transport=transport))


@pytest.fixture
async def driver(stub: ThingsboardManagement) -> AsyncIterator[ThingsboardDriver]:
    driver = made(stub)
    yield driver
    await driver.close()


async def test_a_campaign_from_the_first_device_to_the_last_belief(
    stub: ThingsboardManagement, driver: ThingsboardDriver
) -> None:
    credentials = await driver.provision(NAMES)
    assert {stub.tokens[stub.named(name)] for name in NAMES} == {
        credential.token for credential in credentials.values()
    }
    campaign = await driver.start(await driver.publish(IMAGE, "2.0.0"), NAMES)
    (package,) = stub.packages.values()
    assert (package["title"], package["version"]) == ("fotilla-51", "2.0.0")
    assert all(device["firmwareId"] == package["id"] for device in stub.devices.values())
    stub.tell("a-51", fw_state="UPDATING")
    stub.tell("a-51", fw_state="UPDATED", current_fw_version="2.0.0")
    stub.tell("b-51", fw_state="FAILED", current_fw_version="1.0.0")
    assert not await driver.settled(campaign)
    beliefs = await driver.belief(campaign)
    assert beliefs["a-51"].time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert beliefs["c-51"].time is None
    assert {name: driver.believed(belief, campaign) for name, belief in beliefs.items()} == {
        "a-51": Belief("updated", "UPDATED", "2.0.0"),
        "b-51": Belief("failed", "FAILED", "1.0.0"),
        "c-51": Belief("unfinished", "", None),
    }
    stub.tell("c-51", fw_state="UPDATED", current_fw_version="2.0.0")
    assert await driver.settled(campaign)
    assert await driver.tally(campaign) is None


async def test_nothing_is_left(stub: ThingsboardManagement, driver: ThingsboardDriver) -> None:
    await driver.provision(NAMES)
    await driver.start(await driver.publish(IMAGE, "2.0.0"), NAMES)
    await driver.cleanup()
    assert not stub.devices
    assert not stub.packages
    await driver.cleanup()


async def test_cancel_takes_the_package_from_those_that_have_not_ended(
    stub: ThingsboardManagement, driver: ThingsboardDriver
) -> None:
    await driver.provision(NAMES)
    campaign = await driver.start(await driver.publish(IMAGE, "2.0.0"), NAMES)
    stub.tell("a-51", fw_state="UPDATED", current_fw_version="2.0.0")
    assert not await driver.settled(campaign)
    await driver.cancel(campaign)
    has = {name: stub.devices[stub.named(name)]["firmwareId"] is not None for name in NAMES}
    assert has == {"a-51": True, "b-51": False, "c-51": False}


async def test_a_device_that_the_server_forgot_is_not_in_the_list(
    stub: ThingsboardManagement, driver: ThingsboardDriver
) -> None:
    await driver.provision(NAMES)
    campaign = await driver.start(await driver.publish(IMAGE, "2.0.0"), NAMES)
    del stub.devices[stub.named("b-51")]
    assert set(await driver.belief(campaign)) == {"a-51", "c-51"}


async def test_a_token_that_runs_out_is_renewed(
    stub: ThingsboardManagement, driver: ThingsboardDriver
) -> None:
    await driver.provision(NAMES[:1])
    stub.jwt = "jwt-2"
    await driver.provision(NAMES[1:2])
    assert len(stub.devices) == 2


async def test_a_device_of_somebody_else_is_left_alone(
    stub: ThingsboardManagement, driver: ThingsboardDriver
) -> None:
    other = made(stub)
    await other.provision(["b-51"])
    with pytest.raises(RequestRefused, match="400"):
        await driver.provision(NAMES)
    await driver.cleanup()
    assert [device["name"] for device in stub.devices.values()] == ["b-51"]
    await other.cleanup()
    await other.close()


async def test_a_device_whose_answer_was_lost_is_found_again_and_removed(
    stub: ThingsboardManagement, driver: ThingsboardDriver
) -> None:
    stub.answers_lost = {("POST", "/api/device-with-credentials")}
    with pytest.raises(ServerUnreachable):
        await driver.provision(NAMES[:1])
    assert len(stub.devices) == 1
    await driver.cleanup()
    assert not stub.devices


async def test_what_only_has_the_name_of_a_lost_device_stays(
    stub: ThingsboardManagement, driver: ThingsboardDriver
) -> None:
    stub.answers_lost = {("POST", "/api/device-with-credentials")}
    with pytest.raises(ServerUnreachable):
        await driver.provision(NAMES[:1])
    stub.tokens[stub.named("a-51")] = "somebody else's"
    await driver.cleanup()
    assert len(stub.devices) == 1


@pytest.mark.parametrize(
    "identity",
    [
        Secrets("thingsboard", "tenant@example.com", "wrong-password"),
        Secrets("thingsboard", token="old.old.old"),
    ],
)
async def test_wrong_credentials(stub: ThingsboardManagement, identity: Secrets) -> None:
    driver = made(stub, identity)
    with pytest.raises(WrongCredentials) as raised:
        await driver.open()
    await driver.close()
    assert not any(secret in str(raised.value) for secret in identity.values())


@pytest.mark.parametrize("answer", [httpx.Response(404), httpx.Response(200, json={"id": {}})])
async def test_something_else_answers(answer: httpx.Response) -> None:
    identity = Secrets("thingsboard", token="a.b.c")
    transport = httpx.MockTransport(lambda request: answer)
    driver = ThingsboardDriver(DriverSettings(SERVER, identity, "51", transport=transport))
    with pytest.raises(UnsupportedServer):
        await driver.open()
    await driver.close()


async def test_devices_may_use_mqtt(stub: ThingsboardManagement) -> None:
    driver = made(stub, mqtt="mqtt://things.example:1883")
    assert driver.device_server == "mqtt://things.example:1883"
    await driver.close()
