"""The hawkBit driver against the proven stub, or against a living hawkBit when HAWKBIT_URL,
HAWKBIT_USER and HAWKBIT_PASSWORD are set. The devices here are a few calls each."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from agent.credentials import Credential, TokenKind
from tests.stubs.hawkbit import HawkbitStub
from tools.drivers.base import Campaign, DriverSettings, Secrets, Tally, tally_differences
from tools.drivers.errors import (
    BadOption,
    CleanupIncomplete,
    DriverError,
    RequestRefused,
    ServerUnreachable,
    UnsupportedServer,
    WrongCredentials,
)
from tools.drivers.hawkbit import HawkbitDriver
from tools.fleet.audit import Belief

IMAGE = bytes(range(256)) * 20
LIVING = "HAWKBIT_URL" in os.environ
TOKEN_SWITCH = "authentication.targettoken.enabled"


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    identity: Secrets
    stub: HawkbitStub | None
    skipped: list[float]
    """Seconds that a stub's clock was put forward."""

    async def nap(self, seconds: float) -> None:
        """Let time pass at the server."""
        self.skipped.append(seconds)
        await asyncio.sleep(seconds if self.stub is None else 0.0)

    def driver(self, suffix: str, **options: str) -> HawkbitDriver:
        return HawkbitDriver(self.settings(suffix, options))

    def settings(
        self, suffix: str, options: dict[str, str], identity: Secrets | None = None
    ) -> DriverSettings:
        return DriverSettings(
            self.url, identity or self.identity, suffix, options, transport=self.transport()
        )

    def transport(self) -> httpx.AsyncBaseTransport | None:
        return None if self.stub is None else httpx.ASGITransport(self.stub.app)  # type: ignore[arg-type]

    async def ask(self, path: str, method: str = "GET") -> httpx.Response:
        """A management call of somebody else."""
        async with httpx.AsyncClient(
            trust_env=False, auth=self.identity.login(), transport=self.transport()
        ) as client:
            return await client.request(method, f"{self.url}/rest/v1/{path}")


@pytest.fixture
def server() -> Iterator[Server]:
    if LIVING:
        identity = Secrets("hawkbit", os.environ["HAWKBIT_USER"], os.environ["HAWKBIT_PASSWORD"])
        yield Server(os.environ["HAWKBIT_URL"], identity, None, [])
        return
    skipped: list[float] = []
    stub = HawkbitStub(lambda: time.time() + sum(skipped))
    yield Server(stub.url, Secrets("hawkbit", stub.user, stub.password), stub, skipped)


@pytest.fixture
def suffix() -> str:
    return secrets.token_hex(4)


@pytest.fixture
async def driver(server: Server, suffix: str) -> AsyncIterator[HawkbitDriver]:
    driver = server.driver(suffix)
    try:
        yield driver
    finally:
        await driver.cleanup()
        await driver.close()


