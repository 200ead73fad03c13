"""kill -9 at each position of an attempt, with the devices left running, on real sockets.

Each device kills the backend once, from inside the handler of the message that brings the attempt
to its position; so the blow falls before the backend has seen the answer. Afterwards the audit must
agree, and no device may have been executed twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx

from agent.runtime.runtime import Runtime
from protocols.coap import Exchange, Message
from protocols.coap.udp_peer import UdpPeer
from tests.tools.backend.process import BackendProcess, Killed, ok
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tools.backend.campaigns.states import CAMPAIGN_FINAL
from tools.fleet.audit import Belief, DeviceTruth, Target, audit

IMAGE = bytes(range(256)) * 40
DIGEST = hashlib.sha256(IMAGE).digest()
FACTORY = hashlib.sha256(b"factory").digest()
LIMIT = 180.0  # seconds; only a backend that is stuck takes them


class Striking(ScriptedDevice):
    """Kills the backend once, at `point`."""

    def __init__(
        self, runtime: Runtime, server: tuple[str, int], name: str, index: int, point: str
    ) -> None:
        self.point = point
        self.strike: Callable[[], None] = lambda: None
        super().__init__(runtime, server, name, index)
        self.on_package = self._arrived

    def _hit(self, point: str) -> None:
        if point == self.point:
            self.point = ""
            self.strike()

    def _handle(self, peer: UdpPeer, request: Message, exchange: Exchange) -> Message | None:
        path = request.options.path
        if path == ("5", "0", "3"):
            self._hit("offered")
        if path == ("5", "0", "0"):
            block = request.options.block1
            if block is not None and block.number == 4:
                self._hit("downloading")
        return super()._handle(peer, request, exchange)

    def _arrived(self) -> None:
        self.downloaded()
        self._hit("downloaded")

    def accept_execute(self) -> int:
        self._hit("execute")
        return super().accept_execute()

    def install(self) -> None:
        self._hit("installing")
        super().install()

    def truth(self) -> DeviceTruth:
        updated = self.version == self.new_version
        return DeviceTruth(
            name=self.name,
            protocol="lwm2m",
            state="idle",
            outcome="success" if updated else None,
            running_version=self.version,
            running_digest=DIGEST if updated and self.body == IMAGE else FACTORY,
            boots=self.boots,
            executes=self.executes,
        )


@rules("BR-165")
async def test_kill_at_each_position(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path)
    await backend.start()
    struck = asyncio.Event()

    def strike() -> None:
        backend.kill()
        struck.set()

    async with Runtime.real(seed=11) as runtime:
        points = ["offered", "downloading", "downloaded", "execute", "installing"]
        meters = [
            Striking(runtime, backend.coap, f"urn:imei:{350000000000000 + number}", number, point)
            for number, point in enumerate(points)
        ]
        campaign = await make_campaign(backend, meters)
        for meter in meters:
            meter.strike = strike
            meter.register()
        restarts = asyncio.create_task(keep_up(backend, struck))
        try:
            async with asyncio.timeout(LIMIT):
                while not await is_over(backend, campaign):
                    await asyncio.sleep(0.05)
        finally:
            restarts.cancel()
        assert [meter.point for meter in meters] == [""] * len(points)
        assert backend.starts > len(points)
        async with backend.administrator() as client:
            beliefs = {}
            for meter in meters:
                seen = await ok(await client.get(f"/admin/devices/{meter.name}/belief"))
                beliefs[meter.name] = Belief(seen["verdict"], seen["detail"], seen["firmware"])
        result = audit(
            [meter.truth() for meter in meters], beliefs, Target("2.0.0", DIGEST, FACTORY)
        )
        assert result.differences == ()
        assert result.agree == len(points)
        assert [meter.executes for meter in meters] == [1] * len(points)
        for meter in meters:
            meter.close()
    assert backend.interrupt() == 0


async def keep_up(backend: BackendProcess, struck: asyncio.Event) -> None:
    while True:
        await struck.wait()
        struck.clear()
        with contextlib.suppress(Killed):
            await backend.start()


async def make_campaign(backend: BackendProcess, meters: list[Striking]) -> str:
    ids = [meter.name.removeprefix("urn:imei:") for meter in meters]
    today = datetime.datetime.now(datetime.UTC).date()
    async with backend.administrator() as admin:
        await ok(await admin.put("/admin/firmware?name=app&version=2.0.0", content=IMAGE))
        await ok(await admin.put("/admin/devices", json=[{"deviceId": name} for name in ids]))
    async with backend.login() as client:
        account = backend.ready["account"]["name"]
        made = await ok(
            await client.post(
                f"/api/fota/v3/campaigns/firmware/{account}",
                json={
                    "firmwareName": "app",
                    "firmwareFrom": "",
                    "firmwareTo": "2.0.0",
                    "protocol": "LWM2M",
                    "startDate": str(today),
                    "endDate": str(today + datetime.timedelta(days=2)),
                    "deviceList": ids,
                    "autoAssignLicenseFlag": False,
                    "autoAddDevicesFlag": False,
                },
            )
        )
        return str(made["id"])


async def is_over(backend: BackendProcess, campaign: str) -> bool:
    """Whether the campaign has ended; False while the backend is down."""
    if not backend.alive:
        return False
    try:
        async with backend.login() as client:
            account = backend.ready["account"]["name"]
            shown = await client.get(f"/api/fota/v3/campaigns/{account}/{campaign}")
    except (httpx.TransportError, KeyError):
        return False  # struck while it answered
    return shown.status_code == 200 and shown.json()["status"] in CAMPAIGN_FINAL
