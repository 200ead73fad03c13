"""The client against a strict backend: updates, reports, windows, cancels, credentials."""

from __future__ import annotations

import datetime
import re

import pytest

from agent.errors import UnusableSettings
from agent.faults import FaultPlan
from agent.flash import CutMode
from agent.misbehaviour import Misbehaviour
from agent.update import Outcome, State
from tests.agent.parts import old_image
from tests.protocols.http.checkin.world import (
    DAY,
    client,
    package,
    version,
    virtual,
    world,
)

GOOD = ["downloading", "downloaded", "installing", "success"]


@virtual
async def test_an_update_from_order_to_acknowledgement():
    async with world() as w:
        w.backend.order("dev-1", package())
        device = w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        await w.sleep(5)
        assert version(device) == "2.0.0"
        assert device.engine.outcome is Outcome.SUCCESS and not device.engine.report_pending
        assert w.backend.states() == GOOD
        assert [body["seq"] for _, _, body, _ in w.backend.reports] == [1, 2, 3, 4]
        assert w.backend.reports[-1][2]["version"] == "2.0.0"
        assert w.told == [("dev-1", "updated", "success", "2.0.0")]
        reasons = [body["reason"] for _, body in w.backend.check_ins]
        assert reasons == ["power-up", "power-up", "schedule"]
        assert w.backend.check_ins[1][1]["current"]["state"] == "installing"
        assert "current" not in w.backend.check_ins[2][1]
        assert w.backend.check_ins[2][1]["software"] == [{"name": "firmware", "version": "2.0.0"}]
        stages = [(old, new) for machine, old, new, _ in w.events if machine == "campaign"]
        assert stages == [
            ("NONE", "WAITING"),
            ("WAITING", "DOWNLOADING"),
            ("DOWNLOADING", "DOWNLOADED"),
            ("DOWNLOADED", "INSTALLING"),
            ("INSTALLING", "ENDED"),
            ("ENDED", "NONE"),
        ]


@virtual
async def test_a_device_without_orders_checks_in_as_told():
    async with world() as w:
        device = w.device()
        await w.sleep(4 * 3600 + 900)
        times = [at for at, _ in w.backend.check_ins]
        assert len(times) == 5
        assert all(3600 <= b - a <= 3661 for a, b in zip(times, times[1:], strict=False))
        assert client(device).registered


@virtual
async def test_the_interval_option_wins():
    async with world() as w:
        w.device(options={"interval": "10", "clientType": "WiFiClient", "make": "m", "model": "x"})
        await w.sleep(60)
        assert 5 <= len(w.backend.check_ins) <= 7
        body = w.backend.check_ins[0][1]
        assert (body["clientType"], body["make"], body["model"]) == ("WiFiClient", "m", "x")


@virtual
async def test_a_user_asks():
    async with world() as w:
        device = w.device()
        await w.sleep(60)
        client(device).check_in_now()
        await w.sleep(5)
        assert [body["reason"] for _, body in w.backend.check_ins] == ["power-up", "user"]


@pytest.mark.parametrize(
    "options",
    [{"interval": "soon"}, {"interval": "0"}, {"interval": "inf"}, {"make": ""}, {"model": "x\n"},
     {"clientType": "x" * 65}, {"poll": "1"}],
)  # fmt: skip
def test_options_that_cannot_be(options):
    @virtual
    async def run():
        async with world() as w:
            with pytest.raises(UnusableSettings):
                w.device(options=options)

    run()


@virtual
async def test_a_power_cut_at_any_flash_operation_leaves_nothing_pending():
    async with world() as w:
        w.backend.order("dev-1", package())
        device = w.device()
        await w.until(lambda: len(w.told) == 1)
        operations = device.flash.operations
    for at in range(1, operations + 1):
        async with world() as w:
            w.backend.order("dev-1", package())
            device = w.device(
                faults=FaultPlan(cut_power_at=at, cut_mode=CutMode.AFTER, outage_seconds=1.0)
            )
            await w.until(
                lambda w=w, device=device: (
                    ("dev-1", "campaign-1") in w.backend.closed
                    and not device.engine.report_pending
                    and client_is_idle(device)
                )
            )
            seqs = {body["seq"]: body for _, _, body, _ in w.backend.reports}
            assert all(seqs[body["seq"]] == body for _, _, body, _ in w.backend.reports)


