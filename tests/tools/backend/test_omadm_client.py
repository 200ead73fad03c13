"""The OMA-DM server and our own client, in memory and in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.credentials import Credential
from agent.device import Device
from agent.protocol import ClientSettings
from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from protocols.http.memory_transport import MemoryHttp
from protocols.omadm.client import OmadmClient
from protocols.omadm.personas import PERSONAS
from tests.agent.parts import image, old_image, trusted
from tests.protocols.omadm.musts import musts
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.virtual import CONFIG, started, virtual, world
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.records import Campaign
from tools.backend.faces.base import Delivery, Ending
from tools.backend.timing import DAY

NEW = image(2, 60_000, 2)
SLOT = 256 * 1024


class Fleet:
    """Devices with accounts, on the backend's runtime."""

    def __init__(self, backend: Backend, credentials: dict[str, Credential]) -> None:
        self.backend = backend
        self.runtime = backend.runtime
        self.credentials = credentials
        self.devices: list[Device] = []
        self.lines: list[str] = []

    def spawn(self, options: dict[str, str], **settings: object) -> None:
        for index, name in enumerate(self.credentials):
            device = Device(
                self.runtime,
                name,
                image=old_image(),
                trusted=trusted(),
                slot_size=SLOT,
                index=index,
            )
            told = ClientSettings(
                server=self.backend.omadm_url,
                credential=lambda one: self.credentials[one.name],
                trace=self.lines.append,
                options=options,
                bind=f"10.0.0.{index + 1}",
                **settings,  # type: ignore[arg-type]
            )
            device.attach(lambda one, told=told: OmadmClient(one, told))  # type: ignore[misc]
            self.devices.append(device)

    async def attach(self, device: Device) -> None:
        """The operator's side of a power-up."""
        client = device.client
        assert isinstance(client, OmadmClient)
        assert client.push_address is not None
        known = self.backend.inventory.devices[device.name]
        await self.backend.operator.attach(known.device_id, "c1", client.push_address)

    async def switch_off(self) -> None:
        for device in self.devices:
            if device.phase.name != "OFF":
                device.power_off()
        await self.runtime.clock.sleep(1)

    async def until(self, campaign: Campaign, seconds: float = 3600.0) -> None:
        clock = self.runtime.clock
        end = clock.now() + seconds
        while campaign.status != states.ENDED:
            assert clock.now() < end, (list(campaign.members.values()), self.lines[-20:])
            await clock.sleep(0.5)


async def equip(backend: Backend, count: int, auth: str) -> Fleet:
    """Devices in the inventory, each with an account, and the backend on the runtime's HTTP."""
    runtime = backend.runtime
    origin = backend.omadm_url.removesuffix("/dm")
    runtime.http = MemoryHttp(runtime, {origin: backend.omadm_app})
    names = [f"urn:imei:{350000000000500 + number}" for number in range(count)]
    await backend.load_devices({"name": name, "protocol": "OMADM"} for name in names)
    return Fleet(backend, await backend.mint_dm_accounts(names, auth))


@asynccontextmanager
async def fleet(count: int = 1, auth: str = "md5") -> AsyncIterator[Fleet]:
    async with world(CONFIG) as backend:
        made = await equip(backend, count, auth)
        try:
            yield made
        finally:
            await made.switch_off()


async def campaign_of(made: Fleet, delivery: Delivery) -> Campaign:
    firmware = await made.backend.add_package(NEW, name="app", version="2.0.0", protocol="OMADM")
    return await made.backend.create_campaign(
        list(made.credentials), firmware, delivery_of=lambda _name: delivery
    )


@pytest.mark.parametrize("delivery", ["pull", "push"])
@pytest.mark.parametrize("auth", ["none", "basic", "md5", "hmac"])
@pytest.mark.parametrize("encoding", ["xml", "wbxml"])
@virtual
async def test_a_campaign(delivery: Delivery, auth: str, encoding: str) -> None:
    async with fleet(3, auth) as made:
        made.spawn({"auth": auth, "server-auth": auth, "encoding": encoding})
        for device in made.devices:
            device.power_on()
        await made.runtime.clock.sleep(10)
        campaign = await campaign_of(made, delivery)
        for device in made.devices:
            client = device.client
            assert isinstance(client, OmadmClient)
            client.check_now()
        await made.until(campaign)
        for member in campaign.members.values():
            assert (member.status, member.attempts) == (states.SUCCESS, 1), (
                member.said,
                made.lines,
            )
            assert "version 2.0.0" in member.said
        assert [str(device.running.version) for device in made.devices if device.running] == [
            "2.0.0"
        ] * 3


@musts("DM-014")
@virtual
async def test_a_notification_wakes_a_device_up() -> None:
    async with fleet(2) as made:
        made.spawn({"push": "2948"})
        [first, second] = made.devices
        first.power_on()
        await made.attach(first)
        await made.runtime.clock.sleep(10)
        campaign = await campaign_of(made, "pull")
        early, late = (campaign.members[device.name] for device in made.devices)
        await made.runtime.clock.sleep(120)
        assert (early.status, early.attempts) == (states.SUCCESS, 1)
        assert (late.status, late.attempts) == (states.PENDING, 1)
        assert made.backend.operator.waiting(late.device_id) == 1
        second.power_on()
        await made.attach(second)
        await made.until(campaign)
        assert late.status == states.SUCCESS


