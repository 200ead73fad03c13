"""What must survive a reboot, in `nvm`: where a campaign stands, and which files are installed.

A power cut anywhere must neither lose a final report nor send two different ones under the same
number: a report is recorded, with its number, before it is sent. A number is never used twice on
one device, whatever the campaign, so that a campaign that comes back goes on counting.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from agent.files import INSTALLED, InstalledFile, files_of, key_of
from agent.nvm import Nvm, NvmFull
from protocols.http.checkin.tables import Stage, Word
from protocols.http.checkin.wire import Installed, Kind, Order, StatusReport

__all__ = ["FILES_ROOM", "CampaignRecord", "FileStore", "decode", "encode", "load", "save"]

_NAMESPACE = "check-in"
_NAME = "campaign"

FILES_ROOM = 1024
"""Bytes of `nvm` that the list of files may take. The engine's own record takes up to 1.8 KiB of
the 4 KiB that there are, and nothing may keep it from being written."""


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """One campaign, or the memory of the last one."""

    stage: Stage = Stage.NONE
    id: str = ""
    """In NONE: of the campaign that succeeded last; its order is not obeyed again."""
    kind: Kind = Kind.FIRMWARE
    seq: int = 0
    """Of the last report."""
    pending: StatusReport | None = None
    """Not known to be acknowledged."""
    defiant: bool = False
    """The server said stop, and this device misbehaves: it goes on."""


NO_CAMPAIGN = CampaignRecord()
"""Shared by the many devices that were never in one."""


def encode(record: CampaignRecord) -> bytes:
    pending = record.pending
    told = None
    if pending is not None:
        told = [pending.word, pending.reason, pending.time, pending.version]
    value = [record.stage.value, record.id, record.kind, record.seq, told, record.defiant]
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes) -> CampaignRecord:
    """Raises ValueError for what `encode` did not make."""
    try:
        stage, campaign_id, kind, seq, told, defiant = json.loads(data)
        pending = None
        if told is not None:
            word, reason, time, version = told
            if not all(isinstance(text, str) for text in (reason, time, version)):
                raise ValueError("a report of other types")
            pending = StatusReport(seq, Word(word), reason, time, version)
        if not isinstance(campaign_id, str) or type(seq) is not int or type(defiant) is not bool:
            raise ValueError("a record of other types")
        return CampaignRecord(Stage(stage), campaign_id, Kind(kind), seq, pending, defiant)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"no record of a campaign: {error}") from None


def load(nvm: Nvm) -> CampaignRecord:
    """The record as it was saved last; a damaged one (never a torn one) counts as none."""
    stored = nvm.get(_NAMESPACE, _NAME)
    if stored is None:
        return NO_CAMPAIGN
    try:
        return decode(stored)
    except ValueError:
        return NO_CAMPAIGN


def save(nvm: Nvm, record: CampaignRecord) -> None:
    nvm.set(_NAMESPACE, _NAME, encode(record))


class FileStore:
    """The configuration files of a device: name, version, path, size and digest of each.

    What was fetched is checked and counted; its content has no reader on a virtual device and is
    not kept."""

    __slots__ = ("_nvm",)

    def __init__(self, nvm: Nvm) -> None:
        self._nvm = nvm

    def installed(self) -> list[Installed]:
        """By name."""
        return [Installed(one.name, one.version) for one in files_of(self._nvm)]

    def holds(self, order: Order) -> bool:
        """Exactly this file was stored already."""
        return self._nvm.get(INSTALLED, key_of(order.name)) == self._entry(order)

    def store(self, order: Order) -> None:
        """Note the file of `order` as installed, in place of an older one of its name. Raises
        NvmFull when the list has no room for it."""
        key, entry = key_of(order.name), self._entry(order)
        others = self._nvm.items(INSTALLED)
        used = sum(len(name) + len(value) for name, value in others if name != key)
        if used + len(key) + len(entry) > FILES_ROOM:
            raise NvmFull(f"{used} bytes of {FILES_ROOM} are taken by other files")
        self._nvm.set(INSTALLED, key, entry)

    @staticmethod
    def _entry(order: Order) -> bytes:
        return InstalledFile(order.name, order.to, order.path, order.size, order.sha256).encode()
