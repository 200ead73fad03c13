"""What the update engine keeps in `nvm`: two records, the attempt and its progress.

The attempt is written once per state change, the progress once per 64 KiB. A progress record counts
only for the attempt whose number it carries, so beginning anew needs one write and not two.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agent.errors import AgentError
from agent.outcome import Outcome

__all__ = ["Attempt", "RecordCorrupt", "decode_attempt", "decode_progress", "encode_progress"]

_FORMAT = 1
_HEAD = struct.Struct("<BBBBHIIBBH")
_PROGRESS = struct.Struct("<HI")
_NO_OUTCOME = 0xFF
_NO_SIZE = 0xFFFFFFFF

URI_LIMIT = 1024
"""Longest URI that is kept; LwM2M and FUMO allow 255, signed URLs of HTTP backends need more."""


class RecordCorrupt(AgentError):
    """Bytes in `nvm` that are no record of the update engine."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Everything about an attempt that must survive a reboot."""

    state: int = 0
    outcome: Outcome | None = None
    report_pending: bool = False
    number: int = 0
    offset: int = 0
    total_size: int | None = None
    uri: str = ""
    etag: bytes = b""
    package_name: str = ""
    package_version: str = ""
    digest: bytes = b""
    """Of the image that was accepted: how a boot is told apart from a boot of something else."""

    def encode(self) -> bytes:
        uri = self.uri.encode()
        name = self.package_name.encode()[:255]
        version = self.package_version.encode()[:255]
        parts = (uri, self.etag, name, version, self.digest)
        head = _HEAD.pack(
            _FORMAT,
            self.state,
            _NO_OUTCOME if self.outcome is None else self.outcome,
            self.report_pending,
            self.number,
            self.offset,
            _NO_SIZE if self.total_size is None else min(self.total_size, _NO_SIZE - 1),
            len(self.etag),
            len(self.digest),
            len(uri),
        )
        return head + bytes((len(name), len(version))) + b"".join(parts)


def decode_attempt(data: bytes) -> Attempt:
    """The attempt in `data`, or `RecordCorrupt`."""
    if len(data) < _HEAD.size + 2:
        raise RecordCorrupt(f"{len(data)} bytes are too short for an attempt")
    fields = _HEAD.unpack_from(data)
    if fields[0] != _FORMAT:
        raise RecordCorrupt(f"format {fields[0]}, expected {_FORMAT}")
    _, state, outcome, pending, number, offset, total, etag_size, digest_size, uri_size = fields
    sizes = (uri_size, etag_size, data[_HEAD.size], data[_HEAD.size + 1], digest_size)
    position = _HEAD.size + 2
    if position + sum(sizes) != len(data):
        raise RecordCorrupt(f"{len(data)} bytes, {position + sum(sizes)} announced")
    parts = []
    for size in sizes:
        parts.append(data[position : position + size])
        position += size
    uri, etag, name, version, digest = parts
    try:
        return Attempt(
            state=state,
            outcome=None if outcome == _NO_OUTCOME else Outcome(outcome),
            report_pending=bool(pending),
            number=number,
            offset=offset,
            total_size=None if total == _NO_SIZE else total,
            uri=uri.decode(),
            etag=etag,
            package_name=name.decode(errors="ignore"),
            package_version=version.decode(errors="ignore"),
            digest=digest,
        )
    except ValueError as error:
        raise RecordCorrupt(f"attempt: {error}") from error


def encode_progress(number: int, offset: int) -> bytes:
    return _PROGRESS.pack(number, offset)


def decode_progress(data: bytes) -> tuple[int, int]:
    """Attempt number and offset, or `RecordCorrupt`."""
    if len(data) != _PROGRESS.size:
        raise RecordCorrupt(f"{len(data)} bytes are no progress record")
    number, offset = _PROGRESS.unpack(data)
    return number, offset