@virtual
async def test_a_lost_notification_is_sent_again() -> None:
    async with fleet(1) as made:
        made.spawn({"push": "2948"})
        [device] = made.devices
        device.power_on()
        await made.attach(device)
        await made.runtime.clock.sleep(10)
        network = made.runtime.network
        network.loss = 1.0  # type: ignore[attr-defined]
        campaign = await campaign_of(made, "pull")
        await made.runtime.clock.sleep(5)
        network.loss = 0.0  # type: ignore[attr-defined]
        await made.until(campaign)
        [member] = campaign.members.values()
        assert (member.status, member.attempts) == (states.SUCCESS, 1)


@musts("DM-009")
@virtual
async def test_nonces_that_went_apart_come_together_again() -> None:
    async with fleet(1) as made:
        made.spawn({"push": "2948"})
        [device] = made.devices
        device.power_on()
        await made.attach(device)
        await made.runtime.clock.sleep(10)
        account = made.backend.omadm.account(device.name)
        assert account is not None
        account.server_nonce = account.client_nonce = b"something else"
        campaign = await campaign_of(made, "pull")
        await made.until(campaign)
        assert any("forged" in line for line in made.lines)
        [member] = campaign.members.values()
        assert (member.status, member.attempts) == (states.SUCCESS, 1)


@pytest.mark.parametrize("persona", sorted(PERSONAS))
@pytest.mark.parametrize("delivery", ["pull", "push"])
@virtual
async def test_every_persona(persona: str, delivery: Delivery) -> None:
    async with fleet(1) as made:
        made.spawn({"persona": persona, "push": "2948"})
        [device] = made.devices
        device.power_on()
        await made.attach(device)
        await made.runtime.clock.sleep(10)
        campaign = await campaign_of(made, delivery)
        await made.until(campaign, 2 * DAY)
        [member] = campaign.members.values()
        assert (member.status, member.attempts) == (states.SUCCESS, 1), member.said


@virtual
async def test_a_device_that_loses_power_at_any_moment() -> None:
    for moment in range(1, 40, 2):
        async with fleet(1) as made:
            made.spawn({"push": "2948"})
            [device] = made.devices
            device.power_on()
            await made.attach(device)
            await made.runtime.clock.sleep(10)
            campaign = await campaign_of(made, "pull")
            await made.runtime.clock.sleep(moment * 0.1)
            device.power_off()
            await made.runtime.clock.sleep(5)
            device.power_on()
            await made.attach(device)
            await made.until(campaign)
            [member] = campaign.members.values()
            assert (member.status, member.attempts) == (states.SUCCESS, 1), (moment, member.said)


@pytest.mark.parametrize(
    ("delivery", "endings"),
    [
        ("pull", {Ending.INTEGRITY, Ending.SIGNATURE}),
        # The last chunk is answered with 500, which says no more than that.
        ("push", {Ending.REFUSED}),
    ],
)
@virtual
async def test_packages_that_are_refused(delivery: Delivery, endings: set[Ending]) -> None:
    async with fleet(1) as made:
        made.spawn({"push": "2948"})
        [device] = made.devices
        device.power_on()
        await made.attach(device)
        await made.runtime.clock.sleep(10)
        spoiled = bytearray(NEW)
        spoiled[1000] ^= 1
        firmware = await made.backend.add_package(
            bytes(spoiled), name="bad", version="2.0.0", protocol="OMADM"
        )
        campaign = await made.backend.create_campaign(
            list(made.credentials), firmware, delivery_of=lambda _name: delivery
        )
        await made.until(campaign)
        [member] = campaign.members.values()
        assert member.status == states.FAILED
        assert member.ending in endings, member.said
        assert made.backend.belief(device.name).verdict == "failed"


def test_the_same_seed_gives_the_same_run() -> None:
    def story() -> list[str]:
        lines: list[str] = []

        async def main() -> None:
            async with (
                Runtime.in_memory(seed=7, loss=0.2, journal=lines.append) as runtime,
                started(runtime) as backend,
            ):
                made = await equip(backend, 3, "md5")
                made.spawn({"push": "2948"})
                for device in made.devices:
                    device.power_on()
                    await made.attach(device)
                await runtime.clock.sleep(10)
                await made.until(await campaign_of(made, "pull"))
                await made.switch_off()

        run_virtual(main())
        return lines

    first = story()
    assert first == story()
    assert sum("short message" in line for line in first) >= 6
    assert sum("dm session" in line for line in first) >= 20


@virtual
async def test_devices_attach_to_the_operator_by_themselves() -> None:
    async with fleet(2) as made, logged_in(made.backend) as customer:
        transport = made.runtime.http
        assert isinstance(transport, MemoryHttp)
        transport.serve("http://operator.test", made.backend.app)
        token = customer.headers["Authorization"].removeprefix("Bearer ")
        made.spawn({"operator": "http://operator.test", "operator-token": token, "cell": "c7"})
        for device in made.devices:
            device.power_on()
        await made.runtime.clock.sleep(10)
        cells = [made.backend.operator.cell_of(device.name) for device in made.devices]
        assert cells == ["c7", "c7"]
        campaign = await campaign_of(made, "pull")
        await made.until(campaign)
        for member in campaign.members.values():
            assert (member.status, member.attempts) == (states.SUCCESS, 1), member.said
