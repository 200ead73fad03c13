"""The OpenAPI documents: one for each version, operations named as the SDK's methods, whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis

from tests.tools.backend.api_models import MODELS, SCALARS, fields_of
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.sdk_operations import OPERATIONS, OURS
from tests.tools.backend.virtual import virtual, world
from tools.backend.errors import RequestRefused
from tools.backend.refusals import Refusal
from tools.docs.errors import document as errors_page

VERSIONS = (1, 2, 3)


async def document_of(version: int) -> Any:
    async with world() as backend, logged_in(backend) as api:
        answer = await api.get(f"/api/fota/v{version}/openapi.json")
        assert answer.status_code == 200
        return answer.json()


def operations_of(document: Any) -> dict[str, tuple[str, Any]]:
    """By operation id: method and path as the table has them, and the operation."""
    prefix = re.compile(r"^/api/fota/v\d")
    return {
        operation["operationId"]: (
            f"{method.upper()} {re.sub(r'{[^}]*}', '{}', prefix.sub('', path))}",
            operation,
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


@rules("BR-155")
@pytest.mark.parametrize("version", VERSIONS)
@virtual
async def test_operations_are_those_of_the_sdk(version: int) -> None:
    document = await document_of(version)
    found = {name: line for name, (line, _) in operations_of(document).items()}
    wanted = {name: line for number, name, line in OPERATIONS if number == version}
    assert found == {**wanted, **OURS[version]}
    # None was lost because two have one name.
    assert len(found) == sum(len(operations) for operations in document["paths"].values())


@rules("BR-155")
def test_the_sdk_has_71() -> None:
    assert len(OPERATIONS) == 71


@pytest.mark.parametrize("version", VERSIONS)
@virtual
async def test_a_document_is_valid_and_whole(version: int) -> None:
    document = await document_of(version)
    schemathesis.openapi.from_dict(document).validate()
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) == set(schemas)
    assert "$defs" not in text
    assert not {"ValidationError", "HTTPValidationError"} & schemas.keys()
    for name, (line, operation) in operations_of(document).items():
        answers = operation["responses"]
        declared = {"200", "400", "401"} | ({"413"} if "requestBody" in operation else set())
        assert set(answers) == declared, name
        for answer in answers.values():
            assert answer["content"]["application/json"]["schema"], name
        if line.startswith(("POST", "PUT")) and not re.search(r"/async/{}|/devices/{}$", line):
            [content] = operation["requestBody"]["content"].values()
            assert content["schema"]["properties"], name
    assert document["security"] == [{"accessToken": [], "sessionToken": []}]


KINDS = {
    "string": "string",
    "date": "string",
    "datetime": "string",
    "int": "integer",
    "bool": "boolean",
}

GONE = {"username", "password"}
"""Absent from callbacks since release 2.9."""


@pytest.mark.parametrize("version", VERSIONS)
@virtual
async def test_schemas_are_the_models_of_the_reference(version: int) -> None:
    """A schema that has a model's name has its fields and their kinds, and requires at least what
    the model requires."""
    schemas = (await document_of(version))["components"]["schemas"]
    compared = 0
    for name in schemas.keys() & MODELS.keys():
        schema = schemas[name]
        for field in fields_of(name):
            if field.name in GONE:
                assert field.name not in schema["properties"], name
                continue
            assert field.name in schema["properties"], (name, field.name)
            if field.required:
                assert field.name in schema["required"], (name, field.name)
            kinds = schema["properties"][field.name]
            shown = [kinds, *kinds.get("anyOf", [])]
            if field.kind in SCALARS:
                assert KINDS[field.kind] in [kind.get("type") for kind in shown], (name, field)
            compared += 1
    assert compared > 40


ROOT = Path(__file__).parents[4]


@rules("BR-149")
def test_every_refusal_can_be_said_and_is() -> None:
    """Each row of the table of errors is used somewhere, and its text can be filled in."""
    sources = "".join(path.read_text() for path in (ROOT / "tools" / "backend").rglob("*.py"))
    for row in Refusal:
        assert re.search(rf"Refusal\.{row.name}\b", sources), row.name
        names = re.findall(r"{(\w+)", row.value.message)
        refused = row(**dict.fromkeys(names, "x" * 100))
        assert isinstance(refused, RequestRefused)
        assert (refused.status, refused.code) == (row.value.status, row.value.code)
        assert refused.message
        assert row.value.status in (400, 413)


def test_the_page_of_errors_is_made_from_the_table_as_it_is() -> None:
    page = ROOT / "docs" / "backend-errors.md"
    assert page.read_text(encoding="utf-8") == errors_page()
