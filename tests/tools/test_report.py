from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.misbehaviour import Judgement
from agent.runtime.metrics import Metrics
from tools.fleet.audit import Belief, DeviceTruth, Target, audit
from tools.fleet.report import MAX_ROWS, duration, render_page, write_report
from tools.fleet.result import RunResult, count_devices, count_failures, json_object
from tools.fleet.timeline import Timeline

EVIL = "</script><script>alert('x')</script>&%%DATA%%"
TARGET = Target("2.0.0", b"\x01new", b"old")


def result(*names: str, believed: str = "updated") -> RunResult:
    metrics = Metrics()
    timeline = Timeline(("idle", EVIL))
    timeline.sample(0.0, {"idle": len(names)}, metrics)
    metrics.registration.record(0.25)
    metrics.counters["bytes_in"] += 1234567
    timeline.sample(1.0, {EVIL: len(names)}, metrics)
    truths = tuple(
        DeviceTruth(name, "dummy", "idle", "integrity", "1.0.0", b"old") for name in names
    )
    beliefs = {name: Belief(believed, f"said {EVIL}") for name in names}  # type: ignore[arg-type]
    return RunResult(
        "run",
        TARGET,
        count_devices(truths, TARGET),
        61.5,
        audit(truths, beliefs, TARGET),
        truths,
        metrics.snapshot(),
        timeline.snapshot(),
        count_failures(truths, TARGET),
        {"server": EVIL},
        report="out",
        error=f"lost {EVIL}",
        misbehaviours={("http", "late-report"): Judgement(1, 1, (f"{EVIL}: 204",))},
    )


def test_both_files_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "report"
    one = result("a", "b")
    page = write_report(one, folder)
    assert page == folder / "report.html"
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert json_object(one).items() <= document.items()
    assert document["version"] == 1
    assert document["exit_code"] == 4
    assert document["failures"] == {"integrity": 2}
    assert [d["device"] for d in document["differences"]] == ["a", "b"]
    assert document["latencies"]["registration"]["count"] == 1
    assert document["latencies"]["registration"]["percentiles"]["99.9"] == pytest.approx(0.25, 0.01)
    assert document["timeline"]["states"]["idle"] == [2, 0]
    assert [truth["verdict"] for truth in document["truths"]] == ["failed", "failed"]


def test_nothing_a_stranger_wrote_becomes_markup() -> None:
    page = render_page(result(EVIL, "plain"))
    assert "<script>alert" not in page
    assert page.count("</script>") == 3  # the data, uPlot, and our own
    assert page.count(EVIL.replace("<", "&lt;")) == 0  # quotes are escaped as well
    assert "&lt;/script&gt;&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;%%DATA%%" in page
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    assert EVIL in json.loads(found[1])["states"]


def test_the_page_fetches_nothing() -> None:
    page = render_page(result("a"))
    assert not re.search(r"""(src|href)\s*=|@import|url\(""", page.split('id="data"')[0])
    assert "default-src 'none'" in page
    assert "%%" not in page.replace("%%DATA%%", "")
    assert "Leon Sorokin" in page  # the licence of what is inside travels with it


def test_a_good_run_says_so() -> None:
    truths = (DeviceTruth("a", "dummy", "idle", "success", "2.0.0", b"\x01new"),)
    good = RunResult(
        "run",
        TARGET,
        count_devices(truths, TARGET),
        1.0,
        audit(truths, {"a": Belief("updated")}, TARGET),
        truths,
    )
    page = render_page(good)
    assert '<h1 class="good">All updated and the audit agrees</h1>' in page
    assert "No device failed." in page
    assert "misbehaviour" not in page
    assert "No device differs" in page
    assert "Nothing was audited." in render_page(replace(good, audit=audit([], {}, TARGET)))


def test_a_long_list_is_cut_on_the_page_only() -> None:
    page = render_page(result(*[f"d{n}" for n in range(MAX_ROWS + 1)]))
    assert f"d{MAX_ROWS - 1}<" in page
    assert f"d{MAX_ROWS}<" not in page
    assert "The first 1,000 of 1,001" in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 µs"),
        (85.2e-6, "85.2 µs"),
        (0.00134, "1.34 ms"),
        (1.5, "1.5 s"),
        (99.9, "99.9 s"),
        (61 * 2, "2 min 2 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
