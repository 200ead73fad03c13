"""How a figure becomes a ratio, a verdict and JSON."""

from __future__ import annotations

import json
from pathlib import Path

from tools.bench.figures import Figure, format_table, write_results


def test_a_cost_is_so_many_times_its_yardstick() -> None:
    figure = Figure("coap_exchange_cpu", 12.0, "us", "C loop", 4.0, bound=4.5)
    assert figure.ratio == 3.0
    assert figure.holds
    assert not Figure("coap_exchange_cpu", 20.0, "us", "C loop", 4.0, bound=4.5).holds


def test_cheaper_turns_the_ratio_round() -> None:
    figure = Figure("x", 10.0, "us", "aiocoap", 200.0, bound=12.0, cheaper=True)
    assert figure.ratio == 20.0
    assert figure.holds
    assert not Figure("x", 20.0, "us", "aiocoap", 200.0, bound=12.0, cheaper=True).holds


def test_a_count_that_must_be_zero() -> None:
    assert Figure("registration_loss", 0, "devices", "limit", 0, bound=0.0).holds
    assert not Figure("registration_loss", 1, "devices", "limit", 0, bound=0.0).holds


def test_a_figure_without_a_bound_is_only_reported() -> None:
    figure = Figure("f", 120.0, "updates/core-second")
    assert figure.holds
    assert figure.as_json()["ratio"] is figure.as_json()["bound"] is None
    assert format_table([figure]).splitlines()[1].split()[-3:] == ["-", "-", "-"]


def test_results_for_scripts_and_for_people(tmp_path: Path) -> None:
    figure = Figure("f", 3.0, "bytes", "limit", 6.0, bound=1.0, details={"devices": 7})
    target = tmp_path / "new" / "latest.json"
    write_results(target, [figure], {"g": "no compiler"})
    found = json.loads(target.read_text())
    assert found["problems"] == {"g": "no compiler"}
    assert found["figures"]["f"] == {
        "value": 3.0,
        "unit": "bytes",
        "yardstick": "limit",
        "yardstick_value": 6.0,
        "ratio": 0.5,
        "bound": 1.0,
        "holds": True,
        "devices": 7,
    }
    assert "MISSED" not in format_table([figure])
    assert "MISSED" in format_table([Figure("f", 9.0, "bytes", "limit", 6.0, bound=1.0)])
