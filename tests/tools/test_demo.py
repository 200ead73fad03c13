"""`fotilla demo` as a person or a script runs it: one process, its output, files and exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.busy import ANY_LAG_FLAGS

ROOT = Path(__file__).parents[2]
DEVICES = 20
COMMAND = (sys.executable, "-c", "from tools.cli import main; main()", "demo", *ANY_LAG_FLAGS)
SMALL = ("--devices", str(DEVICES), "--image-size", "16KiB")
LIMIT = 60.0  # seconds; only a run that is stuck takes them


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=LIMIT)
    except BaseException:
        process.kill()
        process.communicate()
        raise


def only_object(output: str) -> dict[str, Any]:
    """The one JSON object that is all there is on standard output."""
    found = json.loads(output)
    assert isinstance(found, dict)
    assert found["devices"] == found["updated"] + found["failed"] + found["unfinished"]
    for key in ("devices", "updated", "failed", "unfinished"):
        assert found[key] == sum(counts[key] for counts in found["by_protocol"].values())
    return found


class References(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data") and value:
                self.found.append(value)


def check_report(folder: Path, printed: dict[str, Any]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    for key in ("devices", "updated", "failed", "unfinished", "by_protocol", "audit"):
        assert report[key] == printed[key]
    page = References()
    page.feed((folder / "report.html").read_text())
    assert {"html", "script", "style"} <= page.tags
    assert [to for to in page.found if not to.startswith(("#", "data:"))] == []
    return report


def test_every_device_is_updated_and_the_audit_agrees(tmp_path: Path) -> None:
    process = start(tmp_path, "--json", *SMALL)
    output, _ = finish(process)
    printed = only_object(output)
    assert process.returncode == 0
    assert printed["updated"] == DEVICES
    assert printed["by_protocol"] == {
        "lwm2m": {"devices": DEVICES, "updated": DEVICES, "failed": 0, "unfinished": 0}
    }
    assert printed["audit"] == {"agree": DEVICES, "differ": 0, "unknown": 0}
    assert printed["seconds"] > 0
    assert "error" not in printed
    report = check_report(tmp_path / printed["report"], printed)
    assert report["failures"] == {}
    assert {truth["running_version"] for truth in report["truths"]} == {"1.0.0"}


def test_failed_devices_are_told_by_reason_and_believed_to_have_failed(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    process = start(tmp_path, "--json", *SMALL, "--fault", "bad-boot=50%", "--report", str(folder))
    output, _ = finish(process)
    printed = only_object(output)
    assert process.returncode == 3
    assert printed["report"] == str(folder)
    assert 0 < printed["failed"] < DEVICES
    assert printed["unfinished"] == 0
    assert printed["audit"] == {"agree": DEVICES, "differ": 0, "unknown": 0}
    report = check_report(folder, printed)
    assert report["failures"] == {"reverted": printed["failed"]}


@pytest.mark.parametrize("moment", ["REGISTERING", "DOWNLOADING", "INSTALLING"])
def test_an_interrupted_run_still_writes_audit_and_report(tmp_path: Path, moment: str) -> None:
    """No device boots its new image, so that the run lasts until it is stopped."""
    journal = tmp_path / "journal.jsonl"
    arguments = ("--journal", str(journal), "--fault", "bad-boot=100%")
    process = start(tmp_path, "--json", *SMALL, *arguments)
    deadline = time.monotonic() + LIMIT
    mark = f'"new":"{moment}"'
    while not (journal.exists() and mark in journal.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = finish(process)
    assert process.returncode == 130
    printed = only_object(output)
    assert printed["devices"] == DEVICES
    assert printed["updated"] == 0
    assert printed["audit"]["differ"] == 0
    check_report(tmp_path / printed["report"], printed)


WRONG = (
    ("--devices", "0"),
    ("--devices", "many"),
    ("--image-size", "16 parsecs"),
    ("--slot-size", "1000"),
    ("--lifetime", "0"),
    ("--ramp", "fast"),
    ("--duration", "soon"),
    ("--bind", "nowhere"),
    ("--fault", "sunspots"),
    ("--fault", "bad-boot=101%"),
    ("--protocol", "pigeon"),
)


def test_a_wrong_flag_is_one_line_that_names_it_and_nothing_starts(tmp_path: Path) -> None:
    for flag, value in WRONG:
        process = start(tmp_path, *SMALL, flag, value)
        output, errors = finish(process)
        assert process.returncode == 2, (flag, errors)
        assert output == ""
        [line] = errors.splitlines()
        assert flag in line or (flag == "--protocol" and "protocol" in line), line
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_flag_with_json_is_one_object_with_the_error(tmp_path: Path) -> None:
    process = start(tmp_path, "--json", "--fault", "sunspots")
    output, errors = finish(process)
    assert process.returncode == 2
    assert "--fault" in only_object(output)["error"]
    assert len(errors.splitlines()) == 1


def test_three_protocols_in_one_run_and_an_audit_that_agrees(tmp_path: Path) -> None:
    process = start(
        tmp_path, "--devices", "lwm2m=12,http=6,omadm=6", "--image-size", "16KiB", "--json"
    )
    output, _ = finish(process)
    assert process.returncode == 0
    found = only_object(output)
    updated = {name: counts["updated"] for name, counts in found["by_protocol"].items()}
    assert updated == {"lwm2m": 12, "http": 6, "omadm": 6}
    assert found["audit"] == {"agree": 24, "differ": 0, "unknown": 0}
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    # Each of them came by its own way: datagrams, requests, and a push that woke the third.
    assert report["counters"]["datagrams_in"] > 0
    assert report["counters"]["requests"] > 0
    assert {truth["protocol"] for truth in report["truths"]} == {"lwm2m", "http", "omadm"}