class Device:
    """Polls once and reports what it is told to."""

    def __init__(
        self, server: Server, driver: HawkbitDriver, name: str, credential: Credential
    ) -> None:
        self.server = server
        tenant = driver.device_options["tenant"]
        self.base = f"{driver.device_server}/{tenant}/controller/v1/{name}"
        kind = "GatewayToken" if credential.token_kind is TokenKind.GATEWAY else "TargetToken"
        self.headers = {"Authorization": f"{kind} {credential.token}"}

    async def call(self, method: str, url: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(
            trust_env=False, headers=self.headers, transport=self.server.transport()
        ) as client:
            return await client.request(method, url, **options)

    async def links(self) -> dict[str, Any]:
        answer = await self.call("GET", self.base)
        assert answer.status_code == 200, answer.text
        links: dict[str, Any] = answer.json().get("_links", {})
        return links

    async def deployment(self) -> dict[str, Any]:
        href = (await self.links())["deploymentBase"]["href"]
        answer = await self.call("GET", href)
        assert answer.status_code == 200
        deployment: dict[str, Any] = answer.json()
        return deployment

    async def report(self, execution: str, finished: str, kind: str = "deploymentBase") -> None:
        href = (await self.links())[kind]["href"].partition("?")[0]
        body = {"status": {"execution": execution, "result": {"finished": finished}}}
        answer = await self.call("POST", f"{href}/feedback", json=body)
        assert answer.status_code == 200, answer.text


async def started(
    server: Server, driver: HawkbitDriver, names: Sequence[str], version: str = "2.0.0"
) -> tuple[Campaign, dict[str, Device]]:
    credentials = await driver.provision(names)
    campaign = await driver.start(await driver.publish(IMAGE, version), names)
    return campaign, {name: Device(server, driver, name, credentials[name]) for name in names}


async def verdicts(driver: HawkbitDriver, campaign: Campaign) -> dict[str, Belief]:
    beliefs = await driver.belief(campaign)
    return {name: driver.believed(belief, campaign) for name, belief in beliefs.items()}


async def test_a_campaign_from_the_first_device_to_the_last_belief(
    server: Server, driver: HawkbitDriver, suffix: str
) -> None:
    good, bad, silent = names = [f"{word}-{suffix}" for word in ("good", "bad", "silent")]
    campaign, devices = await started(server, driver, names)
    assert set(campaign.actions) == set(names)
    chunk = (await devices[good].deployment())["deployment"]["chunks"][0]
    assert chunk["version"] == "2.0.0"
    assert chunk["artifacts"][0]["hashes"]["sha256"] == hashlib.sha256(IMAGE).hexdigest()
    assert not await driver.settled(campaign)
    await devices[good].report("closed", "success")
    await devices[bad].report("closed", "failure")
    assert not await driver.settled(campaign)
    assert await verdicts(driver, campaign) == {
        good: Belief("updated", "finished", "2.0.0"),
        bad: Belief("failed", "error", None),
        silent: Belief("unfinished", "running", None),
    }
    beliefs = await driver.belief(campaign)
    assert all(belief.time is not None for belief in beliefs.values())
    await devices[silent].report("closed", "success")
    assert await driver.settled(campaign)
    assert await driver.tally(campaign) is None


async def test_nothing_is_left(server: Server, driver: HawkbitDriver, suffix: str) -> None:
    names = [f"gone-{index}-{suffix}" for index in range(3)]
    before = (await server.ask(f"system/configs/{TOKEN_SWITCH}")).json()["value"]
    campaign, _ = await started(server, driver, names)
    assert (await server.ask(f"targets/{names[0]}")).status_code == 200
    assert (await server.ask(f"system/configs/{TOKEN_SWITCH}")).json()["value"] is True
    await driver.cleanup()
    for name in names:
        assert (await server.ask(f"targets/{name}")).status_code == 404
    assert (await server.ask(f"distributionsets/{campaign.package.id}")).status_code == 404
    modules = (await server.ask(f"softwaremodules?q=name==fotilla-{suffix}")).json()
    assert modules["total"] == 0
    assert (await server.ask(f"system/configs/{TOKEN_SWITCH}")).json()["value"] == before
    await driver.cleanup()


async def test_settings_are_changed_for_the_run_and_put_back(server: Server, suffix: str) -> None:
    async def settings() -> dict[str, Any]:
        keys = ("pollingTime", "user.confirmation.flow.enabled", TOKEN_SWITCH)
        return {key: (await server.ask(f"system/configs/{key}")).json() for key in keys}

    before = await settings()
    driver = server.driver(suffix, polling="00:00:45", confirmation="on")
    await driver.provision([f"set-{suffix}"])
    during = await settings()
    assert during["pollingTime"]["value"] == "00:00:45"
    assert during["user.confirmation.flow.enabled"]["value"] is True
    await driver.cleanup()
    await driver.close()
    after = await settings()
    for key, setting in before.items():
        assert (after[key]["value"], after[key]["global"]) == (setting["value"], setting["global"])


async def test_a_polling_time_out_of_bounds_is_named(server: Server, suffix: str) -> None:
    before = (await server.ask("system/configs/pollingTime")).json()
    driver = server.driver(suffix, polling="00:00:01")
    with pytest.raises(BadOption, match="polling='00:00:01' is not a time that the server allows"):
        await driver.provision([f"fast-{suffix}"])
    await driver.cleanup()
    await driver.close()
    assert (await server.ask("system/configs/pollingTime")).json()["value"] == before["value"]


async def test_settings_may_be_left_alone(server: Server, suffix: str) -> None:
    before = (await server.ask("system/configs/pollingTime")).json()
    driver = server.driver(suffix, polling="")
    await driver.provision([f"as-is-{suffix}"])
    assert (await server.ask("system/configs/pollingTime")).json()["value"] == before["value"]
    await driver.cleanup()
    await driver.close()


async def test_a_gateway_token_speaks_for_all(server: Server, suffix: str) -> None:
    driver = server.driver(suffix, credentials="gateway")
    names = [f"gw-{index}-{suffix}" for index in range(2)]
    try:
        _, devices = await started(server, driver, names)
        for device in devices.values():
            assert device.headers["Authorization"].startswith("GatewayToken ")
            assert "deploymentBase" in await device.links()
    finally:
        await driver.cleanup()
        await driver.close()


async def test_only_its_own_token_opens_a_device(
    server: Server, driver: HawkbitDriver, suffix: str
) -> None:
    names = [f"tok-{index}-{suffix}" for index in range(2)]
    credentials = await driver.provision(names)
    assert len({credential.token for credential in credentials.values()}) == 2
    foreign = Device(server, driver, names[0], credentials[names[1]])
    assert (await foreign.call("GET", foreign.base)).status_code == 401


async def test_a_canceled_device_may_accept_or_go_on(
    server: Server, driver: HawkbitDriver, suffix: str
) -> None:
    obeys, goes_on, done = names = [f"{word}-{suffix}" for word in ("obeys", "goes", "done")]
    campaign, devices = await started(server, driver, names)
    await devices[done].report("closed", "success")
    await driver.cancel(campaign)
    assert (await verdicts(driver, campaign))[obeys].detail == "canceling"
    await devices[obeys].report("closed", "success", "cancelAction")
    await devices[goes_on].report("rejected", "none", "cancelAction")
    await devices[goes_on].report("closed", "success")
    assert {
        name: belief.verdict for name, belief in (await verdicts(driver, campaign)).items()
    } == {
        obeys: "failed",
        goes_on: "updated",
        done: "updated",
    }
    assert await driver.settled(campaign)
    await driver.cancel(campaign)


async def test_download_only_ends_without_an_installation(server: Server, suffix: str) -> None:
    driver = server.driver(suffix, type="downloadonly")
    try:
        campaign, devices = await started(server, driver, [f"dl-{suffix}"])
        await devices[f"dl-{suffix}"].report("downloaded", "none")
        assert await driver.settled(campaign)
        assert (await verdicts(driver, campaign))[f"dl-{suffix}"].verdict == "unfinished"
    finally:
        await driver.cleanup()
        await driver.close()


async def test_a_device_that_the_server_forgot_is_not_in_the_list(
    server: Server, driver: HawkbitDriver, suffix: str
) -> None:
    names = [f"kept-{suffix}", f"lost-{suffix}"]
    campaign, _ = await started(server, driver, names)
    assert (await server.ask(f"targets/{names[1]}", "DELETE")).is_success
    assert set(await driver.belief(campaign)) == {names[0]}


async def test_a_foreign_device_is_neither_taken_over_nor_removed(
    server: Server, driver: HawkbitDriver, suffix: str
) -> None:
    owner = server.driver(f"{suffix}0")
    name = f"theirs-{suffix}"
    try:
        await owner.provision([name])
        with pytest.raises(RequestRefused) as raised:
            await driver.provision([f"mine-{suffix}", name])
        assert raised.value.status == 409
        await driver.cleanup()
        assert (await server.ask(f"targets/{name}")).status_code == 200
    finally:
        await owner.cleanup()
        await owner.close()


async def test_wrong_password(server: Server, suffix: str) -> None:
    identity = Secrets("hawkbit", server.identity.user, "not-the-password")
    driver = HawkbitDriver(server.settings(suffix, {}, identity))
    with pytest.raises(WrongCredentials) as raised:
        await driver.open()
    await driver.close()
    assert "not-the-password" not in str(raised.value)


async def test_nobody_listens(unused_tcp_port: int, suffix: str) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    driver = HawkbitDriver(DriverSettings(url, Secrets("hawkbit", "a", "b"), suffix))
    with pytest.raises(ServerUnreachable, match=url):
        await driver.open()
    await driver.close()


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(200, json={"status": "UP"}),
        httpx.Response(200, json=[]),
        httpx.Response(200, text="<html>welcome</html>"),
    ],
)
async def test_something_else_answers(answer: httpx.Response, suffix: str) -> None:
    transport = httpx.MockTransport(lambda request: answer)
    identity = Secrets("hawkbit", "a", "b")
    settings = DriverSettings("http://other", identity, suffix, transport=transport)
    driver = HawkbitDriver(settings)
    with pytest.raises(UnsupportedServer):
        await driver.open()
    await driver.close()