def client_is_idle(device) -> bool:
    return device.client is not None and client(device)._campaign.current is None


# -- windows and dates --------------------------------------------------------------------------


def hour(w, at: float) -> float:
    """Hour of the day, UTC, of an instant of the run's clock."""
    return at / 3600 % 24  # virtual runs begin at midnight


def first(w, state: str) -> float:
    return next(at for at, _, body, _ in w.backend.reports if body["state"] == state)


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


# -- ends ---------------------------------------------------------------------------------------


@virtual
async def test_a_package_that_is_damaged():
    async with world() as w:
        w.backend.order("dev-1", package())
        device = w.device(faults=FaultPlan(corrupt_page=3))
        await w.until(lambda: len(w.told) == 1)
        assert w.backend.states() == ["downloading", "failed integrity"]
        assert version(device) == "1.0.0"
        assert w.told == [("dev-1", "failed", "failed: integrity", None)]


@virtual
async def test_a_package_other_than_announced():
    async with world() as w:
        w.backend.order("dev-1", package(), sha256="00" * 32)
        w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        assert w.backend.states() == ["downloading", "failed integrity"]


@virtual
async def test_an_image_that_never_comes_up_is_reverted():
    async with world() as w:
        w.backend.order("dev-1", package())
        device = w.device(faults=FaultPlan(bad_boots=1))
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        assert w.backend.states() == [*GOOD[:3], "failed reverted"]
        assert version(device) == "1.0.0"
        after_boot = [body for _, body in w.backend.check_ins if body["reason"] == "power-up"][-1]
        assert after_boot["current"]["state"] == "failed"


@virtual
async def test_a_trial_without_a_server_is_reverted():
    async with world() as w:
        w.backend.order("dev-1", package())
        device = w.device()
        await w.until(lambda: device.engine.state is State.INSTALLING)
        w.backend.tokens.clear()
        await w.until(lambda: version(device) == "2.0.0")
        await w.sleep(1200)
        assert version(device) == "1.0.0"
        w.backend.tokens["token-1"] = "dev-1"
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        assert w.backend.results["dev-1", "campaign-1"] == ("failed", "reverted")


@virtual
async def test_what_is_no_image():
    async with world() as w:
        w.backend.order("dev-1", b"no image" * 500)
        w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        assert w.backend.states() == ["downloading", "failed unsupported-package"]


@virtual
async def test_an_image_larger_than_the_slot():
    async with world() as w:
        w.backend.order("dev-1", bytes(70_000))
        w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        assert w.backend.states() == ["downloading", "failed no-space"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [("ftp://host/x", "unsupported-protocol"), ("http://[", "bad-uri"), ("/gone", "bad-uri")],
)
def test_a_url_that_leads_nowhere(url, reason):
    @virtual
    async def run():
        async with world() as w:
            w.backend.order("dev-1", package(), url=url)
            w.device()
            await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
            assert w.backend.states() == ["downloading", f"failed {reason}"]

    run()


@virtual
async def test_after_a_failure_the_same_order_is_another_attempt():
    async with world() as w:
        w.backend.order("dev-1", package(), url="/gone")
        device = w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        w.backend.order("dev-1", package())
        w.backend.closed.clear()
        w.backend.steps.clear()
        await w.until(lambda: version(device) == "2.0.0", 2 * 3600)
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        seqs = [body["seq"] for _, _, body, _ in w.backend.reports]
        assert seqs == sorted(set(seqs))


@virtual
async def test_a_success_is_not_installed_again():
    async with world() as w:
        w.backend.order("dev-1", package())
        device = w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        w.backend.closed.clear()  # a server that forgot the result offers the order again
        boots = device.boots
        await w.sleep(3 * 3600)
        assert device.boots == boots and len(w.backend.check_ins) > 3


