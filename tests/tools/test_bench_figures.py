"""How a figure becomes a ratio, a verdict and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.bench.backend_campaigns import NAMES, POSTGRESQL_NAMES, figures_of
from tools.bench.backend_checkins import rate
from tools.bench.checkin_load import content_length
from tools.bench.errors import BenchError
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


LARGE = {"create": 4.0, "wait": 0.2, "page": 0.01, "first": 4.4, "small": 0.1}
SMALL = {**LARGE, "first": 0.4}


def test_a_large_campaign_is_held_to_its_bounds_and_to_growth() -> None:
    figures = {figure.name: figure for figure in figures_of(LARGE, SMALL, 100_000)}
    assert tuple(figures) == NAMES
    assert {name for name, figure in figures.items() if not figure.holds} == {"backend_create_wait"}
    assert figures["backend_growth"].value == pytest.approx(1.1)
    slower = figures_of(LARGE, {**SMALL, "first": 0.36}, 100_000, "_postgresql")
    assert tuple(figure.name for figure in slower) == POSTGRESQL_NAMES
    assert not slower[-1].holds


def test_fewer_devices_have_their_share_of_a_bound() -> None:
    bounds = {figure.name: figure.yardstick_value for figure in figures_of(LARGE, SMALL, 10_000)}
    assert bounds["backend_create"] == bounds["backend_first_pass"] == 0.5
    assert bounds["backend_small_pass"] == 0.2


def test_check_ins_by_cpu_and_by_the_clock() -> None:
    begun = {"at": 10.0, "answered": 100, "cpu": {"user": 1.0, "sys": 0.5}}
    ended = {"at": 14.0, "answered": 6_100, "cpu": {"user": 2.0, "sys": 1.0}}
    assert rate(begun, ended) == {"cpu": 4_000.0, "wall": 1_500.0}
    with pytest.raises(BenchError, match="0 check-ins"):
        rate(begun, {**ended, "answered": 100})


def test_the_length_of_an_answer() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 74\r\ndate: now") == 74
    assert content_length(b"HTTP/1.1 204 No Content") == 0
