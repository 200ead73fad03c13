"""File descriptors: every device has a socket of its own, and the usual soft limit is 256 or 1024.

The soft limit may be raised up to the hard one by anybody. macOS reports no hard limit and then
refuses what exceeds its own maximum, so the request is simply tried.
"""

from __future__ import annotations

import resource

# Besides the devices' sockets: the interpreter's own, the event loop, a database with its journal,
# a web server and its clients, report files.
RESERVE = 256


class TooFewDescriptors(RuntimeError):
    """The system lets this process open fewer files than the run needs."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(
            f"{needed} file descriptors are needed and {available} are available; "
            f"raise the limit (ulimit -Hn, limits.conf, launchctl limit maxfiles) "
            f"or ask for fewer devices"
        )
        self.needed = needed
        self.available = available


def ensure_descriptors(sockets: int) -> int:
    """Raise the soft limit so that `sockets` fit, or refuse; returns the limit in force."""
    needed = sockets + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed if soft == resource.RLIM_INFINITY else soft
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise TooFewDescriptors(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):
        raise TooFewDescriptors(needed, soft) from None
    return needed
