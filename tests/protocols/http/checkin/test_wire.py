"""Answers to a check-in: what is taken, what is refused, and that nothing else can happen."""

from __future__ import annotations

import copy
import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.http import HttpResponse
from protocols.http.checkin.tables import Word
from protocols.http.checkin.windows import ALL_DAY, Hours
from protocols.http.checkin.wire import (
    MAX_NEXT_CHECK_IN,
    Current,
    Installed,
    Kind,
    Persona,
    Reason,
    StatusReport,
    check_in_body,
    error_text,
    log_body,
    parse_check_in,
    rfc3339,
    status_body,
    status_path,
)
from protocols.http.messages import BadAnswer, json_body

FULL = {
    "serverTime": "2030-01-01T00:00:00.000Z",
    "nextCheckIn": 86400,
    "campaign": {
        "id": "0f0d",
        "kind": "firmware",
        "name": "app",
        "to": "2.0.0",
        "url": "/device/v1/packages/0f0d",
        "size": 524288,
        "sha256": "9f" * 32,
        "dates": {"start": "2030-01-01", "end": "2030-01-07", "installAfter": "2030-01-02"},
        "windows": {"download": [{"startTime": 1, "endTime": 5}], "install": []},
    },
    "cancel": ["77aa"],
    "logging": {"on": True, "until": "2030-01-08T00:00:00.000Z"},
}
PLAIN = {"serverTime": "2030-01-01T00:00:00Z", "nextCheckIn": 60, "logging": {"on": False}}


def answer(body: object) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(200, {}, data, "http://host/device/v1/checkin")


def changed(path: str, value: object) -> dict:
    """FULL with one member set, or removed when the value is `...`."""
    body = copy.deepcopy(FULL)
    *parents, name = path.split(".")
    place = body
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place[parent]
    if value is ...:
        del place[name]
    else:
        place[int(name) if isinstance(place, list) else name] = value
    return body


def test_a_full_answer():
    parsed = parse_check_in(answer(FULL | {"unknown": {"member": 1}}))
    assert parsed.server_time == datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    assert parsed.next_check_in == 86400
    assert parsed.cancel == {"77aa"}
    assert parsed.logging_until == datetime.datetime(2030, 1, 8, tzinfo=datetime.UTC)
    order = parsed.order
    assert order is not None
    assert (order.id, order.kind, order.name, order.to) == ("0f0d", Kind.FIRMWARE, "app", "2.0.0")
    assert (order.size, order.sha256, order.path) == (524288, "9f" * 32, "")
    assert (order.download, order.install) == (Hours.of([(1, 5)]), ALL_DAY)
    assert order.download_after is None
    assert order.install_after == datetime.date(2030, 1, 2)


def test_nothing_to_do():
    parsed = parse_check_in(answer(PLAIN))
    assert (parsed.order, parsed.cancel, parsed.logging_until) == (None, frozenset(), None)


def test_any_offset_of_a_time_is_read():
    parsed = parse_check_in(answer(PLAIN | {"serverTime": "2030-01-01T02:00:00.5+02:00"}))
    assert parsed.server_time == datetime.datetime(2030, 1, 1, 0, 0, 0, 500000, datetime.UTC)


