"""The registration interface of a real client, against servers that answer and that do not."""

from __future__ import annotations

import asyncio

from protocols.coap.message import response
from protocols.coap.numbers import Code
from protocols.lwm2m import codecs
from protocols.lwm2m.registration import TRANSITIONS, RegistrationState
from tests.protocols.lwm2m.client_world import LIFETIME, World, virtual, world

POST, DELETE = Code.POST, Code.DELETE


def moves(built: World) -> list[tuple[str, str, str]]:
    return [event[1:] for event in built.events if event[0] == "registration"]


@virtual
async def test_register_says_who_and_what() -> None:
    async with world() as built:
        (register,) = built.asked(POST, "rd")
        assert register.options.queries == ("ep=dev-1", f"lt={LIFETIME}", "lwm2m=1.1", "b=U")
        assert register.options.content_format == codecs.LINK
        payload = register.payload.decode()
        assert payload.startswith('</>;rt="oma.lwm2m";ct="60 110 112 11542 11543",')
        for link in ("</1>;ver=1.1", "</1/0>", "</3/0>", "</4/0>", "</5/0>"):
            assert link in payload.split(",")
        assert "</0" not in payload
        assert moves(built) == [
            ("UNREGISTERED", "REGISTERING", "register"),
            ("REGISTERING", "REGISTERED", "registered"),
        ]
        assert built.runtime.metrics.registration.count == 1


@virtual
async def test_updates_keep_it_alive_and_power_off_ends_it() -> None:
    async with world() as built:
        await built.sleep(3 * LIFETIME)
        updates = built.asked(POST, "rd", "at1")
        assert len(updates) == 3  # each after three quarters of the lifetime
        assert all(not update.options.queries and not update.payload for update in updates)
        built.device.power_off()
        await built.sleep(1)
        assert len(built.asked(DELETE, "rd", "at1")) == 1
        assert moves(built)[-1] == ("DEREGISTERING", "UNREGISTERED", "deregistered")
        count = len(built.requests)
        await built.sleep(3 * LIFETIME)
        assert len(built.requests) == count


@virtual
async def test_an_update_that_the_server_does_not_know_registers_again() -> None:
    async with world() as built:
        built.update = lambda request: response(Code.NOT_FOUND)
        await built.until(lambda: len(built.asked(POST, "rd")) == 3)
        await built.registration()
        assert [request.options.path for request in built.asked(POST, "rd")] == [
            ("rd",),
            ("rd", "at1"),
            ("rd",),
        ]
        built.update = lambda request: response(Code.CHANGED)
        await built.sleep(LIFETIME)
        assert len(built.asked(POST, "rd", "at2")) == 1


@virtual
async def test_a_refused_update_registers_again_after_a_pause() -> None:
    async with world() as built:
        built.update = lambda request: response(Code.INTERNAL_SERVER_ERROR)
        await built.until(lambda: not built.registered)
        assert moves(built)[-1] == (
            "UPDATING",
            "UNREGISTERED",
            "refused: 5.00 Internal Server Error",
        )
        await built.registration()


@virtual
async def test_a_refused_registration_is_tried_again_with_growing_pauses() -> None:
    async with world(register=False) as built:
        built.register = lambda request: response(Code.FORBIDDEN)
        built.device.power_on()
        await built.sleep(600)
        times = [at for at, request in built.requests]
        gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
        assert gaps[0] < 2.1 and max(gaps) <= 60.1
        assert all(gap > 29 for gap in gaps[-3:])
        built.register = built._accept
        await built.registration()


@virtual
async def test_a_created_without_a_location_is_no_registration() -> None:
    async with world(register=False) as built:
        built.register = lambda request: response(Code.CREATED)
        built.device.power_on()
        await built.sleep(30)
        assert not built.registered
        assert moves(built)[1][1] == "UNREGISTERED"


@virtual
async def test_a_silent_server_is_asked_again() -> None:
    async with world(register=False) as built:
        built.runtime.network.loss = 1.0  # type: ignore[attr-defined]
        built.device.power_on()
        await built.until(lambda: len(moves(built)) == 2)
        assert moves(built)[1][2].startswith("no answer")
        built.runtime.network.loss = 0.0  # type: ignore[attr-defined]
        await built.registration()
        assert len(built.asked(POST, "rd")) == 1


@virtual
async def test_switched_off_before_it_was_registered_it_stays_silent() -> None:
    async with world(register=False) as built:
        built.runtime.network.loss = 1.0  # type: ignore[attr-defined]
        built.device.power_on()
        await built.sleep(3)
        built.device.power_off()
        sent = built.runtime.metrics.counters["datagrams_out"]
        refused = built.runtime.metrics.counters["send_errors"]
        await built.sleep(1000)
        assert built.runtime.metrics.counters["datagrams_out"] == sent
        assert built.runtime.metrics.counters["send_errors"] == refused
        assert moves(built)[-1][1] == "UNREGISTERED"


