"""The inventory through the admin API: CSV and JSON, good and hostile, large; and the line."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.runtime import Runtime
from tests.tools.backend.rest_client import administrator
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, started, virtual, world
from tools.backend.admin.tabular import (
    COLUMNS,
    csv_header,
    csv_rows,
    csv_text,
    guarded,
    json_rows,
    unguarded,
)
from tools.backend.backend import Backend
from tools.backend.errors import RequestRefused
from tools.backend.inventory import PAGE, hash_token

CSV = {"Content-Type": "text/csv; charset=utf-8"}
IMEI = 350000000000000


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Backend, httpx.AsyncClient]]:
    async with world() as backend, administrator(backend) as admin:
        yield backend, admin


def names(backend: Backend) -> list[str]:
    return sorted(backend.inventory.devices)


# -- reading and writing ---


@given(st.text())
def test_guarding_loses_nothing(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert guarded(text)[:1] not in tuple("=+-@\t\r")


@given(st.lists(st.tuples(*[st.text(max_size=8)] * len(COLUMNS)), max_size=4))
def test_csv_comes_back_as_it_went(rows: list[tuple[str, ...]]) -> None:
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    try:
        body = (csv_header() + csv_text(records)).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate, which no device of the inventory has
    found = [row for _, row in csv_rows(body)]
    assert found == [{key: text for key, text in one.items() if text} for one in records]


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for reader in (csv_rows, json_rows):
        try:
            for where, row in reader(body):
                assert where
                assert isinstance(row, dict)
        except RequestRefused as error:
            assert error.status == 400


@given(st.lists(st.dictionaries(st.text(max_size=4), st.none() | st.booleans() | st.integers())))
def test_json_is_read_item_by_item(items: list[dict[str, object]]) -> None:
    for text in (json.dumps(items), json.dumps(items, indent=2)):
        assert [row for _, row in json_rows(text.encode())] == items


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "line 1: a header"),
        (b"\n\n", "line 1: a header"),
        (b"deviceId,colour\n", "no column 'colour'"),
        (b"name,name\n", "'name' is there twice"),
        (b"name,make\na\n", "line 2: 1 cells, and the header has 2"),
        (b"name\na,b\n", "line 2: 2 cells"),
        (b"name\n\xff\xfe\n", "line 2: not UTF-8"),
        ("name\ngr\u00fcn\n".encode("latin-1"), "line 2: not UTF-8"),
        ("name\na\n".encode("utf-16"), "line 1: not UTF-8"),
        (b'name\n"a\n', "line 2: unexpected end of data"),
        (b'name\n"a"b\n', "line 2: "),
        (b"name\n" + b"x" * 200_000, "line 2: field larger"),
    ],
)
def test_csv_that_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(RequestRefused) as raised:
        list(csv_rows(body))
    assert says in raised.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[",
        b"[{}",
        b"[{},]",
        b"[,]",
        b"[{} {}]",
        b"[{}]x",
        b"[1]",
        b"[[]]",
        b"[" * 100_000,
        b'[{"a":' + b"[" * 100_000,
        b'[{"a": NaN}]',
        b'[{"a": -Infinity}]',
        b'[{"a": 1' + b"0" * 5_000 + b"}]",
        b"[{'a': 1}]",
        b"[{}]]",
        b"\xff",
        b'[{"a": "\xed\xa0\x80"}]',
    ],
)
def test_json_that_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused):
        list(json_rows(body))


def test_a_byte_order_mark_and_empty_lines_are_let_pass() -> None:
    body = b"\xef\xbb\xbfdeviceId,make\r\n\r\n1,\r\n"
    assert list(csv_rows(body)) == [("line 3", {"deviceId": "1"})]


# -- through the API ---


@rules("BR-097")
@virtual
async def test_csv_up_and_down() -> None:
    async with served() as (backend, admin):
        body = (
            "name,deviceId,make,model,firmware,delivery,protocol,mdn,line,token\n"
            f'"urn:imei:{IMEI}",{IMEI},acme,"m,1",1.0.0,pull,LWM2M,15551234567,suspend,\n'
            f",{IMEI + 1},,,,,OMADM,,,\n"
            "meter,,,,,,,,,token-of-the-meter\n"
        )
        answer = await admin.put("/admin/devices", content=body, headers=CSV)
        assert (answer.status_code, answer.json()) == (200, {"deviceCount": 3})
        assert names(backend) == [f"IMEI:{IMEI + 1}", "meter", f"urn:imei:{IMEI}"]
        assert backend.inventory.devices["meter"].token == hash_token(b"token-of-the-meter")
        assert backend.inventory.devices["meter"].protocol == "HTTP"
        down = await admin.get("/admin/devices.csv")
        assert down.headers["content-type"] == "text/csv; charset=utf-8"
        assert "token-of-the-meter" not in down.text
        assert "token" not in down.text.splitlines()[0]
        first = next(csv.DictReader(io.StringIO(down.text)))
        assert first == {
            "deviceId": str(IMEI),
            "name": f"urn:imei:{IMEI}",
            "make": "acme",
            "model": "m,1",
            "firmware": "1.0.0",
            "delivery": "pull",
            "protocol": "LWM2M",
            "mdn": "15551234567",
            "line": "suspend",
        }
        # What was downloaded can be loaded, here and elsewhere.
        assert (await admin.put("/admin/devices", content=down.content, headers=CSV)).is_success
        assert (await admin.get("/admin/devices.csv")).text == down.text
        listed = (await admin.get("/admin/devices.json")).content
        async with served() as (_other, elsewhere):
            assert (await elsewhere.put("/admin/devices", content=listed)).is_success
            assert (await elsewhere.get("/admin/devices.csv")).text == down.text


@virtual
async def test_formulas_are_data() -> None:
    async with served() as (backend, admin):
        evil = '=HYPERLINK("http://x","y")'
        sent = [{"name": "a", "make": "+1", "model": "@x", "firmware": evil}]
        assert (await admin.put("/admin/devices", json=sent)).is_success
        assert backend.inventory.devices["a"].firmware == evil
        down = await admin.get("/admin/devices.csv")
        for cell in next(csv.reader(down.text.splitlines()[1:])):
            assert not cell.startswith(("=", "+", "-", "@"))
        assert (await admin.put("/admin/devices", content=down.content, headers=CSV)).is_success
        assert backend.inventory.devices["a"].firmware == evil
        assert (await admin.get("/admin/devices")).json()["devices"][0]["firmware"] == evil


@virtual
async def test_what_is_absent_stays() -> None:
    async with served() as (backend, admin):
        full = {
            "name": "meter",
            "make": "acme",
            "model": "m1",
            "firmware": "3",
            "delivery": "pull",
            "protocol": "HTTP",
            "mdn": "1555",
            "line": "suspend",
            "token": "a-token-of-it",
        }
        assert (await admin.put("/admin/devices", json=[full])).is_success
        before = backend.inventory.devices["meter"]
        answer = await admin.put("/admin/devices", json=[{"deviceId": before.device_id}])
        assert answer.json() == {"deviceCount": 1}
        after = backend.inventory.devices["meter"]
        assert replace(after, updated=before.updated) == before


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"name": "new"}, {}], "item 1: deviceId or name is needed"),
        ([{"name": "new"}, {"deviceId": "12"}], "item 1: Invalid device id format"),
        ([{"name": "new"}, {"deviceId": 35}], "item 1: deviceId: "),
        ([{"name": "new"}, {"name": ""}], "item 1: name: "),
        ([{"name": "new"}, {"name": "a\0b"}], "item 1: name: "),
        ([{"name": "new"}, {"name": "b", "firmware": "1\n"}], "item 1: firmware: "),
        ([{"name": "new"}, {"name": "x" * 256}], "item 1: name: "),
        ([{"name": "new"}, {"name": "\ud800"}], "item 1: name: "),
        ([{"name": "new"}, {"name": "b", "line": "off"}], "item 1: line: "),
        ([{"name": "new"}, {"name": "b", "mdn": "+1"}], "item 1: mdn: "),
        ([{"name": "new"}, {"name": "b", "mdn": "\u0661"}], "item 1: mdn: "),
        ([{"name": "new"}, {"name": "b", "make": "m" * 65}], "item 1: make: "),
        ([{"name": "new"}, {"name": "b", "colour": "red"}], "item 1: colour: "),
        ([{"name": "new"}, {"name": "b", "token": "short"}], "A token has 8"),
        ([{"name": "new"}, {"name": "new"}], "item 1: name 'new' is in item 0 already"),
        (
            [{"deviceId": str(IMEI)}, {"name": "b", "deviceId": str(IMEI)}],
            f"item 1: deviceId '{IMEI}' is in item 0 already",
        ),
        ([{"name": "new"}, {"name": "b", "deviceId": str(IMEI + 7)}], "belongs to another"),
        (
            [{"name": "new", "token": "same-token"}, {"name": "b", "token": "same-token"}],
            "is there twice",
        ),
        ([{"name": "new"}, {"name": "theirs"}], "is not free"),
    ],
)
@virtual
async def test_of_a_bad_list_nothing_is_loaded(rows: list[dict[str, object]], says: str) -> None:
    async with served() as (backend, admin):
        await admin.put("/admin/devices", json=[{"name": "old", "deviceId": str(IMEI + 7)}])
        backend.inventory.accounts["0000000000-00009"] = replace(
            backend.account, name="0000000000-00009"
        )
        theirs = [{"name": "theirs"}]
        assert (await admin.put("/admin/devices?account=0000000000-00009", json=theirs)).is_success
        body = json.dumps(rows).encode()
        answer = await admin.put("/admin/devices", content=body)
        assert answer.status_code == 400
        assert says in answer.json()["errorMessage"]
        assert names(backend) == ["old", "theirs"]
        assert "same-token" not in answer.text


@virtual
async def test_accounts_that_do_not_exist() -> None:
    async with served() as (backend, admin):
        for account, says in (("0000000000-00007", "Account does not"), ("x", "Invalid account")):
            for method, path in (
                ("PUT", "/admin/devices"),
                ("GET", "/admin/devices"),
                ("GET", "/admin/devices.csv"),
                ("GET", "/admin/devices.json"),
            ):
                answer = await admin.request(
                    method, path, params={"account": account}, content=b"[]"
                )
                assert (answer.status_code, says in answer.text) == (400, True), path
        with pytest.raises(RequestRefused, match="Account does not exist"):
            await backend.load_devices([{"name": "a", "account": "0000000000-00007"}])


@virtual
async def test_pages() -> None:
    async with served() as (_backend, admin):
        ids = [str(IMEI + number) for number in range(PAGE + 5)]
        await admin.put("/admin/devices", json=[{"deviceId": one} for one in reversed(ids)])
        first = (await admin.get("/admin/devices")).json()
        assert [item["deviceId"] for item in first["devices"]] == ids[:PAGE]
        assert (first["hasMoreData"], first["lastSeenDeviceId"]) == (True, ids[PAGE - 1])
        last = (await admin.get(f"/admin/devices?after={first['lastSeenDeviceId']}")).json()
        assert [item["deviceId"] for item in last["devices"]] == ids[PAGE:]
        assert (last["hasMoreData"], last["lastSeenDeviceId"]) == (False, "0")
        few = (await admin.get("/admin/devices?limit=2")).json()
        assert [item["deviceId"] for item in few["devices"]] == ids[:2]
        for limit in ("0", "1001", "x"):
            assert (await admin.get(f"/admin/devices?limit={limit}")).status_code == 400
        whole = json.loads((await admin.get("/admin/devices.json")).content)
        assert [item["deviceId"] for item in whole] == ids
        lines = (await admin.get("/admin/devices.csv")).text.splitlines()
        assert len(lines) == 1 + len(ids)


@virtual
async def test_downloads_of_nothing() -> None:
    async with served() as (_backend, admin):
        assert (await admin.get("/admin/devices.json")).json() == []
        assert (await admin.get("/admin/devices.csv")).text == csv_header()


@virtual
async def test_one_device_and_its_line() -> None:
    async with served() as (backend, admin):
        await admin.put("/admin/devices", json=[{"name": "room/meter 1", "make": "acme"}])
        path = "/admin/devices/room%2Fmeter%201"
        shown = (await admin.get(path)).json()
        assert (shown["name"], shown["line"], shown["mdn"]) == ("room/meter 1", "active", "")
        assert (shown["hasToken"], shown["cell"], shown["upgraded"]) == (False, None, None)
        changed = {"status": "suspend", "mdn": "15550001111"}
        answer = await admin.put(f"{path}/line", json=changed)
        assert (answer.json()["line"], answer.json()["mdn"]) == ("suspend", "15550001111")
        device = backend.inventory.devices["room/meter 1"]
        assert (device.line, device.mdn, device.make) == ("suspend", "15550001111", "acme")
        back = await admin.put(f"/admin/devices/{device.device_id}/line", json={"status": "active"})
        assert (back.json()["line"], back.json()["mdn"]) == ("active", "15550001111")
        for bad in ({}, {"status": "off"}, {"status": "active", "mdn": "x"}, {"line": "active"}):
            assert (await admin.put(f"{path}/line", json=bad)).status_code == 400
        for missing in ("/admin/devices/nobody", "/admin/devices/nobody/belief"):
            assert (await admin.get(missing)).status_code == 400
        nobody = await admin.put("/admin/devices/nobody/line", json={"status": "active"})
        assert nobody.status_code == 400


@virtual
async def test_what_was_loaded_outlives_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory() as runtime:
        async with started(runtime, config) as backend, administrator(backend) as admin:
            sent = [{"name": "meter", "mdn": "1555", "line": "suspend", "token": "a-token-of-it"}]
            assert (await admin.put("/admin/devices", json=sent)).is_success
            before = backend.inventory.devices["meter"]
        async with started(runtime, config) as backend:
            assert backend.inventory.devices["meter"] == before


@virtual
async def test_two_lists_at_once_do_not_mix() -> None:
    async with served() as (backend, admin):
        ids = [str(IMEI + number) for number in range(2_000)]
        lists = [
            [{"deviceId": one, "name": f"{which}-{one}"} for one in ids] for which in ("a", "b")
        ]
        answers = await asyncio.gather(
            *(admin.put("/admin/devices", json=items) for items in lists)
        )
        assert sorted(answer.status_code for answer in answers) == [200, 400]
        assert len({name[0] for name in backend.inventory.devices}) == 1
        assert len(backend.inventory.devices) == len(ids)


@pytest.mark.parametrize("kind", ["csv", "json"])
async def test_a_hundred_thousand_devices_let_others_have_their_turn(kind: str) -> None:
    ids = [str(IMEI + number) for number in range(100_000)]
    if kind == "csv":
        body = ("deviceId,make\n" + "\n".join(f"{one},acme" for one in ids)).encode()
    else:
        body = json.dumps([{"deviceId": one, "make": "acme"} for one in ids]).encode()
    headers = CSV if kind == "csv" else {}
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    async with (
        Runtime.real() as runtime,
        started(runtime) as backend,
        administrator(backend) as admin,
    ):
        ticking = asyncio.create_task(others())
        answer = await admin.put("/admin/devices", content=body, headers=headers, timeout=60)
        ticking.cancel()
        assert answer.json() == {"deviceCount": len(ids)}
        # Not how long it took, which says more of the machine, but how often others had a turn.
        assert turns > len(ids) / 500
        too_many = body.replace(b"]", b', {"name": "x"}]') if kind == "json" else body + b"\n1,"
        refused = await admin.put("/admin/devices", content=too_many, headers=headers)
        assert refused.status_code == 400
        assert (await admin.get("/admin/devices?limit=1")).json()["hasMoreData"]


@virtual
async def test_too_large_is_413(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.backend.admin import devices

    monkeypatch.setattr(devices, "MAX_INVENTORY", 1_000)
    async with served() as (backend, admin):
        answer = await admin.put("/admin/devices", content=b"[" + b" " * 1_000)
        assert answer.status_code == 413
        assert names(backend) == []
