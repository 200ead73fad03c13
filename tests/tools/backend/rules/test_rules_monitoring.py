"""Whose coming and going the operator network reports: from the licence on, or with a campaign."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.licence_office import ACCOUNT, ids
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rest_world import V3, rest_world
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, request, turn
from tests.tools.backend.test_restart import ADDRESS, kill
from tests.tools.backend.virtual import CONFIG, package, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FIRMWARE_V1, FIRMWARE_V1_LWM2M, SOFTWARE_V2
from tools.backend.campaigns.records import CampaignRequest
from tools.backend.config import Listen
from tools.backend.errors import StoreError
from tools.backend.inventory import EVENT_BILLED, MONTHLY_BILLED
from tools.backend.licences import rows
from tools.backend.timing import DAY

ONE, TWO, THREE = ids(0, 1, 2)
LATER = "2030-01-03"
BOTH = f"{EVENT_BILLED},{MONTHLY_BILLED}"


class World:
    """A backend, a face that knows of nobody, and what the network reports."""

    def __init__(self, runtime: Runtime, path: Path) -> None:
        self._runtime = runtime
        self._config = replace(
            CONFIG, account=ACCOUNT, db=str(path), listen={"coap": Listen(ADDRESS)}
        )
        self.reports: list[str] = []

    async def start(self) -> None:
        self.backend = Backend(self._runtime, self._config)
        await self.backend.start()
        self.face = FakeFace(self.backend)
        self.backend.engine.attach("LWM2M", self.face)  # type: ignore[arg-type]
        operator = self.backend.operator
        operator.on_reachable.append(lambda found: self.reports.append(f"+{found.device_id}"))
        operator.on_present.append(lambda found: self.reports.append(f"={found.device_id}"))
        operator.on_unreachable.append(lambda device_id: self.reports.append(f"-{device_id}"))

    async def restart(self) -> None:
        kill(self.backend)
        await self.start()

    async def subscribe(self, purchase_type: str, count: int = 10) -> None:
        await self.backend.licences.set_subscription(ACCOUNT, purchase_type, count)

    async def assign(self, *devices: str) -> None:
        await self.backend.licences.assign(self.backend.account, devices)

    async def remove(self, *devices: str) -> list[str]:
        found = await self.backend.licences.remove(self.backend.account, devices)
        return [result.verdict.value for result in found]

    async def attach(self, *devices: str) -> None:
        for device in devices:
            await self.backend.operator.attach(device, "c1", None)

    async def detach(self, *devices: str) -> None:
        for device in devices:
            await self.backend.operator.detach(device)

    def monitored(self) -> list[str]:
        """By the network's own word, of all devices that there are."""
        known = sorted(device.device_id for device in self.backend.inventory.devices.values())
        return [device_id for device_id in known if self.backend.operator.monitored(device_id)]

    def said(self) -> list[str]:
        """The reports since this was asked last."""
        found, self.reports = self.reports, []
        return found


@asynccontextmanager
async def world(tmp_path: Path, purchase_type: str = MONTHLY_BILLED) -> AsyncIterator[World]:
    async with Runtime.in_memory(seed=3) as runtime:
        found = World(runtime, tmp_path / "b.db")
        await found.start()
        await found.subscribe(purchase_type)
        await package(found.backend)
        await found.backend.load_devices([{"deviceId": device} for device in ids(0, 1, 2)])
        yield found
        await found.backend.stop()


def asked(*devices: str, **changes: object) -> CampaignRequest:
    base = request([], start_date=LATER, **changes)
    return replace(base, account=ACCOUNT, devices=devices)


@rules("BR-095")
@virtual
async def test_from_the_licence_to_its_removal(tmp_path: Path) -> None:
    async with world(tmp_path) as place:
        await place.attach(ONE, TWO)
        await place.detach(TWO)
        assert (place.said(), place.monitored()) == ([], [])
        # Where it is belongs to the first report; TWO is not there.
        await place.assign(ONE, TWO)
        assert place.said() == [f"={ONE}"]
        assert place.monitored() == [ONE, TWO]
        await place.attach(TWO)
        await place.attach(ONE)  # it moves
        await place.detach(ONE)
        assert place.said() == [f"+{TWO}", f"+{ONE}", f"-{ONE}"]
        assert await place.remove(ONE, TWO) == ["removed", "removed"]
        await place.attach(ONE)
        await place.detach(TWO)
        assert (place.said(), place.monitored()) == ([], [])
        # The network knows all the same where they are: it is theirs.
        assert place.backend.operator.cell_of(ONE) == "c1"


