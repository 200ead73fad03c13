"""The device wire in process and in virtual time: orders, reports, windows, ends, races."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from agent.outcome import Outcome
from tests.tools.backend.http_device import HttpDevice, devices, in_process
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, IMAGE, virtual, world
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FILE_V2, SOFTWARE_V2
from tools.backend.campaigns.reasons import REASONS as API_REASONS
from tools.backend.campaigns.records import Campaign, CampaignRequest, Member
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Ending, Position
from tools.backend.faces.http_wire import REASONS
from tools.backend.inventory import ConfigFile, Firmware
from tools.backend.timing import DAY, HOUR

FIRST = "2030-01-01"
LAST = "2030-01-07"


@asynccontextmanager
async def fleet(
    count: int = 1, **changes: Any
) -> AsyncIterator[tuple[Backend, list[HttpDevice], Firmware]]:
    config = replace(CONFIG, **changes)
    async with world(config) as backend, in_process(backend) as client:
        made = await devices(backend, client, count)
        firmware = await backend.add_package(
            IMAGE, name="app", version="2.0.0", version_from="1.0.0", protocol="HTTP"
        )
        yield backend, made, firmware


async def campaign_of(
    backend: Backend, fleet: list[HttpDevice], deliverable: Firmware | ConfigFile, **changes: Any
) -> Campaign:
    kind = SOFTWARE_V2 if isinstance(deliverable, Firmware) else FILE_V2
    base = CampaignRequest(
        account=CONFIG.account,
        title="",
        package=deliverable.name,
        version_from=deliverable.version_from,
        version_to=deliverable.version_to,
        start_date=FIRST,
        end_date=LAST,
        devices=tuple(device.name.removeprefix("urn:imei:") for device in fleet),
        protocol="HTTP",
        kind=kind,
    )
    campaign = await backend.engine.create(replace(base, **changes))
    await backend.runtime.clock.sleep(0.1)
    return campaign


def member_of(campaign: Campaign, device: HttpDevice) -> Member:
    return campaign.members[device.name]


async def history(backend: Backend, device: HttpDevice) -> list[tuple[str, str]]:
    return [(row["result"], row["failure"]) for row in await backend.logs.check_ins(device.name)]


@virtual
async def test_a_device_takes_an_order_and_ends_it() -> None:
    async with fleet() as (backend, [device], firmware):
        answer = await device.check_in(reason="power-up")
        assert "campaign" not in answer
        assert answer["serverTime"] == "2030-01-01T00:00:00.000Z"
        assert answer["nextCheckIn"] == 5
        assert answer["logging"] == {"on": False}
        campaign = await campaign_of(backend, [device], firmware)
        member = member_of(campaign, device)
        assert (campaign.status, member.status) == (states.SCHEDULED, states.ACCEPTED)
        order = (await device.check_in())["campaign"]
        assert order == {
            "id": campaign.id,
            "kind": "firmware",
            "name": "app",
            "to": "2.0.0",
            "url": f"http://backend/device/v1/packages/{firmware.digest}",
            "size": len(IMAGE),
            "sha256": hashlib.sha256(IMAGE).hexdigest(),
            "dates": {"start": FIRST, "end": LAST},
            "windows": {"download": [], "install": []},
        }
        assert (member.status, member.position) == (states.PENDING, Position.OFFERED)
        assert await device.update(order) == IMAGE
        assert (member.status, member.reason) == (states.SUCCESS, "DownloadInstallSucceeded")
        assert campaign.status == states.ENDED
        assert backend.finished.is_set()
        after = await device.check_in()
        assert "campaign" not in after
        assert "cancel" not in after
        belief = backend.belief(device.name)
        assert (belief.verdict, belief.version) == ("updated", "2.0.0")
        assert await history(backend, device) == [
            ("NoUpdate", "None"),
            ("UpdateOffered", "None"),
            ("NoUpdate", "None"),
        ]


@virtual
async def test_the_order_is_given_again_until_the_end() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        first = (await device.check_in())["campaign"]
        current = {"campaignId": campaign.id, "state": "downloading", "offset": 5}
        again = (await device.check_in(current=current))["campaign"]
        assert again == first
        assert member_of(campaign, device).attempts == 1
        assert member_of(campaign, device).position == Position.DOWNLOADING
        assert (await history(backend, device))[0] == ("UpdateInProgress", "None")
        await device.check_in(current={**current, "state": "downloaded"})
        assert member_of(campaign, device).position == Position.DOWNLOADED
        await device.check_in(current={**current, "state": "installing"})
        assert member_of(campaign, device).position == Position.INSTALLING


@virtual
async def test_each_step_is_durable_before_it_is_answered() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        order = (await device.check_in())["campaign"]
        member = member_of(campaign, device)
        for state, position in (
            ("downloading", Position.DOWNLOADING),
            ("downloaded", Position.DOWNLOADED),
            ("installing", Position.INSTALLING),
        ):
            await device.told(order["id"], state)
            assert member.position == position
            stored = await backend.writer.read(
                lambda connection: connection.exec_driver_sql(
                    "SELECT position, executed FROM campaign_devices"
                ).all()
            )
            assert stored == [(position, position == Position.INSTALLING)]


@virtual
async def test_a_report_may_come_twice_late_and_in_any_order() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        order = (await device.check_in())["campaign"]
        member = member_of(campaign, device)
        await device.told(order["id"], "downloaded", seq=5)
        for seq in (5, 4, 0):
            await device.told(order["id"], "failed", reason="integrity", seq=seq)
        await device.told(order["id"], "downloading", seq=6)
        assert member.position == Position.DOWNLOADED
        await device.told(order["id"], "installing", seq=7)
        await device.told(order["id"], "installing", seq=8)
        await device.told(order["id"], "success", seq=9)
        await device.told(order["id"], "success", seq=9)
        assert (member.status, member.attempts) == (states.SUCCESS, 1)
        assert (await device.report(order["id"], "success", seq=10)).status_code == 410


@rules("BR-033")
@pytest.mark.parametrize("word", sorted(REASONS))
@virtual
async def test_every_reason_has_its_text(word: str) -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        order = (await device.check_in())["campaign"]
        await device.told(order["id"], "installing")  # no second attempt after this
        await device.told(order["id"], "failed", reason=word)
        member = member_of(campaign, device)
        assert member.status == states.FAILED
        assert member.ending is not None
        assert member.reason == API_REASONS[member.ending].v2
        assert member.said == f"failed: {word}"


def test_the_words_are_the_outcomes_of_the_engine() -> None:
    words = {item.name.lower().replace("_", "-") for item in Outcome if item.name != "SUCCESS"}
    assert set(REASONS) == words
    assert {ending.name.lower().replace("_", "-") for ending in REASONS.values()} == words


@virtual
async def test_a_failure_that_may_pass_is_tried_three_times() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        for attempt in range(1, 4):
            answer = await device.check_in()
            order = answer["campaign"]
            assert (order["id"], "cancel" in answer) == (campaign.id, False)
            await device.told(order["id"], "failed", reason="connection-lost")
            assert member_of(campaign, device).attempts == attempt
            assert "campaign" not in await device.check_in()  # not at once
            await backend.runtime.clock.sleep(3)
        member = member_of(campaign, device)
        assert (member.status, member.reason) == (states.FAILED, "RovaClientDownloadFailed")


@virtual
async def test_success_with_another_version_is_none() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        order = (await device.check_in())["campaign"]
        await device.told(order["id"], "installing")
        await device.told(order["id"], "success", version="1.0.0")
        member = member_of(campaign, device)
        assert (member.status, member.ending) == (states.FAILED, Ending.WRONG_VERSION)
        assert backend.belief(device.name).verdict == "failed"


@rules("BR-054")
@virtual
async def test_an_abort_tells_the_device_to_stop() -> None:
    async with fleet(3) as (backend, [loading, installing, idle], firmware):
        campaign = await campaign_of(backend, [loading, installing, idle], firmware)
        order = (await loading.check_in())["campaign"]
        await loading.told(order["id"], "downloading")
        await installing.check_in()
        await installing.told(order["id"], "installing")
        await backend.engine.cancel(campaign)
        assert campaign.status == states.ABORTED
        assert (await loading.report(order["id"], "installing")).status_code == 409
        assert (await loading.fetch(order["url"])).status_code == 404
        current = {"campaignId": order["id"], "state": "downloading", "offset": 1}
        answer = await loading.check_in(current=current)
        assert answer["cancel"] == [order["id"]]
        assert "campaign" not in answer
        assert (await history(backend, loading))[0] == ("UpdateCancelled", "None")
        assert "cancel" not in await loading.check_in()
        assert "cancel" not in await idle.check_in()  # it never heard of it
        # The one that installs finishes, and its real result counts.
        assert not backend.finished.is_set()
        await installing.told(order["id"], "success")
        assert [member_of(campaign, each).status for each in (loading, installing, idle)] == [
            states.ABORTED,
            states.SUCCESS,
            states.ABORTED,
        ]
        assert backend.finished.is_set()


@virtual
async def test_a_device_that_says_nothing_is_told_of_the_abort_once() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        await device.check_in()
        await backend.engine.cancel(campaign)
        assert (await device.check_in())["cancel"] == [campaign.id]
        assert "cancel" not in await device.check_in()


@virtual
async def test_a_strange_campaign_is_cancelled_and_404() -> None:
    async with fleet(2) as (backend, [mine, other], firmware):
        campaign = await campaign_of(backend, [mine], firmware)
        await mine.check_in()
        for campaign_id in ("nothing", campaign.id):
            assert (await other.report(campaign_id, "success")).status_code == 404
        current = {"campaignId": campaign.id, "state": "downloading"}
        assert (await other.check_in(current=current))["cancel"] == [campaign.id]
        assert (await other.fetch(f"/device/v1/packages/{firmware.digest}")).status_code == 404
        assert member_of(campaign, mine).position == Position.OFFERED


@rules("BR-045")
@virtual
async def test_two_campaigns_race_for_one_device() -> None:
    async with fleet() as (backend, [device], firmware):
        both = await asyncio.gather(
            campaign_of(backend, [device], firmware), campaign_of(backend, [device], firmware)
        )
        results = sorted(member_of(campaign, device).status for campaign in both)
        assert results == [states.ACCEPTED, states.REJECTED]
        loser = next(item for item in both if member_of(item, device).final)
        assert loser.status == states.REQUEST_FAILED
        assert "needs to be completed before" in member_of(loser, device).reason


@rules("BR-043", "BR-044")
@virtual
async def test_a_file_and_a_firmware_one_after_the_other() -> None:
    async with fleet() as (backend, [device], firmware):
        file = await backend.add_file(b"apn=iot", filename="apn.cfg", version="7", path="/etc/apn")
        files = await campaign_of(backend, [device], file)
        images = await campaign_of(backend, [device], firmware)
        order = (await device.check_in())["campaign"]
        assert order["id"] == images.id
        current = {"campaignId": images.id, "state": "downloading"}
        assert (await device.check_in(current=current))["campaign"]["id"] == images.id
        await device.update(order)
        order = (await device.check_in())["campaign"]
        assert order["id"] == files.id
        assert (order["kind"], order["path"], order["to"]) == ("file", "/etc/apn", "7")
        assert order["name"] == "configfile-fotilla_virtual_apn.cfg"
        assert await device.update(order) == b"apn=iot"
        assert member_of(files, device).status == states.SUCCESS
        assert backend.inventory.devices[device.name].firmware == "2.0.0"
        assert backend.belief(device.name).verdict == "updated"


@rules("BR-013", "BR-020")
@virtual
async def test_both_sides_of_the_download_window() -> None:
    async with fleet() as (backend, [device], firmware):
        await campaign_of(
            backend, [device], firmware, windows=((2, 3),), download_after="2030-01-02"
        )
        clock = backend.runtime.clock
        answer = await device.check_in()
        assert "campaign" not in answer
        assert (await history(backend, device))[0] == ("UpdateDeferred", "NotYet")
        await clock.sleep(2 * HOUR)  # inside the hours, before the day
        assert "campaign" not in await device.check_in()
        await clock.sleep(DAY)
        order = (await device.check_in())["campaign"]
        assert order["windows"]["download"] == [{"startTime": 2, "endTime": 3}]
        assert order["dates"]["downloadAfter"] == "2030-01-02"


@rules("BR-018")
@virtual
async def test_a_package_out_of_its_window_says_when() -> None:
    async with fleet(timing="documented") as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware, windows=((0, 1),))
        clock = backend.runtime.clock
        await clock.sleep(700)  # the lead of a pilot
        order = (await device.check_in())["campaign"]
        # Begun inside, it may go on for a slot of four hours; then it waits for the next window.
        for _ in range(4):
            assert (await device.fetch(order["url"], Range="bytes=0-9")).status_code == 206
            await clock.sleep(HOUR)
        answer = await device.fetch(order["url"])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3600")
        await clock.sleep(20 * HOUR - 800)
        assert member_of(campaign, device).attempts == 1
        answer = await device.fetch(order["url"])
        assert answer.status_code == 503
        assert 0 < int(answer.headers["retry-after"]) <= 200
        await clock.sleep(200)
        assert (await device.fetch(order["url"])).status_code == 200


@rules("BR-013")
@virtual
async def test_leave_to_install_is_given_inside_the_window_only() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(
            backend, [device], firmware, install_windows=((3, 4),), install_after="2030-01-02"
        )
        clock = backend.runtime.clock
        order = (await device.check_in())["campaign"]
        assert order["dates"]["installAfter"] == "2030-01-02"
        await device.told(order["id"], "downloaded")
        seq = next(device.seq)
        refused = await device.report(order["id"], "installing", seq=seq)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "3600")
        assert refused.json()["errorCode"] == "OUTSIDE_WINDOW"
        member = member_of(campaign, device)
        assert (member.position, member.executed) == (Position.DOWNLOADED, False)
        await clock.sleep(3 * HOUR)
        refused = await device.report(order["id"], "installing", seq=seq)
        assert refused.status_code == 503  # the hour, but not the day
        await clock.sleep(DAY)
        await device.told(order["id"], "installing", seq=seq)
        await clock.sleep(2 * HOUR)
        await device.told(order["id"], "installing")  # it does already
        await device.told(order["id"], "success")
        assert member.status == states.SUCCESS


@rules("BR-019", "BR-026")
@virtual
async def test_what_the_end_date_finds() -> None:
    async with fleet(4) as (backend, [absent, silent, ready, failed], firmware):
        campaign = await campaign_of(
            backend, [absent, silent, ready, failed], firmware, end_date=FIRST
        )
        order = (await silent.check_in())["campaign"]
        await ready.check_in()
        await ready.told(order["id"], "downloaded")
        await failed.check_in()
        await failed.told(order["id"], "failed", reason="connection-lost")
        await backend.runtime.clock.sleep(2 * DAY)
        assert campaign.status == states.ENDED
        assert [member_of(campaign, each).reason for each in (absent, silent, ready, failed)] == [
            "RovaClientDidNotReportStatus",
            "RovaClientDidNotReportStatus",
            "RovaClientDownloadNotInstalledYet",
            "RovaClientDownloadFailed",
        ]
        assert (await ready.report(order["id"], "installing")).status_code == 410
        assert (await ready.fetch(order["url"])).status_code == 404


@virtual
async def test_a_silent_device_loses_its_place_and_goes_on_later() -> None:
    async with fleet(2) as (backend, [first, second], firmware):
        campaign = await campaign_of(backend, [first, second], firmware, concurrency=1)
        order = (await first.check_in())["campaign"]
        answer = await second.check_in()
        assert "campaign" not in answer
        assert answer["nextCheckIn"] == 5
        assert (await history(backend, second))[0] == ("UpdateDeferred", "NoPlace")
        await backend.runtime.clock.sleep(backend.timing.attempt_limit / 2)
        await first.told(order["id"], "downloading")  # it is heard: the limit begins again
        await backend.runtime.clock.sleep(backend.timing.attempt_limit - 10)
        assert member_of(campaign, first).active
        await backend.runtime.clock.sleep(20)
        member = member_of(campaign, first)
        assert (member.active, member.ending) == (False, Ending.TIMEOUT)
        # It had gone on all the time, and its report begins another attempt.
        await backend.runtime.clock.sleep(5)
        await first.told(order["id"], "installing")
        await first.told(order["id"], "success")
        assert (member.status, member.attempts) == (states.SUCCESS, 2)
        await second.update((await second.check_in())["campaign"])
        assert campaign.status == states.ENDED


@virtual
async def test_how_often_to_come_is_a_setting() -> None:
    async with fleet(contact=90.5) as (_backend, [device], _firmware):
        assert (await device.check_in())["nextCheckIn"] == 91


@virtual
async def test_before_the_start_it_is_told_when_to_come() -> None:
    async with fleet(timing="documented") as (backend, [device], firmware):
        assert (await device.check_in())["nextCheckIn"] == DAY
        campaign = await campaign_of(backend, [device], firmware)
        assert campaign.status == states.REQUEST_PENDING  # today's skip the queue
        assert (await device.check_in())["nextCheckIn"] == 600
        await backend.engine.cancel(campaign)
        assert member_of(campaign, device).status == states.CANCELLED
        assert "cancel" not in await device.check_in()
        later = await campaign_of(backend, [device], firmware, start_date="2030-01-03")
        assert later.status == states.QUEUED


@rules("BR-026")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"firmware": "0.9"}, "Current software version does not meet the prerequisite."),
        ({"model": "other"}, "Device make or model does not meet the prerequisite."),
        ({"protocol": "LWM2M"}, "Device is not eligible, it is not FOTA capable over HTTP."),
    ],
)
@virtual
async def test_who_is_rejected(changes: dict[str, str], reason: str) -> None:
    async with fleet() as (backend, [device], firmware):
        await backend.load_devices([{"name": device.name, "protocol": "HTTP", **changes}])
        campaign = await campaign_of(backend, [device], firmware)
        assert campaign.status == states.REQUEST_FAILED
        member = member_of(campaign, device)
        assert (member.status, member.reason) == (states.REJECTED, reason)


@rules("BR-108")
@virtual
async def test_v2_needs_a_pilot_too() -> None:
    async with fleet(30, pilot_waived=False) as (backend, made, firmware):
        with pytest.raises(RequestRefused, match="at most 20"):
            await campaign_of(backend, made, firmware)
        await campaign_of(backend, made[:5], firmware)
        for device in made[:5]:
            await device.update((await device.check_in())["campaign"])
        large = await campaign_of(backend, made[5:], firmware)
        assert len(large.members) == 25


@virtual
async def test_create_campaign_for_embedding() -> None:
    async with fleet(2) as (backend, made, firmware):
        names = [device.name for device in made]
        campaign = await backend.create_campaign(names, firmware, title="demo")
        assert campaign.kind is SOFTWARE_V2
        await backend.runtime.clock.sleep(0.1)
        for device in made:
            await device.update((await device.check_in())["campaign"])
        await backend.finished.wait()
        assert {belief.verdict for belief in backend.beliefs().values()} == {"updated"}


@rules("BR-145", "BR-146")
@virtual
async def test_logging_from_the_check_in_to_the_purge() -> None:
    async with fleet(timing="documented") as (backend, [device], _firmware):
        clock, logs = backend.runtime.clock, backend.logs
        entry = {
            "deviceId": device.name,
            "logTime": "2030-01-01T01:00:00+01:00",
            "logType": "SoftwareUpdate",
            "eventLog": "nothing yet",
            "binaryLogFileBase64": "AAEC",
            "binaryLogFilename": "a.bin",
        }
        assert (await device.post("/logs", json=entry)).status_code == 409
        owner = backend.inventory.devices[device.name]
        await logs.enable(CONFIG.account, [owner])
        answer = await device.check_in()
        assert answer["logging"] == {"on": True, "until": "2030-01-08T00:00:00.000Z"}
        assert (await device.post("/logs", json=entry)).status_code == 204
        bad = await device.post("/logs", json={**entry, "binaryLogFileBase64": "?"})
        assert (bad.status_code, "base64" in bad.text) == (400, True)
        assert await logs.logs(device.name) == []  # readable after a day
        await clock.sleep(DAY)
        [row] = await logs.logs(device.name)
        assert (row["log_time"], row["event"]) == ("2030-01-01T00:00:00.000Z", "nothing yet")
        await clock.sleep(6 * DAY)
        assert (await device.check_in())["logging"] == {"on": False}
        assert (await device.post("/logs", json=entry)).status_code == 409
        assert logs.logging(CONFIG.account) == []
        await clock.sleep(24 * DAY)
        stored = await backend.writer.read(
            lambda connection: [
                connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
                for table in ("logs", "check_ins", "logging")
            ]
        )
        assert stored == [0, 1, 1]  # the last check-in is 24 days old
        await clock.sleep(14 * DAY)
        assert await history(backend, device) == []


@virtual
async def test_a_device_cannot_fill_the_store_with_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.backend.device_logs.MAX_LOGS", 2)
    async with fleet() as (backend, [device], _firmware):
        await backend.logs.enable(CONFIG.account, [backend.inventory.devices[device.name]])
        entry = {
            "deviceId": device.name.removeprefix("urn:imei:"),
            "logTime": "2030-01-01T01:00:00Z",
            "logType": "Event",
            "eventLog": "",
            "binaryLogFileBase64": "",
            "binaryLogFilename": "",
        }
        codes = [(await device.post("/logs", json=entry)).status_code for _ in range(3)]
        assert codes == [204, 204, 429]


@rules("BR-092")
@virtual
async def test_reachability_is_a_recent_check_in() -> None:
    async with fleet() as (backend, [device], _firmware):
        face = backend.http
        assert not face.reachable(device.name)
        assert backend.seen(device.name) is None
        await device.check_in()
        assert face.reachable(device.name)
        assert face.identities() == [device.name]
        seen = backend.seen(device.name)
        assert seen is not None
        assert (seen.version, seen.source) == ("1.0.0", "check-in")
        await backend.runtime.clock.sleep(11)
        assert not face.reachable(device.name)
        assert backend.unknown_identities() == []


@virtual
async def test_a_plain_asgi_call_will_do() -> None:
    """What the in-memory transport does: raw events in, raw events out."""
    async with fleet() as (backend, [device], firmware):
        await campaign_of(backend, [device], firmware)
        await device.check_in()
        sent: list[dict[str, Any]] = []
        token = device.headers["Authorization"].encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/device/v1/packages/{firmware.digest}",
            "headers": [(b"authorization", token)],
        }
        await backend.device_app(scope, receive, send)
        assert sent[0]["status"] == 200
        assert b"".join(event["body"] for event in sent[1:]) == IMAGE
        # A client that hangs up in its body is answered with nothing.
        sent.clear()
        scope.update(method="POST", path="/device/v1/checkin")
        await backend.device_app(scope, receive, send)
        assert sent == []
