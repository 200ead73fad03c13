"""What each command was asked for, checked, as plain data; `run` has its own in `FleetSpec`."""

from __future__ import annotations

from dataclasses import dataclass

from tools.fleet.spec import (
    DEFAULT_LIFETIME,
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

    devices: int = 1000
    image_size: int = DEFAULT_IMAGE_SIZE
    """Bytes of payload; the image is built and signed on the spot."""
    protocol: str = "lwm2m"
    slot_size: int = DEFAULT_SLOT_SIZE
    lifetime: int = DEFAULT_LIFETIME
    ramp: float | None = None
    duration: float | None = None
    seed: int = 0
    bind: str | None = None
    faults: tuple[FaultShare, ...] = ()
    report_dir: str = "report"
    journal: str | None = None
    as_json: bool = False

    def __post_init__(self) -> None:
        check_whole("devices", self.devices, 1, MAX_DEVICES)
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
    trace: bool = False
    """Print every message decoded."""
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


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; port 0 picks a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, field: str, text: str) -> Address:
        """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` for every address."""
        host, colon, number = text.rpartition(":")
        if not colon or not (number.isascii() and number.isdigit()):
            raise SpecError(field, f"{text!r} is not HOST:PORT")
        if int(number) > 65535:
            raise SpecError(field, f"{text!r}: port {number} is not between 0 and 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise SpecError(field, f"{text!r}: write an IPv6 address as [{host}]:{number}")
        return cls(host or "0.0.0.0", int(number))


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """`fotilla backend`."""

    coap: Address
    rest: Address
    database: str
    """Path of an SQLite file, or a database URL."""
    account: str
    ready_file: str | None = None
    """Written by rename, mode 0600, once everything listens."""
