"""What a run is made of: `FleetSpec`, built from flags or from a scenario file alike.

A spec is plain data: frozen, picklable, free of open files and live objects, so that a shard in
another process or on another host gets exactly what the driver had. It knows no protocol: the
server is a URI whose scheme the chosen protocol judges, and images and keys are bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, urlsplit

from agent.credentials import Credential
from agent.misbehaviour import Misbehaviour

DEFAULT_PROTOCOL = "lwm2m"
DEFAULT_SLOT_SIZE = 1 << 20
MIN_SLOT_SIZE = 16 << 10  # header, trailer and one page of payload still fit
MAX_SLOT_SIZE = 1 << 30  # flash is modelled page by page; beyond this a typing error is likelier
MAX_DEVICES = 1_000_000  # names and flash alone would fill the memory of one driver
MAX_LIFETIME = 0xFFFFFFFF  # a 32-bit number of seconds in the protocols that carry it
DEFAULT_LIFETIME = 300  # LwM2M's own default is a day; a vanished test device should be noticed

DEFAULT_MAX_LAG = 1.0
"""Seconds. A run whose own scheduler is later than this in 1 of 100 looks measures itself, not the
server: retransmission timers of 2 s begin to fire because we were late."""

# Every fault that a device can have; `tools.fleet.faults` hands them to the agent.
FAULTS = (
    "bad-boot",
    "power-cut",
    "corrupt-download",
    "corrupt-slot",
    "counter-bump",
    "cut-download",
)


class SpecError(ValueError):
    """A field of a spec that cannot be; `field` names it as the dataclass spells it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[SpecError], tuple[str, str]]:
        return (SpecError, (self.field, self.problem))


@dataclass(frozen=True, slots=True)
class FaultShare:
    """A fault by name, and the share of the devices that have it (0 to 1)."""

    name: str
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class OperatorAccess:
    """Where the operator network is, and as whom its API is asked."""

    url: str
    account: str
    secret: str = field(repr=False)
    cells: int = 1
    """Over how many cells the devices are spread, in turns."""


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """One shard's work, or a whole run's: how many devices of what kind do what."""

    server: str
    """URI of the server the devices talk to."""
    devices: int
    names: tuple[str, ...]
    """One unique name per device."""
    image: bytes
    """The image that the devices are expected to end with; the target of the audit."""
    keys: tuple[bytes, ...]
    """PEM of every public key that the devices trust."""
    protocol: str = DEFAULT_PROTOCOL
    running: bytes | None = None
    """The factory image; without it one is built and its throwaway key trusted as well."""
    slot_size: int = DEFAULT_SLOT_SIZE
    lifetime: int = DEFAULT_LIFETIME
    """Seconds that a registration stays valid without being renewed."""
    ramp: float | None = None
    """Devices started per second; None leaves it to the start-up window that the run chooses."""
    duration: float | None = None
    """Seconds after which the run ends, finished or not; None waits for the last device."""
    seed: int = 0
    bind: str | None = None
    """Local address of the devices; None lets the system choose by the route to the server."""
    faults: tuple[FaultShare, ...] = ()
    misbehave: tuple[tuple[Misbehaviour, float], ...] = ()
    """What devices do wrong on purpose, and the share of them (0 to 1) that does."""
    credentials: tuple[Credential, ...] = ()
    """One per device, in the order of the names; none: the devices have none."""
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Settings that only this protocol knows; some are secrets."""
    bandwidth: float | None = None
    """Bytes a second of each device's link; None: as fast as it comes."""
    report_dir: str | None = None
    serve_image: bool = False
    """Offer the image under a URL that the operator hands to the server."""
    serve_port: int = 0
    journal: str | None = None
    """File that every state change of every device is written to, as JSON Lines."""
    max_lag: float = DEFAULT_MAX_LAG
    """Seconds that our own scheduler may be late (99th percentile); beyond, the run is invalid."""
    operator: OperatorAccess | None = None
    """Where the devices attach to an operator network; None: they do not, or by themselves."""
    trace: bool = False
    group: int = 0
    """With `first_index` and the seed: which random numbers a device draws."""
    first_index: int = 0

    def __post_init__(self) -> None:
        split_server(self.server)
        check_whole("devices", self.devices, 1, MAX_DEVICES)
        if len(self.names) != self.devices:
            raise SpecError("names", f"{len(self.names)} names for {self.devices} devices")
        if not self.protocol:
            raise SpecError("protocol", "is empty")
        if not self.image:
            raise SpecError("image", "is empty")
        if not self.keys:
            raise SpecError("keys", "none given: devices that trust no key refuse every image")
        if self.running is not None and not self.running:
            raise SpecError("running", "is empty")
        check_whole("slot_size", self.slot_size, MIN_SLOT_SIZE, MAX_SLOT_SIZE)
        check_whole("lifetime", self.lifetime, 1, MAX_LIFETIME)
        check_positive("ramp", self.ramp)
        check_positive("duration", self.duration)
        check_whole("seed", self.seed, 0, 2**64 - 1)
        check_whole("serve_port", self.serve_port, 0, 65535)
        check_whole("group", self.group, 0, 2**32 - 1)
        check_whole("first_index", self.first_index, 0, 2**32 - 1)
        check_faults(self.faults)
        check_positive("bandwidth", self.bandwidth)
        check_positive("max_lag", self.max_lag)
        if self.credentials and len(self.credentials) != self.devices:
            raise SpecError(
                "credentials", f"{len(self.credentials)} credentials for {self.devices} devices"
            )
        if len({name for name, _ in self.misbehave}) != len(self.misbehave):
            raise SpecError("misbehave", "a name is given twice")
        if len({name for name, _ in self.options}) != len(self.options):
            raise SpecError("options", "a name is given twice")

    def shard(self, start: int, stop: int) -> FleetSpec:
        """The part of this run that holds devices `start` up to, not including, `stop`."""
        return replace(
            self,
            devices=stop - start,
            names=self.names[start:stop],
            credentials=self.credentials[start:stop],
            first_index=self.first_index + start,
            ramp=None if self.ramp is None else self.ramp * (stop - start) / self.devices,
        )