@rules("BR-095")
@virtual
async def test_the_operator_interface_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as place, logged_in(place.backend) as api:
        await place.attach(ONE)
        await place.assign(TWO)
        shown = [(await api.get(f"/operator/devices/{device}")).json() for device in (ONE, TWO)]
        assert [(item["attached"], item["monitored"]) for item in shown] == [
            (True, False),
            (False, True),
        ]


@rules("BR-095", "BR-123")
@virtual
async def test_a_licence_that_is_taken_back_ends_it(tmp_path: Path) -> None:
    async with world(tmp_path) as place:
        await place.assign(ONE, TWO, THREE)
        await place.subscribe(MONTHLY_BILLED, 1)
        await turn(place.backend)
        assert place.monitored() == [THREE]


@rules("BR-095")
@virtual
async def test_removed_in_mid_campaign(tmp_path: Path) -> None:
    async with world(tmp_path) as place:
        await place.assign(ONE, TWO)
        place.face.here.update(f"urn:imei:{device}" for device in (ONE, TWO))
        waiting = await place.backend.engine.create(asked(ONE))
        running = await place.backend.engine.create(replace(asked(TWO), start_date="2030-01-01"))
        await turn(place.backend)
        # What is scheduled ends with the licence, and with that the monitoring; what runs keeps it.
        assert await place.remove(ONE, TWO) == ["removed", "upgrade in progress"]
        assert waiting.status == states.CANCELLED
        assert running.status == states.SCHEDULED
        await place.attach(ONE, TWO)
        assert place.said() == [f"+{TWO}"]
        assert place.monitored() == [TWO]


@rules("BR-095", "BR-096")
@virtual
async def test_event_billed_with_the_campaign(tmp_path: Path) -> None:
    async with world(tmp_path, EVENT_BILLED) as place:
        backend = place.backend
        await place.attach(ONE)
        assert (place.said(), place.monitored()) == ([], [])
        campaign = await backend.engine.create(asked(ONE, TWO, "999999999999999"))
        assert place.monitored() == [ONE, TWO]
        one, two = (campaign.members[f"urn:imei:{device}"] for device in (ONE, TWO))
        # It is asked where they are, and reported from then on.
        assert (one.status, two.status) == (states.DATA, states.NO_DATA)
        await turn(backend)
        await place.attach(TWO)
        await place.detach(ONE)
        assert place.said() == [f"+{TWO}", f"-{ONE}"]
        assert (one.status, two.status) == (states.NO_DATA, states.PENDING)
        await turn(backend, 2 * DAY + 60)
        place.face.finish(two.device)
        assert campaign.status == states.SCHEDULED
        assert place.monitored() == [ONE, TWO]  # to the end of the campaign
        await backend.engine.cancel(campaign)
        await place.attach(ONE)
        assert (place.said(), place.monitored()) == ([], [])


@rules("BR-095")
@pytest.mark.parametrize("outcome", ["rejected", "removed", "cancelled"])
def test_not_with_a_campaign_that_has_let_go_of_it(tmp_path: Path, outcome: str) -> None:
    @virtual
    async def scene() -> None:
        async with world(tmp_path, EVENT_BILLED) as place:
            engine = place.backend.engine
            if outcome == "rejected":
                place.backend.inventory.devices[f"urn:imei:{ONE}"].line = "suspend"
            campaign = await engine.create(asked(ONE, TWO))
            await turn(place.backend)
            if outcome == "removed":
                await engine.remove(campaign, [ONE])
            elif outcome == "cancelled":
                engine.release([f"urn:imei:{ONE}"])
            assert place.monitored() == [TWO]
            await place.attach(ONE, TWO)
            assert place.said() == [f"+{TWO}"]

    scene()


@rules("BR-095")
@pytest.mark.parametrize("version", [1, 2])
def test_the_version_of_the_api_makes_no_difference(tmp_path: Path, version: int) -> None:
    @virtual
    async def scene() -> None:
        async with world(tmp_path, EVENT_BILLED) as place:
            backend = place.backend
            protocol, kind = {1: ("LWM2M", FIRMWARE_V1_LWM2M), 2: ("HTTP", SOFTWARE_V2)}[version]
            [device] = ids(7)
            await backend.load_devices([{"deviceId": device, "protocol": protocol}])
            await backend.add_package(b"x", name="it", version="2.0.0", protocol=protocol)
            campaign = await backend.engine.create(
                asked(device, kind=kind, protocol=protocol, package="it")
            )
            assert place.monitored() == [device]
            await backend.engine.cancel(campaign)
            assert place.monitored() == []

    scene()