@virtual
async def test_a_goodbye_that_nobody_answers_ends_all_the_same() -> None:
    async with world() as built:
        built.runtime.network.loss = 1.0  # type: ignore[attr-defined]
        built.device.power_off()
        await built.sleep(6)
        assert moves(built)[-1][:2] == ("DEREGISTERING", "UNREGISTERED")


@virtual
async def test_a_device_that_says_goodbye_does_nothing_any_more() -> None:
    async with world() as built:
        built.goodbye = lambda request: None
        built.device.power_off()
        await built.sleep(0.5)
        assert (await built.send(POST, "/3/0/4")).code == Code.SERVICE_UNAVAILABLE
        await built.sleep(60)
        assert built.device.boots == 1


@virtual
async def test_a_written_lifetime_is_told_by_an_update() -> None:
    async with world() as built:
        assert (await built.text("/1/0/1", "100")).code == Code.CHANGED
        await built.sleep(1)
        (update,) = built.asked(POST, "rd", "at1")
        assert update.options.queries == ("lt=100",)
        assert not update.payload
        await built.sleep(76)
        assert len(built.asked(POST, "rd", "at1")) == 2
        built.device.reboot("test")
        await built.until(lambda: len(built.asked(POST, "rd")) == 4)
        assert "lt=100" in built.requests[-1][1].options.queries


@virtual
async def test_the_same_lifetime_again_needs_no_update() -> None:
    async with world() as built:
        assert (await built.text("/1/0/1", str(LIFETIME))).code == Code.CHANGED
        await built.sleep(5)
        assert not built.asked(POST, "rd", "at1")


@virtual
async def test_new_instances_are_told_by_an_update() -> None:
    async with world() as built:
        assert (await built.write("/1", [("/1/1/1", 60)], codecs.TLV, partial=True)).code == (
            Code.CREATED
        )
        await built.sleep(1)
        (update,) = built.asked(POST, "rd", "at1")
        assert "</1/1>" in update.payload.decode().split(",")
        assert update.options.content_format == codecs.LINK
        assert (await built.send(DELETE, "/1/1")).code == Code.DELETED
        await built.sleep(1)
        assert "</1/1>" not in built.asked(POST, "rd", "at1")[1].payload.decode().split(",")


@virtual
async def test_what_is_asked_while_an_update_runs_follows_it() -> None:
    async with world(latency=1.0) as built:
        await built.until(lambda: moves(built)[-1][1] == "UPDATING")
        lifetime = asyncio.ensure_future(built.text("/1/0/1", "100"))
        created = asyncio.ensure_future(
            built.write("/1", [("/1/1/1", 60)], codecs.TLV, partial=True)
        )
        assert ((await lifetime).code, (await created).code) == (Code.CHANGED, Code.CREATED)
        await built.sleep(10)
        updates = built.asked(POST, "rd", "at1")
        assert [update.options.queries for update in updates] == [(), ("lt=100",), ()]
        assert "</1/1>" in updates[-1].payload.decode().split(",")


@virtual
async def test_an_update_without_an_answer_registers_again_with_what_changed() -> None:
    async with world() as built:
        built.update = lambda request: None
        await built.until(lambda: moves(built)[-1][1] == "UPDATING")
        await built.text("/1/0/1", "100")
        await built.until(lambda: moves(built)[-1][1] == "UNREGISTERED")
        await built.registration()
        await built.sleep(5)
        assert "lt=100" in built.requests[-1][1].options.queries
        assert built.requests[-1][1].options.path == ("rd",)


@virtual
async def test_the_update_trigger() -> None:
    async with world() as built:
        assert (await built.send(POST, "/1/0/8")).code == Code.CHANGED
        await built.sleep(1)
        assert len(built.asked(POST, "rd", "at1")) == 1


@virtual
async def test_disable_goes_away_and_comes_back() -> None:
    async with world() as built:
        assert (await built.text("/1/0/5", "50")).code == Code.CHANGED
        assert (await built.send(POST, "/1/0/4")).code == Code.CHANGED
        await built.sleep(5)
        assert len(built.asked(DELETE, "rd", "at1")) == 1
        assert not built.registered
        await built.sleep(40)
        assert not built.registered
        await built.sleep(10)
        assert built.registered


@virtual
async def test_a_reboot_registers_anew_and_forgets_its_location() -> None:
    async with world() as built:
        built.device.cut_power(back_after=1.0)
        assert not built.registered
        await built.registration()
        assert not built.asked(DELETE, "rd")
        assert len(built.asked(POST, "rd")) == 2


def test_the_table_leaves_no_state_without_a_way_back() -> None:
    for state in RegistrationState:
        assert TRANSITIONS[state], state
    reached = {new for cells in TRANSITIONS.values() for new in cells.values()}
    assert reached == set(RegistrationState)
