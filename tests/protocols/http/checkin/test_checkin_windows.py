"""The client waits: windows of the day, a campaign's dates, the calendar of the server."""

from __future__ import annotations

import datetime

from agent.update import State
from tests.protocols.http.checkin.world import (
    DAY,
    first,
    hour,
    package,
    version,
    virtual,
    world,
)


@virtual
async def test_each_action_waits_for_its_window():
    async with world() as w:
        w.backend.next_check_in = int(DAY)
        w.backend.order("dev-1", package(), download=((2, 4),), install=((22, 24), (0, 1)))
        device = w.device()
        await w.sleep(3600)
        assert w.backend.states() == [] and device.engine.state is State.IDLE
        await w.until(lambda: version(device) == "2.0.0", 2 * DAY)
        assert 2 <= hour(w, first(w, "downloading")) < 2.1
        assert 22 <= hour(w, first(w, "installing")) < 22.1
        assert len({round(at) for at, _ in w.backend.check_ins}) < 6  # it waited with a timer


@virtual
async def test_a_night_over_midnight_is_two_windows():
    async with world(utc=datetime.datetime(2030, 1, 1, 23, 59, 30, tzinfo=datetime.UTC)) as w:
        w.backend.order("dev-1", package(), download=((23, 24), (0, 2)), install=((0, 2),))
        device = w.device()
        await w.until(lambda: version(device) == "2.0.0")
        assert first(w, "downloading") < 10
        assert 30 <= first(w, "installing") < 100


@virtual
async def test_the_server_s_calendar_counts():
    async with world() as w:
        # The server's clock is 5 hours ahead of the device's.
        w.backend.runtime = ahead(w.runtime, 5)
        w.backend.order("dev-1", package(), download=((7, 9),))
        device = w.device()
        await w.until(lambda: version(device) == "2.0.0", DAY)
        assert 2 <= hour(w, first(w, "downloading")) < 2.1


def ahead(runtime, hours):
    class Clock:
        now = runtime.clock.now

        def utc(self):
            return runtime.clock.utc() + datetime.timedelta(hours=hours)

    class Runtime:
        clock = Clock()

    return Runtime()


@virtual
async def test_dates_bound_every_action():
    async with world() as w:
        w.backend.next_check_in = int(DAY)
        w.backend.order("dev-1", package(), days=(2, 5))
        order = w.backend.orders["dev-1"]
        order["dates"]["installAfter"] = "2030-01-05"
        device = w.device()
        await w.until(lambda: version(device) == "2.0.0", 9 * DAY)
        assert 2 * DAY <= first(w, "downloading") <= 2 * DAY + 61
        assert 4 * DAY <= first(w, "installing") <= 4 * DAY + 61


@virtual
async def test_a_missed_window_reports_nothing():
    async with world() as w:
        w.backend.next_check_in = int(DAY)
        w.backend.order("dev-1", package(), days=(0, 1), install=((3, 4),))
        device = w.device()
        w.backend.refuse = lambda what, body: (
            (503, {"retry-after": "7200"}) if body.get("state") == "installing" else None
        )
        await w.until(lambda: device.engine.state is State.DOWNLOADED)
        w.backend.orders.pop("dev-1")
        await w.sleep(5 * DAY)
        assert w.backend.states() == ["downloading", "downloaded"]
        assert version(device) == "1.0.0"
        assert device.engine.state is State.IDLE
        assert w.told == []


@virtual
async def test_a_month_s_campaign_in_seconds():
    async with world() as w:
        w.backend.next_check_in = int(DAY)
        for number in range(1, 21):
            w.backend.order(
                f"dev-{number}", package(), days=(3, 30), download=((1, 3),), install=((3, 4),)
            )
            w.device()
        await w.until(lambda: len(w.backend.closed) == 20, 31 * DAY)
        assert {version(device) for device in w.devices} == {"2.0.0"}
        begun = {at for at, _, body, _ in w.backend.reports if body["state"] == "downloading"}
        assert len({round(at, 1) for at in begun}) > 10  # not all in one instant


@virtual
async def test_windows_that_were_changed_count():
    async with world() as w:
        w.backend.next_check_in = 1800
        w.backend.order("dev-1", package(), download=((20, 21),))
        device = w.device()
        await w.sleep(2 * 3600)
        w.backend.order("dev-1", package(), download=((4, 5),))
        await w.until(lambda: version(device) == "2.0.0", DAY)
        assert 4 <= hour(w, first(w, "downloading")) < 4.1


@virtual
async def test_an_order_that_is_over_is_not_taken():
    async with world(utc=datetime.datetime(2030, 1, 9, 0, 30, tzinfo=datetime.UTC)) as w:
        w.backend.next_check_in = 60
        w.backend.order("dev-1", package(), days=(-3, -1))
        device = w.device()
        await w.sleep(3600)
        assert len(w.backend.check_ins) > 30
        assert not [event for event in w.events if event[0] == "campaign"]
        assert device.engine.outcome is None


@virtual
async def test_a_server_that_never_gives_up_is_not_asked_without_a_pause():
    async with world() as w:
        w.backend.next_check_in = 600
        w.backend.order("dev-1", package(), url="/gone")
        w.device()
        inner = w.backend._status

        def status(device, campaign, body):
            answer = inner(device, campaign, body)
            w.backend.closed.clear()
            w.backend.steps.clear()
            return answer

        w.backend._status = status
        await w.sleep(6000)
        assert 4 <= w.backend.states().count("failed bad-uri") <= 11
