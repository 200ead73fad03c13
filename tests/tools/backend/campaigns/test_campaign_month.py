"""Half a month of a network-aware campaign with real virtual devices: everybody is updated, and the
same seed writes the same journal in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.bench.images import make_images


def month(folder: Path, hash_seed: str, **options: int) -> dict[str, Any]:
    root = Path(__file__).parents[4]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
    told = json.dumps({"folder": str(folder), **options})
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench.virtual_days", told],
        env=environment,
        capture_output=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_half_a_month(tmp_path: Path) -> None:
    make_images(tmp_path, 32 << 10)
    one, other = (month(tmp_path, seed, devices=40, days=14) for seed in "12")
    assert one["statuses"] == {"UpgradeSuccess": 40}
    assert one["versions"] == {"1.1.0": 40}
    assert one["queued"] == 0
    # Four failed twice, four came ten days late; who was up in the first four hours needed one.
    assert one["attempts"]["1"] < 15
    assert set(one["attempts"]) >= {"1", "2"} and max(map(int, one["attempts"])) >= 3
    assert one["journal"] == other["journal"]
    assert one["lines"] == other["lines"] > 1_000