@virtual
async def test_a_second_campaign_follows_the_first():
    async with world() as w:
        w.backend.order("dev-1", package())
        device = w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        w.backend.order("dev-1", old_image(), id="campaign-2", to="1.0.0")
        await w.until(lambda: ("dev-1", "campaign-2") in w.backend.closed, 2 * 3600)
        # The security counter of the old image is lower: it may not come back.
        assert w.backend.results["dev-1", "campaign-2"] == ("failed", "downgrade")
        assert version(device) == "2.0.0"


# -- answers that are lost, or other ------------------------------------------------------------


@pytest.mark.parametrize("state", GOOD)
def test_a_lost_answer_repeats_the_same_report(state):
    @virtual
    async def run():
        async with world() as w:
            w.backend.order("dev-1", package())
            lost = []

            def lose(what, body):
                if body.get("state") == state and not lost:
                    lost.append(body)
                    return True
                return False

            w.backend.lose = lose
            device = w.device()
            await w.until(lambda: len(w.told) == 1)
            again = [body for _, _, body, _ in w.backend.reports if body["seq"] == lost[0]["seq"]]
            assert again == [lost[0], lost[0]]
            assert version(device) == "2.0.0"
            assert w.backend.results["dev-1", "campaign-1"] == ("success", "")

    run()


@virtual
async def test_a_lost_check_in_is_a_retry():
    async with world() as w:
        count = []
        w.backend.lose = lambda what, body: len(count) < 2 and not count.append(1)
        device = w.device()
        await w.until(lambda: len(w.backend.check_ins) == 3)
        assert [body["reason"] for _, body in w.backend.check_ins] == ["power-up", "retry", "retry"]
        await w.sleep(1)
        assert client(device).registered


@virtual
async def test_leave_is_asked_again_when_the_server_s_window_is_closed():
    async with world() as w:
        w.backend.order("dev-1", package())
        asked = []

        def refuse(what, body):
            if body.get("state") == "installing" and len(asked) < 3:
                asked.append((w.runtime.clock.now(), body["seq"]))
                return 503, {"retry-after": "600"}
            return None

        w.backend.refuse = refuse
        device = w.device()
        await w.until(lambda: version(device) == "2.0.0")
        assert len({seq for _, seq in asked}) == 1
        assert all(600 <= b[0] - a[0] <= 610 for a, b in zip(asked, asked[1:], strict=False))
        # To be told to wait is no failure.
        assert not [e for e in w.events if e[0] == "check-in" and "failed" in e[3]]


@virtual
async def test_a_busy_server_gets_results_and_is_spared_steps():
    async with world() as w:
        w.backend.order("dev-1", package())
        w.backend.refuse = lambda what, body: (
            (429, {"retry-after": "30"}) if body.get("state") in GOOD[:2] else None
        )
        device = w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed, 60)
        assert w.backend.states() == ["installing", "success"]
        assert version(device) == "2.0.0"


@pytest.mark.parametrize("status", [404, 409, 410])
@pytest.mark.parametrize("state", GOOD)
def test_a_campaign_that_is_over_is_dropped(status, state):
    @virtual
    async def run():
        async with world() as w:
            w.backend.order("dev-1", package())

            def refuse(what, body):
                if body.get("state") == state:
                    w.backend.orders.pop("dev-1", None)
                    return status, {}
                return None

            w.backend.refuse = refuse
            device = w.device()
            await w.until(lambda: any(e[3] == "dropped" for e in w.events))
            await w.sleep(2 * 3600)
            assert w.backend.states() == GOOD[: GOOD.index(state)]
            assert "current" not in w.backend.check_ins[-1][1]
            assert version(device) == ("2.0.0" if state == "success" else "1.0.0")
            assert device.engine.state is State.IDLE and not device.engine.report_pending
            assert w.told == []

    run()


