from __future__ import annotations

import io

import pytest
from rich.console import Console

from tools.fleet.progress import Progress, View, size


def view(seconds: float, finished: int = 0, **more: object) -> View:
    states = {"waiting": 0, "downloading": 10 - finished, "updated": finished}
    return View(seconds, 10, states, finished, **more)  # type: ignore[arg-type]


def test_a_log_gets_a_line_now_and_then() -> None:
    stream = io.StringIO()
    with Progress("demo", stream) as progress:
        for tenth in range(101):
            progress.show(view(tenth / 10))
        progress.show(view(10.1, 10, note="[b]stopping[/b]"), last=True)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4  # at 0, 5 and 10 s, and the last
    assert lines[0].startswith("demo 0s: 0/10 finished; 10 downloading;")
    assert "waiting" not in lines[0]
    assert lines[-1].endswith("[b]stopping[/b]")


def test_rates_and_failures_are_shown() -> None:
    stream = io.StringIO()
    progress = Progress("run", stream)
    progress.show(view(0.0, counters={"bytes_in": 0, "datagrams_in": 0}))
    progress.show(
        view(
            10.0,
            counters={"bytes_in": 102400, "datagrams_in": 500, "retransmissions": 7},
            failures={f"reason {n}": n for n in range(1, 7)},
        )
    )
    text = stream.getvalue()
    assert "in 10 KiB/s" in text
    assert "50 datagrams/s" in text
    assert "7 retransmissions" in text
    assert "failures: 6 reason 6, 5 reason 5, 4 reason 4, 3 reason 3, ..." in text


def test_a_terminal_gets_a_panel() -> None:
    stream = io.StringIO()
    progress = Progress("demo", stream)
    progress.console = Console(file=stream, force_terminal=True, width=100, highlight=False)
    with progress:
        progress.say("names: fotilla-0 to fotilla-9")
        progress.show(view(0.0))
        progress.show(view(2.0, 4, failures={"integrity": 1}, note="waiting for the server"))
    text = stream.getvalue()
    for expected in ("4 of 10 finished", "updated", "1 integrity", "waiting for the server"):
        assert expected in text
    assert "names: fotilla-0" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "0.977 KiB"), (5 << 20, "5 MiB"), (3 << 30, "3 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
