"""What each command was asked for, checked, as plain data; `run` has `FleetSpec`."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.credentials import NO_CREDENTIAL, Credential
from agent.misbehaviour import Misbehaviour
from tools.fleet.spec import (
    DEFAULT_LIFETIME,
    DEFAULT_MAX_LAG,
    DEFAULT_SLOT_SIZE,
    MAX_DEVICES,
    MAX_LIFETIME,
    MAX_SLOT_SIZE,
    MIN_SLOT_SIZE,
    FaultShare,
    SpecError,
    check_faults,
    check_positive,
    check_whole,
    split_server,
)

MIN_IMAGE_SIZE = 1 << 10  # smaller, and header and signature are most of it
DEFAULT_IMAGE_SIZE = 256 << 10


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`fotilla demo`."""

    groups: tuple[tuple[str, int], ...] = (("lwm2m", 1000), ("http", 200), ("omadm", 100))
    """Protocols, and how many devices speak each."""
    named_by: str = field(default="devices", compare=False)
    """The setting that names the protocols: devices or protocol."""
    image_size: int = DEFAULT_IMAGE_SIZE
    """Bytes of payload; the image is built and signed on the spot."""
    slot_size: int = DEFAULT_SLOT_SIZE
    lifetime: int = DEFAULT_LIFETIME
    ramp: float | None = None
    duration: float | None = None
    seed: int = 0
    bind: str | None = None
    faults: tuple[FaultShare, ...] = ()
    misbehave: tuple[tuple[Misbehaviour, float], ...] = ()
    bandwidth: float | None = None
    """Bytes a second of each device's link."""
    max_lag: float = DEFAULT_MAX_LAG
    """Seconds that our own scheduler may be late before the run is invalid."""
    report_dir: str = "report"
    journal: str | None = None
    as_json: bool = False

    def __post_init__(self) -> None:
        check_whole("devices", sum(count for _, count in self.groups), 1, MAX_DEVICES)
        check_positive("bandwidth", self.bandwidth)
        check_positive("max_lag", self.max_lag)
        check_whole("image_size", self.image_size, MIN_IMAGE_SIZE, MAX_SLOT_SIZE)
        check_whole("slot_size", self.slot_size, MIN_SLOT_SIZE, MAX_SLOT_SIZE)
        check_whole("lifetime", self.lifetime, 1, MAX_LIFETIME)
        check_positive("ramp", self.ramp)
        check_positive("duration", self.duration)
        check_whole("seed", self.seed, 0, 2**64 - 1)
        check_faults(self.faults)


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """`fotilla device`: one device in the foreground."""

    server: str
    name: str
    protocol: str = "lwm2m"
    running: bytes | None = None
    """Factory image; without it one is built as version 0.0.0."""
    keys: tuple[bytes, ...] = ()
    """PEM of every public key that the device trusts."""
    slot_size: int = DEFAULT_SLOT_SIZE
    lifetime: int = DEFAULT_LIFETIME
    seed: int = 0
    bind: str | None = None
    faults: tuple[FaultShare, ...] = ()
    credential: Credential = NO_CREDENTIAL
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Settings that only this protocol knows; some are secrets."""
    trace: bool = False
    """Print a line for every message."""
    as_json: bool = False
    """Print journal lines in place of sentences."""

    def __post_init__(self) -> None:
        split_server(self.server)
        if self.running is not None and not self.running:
            raise SpecError("running", "is empty")
        check_whole("slot_size", self.slot_size, MIN_SLOT_SIZE, MAX_SLOT_SIZE)
        check_whole("lifetime", self.lifetime, 1, MAX_LIFETIME)
        check_whole("seed", self.seed, 0, 2**64 - 1)
        check_faults(self.faults)
