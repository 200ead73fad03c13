"""The table of known errors of v1 (section 4 of the API reference), each row by raw HTTP; and what
else is refused. Whatever is sent, the answer has the API's form, and nothing is written."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.runtime.clock import run_virtual
from tests.tools.backend.rest_v1.stock import (
    ACCOUNT,
    LAST,
    METER,
    MODEM,
    OTHER,
    TOMORROW,
    Caller,
    add_account,
    device,
    ids,
    request,
    served,
)
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual
from tools.backend.errors import RequestRefused
from tools.backend.refusals import Refusal
from tools.backend.rest.v1_upgrades import end_date, start_date
from tools.backend.timing import DAY, day_start

ONE = str(MODEM)
UPGRADE = f"/upgrades/{ACCOUNT}/upgrade"
NOBODYS = str(uuid.UUID(int=1))
APPEND = {"type": "append", "deviceList": [ONE]}

KNOWN: list[tuple[str, str, str, Any]] = [
    ("Device list is empty", "POST", "/upgrades", request([])),
    ("Device list is empty", "POST", "/upgrades", {**request([]), "deviceList": None}),
    ("FotaPostUpgrades: invalid state date", "POST", "/upgrades", request([ONE], startDate="soon")),
    ("FotaPostUpgrades: invalid state date", "POST", "/upgrades", request([ONE], startDate=None)),
    (
        "FotaPostUpgrades: invalid state date",
        "POST",
        "/upgrades",
        request([ONE], startDate="2029-12-31"),
    ),
    (
        "FotaPostUpgrades: invalid state date",
        "POST",
        "/upgrades",
        request([ONE], startDate="20300102"),
    ),
    (
        "FotaPostUpgrades: invalid state date",
        "POST",
        "/upgrades",
        {**request([ONE], startDate="9999-12-31"), "endDate": None},
    ),
    (
        "FotaPostUpgrades: invalid state date",
        "POST",
        "/upgrades",
        request([ONE], startDate="0001-01-01T00:00:00+14:00"),
    ),
    ("Input binding error", "POST", "/upgrades", None),
    ("Invalid account name format", "GET", "/firmware/me", None),
    ("Invalid account name format", "POST", "/upgrades", {**request([ONE]), "accountName": "me"}),
    ("Invalid device id format", "POST", "/upgrades", request(["12"])),
    ("Invalid device id format", "POST", "/upgrades", request([ONE, "35000000000000x"])),
    ("Invalid device id format", "GET", f"/reports/{ACCOUNT}/devices/12", None),
    ("Invalid index value", "GET", f"/reports/{ACCOUNT}/status/Queued/index/first", None),
    ("Invalid index value", "GET", f"/reports/{ACCOUNT}/status/Queued/index/-1", None),
    ("Invalid index value", "GET", f"/reports/{ACCOUNT}/status/Queued/index/1.0", None),
    ("Invalid upgradeId", "GET", f"{UPGRADE}/{NOBODYS}", None),
    ("Invalid upgradeId", "PUT", f"{UPGRADE}/{NOBODYS}", APPEND),
    ("Invalid upgradeId", "DELETE", f"{UPGRADE}/{NOBODYS}", None),
    ("Invalid uuid", "GET", f"{UPGRADE}/e3a8d88a-04c6-4ef3-b039-89b62f91e96x", None),
    ("Invalid uuid", "PUT", f"{UPGRADE}/12", APPEND),
    ("Invalid uuid", "DELETE", f"{UPGRADE}/all", None),
    ("LastSeenDeviceId Not Valid", "GET", f"/devices/{ACCOUNT}/index/1", None),
    ("LastSeenDeviceId Not Valid", "GET", f"/devices/{ACCOUNT}/index/-1", None),
    ("LastSeenDeviceId Not Valid", "GET", f"/devices/{ACCOUNT}/index/first", None),
    ("LastSeenDeviceId Not Valid", "GET", f"/devices/{ACCOUNT}/index/999999999999999", None),
    ("LastSeenDeviceId Not Valid", "GET", f"/devices/{ACCOUNT}/index/9{ONE}", None),
]


@rules("BR-149", "BR-161")
@pytest.mark.parametrize("text", sorted({text for text, *_ in KNOWN}))
@virtual
async def test_a_known_error(text: str) -> None:
    async with served(1) as backend:
        api = Caller(backend)
        for row, method, path, sent in KNOWN:
            if row == text:
                what = {} if sent is None else {"json": sent}
                assert await api.refused(method, path, **what) == text, (method, path, sent)
        assert backend.engine.book.campaigns == {}


@rules("BR-149")
def test_every_known_row_has_a_test() -> None:
    tested = {text for text, *_ in KNOWN}
    # These two are tested below and with the licences.
    tested |= {"Inactive account", "Index exceeds number of devices in list"}
    assert tested == {item.value.message for item in Refusal if item.value.known}


@virtual
async def test_a_known_error_of_an_account_without_a_subscription() -> None:
    async with served(1) as backend:
        api = Caller(backend, await add_account(backend, purchase_type=""))
        for path in (
            f"/firmware/{OTHER}",
            f"/devices/{OTHER}/index/0",
            f"/reports/{OTHER}/devices/{ONE}",
        ):
            assert await api.refused("GET", path) == "Inactive account"
        body = {**request([ONE]), "accountName": OTHER}
        assert await api.refused("POST", "/upgrades", json=body) == "Inactive account"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"firmwareName": "other"}, "'other' is not available"),
    ({"firmwareName": "camera-app"}, "'camera-app' is not available"),
    ({"firmwareTo": "3.0"}, "does not lead"),
    ({"endDate": "2029-12-31"}, "before startDate"),
    ({"endDate": "later"}, "endDate"),
    ({"deviceList": [int(ONE)]}, "deviceList"),
    ({"deviceList": ONE}, "deviceList"),
    ({"deviceList": [None]}, "deviceList"),
    ({"startDate": 20300102}, "startDate"),
    ({"endDate": 20300102}, "endDate"),
    ({"accountName": None}, "accountName"),
    ({"accountName": OTHER}, "Account does not exist"),
    ({"firmwareName": ["a"]}, "firmwareName"),
    ({"firmwareName": "\x00"}, "firmwareName"),
    ({"firmwareTo": None}, "firmwareTo"),
]


@virtual
async def test_what_is_wrong_or_missing_is_named_and_nothing_is_written() -> None:
    async with served(1) as backend:
        api = Caller(backend)
        for changes, text in WRONG:
            sent = request([ONE], **changes)
            assert text in await api.refused("POST", "/upgrades", json=sent), changes
        for name in ("accountName", "firmwareName", "firmwareTo"):
            sent = request([ONE])
            del sent[name]
            assert name in await api.refused("POST", "/upgrades", json=sent)
        assert backend.engine.book.campaigns == {}


WRONG_CHANGES: list[tuple[Any, str]] = [
    ({"deviceList": [ONE]}, "type"),
    ({"type": "replace", "deviceList": [ONE]}, "type"),
    ({"type": "append"}, "Device list is empty"),
    ({"type": "append", "deviceList": []}, "Device list is empty"),
    ({"type": "remove", "devicelist": []}, "Device list is empty"),
    ({"type": "append", "deviceList": {}}, "deviceList"),
    ({"type": "append", "deviceList": [1]}, "deviceList"),
    ({"type": "append", "deviceList": ["12"]}, "Invalid device id format"),
    ({"type": "append", "deviceList": [ONE, "12"]}, "Invalid device id format"),
    ({"type": "remove", "deviceList": ["12"]}, "Invalid device id format"),
    ({"type": "remove", "deviceList": [str(MODEM + 1), "12"]}, "Invalid device id format"),
    ([], ""),
]


@virtual
async def test_a_wrong_change_is_refused_and_changes_nothing() -> None:
    async with served(2) as backend:
        api = Caller(backend)
        made = await api.upgrade(ids(MODEM + 1, 1))
        await backend.runtime.clock.sleep(1)
        before = await api.shown(made["id"])
        for sent, text in WRONG_CHANGES:
            assert text in await api.refused("PUT", f"{UPGRADE}/{made['id']}", json=sent), sent
            assert await api.shown(made["id"]) == before


@virtual
async def test_other_refusals() -> None:
    async with served(1) as backend:
        api = Caller(backend)
        for path, text in (
            (f"/firmware/{ACCOUNT}?clientType=HTTP", "'HTTP'"),
            (f"/devices/{ACCOUNT}/index/0?clientType=GSM", "'GSM'"),
            (f"/reports/{ACCOUNT}/status/Cancelled/index/0", "'Cancelled'"),
            (f"/reports/{ACCOUNT}/status/queued/index/0", "'queued'"),
            (f"/reports/{ACCOUNT}/devices/999999999999999", "Device does not exist."),
        ):
            assert text in await api.refused("GET", path)


@virtual
async def test_too_much_is_413() -> None:
    async with served(1) as backend:
        api = Caller(backend)
        made = await api.upgrade([ONE])
        for method, path in (("POST", "/upgrades"), ("PUT", f"{UPGRADE}/{made['id']}")):
            answer = await api.send(method, path, content=b'"' + b"x" * (9 << 20) + b'"')
            assert answer.status_code == 413
            assert set(answer.json()) == {"errorCode", "errorMessage"}
        assert len(backend.engine.book.campaigns) == 1


@virtual
async def test_a_campaign_of_another_version_is_none_of_v1() -> None:
    async with served(1) as backend:
        firmware = backend.inventory.packages[ACCOUNT, "meter-app"]
        campaign = await backend.create_campaign([device(backend, str(METER)).name], firmware)
        assert campaign.kind.version == 3
        text = await Caller(backend).refused("GET", f"{UPGRADE}/{campaign.id}")
        assert text == "Invalid upgradeId"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from([ONE, TOMORROW, LAST, ACCOUNT, "modem-app", "2.0.0", "append", "remove"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from([*request([]), "type", "devicelist"]), JSON, min_size=1, max_size=8
    ).map(lambda value: json.dumps(value).encode()),
    st.tuples(st.sampled_from([*request([])]), JSON).map(
        lambda pair: json.dumps({**request([ONE]), pair[0]: pair[1]}).encode()
    ),
)
# A slash would make another path of it, as would a dot.
SEGMENT = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1)
    .filter(lambda text: text not in (".", ".."))
    .map(lambda text: quote(text, safe=""))
)


DATES = st.one_of(
    st.text(max_size=30),
    st.dates().map(str),
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat()),
    st.from_regex(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?", fullmatch=True),
)


@rules("BR-002")
@given(text=DATES)
def test_a_start_date_is_a_day_or_refused(text: str) -> None:
    now = day_start("2030-01-01")
    try:
        first = start_date(text, now)
        last = end_date(None, first)
    except RequestRefused as error:
        assert error.message == "FotaPostUpgrades: invalid state date"
    else:
        assert day_start(first) >= now
        assert day_start(last) == day_start(first) + 3 * DAY


@settings(max_examples=15, deadline=None)
@given(bodies=st.lists(BODIES, min_size=8, max_size=12))
def test_no_body_breaks_us(bodies: list[bytes]) -> None:
    async def story() -> None:
        async with served(1) as backend:
            api = Caller(backend)
            made = await api.upgrade(ids(METER, 1), firmwareName="meter-app")
            for body in bodies:
                known = set(backend.engine.book.campaigns)
                answer = await api.send("POST", "/upgrades", content=body)
                assert answer.status_code in (200, 400), (body, answer.text)
                if answer.status_code == 400:
                    assert set(answer.json()) == {"errorCode", "errorMessage"}
                    assert set(backend.engine.book.campaigns) == known
                answer = await api.send("PUT", f"{UPGRADE}/{made['id']}", content=body)
                assert answer.status_code in (200, 400), (body, answer.text)

    run_virtual(story())


@settings(max_examples=15, deadline=None)
@given(segments=st.lists(st.tuples(SEGMENT, SEGMENT), min_size=3, max_size=6))
def test_no_path_breaks_us(segments: list[tuple[str, str]]) -> None:
    async def story() -> None:
        async with served(1) as backend:
            api = Caller(backend)
            for first, second in segments:
                for path in (
                    f"/firmware/{first}",
                    f"/firmware/{ACCOUNT}?clientType={first}",
                    f"/devices/{ACCOUNT}/index/{first}",
                    f"/devices/{first}/index/{second}",
                    f"{UPGRADE}/{first}",
                    f"/reports/{ACCOUNT}/status/{first}/index/{second}",
                    f"/reports/{ACCOUNT}/status/Queued/index/{second}",
                    f"/reports/{ACCOUNT}/devices/{first}",
                ):
                    answer = await api.send("GET", path)
                    assert answer.status_code in (200, 400), (path, answer.text)

    run_virtual(story())
