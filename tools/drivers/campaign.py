"""A whole run against a foreign server: its driver and our devices, from the first device made
known to the last object removed.

    open, provision, publish -> devices start -> campaign starts -> devices final, server settled
        -> truths, devices off -> beliefs -> cancel what is open -> cleanup

The package is there before the first device is: an upload that fails costs nobody a start, and a
server that learns hardware from packages and devices alike (gooseBit) learns it from one.

Ctrl-C ends the story at any point, in order: the call under way runs to its end, the campaign is
cancelled, and all that was made is removed. Devices are switched off before their server forgets
them, so that none is made known again by its next poll.

A server that is gone ends the story soon: once the run is over, by its duration, by Ctrl-C or
because nobody answers, the driver is in a hurry (`Driver.hurry`). What it could not remove is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from agent.credentials import Credential
from tools.drivers.base import Campaign, Driver, Package, tally_differences
from tools.drivers.errors import CleanupIncomplete, DriverError, ServerLost, ServerUnreachable
from tools.fleet.audit import Belief
from tools.fleet.factory import target_of
from tools.fleet.progress import View
from tools.fleet.shard import DEFAULT_RAMP, Shard, ShardSnapshot, open_shard
from tools.fleet.spec import FleetSpec

__all__ = ["DriveTuning", "Driven", "drive", "enlisted"]

T = TypeVar("T")

UNREADABLE = "0.0.0-unreadable"
"""The version under which an image is published that none can be read from: servers want one."""


@dataclass(frozen=True, slots=True)
class DriveTuning:
    """How long a driven run waits for what, in seconds."""

    registered: float = 60.0
    """For the last devices to be known, after the start-up window."""
    settle_interval: float = 1.0
    """Between two questions whether the server is done."""
    settle_failures: int = 5
    """Questions in a row that may fail before the server is taken to be gone."""
    grace: float = 60.0
    """For the side that is late once the other has ended: a server learns of an end by the next
    poll, which it may have put half a minute away."""
    silence: float = 8.0
    """Without any answer, once the run is over, until the server is taken to be gone."""
    cleanup_silence: float = 30.0
    """The same while all is removed after a run that ended well."""
    cleanup: float = 300.0
    """Thousands of devices are removed one call each."""


@dataclass(frozen=True, slots=True)
class Driven:
    """What is left of a driven run: plain data."""

    spec: FleetSpec
    """As the devices were run: names, credentials and options of the driver included."""
    snapshot: ShardSnapshot | None = None
    """None: stopped before there were devices."""
    beliefs: Mapping[str, Belief] | None = None
    """None: stopped before there was a campaign."""
    findings: tuple[str, ...] = ()
    """Where the server contradicts itself."""
    left: tuple[str, ...] = ()
    """What could not be removed from the server."""


@dataclass(slots=True)
class _Story:
    """What is known so far."""

    reached: bool = False
    """The server was there."""
    campaign: Campaign | None = None
    ended: bool = False
    left: list[str] = field(default_factory=list)


async def drive(
    driver: Driver,
    spec: FleetSpec,
    *,
    suffix: str,
    stop: asyncio.Event,
    say: Callable[[str], None],
    on_view: Callable[[View], None] | None = None,
    tuning: DriveTuning | None = None,
) -> Driven:
    """Run the devices of `spec`, each name followed by `suffix`, through a campaign of `driver`.

    Raises `DriverError` when the server cannot be driven; all that was made is removed before.
    `ServerLost` says that it could be driven, until it was gone."""
    tuning = tuning or DriveTuning()
    spec = replace(
        spec,
        names=tuple(f"{name}-{suffix}" for name in spec.names),
        protocol=driver.protocol,
        server=driver.device_server,
    )
    story = _Story()
    driven = Driven(spec)

    def hurry() -> None:
        driver.hurry(tuning.silence)

    try:
        async with _cleaned_up(driver, suffix, story, say, tuning):
            prepared = await _unless(stop, _prepare(driver, spec, story, say), hurry)
            if prepared is None:
                return driven
            known, package = prepared
            async with open_shard(known, stop=stop, on_view=on_view) as shard:
                driven = await _run(driver, package, known, shard, story, say, tuning)
    except ServerUnreachable as error:
        if not story.reached:
            raise
        raise ServerLost(str(error)) from None
    return replace(driven, left=tuple(story.left))


def enlisted(driver: Driver, spec: FleetSpec, credentials: tuple[Credential, ...]) -> FleetSpec:
    """The devices of `spec` as they meet the server of `driver`."""
    # What a person asked for counts more than what the driver suggests.
    options = {**driver.device_options, **dict(spec.options)}
    return replace(
        spec,
        server=driver.device_server,
        credentials=credentials,
        options=tuple(options.items()),
    )


async def _prepare(
    driver: Driver, spec: FleetSpec, story: _Story, say: Callable[[str], None]
) -> tuple[FleetSpec, Package]:
    """Make devices and package known; the same devices with what they need to be recognised."""
    await driver.open()
    story.reached = True
    credentials = await driver.provision(spec.names)
    say(f"{driver.name}: {len(spec.names)} devices provisioned")
    known = enlisted(driver, spec, tuple(credentials[name] for name in spec.names))
    version = target_of(spec.image).version
    package = await driver.publish(spec.image, UNREADABLE if version == "unreadable" else version)
    return known, package


async def _run(
    driver: Driver,
    package: Package,
    spec: FleetSpec,
    shard: Shard,
    story: _Story,
    say: Callable[[str], None],
    tuning: DriveTuning,
) -> Driven:
    await shard.start()
    window = spec.devices / (spec.ramp or DEFAULT_RAMP)
    if not await shard.until_registered(window + tuning.registered) and not shard.stop.is_set():
        say(f"{driver.name}: {_missing(shard)} devices are not known to their server yet")
    error = await _begun(driver, package, spec, shard, story, say, tuning)
    campaign = story.campaign
    if campaign is None:
        snapshot = shard.snapshot()
        await shard.power_off()
        return Driven(spec, replace(snapshot, error=snapshot.error or error))
    async with _asking(driver, campaign, shard, say, tuning) as settling:
        await shard.wait(settling.done.is_set, tuning.grace)
    if settling.gone or shard.over:
        driver.hurry(tuning.silence)
    # Devices fall silent before the server is asked: reading takes a while, and a device that goes
    # on meanwhile would be compared with a belief of another moment.
    snapshot = shard.snapshot()
    await shard.power_off()
    try:
        said = await driver.belief(campaign)
        tally = await driver.tally(campaign)
    except DriverError as error:
        say(str(error))
        return Driven(spec, replace(snapshot, error=snapshot.error or str(error)))
    beliefs = {name: driver.believed(belief, campaign) for name, belief in said.items()}
    story.ended = all(belief.verdict != "unfinished" for belief in beliefs.values())
    findings = () if tally is None else tally_differences(tally, beliefs)
    return Driven(spec, snapshot, beliefs, findings)


def _missing(shard: Shard) -> int:
    return shard.spec.devices - shard.census.ever_registered


async def _begun(
    driver: Driver,
    package: Package,
    spec: FleetSpec,
    shard: Shard,
    story: _Story,
    say: Callable[[str], None],
    tuning: DriveTuning,
) -> str | None:
    """Start the campaign; why there is none, unless a person did not want it any more."""

    def hurry() -> None:
        driver.hurry(tuning.silence)

    begin = _begin(driver, package, spec, story, say)
    try:
        await _unless(shard.stop, begin, hurry, shard.remaining)
    except ServerUnreachable as error:
        hurry()
        return str(error)
    if story.campaign is None and not shard.stop.is_set():
        return f"{driver.name}: the duration was over before there was a campaign"
    return None


async def _begin(
    driver: Driver, package: Package, spec: FleetSpec, story: _Story, say: Callable[[str], None]
) -> None:
    story.campaign = await driver.start(package, spec.names)
    say(f"{driver.name}: version {package.version} offered to {len(spec.names)} devices")


@dataclass(slots=True)
class _Settling:
    """How far the server has come, as it says itself."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is done with the campaign, or gone."""
    gone: bool = False
    """It did not answer the last questions."""


