"""A thousand devices, thirty days, three runs."""

from __future__ import annotations

from pathlib import Path

from tests.tools.backend.campaigns.test_campaign_month import month
from tools.bench.images import make_images


def test_a_month_of_a_thousand_devices(tmp_path: Path) -> None:
    make_images(tmp_path, 32 << 10)
    runs = [month(tmp_path, seed, devices=1_000, days=30) for seed in "123"]
    assert [run["statuses"] for run in runs] == [{"UpgradeSuccess": 1_000}] * 3
    assert [run["versions"] for run in runs] == [{"1.1.0": 1_000}] * 3
    assert len({run["journal"] for run in runs}) == 1
