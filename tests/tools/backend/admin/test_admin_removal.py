"""Removing devices, accounts and files: who is refused, and that nothing of them is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.http_device import HttpDevice
from tests.tools.backend.rest_client import administrator, basic
from tests.tools.backend.store.schemas import contents
from tests.tools.backend.virtual import CONFIG, IMAGE, started, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FILE_V2
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.errors import StoreUnavailable
from tools.backend.page.feed import Topic
from tools.backend.store import rows
from tools.backend.timing import DAY, date_text

OTHER = "0000000000-00002"
NAME, ID = "urn:imei:350000000000001", "350000000000001"
NEIGHBOUR = "urn:imei:350000000000002"
BOTH = "TS-HFOTA-EVNT,TS-HFOTA-MRC"


@asynccontextmanager
async def served(
    tmp_path: Path,
) -> AsyncIterator[tuple[Runtime, Backend, httpx.AsyncClient]]:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with (
        Runtime.in_memory(seed=7) as runtime,
        started(runtime, config) as backend,
        administrator(backend) as admin,
    ):
        yield runtime, backend, admin


async def ask(admin: httpx.AsyncClient, method: str, path: str, **more: Any) -> Any:
    answer = await admin.request(method, path, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(admin: httpx.AsyncClient, path: str, text: str) -> None:
    answer = await admin.delete(path)
    assert answer.status_code == 409, answer.text
    assert answer.json()["errorCode"] == "CONFLICT"
    assert text in answer.json()["errorMessage"]


async def mentions(backend: Backend, words: Iterable[str]) -> set[str]:
    """The tables with a row in which one of the words is."""
    found = await backend.writer.read(contents)
    wanted = set(words)
    return {name for name, held in found.items() for row in held if wanted & set(row.values())}


async def run_to_its_end(backend: Backend, campaign: Campaign) -> None:
    await backend.engine.cancel(campaign)
    await backend.runtime.clock.sleep(1)
    assert campaign.final and not campaign.active


async def live(backend: Backend, account: str, name: str, device_id: str) -> HttpDevice:
    """A device with something in every table that knows devices; its campaign has ended."""
    record = {"name": name, "deviceId": device_id, "account": account}
    await backend.load_devices([record])
    await backend.mint_dm_accounts([name])
    await backend.load_devices([{**record, "token": f"token-{device_id}"}])  # HTTP from now on
    owner = await backend.licences.set_subscription(account, BOTH, 5)
    await backend.licences.assign(owner, [device_id])
    await backend.licences.list_candidates(owner, [device_id], append=True)
    await backend.operator.attach(name, "north", None)
    await backend.operator.submit(name, b"pdu", 3600.0)
    device = backend.inventory.devices[name]
    await backend.logs.enable(account, [device])
    await backend.logs.add(
        name, {"log_time": "", "log_type": "x", "event": "e", "binary": "", "filename": ""}
    )
    await backend.firmware_sync.request(device, f"sync-{device_id}")
    firmware = await backend.add_package(
        IMAGE + account.encode(), name="app", version="2", protocol="HTTP", account=account
    )
    campaign = await backend.create_campaign([name], firmware)
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=backend.device_app), base_url=backend.http_url
    )
    wire = HttpDevice(client, name, f"token-{device_id}")
    while "campaign" not in (answer := await wire.check_in()):
        await backend.runtime.clock.sleep(1)
    await wire.update(answer["campaign"])
    assert campaign.members[name].status == states.SUCCESS
    await backend.runtime.clock.sleep(1)
    assert campaign.final
    return wire


OF_DEVICES = {
    "devices",
    "licences",
    "cancellations",
    "attachments",
    "short_messages",
    "logging",
    "logs",
    "firmware_syncs",
    "attempts",
    "reports",
    "check_ins",
    "dm_accounts",
    "campaign_devices",
}


@virtual
async def test_nothing_of_a_device_is_left(tmp_path: Path) -> None:
    async with served(tmp_path) as (runtime, backend, admin):
        account = backend.account.name
        wire = await live(backend, account, NAME, ID)
        await wire.check_in()
        await live(backend, account, NEIGHBOUR, "350000000000002")
        words = (NAME, ID)
        assert await mentions(backend, words) == OF_DEVICES
        other = await mentions(backend, (NEIGHBOUR, "350000000000002"))
        [first, _second] = backend.engine.book.campaigns.values()
        assert backend.belief(NAME).verdict == "updated"
        answer = await ask(admin, "DELETE", f"/admin/devices/{ID}")
        assert (answer["name"], answer["deviceId"]) == (NAME, ID)
        # The campaign's own record of it stays, and nothing else.
        assert await mentions(backend, words) == {"campaign_devices"}
        assert await mentions(backend, (NEIGHBOUR, "350000000000002")) == other
        assert first.members[NAME].status == states.SUCCESS
        assert backend.licences.used(account) == 1
        assert ID not in backend.licences.candidates(backend.account)
        assert backend.operator.attachment(NAME) is None and not backend.operator.monitored(ID)
        assert backend.operator.waiting(ID) == 0
        assert backend.seen(NAME) is None and NAME not in backend.unknown_identities()
        assert backend.omadm.account(NAME) is None
        assert (await wire.post("/checkin", json=wire.checkin_body())).status_code == 401
        for path in (f"/admin/devices/{NAME}", f"/page/api/devices/{ID}"):
            assert (await admin.get(path)).status_code in (400, 404)
        shown = await ask(admin, "GET", f"/page/api/campaigns/{first.id}/devices")
        assert [row["known"] for row in shown["members"]] == [False]
        gone = await admin.delete(f"/admin/devices/{NAME}")
        assert (gone.status_code, gone.json()["errorMessage"]) == (400, "Device does not exist.")


@virtual
async def test_a_device_that_comes_back_has_no_past(tmp_path: Path) -> None:
    async with served(tmp_path) as (runtime, backend, admin):
        account = backend.account.name
        await live(backend, account, NAME, ID)
        await ask(admin, "DELETE", f"/admin/devices/{NAME}")
        await runtime.clock.sleep(1)
        record = {"name": NAME, "deviceId": ID}
        await backend.load_devices([record])

        async def has_no_past(backend: Backend) -> None:
            assert backend.engine.book.members_of(NAME) == []
            assert await backend.engine.attempts(NAME) == []
            assert backend.belief(NAME).verdict == "unknown"
            assert not backend.licences.holds(ID)
            assert backend.inventory.devices[NAME].token == ""

        await has_no_past(backend)
        await backend.stop()
        async with started(runtime, replace(CONFIG, db=str(tmp_path / "b.db"))) as again:
            await has_no_past(again)
            [former] = again.engine.book.campaigns.values()
            assert former.members[NAME].status == states.SUCCESS
            # It can be in a campaign as any other.
            firmware = await again.add_package(IMAGE, name="new", version="3")
            campaign = await again.create_campaign([NAME], firmware)
            assert again.engine.book.members_of(NAME) == [campaign.members[NAME]]


@virtual
async def test_a_device_that_is_wanted_stays(tmp_path: Path) -> None:
    async with served(tmp_path) as (_runtime, backend, admin):
        await backend.load_devices([{"name": NAME}, {"name": NEIGHBOUR}])
        firmware = await backend.add_package(IMAGE, name="app", version="2")
        campaign = await backend.create_campaign([NAME], firmware)
        await refused(admin, f"/admin/devices/{NAME}", campaign.id)
        assert NAME in backend.inventory.devices
        await ask(admin, "DELETE", f"/admin/devices/{NEIGHBOUR}")  # nobody wants it
        await run_to_its_end(backend, campaign)
        await ask(admin, "DELETE", f"/admin/devices/{NAME}")
        assert not backend.inventory.devices


@virtual
async def test_a_device_whose_checks_are_to_come_stays(tmp_path: Path) -> None:
    async with served(tmp_path) as (_runtime, backend, admin):
        await backend.load_devices([{"name": NAME}])
        firmware = await backend.add_package(IMAGE, name="app", version="2")
        campaign = await backend.create_campaign([NAME], firmware)
        # As a campaign of many devices is between its request and its checks.
        member = campaign.members[NAME]
        backend.engine.book.close(member)
        campaign.unchecked.append(member)
        await refused(admin, f"/admin/devices/{NAME}", campaign.id)


@virtual
async def test_a_device_in_the_network_queue_stays(tmp_path: Path) -> None:
    async with served(tmp_path) as (_runtime, backend, admin):
        account = backend.account.name
        await backend.load_devices([{"name": f"IMEI:{ID}", "protocol": "OMADM"}])
        firmware = await backend.add_package(IMAGE, name="app", version="2", protocol="OMADM")
        campaign = await backend.create_campaign([f"IMEI:{ID}"], firmware)
        member = campaign.members[f"IMEI:{ID}"]
        await run_to_its_end(backend, campaign)
        member.queued = True
        backend.engine.book.enqueue(member)
        await refused(admin, f"/admin/devices/IMEI:{ID}", "waits in the network")
        await backend.load_devices([{"name": NEIGHBOUR}])
        assert await backend.engine.unqueue(member.device)
        await ask(admin, "DELETE", f"/admin/devices/IMEI:{ID}")
        assert backend.inventory.count(account) == 1


@virtual
async def test_what_could_not_be_removed_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as (_runtime, backend, admin):
        await ask(admin, "POST", "/admin/accounts", json={"name": OTHER})
        wire = await live(backend, OTHER, NAME, ID)
        right = backend.writer.submit

        async def fail(_work: object) -> None:
            raise StoreUnavailable("the disk is full")

        monkeypatch.setattr(backend.writer, "submit", fail)
        for path in (f"/admin/devices/{NAME}", f"/admin/accounts/{OTHER}?everything=true"):
            answer = await admin.delete(path)
            assert answer.status_code == 503, answer.text
        monkeypatch.setattr(backend.writer, "submit", right)
        assert backend.inventory.count(OTHER) == 1
        known = backend.inventory.devices[NAME]
        assert backend.inventory.by_token(f"token-{ID}".encode()) is known
        assert backend.licences.holds(ID) and backend.operator.cell_of(ID) == "north"
        await wire.check_in()
        await ask(admin, "DELETE", f"/admin/accounts/{OTHER}?everything=true")


# -- accounts ---


@virtual
async def test_an_account_that_is_used_stays(tmp_path: Path) -> None:
    async with served(tmp_path) as (_runtime, backend, admin):
        await refused(admin, f"/admin/accounts/{backend.account.name}", "the backend's own")
        await ask(admin, "POST", "/admin/accounts", json={"name": OTHER, "pilotWaived": True})
        await backend.load_devices([{"name": NAME, "account": OTHER}])
        firmware = await backend.add_package(IMAGE, name="app", version="2", account=OTHER)
        campaign = await backend.create_campaign([NAME], firmware)
        for more in ("", "?everything=true"):
            await refused(admin, f"/admin/accounts/{OTHER}{more}", campaign.id)
        await run_to_its_end(backend, campaign)
        said = "1 devices, 1 campaigns that have ended, 1 firmwares"
        await refused(admin, f"/admin/accounts/{OTHER}", said)
        assert backend.inventory.count(OTHER) == 1
        missing = await admin.delete("/admin/accounts/0000000000-00009")
        assert missing.status_code == 400


@virtual
async def test_an_account_without_anything_goes(tmp_path: Path) -> None:
    async with served(tmp_path) as (_runtime, backend, admin):
        made = await ask(admin, "POST", "/admin/accounts", json={"name": OTHER})
        answer = await ask(admin, "DELETE", f"/admin/accounts/{OTHER}")
        assert answer["name"] == OTHER and made["secret"] not in str(answer)
        assert await mentions(backend, [OTHER]) == set()
        await ask(admin, "POST", "/admin/accounts", json={"name": OTHER})


@virtual
async def test_nothing_of_an_account_is_left(tmp_path: Path) -> None:
    async with served(tmp_path) as (runtime, backend, admin):
        own = backend.account.name
        secret = (await ask(admin, "POST", "/admin/accounts", json={"name": OTHER}))["secret"]
        await backend.callbacks.register(OTHER, 2, "http://127.0.0.1:9/never")
        await live(backend, own, NEIGHBOUR, "350000000000002")
        await live(backend, OTHER, NAME, ID)
        file = await backend.add_file(b"setting", filename="f.txt", version="1", account=OTHER)
        [campaign] = [
            item for item in backend.engine.book.campaigns.values() if item.account == OTHER
        ]
        rest = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=backend.app), base_url="http://rest"
        )
        token = (
            await rest.post(
                "/api/ts/v1/oauth2/token",
                headers=basic(OTHER, secret),
                data={"grant_type": "client_credentials"},
            )
        ).json()["access_token"]
        looked = backend.page.feed.open(Topic("campaigns"))
        words = (OTHER, NAME, ID, campaign.id, campaign.digest, file.digest)
        assert {"accounts", "listeners", "outbox", "contents", "state_samples"} <= await mentions(
            backend, words
        )
        before = await mentions(backend, [own, NEIGHBOUR])
        answer = await ask(admin, "DELETE", f"/admin/accounts/{OTHER}?everything=true")
        assert (answer["name"], answer["deviceCount"], answer["licensesUsed"]) == (OTHER, 1, 1)
        assert await mentions(backend, words) == set()
        assert await mentions(backend, [own, NEIGHBOUR]) == before
        assert b'"topic":"campaigns"' in looked.pending["removed"]
        backend.page.feed.close(looked)
        assert list(backend.inventory.accounts) == [own]
        assert campaign.id not in backend.engine.book.campaigns
        assert backend.callbacks.listener(OTHER, 2) is None and not backend.callbacks.pending()
        login = await rest.post(
            "/api/m2m/v1/session/login",
            headers={"Authorization": f"Bearer {token}"},
            json={"username": OTHER, "password": secret},
        )
        assert login.status_code == 401
        await rest.aclose()
        assert (await ask(admin, "GET", "/page/api/summary"))["accounts"] == [own]
        # Once more after a restart; and the id of its campaign is nobody else's.
        await backend.stop()
        async with started(runtime, replace(CONFIG, db=str(tmp_path / "b.db"))) as again:
            assert list(again.inventory.accounts) == [own]
            assert await mentions(again, words) == set()
            async with administrator(again) as admin_again:
                await ask(admin_again, "POST", "/admin/accounts", json={"name": OTHER})
            await again.load_devices([{"name": NAME, "account": OTHER}])
            firmware = await again.add_package(IMAGE, name="app", version="2", account=OTHER)
            fresh = await again.create_campaign([NAME], firmware)
            assert fresh.number > campaign.number and fresh.id != campaign.id


@virtual
async def test_an_account_may_end_its_subscription(tmp_path: Path) -> None:
    async with served(tmp_path) as (_runtime, backend, admin):
        own = backend.account.name
        await backend.load_devices([{"name": NAME}])
        await backend.licences.set_subscription(own, "TS-HFOTA-MRC", 5)
        await backend.licences.assign(backend.account, [ID])
        answer = await ask(admin, "DELETE", f"/admin/accounts/{own}/subscription")
        assert (answer["purchaseType"], answer["licenseCount"], answer["licensesUsed"]) == (
            "TS-HFOTA-EVNT",
            0,
            0,
        )
        assert await mentions(backend, [ID]) == {"devices"}


# -- files ---


@virtual
async def test_files_are_listed_and_removed(tmp_path: Path) -> None:
    async with served(tmp_path) as (_runtime, backend, admin):
        await backend.mint_tokens(
            [device.name for device in await backend.load_devices([{"name": NAME}])]
        )
        file = await backend.add_file(IMAGE, filename="a/b.txt", version="1")
        twin = await backend.add_package(IMAGE, name="twin", version="2", protocol="HTTP")
        [shown] = (await ask(admin, "GET", "/admin/files"))["files"]
        assert (shown["fileName"], shown["size"], shown["sha256"]) == (
            file.name,
            len(IMAGE),
            twin.digest,
        )
        now = backend.time.now()
        request = CampaignRequest(
            account=backend.account.name,
            title="",
            package=file.name,
            version_from="",
            version_to="1",
            start_date=date_text(now),
            end_date=date_text(now + DAY),
            devices=(ID,),
            kind=FILE_V2,
            protocol="HTTP",
        )
        campaign = await backend.engine.create(request)
        await refused(admin, f"/admin/files/{file.name}", campaign.id)
        await run_to_its_end(backend, campaign)
        assert (await ask(admin, "DELETE", f"/admin/files/{file.name}"))["fileName"] == file.name
        assert (await ask(admin, "GET", "/admin/files"))["files"] == []
        assert (await admin.delete(f"/admin/files/{file.name}")).status_code == 400
        # The bytes are there as long as somebody has the same.
        body = await backend.writer.read(lambda one: rows.load_content(one, twin.digest))
        assert body == IMAGE
