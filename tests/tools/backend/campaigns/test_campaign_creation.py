"""What a new campaign brings with it, licences and callbacks: stored with it, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent.runtime.runtime import Runtime
from tests.tools.backend.callbacks.callback_room import URL, ScriptedListener
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, request, statuses, turn
from tests.tools.backend.test_restart import ADDRESS, kill
from tests.tools.backend.virtual import CONFIG, package, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import checks, states
from tools.backend.campaigns.kinds import FIRMWARE_V1, SOFTWARE_V2
from tools.backend.campaigns.records import Campaign, member_row
from tools.backend.config import Listen
from tools.backend.errors import StoreError
from tools.backend.inventory import MONTHLY_BILLED
from tools.backend.store import rows as store
from tools.backend.store import tables, writer

LATER = "2030-01-03"
COUNT = 4
NAMES = [f"urn:imei:{350000000000000 + number}" for number in range(COUNT)]
STRANGERS = [f"urn:imei:{390000000000000 + number}" for number in range(3)]


async def opened(path: Path, runtime: Runtime) -> Backend:
    backend = Backend(runtime, replace(CONFIG, db=str(path), listen={"coap": Listen(ADDRESS)}))
    await backend.start()
    return backend


async def monthly(path: Path, runtime: Runtime) -> Backend:
    """A backend of an account that needs licences, and of devices without."""
    backend = await opened(path, runtime)
    face = FakeFace(backend)
    backend.engine.attach("LWM2M", face)  # type: ignore[arg-type]
    face.here.update(NAMES)
    await package(backend)
    await backend.load_devices([{"name": name} for name in NAMES])
    await backend.licences.set_subscription(CONFIG.account, MONTHLY_BILLED, 10)
    return backend


def ids(names: Sequence[str]) -> list[str]:
    return [name.removeprefix("urn:imei:") for name in names]


def licensed(backend: Backend) -> list[str]:
    return [item.device_id for item in backend.licences.from_index(CONFIG.account, 0)]


async def stored(backend: Backend, table: Any) -> list[str]:
    """The device ids in a table."""
    query = select(table.c.device_id).order_by(table.c.device_id)
    found = await backend.writer.read(lambda rows: rows.execute(query).scalars().all())
    return [str(item) for item in found]


def spoil(backend: Backend) -> None:
    """Let the insert of the next campaign fail: one of its devices is in the table already."""
    draft = backend.engine.book.draft

    def known(*arguments: Any) -> Campaign:
        campaign = draft(*arguments)
        member = backend.engine.book.member_for(campaign, ids(NAMES)[0], None, 0.0)
        backend.writer.submit_row(store.ADD_MEMBER, member_row(member))
        backend.engine.book.draft = draft  # type: ignore[method-assign]
        return campaign

    backend.engine.book.draft = known  # type: ignore[assignment,method-assign]


@rules("BR-120", "BR-124")
@virtual
async def test_a_campaign_that_is_not_stored_leaves_no_licence(tmp_path: Path) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        backend = await monthly(tmp_path / "b.db", runtime)
        spoil(backend)
        with pytest.raises(StoreError, match="refused a change"):
            await backend.engine.create(request(NAMES, auto_assign=True))
        assert licensed(backend) == await stored(backend, tables.licences) == []
        assert not backend.engine.book.campaigns
        # Nothing is in the way of the same request.
        await backend.engine.create(request(NAMES, auto_assign=True))
        assert licensed(backend) == await stored(backend, tables.licences) == ids(NAMES)
        await backend.stop()


@rules("BR-120", "BR-124", "BR-165")
@pytest.mark.parametrize("commits", range(1, 8))
@pytest.mark.parametrize("how", ["create", "append", "adopt"])
def test_killed_after_any_commit_no_licence_is_without_its_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, commits: int
) -> None:
    """Every change is a transaction of its own, and after one of them the backend is killed."""

    @virtual
    async def scene() -> None:
        async with Runtime.in_memory(seed=3) as runtime:
            backend = await monthly(tmp_path / "b.db", runtime)
            first, rest = NAMES[:1], NAMES[1:]
            base = request(first, auto_assign=True, start_date=LATER)
            if how != "create":
                campaign = await backend.engine.create(replace(base, auto_add=how == "adopt"))
                await turn(backend)
                assert licensed(backend) == ids(first)
            monkeypatch.setattr(writer, "MAX_BATCH", 1)
            strike_after(backend, commits)
            begun: asyncio.Future[Any] | None = None
            if how == "create":
                wanted = replace(base, devices=tuple(ids(NAMES)))
                begun = asyncio.ensure_future(backend.engine.create(wanted))
            elif how == "append":
                begun = asyncio.ensure_future(backend.engine.append(campaign, ids(rest)))
            else:
                backend.inventory.devices[rest[0]].firmware = "1.0.0"
                backend.engine.consider([backend.inventory.devices[rest[0]]])
            await turn(backend, 1)
            if begun is not None:
                await asyncio.gather(begun, return_exceptions=True)
            kill(backend)
            monkeypatch.undo()
            backend = await opened(tmp_path / "b.db", runtime)
            accepted = sorted(
                member.device_id
                for item in backend.engine.book.campaigns.values()
                for member in item.members.values()
                if member.status != states.REJECTED
            )
            assert sorted(licensed(backend)) == accepted
            assert accepted == await stored(backend, tables.licences)
            await backend.stop()

    scene()


@virtual
async def test_a_campaign_goes_on_without_who_asked_for_it(tmp_path: Path) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        backend = await monthly(tmp_path / "b.db", runtime)
        for good in (False, True):
            if not good:
                spoil(backend)
            asked = asyncio.ensure_future(backend.engine.create(request(NAMES, auto_assign=True)))
            while not backend.engine.book.campaigns:
                await asyncio.sleep(0)
            asked.cancel()
            await turn(backend, 5)
            assert asked.cancelled()
            found = list(backend.engine.book.campaigns.values())
            assert [campaign.status for campaign in found] == [states.SCHEDULED] * good
            assert licensed(backend) == (ids(NAMES) if good else [])
        await backend.stop()


def strike_after(backend: Backend, commits: int) -> None:
    """Kill the backend when so many transactions more have been committed."""
    runner: Any = backend.writer._runner
    run, left = runner.run_inline, commits

    def counted(work: Any) -> Any:
        nonlocal left
        if left == 0:
            raise StoreError("killed")
        result = run(work)
        left -= 1
        return result

    runner.run_inline = counted


# -- what is told of it ---


@asynccontextmanager
async def listened(
    tmp_path: Path, version: int, timing: str = "immediate"
) -> AsyncIterator[tuple[Backend, ScriptedListener]]:
    listener = ScriptedListener()
    config = replace(
        CONFIG,
        db=str(tmp_path / "b.db"),
        timing=timing,
        listen={"coap": Listen(ADDRESS)},
        callback_transport=listener,
    )
    async with Runtime.in_memory(seed=3) as runtime:
        listener.now = runtime.clock.now
        backend = Backend(runtime, config)
        await backend.start()
        await backend.load_devices([{"name": name} for name in NAMES])
        for protocol in ("LWM2M", "OMADM", "HTTP"):
            await backend.add_package(b"x", name=protocol, version="2.0.0", protocol=protocol)
        await backend.callbacks.register(CONFIG.account, version, URL)
        yield backend, listener
        await backend.stop()


KINDS: dict[int, dict[str, Any]] = {
    1: {"kind": FIRMWARE_V1, "protocol": "OMADM", "package": "OMADM"},
    2: {"kind": SOFTWARE_V2, "protocol": "HTTP", "package": "HTTP"},
    3: {"package": "LWM2M"},
}


@rules("BR-046", "BR-127")
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_request_that_failed_is_told_with_its_devices(tmp_path: Path, version: int) -> None:
    @virtual
    async def scene() -> None:
        async with listened(tmp_path, version) as (backend, listener):
            campaign = await backend.engine.create(request(STRANGERS, **KINDS[version]))
            assert campaign.status == states.REQUEST_FAILED
            await turn(backend, 5)
            [arrival] = listener.accepted
            body = arrival.body
            inner = body["upgradeProgress"] if version == 1 else body
            words = {1: ("RequestFailed", "Device Rejected", "upgradeProgress")}
            status, rejected, kind = words.get(
                version, ("CampaignRequestFailed", "DeviceRejected", "campaignProgress")
            )
            assert (body["type"], inner["status"]) == (kind, status)
            assert [
                (item["deviceId"], item["status"], item["resultReason"])
                for item in inner["deviceList"]
            ] == [(device, rejected, campaign.kind.wording.not_found) for device in ids(STRANGERS)]

    scene()


@rules("BR-127")
@virtual
async def test_a_device_that_is_rejected_is_told_once(tmp_path: Path) -> None:
    async with listened(tmp_path, 3) as (backend, listener):
        names = [NAMES[0], STRANGERS[0]]
        await backend.engine.create(request(names, package="LWM2M", start_date=LATER))
        await turn(backend, 5)
        told = [
            (arrival.body["status"], item["deviceId"], item["status"])
            for arrival in listener.accepted
            for item in arrival.body["deviceList"]
        ]
        assert told == [("CampaignRequestPending", ids(STRANGERS)[0], "DeviceRejected")]


@rules("BR-046", "BR-127")
@pytest.mark.parametrize("count", [checks.CHECKED_AT_ONCE, checks.CHECKED_AT_ONCE + 1])
def test_a_long_list_is_told_as_a_short_one(tmp_path: Path, count: int) -> None:
    """Up to 500 devices are checked before the answer, more of them after it."""

    @virtual
    async def scene() -> None:
        async with listened(tmp_path, 3) as (backend, listener):
            names = [f"urn:imei:{390000000000000 + number}" for number in range(count)]
            await backend.engine.create(request(names, package="LWM2M"))
            await turn(backend, 5)
            told = [
                (item["deviceId"], item["status"])
                for arrival in listener.accepted
                for item in arrival.body["deviceList"]
            ]
            assert told == [(device, "DeviceRejected") for device in ids(names)]
            assert listener.accepted[-1].body["status"] == "CampaignRequestFailed"

    scene()


@rules("BR-035", "BR-127")
@virtual
async def test_v1_is_told_of_rejected_devices_with_the_publication(tmp_path: Path) -> None:
    async with listened(tmp_path, 1, "documented") as (backend, listener):
        await backend.engine.create(request(STRANGERS, **KINDS[1]))
        await turn(backend, 5)
        [failed] = listener.accepted
        assert failed.body["upgradeProgress"]["status"] == "RequestFailed"
        assert failed.body["upgradeProgress"]["deviceList"] == []
        await turn(backend, 86_400)
        devices = listener.accepted[1].body["upgradeProgress"]["deviceList"]
        assert [item["status"] for item in devices] == ["Device Rejected"] * 3


@rules("BR-127", "BR-130")
@virtual
async def test_of_a_campaign_that_is_not_stored_nobody_is_told(tmp_path: Path) -> None:
    async with listened(tmp_path, 3) as (backend, listener):
        wanted = request([NAMES[0], *STRANGERS], package="LWM2M", start_date=LATER)
        spoil(backend)
        with pytest.raises(StoreError):
            await backend.engine.create(wanted)
        await turn(backend, 5)
        assert listener.arrivals == []
        query = select(tables.outbox_changes.c.number)
        assert not await backend.writer.read(lambda rows: rows.execute(query).all())


@rules("BR-130", "BR-165")
@virtual
async def test_what_was_to_be_told_outlives_a_kill(tmp_path: Path) -> None:
    listener = ScriptedListener()
    config = replace(
        CONFIG,
        db=str(tmp_path / "b.db"),
        listen={"coap": Listen(ADDRESS)},
        callback_transport=listener,
    )
    async with Runtime.in_memory(seed=3) as runtime:
        backend = Backend(runtime, config)
        await backend.start()
        await backend.add_package(b"x", name="LWM2M", version="2.0.0")
        await backend.callbacks.register(CONFIG.account, 3, URL)
        campaign = await backend.engine.create(request(STRANGERS, package="LWM2M"))
        kill(backend)
        backend.callbacks._outbox.stop()
        backend = Backend(runtime, config)
        await backend.start()
        assert statuses(backend.engine.book.campaigns[campaign.id]) == [states.REJECTED] * 3
        await turn(backend, 5)
        [arrival] = listener.accepted
        assert arrival.body["campaignId"] == campaign.id
        assert arrival.body["status"] == "CampaignRequestFailed"
        assert len(arrival.body["deviceList"]) == 3
        await backend.stop()
