"""Servers that are there when a driven run begins and answer nobody any more after a while: the run
ends soon, says so, and says what may be left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from firmware_images.keys import KeyType
from firmware_images.mcuboot import Version, build_image
from protocols.http import poller
from tests.busy import ANY_LAG
from tests.stubs.hawkbit import HawkbitStub
from tests.stubs.hawkbit.listener import listening
from tests.stubs.joined import MenderServer, ThingsBoardServer
from tools.drivers.base import Driver, DriverSettings, Secrets
from tools.drivers.campaign import Driven, DriveTuning, drive
from tools.drivers.errors import CleanupIncomplete, DriverError, ServerLost
from tools.drivers.goosebit import NEEDED, GoosebitDriver
from tools.drivers.hawkbit import HawkbitDriver
from tools.drivers.mender import MenderDriver
from tools.drivers.thingsboard import ThingsboardDriver
from tools.fleet import shard
from tools.fleet.factory import derived_key, payload
from tools.fleet.fleet import join
from tools.fleet.result import exit_code
from tools.fleet.spec import FleetSpec

KEY = derived_key(KeyType.ECDSA_P256, 1, "test")
IMAGE = build_image(payload(5000, 1, 1), version=Version(2, 0, 0, 0), key=KEY, security_counter=1)
NAMES = ("a", "b", "c")

HANGS = 30.0  # what takes so long here waits for an answer that never comes
TUNING = DriveTuning(
    registered=HANGS, settle_interval=0.05, grace=HANGS, silence=0.3, cleanup=2 * HANGS
)
KINDS = {"hawkbit": HawkbitDriver, "mender": MenderDriver, "thingsboard": ThingsboardDriver}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(shard, "GOODBYE_SECONDS", 0.2)
    monkeypatch.setattr(poller, "FIRST_POLL_SPREAD", 0.0)


class Mortal:
    """A server in front of an app. Once `dead`, it takes requests and never answers them."""

    def __init__(self, kind: str) -> None:
        self.dead = False
        self.url = ""
        self._over = asyncio.Event()
        self._server: Any = {
            "hawkbit": HawkbitStub,
            "mender": MenderServer,
            "thingsboard": ThingsBoardServer,
        }[kind]()
        self._kind = kind

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if self.dead:
            await self._over.wait()
        await self._server.app(scope, receive, send)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Driver]:
        async with listening(self.app, "127.0.0.1") as port:
            self.url = f"http://127.0.0.1:{port}"
            if self._kind == "mender":
                self._server.base = self.url
            identity = Secrets(self._kind, self._server.user, self._server.password)
            yield KINDS[self._kind](DriverSettings(self.url, identity, "77"))
            self._over.set()


async def run(
    server: Mortal, driver: Driver, dies_at: str, duration: float | None = 1.5
) -> tuple[Driven, list[str]]:
    """A run whose server dies when this is said."""
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        server.dead |= dies_at in text

    spec = FleetSpec(
        server=driver.device_server,
        devices=len(NAMES),
        names=NAMES,
        image=IMAGE,
        keys=(KEY.public.to_pem(),),
        protocol=driver.protocol,
        options=(("poll" if driver.protocol == "hawkbit" else "interval", "0.2"),),
        slot_size=64 << 10,
        ramp=1000.0,
        duration=duration,
        max_lag=ANY_LAG,
    )
    async with asyncio.timeout(HANGS):
        driven = await drive(
            driver, spec, suffix="77", stop=asyncio.Event(), say=say, tuning=TUNING
        )
    return driven, said


@pytest.mark.parametrize("kind", KINDS)
async def test_a_campaign_whose_server_dies(kind: str) -> None:
    server = Mortal(kind)
    async with server.serve() as driver:
        # Long enough for a busy machine to come to the offer.
        driven, said = await run(server, driver, "offered", duration=5.0)
        assert driven.snapshot is not None
        assert driven.snapshot.error == f"{kind}: {server.url} no longer answers"
        assert driven.left
        assert f"{kind}: what is left has 77 in its name" in said
        result = join("run", [driven.spec], [driven.snapshot], seconds=1.0, left=driven.left)
        assert exit_code(result) == 4


class SlowToStart(MenderDriver):
    """Whose server dies under the call that starts the campaign."""

    server: Mortal

    async def start(self, *arguments: Any) -> Any:
        self.server.dead = True
        return await super().start(*arguments)


async def test_a_server_that_dies_before_there_is_a_campaign() -> None:
    server = Mortal("mender")
    async with server.serve() as made:
        assert isinstance(made, MenderDriver)
        driver = SlowToStart(made._settings)
        driver.server = server
        driven, _ = await run(server, driver, "never")
        assert driven.snapshot is not None
        assert driven.snapshot.error is not None
        assert "before there was a campaign" in driven.snapshot.error
        assert len(driven.left) == len(NAMES) + 1
        await made.close()


async def test_a_server_that_dies_before_there_are_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Mortal("mender")
    async with server.serve() as made:
        assert isinstance(made, MenderDriver)
        tuning = type(made._settings.tuning)(answer=0.5)
        settings = DriverSettings(server.url, made._settings.identity, "77", tuning=tuning)
        with pytest.raises(ServerLost, match="no answer in time"):
            await run(server, MenderDriver(settings), "provisioned", None)
        await made.close()


# --- at the drivers, so that gooseBit is there as well

DESCRIPTION = {
    "info": {"title": "gooseBit", "version": "0.2.12"},
    "paths": {path: dict.fromkeys(methods, {}) for path, methods in NEEDED.items()},
}


class Goosebit:
    """As much of gooseBit as makes devices known; then it dies."""

    def __init__(self, end: Callable[[], Awaitable[httpx.Response]]) -> None:
        self.dead = False
        self.asked_in_vain = 0
        self._end = end

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.dead:
            self.asked_in_vain += 1
            return await self._end()
        if request.url.path == "/openapi.json":
            return httpx.Response(200, json=DESCRIPTION)
        answer = {"access_token": "t0ken", "success": True, "devices": [], "id": 1}
        return httpx.Response(200, json=answer)


async def silent() -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def refusing() -> httpx.Response:
    raise httpx.ConnectError("connection refused")


async def proxied() -> httpx.Response:
    return httpx.Response(503, headers={"Retry-After": "1"})


@pytest.mark.parametrize("end", [silent, refusing, proxied])
async def test_a_dead_goosebit_is_given_up(end: Callable[[], Awaitable[httpx.Response]]) -> None:
    server = Goosebit(end)
    identity = Secrets("goosebit", "admin", "pa55word")
    transport = httpx.MockTransport(server)
    driver = GoosebitDriver(DriverSettings("http://other", identity, "77", transport=transport))
    async with asyncio.timeout(HANGS):
        await driver.provision(NAMES)
        package = await driver.publish(IMAGE, "2.0.0")
        campaign = await driver.start(package, NAMES)
        server.dead = True
        driver.hurry(0.2)
        with pytest.raises(DriverError):
            await driver.belief(campaign)
        with pytest.raises(CleanupIncomplete) as raised:
            await driver.cleanup()
    assert len(raised.value.left) == 3
    assert server.asked_in_vain == 1  # whoever did not answer is not asked again
    await driver.close()


async def test_calls_under_way_end_when_the_run_does() -> None:
    server = Goosebit(silent)
    identity = Secrets("goosebit", "admin", "pa55word")
    transport = httpx.MockTransport(server)
    driver = GoosebitDriver(DriverSettings("http://other", identity, "77", transport=transport))
    await driver.open()
    server.dead = True
    call = asyncio.ensure_future(driver.provision(NAMES))
    while not server.asked_in_vain:
        await asyncio.sleep(0)
    driver.hurry(0.1)
    async with asyncio.timeout(HANGS):
        with pytest.raises(DriverError, match="http://other no longer answers"):
            await call
    await driver.close()


async def test_a_server_that_is_slow_but_there_is_waited_for() -> None:
    """Each answer renews the time that the next may take."""

    async def slow() -> httpx.Response:
        await asyncio.sleep(0.1)
        return httpx.Response(200, json={"devices": []})

    server = Goosebit(slow)
    identity = Secrets("goosebit", "admin", "pa55word")
    transport = httpx.MockTransport(server)
    driver = GoosebitDriver(DriverSettings("http://other", identity, "77", transport=transport))
    await driver.provision(NAMES)
    server.dead = True
    driver.hurry(60.0)
    await driver.cleanup()
    driver.hurry(0.5)
    for _ in range(8):
        assert await driver._devices() == {}
    await driver.close()
