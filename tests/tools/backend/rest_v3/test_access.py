"""Who may call: authentication on every route, and accounts that cannot see each other."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.tools.backend.rest_world import (
    ACCOUNT,
    FORM,
    OTHER,
    STRANGER,
    UPLOAD,
    V2,
    V3,
    RestWorld,
    rest_world,
)
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import IMAGE, virtual
from tools.backend.inventory import Account

NOBODY = "7b0d3b8e-0000-4000-8000-000000000000"
"""A campaign that does not exist."""

THEIRS = "380000000000000"
"""A device of the other account."""


def routes_of(world: RestWorld) -> list[tuple[str, str]]:
    """Every (method, path) of the three versions, those that no document names included."""
    found = []
    for route in world.backend.app.routes:
        # FastAPI keeps an included router as one route, or takes its routes over.
        router = getattr(route, "original_router", None)
        for leaf in [route] if router is None else router.routes:
            path = getattr(leaf, "path", "")
            if path.startswith("/api/fota/") and not path.endswith("openapi.json"):
                found += [(method, path) for method in sorted(leaf.methods - {"HEAD"})]
    return found


@rules("BR-151")
@virtual
async def test_every_route_asks_for_both_tokens() -> None:
    async with rest_world() as world:
        transport = httpx.ASGITransport(app=world.backend.app)
        own = dict(world.api.headers)
        cases: list[tuple[dict[str, str], str]] = [
            ({}, "900902"),
            ({"vz-m2m-token": own["vz-m2m-token"]}, "900902"),
            ({"authorization": "Bearer nonsense"}, "900901"),
            ({"authorization": own["authorization"]}, "FOTA.REQUEST_FAILED.SessionToken.Expired"),
        ]
        routes = routes_of(world)
        assert len(routes) >= 71
        with world.unchanged():
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                for method, path in routes:
                    url = re.sub(r"{[^}]*}", ACCOUNT, path)
                    for headers, code in cases:
                        answer = await client.request(method, url, headers=headers)
                        assert answer.status_code == 401, (method, path)
                        assert answer.json()["errorCode"] == code, (method, path)


@virtual
async def test_every_route_refuses_another_account() -> None:
    async with rest_world() as world:
        world.backend.inventory.accounts[OTHER] = Account(OTHER, "theirs", True)
        for method, path in routes_of(world):
            if "{" not in path:
                continue  # the account is in the body
            before, _, after = path.partition("}")
            assert before.endswith(("{acc", "{account")), path
            rest = re.sub(r"{[^}]*}", NOBODY, after)
            prefix = before.rpartition("{")[0]
            for account, text in (
                (OTHER, "Account does not exist"),
                ("9999999999-99999", "Account does not exist"),
                ("fotilla", "Invalid account name format"),
                ("٠٢٤٢٠٧٨٦٨٩-٠٠٠٠١", "Invalid account name format"),
            ):
                answer = await world.api.request(method, prefix + account + rest)
                assert (answer.status_code, answer.json()) == (
                    400,
                    {"errorCode": "INVALID_PARAMETER", "errorMessage": text},
                ), (method, path)


@asynccontextmanager
async def two_accounts() -> AsyncIterator[tuple[RestWorld, str, str]]:
    """With a v2 and a v3 campaign of the other account."""
    async with rest_world() as world:
        backend = world.backend
        backend.inventory.accounts[OTHER] = Account(OTHER, "theirs", True)
        http = str(int(THEIRS) + 1)
        await backend.load_devices(
            [
                {"deviceId": THEIRS, "account": OTHER},
                {"deviceId": http, "account": OTHER, "protocol": "HTTP"},
            ]
        )
        for name, protocol in (("fw", "LWM2M"), ("app", "HTTP")):
            await backend.add_package(
                IMAGE,
                name=name,
                version="2.0.0",
                version_from="1.0.0",
                protocol=protocol,
                account=OTHER,
            )
        await backend.add_file(b"x", filename="their.cfg", version="1", account=OTHER)
        secret = {"username": OTHER, "password": "theirs"}
        transport = httpx.ASGITransport(app=backend.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post(
                "/api/ts/v1/oauth2/token",
                auth=(OTHER, "theirs"),
                data={"grant_type": "client_credentials"},
            )
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            answer = await client.post("/api/m2m/v1/session/login", json=secret)
            client.headers["VZ-M2M-Token"] = answer.json()["sessionToken"]
            theirs = replace(world, api=client)
            answer = await client.post(
                f"{V2}/campaigns/{OTHER}", json=theirs.software(deviceList=[http])
            )
            v2 = answer.json()["id"]
            answer = await client.post(
                f"{V3}/campaigns/firmware/{OTHER}", json=theirs.firmware(deviceList=[THEIRS])
            )
            v3 = answer.json()["id"]
        await world.sleep(1)
        yield world, v2, v3


DATES = {"startDate": "2030-01-03", "endDate": "2030-01-09"}
EDIT = {"Type": "append", "deviceList": [STRANGER]}


@rules("BR-153")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{V2}/campaigns/{ACCOUNT}/%v2", None),
        ("DELETE", f"{V2}/campaigns/{ACCOUNT}/%v2", None),
        ("PUT", f"{V2}/campaigns/{ACCOUNT}/%v2", EDIT),
        ("PUT", f"{V2}/campaigns/{ACCOUNT}/%v2/dates", DATES),
        ("GET", f"{V2}/reports/{ACCOUNT}/campaigns/%v2/devices", None),
        (
            "GET",
            f"{V2}/reports/{ACCOUNT}/campaigns?campaignStatus=CampaignEnded&lastSeenCampaignId=%v2",
            None,
        ),
        ("GET", f"{V2}/reports/{ACCOUNT}/devices/%device", None),
        ("PUT", f"{V2}/logging/{ACCOUNT}/devices/%device", None),
        ("DELETE", f"{V2}/logging/{ACCOUNT}/devices/%device", None),
        ("GET", f"{V2}/logging/{ACCOUNT}/devices/%device/logs", None),
        ("GET", f"{V2}/logging/{ACCOUNT}/devices/%device/checkInHistory", None),
        ("PUT", f"{V2}/logging/{ACCOUNT}/devices", {"deviceIds": ["%device"]}),
        ("DELETE", f"{V2}/logging/{ACCOUNT}/devices?deviceIds=%device", None),
        ("GET", f"{V3}/campaigns/{ACCOUNT}/%v3", None),
        ("DELETE", f"{V3}/campaigns/{ACCOUNT}/%v3", None),
        ("PUT", f"{V3}/campaigns/{ACCOUNT}/%v3", EDIT),
        ("PUT", f"{V3}/campaigns/firmware/{ACCOUNT}/%v3", EDIT),
        ("PUT", f"{V3}/campaigns/firmware/{ACCOUNT}/%v3/dates", DATES),
        ("GET", f"{V3}/reports/{ACCOUNT}/campaigns/%v3/devices", None),
        ("GET", f"{V3}/reports/{ACCOUNT}/devices/%device", None),
        ("PUT", f"{V3}/firmware/{ACCOUNT}/async/%device", None),
        ("PUT", f"{V3}/firmware/{ACCOUNT}/devices", {"deviceList": ["%device"]}),
        ("POST", f"{V3}/devices/{ACCOUNT}", {"deviceList": ["%device"]}),
    ],
)
@virtual
async def test_what_is_another_accounts_answers_as_what_is_not(
    method: str, path: str, body: dict[str, Any] | None
) -> None:
    async with two_accounts() as (world, v2, v3):

        async def answer(v2: str, v3: str, device: str) -> tuple[int, str]:
            def filled(text: str) -> str:
                return text.replace("%v2", v2).replace("%v3", v3).replace("%device", device)

            sent = None
            if body is not None:
                sent = {
                    name: [filled(item) for item in value] if isinstance(value, list) else value
                    for name, value in body.items()
                }
            found = await world.api.request(method, filled(path), json=sent)
            return found.status_code, found.text.replace(device, "%device")

        with world.unchanged():
            assert await answer(v2, v3, THEIRS) == await answer(NOBODY, NOBODY, STRANGER)


@virtual
async def test_another_accounts_devices_and_files_are_no_part_of_ours() -> None:
    async with two_accounts() as (world, _v2, _v3):
        name = "configfile-fotilla_virtual_their.cfg"
        assert (OTHER, name) in world.backend.inventory.files
        path = f"{V2}/files/{ACCOUNT}"
        await world.refused(
            "PUT", f"{path}?fileName={name}", "does not exist", data=FORM, files=UPLOAD
        )
        listed = await world.json(
            "GET", f"{path}?distributionType=HTTP", "RetrievesAvailableFilesResponseList"
        )
        assert listed["AvailableFilesResponse"] == []
        devices = await world.json(
            "GET", f"{V3}/devices/{ACCOUNT}?protocol=all", "V3AccountDeviceList"
        )
        assert THEIRS not in {item["deviceId"] for item in devices["deviceList"]}
        # In a campaign it is a device that was not found.
        campaign = await world.v3_campaign(deviceList=[THEIRS, *world.lwm2m])
        report = await world.json(
            "GET", f"{V3}/reports/{ACCOUNT}/campaigns/{campaign}/devices", "V3CampaignDevice"
        )
        rejected = {item["deviceId"]: item["resultReason"] for item in report["deviceList"]}[THEIRS]
        assert rejected == "Device Not Found."
