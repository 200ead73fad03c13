"""What a person may set of a DDI client: `NAME=VALUE` texts made into one typed record."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from agent.errors import UnknownName, UnusableSettings
from firmware_images import UnusableInput
from firmware_images.swu import Hardware
from protocols.http.hawkbit.persona import FOTILLA, Persona, personas
from protocols.http.hawkbit.resources import MAX_SLEEP
from protocols.http.hawkbit.tables import CancelAnswer

__all__ = ["Confirm", "DataMode", "HawkbitOptions", "PackageFormat", "Soft", "parse_options"]


class Confirm(enum.Enum):
    """What the device's user says when an action waits for confirmation."""

    YES = "yes"
    DENY = "deny"
    AUTO = "auto"
    """Yes, now and for all later actions: auto-confirm is activated."""


class Soft(enum.Enum):
    """What the device does about a soft action (`attempt`)."""

    INSTALL = "install"
    WAIT = "wait"
    """Nothing until it is forced."""


class PackageFormat(enum.Enum):
    """What this device can install."""

    MCUBOOT = "mcuboot"
    SWU = "swu"


class DataMode(enum.Enum):
    """How a server merges the attributes of configData."""

    MERGE = "merge"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class HawkbitOptions:
    """Each field is an option of the same name."""

    tenant: str = "DEFAULT"
    poll: float | None = None
    """Seconds between polls, in place of what the server says."""
    persona: Persona = FOTILLA
    etag: bool = False
    """Polls with If-None-Match, whatever the persona does."""
    timestamp: bool = False
    """Feedback says when something happened. hawkBit then trusts the device's clock: one that runs
    behind the last installation installs nothing, as the server sees it."""
    confirm: Confirm = Confirm.YES
    soft: Soft = Soft.INSTALL
    cancel: CancelAnswer = CancelAnswer.ACCEPT
    """The answer to a cancel that could be accepted."""
    format: PackageFormat = PackageFormat.MCUBOOT
    hw_boardname: str = "fotilla"
    hw_revision: str = "1.0"
    """What configData says of the hardware; gooseBit picks packages by it."""
    mode: DataMode | None = None
    """Of configData; absent, which servers take for merge, when not given."""
    installed: tuple[str, str] | None = None
    """NAME:VERSION of a distribution set that the device says it has, once, at its first poll."""
    read_installed: bool = False
    """Reads installedBase whenever the server links to another one."""


def parse_options(options: Mapping[str, str]) -> HawkbitOptions:
    """Raises UnusableSettings, naming the option. Names are checked by `HttpPoller`."""
    return _parsed(tuple(sorted(options.items())))


@lru_cache(maxsize=64)  # one entry per group of devices, not per device
def _parsed(options: tuple[tuple[str, str], ...]) -> HawkbitOptions:
    values: dict[str, Any] = {name: _PARSERS[name](name, text) for name, text in options}
    parsed = HawkbitOptions(**values)
    if parsed.format is PackageFormat.SWU:
        try:
            Hardware(parsed.hw_boardname, parsed.hw_revision)
        except UnusableInput as error:
            raise UnusableSettings(f"hawkbit: hw_boardname, hw_revision: {error}") from None
    return parsed


def _tenant(name: str, text: str) -> str:
    if not text or quote(text, safe="") != text:
        raise UnusableSettings(f"hawkbit: {name}={text!r} cannot stand in a URL")
    return text


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MAX_SLEEP:
        raise UnusableSettings(f"hawkbit: {name}={text!r} is not a number of seconds up to a day")
    return seconds


def _persona(name: str, text: str) -> Persona:
    try:
        return personas.get(text)
    except UnknownName as error:
        raise UnusableSettings(f"hawkbit: {error}") from None


def _switch(name: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise UnusableSettings(f"hawkbit: {name}={text!r} is neither on nor off")
    return text == "on"


def _label(name: str, text: str) -> str:
    if not text or len(text) > 128 or not text.isprintable():
        raise UnusableSettings(f"hawkbit: {name}={text!r} is not a text of 1 to 128 characters")
    return text


def _name_version(name: str, text: str) -> tuple[str, str]:
    before, colon, after = text.rpartition(":")
    if not colon or not before or not after:
        raise UnusableSettings(f"hawkbit: {name}={text!r} is not NAME:VERSION")
    return before, after


class _Word:
    """Parser of an option that is one of an enum's values."""

    def __init__(self, kind: type[enum.Enum]) -> None:
        self.kind = kind

    def __call__(self, name: str, text: str) -> enum.Enum:
        try:
            return self.kind(text)
        except ValueError:
            known = ", ".join(str(member.value) for member in self.kind)
            raise UnusableSettings(f"hawkbit: {name}={text!r} is none of {known}") from None


_PARSERS: dict[str, Callable[[str, str], object]] = {
    "tenant": _tenant,
    "poll": _seconds,
    "persona": _persona,
    "etag": _switch,
    "timestamp": _switch,
    "confirm": _Word(Confirm),
    "soft": _Word(Soft),
    "cancel": _Word(CancelAnswer),
    "format": _Word(PackageFormat),
    "hw_boardname": _label,
    "hw_revision": _label,
    "mode": _Word(DataMode),
    "installed": _name_version,
    "read_installed": _switch,
}

assert set(_PARSERS) == {one.name for one in fields(HawkbitOptions)}
