"""Whole driven runs where driver and devices meet one server each: the stub of a management API and
the stub of the device API beside it, joined on one port. Stubs on both sides; that driver and
client understand each other is what is shown here, not that a server does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from agent.misbehaviour import Misbehaviour
from firmware_images.keys import KeyType
from firmware_images.mcuboot import Version, build_image
from protocols.http import poller
from tests.busy import ANY_LAG
from tests.stubs.hawkbit.listener import listening
from tests.stubs.management import ManagementStub
from tests.stubs.mender import MenderStub, StubDevice
from tests.stubs.mender_management import MenderManagement
from tests.stubs.thingsboard import Package, ThingsBoardStub
from tests.stubs.thingsboard_management import ThingsboardManagement
from tools.drivers.base import Driver, DriverSettings, Secrets
from tools.drivers.campaign import DriveTuning, drive
from tools.drivers.mender import MenderDriver
from tools.drivers.thingsboard import ThingsboardDriver
from tools.fleet import shard
from tools.fleet.audit import Kind
from tools.fleet.factory import derived_key, payload
from tools.fleet.fleet import join
from tools.fleet.result import RunResult
from tools.fleet.spec import FleetSpec

KEY = derived_key(KeyType.ECDSA_P256, 1, "test")
IMAGE = build_image(payload(5000, 1, 1), version=Version(2, 0, 0, 0), key=KEY, security_counter=1)

HANGS = 60.0
NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("boot_seconds", "reboot_delay", "watchdog_seconds"):
        monkeypatch.setattr(f"agent.device.DeviceTiming.{name}", 0.0)
    monkeypatch.setattr(shard, "LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(poller, "FIRST_POLL_SPREAD", 0.0)


@asynccontextmanager
async def joined(
    management: ManagementStub, device_app: Any, is_device: Callable[[str], bool], sync: Any
) -> AsyncIterator[str]:
    """Both behind one port; `sync` carries state across after each management call."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if is_device(scope["path"]):
            await device_app(scope, receive, send)
            sync()
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        query = scope["query_string"].decode()
        url = f"http://server{scope['path']}" + (f"?{query}" if query else "")
        request = httpx.Request(scope["method"], url, headers=scope["headers"], content=body)
        answer = management(request)
        sync()
        await send(
            {
                "type": "http.response.start",
                "status": answer.status_code,
                "headers": [(name.lower(), value) for name, value in answer.headers.raw],
            }
        )
        await send({"type": "http.response.body", "body": answer.content})

    async with listening(app, "127.0.0.1") as port:
        yield f"http://127.0.0.1:{port}"


async def run(driver: Driver, **fields: Any) -> RunResult:
    spec = FleetSpec(
        server=driver.device_server,
        devices=len(NAMES),
        names=NAMES,
        image=fields.pop("image", IMAGE),
        keys=(KEY.public.to_pem(),),
        protocol=driver.protocol,
        options=(("interval", "0.1"),),
        slot_size=64 << 10,
        ramp=1000.0,
        duration=HANGS,
        max_lag=ANY_LAG,
        **fields,
    )
    tuning = DriveTuning(registered=HANGS, settle_interval=0.05, grace=1.0, cleanup=HANGS)
    driven = await drive(
        driver, spec, suffix="77", stop=asyncio.Event(), say=lambda text: None, tuning=tuning
    )
    assert driven.snapshot is not None
    assert (driven.findings, driven.left) == ((), ())
    return join("run", [driven.spec], [driven.snapshot], seconds=1.0, beliefs=driven.beliefs)


# --- ThingsBoard


@asynccontextmanager
async def thingsboard() -> AsyncIterator[tuple[ThingsboardDriver, ThingsboardManagement]]:
    management, devices = ThingsboardManagement(), ThingsBoardStub()
    assigned: dict[str, str] = {}

    def sync() -> None:
        for device, token in management.tokens.items():
            if device not in management.devices:
                devices.devices.pop(token, None)
                continue
            stub = devices.devices.get(token) or devices.add(token)
            firmware = (management.devices[device]["firmwareId"] or {}).get("id", "")
            if firmware and assigned.get(device) != firmware:
                assigned[device] = firmware
                package = management.packages[firmware]
                data = management.data[firmware]
                devices.assign(token, Package(package["title"], package["version"], data))
            told = management.telemetry.setdefault(device, {})
            for key in ("fw_state", "current_fw_version"):
                if (value := stub.last(key)) is not None:
                    told[key] = [{"ts": 1_767_323_045_000, "value": value}]

    def is_device(path: str) -> bool:
        return path.startswith("/api/v1/")

    async with joined(management, devices.app, is_device, sync) as url:
        identity = Secrets("thingsboard", management.user, management.password)
        yield ThingsboardDriver(DriverSettings(url, identity, "77")), management
    assert devices.violations == []


async def test_thingsboard_devices_are_updated() -> None:
    async with thingsboard() as (driver, management):
        result = await run(driver)
        assert result.counts.updated == 3
        assert result.audit.agree == 3
        assert not management.devices
        assert not management.packages


async def test_thingsboard_devices_that_refuse() -> None:
    async with thingsboard() as (driver, _):
        result = await run(driver, image=b"not an image" * 100)
        assert result.counts.failed == 3
        assert result.audit.agree == 3


# --- Mender


@asynccontextmanager
async def mender() -> AsyncIterator[tuple[MenderDriver, MenderManagement]]:
    management, devices = MenderManagement(), MenderStub(accept_all=False)
    offered: set[tuple[str, str]] = set()
    at: list[str] = []

    def sync() -> None:
        for one, data in management.devices.items():
            identity = json.dumps(data, separators=(",", ":"), sort_keys=True)
            if identity not in devices.devices:
                pubkey = management.keys[one].to_pem().decode()
                devices.devices[identity] = StubDevice(identity, pubkey, accepted=True)
            for made, deployment in management.deployments.items():
                if (made, one) not in offered and one in deployment.devices:
                    offered.add((made, one))
                    name = deployment.artifact
                    devices.deploy(identity, name, management.files[name], ["fotilla"], at[0])
                for _, status in devices.devices[identity].statuses[-1:]:
                    if not deployment.aborted:
                        deployment.asked[one] = status

    def is_device(path: str) -> bool:
        return path.startswith(("/api/devices/", "/files/"))

    async with joined(management, devices.app, is_device, sync) as url:
        at.append(url)
        identity = Secrets("mender", management.user, management.password)
        yield MenderDriver(DriverSettings(url, identity, "77")), management
    assert devices.violations == []


async def test_mender_devices_are_updated() -> None:
    async with mender() as (driver, management):
        result = await run(driver)
        assert result.counts.updated == 3
        assert result.audit.agree == 3
        assert not management.devices
        assert not management.artifacts


async def test_mender_devices_that_refuse() -> None:
    async with mender() as (driver, _):
        result = await run(driver, image=b"not an image" * 100)
        assert result.counts.failed == 3
        assert result.audit.agree == 3


async def test_mender_devices_that_lie() -> None:
    async with mender() as (driver, _):
        lies = ((Misbehaviour.FALSE_FAILURE, 1.0),)
        result = await run(driver, misbehave=lies)
        assert result.audit.by_kind() == {Kind.FALSE_FAILURE: 3}