def test_a_check_in_in_the_far_future_is_bounded():
    assert parse_check_in(answer(PLAIN | {"nextCheckIn": 10**12})).next_check_in == (
        MAX_NEXT_CHECK_IN
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("serverTime", ...),
        ("serverTime", "2030-01-01T00:00:00"),
        ("serverTime", "yesterday, at about noon"),
        ("serverTime", "0001-01-01T00:00:00Z"),
        ("serverTime", "9999-12-31T23:59:59Z"),
        ("serverTime", 1893456000),
        ("nextCheckIn", ...),
        ("nextCheckIn", 0),
        ("nextCheckIn", True),
        ("nextCheckIn", 1.5),
        ("nextCheckIn", "60"),
        ("cancel", "77aa"),
        ("cancel", ["x"] * 1000),
        ("cancel.0", 5),
        ("logging", ...),
        ("logging", None),
        ("logging.on", ...),
        ("logging.on", "yes"),
        ("logging.until", ...),
        ("campaign", "0f0d"),
        ("campaign.id", ...),
        ("campaign.id", ""),
        ("campaign.id", "x" * 65),
        ("campaign.id", "\0"),
        ("campaign.id", "\ud800"),
        ("campaign.kind", "delta"),
        ("campaign.name", "x" * 301),
        ("campaign.to", 2),
        ("campaign.path", 7),
        ("campaign.url", ""),
        ("campaign.url", "http://host/a b"),
        ("campaign.url", "http://host/\n"),
        ("campaign.url", "x" * 1025),
        ("campaign.size", -1),
        ("campaign.size", 2**53),
        ("campaign.sha256", "9F" * 32),
        ("campaign.sha256", "9f" * 31),
        ("campaign.dates", ...),
        ("campaign.dates.start", ...),
        ("campaign.dates.start", "20300101"),
        ("campaign.dates.end", "2030-02-30"),
        ("campaign.dates.end", "2029-12-31"),
        ("campaign.dates.end", "9999-12-31"),
        ("campaign.dates.installAfter", "soon"),
        ("campaign.windows", []),
        ("campaign.windows.install", ...),
        ("campaign.windows.download", {}),
        ("campaign.windows.download", [{"startTime": 1, "endTime": 2}] * 65),
        ("campaign.windows.download.0.startTime", 24),
        ("campaign.windows.download.0.startTime", "1"),
        ("campaign.windows.download.0.endTime", 1),
        ("campaign.windows.download.0.endTime", 25),
        ("campaign.windows.download.0", 1),
    ],
)
def test_a_bad_member_is_named(path, value):
    with pytest.raises(BadAnswer) as caught:
        parse_check_in(answer(changed(path, value)))
    named = str(caught.value).partition(":")[0].replace("[", ".").replace("]", "")
    assert named == path


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_object(body):
    with pytest.raises(BadAnswer):
        parse_check_in(answer(body))


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
PATHS = [
    "serverTime",
    "nextCheckIn",
    "campaign",
    "cancel",
    "logging",
    *(f"campaign.{name}" for name in FULL["campaign"]),
    *(f"campaign.dates.{name}" for name in FULL["campaign"]["dates"]),
    "campaign.windows.download",
    "logging.on",
    "logging.until",
]


@given(st.sampled_from(PATHS), JSON_VALUE)
def test_any_member_parses_or_is_a_bad_answer(path, value):
    try:
        parse_check_in(answer(changed(path, value)))
    except BadAnswer as error:
        assert str(error)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_a_bad_answer(data):
    with pytest.raises(BadAnswer):
        parse_check_in(answer(data))


def test_a_check_in_as_it_is_written_down():
    body = check_in_body(
        "350000000000001",
        Reason.SCHEDULE,
        Persona(),
        [Installed("firmware", "1.0.0")],
        [Installed("configfile-fotilla_virtual_apn.json", "3")],
        Current("0f0d", Word.DOWNLOADING, 262144),
    )
    assert json.loads(json_body(body)) == {
        "deviceId": "350000000000001",
        "reason": "schedule",
        "clientType": "RovaClient",
        "make": "fotilla",
        "model": "virtual",
        "software": [{"name": "firmware", "version": "1.0.0"}],
        "files": [{"name": "configfile-fotilla_virtual_apn.json", "version": "3"}],
        "current": {"campaignId": "0f0d", "state": "downloading", "offset": 262144},
    }
    assert "current" not in check_in_body("x", Reason.USER, Persona(), [], [], None)


def test_a_status_as_it_is_written_down():
    time = rfc3339(datetime.datetime(2030, 1, 1, 2, 0, 1, 999, tzinfo=datetime.UTC))
    report = StatusReport(3, Word.INSTALLING, "", time, "")
    assert json.loads(json_body(status_body(report))) == {
        "seq": 3,
        "state": "installing",
        "time": "2030-01-01T02:00:01.000Z",
    }
    failed = status_body(StatusReport(4, Word.FAILED, "reverted", time, ""))
    assert (failed["state"], failed["reason"]) == ("failed", "reverted")


def test_an_id_cannot_leave_its_path():
    assert status_path("../../admin?x") == "/device/v1/campaigns/..%2F..%2Fadmin%3Fx/status"


def test_a_log_has_every_member():
    assert set(log_body("x", "t", "text")) == {
        "deviceId",
        "logTime",
        "logType",
        "eventLog",
        "binaryLogFileBase64",
        "binaryLogFilename",
    }


def test_what_a_refusal_says_is_bounded_and_printable():
    body = {"errorCode": "INVALID_PARAMETER", "errorMessage": "seq\x1b[31m" + "x" * 1000}
    text = error_text(answer(body))
    assert text.startswith("INVALID_PARAMETER: seq?[31m") and len(text) == 200
    assert error_text(answer(b"<html>")) == ""
    assert error_text(answer({"errorCode": 5})) == ""