@rules("BR-095", "BR-069")
@virtual
async def test_who_waits_in_the_network_is_monitored_whatever_the_campaign(tmp_path: Path) -> None:
    async with world(tmp_path, EVENT_BILLED) as place:
        backend = place.backend
        [device] = ids(7)
        await backend.load_devices([{"deviceId": device, "protocol": "OMADM"}])
        await backend.add_package(b"x", name="dm", version="2.0.0", protocol="OMADM")
        campaign = await backend.engine.create(
            asked(device, kind=FIRMWARE_V1, protocol="OMADM", package="dm")
        )
        [member] = campaign.members.values()
        await turn(backend, 30 * DAY)  # it is off all the time
        assert (campaign.status, member.queued) == (states.ENDED, True)
        assert place.monitored() == [device]
        # A licence that it gets now is no power-up.
        await place.subscribe(BOTH)
        await place.assign(device)
        assert (place.said(), member.attempts) == ([], 0)
        await place.attach(device)
        assert (place.said(), member.attempts) == ([f"+{device}"], 1)


@rules("BR-095", "BR-102", "BR-104")
@pytest.mark.parametrize(
    ("purchase_type", "assigns", "taken"),
    [
        (EVENT_BILLED, False, True),
        (MONTHLY_BILLED, True, True),
        (MONTHLY_BILLED, False, False),
    ],
)
def test_a_campaign_that_adds_devices_looks_out_for_them(
    tmp_path: Path, purchase_type: str, assigns: bool, taken: bool
) -> None:
    @virtual
    async def scene() -> None:
        async with world(tmp_path, purchase_type) as place:
            backend = place.backend
            if purchase_type == MONTHLY_BILLED:
                await place.assign(ONE)
            campaign = await backend.engine.create(asked(ONE, auto_add=True, auto_assign=assigns))
            backend.inventory.devices[f"urn:imei:{TWO}"].firmware = "1.0.0"
            await place.attach(TWO)
            assert (f"urn:imei:{TWO}" in campaign.members) is taken
            assert place.said() == ([f"+{TWO}"] if taken else [])
            if not taken:
                # With its licence monitoring begins, and it is there.
                await place.assign(TWO)
                assert place.said() == [f"={TWO}"]
                assert f"urn:imei:{TWO}" in campaign.members

    scene()


@rules("BR-095")
@virtual
async def test_a_licence_of_an_account_that_needs_none(tmp_path: Path) -> None:
    async with world(tmp_path, BOTH) as place:
        await place.assign(ONE)
        campaign = await place.backend.engine.create(asked(ONE, TWO))
        assert place.monitored() == [ONE, TWO]
        assert await place.remove(ONE) == ["removed"]
        assert place.monitored() == [ONE, TWO]  # the campaign wants to know still
        await place.backend.engine.cancel(campaign)
        assert place.monitored() == []


@rules("BR-095", "BR-165")
@virtual
async def test_a_restart_goes_on_monitoring(tmp_path: Path) -> None:
    async with world(tmp_path, BOTH) as place:
        await place.attach(ONE)
        await place.assign(ONE, THREE)
        await place.backend.engine.create(asked(TWO))
        assert await place.remove(THREE) == ["removed"]
        await turn(place.backend)
        before = place.monitored()
        place.said()
        await place.restart()
        assert before == place.monitored() == [ONE, TWO]
        assert place.said() == []  # nothing has happened
        await place.detach(ONE)
        await place.attach(TWO, THREE)
        assert place.said() == [f"-{ONE}", f"+{TWO}"]


@rules("BR-095")
@virtual
async def test_an_assignment_that_is_not_stored_monitors_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as place:

        def fail(*_arguments: object, **_named: object) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(rows, "put_licences", fail)
        with pytest.raises(StoreError):
            await place.assign(ONE)
        assert place.monitored() == []


@rules("BR-095")
@virtual
async def test_a_device_that_is_removed_is_not_monitored(tmp_path: Path) -> None:
    async with world(tmp_path) as place:
        await place.assign(ONE)
        await place.backend.removal.device(place.backend.inventory.devices[f"urn:imei:{ONE}"])
        await place.attach(ONE)
        assert place.said() == []
        assert not place.backend.operator.monitored(ONE)


@rules("BR-095")
@virtual
async def test_its_own_server_hears_of_a_device_without_a_licence_all_the_same() -> None:
    async with rest_world() as place:
        place.subscribe(5)
        await place.scripted()
        asked_for = {"deviceList": place.lwm2m[:1]}
        found = await place.json(
            "POST", f"{V3}/devices/{ACCOUNT}", "DeviceListResult", json=asked_for
        )
        [shown] = found["deviceList"]
        assert shown["licenseAssigned"] is False
        assert shown["lastConnectionTime"].startswith("2030-01-01T00:00:00")
        assert not place.backend.operator.monitored(place.lwm2m[0])
