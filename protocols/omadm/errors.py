"""Errors of the SyncML representations, and what they bound."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CodecLimits", "SyncmlError", "SyncmlMisuse"]


class SyncmlError(Exception):
    """The remote sent what is no SyncML message, or one past our limits; the text names what."""


class SyncmlMisuse(ValueError):
    """A message of ours that cannot be written; the text names what."""


@dataclass(frozen=True, slots=True)
class CodecLimits:
    """What a decoder takes before it gives up, so that no message costs more than a real one."""

    size: int = 1 << 20
    """Octets of a message. Servers announce MaxMsgSize of 5 to 64 KiB; a package in one piece of
    a megabyte is more than any device takes."""
    depth: int = 40
    """Elements inside each other. SyncML, SyncBody, Sequence, Atomic, Replace, Item, Data and
    LocURI are 8; the rest is for the nodes of a serialised tree."""
    items: int = 4096
    """Commands, items and nodes of a message together. A complete DevInfo is 5 to 10, a whole tree
    of a phone some hundred."""
