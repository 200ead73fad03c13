"""Parsing of the registration interface: any text and any bytes parse or raise BadRegistration."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.backend.faces.lwm2m_registration import (
    BadRegistration,
    check_register,
    parse_objects,
    parse_queries,
)

NAMES = st.sampled_from(["ep", "lt", "lwm2m", "b", "Q", "sms", ""])


@given(st.lists(st.text(max_size=20) | st.builds("{}={}".format, NAMES, st.text(max_size=20))))
def test_any_query(queries: list[str]) -> None:
    with contextlib.suppress(BadRegistration):
        check_register(parse_queries(queries))


@given(st.binary(max_size=200))
def test_any_object_list(payload: bytes) -> None:
    with contextlib.suppress(BadRegistration):
        assert parse_objects(parse_objects(payload).encode()) == parse_objects(payload)


def test_a_full_registration() -> None:
    found = parse_queries(["ep=urn:imei:1", "lt=30", "lwm2m=1.1", "b=UQ", "et=x"])
    assert check_register(found) == "urn:imei:1"
    assert (found.lifetime, found.version, found.binding, found.queue) == (30, "1.1", "UQ", True)
    assert parse_queries(["Q"]).queue


def test_an_endless_object_list() -> None:
    with pytest.raises(BadRegistration, match="too long"):
        parse_objects(b"</1/0>," * 5000)
