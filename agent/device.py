"""A virtual device: identity, flash, bootloader, update engine, and the protocol client it runs.

Theory of operation
===================

::

    OFF       no power
    BOOTING   reset until the application runs; the bootloader runs at its end
    RUNNING   the application and its protocol client run
    BRICKED   the bootloader found nothing valid to run: only a programmer helps

A boot runs the bootloader over the flash, hands its report to the engine (which reads itself back
from `nvm`), makes a new protocol client and starts it. An image on trial must be confirmed: the
client calls `healthy` when it reached its server again. Until then two things revert it, as on real
hardware: an image that never comes up is reset by the watchdog, and one that stays unhealthy for
`trial_seconds` reboots by itself.

When the flash loses power the device is switched off *before* `PowerLoss` unwinds the stack, so
whoever swallows the exception (`run`, at the edge of the device's code) has nothing left to do.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from agent.bootloader import Bootloader, BootReport, Policy
from agent.errors import LocalMisuse
from agent.faults import FaultPlan
from agent.flash import Flash, PowerCut, PowerLoss
from agent.nvm import Nvm
from agent.protocol import ClientFactory, ProtocolClient
from agent.runtime.journal import Ring
from agent.runtime.wheel import Timer
from agent.slot_store import FlashSlotStore
from agent.update import EngineEvent, State, UpdateEngine
from firmware_images import ByteSource, ImageRefused
from firmware_images.mcuboot import ImageInfo, TrustedKeys

if TYPE_CHECKING:
    from agent.runtime.runtime import Runtime

__all__ = ["TRANSITIONS", "Device", "DeviceTiming", "Phase"]

DEFAULT_SLOT_SIZE = 1 << 20

P = ParamSpec("P")
T = TypeVar("T")


class Phase(enum.IntEnum):
    """What a device is doing."""

    OFF = 0
    BOOTING = 1
    RUNNING = 2
    BRICKED = 3


TRANSITIONS: dict[Phase, dict[str, Phase]] = {
    Phase.OFF: {"power on": Phase.BOOTING},
    Phase.BOOTING: {
        "started": Phase.RUNNING,
        "bad boot": Phase.BOOTING,
        "nothing to boot": Phase.BRICKED,
        "power lost": Phase.OFF,
        "power off": Phase.OFF,
    },
    Phase.RUNNING: {"reboot": Phase.BOOTING, "power lost": Phase.OFF, "power off": Phase.OFF},
    Phase.BRICKED: {"power lost": Phase.OFF, "power off": Phase.OFF},
}


class DeviceTiming:
    """How long things take, in seconds. A slow or fast device is a subclass."""

    boot_seconds = 2.0
    """Reset to application, a Cortex-M with a small RTOS and a network stack."""
    boot_spread = 1.0
    """Boots differ by so much of `boot_seconds` (half below, half above): no two boards are alike,
    and a fleet that was told to install in one second must not come back in one millisecond."""
    reboot_delay = 1.0
    """Between the request for a reboot and the reset: the answer to an Execute must leave first."""
    watchdog_seconds = 8.0
    """A trial boot that never comes up is reset after so long."""
    trial_seconds = 600.0
    """An image that stays on trial longer reboots and is reverted."""
    client_retry_seconds = 5.0
    """A client that found no port or descriptor at a reboot is made again after so long."""
    store_seconds = 60.0
    """A slot store that leaves a command unanswered longer has failed."""


_TIMING = DeviceTiming()


class Device:
    """One virtual device. `attach` a protocol, then `power_on`."""

    __slots__ = (
        "_factory",
        "_retry",
        "_timer",
        "boots",
        "client",
        "engine",
        "faults",
        "group",
        "index",
        "name",
        "nvm",
        "on_event",
        "phase",
        "random",
        "ring",
        "runtime",
        "store",
        "timing",
    )

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        *,
        image: bytes | ByteSource,
        trusted: TrustedKeys,
        slot_size: int = DEFAULT_SLOT_SIZE,
        group: int = 0,
        index: int = 0,
        faults: FaultPlan | None = None,
        policy: Policy | None = None,
        timing: DeviceTiming = _TIMING,
        keep_after_boot_failure: bool = True,
    ) -> None:
        if not isinstance(image, bytes):
            image = image.read(0, len(image))
        self.runtime = runtime
        self.name = name
        self.group = group
        self.index = index
        self.faults = faults
        self.timing = timing
        self.random = runtime.random(group, index)
        self.ring = Ring()
        self.boots = 0
        self.phase = Phase.OFF
        self.client: ProtocolClient | None = None
        self.on_event: Callable[[str, str, str, str], None] | None = None
        self._factory: ClientFactory | None = None
        self._retry: Timer | None = None
        self._timer: Timer | None = None
        flash = Flash(runtime.images, slot_size, image)
        self.nvm = Nvm(flash)
        bootloader = Bootloader(flash, self.nvm, trusted, policy)
        self.store = FlashSlotStore(bootloader, self._reboot_requested, faults)
        self.engine = UpdateEngine(
            self.store,
            self.nvm,
            self._engine_changed,
            waits=self._store_waits,
            keep_after_boot_failure=keep_after_boot_failure,
        )
        if faults is not None:
            if faults.counter_bump:
                bootloader.store_counter(bootloader.security_counter() + faults.counter_bump)
            if faults.cut_power_at is not None:
                cut = PowerCut(faults.cut_mode, faults.seed, self._power_failed)
                flash.arm(faults.cut_power_at, cut)

    def __repr__(self) -> str:
        return f"<Device {self.name} {self.phase.name} {self.engine!r}>"

    # --- truth, for the audit: read from the flash, whatever the device told anybody

    @property
    def flash(self) -> Flash:
        return self.store.flash

    @property
    def running(self) -> ImageInfo | None:
        """The verified image in the primary slot; None when there is none."""
        try:
            return self.store.bootloader.running()
        except ImageRefused:
            return None

    @property
    def security_counter(self) -> int:
        return self.store.bootloader.security_counter()

    # --- what a person or a scenario does with a device

    def attach(self, factory: ClientFactory) -> None:
        """Let the device speak the protocol that `factory` makes clients of, from its next boot."""
        self._factory = factory

    def power_on(self) -> None:
        self._move("power on")
        self._disarm()
        self.run(self._boot)

    def power_off(self) -> None:
        """Switch off in order: the client may say goodbye."""
        client, self.client = self.client, None
        if client is not None:
            self.run(client.stop)
        if self.phase is not Phase.OFF:
            self._move("power off")
        self._disarm()

    def cut_power(self, back_after: float | None = None) -> None:
        """Pull the plug; with `back_after` it returns so many seconds later."""
        client, self.client = self.client, None
        if client is not None:
            client.power_lost()
        if self.phase is not Phase.OFF:
            self._move("power lost")
        self._disarm()
        if back_after is not None:
            self._arm(back_after)

    def reboot(self, cause: str = "") -> None:
        """Reset now; the application runs again after `boot_seconds`."""
        self._move("reboot", cause)
        client, self.client = self.client, None
        if client is not None:
            client.power_lost()
        timing = self.timing
        spread = timing.boot_spread / 2
        self._arm(timing.boot_seconds * self.random.uniform(1 - spread, 1 + spread))

    # --- what a protocol client does with a device

    def healthy(self) -> None:
        """The client works again after a boot: an image on trial is confirmed."""
        if self._on_trial():
            self.engine.confirm()
            if not self._on_trial():
                self._disarm()

    def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call into the device's code from outside; a power loss ends the call, not the caller."""
        try:
            return call(*args, **kwargs)
        except PowerLoss:
            return None

    # --- internals

    def _boot(self) -> None:
        self.boots += 1
        self.nvm.mount()
        report = self.store.bootloader.boot()
        if report.running is None:
            self._move("nothing to boot", str(report.refused))
            return
        faults = self.faults
        if report.trial and faults is not None and faults.bad_boots > 0:
            faults.bad_boots -= 1
            self._move("bad boot")
            self._arm(self.timing.watchdog_seconds)
            return
        self.engine.booted(report)
        self._move("started")
        if report.trial:
            self._arm(self.timing.trial_seconds)
        self._start_client(report)

    def _start_client(self, report: BootReport) -> None:
        factory = self._factory
        if factory is None:
            return
        try:
            client = self.client = factory(self)
        except OSError as error:
            if self.boots == 1:
                raise  # what was asked for cannot work: a person should hear of it
            # The machine that runs us has no port or descriptor to spare just now.
            self._retry = Timer(lambda now: self.run(self._start_again, report))
            self.record("device", self.phase.name, self.phase.name, f"no client: {error}")
            self.runtime.arm(self._retry, self.timing.client_retry_seconds)
            return
        client.booted(report)
        client.start()

    def _start_again(self, report: BootReport) -> None:
        if self.phase is Phase.RUNNING and self.client is None:
            self._start_client(report)

    def _timer_fired(self, now: float) -> None:
        self.run(self._timeout)

    def _timeout(self) -> None:
        if self.phase is Phase.OFF:
            self.power_on()
        elif self.phase is Phase.BOOTING:
            self._boot()
        elif self.phase is Phase.RUNNING:
            if self.engine.pending:
                self.engine.store_silent()
                if self._on_trial():
                    self._arm(self.timing.trial_seconds)
            elif self.engine.state is State.INSTALLING:
                self.reboot("install")
            elif self._on_trial():
                self.reboot("trial not confirmed")

    def _on_trial(self) -> bool:
        return self.engine.state is State.TRIAL

    def _reboot_requested(self) -> None:
        self._arm(self.timing.reboot_delay)

    def _store_waits(self) -> None:
        self._arm(self.timing.store_seconds)

    def _power_failed(self) -> None:
        assert self.faults is not None
        self.cut_power(self.faults.outage_seconds)

    def _engine_changed(self, event: EngineEvent) -> None:
        cause = event.cause
        if event.outcome is not None:
            cause = f"{cause}: {event.outcome.name.lower()}"
        self.record("update", event.old.name, event.new.name, cause)
        if self.client is not None:
            self.client.engine_event(event)

    def _move(self, cause: str, detail: str = "") -> None:
        """The only way to another phase."""
        old = self.phase
        new = TRANSITIONS[old].get(cause)
        if new is None:
            raise LocalMisuse(f"device {self.name}: {cause!r} while {old.name}")
        self.phase = new
        self.record("device", old.name, new.name, f"{cause}: {detail}" if detail else cause)

    def record(self, machine: str, old: str, new: str, cause: str) -> None:
        """Note a state change of one of this device's machines: journal, ring, `on_event`."""
        self.runtime.journal.record(self.ring, self.name, machine, old, new, cause)
        if self.on_event is not None:
            self.on_event(machine, old, new, cause)

    def _arm(self, delay: float) -> None:
        if self._timer is None:
            self._timer = Timer(self._timer_fired)
        runtime = self.runtime
        runtime.wheel.arm(self._timer, runtime.clock.now() + delay)

    def _disarm(self) -> None:
        if self._retry is not None:
            self.runtime.wheel.disarm(self._retry)
            self._retry = None
        if self._timer is not None:
            self.runtime.wheel.disarm(self._timer)
