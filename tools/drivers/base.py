"""The interface of a driver: how a run makes a foreign server update its devices, and asks it
afterwards what it believes.

A driver owns the objects that it makes at the server (devices, packages, campaigns, changed
settings) and removes or restores them in `cleanup`. Every name it chooses itself carries the
random suffix of the run, so that two runs against one server do not meet. Secrets come from
`FOTILLA_<DRIVER>_USER`, `_PASSWORD` and `_TOKEN`, and from nowhere else.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import httpx

from agent.credentials import Credential
from agent.registry import Registry
from tools.drivers.api import ApiTuning
from tools.drivers.errors import BadOption, MissingSecret
from tools.fleet.audit import Belief, BeliefVerdict

__all__ = [
    "Campaign",
    "Driver",
    "DriverBelief",
    "DriverSettings",
    "Package",
    "Secrets",
    "Tally",
    "believed_by",
    "check_options",
    "drivers",
    "tally_differences",
]


@dataclass(frozen=True, slots=True)
class Secrets:
    """Who we are at the server; what is empty was not given."""

    driver: str
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, driver: str, environment: Mapping[str, str]) -> Secrets:
        prefix = f"FOTILLA_{driver.upper()}"
        return cls(
            driver,
            environment.get(f"{prefix}_USER", ""),
            environment.get(f"{prefix}_PASSWORD", ""),
            environment.get(f"{prefix}_TOKEN", ""),
        )

    def login(self) -> tuple[str, str]:
        """User and password. Raises MissingSecret with the name of the variable to set."""
        prefix = f"FOTILLA_{self.driver.upper()}"
        for name, value in (("USER", self.user), ("PASSWORD", self.password)):
            if not value:
                raise MissingSecret(f"{self.driver}: set {prefix}_{name} in the environment")
        return self.user, self.password

    def values(self) -> tuple[str, ...]:
        """What must never be shown."""
        return tuple(value for value in (self.password, self.token) if value)


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """What every driver is given."""

    server: str
    """Base URL of the server's management interface."""
    identity: Secrets
    suffix: str
    """Random text of this run, in the name of everything that the driver makes."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What only this driver knows; it refuses others."""
    new_token: Callable[[int], str] = secrets.token_hex
    """Makes a device's token of so many random bytes."""
    tuning: ApiTuning = ApiTuning()
    transport: httpx.AsyncBaseTransport | None = None
    """In place of the network, for tests."""


@dataclass(frozen=True, slots=True)
class Package:
    """A published image."""

    id: str
    """The server's own identifier."""
    version: str


@dataclass(frozen=True, slots=True)
class Campaign:
    """A started update of some devices."""

    id: str
    package: Package
    devices: tuple[str, ...]
    actions: Mapping[str, str] = field(default_factory=dict)
    """The server's identifier of the update of each device, where it gives one at the start."""


@dataclass(frozen=True, slots=True)
class DriverBelief:
    """What the server holds to be so of one device, in its own words."""

    state: str
    version: str | None = None
    """The version that it believes is running; None when it does not say."""
    time: datetime | None = None
    """When it last learned something of the device."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The server's own totals of a campaign, kept apart from what it says of each device."""

    updated: int
    failed: int


class Driver(Protocol):
    """One foreign server. All calls may raise `DriverError` and its kin."""

    name: str
    protocol: str
    """The device protocol that its devices speak."""

    @property
    def device_server(self) -> str:
        """The URL that devices are given; known after `open`."""
        ...

    @property
    def device_options(self) -> Mapping[str, str]:
        """Options of the device protocol without which devices would not be understood."""
        ...

    async def open(self) -> None:
        """Reach the server, log in, and see that it is one this driver knows; changes nothing."""
        ...

    async def provision(self, devices: Sequence[str]) -> dict[str, Credential]:
        """Make the devices known to the server; what each is to prove its identity with."""
        ...

    async def publish(self, image: bytes, version: str) -> Package:
        """Upload an image, packed as the server wants it."""
        ...

    async def start(self, package: Package, devices: Sequence[str]) -> Campaign: ...

    async def belief(self, campaign: Campaign) -> dict[str, DriverBelief]:
        """What the server believes of each device; one that it does not know is not in it."""
        ...

    def believed(self, belief: DriverBelief, campaign: Campaign) -> Belief:
        """The same in the audit's words, by the driver's table."""
        ...

    async def tally(self, campaign: Campaign) -> Tally | None:
        """The server's own totals, None when it keeps none."""
        ...

    async def settled(self, campaign: Campaign) -> bool:
        """No device of the campaign is expected to go on, as far as the server knows."""
        ...

    async def cancel(self, campaign: Campaign) -> None:
        """Ask the server to stop what has not ended."""
        ...

    async def cleanup(self) -> None:
        """Remove all that was made and restore what was changed; may be called again.
        Raises CleanupIncomplete."""
        ...

    def hurry(self, seconds: float) -> None:
        """The run is over: a server that answers nothing at all for so long is gone, for calls
        under way and for all others."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


DriverMaker = Callable[[DriverSettings], Driver]

drivers: Registry[DriverMaker] = Registry("driver")
"""By name, what makes a driver of its settings."""


def believed_by(
    table: Mapping[str, BeliefVerdict], belief: DriverBelief, campaign: Campaign
) -> Belief:
    """One verdict for the server's word. A word that no table knows is `unknown` and shown, not
    guessed. A server that says "updated" and names another version has not updated to ours."""
    verdict = table.get(belief.state, "unknown")
    detail = belief.state
    if verdict == "updated" and belief.version not in (None, campaign.package.version):
        verdict, detail = "unfinished", f"{belief.state}, with version {belief.version}"
    return Belief(verdict, detail, belief.version)


def tally_differences(tally: Tally, beliefs: Mapping[str, Belief]) -> tuple[str, ...]:
    """Where the server's totals contradict what it says of each device."""
    sentences = []
    for word, counted in (("updated", tally.updated), ("failed", tally.failed)):
        listed = sum(belief.verdict == word for belief in beliefs.values())
        if counted != listed:
            sentences.append(f"the server counts {counted} {word} devices and lists {listed}")
    return tuple(sentences)


def check_options(
    driver: str, options: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    """`known` (name to default) with what was given. Raises BadOption for a name not in it."""
    for name in options:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise BadOption(f"{driver}: no option {name!r}; known: {names}")
    return {**known, **options}
