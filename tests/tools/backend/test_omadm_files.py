"""Files for OMA-DM devices: campaigns of API v2 that go through SCOMO, against our own client,
in memory and in virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.device import Device
from agent.files import INSTALLED, files_of
from agent.misbehaviour import Misbehaviour
from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from protocols.http.memory_transport import MemoryHttp
from protocols.omadm.client import OmadmClient
from protocols.omadm.personas import PERSONAS
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_omadm_client import Fleet, campaign_of, equip, fleet
from tests.tools.backend.test_omadm_restart import kill
from tests.tools.backend.virtual import CONFIG, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FILE_V2_OMADM
from tools.backend.campaigns.records import Campaign, CampaignRequest, Member
from tools.backend.faces.base import Ending, FaceEvent, FaceKind
from tools.backend.faces.omadm_component import nodes_of
from tools.backend.inventory import ConfigFile
from tools.backend.timing import DAY, HOUR
from tools.fleet.audit import UNKNOWN, AuditResult, Kind, Target, audit
from tools.fleet.watch import Census, Watch

V2 = "/api/fota/v2"
V3 = "/api/fota/v3"
TEXT = b"interval=60\n" * 100
PATH = "/etc/app.cfg"


def request(made: Fleet, file: ConfigFile, **changes: Any) -> CampaignRequest:
    ids = [made.backend.inventory.devices[name].device_id for name in made.credentials]
    asked = CampaignRequest(
        account=file.account,
        title="",
        package=file.name,
        version_from="",
        version_to=file.version_to,
        start_date="2030-01-01",
        end_date="2030-01-04",
        devices=tuple(ids),
        kind=FILE_V2_OMADM,
        protocol="OMADM",
    )
    return replace(asked, **changes)


async def stored(made: Fleet, content: bytes = TEXT, version: str = "7") -> ConfigFile:
    return await made.backend.add_file(
        content, filename="app.cfg", version=version, path=PATH, protocol="OMADM"
    )


async def campaign_for(made: Fleet, content: bytes = TEXT, **changes: Any) -> Campaign:
    file = await stored(made, content)
    return await made.backend.engine.create(request(made, file, **changes))


async def power_on(made: Fleet, options: dict[str, str] | None = None, **settings: Any) -> None:
    made.spawn({"push": "2948", **(options or {})}, **settings)
    for device in made.devices:
        device.power_on()
        await made.attach(device)
    await made.runtime.clock.sleep(10)


def inventory(device: Device, campaign: Campaign) -> dict[str, str]:
    """What the device's own tree says of a file, empty where it has none of it."""
    client = device.client
    assert isinstance(client, OmadmClient)
    tree = client._talker.tree(None)
    name = nodes_of_name(campaign)
    found = {}
    for leaf in (
        "Delivered/{}/PkgID",
        "Delivered/{}/Name",
        "Delivered/{}/Description",
        "Delivered/{}/State",
        "Deployed/{}/State",
        "Deployed/{}/PkgIDRef",
    ):
        uri = f"./SCOMO/Inventory/{leaf.format(name)}"
        if tree.exists(uri):
            found[leaf.replace("/{}/", ".")] = str(tree.value(uri))
    return found


def nodes_of_name(campaign: Campaign) -> str:
    """The name of a component."""
    return nodes_of(campaign.package)[0].rpartition("/")[2]


def only(campaign: Campaign) -> Member:
    [member] = campaign.members.values()
    return member