def check_whole(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SpecError(field, f"{value} is not between {low} and {high}")


def check_positive(field: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise SpecError(field, f"{value:g} is not a positive number")


def check_faults(faults: tuple[FaultShare, ...]) -> None:
    seen: set[str] = set()
    for fault in faults:
        if fault.name not in FAULTS:
            raise SpecError("faults", f"no fault {fault.name!r}; known: {', '.join(FAULTS)}")
        if not 0 < fault.share <= 1:
            share = f"{fault.share * 100:g}%"
            raise SpecError(
                "faults", f"{fault.name}: a share of {share} is not above 0% and up to 100%"
            )
        if fault.name in seen:
            raise SpecError("faults", f"{fault.name} is given twice")
        seen.add(fault.name)


def split_server(uri: str) -> SplitResult:
    """Scheme, host and port of a server URI, or a `SpecError` that says what is missing."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise SpecError("server", f"{uri!r} is not a URI: {error}") from None
    if not parts.scheme or "://" not in uri:
        raise SpecError("server", f"{uri!r} has no scheme; try coap://host:5683")
    if not parts.hostname:
        raise SpecError("server", f"{uri!r} names no host")
    if port == 0:
        raise SpecError("server", f"{uri!r}: port 0 cannot be sent to")
    return parts


def parse_fault(text: str) -> FaultShare:
    """`NAME` or `NAME=SHARE%`."""
    name, share = _parse_share("faults", text)
    return FaultShare(name, share)


def parse_misbehaviour(text: str) -> tuple[Misbehaviour, float]:
    """`NAME` or `NAME=SHARE%`."""
    name, share = _parse_share("misbehave", text)
    try:
        misbehaviour = Misbehaviour(name)
    except ValueError:
        known = ", ".join(one.value for one in Misbehaviour)
        raise SpecError("misbehave", f"no misbehaviour {name!r}; known: {known}") from None
    if not 0 < share <= 1:
        raise SpecError(
            "misbehave", f"{name}: a share of {share * 100:g}% is not above 0% and up to 100%"
        )
    return misbehaviour, share


def parse_option(text: str, field: str = "options") -> tuple[str, str]:
    """`NAME=VALUE`."""
    name, given, value = text.partition("=")
    if not given or not name.strip():
        raise SpecError(field, f"{text!r} is not NAME=VALUE")
    return name.strip(), value.strip()


def _parse_share(field: str, text: str) -> tuple[str, float]:
    name, given, share = text.partition("=")
    name = name.strip()
    if not name:
        raise SpecError(field, f"{text!r} has no name; the form is NAME or NAME=SHARE%")
    if not given:
        return name, 1.0
    number = share.strip()
    if not number.endswith("%"):
        raise SpecError(field, f"{text!r}: the share is a percentage, such as {name}=10%")
    try:
        return name, float(number[:-1]) / 100
    except ValueError:
        raise SpecError(field, f"{text!r}: {number!r} is not a percentage") from None


_SIZE_UNITS = {"": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20}


def parse_size(field: str, text: str) -> int:
    """Bytes, written as 1048576, 0x100000, 1024k or 1MiB."""
    lowered = text.strip().lower()
    unit = lowered.lstrip("0123456789") if not lowered.startswith("0x") else ""
    number = lowered[: len(lowered) - len(unit)]
    try:
        return int(number, 0) * _SIZE_UNITS[unit.strip()]
    except (KeyError, ValueError):
        raise SpecError(
            field, f"{text!r} is not a size; write 1048576, 0x100000, 512k or 1MiB"
        ) from None


_TIME_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_seconds(field: str, text: str) -> float:
    """Seconds, written as 90, 90s, 1.5m, 2h or 1d."""
    lowered = text.strip().lower()
    unit = lowered.lstrip("0123456789.")
    try:
        return float(lowered[: len(lowered) - len(unit)]) * _TIME_UNITS[unit.strip()]
    except (KeyError, ValueError):
        raise SpecError(field, f"{text!r} is not a duration; write 90, 90s, 1.5m or 2h") from None


def parse_rate(field: str, text: str) -> float:
    """Per second, written as 100 or 100/s; 30/m is per minute."""
    number, given, unit = text.strip().lower().partition("/")
    try:
        per = {"s": 1.0, "m": 60.0, "min": 60.0}[unit.strip() if given else "s"]
        return float(number) / per
    except (KeyError, ValueError):
        raise SpecError(field, f"{text!r} is not a rate; write 100/s or 30/m") from None
