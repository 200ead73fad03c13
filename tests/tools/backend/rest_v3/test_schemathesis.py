"""schemathesis on every operation of the three documents: right requests get what the document
declares, and wrong ones an error in the API's form; never a fault of ours.

The backend is real and in virtual time, the examples are the same in every run. Account and session
are always right. Of the right requests every second one names what there is: a campaign of its
version, devices that are free; so each operation succeeds at least once. The others are right in
form only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from agent.runtime.clock import VirtualLoop
from tests.tools.backend.rest_world import (
    ACCOUNT,
    FORM,
    STORED,
    UPLOAD,
    V2,
    RestWorld,
    rest_world,
)
from tests.tools.backend.sdk_operations import OPERATIONS, OURS

NAMES = [(version, name) for version, name, _line in OPERATIONS] + [
    (version, name) for version, names in OURS.items() for name in names
]
POOL = 80
"""Devices of each protocol; each operation takes two that no other one has."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    # The examples are few and the same in every run; making them smaller costs more than it tells.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

# What there is, by the name of the field.
RIGHT: dict[str, Any] = {
    "accountName": ACCOUNT,
    "campaignName": "a name",
    "softwareName": "app",
    "softwareFrom": "1.0.0",
    "softwareTo": "2.0.0",
    "fileVersion": "7",
    "make": "fotilla",
    "model": "virtual",
    "localTargetPath": "/etc/apn",
    "firmwareFrom": "1.0.0",
    "firmwareTo": "2.0.0",
    "distributionType": "HTTP",
    "protocol": "LWM2M",
    "startDate": "2030-01-02",
    "endDate": "2030-01-09",
    "downloadAfterDate": "2030-01-03",
    "installAfterDate": "2030-01-03",
    "downloadTimeWindowList": [{"startTime": 1, "endTime": "5"}],
    "installTimeWindowList": [],
    "campaignTimeWindowList": [{"startTime": 1, "endTime": 5}],
    "autoAssignLicenseFlag": False,
    "autoAddDevicesFlag": False,
    "url": "https://listener.example/fota",
    "name": "Fota",
    "service": "Fota",
    "start_index": "0",
    "startIndex": "0",
    "lastSeenDeviceId": "0",
    "lastSeenCampaignId": "0",
}


class Bench:
    """One backend for all operations, on a loop of its own."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.context = rest_world(POOL, POOL, POOL)
        self.world: RestWorld = self.run(self.context.__aenter__())
        self.taken = 0
        self.schemas = {
            version: schemathesis.openapi.from_dict(
                self.run(self.world.api.get(f"/api/fota/v{version}/openapi.json")).json()
            )
            for version in (1, 2, 3)
        }
        self.run(self.fill())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def fill(self) -> None:
        # With licences, so that there can be a list of those to cancel.
        self.world.subscribe()
        await self.world.api.post(f"{V2}/files/{ACCOUNT}", data=FORM, files=UPLOAD)

    def close(self) -> None:
        self.run(self.context.__aexit__(None, None, None))
        self.runner.close()

    def right(self, version: int) -> dict[str, Any]:
        """What there is for one operation of a version."""
        return self.run(self._right(version))

    async def _right(self, version: int) -> dict[str, Any]:
        world = self.world
        pool = {1: world.omadm, 2: world.ids(), 3: world.lwm2m}[version]
        mine, free = pool[self.taken : self.taken + 2]
        self.taken = (self.taken + 2) % POOL
        prefix = f"/api/fota/v{version}"
        callback = {"name": "Fota", "url": "https://listener.example/fota"}
        listed = {"deviceList": [mine]}
        for path, body in (
            (f"{prefix}/callbacks/{ACCOUNT}", callback),
            (f"{prefix}/licenses/{ACCOUNT}/assign", listed),
            # v3 has no such list.
            (f"/api/fota/v{min(version, 2)}/licenses/{ACCOUNT}/cancel", listed),
        ):
            answer = await world.api.post(path, json=body)
            assert answer.status_code == 200, (path, answer.text)
        if version == 1:
            asked = {**RIGHT, "firmwareName": "dm", "deviceList": [mine]}
            answer = await world.api.post(f"{prefix}/upgrades", json=asked)
            campaign = answer.json()["id"]
            await world.sleep(1)
        elif version == 2:
            campaign = await world.v2_campaign(deviceList=[mine])
        else:
            campaign = await world.v3_campaign(deviceList=[mine])
        return {
            **RIGHT,
            "campaign_id": campaign,
            "upgrade_id": campaign,
            "device_id": mine,
            "firmwareName": "dm" if version == 1 else "fw",
            "fileName": STORED,
            "deviceList": [free],
            "deviceIds": [mine],
        }

    def send(self, case: Any) -> httpx.Response:
        sent = requests.Request(**case.as_transport_kwargs(base_url="http://test")).prepare()
        own = self.world.api.headers
        headers = {name: value for name, value in sent.headers.items() if name not in own}
        answer = self.run(
            self.world.api.request(sent.method, sent.url, content=sent.body, headers=headers)
        )
        assert isinstance(answer, httpx.Response)
        return answer


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def correct(case: Any, right: dict[str, Any]) -> None:
    """Name what there is instead of what was generated."""
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            values.update({name: right[name] for name in values.keys() & right.keys()})
    # In a query this list is one text, and it is optional because a body may have it.
    if case.operation.get_parameter("deviceIds", "query") is not None:
        case.query = {"deviceIds": ",".join(right["deviceIds"])}


@pytest.mark.parametrize(("version", "name"), NAMES)
def test_right_requests(bench: Bench, version: int, name: str) -> None:
    operation = bench.schemas[version].find_operation_by_id(name)
    right = bench.right(version)
    statuses: list[int] = []

    @BOUNDED
    @given(st.data())
    def each(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(path_parameters={"acc": ACCOUNT}))
        if len(statuses) % 2 == 0:
            correct(case, right)
        answer = bench.send(case)
        statuses.append(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    each()
    assert 200 in statuses


@pytest.mark.parametrize(("version", "name"), NAMES)
def test_wrong_requests(bench: Bench, version: int, name: str) -> None:
    operation = bench.schemas[version].find_operation_by_id(name)

    @BOUNDED
    @given(st.data())
    def each(data: st.DataObject) -> None:
        strategy = operation.as_strategy(GenerationMode.NEGATIVE, path_parameters={"acc": ACCOUNT})
        case = data.draw(strategy)
        answer = bench.send(case)
        # What is left out where nothing is required is no error.
        assert answer.status_code in (200, 400, 404, 405, 413), answer.text
        if answer.status_code != 200:
            assert set(answer.json()) == {"errorCode", "errorMessage"}

    each()