@rules("BR-140", "BR-141")
@pytest.mark.parametrize("encoding", ["xml", "wbxml"])
@pytest.mark.parametrize("spelling", ["OMD-DM", "OMA"])
@virtual
async def test_a_customers_campaign(spelling: str, encoding: str) -> None:
    async with fleet(2) as made, logged_in(made.backend) as api:
        await power_on(made, {"encoding": encoding})
        account = made.backend.account.name
        known = [made.backend.inventory.devices[name] for name in made.credentials]
        answer = await api.post(
            f"{V2}/files/{account}",
            data={
                "fileVersion": "7",
                "make": known[0].make,
                "model": known[0].model,
                "localTargetPath": PATH,
                "distributionType": spelling,
            },
            files={"fileupload": ("app.cfg", TEXT)},
        )
        name = answer.json()["fileName"]
        body = {
            "fileName": name,
            "fileVersion": "7",
            "distributionType": spelling,
            "startDate": "2030-01-01",
            "endDate": "2030-01-02",
            "downloadTimeWindowList": [{"startTime": "0", "endTime": "24"}],
            "deviceList": [device.device_id for device in known],
        }
        answer = await api.post(f"{V2}/campaigns/files/{account}", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["distributionType"] == "OMD-DM"
        campaign = made.backend.engine.book.campaigns[answer.json()["id"]]
        await made.until(campaign)
        report = await api.get(f"{V2}/reports/{account}/campaigns/{campaign.id}/devices")
        assert [(item["status"], item["resultReason"]) for item in report.json()["deviceList"]] == [
            ("UpgradeSuccess", "DownloadInstallSucceeded")
        ] * 2, made.lines
        listed = await api.get(f"{V3}/devices/{account}", params={"protocol": spelling})
        for item in listed.json()["deviceList"]:
            [file] = item["fileList"]
            assert (file["name"], file["version"]) == (name, "7")
            assert file["upgradeTime"] == item["upgradeTime"] != "01/01/1900 0:0:0"
            # Its firmware is the one that it came with.
            [software] = item["softwareList"]
            assert software["upgradeTime"] == "01/01/1900 0:0:0"
        for device in made.devices:
            assert inventory(device, campaign) == {
                "Delivered.PkgID": campaign.digest,
                "Delivered.Name": name,
                "Delivered.Description": "7",
                "Delivered.State": "20",
                "Deployed.State": "20",
                "Deployed.PkgIDRef": campaign.digest,
            }
            # A file is no firmware.
            assert made.backend.inventory.devices[device.name].firmware == "1.0.0"


@virtual
async def test_requests_that_are_refused() -> None:
    async with fleet(1) as made, logged_in(made.backend) as api:
        ours = await stored(made)
        http = await made.backend.add_file(TEXT, filename="other.cfg", version="7")
        [known] = (made.backend.inventory.devices[name] for name in made.credentials)
        path = f"{V2}/campaigns/files/{made.backend.account.name}"
        for file, distribution, version in (
            (ours, "HTTP", "7"),
            (http, "OMD-DM", "7"),
            (ours, "LWM2M", "7"),
            (ours, "OMD-DM", "8"),
        ):
            body = {
                "fileName": file.name,
                "fileVersion": version,
                "distributionType": distribution,
                "startDate": "2030-01-01",
                "endDate": "2030-01-02",
                "downloadTimeWindowList": [],
                "deviceList": [known.device_id],
            }
            answer = await api.post(path, json=body)
            assert answer.status_code == 400, (distribution, version)
        assert made.backend.engine.book.campaigns == {}


@virtual
async def test_a_newer_version_takes_the_place_of_the_older_one() -> None:
    async with fleet(1) as made:
        await power_on(made)
        first = await campaign_for(made)
        await made.until(first)
        file = await stored(made, b"interval=30\n", "8")
        second = await made.backend.engine.create(request(made, file))
        await made.until(second)
        assert only(second).status == states.SUCCESS
        [device] = made.devices
        shown = inventory(device, second)
        assert first.digest != second.digest
        assert (shown["Delivered.PkgID"], shown["Deployed.PkgIDRef"]) == (second.digest,) * 2
        assert shown["Delivered.Description"] == "8"


@virtual
async def test_what_is_delivered_already_is_only_installed() -> None:
    async with fleet(1) as made:
        await power_on(made)
        await made.until(await campaign_for(made))
        again = await campaign_for(made)
        await made.until(again)
        assert (only(again).status, only(again).attempts) == (states.SUCCESS, 1)


@rules("BR-013", "BR-017")
@virtual
async def test_windows_and_dates_are_kept_for_the_device() -> None:
    async with fleet(1) as made:
        await power_on(made)
        start = made.backend.time.now()
        assert start % DAY < HOUR
        campaign = await campaign_for(
            made,
            windows=((3, 5),),
            install_windows=((20, 22),),
            download_after="2030-01-02",
            install_after="2030-01-03",
        )
        member, clock = only(campaign), made.runtime.clock
        await clock.sleep(DAY + 2 * HOUR)
        assert (member.attempts, member.position.name) == (0, "WAITING")
        await clock.sleep(2 * HOUR)
        assert (member.attempts, member.position.name) == (1, "DOWNLOADED")
        [device] = made.devices
        assert inventory(device, campaign)["Delivered.State"] == "10"
        await clock.sleep(DAY + 15 * HOUR)
        assert member.position.name == "DOWNLOADED"
        await clock.sleep(2 * HOUR)
        assert (member.status, member.attempts) == (states.SUCCESS, 1), made.lines[-10:]


@virtual
async def test_a_file_that_does_not_fit() -> None:
    async with fleet(1) as made:
        await power_on(made)
        campaign = await campaign_for(made, bytes(5 << 20))
        await made.until(campaign)
        member = only(campaign)
        assert (member.status, member.ending) == (states.FAILED, Ending.NO_SPACE)
        assert member.reason == "RovaClientDownloadFailed"
        assert inventory(made.devices[0], campaign) == {}


@virtual
async def test_a_success_that_the_inventory_does_not_show() -> None:
    async with fleet(1) as made:
        await power_on(made, misbehave=lambda _device: frozenset({Misbehaviour.FALSE_SUCCESS}))
        campaign = await campaign_for(made, bytes(5 << 20))
        await made.until(campaign)
        member = only(campaign)
        assert (member.status, member.ending) == (states.FAILED, Ending.WRONG_VERSION)
        assert member.said == "result 1200, and the component is not there"


@virtual
async def test_the_audit_looks_for_the_files_by_their_digests() -> None:
    async with fleet(2) as made:
        await power_on(made)
        campaign = await campaign_for(made)
        await made.until(campaign)
        target = Target("1.0.0", b"")

        def judged() -> AuditResult:
            truths = [Watch(one, target, Census(1)).truth("omadm") for one in made.devices]
            beliefs = made.backend.beliefs()
            files = {name: replace(UNKNOWN, files=one.files) for name, one in beliefs.items()}
            return audit(truths, files, target)

        digest = hashlib.sha256(TEXT).hexdigest()
        for name in made.credentials:
            [believed] = made.backend.belief(name).files
            assert (believed.sha256, believed.verdict) == (digest, "updated")
        assert judged() == AuditResult(2, 0, 0, ())
        # Something on the device goes wrong, and nobody reports it.
        [(key, _)] = made.devices[0].nvm.items(INSTALLED)
        made.devices[0].nvm.delete(INSTALLED, key)
        [difference] = judged().differences
        assert (difference.kind, difference.device) == (Kind.FALSE_SUCCESS, made.devices[0].name)


@virtual
async def test_a_device_that_never_reports_is_looked_at() -> None:
    async with fleet(1) as made:
        await power_on(made, misbehave=lambda _device: frozenset({Misbehaviour.NEVER_REPORT}))
        campaign = await campaign_for(made)
        await made.until(campaign, 4 * HOUR)
        assert (only(campaign).status, only(campaign).attempts) == (states.SUCCESS, 1)


@virtual
async def test_a_device_that_loses_power_at_any_moment() -> None:
    for moment in range(1, 60, 4):
        async with fleet(1) as made:
            await power_on(made)
            campaign = await campaign_for(made)
            [device] = made.devices
            await made.runtime.clock.sleep(moment * 0.05)
            device.power_off()
            await made.runtime.clock.sleep(5)
            device.power_on()
            await made.attach(device)
            await made.until(campaign, 6 * HOUR)
            assert only(campaign).status == states.SUCCESS, (moment, only(campaign).said)
            [file] = files_of(device.nvm)
            digest = hashlib.sha256(TEXT).hexdigest()
            assert (file.version, file.sha256, file.active) == ("7", digest, True)


@rules("BR-043", "BR-044")
@virtual
async def test_one_action_at_a_time() -> None:
    async with fleet(1) as made:
        made.spawn({"push": "2948"})
        [device] = made.devices
        firmware = await campaign_of(made, "pull")
        file = await campaign_for(made)
        members = only(firmware), only(file)
        most = 0

        def count() -> None:
            nonlocal most
            most = max(most, sum(member.active for member in members))

        await made.runtime.clock.sleep(60)
        count()
        assert [member.active for member in members] == [True, False]
        device.power_on()
        await made.attach(device)
        end = made.runtime.clock.now() + HOUR
        while states.ENDED not in (firmware.status, file.status) or firmware.status != file.status:
            assert made.runtime.clock.now() < end, (members, made.lines[-10:])
            await made.runtime.clock.sleep(0.1)
            count()
        assert most == 1
        assert [member.status for member in members] == [states.SUCCESS] * 2
        assert inventory(device, file)["Deployed.State"] == "20"
        assert made.backend.inventory.devices[device.name].firmware == "2.0.0"


@virtual
async def test_an_upgrade_that_waits_in_the_network_begins_after_the_file() -> None:
    async with fleet(1) as made:
        made.spawn({"push": "2948"})
        [device] = made.devices
        firmware = await campaign_of(made, "pull")
        upgrade = only(firmware)
        await made.runtime.clock.sleep(1)
        made.backend.engine.face_event(
            FaceEvent(device.name, FaceKind.FINAL, Ending.TIMEOUT, "nothing came")
        )
        assert upgrade.queued
        file = await campaign_for(made)
        await made.runtime.clock.sleep(1)
        assert only(file).active
        device.power_on()
        await made.attach(device)
        await made.until(file)
        await made.runtime.clock.sleep(600)
        assert only(file).status == states.SUCCESS
        assert (upgrade.status, upgrade.attempts, upgrade.queued) == (states.SUCCESS, 2, False)


@pytest.mark.parametrize("persona", sorted(PERSONAS))
@virtual
async def test_every_persona(persona: str) -> None:
    async with fleet(1) as made:
        await power_on(made, {"persona": persona})
        campaign = await campaign_for(made)
        await made.until(campaign, 2 * DAY)
        assert only(campaign).status == states.SUCCESS, only(campaign).said


@asynccontextmanager
async def killed_at(point: int, when: str, config: Any) -> AsyncIterator[tuple[Fleet, Any]]:
    """A fleet of one, at a backend that is killed at its `point`-th message from now on."""
    async with Runtime.in_memory(seed=7) as runtime:
        backend = Backend(runtime, config)
        await backend.start()
        made = await equip(backend, 1, "md5")
        state = {"count": 0, "kills": 0}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            state["count"] += scope["method"] == "POST"
            if state["kills"] or state["count"] != point:
                await made.backend.omadm_app(scope, receive, send)
                return
            state["kills"] = 1
            if when == "after":

                async def lost(_event: Any) -> None:
                    """The answer does not arrive."""

                await made.backend.omadm_app(scope, receive, lost)
            kill(made.backend)
            made.backend = Backend(runtime, config)
            await made.backend.start()
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        try:
            await power_on(made)
            assert isinstance(runtime.http, MemoryHttp)
            runtime.http.serve(made.backend.omadm_url.removesuffix("/dm"), app)
            yield made, state
        finally:
            await made.switch_off()
            await made.backend.stop()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", range(1, 16))
def test_killed_at_each_message(tmp_path: Path, point: int, when: str) -> None:
    async def main() -> None:
        config = replace(CONFIG, db=str(tmp_path / "b.db"))
        async with killed_at(point, when, config) as (made, state):
            number = (await campaign_for(made)).id
            clock = made.runtime.clock
            end = clock.now() + 6 * HOUR
            while made.backend.engine.book.campaigns[number].status != states.ENDED:
                assert clock.now() < end, made.lines[-20:]
                await clock.sleep(0.5)
            member = only(made.backend.engine.book.campaigns[number])
            assert (member.status, member.attempts) == (states.SUCCESS, 1), member.said
            assert inventory(made.devices[0], member.campaign)["Deployed.State"] == "20"
            assert state["kills"] == (state["count"] >= point)

    run_virtual(main())
