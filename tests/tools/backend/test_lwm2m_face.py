"""The LwM2M face over real endpoints, in virtual time, with a scripted device."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.coap import Code, Message, make_options
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import IMAGE, package, virtual, world
from tools.backend.backend import Backend
from tools.backend.faces.base import Ending

NAME = "meter-1"


def device(backend: Backend, name: str = NAME, index: int = 0, **how: Any) -> ScriptedDevice:
    return ScriptedDevice(backend.runtime, backend.coap_address, name, index, **how)


def ending(backend: Backend) -> Ending | None:
    member = backend.engine.book.latest(NAME)
    assert member is not None
    return member.ending


@pytest.mark.parametrize("delivery", ["push", "pull"])
@pytest.mark.parametrize("loss", [0.0, 0.1])
@virtual
async def test_update(delivery: Any, loss: float) -> None:
    async with world(loss=loss, duplication=loss) as backend:
        meter = device(backend)
        meter.register()
        await backend.create_campaign(
            [NAME], await package(backend), delivery_of=lambda _name: delivery
        )
        await backend.finished.wait()
        belief = backend.belief(NAME)
        assert (belief.verdict, belief.version) == ("updated", "2.0.0"), belief
        assert meter.body == IMAGE
        assert meter.executes == 1
        meter.close()


@pytest.mark.parametrize("notify", [True, False])
@virtual
async def test_lost_notifications_are_covered_by_the_poll(notify: bool) -> None:
    async with world() as backend:
        meter = device(backend)
        meter.notify = notify
        meter.on_package = lambda: meter.after(3.0, meter.downloaded)
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert backend.belief(NAME).verdict == "updated"
        assert meter.writes.count("package") == 3  # one delivery: nothing was pushed again
        meter.close()


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (2, Ending.NO_SPACE),
        (5, Ending.INTEGRITY),
        (6, Ending.UNSUPPORTED_PACKAGE),
        (9, Ending.UNSUPPORTED_PROTOCOL),
    ],
)
@virtual
async def test_a_refused_package_fails_with_its_reason(result: int, expected: Ending) -> None:
    async with world() as backend:
        meter = device(backend)
        meter.on_package = lambda: meter.set(0, result)
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert backend.belief(NAME).verdict == "failed"
        assert ending(backend) is expected
        assert meter.executes == 0
        meter.close()


@rules("BR-087")
@virtual
async def test_a_retryable_result_is_tried_three_times() -> None:
    async with world() as backend:
        meter = device(backend)
        meter.on_package = lambda: meter.set(0, 3)
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        member = backend.engine.book.latest(NAME)
        assert member is not None
        assert (member.attempts, member.ending) == (3, Ending.OUT_OF_MEMORY)
        meter.close()


@rules("BR-087")
@virtual
async def test_a_failed_install_is_final_and_executed_once() -> None:
    async with world() as backend:
        meter = device(backend)

        def revert() -> int:
            meter.set(3, 0)

            def boot() -> None:
                meter.state, meter.result = 2, 8
                meter.reboot()

            meter.after(5.0, boot)
            return Code.CHANGED

        meter.on_execute = revert
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert ending(backend) is Ending.INSTALL_FAILED
        assert meter.executes == 1
        meter.close()


@virtual
async def test_success_without_the_version_is_no_success() -> None:
    async with world() as backend:
        meter = device(backend, new_version="1.0.0")
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert ending(backend) is Ending.WRONG_VERSION
        meter.close()


@virtual
async def test_a_device_that_reboots_in_mid_push_gets_it_again_from_block_0() -> None:
    async with world() as backend:
        meter = device(backend)
        taken = meter._assembler

        def crash_once() -> None:
            meter.on_package = meter.downloaded
            meter.state, meter.result = 0, 4
            meter.reboot()

        meter.on_package = crash_once
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert meter._assembler is not taken
        assert backend.belief(NAME).verdict == "updated"
        assert meter.executes == 1
        meter.close()


@virtual
async def test_what_an_earlier_attempt_left_is_reset_first() -> None:
    async with world() as backend:
        meter = device(backend)
        meter.state, meter.result = 2, 8
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert meter.writes[0] == "uri "
        assert meter.executes == 1
        assert backend.belief(NAME).verdict == "updated"
        meter.close()


@virtual
async def test_a_refused_execute_is_a_result() -> None:
    async with world() as backend:
        meter = device(backend)
        meter.on_execute = lambda: Code.METHOD_NOT_ALLOWED
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert ending(backend) is Ending.REFUSED
        assert meter.executes == 1
        meter.close()


@pytest.mark.parametrize("state", [7, -1, 2**31])
@virtual
async def test_nonsense_is_a_result(state: int) -> None:
    async with world() as backend:
        meter = device(backend)
        meter.state = state
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert ending(backend) is Ending.NONSENSE
        meter.close()


@virtual
async def test_a_device_that_never_answers_is_a_result() -> None:
    async with world() as backend:
        meter = device(backend)
        meter.register()
        meter.after(1.0, meter.close)
        meter.after(2.0, lambda: None)
        await backend.runtime.clock.sleep(1.5)
        await backend.create_campaign([NAME], await package(backend))
        await backend.finished.wait()
        assert backend.belief(NAME).verdict == "failed"
        assert "not reachable" in backend.belief(NAME).detail


# -- the registration interface ---


async def ask(backend: Backend, meter: ScriptedDevice, *queries: str) -> Message:
    options = make_options(path=("rd",), queries=queries)
    peer = meter.endpoint.peer(*backend.coap_address)
    return await meter.endpoint.ask(peer, Message(Code.POST, options=options))


@pytest.mark.parametrize(
    ("queries", "code", "text"),
    [
        ((), Code.BAD_REQUEST, "ep is missing"),
        (("ep",), Code.BAD_REQUEST, "ep has no value"),
        (("ep=a", "ep=b"), Code.BAD_REQUEST, "twice"),
        (("ep=a", "lt=x"), Code.BAD_REQUEST, "lt=x"),
        (("ep=a", "lt=0"), Code.BAD_REQUEST, "lt=0"),
        (("ep=a", "b=Z"), Code.BAD_REQUEST, "b=Z"),
        (("ep=a", "lwm2m=3.0"), Code.PRECONDITION_FAILED, "lwm2m=3.0"),
    ],
)
@virtual
async def test_a_bad_registration_is_told_what_is_wrong(
    queries: tuple[str, ...], code: int, text: str
) -> None:
    async with world() as backend:
        meter = device(backend)
        answer = await ask(backend, meter, *queries)
        assert answer.code == code
        assert text in answer.payload.decode()
        assert backend.lwm2m.identities() == []
        meter.close()


@rules("BR-098")
@virtual
async def test_registration_update_and_goodbye() -> None:
    async with world() as backend:
        meter = device(backend)
        first = await ask(backend, meter, f"ep={NAME}", "lt=60", "lwm2m=1.1", "unknown=1")
        assert first.code == Code.CREATED
        second = await ask(backend, meter, f"ep={NAME}", "lt=60")
        assert second.options.location != first.options.location
        meter.location = first.options.location
        assert (await meter.update()).code == Code.NOT_FOUND  # replaced by the second
        meter.location = second.options.location
        assert (await meter.update("lt=600")).code == Code.CHANGED
        assert (await meter.update("lt=never")).code == Code.BAD_REQUEST
        await backend.runtime.clock.sleep(300)
        assert backend.lwm2m.reachable(NAME)
        assert backend.unknown_identities() == [NAME]
        await backend.runtime.clock.sleep(400)
        assert not backend.lwm2m.reachable(NAME)  # its lifetime is over
        third = await ask(backend, meter, f"ep={NAME}", "Q")
        meter.location = third.options.location
        assert (await meter.deregister()).code == Code.DELETED
        assert (await meter.deregister()).code == Code.NOT_FOUND
        meter.close()


@rules("BR-096")
@virtual
async def test_a_campaign_waits_for_a_device_that_comes_later() -> None:
    async with world() as backend:
        await backend.create_campaign([NAME], await package(backend))
        await backend.runtime.clock.sleep(1000)
        assert backend.belief(NAME).verdict == "unfinished"
        meter = device(backend)
        meter.register()
        await backend.finished.wait()
        assert backend.belief(NAME).verdict == "updated"
        meter.close()


@rules("BR-094")
@virtual
async def test_a_sleeping_device_is_asked_when_it_wakes() -> None:
    async with world() as backend:
        meter = device(backend, query=("Q",), lifetime=86_400)
        meter.register()
        await backend.runtime.clock.sleep(200)
        await backend.create_campaign([NAME], await package(backend))
        await backend.runtime.clock.sleep(200)
        assert meter.writes == []
        await meter.update()
        await backend.finished.wait()
        assert backend.belief(NAME).verdict == "updated"
        meter.close()
