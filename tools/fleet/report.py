"""The report of a run: `report.json` for programs, `report.html` for people.

The page is one file with nothing to fetch: styles, uPlot and the data are inside, so it can be
mailed, archived with a build, or opened years later. Every name and message on it may come from a
stranger (device names, a server's diagnostics), so all text is escaped where it is written: by
`html.escape` in markup, and by `\\u003c` in the embedded JSON, which otherwise could close its
own script element.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

from agent.runtime.metrics import HistogramSnapshot
from tools.fleet.audit import Difference
from tools.fleet.result import RunResult, exit_code, json_object, verdict_text
from tools.fleet.timeline import LATENCIES

FORMAT_VERSION = 1
JSON_NAME = "report.json"
HTML_NAME = "report.html"
MAX_ROWS = 1000
"""Rows of the difference table on the page; report.json has them all."""

_HERE = Path(__file__).parent
_PERCENTILES = (50, 90, 95, 99, 99.9)
_LATENCY_TITLES = {
    "registration": "Registration",
    "request": "Request",
    "block": "Block exchange",
    "update": "Whole update",
    "lag": "Our own scheduler lag",
}


def write_report(result: RunResult, directory: str | Path) -> Path:
    """Write both files into `directory`, made when missing; returns the page's path.

    Each is written beside its place and renamed, so a reader never finds half a report.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    document = report_document(result)
    _replace(folder / JSON_NAME, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    page = folder / HTML_NAME
    _replace(page, render_page(result))
    return page


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def report_document(result: RunResult) -> dict[str, object]:
    """Everything that is known, as JSON types."""
    return {
        "version": FORMAT_VERSION,
        "title": result.title,
        "exit_code": exit_code(result),
        "verdict": verdict_text(result),
        **json_object(result),
        "interrupted": result.interrupted,
        "invalid": result.invalid,
        "thresholds_missed": list(result.thresholds_missed),
        "settings": dict(result.settings),
        "target": {"version": result.target.version, "digest": result.target.digest.hex()},
        "failures": dict(result.failures),
        "without_server": dict(result.troubles),
        "differences": [_difference(difference) for difference in result.audit.differences],
        "wrong_answers": [
            {"protocol": protocol, "misbehaviour": name, "example": example}
            for (protocol, name), judgement in result.misbehaviours.items()
            for example in judgement.examples
        ],
        "counters": dict(result.metrics.counters),
        "latencies": {name: _latency(getattr(result.metrics, name)) for name in LATENCIES},
        "timeline": _timeline(result),
        "truths": [
            {
                "device": truth.name,
                "protocol": truth.protocol,
                "verdict": truth.verdict(result.target),
                "state": truth.state,
                "outcome": truth.outcome,
                "running_version": truth.running_version,
                "running_digest": truth.running_digest.hex(),
                "boots": truth.boots,
                "executes": truth.executes,
                "deliveries": truth.deliveries,
                "files": [
                    {
                        "name": file.name,
                        "version": file.version,
                        "size": file.size,
                        "sha256": file.sha256,
                        "active": file.active,
                    }
                    for file in truth.files
                ],
            }
            for truth in result.truths
        ],
    }


def _difference(difference: Difference) -> dict[str, object]:
    return {
        "kind": difference.kind.value,
        "device": difference.device,
        "truth": difference.truth_text,
        "belief": difference.belief_text,
    }


def _latency(histogram: HistogramSnapshot) -> dict[str, object]:
    return {
        "count": histogram.count,
        "mean": histogram.mean,
        "max": histogram.maximum,
        "percentiles": {f"{p:g}": histogram.percentile(p) for p in _PERCENTILES},
        "buckets": [list(bucket) for bucket in histogram.buckets()],
    }


def _timeline(result: RunResult) -> dict[str, object]:
    timeline = result.timeline
    return {
        "times": list(timeline.times),
        "states": {name: list(column) for name, column in timeline.states.items()},
        "latencies": {
            name: {str(p): list(column) for p, column in by_percentile.items()}
            for name, by_percentile in timeline.latencies.items()
        },
        "rates": {name: list(column) for name, column in timeline.rates.items()},
    }


def render_page(result: RunResult) -> str:
    """The page as text."""
    uplot = _HERE / "vendor" / "uplot"
    licence = (uplot / "LICENSE").read_text(encoding="utf-8").strip()
    verdict = verdict_text(result)
    data = json.dumps(_timeline(result), separators=(",", ":"), allow_nan=False)
    fields = {
        "TITLE": escape(result.title),
        "VERDICT": escape(verdict[:1].upper() + verdict[1:]),
        "TONE": "good" if exit_code(result) == 0 else "bad",
        "EXIT_CODE": str(exit_code(result)),
        "TARGET": escape(result.target.version),
        "DIGEST": escape(result.target.digest.hex()),
        "TILES": _tiles(result),
        "PROTOCOLS": _protocols(result),
        "LATENCIES": _latency_rows(result),
        "TRAFFIC": _pairs({k.replace("_", " "): v for k, v in result.metrics.counters.items()}),
        "FAILURES": _failures(result.failures),
        "AUDIT": _audit(result),
        "MISBEHAVIOUR": _misbehaviour(result),
        "SETTINGS": _pairs(result.settings),
        "UPLOT_CSS": (uplot / "uPlot.min.css").read_text(encoding="utf-8"),
        "UPLOT_JS": (uplot / "uPlot.iife.min.js").read_text(encoding="utf-8"),
        "UPLOT_LICENCE": licence,
        "CSS": (_HERE / "page" / "report.css").read_text(encoding="utf-8"),
        "JS": (_HERE / "page" / "report.js").read_text(encoding="utf-8"),
        "DATA": data.replace("<", "\\u003c"),
    }
    page = (_HERE / "page" / "report.html").read_text(encoding="utf-8")
    # One pass over the template: what a field brings in is never looked at for further marks.
    parts = page.split("%%")
    return "".join(part if index % 2 == 0 else fields[part] for index, part in enumerate(parts))


def _tiles(result: RunResult) -> str:
    counts, audit = result.counts, result.audit
    tiles: list[tuple[str, str, str]] = [
        ("devices", f"{counts.devices:,}", ""),
        ("updated", f"{counts.updated:,}", "good"),
        ("failed", f"{counts.failed:,}", "bad" if counts.failed else ""),
        ("unfinished", f"{counts.unfinished:,}", "warn" if counts.unfinished else ""),
        ("audit agrees", f"{audit.agree:,}", "good"),
        ("audit differs", f"{audit.differ:,}", "bad" if audit.differ else ""),
        ("audit unknown", f"{audit.unknown:,}", ""),
        ("wall time", duration(result.seconds), ""),
    ]
    return "".join(
        f'<div class="tile {tone}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for label, value, tone in tiles
    )


def _row(cells: list[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _protocols(result: RunResult) -> str:
    return "".join(
        _row([name, *(f"{n:,}" for n in counts.as_dict().values())])
        for name, counts in result.by_protocol.items()
    )


def _latency_rows(result: RunResult) -> str:
    rows: list[str] = []
    for name in LATENCIES:
        histogram: HistogramSnapshot = getattr(result.metrics, name)
        values = [histogram.percentile(p) for p in (50, 95, 99)]
        values += [histogram.maximum, histogram.mean]
        shown = [duration(value) if histogram.count else "–" for value in values]
        rows.append(_row([_LATENCY_TITLES[name], f"{histogram.count:,}", *shown]))
    return "".join(rows)


def _pairs(items: Mapping[str, object]) -> str:
    return "".join(
        _row([name, f"{value:,}" if isinstance(value, int) else str(value)])
        for name, value in items.items()
    )


def _failures(failures: Mapping[str, int]) -> str:
    if not failures:
        return '<p class="none">No device failed.</p>'
    most = max(failures.values())
    rows = "".join(
        f"<tr><td>{escape(reason)}</td><td>{n:,}</td>"
        f'<td class="bar"><i style="width:{100 * n / most:.1f}%"></i></td></tr>'
        for reason, n in failures.items()
    )
    return f"<table><tr><th>reason</th><th>devices</th><th></th></tr>{rows}</table>"


def _audit(result: RunResult) -> str:
    differences = result.audit.differences
    if result.findings:
        items = "".join(f"<li>{escape(finding)}</li>" for finding in result.findings)
        return f"<ul>{items}</ul>" + _audit(replace(result, findings=()))
    if not differences:
        audited = result.audit.agree + result.audit.unknown
        return (
            '<p class="none">No device differs from what the backend believes.</p>'
            if audited
            else '<p class="none">Nothing was audited.</p>'
        )
    kinds = ", ".join(f"{n:,} {kind.value}" for kind, n in result.audit.by_kind().items())
    rows = "".join(
        _row([d.device, d.kind.value, d.truth_text, d.belief_text]) for d in differences[:MAX_ROWS]
    )
    more = (
        f'<p class="none">The first {MAX_ROWS:,} of {len(differences):,}; '
        f"{JSON_NAME} has them all.</p>"
        if len(differences) > MAX_ROWS
        else ""
    )
    head = _row(["device", "difference", "what it is", "what the backend believes"], "th")
    return f'<p>{escape(kinds)}</p><table class="wide">{head}{rows}</table>{more}'


def _misbehaviour(result: RunResult) -> str:
    if not result.misbehaviours:
        return ""
    head = _row(["protocol", "misbehaviour", "right", "wrong", "what came instead"], "th")
    rows = "".join(
        _row([protocol, name, f"{one.kept:,}", f"{one.broken:,}", "; ".join(one.examples)])
        for (protocol, name), one in result.misbehaviours.items()
    )
    return (
        "<section><h2>Answers to misbehaviour</h2>"
        '<p class="note">What devices did wrong on purpose, and whether the server answered as a '
        f'right one does.</p><table class="wide">{head}{rows}</table></section>'
    )


def duration(seconds: float) -> str:
    """Three figures and a unit: 85.2 µs, 1.34 s, 2 h 5 min."""
    if seconds >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60} min"
    if seconds >= 99.95:
        whole = round(seconds)
        return f"{whole // 60} min {whole % 60} s"
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
