"""The client keeps a log when it is told to, and takes configuration files."""

from __future__ import annotations

import datetime
import re

import pytest

from tests.protocols.http.checkin.world import (
    GOOD,
    client,
    first,
    hour,
    package,
    version,
    virtual,
    world,
)

# -- the log ------------------------------------------------------------------------------------


@virtual
async def test_verbose_logging_on_and_off():
    async with world() as w:
        w.backend.next_check_in = 60
        device = w.device()
        await w.sleep(120)
        assert w.backend.logs == []
        w.backend.logging_until = w.runtime.clock.utc() + datetime.timedelta(days=7)
        w.backend.order("dev-1", package())
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        await w.sleep(5)
        text = "".join(entry["eventLog"] for entry in w.backend.logs)
        for line in (
            "runs 1.0.0, 1 boots",
            "campaign WAITING -> DOWNLOADING",
            "update DOWNLOADING -> DOWNLOADED: verified",
            "runs 2.0.0, 2 boots",
            "update TRIAL -> IDLE: confirmed (success)",
            "campaign ENDED -> NONE: acknowledged",
        ):
            assert line in text
        assert all(re.match(r"2030-01-01T\S+Z ", line) for line in text.splitlines())
        assert "token" not in text
        w.backend.logging_until = None
        await w.sleep(120)
        count = len(w.backend.logs)
        w.backend.order("dev-1", b"x" * 3000, id="campaign-2")
        await w.until(lambda: ("dev-1", "campaign-2") in w.backend.closed)
        assert len(w.backend.logs) == count
        assert version(device) == "2.0.0"


@virtual
async def test_a_log_that_cannot_be_stored_waits():
    async with world() as w:
        w.backend.next_check_in = 60
        w.backend.logging_until = w.runtime.clock.utc() + datetime.timedelta(days=7)
        w.backend.refuse = lambda what, body: (
            (429, {"retry-after": "5"}) if what == "logs" else None
        )
        device = w.device()
        await w.sleep(300)
        assert w.backend.logs == [] and client(device).registered
        w.backend.refuse = lambda what, body: None
        await w.sleep(120)
        assert w.backend.logs and "runs 1.0.0" in w.backend.logs[0]["eventLog"]


# -- files --------------------------------------------------------------------------------------


@virtual
async def test_a_configuration_file():
    async with world() as w:
        w.backend.order(
            "dev-1", b'{"apn": "x"}', kind="file", name="apn.json", to="3", path="/etc/apn.json"
        )
        device = w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
        await w.sleep(5)
        assert w.backend.states() == GOOD
        assert w.backend.check_ins[-1][1]["files"] == [{"name": "apn.json", "version": "3"}]
        assert device.boots == 1 and version(device) == "1.0.0"
        device.cut_power(back_after=5)
        await w.sleep(20)
        assert w.backend.check_ins[-1][1]["files"] == [{"name": "apn.json", "version": "3"}]


@virtual
async def test_a_file_waits_for_its_windows_and_is_fetched_again_after_a_reboot():
    async with world() as w:
        w.backend.order(
            "dev-1", b"data", kind="file", name="f", to="1", download=((1, 2),), install=((5, 6),)
        )
        device = w.device()
        await w.until(lambda: w.backend.states() == GOOD[:2], 3 * 3600)
        device.cut_power(back_after=5)
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed, 5 * 3600)
        assert w.backend.states() == GOOD
        assert len(w.backend.ranges) == 2
        assert 5 <= hour(w, first(w, "installing")) < 5.1


@virtual
async def test_the_longest_texts_fit_what_survives_a_reboot():
    async with world() as w:
        wide = "\N{GRINNING FACE}"
        key, query = "/device/v1/packages/x", "q" * 1000
        for number, size in enumerate((120, 100, 100)):
            name = f"{number}" + "f" * size
            w.backend.order("dev-1", b"data", id=f"file-{number}", kind="file", name=name)
            if number == 0:
                w.device()
            await w.until(
                lambda number=number: ("dev-1", f"file-{number}") in w.backend.closed, 2 * 3600
            )
        w.backend.order("dev-1", package(), id=wide * 64, to=wide * 255, url=f"{key}?{query}")
        w.backend.packages["x"] = package()
        inner = w.backend._package

        async def any_package(send, device, id, headers):
            await inner(send, device, wide * 64, headers)

        w.backend._package = any_package
        w.backend.check_ins.clear()
        await w.until(lambda: version(w.devices[0]) == "2.0.0", 2 * 3600)
        await w.until(lambda: ("dev-1", wide * 64) in w.backend.closed)
        assert len(w.backend.check_ins[-1][1]["files"]) == 3


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"sha256": "00" * 32}, "integrity"),
        ({"size": 1 << 30}, "no-space"),
        ({"url": "/gone"}, "bad-uri"),
        ({"url": "coap://host/x"}, "unsupported-protocol"),
    ],
)
def test_a_file_that_cannot_be_had(more, reason):
    @virtual
    async def run():
        async with world() as w:
            w.backend.order("dev-1", b"data", kind="file", name="f", to="1", **more)
            w.device()
            await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed)
            assert w.backend.states() == ["downloading", f"failed {reason}"]
            assert w.backend.check_ins[-1][1]["files"] == []

    run()
