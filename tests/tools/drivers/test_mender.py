"""The Mender driver against a stub of the management APIs. A stub: no Mender server was at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from firmware_images.keys import KeyType, load_signing_key
from tests.stubs.mender_management import MenderManagement
from tools.drivers.base import DriverSettings, Secrets, Tally, tally_differences
from tools.drivers.errors import (
    BadOption,
    CleanupIncomplete,
    RequestRefused,
    ServerUnreachable,
    UnsupportedServer,
    WrongCredentials,
)
from tools.drivers.mender import MenderDriver
from tools.fleet.audit import Belief
from tools.fleet.factory import derived_key

IMAGE = bytes(range(256)) * 20
SERVER = "https://mender.example"
NAMES = ["a-51", "b-51", "c-51"]


@pytest.fixture
def stub() -> MenderManagement:
    return MenderManagement()


def made(stub: MenderManagement, who: Secrets | None = None, **options: str) -> MenderDriver:
    who = who or Secrets("mender", stub.user, stub.password)
    transport = httpx.MockTransport(stub)
    return MenderDriver(DriverSettings(SERVER, who, "51", options, transport=transport))


@pytest.fixture
async def driver(stub: MenderManagement) -> AsyncIterator[MenderDriver]:
    driver = made(stub)
    yield driver
    await driver.close()


async def test_a_deployment_from_the_first_device_to_the_last_belief(
    stub: MenderManagement, driver: MenderDriver
) -> None:
    credentials = await driver.provision(NAMES)
    assert {data["fotilla_id"] for data in stub.devices.values()} == set(NAMES)
    for one, data in stub.devices.items():
        key = load_signing_key(credentials[data["fotilla_id"]].private_key, "a device's")
        assert key.kind is KeyType.ECDSA_P256
        assert key.public.to_pem() == stub.keys[one].to_pem()
    package = await driver.publish(IMAGE, "2.0.0")
    assert list(stub.artifacts.values()) == ["fotilla-51-2.0.0"]
    campaign = await driver.start(package, NAMES)
    assert {belief.state for belief in (await driver.belief(campaign)).values()} == {"pending"}
    stub.tell("a-51", "success")
    stub.tell("b-51", "failure")
    assert not await driver.settled(campaign)
    stub.tell("c-51", "installing")
    beliefs = await driver.belief(campaign)
    assert beliefs["a-51"].time == datetime(2026, 1, 2, 3, 4, 5, 123456, UTC)
    said = {name: driver.believed(belief, campaign) for name, belief in beliefs.items()}
    assert said == {
        "a-51": Belief("updated", "success", "2.0.0"),
        "b-51": Belief("failed", "failure", None),
        "c-51": Belief("unfinished", "installing", None),
    }
    stub.tell("c-51", "already-installed")
    assert await driver.settled(campaign)
    tally = await driver.tally(campaign)
    assert tally == Tally(2, 1)
    assert tally_differences(tally, said) == ("the server counts 2 updated devices and lists 1",)


async def test_nothing_is_left_but_an_aborted_deployment(
    stub: MenderManagement, driver: MenderDriver
) -> None:
    await driver.provision(NAMES)
    await driver.start(await driver.publish(IMAGE, "2.0.0"), NAMES)
    stub.tell("a-51", "success")
    await driver.cleanup()
    assert not stub.devices
    assert not stub.artifacts
    (deployment,) = stub.deployments.values()
    assert deployment.aborted
    assert sorted(deployment.asked.values()) == ["aborted", "aborted", "success"]
    await driver.cleanup()


async def test_a_finished_deployment_needs_no_abort(
    stub: MenderManagement, driver: MenderDriver
) -> None:
    await driver.provision(NAMES[:1])
    campaign = await driver.start(await driver.publish(IMAGE, "2.0.0"), NAMES[:1])
    stub.tell("a-51", "success")
    await driver.cancel(campaign)
    await driver.cleanup()
    assert not stub.artifacts


async def test_a_canceled_device_has_failed(stub: MenderManagement, driver: MenderDriver) -> None:
    await driver.provision(NAMES[:1])
    campaign = await driver.start(await driver.publish(IMAGE, "2.0.0"), NAMES[:1])
    stub.tell("a-51", "downloading")
    await driver.cancel(campaign)
    belief = driver.believed((await driver.belief(campaign))["a-51"], campaign)
    assert belief == Belief("failed", "aborted", None)


async def test_a_list_of_several_pages(
    stub: MenderManagement, driver: MenderDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.drivers.mender.PAGE", 2)
    await driver.provision(NAMES)
    campaign = await driver.start(await driver.publish(IMAGE, "2.0.0"), NAMES)
    for name in NAMES:
        stub.tell(name, "success")
    beliefs = await driver.belief(campaign)
    assert {belief.state for belief in beliefs.values()} == {"success"}


async def test_a_token_that_runs_out_is_renewed(
    stub: MenderManagement, driver: MenderDriver
) -> None:
    await driver.provision(NAMES[:1])
    stub.jwt = "head.two.tail"
    await driver.provision(NAMES[1:2])
    assert len(stub.devices) == 2


async def test_a_personal_access_token_needs_no_login(stub: MenderManagement) -> None:
    driver = made(stub, Secrets("mender", token=stub.personal))
    await driver.open()
    await driver.close()
    assert ("POST", "/api/management/v1/useradm/auth/login") not in stub.requests


@pytest.mark.parametrize(
    "identity",
    [Secrets("mender", "admin@example.com", "wrong-password"), Secrets("mender", token="a.b.c")],
)
async def test_wrong_credentials(stub: MenderManagement, identity: Secrets) -> None:
    driver = made(stub, identity)
    with pytest.raises(WrongCredentials) as raised:
        await driver.open()
    await driver.close()
    assert not any(secret in str(raised.value) for secret in identity.values())


async def test_a_device_of_somebody_else_is_left_alone(
    stub: MenderManagement, driver: MenderDriver
) -> None:
    stub.devices["theirs"] = {"fotilla_id": "a-51"}
    stub.keys["theirs"] = derived_key(KeyType.ED25519, 1, "theirs").public
    with pytest.raises(RequestRefused, match="409"):
        await driver.provision(NAMES)
    await driver.cleanup()
    assert list(stub.devices) == ["theirs"]


async def test_what_could_not_be_removed_is_named(
    stub: MenderManagement, driver: MenderDriver
) -> None:
    await driver.provision(NAMES)
    (lost, *_) = stub.devices
    stub.answers_lost = {("DELETE", f"/api/management/v2/devauth/devices/{lost}")}
    with pytest.raises(CleanupIncomplete, match=stub.devices[lost]["fotilla_id"]):
        await driver.cleanup()
    await driver.cleanup()
    assert not stub.devices


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404), "is this Mender"),
        (httpx.Response(200, text="<html>"), "not JSON"),
        (httpx.Response(200, json={}), "no array"),
    ],
)
async def test_something_else_answers(answer: httpx.Response, words: str) -> None:
    transport = httpx.MockTransport(lambda request: answer)
    settings = DriverSettings(SERVER, Secrets("mender", token="a.b.c"), "51", transport=transport)
    driver = MenderDriver(settings)
    with pytest.raises(UnsupportedServer, match=words):
        await driver.open()
    await driver.close()


async def test_single_sign_on_needs_a_token() -> None:
    answer = httpx.Response(200, json={"id": "9b53", "kind": "sso/saml"})
    transport = httpx.MockTransport(lambda request: answer)
    driver = MenderDriver(
        DriverSettings(SERVER, Secrets("mender", "a", "b"), "51", transport=transport)
    )
    with pytest.raises(UnsupportedServer, match="FOTILLA_MENDER_TOKEN"):
        await driver.open()
    await driver.close()


@pytest.mark.parametrize(
    "lost",
    ["/api/management/v2/devauth/devices", "/api/management/v1/deployments/artifacts"],
)
async def test_what_was_made_without_an_answer_is_found_again_and_removed(
    stub: MenderManagement, driver: MenderDriver, lost: str
) -> None:
    stub.answers_lost = {("POST", lost)}
    with pytest.raises(ServerUnreachable):
        await driver.provision(NAMES[:1])
        await driver.publish(IMAGE, "2.0.0")
    assert len(stub.devices) == 1
    await driver.cleanup()
    assert not stub.devices
    assert not stub.artifacts


@pytest.mark.parametrize(("key", "kind"), [("ed25519", KeyType.ED25519), ("rsa", KeyType.RSA_2048)])
async def test_keys_of_each_kind(stub: MenderManagement, key: str, kind: KeyType) -> None:
    driver = made(stub, key=key, identity="mac", device_type="board-7")
    credentials = await driver.provision(NAMES[:1])
    assert load_signing_key(credentials["a-51"].private_key, "a device's").kind is kind
    assert list(stub.devices.values()) == [{"mac": "a-51"}]
    assert driver.device_options["device_type"] == "board-7"
    await driver.close()


def test_a_key_of_no_kind(stub: MenderManagement) -> None:
    with pytest.raises(BadOption, match="none of ecdsa, ed25519, rsa"):
        made(stub, key="dsa")
