"""Lies, silence, settings and people, in virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from typing import Any

import pytest

from agent import Device, Runtime
from agent.credentials import Credential
from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime import run_virtual
from agent.runtime.http import HttpLink
from agent.update import Outcome
from firmware_images.swu import Hardware, build_swu
from protocols.http.hawkbit import HawkbitClient
from protocols.http.hawkbit.options import Confirm
from protocols.http.memory_transport import MemoryHttp
from tests.agent.parts import new_image, old_image, trusted
from tests.protocols.http.hawkbit.actions import deploy, ends
from tests.protocols.http.hawkbit.scenes import SLOW, downloading, third_image
from tests.protocols.http.hawkbit.world import URL, virtual, world

# -- lies and silence -----------------------------------------------------------------------------


@virtual
async def test_a_false_success() -> None:
    async with world(poll=1.0) as built:
        lies = frozenset({Misbehaviour.FALSE_SUCCESS})
        sim = await built.device("liar", misbehave=lies)
        action = await deploy(built, sim, b"x" * 4000)
        assert await ends(built, sim, action) == "finished"
        assert sim.told[-1][0] == "updated"
        assert sim.version == "1.0.0"


@virtual
async def test_a_false_failure() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("sad", misbehave=frozenset({Misbehaviour.FALSE_FAILURE}))
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "error"
        assert sim.told[-1][0] == "failed"
        assert sim.version == "2.0.0"


@virtual
async def test_silence() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("mute", misbehave=frozenset({Misbehaviour.NEVER_REPORT}))
        action = await deploy(built, sim)
        await built.until(lambda: sim.device.engine.outcome is Outcome.SUCCESS)
        await built.polls(4)
        assert sim.version == "2.0.0"
        assert not sim.requests("feedback") and not sim.told
        assert (await built.action(sim, action))["active"]
        assert len([event for event in sim.events if event[3] == "begin"]) == 1


@virtual
async def test_a_server_that_keeps_nothing_is_named() -> None:
    """The same misbehaviours against a server that takes everything: all broken."""
    wrong = frozenset(
        {
            Misbehaviour.LATE_REPORT,
            Misbehaviour.DUPLICATE_REPORT,
            Misbehaviour.FOREIGN_REPORT,
            Misbehaviour.OVERSIZED_REPORT,
            Misbehaviour.STALE_CREDENTIAL,
            Misbehaviour.CLONED_IDENTITY,
        }
    )
    async with world(poll=1.0) as built:
        sim = await built.device("wild-2", misbehave=wrong, on=False)
        poll = b'{"config":{"polling":{"sleep":"00:00:30"}}}'
        clone = sim.name.replace("-2-1", "-2-0")
        built.bent.bend("GET", f"/controller/v1/{clone}", poll)
        built.bent.bend("GET", f"/controller/v1/{sim.name}", poll, times=1)
        built.bent.bend("POST", "/feedback", 200)
        await deploy(built, sim)
        sim.device.power_on()
        await built.until(lambda: bool(sim.told))
        await built.sleep(1)
        ledger = built.runtime.misbehaviours.snapshot()
        assert {name for _, name in ledger} == {one.value for one in wrong}
        for (_, name), judgement in ledger.items():
            assert judgement.broken >= 1, name
            assert sim.name in judgement.examples[0]
        assert ledger["hawkbit", "late-report"].examples == (
            f"{sim.name}: a step after the end was answered 200, 410 expected",
        )
        assert ledger["hawkbit", "oversized-report"].examples == (
            f"{sim.name}: 60 messages at once was answered 200, 400 or 413 or 429 expected",
        )


# -- people ---------------------------------------------------------------------------------------


def made(runtime: Runtime, **settings: Any) -> HawkbitClient:
    device = Device(runtime, "one", image=old_image(), trusted=trusted(), slot_size=64 * 1024)
    server = settings.pop("server", URL)
    client = protocol_clients.get("hawkbit")(device, ClientSettings(server, **settings))
    assert isinstance(client, HawkbitClient)
    return client


@virtual
async def test_settings_that_cannot_be() -> None:
    async with Runtime.in_memory() as runtime:
        runtime.http = MemoryHttp(runtime)
        with pytest.raises(UnusableSettings, match="hawkbit has no option 'speed'; known: cancel"):
            made(runtime, options={"speed": "9"})
        with pytest.raises(UnusableSettings, match="poll='x'"):
            made(runtime, options={"poll": "x"})
        with pytest.raises(UnusableSettings, match="http:// or https://"):
            made(runtime, server="coap://h")
        client = made(runtime, server="https://h:8443/ddi/", options={"tenant": "acme"})
        assert client.base == "https://h:8443/ddi/acme/controller/v1/one"
        assert client.link == HttpLink()


@virtual
async def test_no_secret_is_shown() -> None:
    lines: list[str] = []
    async with world(poll=1.0) as built:
        built.runtime.journal = type(built.runtime.journal)(
            built.runtime.clock.now, lines.append, 8
        )
        secret = "s3cr3t-t0ken"
        sim = await built.device(
            "secret",
            credential=Credential(token=secret),
            misbehave=frozenset({Misbehaviour.STALE_CREDENTIAL}),
        )
        built.stub.state.targets[sim.name].security_token = secret
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        assert secret not in "\n".join([*sim.lines, *lines, repr(sim.client), repr(sim.device)])


@virtual
async def test_switched_off_in_mid_download() -> None:
    """Nothing of a device goes on when it is off."""
    async with world(poll=1.0) as built:
        sim = await built.device("off", bandwidth=SLOW)
        await deploy(built, sim)
        await downloading(built, sim)
        sim.device.power_off()
        count = len(sim.lines)
        await built.sleep(20)
        assert len(sim.lines) == count
        assert not built.network.tasks


@virtual
async def test_a_device_between_polls_owns_no_task() -> None:
    async with world(poll=60.0) as built:
        await built.device("idle")
        await built.sleep(20)
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}


# -- settings of the device -----------------------------------------------------------------------


@virtual
async def test_a_device_that_denies_withdraws_its_standing_consent() -> None:
    async with (
        world(poll=1.0) as built,
        built.setting("user.confirmation.flow.enabled", True),
    ):
        sim = await built.device("moody", options={"confirm": "auto"})
        action = await deploy(built, sim, confirmationRequired=True)
        assert await ends(built, sim, action) == "finished"
        options = dataclasses.replace(sim.client.options, confirm=Confirm.DENY)
        sim.client.options = options
        await built.until(lambda: bool(sim.requests("deactivateAutoConfirm")))
        await built.polls(2)
        action = await deploy(built, sim, third_image(), confirmationRequired=True)
        await built.until(lambda: bool(sim.requests(f"confirmationBase/{action}/feedback")))
        await built.polls(3)
        assert len(sim.requests("deactivateAutoConfirm")) == 1
        assert sim.version == "2.0.0"


@virtual
async def test_standing_consent_that_the_server_overlooks() -> None:
    """Active already, and asked all the same: the answer is yes."""
    async with (
        world(poll=1.0) as built,
        built.setting("user.confirmation.flow.enabled", True),
    ):
        sim = await built.device("overlooked", options={"confirm": "auto"})
        state = b'{"autoConfirm":{"active":true},"_links":{}}'
        built.bent.bend("GET", "/confirmationBase", state, times=1)
        action = await deploy(built, sim, confirmationRequired=True)
        assert await ends(built, sim, action) == "finished"
        assert len(sim.requests(f"confirmationBase/{action}/feedback")) == 1
        assert not sim.requests("activateAutoConfirm")


@virtual
async def test_a_confirmation_that_nobody_waits_for() -> None:
    async with (
        world(poll=1.0) as built,
        built.setting("user.confirmation.flow.enabled", True),
    ):
        sim = await built.device("late-yes")
        built.bent.bend("POST", "/confirmationBase/", 410, times=2)
        action = await deploy(built, sim, confirmationRequired=True)
        assert await ends(built, sim, action) == "finished"


@virtual
async def test_attributes_by_mode() -> None:
    async with world(poll=1.0) as built:
        await built.device("old", options={"hw_revision": "7"})
        sim = await built.device("mode", options={"mode": "replace", "hw_boardname": "gauge"})
        await built.until(lambda: bool(sim.requests("configData")))
        await built.polls(1)
        found = await built.management.call("GET", f"/targets/{sim.name}/attributes")
        assert found == {
            "hw_boardname": "gauge",
            "hw_revision": "1.0",
            "sw_version": "1.0.0",
            "device_type": "fotilla",
            "serial": sim.name,
        }


@virtual
async def test_attributes_that_are_refused_stop_nothing() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("refused")
        built.bent.bend("PUT", "/configData", 400)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        assert "! configData was answered 400" in sim.lines


@virtual
async def test_an_installed_set_that_the_server_does_not_know() -> None:
    """Said once in an uptime, and the device goes on."""
    async with world(poll=1.0) as built:
        sim = await built.device("unknown", options={"installed": "nothing:9"})
        await built.polls(5)
        assert len([line for line in sim.requests("PUT") if "installedBase" in line]) == 1
        assert "! installedBase was answered 404" in sim.lines
        assert sim.client.registered


def test_the_same_seed_says_the_same() -> None:
    def told() -> list[str]:
        async def play() -> list[str]:
            async with world(poll=1.0) as built:
                sims = [await built.device(f"same{n}", bandwidth=SLOW) for n in range(3)]
                ds = await built.publish("same", {"a.bin": new_image()}, {"b.bin": b"b" * 50})
                actions = [await built.assign(ds, sim) for sim in sims]
                for sim, action in zip(sims, actions, strict=True):
                    await built.until_closed(sim, action)
                return [f"{built.now} {line}" for sim in sims for line in sim.lines]

        return run_virtual(play())

    assert told() == told()


@virtual
async def test_a_herd_polls_at_one_instant() -> None:
    async with world(poll=5.0) as built:
        herd = frozenset({Misbehaviour.HERD})
        sims = [await built.device(f"herd{n}", misbehave=herd, on=False) for n in range(5)]
        others = [await built.device(f"calm{n}", on=False) for n in range(5)]
        for sim in [*sims, *others]:
            sim.device.power_on()
        await built.sleep(0.02)
        assert all(sim.requests("GET") for sim in sims)
        assert not all(sim.requests("GET") for sim in others)


@virtual
async def test_home_by_any_spelling() -> None:
    async with Runtime.in_memory() as runtime:
        runtime.http = MemoryHttp(runtime)
        token = {"credential": lambda device: Credential(token="t")}
        client = made(runtime, server="http://Bücher.example:80/ddi", **token)
        home = (("Authorization", "TargetToken t"),)
        assert client.fields_for("http://xn--bcher-kva.example/other") == home
        assert client.fields_for("http://BÜCHER.example:80/a b") == home
        for away in ("https://xn--bcher-kva.example/", "http://xn--bcher-kva.example:81/", "x"):
            assert client.fields_for(away) == ()


@virtual
async def test_names_that_need_escapes() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("urn:imei:01 ä")
        action = await deploy(built, sim)
        assert built.stub.state.actions[int(action)].target.controller_id == sim.name
        await built.until(lambda: bool(sim.told))
        assert sim.told[-1][0] == "updated"


@virtual
async def test_a_package_that_is_unpacked_begins_again_after_a_power_cut() -> None:
    """What unpacks it lived in RAM; the action is the same, and only one end is reported."""
    async with world(poll=1.0) as built:
        options = {"format": "swu", "hw_boardname": "gauge", "hw_revision": "7"}
        sim = await built.device("unpack", options=options, bandwidth=SLOW)
        package = build_swu(new_image(), version="2.0.0", hardware=[Hardware("gauge", "7")])
        ds = await built.publish("unpack", {"n.txt": b"n" * 400, "app.swu": package})
        action = await built.assign(ds, sim)
        await downloading(built, sim)
        sim.device.cut_power(back_after=1.0)
        assert await ends(built, sim, action) == "finished"
        assert sim.version == "2.0.0"
        history = await built.history(sim, action)
        assert history.count("finished") == 1
        others = [line for line in sim.lines if line.startswith("< 200 GET") and "n.txt" in line]
        assert len(others) == 1, "what was checked is not downloaded again"
