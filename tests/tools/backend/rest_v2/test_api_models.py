"""The table of the API's shapes, and the walker that holds answers against it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tools.backend.api_models import ENUMS, EXTRA, MODELS, SCALARS, check, fields_of, problems

WINDOW = {"startTime": 1, "endTime": 2}


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_kind_of_the_table_is_known(model: str) -> None:
    fields = fields_of(model)
    assert len({field.name for field in fields}) == len(fields)
    for field in fields:
        assert field.kind.strip("[]") in {*MODELS, *SCALARS, *ENUMS}


def test_what_we_add_is_in_no_table() -> None:
    for model, added in EXTRA.items():
        assert not added.keys() & {field.name for field in fields_of(model)}


def test_a_right_answer_has_no_problem() -> None:
    check("[V3TimeWindow]", [WINDOW])
    check("V2DeviceStatus", {"deviceId": "1", "status": "Accepted"})
    check("datetime", "2030-01-01T00:00:00.000Z")
    check("CampaignSoftware", CAMPAIGN)


CAMPAIGN: dict[str, Any] = {
    "id": "1",
    "accountName": "a",
    "softwareName": "s",
    "distributionType": "HTTP",
    "make": "m",
    "model": "m",
    "softwareFrom": "",
    "softwareTo": "2",
    "startDate": "2030-01-01",
    "endDate": "2030-01-02",
    "installTimeWindowList": [WINDOW],
    "status": "CampaignEnded",
}


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("V3TimeWindow", {"startTime": 1}, "$.endTime: missing"),
        ("V3TimeWindow", {"startTime": 1, "endTime": "2"}, "$.endTime: '2' is no int"),
        ("V3TimeWindow", {"startTime": True, "endTime": 2}, "$.startTime: True is no int"),
        ("V3TimeWindow", {**WINDOW, "endtime": 2}, "$.endtime: unknown key"),
        ("[V3TimeWindow]", [WINDOW, None], "$[1]: None is no V3TimeWindow"),
        ("[V3TimeWindow]", None, "$: None is no array"),
        ("V3DeviceStatus", {"deviceId": None, "status": "x"}, "$.deviceId: None is no string"),
        ("date", "2030-02-30", "$: '2030-02-30' is no date"),
        ("datetime", "2021-06-03 00:03:56.079 +0000 UTC", "is no datetime"),
        ("FirmwareTypeListEnum", "add", "is no FirmwareTypeListEnum"),
    ],
)
def test_every_problem_is_named(kind: str, value: Any, problem: str) -> None:
    assert any(problem in found for found in problems(kind, value))


def test_of_models_that_require_nothing_every_field_can_be_asked_for() -> None:
    assert problems("CallbackSummary", {}) == []
    assert problems("CallbackSummary", {}, every=True) == ["$.url: missing"]
    # What we add is never asked for.
    item = {"deviceId": "1", "assignmentTime": "2030-01-01"}
    assert problems("AccountLicenseDeviceListItem", item, every=True) == []
