"""kill -9 at each campaign state, with real devices left running on real sockets.

Ten blows: at offered, downloading, downloaded, executing and installing, for a pushed and for a
pulled package each. The first device that comes to a place where no blow has fallen yet strikes
from inside its receive path, before it has looked at the message; so the backend dies without the
answer. Twenty-four devices share the backend, so each blow meets others at other places.
Afterwards the audit must agree and no device may have installed twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from functools import partial
from pathlib import Path

from agent import Device, DeviceTiming, Runtime, State
from agent.runtime.network import Address
from agent.runtime.random import DeviceRandom
from firmware_images.mcuboot import KeyType, TrustedKeys, Version, build_image, generate_key
from protocols.coap.message import Message
from protocols.coap.tuning import TransportTuning
from protocols.lwm2m import Lwm2mClient
from tests.tools.backend.process import BackendProcess, Killed, ok
from tests.tools.backend.test_kill import is_over
from tools.fleet.audit import Belief, DeviceTruth, Target, audit

DEVICES = 24
PLACES = ("offered", "downloading", "downloaded", "executing", "installing")
DELIVERIES = ("push", "pull")
STRUCK_BLOCK = 4  # of forty
LIMIT = 120.0  # seconds; only a backend or a device that is stuck takes them

KEY = generate_key(KeyType.ED25519)
OLD, NEW = (
    build_image(
        DeviceRandom(major).bytes(size),
        version=Version(major, 0, 0),
        key=KEY,
        security_counter=major,
    )
    for major, size in ((1, 5_000), (2, 40_000))
)
TRUSTED = TrustedKeys.of([KEY.public])

# A dead backend is noticed soon, and outlived: eight tries take over half a minute.
TUNING = TransportTuning(ack_timeout=0.2, max_retransmit=7)


class Quick(DeviceTiming):
    boot_seconds = 0.3
    reboot_delay = 0.2


class Struck:
    """The backend, and the places at which it is still to be killed."""

    def __init__(self, backend: BackendProcess) -> None:
        self.backend = backend
        self.left = {(place, delivery) for place in PLACES for delivery in DELIVERIES}
        self.again = asyncio.Event()

    def at(self, place: str, delivery: str) -> None:
        process = self.backend.process
        if (place, delivery) in self.left and process is not None and process.poll() is None:
            self.left.remove((place, delivery))
            self.backend.kill()
            self.again.set()

    async def keep_up(self) -> None:
        """Start the backend again after each blow, on the same port and database."""
        while True:
            await self.again.wait()
            self.again.clear()
            for _ in range(DEVICES):
                await asyncio.sleep(0)  # what the dead one sent is read before the next one lives
            with contextlib.suppress(Killed):
                await self.backend.start()


class Meter:
    """A real device, watched from outside."""

    def __init__(self, runtime: Runtime, struck: Struck, index: int) -> None:
        self.id = str(350_000_000_000_000 + index)
        self.delivery = DELIVERIES[index % 2]
        self.installs = self.packages = 0
        self.device = Device(
            runtime,
            f"urn:imei:{self.id}",
            image=OLD,
            trusted=TRUSTED,
            slot_size=1 << 17,
            index=index,
            timing=Quick(),
        )
        self.device.on_event = self._event
        self._hit = partial(struck.at, delivery=self.delivery)
        host, port = struck.backend.coap
        self.device.attach(
            partial(Lwm2mClient, server=f"coap://{host}:{port}", trace=self._message, tuning=TUNING)
        )

    def _message(self, way: str, _peer: Address, _type: int, _mid: int, message: Message) -> None:
        if way != "<":
            return
        path, state = message.options.path, self.device.engine.state
        block = message.options.block1 or message.options.block2
        if path == ("5", "0", "3") and state is State.IDLE and self.packages == 0:
            self._hit("offered")
        elif block is not None and block.number == STRUCK_BLOCK:
            self._hit("downloading")
        elif path == ("5", "0", "2"):
            self._hit("executing")
        elif state is State.TRIAL:
            self._hit("installing")

    def _event(self, machine: str, _old: str, new: str, _cause: str) -> None:
        if machine == "update" and new == "DOWNLOADED":
            self.packages += 1
            self._hit("downloaded")
        elif machine == "update" and new == "INSTALLING":
            self.installs += 1
        elif machine == "device" and new == "BOOTING" and self.installs:
            self._hit("installing")

    def truth(self) -> DeviceTruth:
        engine, running = self.device.engine, self.device.running
        assert running is not None
        return DeviceTruth(
            name=self.device.name,
            protocol="lwm2m",
            state=engine.state.name.lower(),
            outcome=None if engine.outcome is None else engine.outcome.name.lower(),
            running_version=str(running.version),
            running_digest=running.digest,
            boots=self.device.boots,
            executes=self.installs,
            deliveries=self.packages,
        )


async def test_real_devices_outlive_every_death_of_their_backend(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path)
    await backend.start()
    async with Runtime.real(seed=3) as runtime:
        struck = Struck(backend)
        meters = [Meter(runtime, struck, index) for index in range(DEVICES)]
        campaign = await make_campaign(backend, meters)
        for meter in meters:
            meter.device.power_on()
        restarts = asyncio.create_task(struck.keep_up())
        try:
            async with asyncio.timeout(LIMIT):
                while not await is_over(backend, campaign):
                    await asyncio.sleep(0.1)
        finally:
            restarts.cancel()
        assert struck.left == set()
        assert backend.starts > len(PLACES) * len(DELIVERIES)
        beliefs = {}
        async with backend.administrator() as client:
            for meter in meters:
                seen = await ok(await client.get(f"/admin/devices/{meter.device.name}/belief"))
                beliefs[meter.device.name] = Belief(
                    seen["verdict"], seen["detail"], seen["firmware"]
                )
        truths = [meter.truth() for meter in meters]
        target = Target("2.0.0", meters[0].truth().running_digest, b"")
        result = audit(truths, beliefs, target)
        assert result.differences == ()
        assert result.agree == DEVICES
        assert {truth.running_version for truth in truths} == {"2.0.0"}
        assert {belief.verdict for belief in beliefs.values()} == {"updated"}
        assert [meter.installs for meter in meters] == [1] * DEVICES
        assert [meter.device.boots for meter in meters] == [2] * DEVICES
        assert backend.interrupt() == 0
        for meter in meters:
            meter.device.cut_power()


async def make_campaign(backend: BackendProcess, meters: list[Meter]) -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    inventory = [{"deviceId": meter.id, "delivery": meter.delivery} for meter in meters]
    async with backend.administrator() as admin:
        await ok(await admin.put("/admin/firmware?name=app&version=2.0.0", content=NEW))
        await ok(await admin.put("/admin/devices", json=inventory))
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
                    "deviceList": [meter.id for meter in meters],
                    "autoAssignLicenseFlag": False,
                    "autoAddDevicesFlag": False,
                },
            )
        )
        return str(made["id"])