@virtual
async def test_a_report_that_is_refused_waits_for_the_next_check_in():
    async with world() as w:
        w.backend.order("dev-1", package())
        refused = []

        def refuse(what, body):
            if body.get("state") == "success" and len(refused) < 2:
                refused.append(w.runtime.clock.now())
                return 400, {}
            return None

        w.backend.refuse = refuse
        w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed, 4 * 3600)
        assert 3600 <= refused[1] - refused[0] <= 3661


# -- cancels ------------------------------------------------------------------------------------


@virtual
async def test_a_cancel_during_the_download():
    async with world() as w:
        w.backend.order("dev-1", package())
        w.backend.next_check_in = 5
        device = w.device(bandwidth=500.0)
        await w.until(lambda: device.engine.offset > 1000)
        w.backend.abort("campaign-1")
        await w.until(lambda: device.engine.state is State.IDLE)
        assert device.engine.outcome is Outcome.CANCELLED and not device.engine.report_pending
        await w.sleep(60)
        assert w.backend.states() == ["downloading"]
        assert "current" not in w.backend.check_ins[-1][1]
        seen = [body["current"]["offset"] for _, body in w.backend.check_ins if "current" in body]
        assert seen == sorted(seen) and seen[-1] > 0


@virtual
async def test_a_device_that_ignores_a_cancel_installs_what_it_has():
    async with world() as w:
        w.backend.order("dev-1", package())
        w.backend.next_check_in = 5
        device = w.device(
            bandwidth=500.0, misbehave=frozenset({Misbehaviour.IGNORE_CANCEL, Misbehaviour.HERD})
        )
        await w.until(lambda: device.engine.offset > 1000)
        w.backend.abort("campaign-1")
        await w.until(lambda: version(device) == "2.0.0")
        await w.sleep(10)
        kept, broken = w.judgement(Misbehaviour.IGNORE_CANCEL)
        assert kept >= 3 and broken == 0
        assert {status for _, _, _, status in w.backend.reports[1:]} == {409}
        assert w.told == []


@virtual
async def test_a_cancel_while_it_waits_for_the_install():
    async with world() as w:
        w.backend.order("dev-1", package(), install=((20, 21),))
        device = w.device()
        await w.until(lambda: device.engine.state is State.DOWNLOADED)
        w.backend.abort("campaign-1")
        await w.until(lambda: device.engine.state is State.IDLE, 3700)
        assert w.backend.states() == ["downloading", "downloaded"]


@virtual
async def test_a_cancel_that_comes_too_late_changes_nothing():
    async with world() as w:
        w.backend.order("dev-1", package())
        device = w.device()
        await w.until(lambda: device.engine.state is State.INSTALLING)
        w.backend.cancelled.add("campaign-1")
        w.backend.results["dev-1", "campaign-1"] = ("installing", "")
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        assert version(device) == "2.0.0"
        assert w.backend.results["dev-1", "campaign-1"] == ("success", "")


@virtual
async def test_a_cancel_between_the_leave_and_its_lost_answer():
    async with world() as w:
        w.backend.next_check_in = 1
        w.backend.order("dev-1", package())

        def lose(what, body):
            if body.get("state") == "installing" and not w.backend.cancelled:
                w.backend.cancelled.add("campaign-1")  # and this device may be installing
                return True
            return False

        w.backend.lose = lose
        device = w.device()
        await w.until(lambda: version(device) == "2.0.0")
        asked = [(body["seq"], status) for _, _, body, status in w.backend.reports]
        assert asked[2:4] == [(3, 204), (3, 204)]


@virtual
async def test_another_campaign_in_the_answer_waits_its_turn():
    async with world() as w:
        w.backend.order("dev-1", package())
        w.backend.next_check_in = 5
        device = w.device(bandwidth=500.0)
        await w.until(lambda: device.engine.offset > 1000)
        mine = w.backend.orders["dev-1"]
        w.backend.refuse = lambda what, body: None
        w.backend.orders["dev-1"] = mine | {"id": "campaign-1", "to": "2.0.0"}
        other = mine | {"id": "campaign-2"}
        inner = w.backend._check_in

        def check_in(name, body):
            status, answer = inner(name, body)
            if answer.get("campaign") is not None:
                answer["campaign"] = other
            return status, answer

        w.backend._check_in = check_in
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        assert w.backend.results["dev-1", "campaign-1"] == ("success", "")


