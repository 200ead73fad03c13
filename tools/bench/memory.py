"""Memory of this process, and of the kernel on its behalf, as Linux accounts for it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

__all__ = ["forget_peak", "kernel_bytes", "resident_bytes", "resident_peak"]

_STATUS = Path("/proc/self/status")
_KERNEL = ("Slab", "KernelStack", "PageTables")


def resident_bytes() -> int:
    """Resident memory after a full collection: what is held, not what waits to be collected."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def forget_peak() -> None:
    """Let :func:`resident_peak` begin anew (proc(5), clear_refs: 5 resets the high-water mark)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_peak() -> int:
    """The high-water mark of resident memory since the start or :func:`forget_peak`."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{_STATUS} has no VmHWM")


def kernel_bytes() -> int:
    """Slab, stacks and page tables of the whole system: only differences mean anything, and other
    processes are in them."""
    total = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in _KERNEL:
            total += int(rest.split()[0]) * 1024
    return total
