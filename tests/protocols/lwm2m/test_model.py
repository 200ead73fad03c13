"""The object definitions, where the rest of the code leans on them."""

from __future__ import annotations

import pytest

from protocols.lwm2m.model import OBJECTS, ResourceType, definition_of, type_of
from protocols.lwm2m.records import ObjectLink


def test_the_versions_are_those_of_lwm2m_1_1() -> None:
    assert {number: definition.version for number, definition in OBJECTS.items()} == {
        0: "1.1",
        1: "1.1",
        3: "1.1",
        4: "1.2",
        5: "1.0",
    }
    assert [number for number in OBJECTS if OBJECTS[number].multiple] == [0, 1]
    assert [number for number in OBJECTS if OBJECTS[number].mandatory] == [0, 1, 3]


def test_resource_ids() -> None:
    assert list(OBJECTS[0].resources) == list(range(18))
    assert list(OBJECTS[1].resources) == list(range(24))
    assert list(OBJECTS[3].resources) == list(range(23))
    assert list(OBJECTS[4].resources) == list(range(13))
    assert list(OBJECTS[5].resources) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_only_what_has_no_type_is_executed_and_the_security_object_is_closed() -> None:
    for definition in OBJECTS.values():
        for number, resource in definition.resources.items():
            assert resource.id == number
            assert resource.executable == (resource.type is ResourceType.NONE)
            assert not (resource.executable and (resource.readable or resource.writable))
            assert (resource.operations == "") == (definition.id == 0)


def test_multiple_resources() -> None:
    multiple = {
        number: [r.id for r in definition.resources.values() if r.multiple]
        for number, definition in OBJECTS.items()
    }
    assert multiple == {0: [16], 1: [], 3: [6, 7, 8, 11, 22], 4: [1, 4, 5, 7], 5: [8]}


def test_types_by_path() -> None:
    assert type_of((5, 0, 0)) is ResourceType.OPAQUE
    assert type_of((3, 0, 7, 1)) is ResourceType.INTEGER
    assert type_of((5, 0, 4)) is None and type_of((5, 0)) is None and type_of((9, 0, 0)) is None
    package = definition_of((5, 0, 0))
    assert package is not None and package.writable and not package.readable


@pytest.mark.parametrize("text", ["66", "66:0:1", "-1:0", "65536:0", "a:b", "", "6 6:0"])
def test_what_is_no_object_link(text: str) -> None:
    with pytest.raises(ValueError):
        ObjectLink.parse(text)
