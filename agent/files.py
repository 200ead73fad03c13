"""The files and software components that a device has beside its image, as they are kept in `nvm`.

A virtual device has no file system and nobody reads the content, so it is fetched, measured and
dropped; what stays is this record. Size and digest are of the bytes that arrived, whatever a server
said of them: it is the device's truth, which an audit reads.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from agent.nvm import Nvm

__all__ = ["INSTALLED", "InstalledFile", "files_of", "key_of"]

INSTALLED = "files"
"""Namespace of `nvm`."""


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """One of them."""

    name: str
    version: str
    path: str
    """Where it belongs, as its server said."""
    size: int
    """Bytes that arrived."""
    sha256: str
    """Of these, in hex."""
    active: bool = True
    """A component may be installed and not in use."""

    def encode(self) -> bytes:
        values: list[object] = [self.name, self.version, self.path, self.size, self.sha256]
        if not self.active:
            values.append(False)
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> InstalledFile:
        """Raises ValueError for what is no record of ours."""
        values = json.loads(data)
        if not isinstance(values, list) or len(values) not in (5, 6):
            raise ValueError("a file has five values or six")
        name, version, path, size, sha256 = values[:5]
        texts = (name, version, path, sha256)
        if not isinstance(size, int) or not all(isinstance(one, str) for one in texts):
            raise ValueError("a file's values are texts and a size")
        return cls(name, version, path, size, sha256, len(values) == 5)


def key_of(name: str) -> str:
    """Of a record: a key of `nvm` is shorter than a name may be."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def files_of(nvm: Nvm) -> tuple[InstalledFile, ...]:
    """What a device has, by name."""
    found = []
    for _, value in nvm.items(INSTALLED):
        try:
            found.append(InstalledFile.decode(value))
        except ValueError:
            continue  # foreign: nothing that we stored
    return tuple(sorted(found, key=lambda one: one.name))
