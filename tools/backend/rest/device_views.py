"""What the device lists of v2 and v3 show of a device beside its record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Installed:
    """A firmware or a file on a device, in the words of both versions' SoftwareInfo."""

    name: str
    version: str
    upgradeTime: str


def upgrade_time(device: Device) -> str:
    """When the device was upgraded last."""
    return NEVER if device.upgraded is None else rfc3339(device.upgraded)


def _successes(backend: Backend, device: Device, lock: Lock) -> Iterator[Member]:
    """The campaigns that brought something to the device, newest first."""
    for member in reversed(backend.engine.book.members_of(device.name)):
        if member.campaign.kind.lock is lock and member.status == SUCCESS:
            yield member


def software_on(backend: Backend, device: Device) -> list[Installed]:
    """The firmware that the device says it runs; empty as long as it has said nothing. The name
    is that of the campaign that brought it, or empty: a device reports a version and no name."""
    if not device.firmware:
        return []
    name = next(
        (
            member.campaign.package
            for member in _successes(backend, device, Lock.FIRMWARE)
            if same_version(member.campaign.version_to, device.firmware)
        ),
        "",
    )
    return [Installed(name, device.firmware, upgrade_time(device))]


def files_on(backend: Backend, device: Device) -> list[Installed]:
    """The configuration files that campaigns brought to the device, by name."""
    found: dict[str, Installed] = {}
    for member in _successes(backend, device, Lock.FILE):
        campaign = member.campaign
        if campaign.package not in found:
            found[campaign.package] = Installed(
                campaign.package, campaign.version_to, rfc3339(member.updated)
            )
    return [found[name] for name in sorted(found)]