class Cutting(httpx.AsyncBaseTransport):
    """Hands requests to the stub and loses the answer of the first that ends as told."""

    def __init__(self, stub: HawkbitStub, method: str, ending: str) -> None:
        self.inner = httpx.ASGITransport(stub.app)  # type: ignore[arg-type]
        self.wanted = (method, ending)
        self.lost = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        if not self.lost and (request.method, request.url.path[-len(self.wanted[1]) :]) == (
            self.wanted
        ):
            self.lost += 1
            raise httpx.ReadError("connection reset by peer")
        return answer


def cut(
    server: Server, suffix: str, method: str, ending: str, **options: str
) -> tuple[HawkbitDriver, Cutting]:
    assert server.stub is not None
    transport = Cutting(server.stub, method, ending)
    settings = dataclasses.replace(server.settings(suffix, options), transport=transport)
    return HawkbitDriver(settings), transport


@pytest.mark.skipif(LIVING, reason="an answer is lost on the way from the stub")
async def test_targets_whose_answer_was_lost_are_found_again_and_removed(
    server: Server, suffix: str
) -> None:
    driver, transport = cut(server, suffix, "POST", "/targets")
    with pytest.raises(ServerUnreachable):
        await driver.provision([f"a-{suffix}", f"b-{suffix}"])
    assert transport.lost == 1
    assert server.stub is not None
    assert len(server.stub.state.targets) == 2
    await driver.cleanup()
    assert not server.stub.state.targets
    await driver.close()