# -- credentials and bad answers ----------------------------------------------------------------


@virtual
async def test_a_refused_credential_keeps_the_device_away():
    async with world() as w:
        device = w.device(token="wrong")
        await w.sleep(3600)
        assert not client(device).registered
        refusals = [line for line in w.trace if line.startswith("! 401")]
        # Back-off: some at first, then one in a few minutes.
        assert 10 < len(refusals) < 40
        assert all("refuses the credential of dev-1" in line for line in refusals)
        assert not [line for line in w.trace if "wrong" in line or "token" in line]
        # The journal says it once.
        assert [event for event in w.events if event[0] == "check-in"] == [
            (
                "check-in",
                "OFFLINE",
                "OFFLINE",
                "failed: 401 to the check-in: the server refuses the credential of dev-1",
            )
        ]


@pytest.mark.parametrize(
    "body",
    [b"{}", b"<html>", b'{"serverTime": 1}', b"[" * 5000, b"\xff" * 100, b"[" + b" " * (2 << 20)],
    ids=["empty", "html", "types", "deep", "binary", "huge"],
)
def test_a_bad_answer_is_the_server_s_fault(body):
    @virtual
    async def run():
        async with world() as w:

            async def app(scope, receive, send):
                start = {"type": "http.response.start", "status": 200, "headers": []}
                await send(start)
                await send({"type": "http.response.body", "body": body})

            w.http.serve("http://backend.test:8080", app)
            device = w.device()
            await w.sleep(600)
            assert not client(device).registered
            assert any(line.startswith("! ") for line in w.trace)
            w.http.serve("http://backend.test:8080", w.backend)
            await w.sleep(301)
            assert client(device).registered

    run()  # fmt: skip


@virtual
async def test_an_unreachable_server_is_tried_again():
    async with world() as w:
        w.http.refuse("http://backend.test:8080")
        device = w.device()
        await w.sleep(300)
        w.http.serve("http://backend.test:8080", w.backend)
        await w.until(lambda: client(device).registered, 301)
        assert w.backend.check_ins[0][1]["reason"] == "retry"


