"""Write-Attributes: what is accepted, what holds where, what Discover shows."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.lwm2m.attributes import (
    NONE,
    Attributes,
    AttributesRefused,
    AttributeStore,
    parse_queries,
)
from protocols.lwm2m.model import ResourceType, type_of
from protocols.lwm2m.paths import Path


def write(store: AttributeStore, path: Path, *queries: str) -> Attributes:
    return store.write(path, queries, type_of(path))


def test_attributes_are_inherited_one_by_one_and_the_nearest_wins() -> None:
    store = AttributeStore()
    assert store.effective((4, 0, 2)) is NONE
    write(store, (4,), "pmin=10", "pmax=60")
    write(store, (4, 0), "pmax=120")
    write(store, (4, 0, 2), "lt=-110.5", "gt=-80", "st=3")
    assert store.effective((4,)) == Attributes(pmin=10, pmax=60)
    assert store.effective((4, 0)) == Attributes(pmin=10, pmax=120)
    assert store.effective((4, 0, 2)) == Attributes(10, 120, -80.0, -110.5, 3.0)
    assert store.effective((4, 0, 3)) == Attributes(pmin=10, pmax=120)
    assert store.effective((5, 0, 3)) == NONE
    assert store.own((4, 0, 2)).link_attributes() == (("gt", "-80"), ("lt", "-110.5"), ("st", "3"))
    assert store.effective((4, 0)).link_attributes() == (("pmin", "10"), ("pmax", "120"))


def test_a_name_alone_takes_the_attribute_away() -> None:
    store = AttributeStore()
    write(store, (3, 0, 13), "pmin=1", "pmax=10")
    write(store, (3, 0, 13), "pmin")
    assert store.own((3, 0, 13)) == Attributes(pmax=10)
    write(store, (3, 0, 13), "pmax=", "pmin=5")
    assert store.own((3, 0, 13)) == Attributes(pmin=5)
    write(store, (3, 0, 13), "pmin", "gt")
    assert store.own((3, 0, 13)) is NONE


def test_a_deleted_instance_leaves_nothing_behind() -> None:
    store = AttributeStore()
    write(store, (1,), "pmin=1")
    write(store, (1, 0), "pmin=2")
    write(store, (1, 0, 1), "pmin=3")
    store.remove_under((1, 0))
    assert store.effective((1, 0, 1)) == Attributes(pmin=1)
    store.remove_under(())
    assert store.effective((1, 0, 1)) == NONE


def test_a_resource_instance_has_attributes_of_its_own() -> None:
    store = AttributeStore()
    write(store, (3, 0, 7), "pmin=5", "gt=5000")
    write(store, (3, 0, 7, 1), "gt=3000")
    assert store.effective((3, 0, 7, 1)) == Attributes(pmin=5, gt=3000.0)
    assert store.effective((3, 0, 7, 0)) == Attributes(pmin=5, gt=5000.0)


REFUSED = [
    ("'bogus' is no attribute", (3, 0, 9), ["bogus=1"]),
    ("'ver' is no attribute", (3,), ["ver=1.2"]),
    ("pmin is written twice", (3, 0, 9), ["pmin=1", "pmin=2"]),
    ("pmin is a number of seconds", (3, 0, 9), ["pmin=1.5"]),
    ("pmax is a number of seconds", (3, 0, 9), ["pmax=-1"]),
    ("pmin is a number of seconds", (3, 0, 9), ["pmin=" + "9" * 30]),
    ("gt is a decimal number", (3, 0, 9), ["gt=1e3"]),
    ("gt is a decimal number", (3, 0, 9), ["gt=nan"]),
    ("st is a distance", (3, 0, 9), ["st=-1"]),
    ("gt belongs to a resource", (3, 0), ["gt=1"]),
    ("st belongs to a numeric resource", (3, 0, 3), ["pmin=1", "st=1"]),
    ("lt belongs to a numeric resource", (1, 0, 6), ["lt=1"]),
    ("not below gt", (3, 0, 9), ["lt=20", "gt=20"]),
    ("not below gt", (3, 0, 9), ["lt=20", "gt=30", "st=5"]),
]


@pytest.mark.parametrize(("reason", "path", "queries"), REFUSED)
def test_a_refused_request_changes_nothing(reason: str, path: Path, queries: list[str]) -> None:
    store = AttributeStore()
    write(store, path, "pmin=7")
    with pytest.raises(AttributesRefused, match=reason):
        write(store, path, *queries)
    assert store.own(path) == Attributes(pmin=7)


def test_thresholds_of_two_requests_may_clash_until_mended() -> None:
    store = AttributeStore()
    assert write(store, (3, 0, 9), "lt=20", "gt=80", "st=29.5").coherent
    assert not write(store, (3, 0, 9), "gt=70").coherent
    assert write(store, (3, 0, 9), "st=20").coherent


@pytest.mark.parametrize("pmax", [1, 5])
def test_a_pmax_below_pmin_is_accepted(pmax: int) -> None:
    store = AttributeStore()
    assert write(store, (3, 0, 9), "pmin=10", f"pmax={pmax}") == Attributes(10, pmax)


@given(
    st.lists(
        st.text(max_size=12)
        | st.builds(
            "{}={}".format,
            st.sampled_from(["pmin", "pmax", "gt", "lt", "st"]),
            st.integers() | st.floats() | st.text("0123456789.-e", max_size=8),
        ),
        max_size=4,
    )
)
def test_any_queries_are_accepted_or_refused(queries: list[str]) -> None:
    with suppress(AttributesRefused):
        assert set(parse_queries(queries)) <= {"pmin", "pmax", "gt", "lt", "st"}


@given(st.integers(0, 10**9), st.decimals(-(10**6), 10**6, places=6))
def test_discover_shows_what_can_be_written_again(pmin: int, gt: object) -> None:
    store = AttributeStore()
    first = store.write((3, 0, 9), [f"pmin={pmin}", f"gt={gt}"], ResourceType.INTEGER)
    again = AttributeStore()
    queries = [f"{name}={text}" for name, text in first.link_attributes()]
    assert again.write((3, 0, 9), queries, ResourceType.INTEGER) == first
