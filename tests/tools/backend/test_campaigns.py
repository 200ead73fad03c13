"""The campaign engine with a face that does as it is told: dates, windows, places, attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, package, started, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.reasons import RETRYABLE
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import (
    Ending,
    FaceBelief,
    FaceEvent,
    FaceKind,
    FaceRefused,
    Order,
    Position,
)
from tools.backend.inventory import Firmware
from tools.backend.timing import DAY, HOUR, in_window, next_opening

FIRST = "2030-01-01"
LAST = "2030-01-07"


class FakeFace:
    """Remembers what it is told; a test says what devices do."""

    name = "fake"
    protocol = "LWM2M"
    local = ("", 0)

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.here: set[str] = set()
        self.orders: dict[str, Order] = {}
        self.begun: list[tuple[str, float]] = []
        self.installed: list[str] = []
        self.withdrawn: list[str] = []
        self.refuse = False
        self.most = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def resume(self) -> None: ...

    def reachable(self, device: str) -> bool:
        return device in self.here

    def offer(self, order: Order) -> None:
        if self.refuse:
            raise FaceRefused("not now")
        self.orders[order.device] = order
        self.begun.append((order.device, self.backend.time.now()))
        self.most = max(self.most, len(self.orders))

    def install(self, device: str) -> None:
        self.installed.append(device)

    def withdraw(self, device: str) -> None:
        self.orders.pop(device, None)
        self.withdrawn.append(device)

    def forget(self, device: str) -> None:
        """Nothing is remembered of a device."""

    def believed(self, device: str) -> FaceBelief | None:
        return None

    def identities(self) -> list[str]:
        return sorted(self.here)

    def tell(self, device: str, kind: FaceKind, ending: Ending | None = None) -> None:
        if kind is FaceKind.FINAL:
            self.orders.pop(device, None)
        self.backend.engine.face_event(FaceEvent(device, kind, ending))

    def finish(self, device: str, ending: Ending = Ending.SUCCESS) -> None:
        """A whole attempt at once."""
        self.tell(device, FaceKind.PROGRESS)
        self.tell(device, FaceKind.DOWNLOADED)
        self.tell(device, FaceKind.INSTALLING)
        self.tell(device, FaceKind.FINAL, ending)


@asynccontextmanager
async def engine(
    devices: int = 3, timing: str = "immediate", pilot_waived: bool = True
) -> AsyncIterator[tuple[Backend, FakeFace, Firmware, list[str]]]:
    config = replace(CONFIG, timing=timing, pilot_waived=pilot_waived)
    async with Runtime.in_memory() as runtime, started(runtime, config) as backend:
        face = FakeFace(backend)
        backend.engine.attach("LWM2M", face)
        firmware = await package(backend)
        names = [f"urn:imei:{350000000000000 + number}" for number in range(devices)]
        await backend.load_devices([{"name": name} for name in names])
        face.here.update(names)
        yield backend, face, firmware, names


def request(names: list[str], **changes: object) -> CampaignRequest:
    base = CampaignRequest(
        account=CONFIG.account,
        title="",
        package="app",
        version_from="",
        version_to="2.0.0",
        start_date=FIRST,
        end_date=LAST,
        devices=tuple(name.removeprefix("urn:imei:") for name in names),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def statuses(campaign: Campaign) -> list[str]:
    return [member.status for member in campaign.members.values()]


async def turn(backend: Backend, seconds: float = 0.1) -> None:
    await backend.runtime.clock.sleep(seconds)


@rules("BR-027")
@virtual
async def test_a_campaign_goes_through_its_states() -> None:
    async with engine() as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names))
        assert campaign.status == states.REQUEST_PENDING
        assert statuses(campaign) == [states.DATA] * 3
        await turn(backend)
        assert campaign.status == states.SCHEDULED
        assert statuses(campaign) == [states.STARTED] * 3
        for name in names:
            face.finish(name)
        await backend.finished.wait()
        assert campaign.status == states.ENDED
        assert statuses(campaign) == [states.SUCCESS] * 3
        assert face.installed == []  # the events came faster than the commit of the intent


@virtual
async def test_no_more_than_its_places_at_once() -> None:
    async with engine(devices=10) as (backend, face, _firmware, names):
        await backend.engine.create(request(names, concurrency=3))
        for _ in range(10):
            await turn(backend)
            for name in list(face.orders):
                face.finish(name)
        assert backend.finished.is_set()
        assert face.most == 3


@virtual
async def test_install_is_told_once_and_after_the_commit() -> None:
    async with engine(devices=1) as (backend, face, _firmware, names):
        await backend.engine.create(request(names))
        await turn(backend)
        for _ in range(3):
            face.tell(names[0], FaceKind.DOWNLOADED)
        assert face.installed == []
        await turn(backend)
        for _ in range(3):
            face.tell(names[0], FaceKind.DOWNLOADED)
        await turn(backend)
        assert face.installed == names


@rules("BR-087")
@pytest.mark.parametrize("ending", list(Ending))
@virtual
async def test_an_executed_device_is_never_tried_again(ending: Ending) -> None:
    async with engine(devices=1) as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names))
        await turn(backend)
        face.finish(names[0], ending)
        await backend.finished.wait()
        expected = states.SUCCESS if ending is Ending.SUCCESS else states.FAILED
        assert statuses(campaign) == [expected]
        assert len(face.begun) == 1


@rules("BR-086")
@pytest.mark.parametrize("ending", sorted(RETRYABLE))
@virtual
async def test_three_attempts_four_hours_apart(ending: Ending) -> None:
    async with engine(devices=1, timing="documented") as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names))
        for _ in range(5):
            await turn(backend, 4 * HOUR + 60)
            if names[0] in face.orders:
                face.tell(names[0], FaceKind.FINAL, ending)
        assert [round((at - campaign.created) / HOUR, 1) for _, at in face.begun] == [
            0.2,
            8.0,
            12.0,
        ]
        assert statuses(campaign) == [states.FAILED]


@rules("BR-004", "BR-115")
@virtual
async def test_lead_times_of_the_documented_profile() -> None:
    async with engine(devices=30, timing="documented") as (backend, face, _firmware, names):
        pilot = await backend.engine.create(request(names[:5]))
        large = await backend.engine.create(request(names[5:]))
        later = await backend.engine.create(
            request(["urn:imei:999999999999999"], start_date="2030-01-03")
        )
        assert pilot.starts - pilot.created == 600
        assert large.starts - large.created == 5400
        assert later.status == states.REQUEST_FAILED
        await turn(backend, 5399)
        assert len(face.begun) == 5
        await turn(backend, 2)
        assert len(face.begun) == 30


@rules("BR-017")
@virtual
async def test_nothing_starts_outside_a_window() -> None:
    async with engine(devices=4) as (backend, face, _firmware, names):
        windows = ((22, 24), (3, 5))
        campaign = await backend.engine.create(request(names, concurrency=1, windows=windows))
        for _ in range(60):
            await turn(backend, HOUR / 2)
            for name in list(face.orders):
                face.finish(name)
        assert campaign.status == states.ENDED
        assert all(in_window(windows, at) for _, at in face.begun)
        assert face.begun[0][1] % DAY >= 3 * HOUR


@rules("BR-032", "BR-090")
@virtual
async def test_at_the_end_date_whoever_has_no_result_has_failed() -> None:
    async with engine(devices=3) as (backend, face, _firmware, names):
        face.here.remove(names[2])
        campaign = await backend.engine.create(request(names, end_date=FIRST, concurrency=1))
        await turn(backend, 2 * DAY)
        assert campaign.status == states.ENDED
        assert statuses(campaign) == [states.FAILED] * 3
        reasons = [member.reason for member in campaign.members.values()]
        assert reasons[2] == (
            "The network does not report this device is reachable, no retry available, try count 0."
        )


@rules("BR-092")
@virtual
async def test_a_registration_brings_an_unreachable_device_back() -> None:
    async with engine(devices=1) as (backend, face, _firmware, names):
        face.here.clear()
        campaign = await backend.engine.create(request(names))
        await turn(backend, 60)
        assert statuses(campaign) == [states.NO_DATA]
        face.here.add(names[0])
        face.tell(names[0], FaceKind.REGISTERED)
        await turn(backend)
        assert statuses(campaign) == [states.STARTED]


@rules("BR-091")
@virtual
async def test_a_fault_of_ours_costs_no_attempt() -> None:
    async with engine(devices=1) as (backend, face, _firmware, names):
        face.refuse = True
        campaign = await backend.engine.create(request(names))
        await turn(backend, 20)
        assert statuses(campaign)[0] in (states.FAULT, states.STARTED)
        assert "Request to FOTA server failed" in next(iter(campaign.members.values())).reason
        face.refuse = False
        await turn(backend, 10)
        face.finish(names[0])
        await backend.finished.wait()
        assert next(iter(campaign.members.values())).attempts == 1


@rules("BR-048", "BR-056")
@virtual
async def test_cancel_before_the_start() -> None:
    async with engine() as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names, start_date="2030-01-02"))
        await turn(backend, 60)
        await backend.engine.cancel(campaign)
        assert campaign.status == states.CANCELLED
        assert statuses(campaign) == [states.CANCELLED] * 3
        assert face.begun == []
        with pytest.raises(RequestRefused, match="cancelled already"):
            await backend.engine.cancel(campaign)
        again = await backend.engine.create(request(names))
        assert statuses(again) == [states.DATA] * 3  # they are free


@rules("BR-051", "BR-053", "BR-055")
@virtual
async def test_abort_lets_those_that_install_finish() -> None:
    async with engine() as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names, concurrency=2))
        await turn(backend)
        installing, loading = list(face.orders)
        face.tell(installing, FaceKind.DOWNLOADED)
        await turn(backend)
        await backend.engine.cancel(campaign)
        assert campaign.status == states.ABORTED
        assert statuses(campaign) == [states.ABORTED] * 3
        assert face.withdrawn == [loading]
        assert not backend.finished.is_set()
        again = await backend.engine.create(request([installing]))
        assert statuses(again) == [states.REJECTED]  # still busy
        face.tell(installing, FaceKind.FINAL, Ending.SUCCESS)
        assert campaign.members[installing].status == states.SUCCESS
        assert backend.finished.is_set()


@rules("BR-042")
@virtual
async def test_a_device_is_in_one_unfinished_campaign() -> None:
    async with engine() as (backend, _face, _firmware, names):
        await backend.engine.create(request(names[:2]))
        second = await backend.engine.create(request([*names, *names]))
        assert statuses(second) == [states.REJECTED, states.REJECTED, states.DATA]
        assert "needs to be completed before" in next(iter(second.members.values())).reason


@rules("BR-002", "BR-106")
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"devices": ()}, "Device list is empty"),
        ({"devices": ("12",)}, "Invalid device id format"),
        ({"start_date": "2029-12-31"}, "in the past"),
        ({"start_date": "20300101"}, "startDate"),
        ({"end_date": "soon"}, "endDate"),
        ({"start_date": "2030-01-03", "end_date": "2030-01-02"}, "before startDate"),
        ({"windows": ((5, 5),)}, "Invalid time window"),
        ({"windows": ((22, 25),)}, "Invalid time window"),
        ({"package": "other"}, "not available"),
        ({"version_to": "9"}, "does not lead"),
        ({"protocol": "HTTP"}, "not supported"),
    ],
)
@virtual
async def test_what_is_wrong_is_named_and_nothing_is_written(
    changes: dict[str, object], text: str
) -> None:
    async with engine() as (backend, _face, _firmware, names):
        with pytest.raises(RequestRefused, match=text):
            await backend.engine.create(request(names, **changes))
        assert backend.engine.book.campaigns == {}


@rules("BR-108", "BR-111")
@virtual
async def test_a_large_campaign_needs_a_pilot() -> None:
    async with engine(devices=30, pilot_waived=False) as (backend, face, _firmware, names):
        with pytest.raises(RequestRefused, match="at most 20"):
            await backend.engine.create(request(names))
        await backend.engine.create(request(names[:5]))
        await turn(backend)
        for index, name in enumerate(names[:5]):
            face.finish(name, Ending.SUCCESS if index < 3 else Ending.INTEGRITY)
        large = await backend.engine.create(request(names[5:]))
        assert statuses(large) == [states.DATA] * 25


@virtual
async def test_an_attempt_without_end_is_given_up() -> None:
    async with engine(devices=1) as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names))
        await turn(backend, 3 * backend.timing.attempt_limit + 100)
        assert statuses(campaign) == [states.FAILED]
        assert len(face.begun) == 3


@rules("BR-015")
def test_windows() -> None:
    midnight = 20_000 * DAY
    windows = ((22, 24), (0, 5))
    assert next_opening(windows, midnight + 6 * HOUR) == midnight + 22 * HOUR
    assert next_opening(windows, midnight + 4 * HOUR) == midnight + 4 * HOUR
    assert next_opening(((1, 2),), midnight + 3 * HOUR) == midnight + DAY + HOUR
    assert next_opening((), midnight) == midnight
    assert not in_window(windows, midnight + 5 * HOUR)


def test_positions_are_ordered() -> None:
    assert Position.DOWNLOADED < Position.EXECUTE < Position.INSTALLING < Position.DONE