@virtual
async def test_the_token_stays_with_its_server():
    async with world() as w:
        seen = []

        async def elsewhere(scope, receive, send):
            seen.append({name for name, _ in scope["headers"]})
            data = package()
            fields = [(b"content-length", str(len(data)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": data})

        w.http.serve("http://cdn.test", elsewhere)
        w.backend.order("dev-1", package(), url="http://cdn.test/fw")
        device = w.device()
        await w.until(lambda: version(device) == "2.0.0")
        assert seen and all(b"authorization" not in names for names in seen)


# -- the log ------------------------------------------------------------------------------------


@virtual
async def test_verbose_logging_on_and_off():
    async with world() as w:
        w.backend.next_check_in = 60
        device = w.device()
        await w.sleep(120)
        assert w.backend.logs == []
        w.backend.logging_until = w.runtime.clock.utc() + datetime.timedelta(days=7)
        w.backend.order("dev-1", package())
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        await w.sleep(5)
        text = "".join(entry["eventLog"] for entry in w.backend.logs)
        for line in (
            "runs 1.0.0, 1 boots",
            "campaign WAITING -> DOWNLOADING",
            "update DOWNLOADING -> DOWNLOADED: verified",
            "runs 2.0.0, 2 boots",
            "update TRIAL -> IDLE: confirmed (success)",
            "campaign ENDED -> NONE: acknowledged",
        ):
            assert line in text
        assert all(re.match(r"2030-01-01T\S+Z ", line) for line in text.splitlines())
        assert "token" not in text
        w.backend.logging_until = None
        await w.sleep(120)
        count = len(w.backend.logs)
        w.backend.order("dev-1", b"x" * 3000, id="campaign-2")
        await w.until(lambda: ("dev-1", "campaign-2") in w.backend.closed)
        assert len(w.backend.logs) == count
        assert version(device) == "2.0.0"


@virtual
async def test_a_log_that_cannot_be_stored_waits():
    async with world() as w:
        w.backend.next_check_in = 60
        w.backend.logging_until = w.runtime.clock.utc() + datetime.timedelta(days=7)
        w.backend.refuse = lambda what, body: (
            (429, {"retry-after": "5"}) if what == "logs" else None
        )
        device = w.device()
        await w.sleep(300)
        assert w.backend.logs == [] and client(device).registered
        w.backend.refuse = lambda what, body: None
        await w.sleep(120)
        assert w.backend.logs and "runs 1.0.0" in w.backend.logs[0]["eventLog"]


# -- files --------------------------------------------------------------------------------------


@virtual
async def test_a_configuration_file():
    async with world() as w:
        w.backend.order(
            "dev-1", b'{"apn": "x"}', kind="file", name="apn.json", to="3", path="/etc/apn.json"
        )
        device = w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        await w.sleep(5)
        assert w.backend.states() == GOOD
        assert w.backend.check_ins[-1][1]["files"] == [{"name": "apn.json", "version": "3"}]
        assert device.boots == 1 and version(device) == "1.0.0"
        device.cut_power(back_after=5)
        await w.sleep(20)
        assert w.backend.check_ins[-1][1]["files"] == [{"name": "apn.json", "version": "3"}]


@virtual
async def test_a_file_waits_for_its_windows_and_is_fetched_again_after_a_reboot():
    async with world() as w:
        w.backend.order(
            "dev-1", b"data", kind="file", name="f", to="1", download=((1, 2),), install=((5, 6),)
        )
        device = w.device()
        await w.until(lambda: w.backend.states() == GOOD[:2], 3 * 3600)
        device.cut_power(back_after=5)
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed, 5 * 3600)
        assert w.backend.states() == GOOD
        assert len(w.backend.ranges) == 2
        assert 5 <= hour(w, first(w, "installing")) < 5.1


@virtual
async def test_the_longest_texts_fit_what_survives_a_reboot():
    async with world() as w:
        wide = "\N{GRINNING FACE}"
        key, query = "/device/v1/packages/x", "q" * 1000
        for number, size in enumerate((120, 100, 100)):
            name = f"{number}" + "f" * size
            w.backend.order("dev-1", b"data", id=f"file-{number}", kind="file", name=name)
            if number == 0:
                w.device()
            await w.until(
                lambda number=number: ("dev-1", f"file-{number}") in w.backend.closed, 2 * 3600
            )
        w.backend.order("dev-1", package(), id=wide * 64, to=wide * 255, url=f"{key}?{query}")
        w.backend.packages["x"] = package()
        inner = w.backend._package

        async def any_package(send, device, id, headers):
            await inner(send, device, wide * 64, headers)

        w.backend._package = any_package
        w.backend.check_ins.clear()
        await w.until(lambda: version(w.devices[0]) == "2.0.0", 2 * 3600)
        await w.until(lambda: ("dev-1", wide * 64) in w.backend.closed)
        assert len(w.backend.check_ins[-1][1]["files"]) == 3


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"sha256": "00" * 32}, "integrity"),
        ({"size": 1 << 30}, "no-space"),
        ({"url": "/gone"}, "bad-uri"),
        ({"url": "coap://host/x"}, "unsupported-protocol"),
    ],
)
def test_a_file_that_cannot_be_had(more, reason):
    @virtual
    async def run():
        async with world() as w:
            w.backend.order("dev-1", b"data", kind="file", name="f", to="1", **more)
            w.device()
            await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
            assert w.backend.states() == ["downloading", f"failed {reason}"]
            assert w.backend.check_ins[-1][1]["files"] == []

    run()
