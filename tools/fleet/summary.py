"""What a person reads when a run is over."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tools.fleet.report import duration
from tools.fleet.result import RunResult, exit_code, verdict_text
from tools.fleet.timeline import LATENCIES, PERCENTILES

MAX_DIFFERENCES = 20
"""Shown on the terminal; the report has them all."""

MAX_LEFT = 5
"""Things that a driven run could not remove; `--json` has them all."""

MAX_TROUBLES = 3
"""Most frequent reasons why devices were without their server; the report has them all."""

_TITLES = {
    "registration": "registration",
    "request": "request",
    "block": "block exchange",
    "update": "whole update",
    "lag": "our own scheduler lag",
}


def print_summary(result: RunResult, console: Console, page: str | None) -> None:
    """Counts, latencies, audit and verdict; names come from outside, so nothing is markup."""
    counts, audited = result.counts, result.audit
    console.print()
    line = f"{counts.devices:,} devices in {duration(result.seconds)}: {counts.updated:,} updated"
    line += f", {counts.failed:,} failed, {counts.unfinished:,} unfinished"
    console.print(line, markup=False)
    console.print(_latencies(result))
    for reason, n in result.failures.items():
        console.print(f"failed: {n:,} {reason}", markup=False)
    for reason, n in sorted(result.troubles.items(), key=lambda item: -item[1])[:MAX_TROUBLES]:
        console.print(f"without their server: {n:,} {reason}", markup=False)
    console.print(
        f"audit: {audited.agree:,} agree, {audited.differ:,} differ, {audited.unknown:,} unknown",
        markup=False,
        style="red" if audited.differ else None,
    )
    for difference in audited.differences[:MAX_DIFFERENCES]:
        console.print(f"  {difference.sentence()}", markup=False)
    more = len(audited.differences) - MAX_DIFFERENCES
    if more > 0:
        console.print(f"  and {more:,} more, in the report", markup=False)
    for finding in result.findings:
        console.print(finding, markup=False, style="red")
    for thing in result.left[:MAX_LEFT]:
        console.print(f"left on the server: {thing}", markup=False, style="red")
    if (more := len(result.left) - MAX_LEFT) > 0:
        console.print(f"left on the server: {more:,} more, in --json", markup=False, style="red")
    for (protocol, name), judgement in result.misbehaviours.items():
        met = f"answered rightly {judgement.kept:,} times, wrongly {judgement.broken:,}"
        if not judgement.kept + judgement.broken:
            met = "met no answer that could be judged"
        console.print(
            f"{protocol} {name}: {met}",
            markup=False,
            style="red" if judgement.broken else None,
        )
        for example in judgement.examples:
            console.print(f"  {example}", markup=False)
    if page is not None:
        console.print(f"report: {page}", markup=False)
    code = exit_code(result)
    console.print(
        f"{verdict_text(result)} (exit code {code})",
        markup=False,
        style="green" if code == 0 else "red",
    )


def _latencies(result: RunResult) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("count", justify="right")
    for p in PERCENTILES:
        table.add_column(f"p{p}", justify="right")
    for name in LATENCIES:
        histogram = getattr(result.metrics, name)
        count = histogram.count
        if not count:
            continue  # not every protocol has everything
        shown = [duration(histogram.percentile(p)) for p in PERCENTILES]
        table.add_row(_TITLES[name], f"{count:,}", *shown)
    return table
