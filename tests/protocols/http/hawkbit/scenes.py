"""The recorded scenes, played by our client with a signed image of ours.

Each takes a `World` and asserts what the device is, what the server believes, and what was said.
They run in virtual time against the state model, over real sockets against it, and against a living
hawkBit; nothing here knows which.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.credentials import Credential, TokenKind
from agent.faults import FaultPlan
from agent.misbehaviour import Misbehaviour
from agent.update import Outcome, State
from firmware_images.swu import Hardware, build_swu
from tests.agent.parts import image, new_image, old_image
from tests.protocols.http.hawkbit.world import GATEWAY_TOKEN, Sim, Slow, World

Scene = Callable[[World], Awaitable[None]]

SLOW = 2600.0
"""Bytes a second: our image then takes five seconds, time enough for a server to interfere."""


def third_image() -> bytes:
    return image(3, 12000, 3)


async def downloading(world: World, sim: Sim) -> None:
    """The device is in the middle of its download."""
    engine = sim.device.engine
    await world.until(lambda: engine.state is State.DOWNLOADING and engine.offset > 2000)


async def updated(world: World, sim: Sim, version: str = "2.0.0") -> None:
    engine = sim.device.engine
    await world.until(
        lambda: engine.state is State.IDLE and engine.outcome is Outcome.SUCCESS and bool(sim.told)
    )
    assert sim.version == version
    assert sim.told[-1][::2] == ("updated", version)


# -- forced update, every feedback ----------------------------------------------------------------


async def success(world: World) -> None:
    sim = await world.device("success")
    await world.until(lambda: bool(sim.requests("configData")))
    ds = await world.publish("success", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    steps = [one for one in await world.history(sim, action) if one != "retrieved"]
    # `download` twice: the device's report, and what hawkBit notes of a request without Range.
    assert steps == ["running", "running", "download", "download", "downloaded"] + [
        "running",
        "finished",
    ]
    assert (await world.target(sim))["updateStatus"] == "in_sync"
    await world.until(lambda: len(sim.requests("PUT")) == 2)
    attributes = await world.management.call("GET", f"/targets/{sim.name}/attributes")
    assert attributes["sw_version"] == "2.0.0"
    assert attributes["serial"] == sim.name
    await world.polls(2)
    assert len(sim.requests("feedback")) == 5, "nothing is said twice"
    installed = await world.management.call("GET", f"/targets/{sim.name}/installedDS")
    assert installed["id"] == ds


async def resumed_download(world: World) -> None:
    """A connection that breaks in mid-body costs no byte twice."""
    sim = await world.device("cut", faults=FaultPlan(cut_downloads=(5000,)))
    ds = await world.publish("cut", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    lines = [line for line in sim.lines if "artifacts" in line and line.startswith("<")]
    assert any(line.startswith("< 206") for line in lines), lines


# -- failure --------------------------------------------------------------------------------------


async def failure(world: World) -> None:
    """What arrives is no image: refused before the install."""
    sim = await world.device("failure")
    ds = await world.publish("failure", {"app.bin": b"x" * 5000})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "error"
    await world.until(lambda: bool(sim.told))
    assert sim.device.engine.outcome is Outcome.UNSUPPORTED_PACKAGE
    assert sim.version == "1.0.0"
    assert sim.told == [("failed", "unsupported package", None)]
    assert (await world.target(sim))["updateStatus"] == "error"
    messages = await world.messages(sim, action)
    assert any("bad magic" in message for message in messages), messages


async def reverted(world: World) -> None:
    """The new image never comes up: the bootloader reverts it, and the device says so."""
    sim = await world.device("reverted", faults=FaultPlan(bad_boots=1))
    ds = await world.publish("reverted", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "error"
    await world.until(lambda: bool(sim.told))
    assert sim.device.engine.outcome is Outcome.REVERTED
    assert (sim.version, sim.told) == ("1.0.0", [("failed", "reverted", None)])
    # And the next update takes the place of the one that failed.
    ds = await world.publish("repaired", {"app.bin": third_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim, "3.0.0")


async def retried(world: World) -> None:
    """After a failure the same set is assigned once more, and works."""
    sim = await world.device("retried", faults=FaultPlan(bad_boots=1))
    ds = await world.publish("retried", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "error"
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await world.until(lambda: len(sim.told) == 2)
    assert [verdict for verdict, _, _ in sim.told] == ["failed", "updated"]


# -- cancel ---------------------------------------------------------------------------------------


async def cancel_accepted(world: World) -> None:
    sim = await world.device("ca", bandwidth=SLOW)
    ds = await world.publish("ca", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    await downloading(world, sim)
    await world.cancel(sim, action)
    assert (await world.until_closed(sim, action))["status"] == "canceled"
    await world.until(lambda: bool(sim.told))
    engine = sim.device.engine
    assert (engine.state, engine.outcome) == (State.IDLE, Outcome.CANCELLED)
    assert sim.told == [("failed", "canceled", None)]
    assert sim.version == "1.0.0"
    assert not sim.client.busy and sim.client.memory.action is None
    await world.polls(2)
    assert len(sim.requests("cancelAction")) == 2, "asked for once, answered once"


async def cancel_before_start(world: World) -> None:
    """A cancel of an action that the device has never seen is accepted, too."""
    sim = await world.device("cs", on=False)
    ds = await world.publish("cs", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    await world.cancel(sim, action)
    sim.device.power_on()
    assert (await world.until_closed(sim, action))["status"] == "canceled"
    assert sim.version == "1.0.0"
    assert not sim.requests("deploymentBase")


async def cancel_answered_canceled(world: World) -> None:
    """The obvious word leaves the cancel open, and a late success wins."""
    sim = await world.device("cc", bandwidth=SLOW, options={"cancel": "canceled"})
    ds = await world.publish("cc", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    await downloading(world, sim)
    await world.cancel(sim, action)
    await world.until(lambda: bool(sim.requests("cancelAction/" + action + "/feedback")))
    await world.polls(1)
    assert (await world.action(sim, action))["active"]
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    assert len(sim.requests(f"cancelAction/{action}/feedback")) <= 2, "once per uptime"


async def cancel_refused(world: World, answer: str) -> None:
    sim = await world.device(f"c-{answer}", bandwidth=SLOW, options={"cancel": answer})
    ds = await world.publish(f"c-{answer}", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    await downloading(world, sim)
    await world.cancel(sim, action)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    history = await world.history(sim, action)
    assert ("cancel_rejected" if answer == "reject" else "error") in history
    began = [event for event in sim.events if event[3] == "begin"]
    assert len(began) == 1, "the download was not begun again"


async def cancel_failed(world: World) -> None:
    await cancel_refused(world, "fail")


async def cancel_rejected(world: World) -> None:
    await cancel_refused(world, "reject")


async def cancel_forced(world: World) -> None:
    """The action is gone without a word: the device stops."""
    sim = await world.device("cq", bandwidth=SLOW)
    ds = await world.publish("cq", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    await downloading(world, sim)
    await world.cancel(sim, action)
    await world.cancel(sim, action, force=True)
    engine = sim.device.engine
    await world.until(lambda: engine.state is State.IDLE and sim.client.memory.action is None)
    assert engine.outcome is Outcome.CANCELLED
    assert sim.version == "1.0.0"
    await world.polls(1)
    assert not sim.client.busy


async def quit_while_installing(world: World) -> None:
    """The end meets 410: it is dropped, and never sent again."""
    # Too slow a poll for it to hear of the cancel before it reboots.
    sim = await world.device("qi", options={"poll": "60"}, timing=Slow(), on=False)
    ds = await world.publish("qi", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    sim.device.power_on()
    await world.until(lambda: sim.device.engine.state is State.INSTALLING)
    await world.cancel(sim, action)
    await world.cancel(sim, action, force=True)
    await world.until(lambda: sim.settled and sim.device.engine.outcome is Outcome.SUCCESS)
    await world.polls(2)
    assert sim.version == "2.0.0"
    assert sim.told == []
    assert sim.client.memory.action is None and not sim.device.engine.report_pending
    assert len([line for line in sim.lines if line.startswith("< 410")]) == 1


async def superseded(world: World) -> None:
    sim = await world.device("su", bandwidth=SLOW)
    older = await world.publish("older", {"app.bin": new_image()})
    newer = await world.publish("newer", {"app.bin": third_image()}, version="3.0")
    first = await world.assign(older, sim)
    await downloading(world, sim)
    second = await world.assign(newer, sim)
    assert (await world.until_closed(sim, first))["status"] == "canceled"
    assert (await world.until_closed(sim, second))["status"] == "finished"
    await updated(world, sim, "3.0.0")


# -- soft, timeforced, download only, maintenance window ------------------------------------------


async def soft(world: World) -> None:
    """A soft action is taken at once by a device that has no user to ask."""
    sim = await world.device("soft")
    ds = await world.publish("soft", {"app.bin": new_image()})
    action = await world.assign(ds, sim, type="soft")
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)


async def soft_until_forced(world: World) -> None:
    sim = await world.device("wait", options={"soft": "wait"})
    ds = await world.publish("wait", {"app.bin": new_image()})
    action = await world.assign(ds, sim, type="soft")
    await world.until(lambda: bool(sim.requests("feedback")))
    await world.polls(2)
    assert sim.device.engine.state is State.IDLE
    assert len(sim.requests("feedback")) == 1, "scheduled, said once"
    await world.management.call(
        "PUT", f"/targets/{sim.name}/actions/{action}", {"forceType": "forced"}
    )
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)


async def timeforced(world: World) -> None:
    sim = await world.device("timed", options={"soft": "wait"})
    ds = await world.publish("timed", {"app.bin": new_image()})
    at = int((world.runtime.clock.utc().timestamp() + world.poll * 4 + 4) * 1000)
    action = await world.assign(ds, sim, type="timeforced", forcetime=at)
    await world.until(lambda: bool(sim.requests("feedback")))
    assert sim.device.engine.state is State.IDLE
    assert (await world.until_closed(sim, action))["status"] == "finished"
    assert world.runtime.clock.utc().timestamp() * 1000 >= at
    await updated(world, sim)


async def forced_in_mid_download(world: World) -> None:
    """soft becomes forced, `c=` changes: fetched again, and the download goes on."""
    sim = await world.device("mid", bandwidth=SLOW)
    ds = await world.publish("mid", {"app.bin": new_image()})
    action = await world.assign(ds, sim, type="soft")
    await downloading(world, sim)
    fetched = len(sim.requests(f"deploymentBase/{action} "))
    await world.management.call(
        "PUT", f"/targets/{sim.name}/actions/{action}", {"forceType": "forced"}
    )
    await world.until(lambda: len(sim.requests(f"deploymentBase/{action} ")) > fetched)
    assert sim.device.engine.state is State.DOWNLOADING
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    assert len([event for event in sim.events if event[3] == "begin"]) == 1
    assert len(sim.requests("artifacts")) == 1, "one connection brought all of it"


async def download_only(world: World) -> None:
    """Downloaded and kept; a forced action with the same file then needs no download."""
    sim = await world.device("only")
    ds = await world.publish("only", {"app.bin": new_image()})
    action = await world.assign(ds, sim, type="downloadonly")
    assert (await world.until_closed(sim, action))["status"] in ("downloaded", "finished")
    await world.until(lambda: bool(sim.told))
    assert sim.told == [("unfinished", "downloaded", None)]
    await world.polls(2)
    assert sim.device.engine.state is State.DOWNLOADED
    assert sim.version == "1.0.0"
    ds = await world.publish("forced", {"same.bin": new_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    assert len(sim.requests("artifacts")) == 1, "the image was there already"


async def maintenance_window(world: World) -> None:
    """Downloaded at once, `downloaded` once, installed when the window opens."""
    sim = await world.device("window")
    ds = await world.publish("window", {"app.bin": new_image()})
    opens = world.poll * 6 + 8
    at = world.now + opens
    window = {"schedule": world.later(opens), "duration": "00:30:00", "timezone": "+00:00"}
    action = await world.assign(ds, sim, maintenanceWindow=window)
    await world.until(lambda: sim.device.engine.state is State.DOWNLOADED)
    await world.polls(1)
    assert sim.device.engine.state is State.DOWNLOADED
    assert (await world.history(sim, action)).count("downloaded") == 1
    assert (await world.until_closed(sim, action))["status"] == "finished"
    assert world.now >= at - 1.1  # a schedule has whole seconds
    await updated(world, sim)
    assert (await world.history(sim, action)).count("downloaded") == 1


# -- confirmation ---------------------------------------------------------------------------------


async def confirmed(world: World) -> None:
    sim = await world.device("yes")
    ds = await world.publish("yes", {"app.bin": new_image()})
    action = await world.assign(ds, sim, confirmationRequired=True)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    assert len(sim.requests("POST")) > 0 and sim.requests(f"confirmationBase/{action}/feedback")


async def denied(world: World) -> None:
    """A denial is not final: the action waits, and a device that asks its user again takes it."""
    sim = await world.device("no", options={"confirm": "deny"})
    ds = await world.publish("no", {"app.bin": new_image()})
    action = await world.assign(ds, sim, confirmationRequired=True)
    await world.until(lambda: bool(sim.requests(f"confirmationBase/{action}/feedback")))
    await world.polls(2)
    assert len(sim.requests(f"confirmationBase/{action}/feedback")) == 1
    assert not sim.requests("deploymentBase")
    found = await world.action(sim, action)
    assert found["active"], found


async def auto_confirmed(world: World) -> None:
    sim = await world.device("auto", options={"confirm": "auto"})
    for name, package in (("auto", new_image()), ("again", third_image())):
        ds = await world.publish(name, {"app.bin": package})
        action = await world.assign(ds, sim, confirmationRequired=True)
        assert (await world.until_closed(sim, action))["status"] == "finished"
    await world.until(lambda: len(sim.told) == 2)
    assert sim.version == "3.0.0"
    assert len(sim.requests("activateAutoConfirm")) == 1


# -- the rest -------------------------------------------------------------------------------------


async def rollout(world: World) -> None:
    sims = [await world.device(f"roll{number}") for number in range(4)]
    ds = await world.publish("roll", {"app.bin": new_image()})
    body = {
        "name": f"roll-{world.suffix}",
        "distributionSetId": ds,
        "targetFilterQuery": f"controllerId==roll*-{world.suffix}",
        "amountGroups": 2,
        "type": "forced",
        "successCondition": {"condition": "THRESHOLD", "expression": "50"},
        "errorCondition": {"condition": "THRESHOLD", "expression": "50"},
        "errorAction": {"action": "PAUSE", "expression": ""},
    }
    made = await world.management.call("POST", "/rollouts", body)
    path = f"/rollouts/{made['id']}"
    world.made.append(path)
    await rollout_is(world, path, "ready")
    await world.management.call("POST", f"{path}/start")
    await asyncio.gather(*(updated(world, sim) for sim in sims))
    await rollout_is(world, path, "finished")


async def rollout_is(world: World, path: str, status: str) -> None:
    end = world.now + 120
    while (await world.management.call("GET", path))["status"] != status:
        assert world.now < end, f"{path} is still not {status}"
        await world.sleep(0.5)


async def if_none_match(world: World) -> None:
    sim = await world.device("etag", options={"etag": "on"})
    await world.until(lambda: any(line.startswith("< 304") for line in sim.lines))
    ds = await world.publish("etag", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)


async def several_artifacts(world: World) -> None:
    """All are downloaded, the one that is an image is installed."""
    sim = await world.device("several")
    ds = await world.publish(
        "several",
        {"a.bin": b"a" * 100, "b.bin": b"b" * 3000},
        {"c.bin": new_image()},
    )
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    whole = [line for line in sim.lines if line.startswith("< 200 GET") and "artifacts" in line]
    assert sorted(line.rsplit("/", 1)[1][:5] for line in whole) == ["a.bin", "b.bin", "c.bin"]


async def no_fitting_artifact(world: World) -> None:
    sim = await world.device("none")
    ds = await world.publish("none", {"a.txt": b"a" * 100, "b.txt": b"b" * 100})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "error"
    await world.until(lambda: bool(sim.told))
    assert sim.told == [("failed", "unsupported package", None)]
    assert "none of 2 artifacts is a mcuboot package" in await world.messages(sim, action)


async def two_fitting_artifacts(world: World) -> None:
    sim = await world.device("two")
    ds = await world.publish("two", {"a.bin": new_image()}, {"b.bin": third_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "error"
    await world.until(lambda: bool(sim.told))
    messages = await world.messages(sim, action)
    assert any("2 artifacts are mcuboot packages: " in message for message in messages), messages


async def swu(world: World) -> None:
    """The package is an archive for this hardware, with our image inside."""
    options = {"format": "swu", "hw_boardname": "gauge", "hw_revision": "7"}
    sim = await world.device("swu", options=options)
    package = build_swu(new_image(), version="2.0.0", hardware=[Hardware("gauge", "7")])
    ds = await world.publish("swu", {"notes.txt": b"what is new"}, {"app.swu": package})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    foreign = build_swu(third_image(), version="3.0.0", hardware=[Hardware("other", "7")])
    ds = await world.publish("foreign", {"app.swu": foreign})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "error"
    await world.until(lambda: len(sim.told) == 2)
    assert sim.device.engine.outcome is Outcome.WRONG_DEVICE
    assert sim.version == "2.0.0"


async def installed_base(world: World) -> None:
    """The device says what it has, and reads what it has been given."""
    ds = await world.publish("base", {"app.bin": old_image()}, version="1.0")
    name = f"base-{world.suffix}"
    sim = await world.device("base", options={"installed": f"{name}:1.0", "read_installed": "on"})
    await world.until(lambda: bool(sim.requests("PUT")))
    await world.polls(2)
    assert len(sim.requests("installedBase")) >= 1
    puts = [line for line in sim.requests("PUT") if "installedBase" in line]
    assert len(puts) == 1, "said once"
    installed = await world.management.call("GET", f"/targets/{sim.name}/installedDS")
    assert installed["id"] == ds
    newer = await world.publish("given", {"app.bin": new_image()})
    action = await world.assign(newer, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    note = f"! installedBase {action}: given0-{world.suffix} 2.0"
    await world.until(lambda: note in sim.lines)


# -- errors ---------------------------------------------------------------------------------------


async def wrong_token(world: World) -> None:
    sim = await world.device("wrong", credential=Credential(token="not-this-one"))
    await world.until(lambda: any(line.startswith("< 401") for line in sim.lines))
    await world.polls(1)
    assert not sim.client.registered
    assert not any("not-this-one" in line for line in sim.lines)


async def gateway_token(world: World) -> None:
    """A gateway token makes an unknown target, and speaks for it."""
    credential = Credential(token=GATEWAY_TOKEN, token_kind=TokenKind.GATEWAY)
    sim = await world.device("gateway", credential=credential, known=False)
    await world.until(lambda: bool(sim.requests("configData")))
    ds = await world.publish("gateway", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)


async def unknown_tenant(world: World) -> None:
    sim = await world.device("tenant", options={"tenant": "other"})
    await world.until(lambda: any(line.startswith("< 401") for line in sim.lines))
    assert not sim.client.registered


async def misbehaviours(world: World) -> None:
    """Everything a device reports wrongly, and what a right server answers."""
    wrong = frozenset(
        {
            Misbehaviour.LATE_REPORT,
            Misbehaviour.DUPLICATE_REPORT,
            Misbehaviour.OUT_OF_ORDER,
            Misbehaviour.FOREIGN_REPORT,
            Misbehaviour.OVERSIZED_REPORT,
            Misbehaviour.STALE_CREDENTIAL,
            Misbehaviour.CLONED_IDENTITY,
        }
    )
    sim = await world.device("wrong-1", misbehave=wrong)
    ds = await world.publish("wrong", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    await world.until(lambda: len(world.runtime.misbehaviours.snapshot()) >= len(wrong))
    ledger = world.runtime.misbehaviours.snapshot()
    judged = {name for protocol, name in ledger if protocol == "hawkbit"}
    assert judged == {one.value for one in wrong}
    assert not [one for one in ledger.values() if one.broken], ledger


async def ignored_cancel(world: World) -> None:
    sim = await world.device(
        "deaf", bandwidth=SLOW, misbehave=frozenset({Misbehaviour.IGNORE_CANCEL})
    )
    ds = await world.publish("deaf", {"app.bin": new_image()})
    action = await world.assign(ds, sim)
    await downloading(world, sim)
    await world.cancel(sim, action)
    assert (await world.until_closed(sim, action))["status"] == "finished"
    await updated(world, sim)
    assert not sim.requests("cancelAction")
    judgement = world.runtime.misbehaviours.snapshot()["hawkbit", "ignore-cancel"]
    assert (judgement.kept, judgement.broken) == (1, 0)


SCENES: tuple[Scene, ...] = (
    success,
    resumed_download,
    failure,
    reverted,
    retried,
    cancel_accepted,
    cancel_before_start,
    cancel_answered_canceled,
    cancel_failed,
    cancel_rejected,
    cancel_forced,
    quit_while_installing,
    superseded,
    soft,
    soft_until_forced,
    timeforced,
    forced_in_mid_download,
    download_only,
    maintenance_window,
    rollout,
    if_none_match,
    several_artifacts,
    no_fitting_artifact,
    two_fitting_artifacts,
    swu,
    installed_base,
    wrong_token,
    gateway_token,
    unknown_tenant,
    misbehaviours,
    ignored_cancel,
)

CONFIRMATION: tuple[Scene, ...] = (confirmed, denied, auto_confirmed)
"""These need `user.confirmation.flow.enabled`, which changes what every assignment of the tenant
does: they come last, one after the other."""
