"""The client against a strict backend: updates, how they end, cancels."""

from __future__ import annotations

import pytest

from agent.errors import UnusableSettings
from agent.faults import FaultPlan
from agent.flash import CutMode
from agent.misbehaviour import Misbehaviour
from agent.update import Outcome, State
from tests.agent.parts import old_image
from tests.protocols.http.checkin.world import (
    GOOD,
    client,
    package,
    version,
    virtual,
    world,
)


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
