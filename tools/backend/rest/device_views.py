"""What the device lists of v2 and v3 show of a device beside its record."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tools.backend.campaigns.kinds import Lock
from tools.backend.campaigns.records import Member
from tools.backend.campaigns.states import SUCCESS
from tools.backend.faces.base import same_version
from tools.backend.inventory import Device
from tools.backend.rest.common import NEVER
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

DISTRIBUTION_OF = {"HTTP": "HTTP", "LWM2M": "LWM2M", "OMADM": "OMD-DM"}
"""What a device speaks -> how v2, and the firmware list of v3, spell it."""


# Devices that were loaded together have the same times, and a page has thousands of them.
time_text = lru_cache(maxsize=4_096)(rfc3339)

Installed = dict[str, str]
"""A firmware or a file on a device: name, version and upgradeTime, as SoftwareInfo of v2 and v3."""


def upgrade_time(device: Device) -> str:
    """When the device was upgraded last."""
    return NEVER if device.upgraded is None else time_text(device.upgraded)


def _successes(backend: Backend, device: Device, lock: Lock) -> list[Member]:
    """The campaigns that brought something to the device, newest first."""
    found = [
        member
        for member in backend.engine.book.members_of(device.name)
        if member.status == SUCCESS and member.campaign.kind.lock is lock
    ]
    found.reverse()
    return found


def software_on(backend: Backend, device: Device) -> list[Installed]:
    """The firmware that the device says it runs; empty as long as it has said nothing. Name and
    time are those of the campaign that brought it, or empty and never: a device reports a version
    alone, and a file is no upgrade of its firmware."""
    if not device.firmware:
        return []
    name, when = "", NEVER
    for member in _successes(backend, device, Lock.FIRMWARE):
        if same_version(member.campaign.version_to, device.firmware):
            name, when = member.campaign.package, time_text(member.updated)
            break
    return [{"name": name, "version": device.firmware, "upgradeTime": when}]


def files_on(backend: Backend, device: Device) -> list[Installed]:
    """The configuration files that campaigns brought to the device, by name."""
    found: dict[str, Installed] = {}
    for member in _successes(backend, device, Lock.FILE):
        name, version = member.campaign.package, member.campaign.version_to
        found.setdefault(
            name, {"name": name, "version": version, "upgradeTime": time_text(member.updated)}
        )
    return [found[name] for name in sorted(found)]
