"""The licences of one account in memory: who gives his back first, where a page begins."""

from __future__ import annotations

import pytest

from tests.tools.backend.rules_marker import rules
from tools.backend.inventory import EVENT_BILLED, MONTHLY_BILLED
from tools.backend.licences.pool import MAX_MARKS, Candidate, Licence, Pool, purchase_types

ACCOUNT = "0242078689-00001"


def filled(*names: str) -> Pool:
    pool = Pool(ACCOUNT)
    pool.add(Licence(name, ACCOUNT, number, 0.0) for number, name in enumerate(names, 1))
    return pool


def names(licences: object) -> list[str]:
    return [licence.device_id for licence in licences]  # type: ignore[attr-defined]


@rules("BR-122")
def test_listed_devices_go_first_then_the_oldest_assignment() -> None:
    pool = filled("a", "b", "c", "d", "e")
    for number, name in enumerate(("d", "x", "b"), 1):  # x has no licence
        pool.listed[name] = Candidate(name, ACCOUNT, number, 0.0)
    assert names(pool.excess(0)) == ["d", "b", "a", "c", "e"]
    assert names(pool.excess(2)) == ["d", "b", "a"]
    assert names(pool.excess(5)) == []
    assert names(pool.excess(9)) == []


def test_a_place_is_not_free_until_the_store_knows() -> None:
    pool = filled("a", "b")
    gone = [pool.held["a"]]
    pool.drop(gone)
    pool.going += 1
    assert pool.free(2) == 0
    pool.going -= 1
    assert pool.free(2) == 1
    pool.cap = 1  # the subscription is about to shrink
    assert pool.free(2) == 0
    pool.cap = 9  # it is about to grow
    assert pool.free(2) == 1
    assert pool.free(0) == 0


def test_what_is_put_back_stands_where_it_stood() -> None:
    pool = filled("a", "b", "c")
    gone = [pool.held["a"], pool.held["b"]]
    pool.drop(gone)
    newer = Licence("b", ACCOUNT, 9, 1.0)
    pool.add([newer])
    pool.put_back(gone)
    assert names(pool.held.values()) == ["a", "c", "b"]
    assert pool.held["b"] is newer
    pool.drop(gone)  # b has another licence by now
    assert names(pool.held.values()) == ["c", "b"]


def test_a_page_begins_after_the_mark_whatever_became_of_the_device() -> None:
    pool = filled("a", "b", "c", "d")
    end = pool.held["b"]
    pool.mark(end)
    pool.drop([end])
    assert names(pool.after("b")) == ["c", "d"]
    pool.add([Licence("b", ACCOUNT, 5, 1.0)])
    assert names(pool.after("b")) == ["c", "d", "b"]
    assert names(pool.after("c")) == ["d", "b"]
    with pytest.raises(KeyError):
        pool.after("never")


def test_marks_are_bounded() -> None:
    pool = Pool(ACCOUNT)
    for number in range(MAX_MARKS + 10):
        pool.mark(Licence(f"d{number}", ACCOUNT, number, 0.0))
    assert len(pool.marks) == MAX_MARKS
    assert "d9" not in pool.marks
    assert "d10" in pool.marks


def test_purchase_types() -> None:
    assert purchase_types(f"{EVENT_BILLED}, {MONTHLY_BILLED}") == {EVENT_BILLED, MONTHLY_BILLED}
    assert purchase_types("") == frozenset()
    for text in ("TS-HFOTA", ",", f"{EVENT_BILLED},", "ts-hfota-mrc"):
        with pytest.raises(ValueError, match="unknown purchase type"):
            purchase_types(text)
