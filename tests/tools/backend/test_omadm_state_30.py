"""State 30 of a device that was not told to download in this attempt: it may be stale, and the
device itself knows (FUMO 1.0, section 5.3.2; a busy one answers an Exec with 405)."""

from __future__ import annotations

import pytest

from tests.tools.backend.test_omadm import campaign_of, fleet, member_of
from tests.tools.backend.virtual import virtual
from tools.backend.campaigns import states
from tools.backend.faces.base import Delivery, Ending, Position
from tools.backend.faces.omadm_sessions import SESSION_IDLE


@virtual
async def test_a_stale_state_keeps_nobody_from_a_fresh_exec_at_the_next_power_up() -> None:
    async with fleet() as (backend, [device], firmware):
        assert backend.account.omadm_mode == "network_aware"
        campaign = await campaign_of(backend, [device], firmware)
        member = member_of(campaign, device)
        push = device.listen(backend).local
        await device.session()
        await device.session(device.result(503))
        assert (member.status, member.ending, member.queued) == (
            states.FAILED,
            Ending.CONNECTION_LOST,
            True,
        )
        assert (device.state, len(device.executed)) == (30, 1)
        await backend.runtime.clock.sleep(SESSION_IDLE)
        await backend.operator.attach("350000000000100", "c1", push)
        await backend.runtime.clock.sleep(1)
        assert (member.position, member.attempts) == (Position.OFFERED, 2)
        await device.session(session=device.pushed[-1].session_text)
        assert (member.position, len(device.executed)) == (Position.INSTALLING, 2)
        device.install()
        await device.session(device.result(200))
        assert (member.status, member.queued) == (states.SUCCESS, False)


@pytest.mark.parametrize("code", [403, 405])
@virtual
async def test_a_device_that_is_busy_says_so_and_its_result_counts(code: int) -> None:
    async with fleet() as (backend, [device], firmware):
        device.state, device.exec_status = 30, code
        campaign = await campaign_of(backend, [device], firmware)
        member = member_of(campaign, device)
        await device.session()
        assert (member.position, member.said) == (Position.INSTALLING, f"Exec: {code}")
        await device.session()
        assert len(device.executed) == 1
        device.install()
        await device.session(device.result(200))
        assert member.status == states.SUCCESS


@virtual
async def test_without_a_sign_of_work_the_same_answer_is_a_refusal() -> None:
    async with fleet() as (backend, [device], firmware):
        device.exec_status = 405
        campaign = await campaign_of(backend, [device], firmware)
        await device.session()
        assert member_of(campaign, device).ending is Ending.REFUSED


@pytest.mark.parametrize("delivery", ["pull", "push"])
@virtual
async def test_a_device_that_updates_is_left_alone(delivery: Delivery) -> None:
    async with fleet() as (backend, [device], firmware):
        device.state = 60
        campaign = await campaign_of(backend, [device], firmware, delivery)
        await device.session()
        assert device.executed == []
        assert member_of(campaign, device).position == Position.OFFERED
