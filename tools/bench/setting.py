"""What every figure is given: a folder, the compiled yardsticks, and how thorough to be."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench.control import Measured
from tools.bench.yardsticks import Yardsticks

__all__ = ["Setting"]

KIB = 1024


@dataclass(slots=True)
class Setting:
    """One run of the bench."""

    folder: Path
    quick: bool
    """Fewer devices, exchanges and repetitions: to see that it works, not to be quoted."""
    base: int = field(default_factory=lambda: 16 + os.getpid() % 200)
    """Second byte of the devices' addresses (`base + 1` is aiocoap's): two benches at once, by two
    people on one machine, do not meet."""
    _yardsticks: Yardsticks | None = field(default=None, repr=False)

    @property
    def yardsticks(self) -> Yardsticks:
        """Compiled when first asked for: memory figures need no compiler."""
        if self._yardsticks is None:
            self._yardsticks = Yardsticks(self.folder)
        return self._yardsticks

    def server(self, *, observe: bool = False, image: Path | None = None) -> Measured:
        options = {"observe": observe, "image": str(image) if image else ""}
        return Measured("tools.bench.server", json.dumps(options))

    def device_host(
        self, uri: str, devices: int, *, lifetime: int, slot_size: int = 1 << 20
    ) -> Measured:
        options = {
            "server": uri,
            "devices": devices,
            "base": self.base,
            "lifetime": lifetime,
            "folder": str(self.folder),
            "slot_size": slot_size,
        }
        return Measured("tools.bench.device_host", json.dumps(options))