@pytest.mark.skipif(LIVING, reason="an answer is lost on the way from the stub")
@pytest.mark.parametrize("ending", ["/softwaremodules", "/distributionsets", "/rollouts"])
async def test_what_was_made_without_an_answer_is_found_again_and_removed(
    server: Server, suffix: str, ending: str
) -> None:
    driver, transport = cut(server, suffix, "POST", ending, groups="1")
    with pytest.raises(ServerUnreachable):
        await started(server, driver, [f"a-{suffix}"])
    assert transport.lost == 1
    await driver.cleanup()
    for kind in ("softwaremodules", "distributionsets"):
        assert (await server.ask(kind)).json()["total"] == 0
    assert all(one["deleted"] for one in (await server.ask("rollouts")).json()["content"])
    await driver.close()


@pytest.mark.skipif(LIVING, reason="an answer is lost on the way from the stub")
async def test_what_could_not_be_removed_is_named_and_can_be_tried_again(
    server: Server, suffix: str
) -> None:
    name = f"stuck-{suffix}"
    driver, _ = cut(server, suffix, "DELETE", f"/targets/{name}")
    campaign, _ = await started(server, driver, [name])
    with pytest.raises(CleanupIncomplete, match=name):
        await driver.cleanup()
    assert (await server.ask(f"distributionsets/{campaign.package.id}")).status_code == 404
    await driver.cleanup()
    assert (await server.ask(f"targets/{name}")).status_code == 404
    await driver.close()


@pytest.mark.skipif(LIVING, reason="counts the requests of one stub")
async def test_a_settled_device_is_not_asked_about_again(
    server: Server, driver: HawkbitDriver, suffix: str
) -> None:
    assert server.stub is not None
    names = [f"n{index:02d}-{suffix}" for index in range(20)]
    campaign, devices = await started(server, driver, names)
    before = len(server.stub.requests)
    for name in names:
        assert not await driver.settled(campaign)
        await devices[name].report("closed", "success")
    assert await driver.settled(campaign)
    asked = [seen for seen in server.stub.requests[before:] if seen.path.startswith("/rest/")]
    assert len(asked) == 2 * len(names)


async def test_many_devices_are_made_in_few_calls(
    server: Server, driver: HawkbitDriver, suffix: str
) -> None:
    names = [f"many-{index:04d}-{suffix}" for index in range(501)]
    credentials = await driver.provision(names)
    assert len({credential.token for credential in credentials.values()}) == 501
    if server.stub is not None:
        posts = [seen for seen in server.stub.requests if seen.method == "POST"]
        assert [seen.path for seen in posts] == ["/rest/v1/targets"] * 2


async def test_a_rollout_with_groups(server: Server, suffix: str) -> None:
    driver = HawkbitDriver(server.settings(suffix, {"groups": "2"}), sleep=server.nap)
    names = [f"r{index}-{suffix}" for index in range(4)]
    try:
        campaign, devices = await started(server, driver, names)
        assert not await driver.settled(campaign)
        served: set[str] = set()
        for _ in range(600):
            for name in set(names) - served:
                if "deploymentBase" in await devices[name].links():
                    result = "failure" if name == names[3] else "success"
                    await devices[name].report("closed", result)
                    served.add(name)
            if served == set(names) and await driver.settled(campaign):
                break
            await server.nap(1.0)
        beliefs = await verdicts(driver, campaign)
        assert [beliefs[name].verdict for name in names] == ["updated"] * 3 + ["failed"]
        tally = await driver.tally(campaign)
        assert tally == Tally(3, 1)
        assert tally_differences(tally, beliefs) == ()
        await driver.cancel(campaign)
    finally:
        await driver.cleanup()
        await driver.close()


async def test_a_rollout_that_takes_in_others_is_not_started(server: Server, suffix: str) -> None:
    other = server.driver(f"{suffix}0")
    driver = server.driver(suffix, groups="1")
    try:
        await other.provision([f"x2-{suffix}"])
        names = [f"x1-{suffix}", f"x3-{suffix}"]
        await driver.provision(names)
        package = await driver.publish(IMAGE, "2.0.0")
        with pytest.raises(DriverError, match="3 targets, not 2"):
            await driver.start(package, names)
    finally:
        for one in (driver, other):
            await one.cleanup()
            await one.close()
