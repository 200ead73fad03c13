"""Devices in front of the reference backend itself: the same loop, virtual time, HTTP in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from agent import Runtime
from agent.device import Device
from protocols.http.memory_transport import MemoryHttp
from tests.agent.parts import new_image
from tests.protocols.http.checkin.world import SERVER, World
from tools.backend.backend import Backend, BackendConfig
from tools.backend.campaigns.kinds import FILE_V2, SOFTWARE_V2
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.timing import DAY, Windows, date_text
from tools.fleet.audit import AuditResult, audit
from tools.fleet.factory import target_of
from tools.fleet.watch import Census, Watch

CONFIG = BackendConfig(timing="immediate", pilot_waived=True)


class ReferenceWorld(World):
    """A backend of ours and its devices on one runtime."""

    def __init__(self, runtime: Runtime, backend: Backend) -> None:
        super().__init__(runtime)
        self.reference = backend
        self.http = MemoryHttp(runtime, {SERVER: backend.device_app})
        runtime.http = self.http
        self.tokens: dict[str, str] = {}
        self.target = target_of(new_image())
        self.census = Census(0)
        self.watches: list[Watch] = []

    async def fleet(self, count: int, **more: object) -> list[Device]:
        """Devices that the backend knows, switched on."""
        devices = []
        first = len(self.devices) + 1
        names = [f"dev-{first + position}" for position in range(count)]
        await self.reference.load_devices({"name": name, "protocol": "HTTP"} for name in names)
        tokens = await self.reference.mint_tokens(names)
        for name in names:
            device = self.device(token=tokens[name], power=False, **more)  # type: ignore[arg-type]
            assert device.name == name
            # A watch listens in place of the world, and counts installs and deliveries.
            self.watches.append(Watch(device, self.target, self.census))
            device.power_on()
            devices.append(device)
        return devices

    async def campaign(
        self,
        devices: list[Device],
        *,
        image: bytes | None = None,
        days: tuple[int, int] = (0, 7),
        download: Windows = (),
        install: Windows = (),
    ) -> Campaign:
        backend = self.reference
        package = await backend.add_package(
            new_image() if image is None else image,
            name=f"app-{len(backend.engine.book.campaigns)}",
            version="2.0.0",
            protocol="HTTP",
        )
        now = backend.time.now()
        return await backend.engine.create(
            CampaignRequest(
                account=package.account,
                title="test",
                package=package.name,
                version_from="",
                version_to="2.0.0",
                start_date=date_text(now + days[0] * DAY),
                end_date=date_text(now + days[1] * DAY),
                devices=tuple(backend.inventory.devices[one.name].device_id for one in devices),
                windows=download,
                install_windows=install,
                kind=SOFTWARE_V2,
                protocol="HTTP",
                concurrency=len(devices),
            )
        )

    async def file_campaign(self, devices: list[Device], content: bytes) -> Campaign:
        backend = self.reference
        file = await backend.add_file(content, filename="apn.json", version="3", path="/etc/apn")
        now = backend.time.now()
        return await backend.engine.create(
            CampaignRequest(
                account=file.account,
                title="file",
                package=file.name,
                version_from="",
                version_to="3",
                start_date=date_text(now),
                end_date=date_text(now + DAY),
                devices=tuple(backend.inventory.devices[one.name].device_id for one in devices),
                kind=FILE_V2,
                protocol="HTTP",
                concurrency=len(devices),
            )
        )

    def finished(self) -> bool:
        return self.reference.finished.is_set()

    def settled(self) -> bool:
        """Both sides are through."""
        return self.finished() and not any(one.engine.report_pending for one in self.devices)

    def audit(self) -> AuditResult:
        truths = [watch.truth("http") for watch in self.watches]
        return audit(truths, self.reference.beliefs(), self.target)


@asynccontextmanager
async def reference_world(
    *,
    seed: int = 1,
    journal: Callable[[str], object] | None = None,
    config: BackendConfig = CONFIG,
) -> AsyncIterator[ReferenceWorld]:
    async with Runtime.in_memory(seed=seed, journal=journal) as runtime:
        backend = Backend(runtime, config)
        await backend.start()
        try:
            world = ReferenceWorld(runtime, backend)
            yield world
            for device in world.devices:
                if device.client is not None:
                    device.power_off()
        finally:
            await backend.stop()
