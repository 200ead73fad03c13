"""v1's device list in pages while devices come and go, and answers too large for one piece."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.runtime.clock import run_virtual
from tests.tools.backend.rest_v1.stock import ACCOUNT, METER, MODEM, Caller, ids, served
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.inventory import PAGE
from tools.backend.rest import common, v1_stream


async def listed(api: Caller, **params: str) -> list[str]:
    """Every page of the device list."""
    found: list[str] = []
    index = 0
    while True:
        page = await api.told("GET", f"/devices/{ACCOUNT}/index/{index}", params=params)
        assert isinstance(page["lastSeenDeviceId"], int)
        found += [item["deviceId"] for item in page["deviceList"]]
        index = page["lastSeenDeviceId"]
        assert page["hasMoreData"] is (index != 0)
        if not page["hasMoreData"]:
            return found
        assert str(index) == page["deviceList"][-1]["deviceId"].lstrip("0")


async def add(backend: Backend, device_ids: list[str], protocol: str) -> None:
    await backend.load_devices({"deviceId": one, "protocol": protocol} for one in device_ids)


@virtual
async def test_a_page_has_a_thousand_devices() -> None:
    async with served(PAGE // 2 + 3) as backend:
        api = Caller(backend)
        page = await api.told("GET", f"/devices/{ACCOUNT}/index/0")
        assert (len(page["deviceList"]), page["hasMoreData"]) == (PAGE, True)
        modems, meters = ids(MODEM, PAGE // 2 + 3), ids(METER, PAGE // 2 + 3)
        assert await listed(api) == modems + meters
        assert await listed(api, clientType="LWM2M") == meters
        assert await listed(api, clientType="OMADM") == modems


@rules("BR-158")
@virtual
async def test_a_last_page_that_is_full_says_that_it_is_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(common, "PAGE", 4)
    async with served(2) as backend:
        page = await Caller(backend).told("GET", f"/devices/{ACCOUNT}/index/0")
        assert (page["hasMoreData"], page["lastSeenDeviceId"]) == (False, 0)


@rules("BR-156")
@virtual
async def test_ids_are_in_numeric_order_and_may_begin_with_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(common, "PAGE", 1)
    async with served(0) as backend:
        mixed = ["004999010640000", "990000862471854", "000000000000018", "350000000000008"]
        await add(backend, mixed, "OMADM")
        assert await listed(Caller(backend)) == sorted(mixed)
        # A caller may as well write the id as it stands in the list.
        page = await Caller(backend).told("GET", f"/devices/{ACCOUNT}/index/004999010640000")
        assert [item["deviceId"] for item in page["deviceList"]] == ["350000000000008"]


STEPS = st.lists(
    st.lists(st.tuples(st.sampled_from(["come", "go"]), st.integers(0, 39)), max_size=5),
    max_size=12,
)


@rules("BR-157")
@settings(max_examples=15, deadline=None)
@given(first=st.sets(st.integers(0, 39), min_size=1), steps=STEPS)
def test_who_is_there_throughout_is_listed_once(
    first: set[int], steps: list[list[tuple[str, int]]]
) -> None:
    async def story() -> None:
        async with served(0) as backend:
            api = Caller(backend)
            name = [str(MODEM + number) for number in range(40)]
            await add(backend, [name[number] for number in sorted(first)], "LWM2M")
            throughout = {name[number] for number in first}
            seen: list[str] = []
            index = 0
            for step in [*steps, *([[]] * 20)]:
                page = await api.told("GET", f"/devices/{ACCOUNT}/index/{index}")
                seen += [item["deviceId"] for item in page["deviceList"]]
                index = page["lastSeenDeviceId"]
                if not page["hasMoreData"]:
                    break
                for what, number in step:
                    # One that speaks HTTP from now on is none of v1's devices any more.
                    await add(backend, [name[number]], "LWM2M" if what == "come" else "HTTP")
                    if what == "go":
                        throughout.discard(name[number])
            assert seen == sorted(set(seen))
            assert throughout <= set(seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "PAGE", 3)
        run_virtual(story())


@rules("BR-159")
@virtual
async def test_a_large_upgrade_is_answered_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v1_stream, "PARTS", 50)
    async with served(1010) as backend:
        api = Caller(backend)
        made = await api.upgrade(ids(MODEM, 1010))
        await backend.runtime.clock.sleep(1)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        campaign = backend.engine.book.campaigns[made["id"]]
        parts = v1_stream.upgrade_parts(campaign, backend.time.now(), backend.timing)
        task = asyncio.create_task(others())
        pieces = [piece async for piece in v1_stream.streamed(parts).body_iterator]
        task.cancel()
        assert len(pieces) == 21  # a head, 1010 devices and an end
        assert turns >= 20
        joined = b"".join(bytes(piece) for piece in pieces)  # type: ignore[arg-type]
        assert json.loads(joined) == await api.shown(made["id"])
        report = await api.report("Queued")
        assert len(report["reportList"][0]["deviceList"]) == 1010


@virtual
async def test_an_edit_between_two_pieces_spoils_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v1_stream, "PARTS", 2)
    async with served(10) as backend:
        api = Caller(backend)
        made = await api.upgrade(ids(MODEM, 8))
        await backend.runtime.clock.sleep(1)
        campaign = backend.engine.book.campaigns[made["id"]]
        parts = v1_stream.upgrade_parts(campaign, backend.time.now(), backend.timing)
        pieces = aiter(v1_stream.streamed(parts).body_iterator)
        joined = bytes(await anext(pieces))  # type: ignore[arg-type]
        path = f"/upgrades/{ACCOUNT}/upgrade/{made['id']}"
        for kind, devices in (("append", ids(MODEM + 8, 2)), ("remove", ids(MODEM + 3, 2))):
            await api.told("PUT", path, json={"type": kind, "deviceList": devices})
        async for piece in pieces:
            joined += bytes(piece)  # type: ignore[arg-type]
        shown = json.loads(joined)
        assert [item["deviceId"] for item in shown["deviceList"]] == ids(MODEM, 8)
