"""Parts that the tests of the agent share: keys, images, and a board without a runtime."""

from __future__ import annotations

import functools
import random

from agent.bootloader import Bootloader, BootReport, Policy
from agent.faults import FaultPlan
from agent.flash import Flash
from agent.image_store import ImageStore
from agent.nvm import Nvm
from agent.slot_store import FlashSlotStore
from agent.update import EngineEvent, UpdateEngine
from firmware_images.mcuboot import (
    KeyType,
    SigningKey,
    TrustedKeys,
    Version,
    build_image,
    generate_key,
)

SLOT = 32 * 1024
"""Eight sectors: one trailer, one to move into, six of image. Small enough to cut everywhere."""


@functools.cache
def key(number: int) -> SigningKey:
    return generate_key(KeyType.ED25519)


@functools.cache
def trusted() -> TrustedKeys:
    return TrustedKeys.of([key(0)])


@functools.cache
def image(major: int, size: int = 9000, counter: int | None = 1) -> bytes:
    """A signed image of about `size` bytes; version, counter and bytes differ with `major`."""
    payload = random.Random(major).randbytes(size)
    return build_image(
        payload, version=Version(major, 0, 0, 0), key=key(0), security_counter=counter
    )


def old_image() -> bytes:
    return image(1, 9000, 1)


def new_image() -> bytes:
    return image(2, 13000, 2)


class Board:
    """Flash, bootloader and engine of one device. `boot` loses everything but the flash."""

    bootloader_class = Bootloader
    engine_class = UpdateEngine

    def __init__(
        self,
        *,
        factory: bytes | None = None,
        slot_size: int = SLOT,
        images: ImageStore | None = None,
        policy: Policy | None = None,
        faults: FaultPlan | None = None,
        keep: bool = True,
    ) -> None:
        self.flash = Flash(
            images or ImageStore(), slot_size, old_image() if factory is None else factory
        )
        self.policy = policy
        self.faults = faults
        self.keep = keep
        self.events: list[EngineEvent] = []
        self.reboots = 0
        self._restart()

    def _restart(self) -> None:
        self.nvm = Nvm(self.flash)
        self.bootloader = self.bootloader_class(self.flash, self.nvm, trusted(), self.policy)
        self.store = FlashSlotStore(self.bootloader, self._reboot, self.faults)
        self.engine = self.engine_class(
            self.store, self.nvm, self.events.append, keep_after_boot_failure=self.keep
        )

    def _reboot(self) -> None:
        self.reboots += 1

    def reset(self) -> BootReport:
        """Reset and run the bootloader only: what a trial boot that never comes up does."""
        self._restart()
        return self.bootloader.boot()

    def boot(self) -> BootReport:
        report = self.reset()
        self.engine.booted(report)
        return report

    def download(self, package: bytes, *, uri: str = "coap://host/fw", block: int = 1024) -> bool:
        """Download what is missing of `package`, from the engine's offset on."""
        engine = self.engine
        if not engine.resumable and not engine.begin(uri=uri):
            return False
        for start in range(engine.offset, len(package), block):
            if not engine.receive(package[start : start + block]):
                return False
        return engine.complete()

    def running_digest(self) -> bytes:
        return self.bootloader.running().digest
