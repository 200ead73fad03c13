"""How an update attempt ended. Each protocol maps these to its own codes and invents none."""

from __future__ import annotations

import enum

__all__ = ["Outcome"]


class Outcome(enum.IntEnum):
    """The end of one attempt; the numbers are stored in `nvm`, so they never change."""

    SUCCESS = 0
    CANCELLED = 1
    DEFERRED = 2
    NO_SPACE = 3
    OUT_OF_MEMORY = 4
    CONNECTION_LOST = 5
    INTEGRITY = 6
    SIGNATURE = 7
    WRONG_DEVICE = 8
    DOWNGRADE = 9
    DEPENDENCY = 10
    UNSUPPORTED_PACKAGE = 11
    BAD_URI = 12
    UNSUPPORTED_PROTOCOL = 13
    INSTALL_FAILED = 14
    REVERTED = 15
