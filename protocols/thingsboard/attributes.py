"""What a ThingsBoard server offers: shared attributes with the prefix `fw_` or `sw_`, judged.

A package is told by its title, version, size, checksum and the checksum's algorithm; one that lies
elsewhere by `fw_url` in place of the last three. What is missing or of the wrong type is named.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from protocols.thingsboard.checksums import ALGORITHMS

__all__ = ["BadOffer", "Kind", "Offer", "keys", "parse_offer"]

MAX_TEXT = 255
"""Characters of a title or version; the server's own limit."""

MAX_URL = 1024

_NAMES = ("title", "version", "tag", "size", "checksum", "checksum_algorithm", "url")


class Kind(enum.Enum):
    """The two kinds of packages; they differ in their prefix alone."""

    FIRMWARE = "fw"
    SOFTWARE = "sw"

    def owns(self, attribute: str) -> bool:
        """It tells of packages of this kind."""
        return attribute.startswith(f"{self.value}_")


class BadOffer(Exception):
    """Attributes that describe no package; `str` names the one that is wrong."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A package that a device shall have."""

    kind: Kind
    title: str
    version: str
    size: int = 0
    checksum: str = ""
    """Lower-case hex."""
    algorithm: str = ""
    url: str = ""
    """Where it lies when the server does not hold it itself."""

    @property
    def identity(self) -> str:
        """Tells this package from every other one, across reboots."""
        return "\n".join((self.kind.value, self.title, self.version, self.checksum, self.url))


def keys(kind: Kind) -> tuple[str, ...]:
    """The shared attributes that tell of a package."""
    return tuple(f"{kind.value}_{name}" for name in _NAMES)


def parse_offer(kind: Kind, shared: Mapping[str, object]) -> Offer | None:
    """The package that `shared` tells of; None when it tells of none. Raises BadOffer."""
    prefix = f"{kind.value}_"
    if not any(shared.get(prefix + name) for name in ("title", "version", "url")):
        return None
    title = _text(shared, prefix + "title", MAX_TEXT)
    version = _text(shared, prefix + "version", MAX_TEXT)
    if shared.get(prefix + "url"):
        return Offer(kind, title, version, url=_text(shared, prefix + "url", MAX_URL))
    size = shared.get(prefix + "size")
    # The server sends a number; one that its REST API set by hand may be its text.
    if isinstance(size, str) and size.isascii() and size.isdigit() and len(size) < 12:
        size = int(size)
    if isinstance(size, bool) or not isinstance(size, int) or size <= 0:
        raise BadOffer(f"{prefix}size is no positive whole number")
    algorithm = _text(shared, prefix + "checksum_algorithm", MAX_TEXT).upper()
    if algorithm not in ALGORITHMS:
        raise BadOffer(f"{prefix}checksum_algorithm is {algorithm[:32]!r}")
    checksum = _text(shared, prefix + "checksum", MAX_TEXT).lower()
    if set(checksum) - set("0123456789abcdef"):
        raise BadOffer(f"{prefix}checksum is not hexadecimal")
    return Offer(kind, title, version, size, checksum, algorithm)


def _text(shared: Mapping[str, object], name: str, limit: int) -> str:
    value = shared.get(name)
    if not isinstance(value, str) or not value:
        raise BadOffer(f"{name} is missing or no text")
    if len(value) > limit:
        raise BadOffer(f"{name} is longer than {limit} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadOffer(f"{name} is no text that can be encoded")
    return value
