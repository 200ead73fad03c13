"""Offers: what is complete, what is missing, and that nothing else comes out of any attributes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.outcome import Outcome
from agent.update import State
from protocols.thingsboard.attributes import BadOffer, Kind, Offer, keys, parse_offer
from protocols.thingsboard.tables import ERRORS, REPORTS, words

GOOD = {
    "fw_title": "meter",
    "fw_version": "2.0.0",
    "fw_tag": "meter 2.0.0",
    "fw_size": 5000,
    "fw_checksum": "ABCDEF01",
    "fw_checksum_algorithm": "crc32",
}


def test_a_complete_offer() -> None:
    offer = parse_offer(Kind.FIRMWARE, GOOD)
    assert offer == Offer(Kind.FIRMWARE, "meter", "2.0.0", 5000, "abcdef01", "CRC32")
    assert parse_offer(Kind.SOFTWARE, GOOD) is None
    assert parse_offer(Kind.FIRMWARE, {"colour": "red"}) is None


def test_a_package_elsewhere_needs_no_size() -> None:
    url = {"sw_title": "app", "sw_version": "1", "sw_url": "https://host/app.bin"}
    offer = parse_offer(Kind.SOFTWARE, url)
    assert offer == Offer(Kind.SOFTWARE, "app", "1", url="https://host/app.bin")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fw_title", None),
        ("fw_title", 7),
        ("fw_title", "x" * 256),
        ("fw_version", ""),
        ("fw_size", 0),
        ("fw_size", True),
        ("fw_size", 1.5),
        ("fw_size", "many"),
        ("fw_checksum", ["a"]),
        ("fw_checksum", "xyz"),
        ("fw_checksum_algorithm", "ROT13"),
        ("fw_checksum_algorithm", None),
    ],
)
def test_what_is_wrong_is_named(name: str, value: object) -> None:
    with pytest.raises(BadOffer, match=name):
        parse_offer(Kind.FIRMWARE, {**GOOD, name: value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(keys(Kind.FIRMWARE)), json_values))
def test_any_attributes_are_an_offer_or_named(shared: dict[str, object]) -> None:
    try:
        offer = parse_offer(Kind.FIRMWARE, shared)
    except BadOffer as problem:
        assert "fw_" in str(problem)
        return
    if offer is not None:
        assert offer.title and offer.version
        assert offer.url or (offer.size > 0 and offer.algorithm)


def test_the_table_has_every_cell() -> None:
    assert REPORTS.keys() == set(State)
    assert ERRORS.keys() == set(Outcome) - {Outcome.SUCCESS}
    for state in State:
        for outcome in Outcome:
            said = words(state, outcome)
            if outcome is Outcome.SUCCESS:
                assert said == ("UPDATED",)
            elif outcome is Outcome.DEFERRED:
                assert said == REPORTS[state]
            else:
                assert said == ("FAILED",)
