from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.faults import FaultSpec
from tools.fleet.faults import fault_spec
from tools.fleet.names import device_names, names_from_csv, names_from_pattern
from tools.fleet.spec import (
    FAULTS,
    FaultShare,
    FleetSpec,
    SpecError,
    parse_fault,
    parse_rate,
    parse_seconds,
    parse_size,
    split_server,
)


def spec(**changes: Any) -> FleetSpec:
    count = changes.get("devices", 4)
    given = {
        "server": "coap://127.0.0.1:5683",
        "devices": count,
        "names": tuple(f"d{index}" for index in range(max(0, min(count, 10)))),
        "image": b"image",
        "keys": (b"pem",),
        **changes,
    }
    return FleetSpec(**given)


def test_a_spec_pickles() -> None:
    one = spec(faults=(FaultShare("power-cut", 0.1),), ramp=5.0)
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("server", "127.0.0.1:5683", "no scheme"),
        ("server", "localhost", "no scheme"),
        ("server", "coap://", "no host"),
        ("server", "coap://host:99999", "not a URI"),
        ("server", "coap://host:port", "not a URI"),
        ("server", "coap://[::1", "not a URI"),
        ("server", "coap://host:0", "port 0"),
        ("devices", 0, "not between"),
        ("devices", -1, "not between"),
        ("devices", 10**9, "not between"),
        ("names", ("a",), "1 names for 4 devices"),
        ("protocol", "", "empty"),
        ("image", b"", "empty"),
        ("keys", (), "none given"),
        ("running", b"", "empty"),
        ("slot_size", 100, "not between"),
        ("lifetime", 0, "not between"),
        ("ramp", 0.0, "positive"),
        ("ramp", float("inf"), "positive"),
        ("duration", -1.0, "positive"),
        ("max_lag", 0.0, "positive"),
        ("seed", -1, "not between"),
        ("seed", 2**64, "not between"),
        ("serve_port", 65536, "not between"),
        ("faults", (FaultShare("bogus"),), "no fault 'bogus'; known: bad-boot, power-cut"),
        ("faults", (FaultShare("bad-boot", 0.0),), "a share of 0% is not above 0%"),
        ("faults", (FaultShare("bad-boot", 1.5),), "150%"),
        ("faults", (FaultShare("bad-boot"), FaultShare("bad-boot")), "twice"),
    ],
)
def test_a_bad_field_is_named(field: str, value: object, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        spec(**{field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_shards_share_out_devices_and_ramp() -> None:
    whole = spec(devices=10, ramp=20.0)
    parts = [whole.shard(0, 4), whole.shard(4, 10)]
    assert parts[0].names + parts[1].names == whole.names
    assert [part.first_index for part in parts] == [0, 4]
    assert [part.ramp for part in parts] == [8.0, 12.0]
    assert replace(parts[1], server="coap://other").devices == 6


def test_server_without_port_is_fine() -> None:
    parts = split_server("coap://[::1]")
    assert (parts.scheme, parts.hostname, parts.port) == ("coap", "::1", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("power-loss", ("power-loss", 1.0)), ("x=10%", ("x", 0.1)), (" x = 2.5% ", ("x", 0.025))],
)
def test_faults_parse(text: str, expected: tuple[str, float]) -> None:
    fault = parse_fault(text)
    assert (fault.name, fault.share) == expected


@pytest.mark.parametrize("text", ["", "=10%", "x=", "x=10", "x=ten%", "x=%"])
def test_bad_faults_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="faults"):
        parse_fault(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("0x1000", 4096),
        ("512k", 512 << 10),
        ("1MiB", 1 << 20),
        ("2m", 2 << 20),
    ],
)
def test_sizes_parse(text: str, size: int) -> None:
    assert parse_size("slot_size", text) == size


def test_durations_and_rates_parse() -> None:
    assert parse_seconds("duration", "90") == 90
    assert parse_seconds("duration", "1.5m") == 90
    assert parse_seconds("duration", "2h") == 7200
    assert parse_seconds("duration", "250ms") == 0.25
    assert parse_rate("ramp", "100/s") == 100
    assert parse_rate("ramp", "100") == 100
    assert parse_rate("ramp", "30/m") == 0.5


@given(st.text(max_size=20))
def test_any_text_parses_or_is_a_spec_error(text: str) -> None:
    for parse in (parse_size, parse_seconds, parse_rate):
        try:
            parse("field", text)
        except SpecError as error:
            assert error.field == "field"
    for parse_one in (parse_fault, split_server):
        try:
            parse_one(text)
        except SpecError as error:
            assert error.field in ("faults", "server")


def test_every_fault_reaches_the_agent() -> None:
    for name in FAULTS:
        given = fault_spec([FaultShare(name, 0.5)])
        assert given == FaultSpec(**{name.replace("-", "_"): 0.5})
    assert fault_spec([]) == FaultSpec()


def test_names_from_a_pattern() -> None:
    assert device_names("meter-{index}", 3) == ("meter-0", "meter-1", "meter-2")
    assert names_from_pattern("urn:imei:{index:015d}", 1, 7) == ("urn:imei:000000000000007",)
    assert device_names("the-one", 1) == ("the-one",)
    assert device_names("{{x}}-{index}", 1) == ("{x}-0",)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("meter", "every name is the same"),
        ("meter-{", "meter-{"),
        ("{other}", "only {index}"),
        ("{index.real}", "only {index}"),
        ("{index!r}", "only {index}"),
        ("{}", "only {index}"),
        ("{index:{index}}", "only {index}"),
        ("{index:q}", "a width such as 015d"),
        ("x{index:.0e}", "a width such as 015d"),
        ("{index:99999999d}", "a width such as 015d"),
        ("\n{index}", "unprintable"),
        ("{index:0300d}", "exceeds 255 bytes"),
    ],
)
def test_bad_patterns_are_refused(pattern: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        names_from_pattern(pattern, 20)
    assert caught.value.field == "names"


@given(st.text(max_size=12), st.integers(1, 3))
def test_any_pattern_gives_unique_names_or_a_spec_error(pattern: str, count: int) -> None:
    try:
        names = names_from_pattern(pattern, count)
    except SpecError:
        return
    assert len(set(names)) == count


def test_names_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "meters.csv"
    path.write_text("\ufeffendpoint,site\r\na,north\r\n\r\n b ,south\r\nc\r\n", encoding="utf-8")
    assert device_names(str(path), 2) == ("a", "b")
    assert names_from_csv(path, 3) == ("a", "b", "c")
    with pytest.raises(SpecError, match="has 3 names, 4 devices"):
        names_from_csv(path, 4)


def test_a_bad_file_names_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "meters.csv"
    path.write_text("a\nb\na\n")
    with pytest.raises(SpecError, match=r"'a' twice: .*line 1 and .*line 3"):
        names_from_csv(path, 2)
    path.write_text("a\n,x\n")
    with pytest.raises(SpecError, match="line 2: the name is empty"):
        names_from_csv(path, 1)
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(SpecError, match="not UTF-8 at byte 2"):
        names_from_csv(path, 1)
    with pytest.raises(SpecError, match="No such file"):
        names_from_csv(tmp_path / "gone.csv", 1)
