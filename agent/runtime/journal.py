"""What happened, in order: one record per state change.

Every device keeps its last :data:`RING` records in a packed ring (an idle device pays for what it
recorded, at most 256 bytes); a writer, when there is one, gets every record as a line of JSON::

    {"v":1,"seq":17,"t":3.25,"device":"meter-4","machine":"update","old":"IDLE",
     "new":"DOWNLOADING","cause":"begin"}

``v`` is the format version, ``seq`` counts the lines of a run from 1, ``t`` is the run's clock in
seconds. Wall time never appears: in virtual time the same seed gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring as _quoted

__all__ = ["FORMAT_VERSION", "RING", "Journal", "Record", "Ring"]

FORMAT_VERSION = 1
RING = 16  # 64 records would not fit an idle device's budget of 6 KiB
# Stands in a ring for the texts that came after 65,535 others (the line writer has them all).
OTHER = "(other)"

KNOWN_STEPS = 1_024
"""Steps that are kept ready to be written: devices take the same few again and again."""
LONGEST_KNOWN = 100
"""Characters of a cause in them: with free text in it, it does not come again."""

_RECORD = struct.Struct("<dHHHH")  # time, machine, old, new, cause; texts by number
_TIME, _TEXTS = struct.Struct("<d"), struct.Struct("<HHHH")


@dataclass(frozen=True, slots=True)
class Record:
    """One state change of one machine of one device; ``time`` in seconds of the run's clock."""

    time: float
    machine: str
    old: str
    new: str
    cause: str


class Ring:
    """The last records of one device, packed."""

    __slots__ = ("_data", "_next")

    def __init__(self) -> None:
        self._data = bytearray()
        self._next = 0

    def push(self, packed: bytes, limit: int) -> None:
        size = _RECORD.size
        if len(self._data) < limit * size:
            self._data += packed
            return
        at = self._next * size
        self._data[at : at + size] = packed
        self._next = (self._next + 1) % limit

    def entries(self) -> list[tuple[float, int, int, int, int]]:
        cut = self._next * _RECORD.size
        ordered = bytes(self._data[cut:] + self._data[:cut])
        return list(_RECORD.iter_unpack(ordered))


class Journal:
    """The journal of one worker. ``write`` receives finished lines without the line end."""

    __slots__ = ("_numbers", "_now", "_sequence", "_steps", "_texts", "ring_size", "write")

    def __init__(
        self,
        now: Callable[[], float],
        write: Callable[[str], object] | None = None,
        ring_size: int = RING,
    ) -> None:
        self._now = now
        if ring_size < 1:
            raise ValueError(f"a journal ring holds at least 1 record, not {ring_size}")
        self._texts: list[str] = [OTHER]
        self._numbers: dict[str, int] = {OTHER: 0}
        self._sequence = 0
        self._steps: dict[tuple[str, str, str, str], tuple[bytes, str]] = {}
        self.write = write
        self.ring_size = ring_size

    def record(self, ring: Ring, device: str, machine: str, old: str, new: str, cause: str) -> None:
        """Note that ``machine`` of ``device`` went from ``old`` to ``new`` because of ``cause``."""
        now = self._now()
        step = (machine, old, new, cause)
        known = self._steps.get(step)
        if known is None:
            known = self._step(step)
        ring.push(_TIME.pack(now) + known[0], self.ring_size)
        if self.write is not None:
            self._sequence += 1
            # Written by hand: the same bytes as of `json.dumps`, in a quarter of its time.
            self.write(
                f'{{"v":{FORMAT_VERSION},"seq":{self._sequence},"t":{round(now, 6)!r},'
                f'"device":{_quoted(device)},{known[1]}}}'
            )

    def history(self, ring: Ring) -> list[Record]:
        """The records that ``ring`` still holds, oldest first."""
        texts = self._texts
        return [
            Record(time, texts[machine], texts[old], texts[new], texts[cause])
            for time, machine, old, new, cause in ring.entries()
        ]

    def _step(self, step: tuple[str, str, str, str]) -> tuple[bytes, str]:
        """What a record of this step holds behind time and device, packed and as JSON."""
        machine, old, new, cause = step
        made = (
            _TEXTS.pack(*map(self._number, step)),
            f'"machine":{_quoted(machine)},"old":{_quoted(old)},"new":{_quoted(new)},'
            f'"cause":{_quoted(cause)}',
        )
        if len(self._steps) < KNOWN_STEPS and len(cause) <= LONGEST_KNOWN:
            self._steps[step] = made
        return made

    def _number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            if len(self._texts) > 0xFFFF:  # causes are a closed set; free text would end here
                return 0
            number = len(self._texts)
            self._texts.append(text)
            self._numbers[text] = number
        return number
