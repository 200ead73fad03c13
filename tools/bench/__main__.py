"""`make bench`: every figure beside its yardstick.

Prints a table and writes bench-results/latest.json:
{"figures": {NAME: {"value", "unit", "yardstick", "yardstick_value", "ratio", ...}}}.
Exit code 0 when every figure was taken and holds, 99 when one misses its bound, 4 when one could
not be taken, 2 for usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.bench import (
    backend_campaigns,
    backend_checkins,
    download_memory,
    exchange_cpu,
    http_memory,
    http_poll,
    idle_memory,
    mqtt_memory,
    omadm_memory,
    omadm_sessions,
    registration_loss,
    virtual_month,
    wbxml,
)
from tools.bench.errors import BenchError
from tools.bench.figures import Figure, format_table, write_results
from tools.bench.setting import Setting

RESULTS = Path("bench-results") / "latest.json"
EXIT_OK, EXIT_INVALID, EXIT_MISSED = 0, 4, 99

Measure = Callable[[Setting, frozenset[str]], list[Figure]]
GROUPS: tuple[tuple[tuple[str, ...], Measure], ...] = (
    (exchange_cpu.NAMES, exchange_cpu.measure),
    (idle_memory.NAMES, idle_memory.measure),
    (registration_loss.NAMES, registration_loss.measure),
    (download_memory.NAMES, download_memory.measure),
    (http_poll.NAMES, http_poll.measure),
    (http_memory.NAMES, http_memory.measure),
    (mqtt_memory.NAMES, mqtt_memory.measure),
    (wbxml.NAMES, wbxml.measure),
    (omadm_sessions.NAMES, omadm_sessions.measure),
    (omadm_memory.NAMES, omadm_memory.measure),
    (virtual_month.NAMES, virtual_month.measure),
    (backend_campaigns.NAMES, backend_campaigns.measure),
    (backend_campaigns.POSTGRESQL_NAMES, backend_campaigns.measure_postgresql),
    (backend_checkins.NAMES, backend_checkins.measure),
    (backend_checkins.POSTGRESQL_NAMES, backend_checkins.measure_postgresql),
)
ALL = tuple(name for names, _ in GROUPS for name in names)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench", description="Speed and memory beside their yardsticks."
    )
    parser.add_argument("--only", metavar="NAME", action="append", choices=ALL, help=", ".join(ALL))
    parser.add_argument(
        "--quick", action="store_true", help="smaller and shorter; not to be quoted"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if not sys.platform.startswith("linux"):
        print(
            "bench: needs Linux: the yardsticks use epoll, and the devices 127.0.0.0/8",
            file=sys.stderr,
        )
        return EXIT_INVALID

    wanted = frozenset(options.only or ALL)
    figures: list[Figure] = []
    problems: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="fotilla-bench-") as folder:
        setting = Setting(Path(folder), options.quick)
        for names, measure in GROUPS:
            here = wanted.intersection(names)
            if not here:
                continue
            began = time.monotonic()
            print(f"bench: {', '.join(sorted(here))} ...", file=sys.stderr, flush=True)
            try:
                figures += measure(setting, here)
            except BenchError as error:
                problems.update(dict.fromkeys(here, str(error)))
                print(f"bench: {error}", file=sys.stderr)
            print(f"bench: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(format_table(figures))
    write_results(options.output, figures, problems)
    if problems:
        return EXIT_INVALID
    return EXIT_OK if all(figure.holds for figure in figures) else EXIT_MISSED


if __name__ == "__main__":
    sys.exit(main())
