"""What a person sees while a run goes on, on standard error: standard output stays for results.

On a terminal, one panel redrawn in place: a bar, devices by state, rates and failures. Anywhere
else (a log, a CI job, a pipe) a plain line every few seconds, so the log stays readable.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tools.fleet.report import duration

LINE_INTERVAL = 5.0  # seconds between plain lines
MAX_FAILURES = 4  # reasons shown; the report has all

STATE_STYLES = {
    "waiting": "bright_black",
    "idle": "white",
    "downloading": "bright_blue",
    "downloaded": "blue",
    "installing": "magenta",
    "trial": "yellow",
    "updated": "green",
    "failed": "red",
}


@dataclass(frozen=True, slots=True)
class View:
    """One moment of a run."""

    seconds: float
    """Since the run began."""
    total: int
    states: Mapping[str, int]
    """Devices in each state, in the order in which a device passes through them."""
    finished: int
    """Devices with a final outcome, good or bad."""
    counters: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    """What the run is waiting for, if that is worth a word."""


class Progress:
    """Shows views until it is left; use it as a context manager and call `show` freely."""

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self.title = title
        self.console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._last_line: float | None = None
        self._earlier: View | None = None
        self._rates: dict[str, float] = {}

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A line of its own, above the panel when there is one."""
        self.console.print(text, markup=False)

    def show(self, view: View, *, last: bool = False) -> None:
        """Take note of a view; what is drawn, and when, depends on the stream."""
        self._measure(view)
        if self._live is not None:
            self._live.update(self._panel(view), refresh=True)
        elif last or self._last_line is None or view.seconds - self._last_line >= LINE_INTERVAL:
            self._last_line = view.seconds
            self.console.print(self.line(view), markup=False)

    def _measure(self, view: View) -> None:
        """Rates over a second at least: shorter spans make the numbers flicker."""
        if self._earlier is None:
            self._earlier = view
            return
        elapsed = view.seconds - self._earlier.seconds
        if elapsed >= 1.0:
            earlier = self._earlier.counters
            self._rates = {
                name: (n - earlier.get(name, 0)) / elapsed for name, n in view.counters.items()
            }
            self._earlier = view

    def line(self, view: View) -> str:
        """The plain form."""
        states = ", ".join(f"{n} {name}" for name, n in view.states.items() if n)
        parts = [f"{self.title} {view.seconds:.0f}s: {view.finished}/{view.total} finished"]
        if states:
            parts.append(states)
        parts += self._traffic(view)
        if view.failures:
            parts.append("failures: " + _failures(view.failures))
        if view.note:
            parts.append(view.note)
        return "; ".join(parts)

    def _traffic(self, view: View) -> list[str]:
        rates = self._rates
        parts = [
            f"in {size(rates.get('bytes_in', 0))}/s",
            f"out {size(rates.get('bytes_out', 0))}/s",
        ]
        for name, shown in (("datagrams_in", "datagrams/s"), ("requests", "requests/s")):
            if view.counters.get(name, 0):
                parts.append(f"{rates.get(name, 0):,.0f} {shown}")
        retransmissions = view.counters.get("retransmissions", 0)
        if retransmissions:
            parts.append(f"{retransmissions:,} retransmissions")
        return parts

    def _panel(self, view: View) -> Group:
        head = Table.grid(padding=(0, 2), expand=False)
        head.add_row(
            Text(self.title, style="bold"),
            ProgressBar(total=max(1, view.total), completed=view.finished, width=36),
            Text(f"{view.finished:,} of {view.total:,} finished"),
            Text(duration(view.seconds), style="bright_black"),
        )
        states = Text()
        for name, n in view.states.items():
            states.append(f"{name} ", style="bright_black")
            states.append(
                f"{n:,}   ", style=STATE_STYLES.get(name, "cyan") if n else "bright_black"
            )
        rows: list[Table | Text] = [head, states]
        rows.append(Text("   ".join(self._traffic(view)), style="bright_black"))
        if view.failures:
            rows.append(Text(f"failures: {_failures(view.failures)}", style="red"))
        if view.note:
            rows.append(Text(view.note, style="yellow"))
        return Group(*rows)


def _failures(failures: Mapping[str, int]) -> str:
    most = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{n} {reason}" for reason, n in most[:MAX_FAILURES])
    return shown + (", ..." if len(most) > MAX_FAILURES else "")


def size(count: float) -> str:
    """Bytes in three figures: 940 B, 12.3 KiB, 4.56 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
