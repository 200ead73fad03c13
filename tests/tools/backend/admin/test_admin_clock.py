"""The clock of the backend: jumps and rates, who waits for an instant, and restarts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from agent.runtime.clock import VIRTUAL_ORIGIN, LoopClock
from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer, TimerWheel
from tests.tools.backend.http_device import HttpDevice, in_process
from tests.tools.backend.rest_client import administrator, logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import CONFIG, started, virtual, world
from tools.backend.config import Listen
from tools.backend.timing import (
    DAY,
    HOUR,
    LAST_INSTANT,
    MIN_ARMED,
    BackendTime,
    Origin,
    Shift,
    TimeRefused,
)

START = 1893456000.0  # 2030-01-01, where virtual time begins
WHERE = ("10.0.0.1", 5683)
METER = "urn:imei:350000000000000"


async def now(admin: httpx.AsyncClient) -> str:
    return str((await admin.get("/admin/clock")).json()["now"])


async def change(admin: httpx.AsyncClient, **body: object) -> httpx.Response:
    return await admin.post("/admin/clock", json=body)


# -- the time itself ---


@virtual
async def test_it_is_the_runs_clock_until_somebody_changes_it() -> None:
    time = BackendTime(LoopClock())
    assert time.now() == START
    await asyncio.sleep(10)
    assert (time.now(), time.rate) == (START + 10, 1)
    time.advance(DAY)
    assert time.now() == START + 10 + DAY
    time.set_rate(60)
    await asyncio.sleep(10)
    assert time.now() == START + 10 + DAY + 600
    assert time.origin == Origin(START + 10 + DAY, START + 10, 60)
    assert time.origin.at(START + 20) == time.now()
    time.advance_to(START + 2 * DAY)
    assert time.until(START + 2 * DAY + 120) == 2
    assert time.after(2) == START + 2 * DAY + 120


@rules("BR-021")
@virtual
async def test_it_never_goes_back_and_has_an_end() -> None:
    time = BackendTime(LoopClock())
    for wrong in (-1.0, float("nan"), float("inf"), LAST_INSTANT):
        with pytest.raises(TimeRefused):
            time.advance(wrong)
    for wrong in (START - 1, float("nan"), float("inf"), LAST_INSTANT + 1):
        with pytest.raises(TimeRefused):
            time.advance_to(wrong)
    for wrong in (0.0, -1.0, float("nan"), float("inf"), 1e6):
        with pytest.raises(TimeRefused):
            time.set_rate(wrong)
    assert (time.now(), time.rate) == (START, 1)


@virtual
async def test_timers_follow_the_time() -> None:
    clock, wheel = LoopClock(), TimerWheel()
    clock.drive(wheel)
    time = BackendTime(clock)
    fired: list[tuple[str, float]] = []

    def timer(name: str) -> Timer:
        return Timer(lambda _now: fired.append((name, time.now())))

    soon, late, never = timer("soon"), timer("late"), timer("never")
    time.arm(wheel, soon, START + DAY)
    time.arm(wheel, late, START + 3 * DAY)
    time.arm(wheel, never, START + DAY)
    wheel.disarm(never)
    time.advance(2 * DAY)
    await asyncio.sleep(1)
    assert [name for name, _ in fired] == ["soon"]
    time.set_rate(HOUR)
    await asyncio.sleep(25)
    assert [name for name, _ in fired] == ["soon", "late"]
    assert START + 3 * DAY <= fired[1][1] < START + 3 * DAY + HOUR / 32
    # Slower again: what is armed fires later.
    time.arm(wheel, late, time.now() + HOUR)
    time.set_rate(1)
    await asyncio.sleep(HOUR - 60)
    assert len(fired) == 2
    await asyncio.sleep(120)
    assert len(fired) == 3
    clock.stop()


@virtual
async def test_timers_that_have_fired_are_forgotten() -> None:
    clock, wheel = LoopClock(), TimerWheel()
    clock.drive(wheel)
    time = BackendTime(clock)
    for _ in range(100):
        for _ in range(20):
            time.arm(wheel, Timer(lambda _now: None), time.now() + 1)
        await asyncio.sleep(2)
    assert len(time._armed) <= MIN_ARMED
    clock.stop()


@virtual
async def test_what_devices_count_themselves_stays_as_far_away() -> None:
    time = BackendTime(LoopClock())
    shifts: list[Shift] = []
    time.on_shift.append(shifts.append)
    ends = time.after(300)
    time.advance(DAY)
    ends = shifts[-1].moved(ends)
    assert time.until(ends) == 300
    time.set_rate(60)
    ends = shifts[-1].moved(ends)
    assert time.until(ends) == pytest.approx(300)
    await asyncio.sleep(100)
    assert time.until(ends) == pytest.approx(200)


@virtual
async def test_a_restart_goes_on_where_it_would_be() -> None:
    time = BackendTime(LoopClock())
    time.resume(START - DAY)
    assert time.now() == START
    time.resume(START + DAY)
    assert time.now() == START + DAY
    time.resume(START + 60, Origin(START, START - 10, 60))
    assert (time.now(), time.rate) == (START + 600, 60)
    time.resume(START + 700, Origin(START, START - 10, 60))
    assert time.now() == START + 700


# -- through the admin API ---


@virtual
async def test_the_routes() -> None:
    async with world() as backend, administrator(backend) as admin:
        assert (await admin.get("/admin/clock")).json() == {
            "now": "2030-01-01T00:00:00.000Z",
            "rate": 1.0,
            "origin": {"now": "2030-01-01T00:00:00.000Z", "at": "2030-01-01T00:00:00.000Z"},
        }
        answer = await change(admin, advanceBy=90)
        assert (answer.status_code, answer.json()["now"]) == (200, "2030-01-01T00:01:30.000Z")
        await change(admin, advanceTo="2030-01-03T01:00:00+01:00")
        assert await now(admin) == "2030-01-03T00:00:00.000Z"
        await change(admin, rate=3600)
        await asyncio.sleep(24)
        assert await now(admin) == "2030-01-04T00:00:00.000Z"
        shown = (await change(admin, rate=1.0)).json()
        assert shown["origin"] == {
            "now": "2030-01-04T00:00:00.000Z",
            "at": "2030-01-01T00:00:24.000Z",
        }
        await asyncio.sleep(5)
        assert await now(admin) == "2030-01-04T00:00:05.000Z"


@rules("BR-021")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"rate": None},
        {"rate": 0},
        {"rate": -1},
        {"rate": "2"},
        {"rate": True},
        {"rate": 1e300},
        {"advanceBy": -0.001},
        {"advanceBy": 1e300},
        {"advanceTo": "2029-12-31T23:59:59Z"},
        {"advanceTo": "tomorrow"},
        {"advanceTo": "9999-12-31T23:59:59Z"},
        {"rate": 1, "advanceBy": 1},
        {"advanceBack": 1},
        [1],
    ],
)
@virtual
async def test_refused(body: object) -> None:
    async with world() as backend, administrator(backend) as admin:
        answer = await admin.post("/admin/clock", json=body)
        assert answer.status_code == 400, answer.text
        for raw in (b"", b"{", b'{"rate": NaN}', b"\xff\xfe", b'{"advanceBy": Infinity}'):
            assert (await admin.post("/admin/clock", content=raw)).status_code == 400
        assert (backend.time.now(), backend.time.rate) == (START, 1)


@rules("BR-021")
@virtual
async def test_a_campaign_of_next_week_runs_now() -> None:
    config = replace(CONFIG, timing="documented")
    async with (
        world(config) as backend,
        administrator(backend) as admin,
        logged_in(backend) as api,
    ):
        await admin.put("/admin/firmware?name=app&version=2.0.0", content=b"image" * 100)
        await admin.put("/admin/devices", json=[{"name": METER, "firmware": "1.0.0"}])
        meter = ScriptedDevice(backend.runtime, backend.coap_address, METER, lifetime=300)
        meter.register()
        await asyncio.sleep(1)
        made = await api.post(
            f"/api/fota/v3/campaigns/firmware/{backend.account.name}",
            json={
                "firmwareName": "app",
                "firmwareFrom": "",
                "firmwareTo": "2.0.0",
                "protocol": "LWM2M",
                "startDate": "2030-01-08",
                "endDate": "2030-01-20",
                "campaignTimeWindowList": [{"startTime": 10, "endTime": 12}],
                "deviceList": [METER.removeprefix("urn:imei:")],
                "autoAssignLicenseFlag": False,
                "autoAddDevicesFlag": False,
            },
        )
        assert made.status_code == 200, made.text
        await change(admin, advanceTo="2030-01-08T00:00:00Z")
        await asyncio.sleep(5)
        # The registration has not run out: its lifetime goes by the clock of the device.
        assert backend.lwm2m.reachable(METER)
        assert meter.version == "1.0.0"
        await change(admin, rate=3600)
        await asyncio.sleep(12)
        await change(admin, rate=1)
        await asyncio.sleep(60)
        assert meter.version == "2.0.0"
        meter.close()


@virtual
async def test_the_lifetime_of_a_registration_is_the_devices_own(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"), listen={"coap": Listen(WHERE)})
    async with Runtime.in_memory(seed=7) as runtime:
        async with started(runtime, config) as backend, administrator(backend) as admin:
            meter = ScriptedDevice(runtime, backend.coap_address, METER, lifetime=300)
            meter.register()
            await asyncio.sleep(1)
            await change(admin, advanceBy=30 * DAY)
            await change(admin, rate=60)
            await asyncio.sleep(200)
            assert backend.lwm2m.reachable(METER)
        # The instant that is stored has moved with the time.
        async with started(runtime, config) as backend:
            assert backend.lwm2m.reachable(METER)
            await asyncio.sleep(90)
            assert backend.lwm2m.reachable(METER)
            await asyncio.sleep(20)
            assert not backend.lwm2m.reachable(METER)
        meter.close()


@virtual
async def test_a_check_in_is_fresh_as_long_as_the_device_may_take() -> None:
    async with (
        world(replace(CONFIG, contact=100.0)) as backend,
        administrator(backend) as admin,
        in_process(backend) as client,
    ):
        await backend.load_devices([{"name": METER, "protocol": "HTTP"}])
        [token] = (await backend.mint_tokens([METER])).values()
        await HttpDevice(client, METER, token).check_in()
        await change(admin, advanceBy=DAY)
        await change(admin, rate=60)
        await asyncio.sleep(150)
        assert backend.http.reachable(METER)
        await asyncio.sleep(60)
        assert not backend.http.reachable(METER)


@rules("BR-022")
@virtual
async def test_time_and_rate_outlive_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory(seed=7) as runtime:
        async with started(runtime, config) as backend, administrator(backend) as admin:
            await change(admin, advanceBy=30 * DAY)
            await change(admin, rate=60)
            await asyncio.sleep(60)
            before = backend.time.now()
            assert before == START + 30 * DAY + HOUR
        await asyncio.sleep(60)
        async with started(runtime, config) as backend, administrator(backend) as admin:
            # As if it had not been down.
            assert backend.time.now() == before + HOUR
            shown = (await admin.get("/admin/clock")).json()
            assert shown["rate"] == 60
            assert shown["origin"]["now"] == "2030-01-31T00:00:00.000Z"


@rules("BR-022")
@virtual
async def test_a_clock_that_was_set_back_resumes_at_the_last_commit(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory(seed=7) as runtime:
        await asyncio.sleep(DAY)
        async with started(runtime, config) as backend, administrator(backend) as admin:
            await change(admin, rate=10)
            await backend.load_devices([{"name": METER}])
    # Another run, whose clock says a month earlier.
    earlier = VIRTUAL_ORIGIN - timedelta(days=30)
    async with (
        Runtime.in_memory(utc_origin=earlier) as runtime,
        started(runtime, config) as backend,
    ):
        assert backend.time.now() >= START + DAY
        assert backend.time.rate == 10