@contextlib.asynccontextmanager
async def _asking(
    driver: Driver,
    campaign: Campaign,
    shard: Shard,
    say: Callable[[str], None],
    tuning: DriveTuning,
) -> AsyncIterator[_Settling]:
    """Ask the server now and then whether it is done."""
    settling = _Settling()

    async def ask() -> None:
        failures = 0
        while failures < tuning.settle_failures:
            try:
                if await driver.settled(campaign):
                    break
                failures = 0
            except DriverError as error:
                failures += 1
                if failures == tuning.settle_failures:
                    say(str(error))
            await shard.runtime.clock.sleep(tuning.settle_interval)
        settling.gone = failures > 0
        settling.done.set()

    task = asyncio.ensure_future(ask())
    try:
        yield settling
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _cleaned_up(
    driver: Driver, suffix: str, story: _Story, say: Callable[[str], None], tuning: DriveTuning
) -> AsyncIterator[None]:
    """Whatever happens inside, the server is left as it was found, or it is said what is left."""
    silence = tuning.cleanup_silence
    try:
        yield
    except ServerUnreachable:
        silence = tuning.silence
        raise
    finally:
        driver.hurry(silence)
        try:
            async with asyncio.timeout(tuning.cleanup):
                if story.campaign is not None and not story.ended:
                    with contextlib.suppress(DriverError):  # removing it is what counts
                        await driver.cancel(story.campaign)
                await driver.cleanup()
        except CleanupIncomplete as error:
            story.left += error.left
            say(f"{driver.name}: {error}")
            say(f"{driver.name}: what is left has {suffix} in its name")
        except asyncio.CancelledError:
            say(f"{driver.name}: not all was removed; what is left has {suffix} in its name")
            raise
        except TimeoutError:
            story.left.append(f"all that was not removed within {tuning.cleanup:g} s")
            say(f"{driver.name}: gave up removing what was made after {tuning.cleanup:g} s")
        finally:
            await driver.close()


async def _unless(
    stop: asyncio.Event,
    work: Coroutine[Any, Any, T],
    hurry: Callable[[], None],
    seconds: float | None = None,
) -> T | None:
    """The result of `work`, or None when `stop` is set first or so many seconds are over; `work`
    is then told to hurry, cancelled, and waited for."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        hurry()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await task
        return None
    finally:
        stopped.cancel()
        task.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
