"""The comparer that judges the stub can fail: it finds each kind of difference, invents none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.stubs.hawkbit_replay import RECORDED_BASE, Exchange, Names, compare, load

EXCHANGES = {exchange.number: exchange for exchange in load()}
BASE = "http://live.test:8080"

POLL, DEPLOYMENT, RANGE, TARGET, STATUSES, ERROR = 17, 18, 21, 36, 38, 101


def answer(exchange: Exchange, body: Any = None, **headers: str) -> httpx.Response:
    """The recorded answer as the live server would send it, or the same with another body."""
    content = exchange.response if body is None else body
    if isinstance(content, str):
        size = content.removeprefix("<").removesuffix(" bytes>")
        raw = b"x" * int(size) if content.endswith(" bytes>") else content.encode()
    else:
        raw = json.dumps(content).replace(RECORDED_BASE, BASE).encode()
    kept = {k: v for k, v in exchange.headers.items() if k != "content-length"} | headers
    return httpx.Response(exchange.status, headers=kept, content=raw)


def differences(exchange: Exchange, response: httpx.Response) -> list[str]:
    return compare(exchange, response, Names(), BASE)


@pytest.mark.parametrize("number", list(EXCHANGES))
def test_the_recorded_answer_is_like_itself(number: int) -> None:
    exchange = EXCHANGES[number]
    if exchange.method == "HEAD":
        exchange = replace(exchange, response="")
    assert differences(exchange, answer(exchange)) == []


def mutated(number: int, change: Callable[[Any], None]) -> list[str]:
    exchange = EXCHANGES[number]
    body = copy.deepcopy(exchange.response)
    change(body)
    return differences(exchange, answer(exchange, body))


MUTATIONS: dict[str, tuple[int, Callable[[Any], None], str]] = {
    "a link is missing": (POLL, lambda b: b["_links"].pop("deploymentBase"), "misses"),
    "a link too many": (POLL, lambda b: b["_links"].update(configData={"href": "x"}), "adds"),
    "another link name": (
        POLL,
        lambda b: b["_links"].update(cancelAction=b["_links"].pop("deploymentBase")),
        "misses deploymentBase",
    ),
    "no c=": (
        POLL,
        lambda b: b["_links"]["deploymentBase"].update(href=f"{BASE}/default/x/20"),
        "href",
    ),
    "a link to elsewhere": (
        POLL,
        lambda b: b["_links"]["deploymentBase"].update(href="http://other/20?c=1"),
        "does not begin with",
    ),
    "another sleep": (POLL, lambda b: b["config"]["polling"].update(sleep="00:05:00"), "sleep"),
    "links are empty": (POLL, lambda b: b.update(_links={}), "misses"),
    "another enum value": (
        DEPLOYMENT,
        lambda b: b["deployment"].update(download="attempt"),
        "download",
    ),
    "the id is a number": (DEPLOYMENT, lambda b: b.update(id=20), "id"),
    "the size is text": (
        DEPLOYMENT,
        lambda b: b["deployment"]["chunks"][0]["artifacts"][0].update(size="5000"),
        "size",
    ),
    "a hash is missing": (
        DEPLOYMENT,
        lambda b: b["deployment"]["chunks"][0]["artifacts"][0]["hashes"].pop("sha256"),
        "misses sha256",
    ),
    "an artifact too many": (
        DEPLOYMENT,
        lambda b: b["deployment"]["chunks"][0]["artifacts"].append({}),
        "elements",
    ),
    "a time is text": (TARGET, lambda b: b.update(installedAt="yesterday"), "installedAt"),
    "a boolean is a number": (TARGET, lambda b: b.update(requestAttributes=1), "requestAttrib"),
    "another update status": (TARGET, lambda b: b.update(updateStatus="pending"), "updateStatus"),
    "history in another order": (STATUSES, lambda b: b["content"].reverse(), "type"),
    "other words": (STATUSES, lambda b: b["content"][0].update(messages=["done"]), "messages"),
    "another error code": (ERROR, lambda b: b.update(errorCode="x"), "errorCode"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_body_is_found(name: str) -> None:
    number, change, word = MUTATIONS[name]
    found = mutated(number, change)
    assert found and any(word in difference for difference in found), found


def test_another_status_is_found() -> None:
    exchange = EXCHANGES[POLL]
    response = httpx.Response(204)
    assert differences(exchange, response) == [f"status: recorded {exchange.status}, got 204 "]


@pytest.mark.parametrize(
    ("number", "header", "value"),
    [
        (POLL, "content-type", "application/json;charset=UTF-8"),
        (RANGE, "content-range", "bytes 0-99/4999"),
        (RANGE, "etag", '"another"'),
        (RANGE, "accept-ranges", "none"),
        (RANGE, "content-disposition", "inline"),
    ],
)
def test_a_changed_header_is_found(number: int, header: str, value: str) -> None:
    exchange = EXCHANGES[number]
    found = differences(exchange, answer(exchange, **{header: value}))
    assert len(found) == 1 and found[0].startswith(header)


def test_a_missing_header_is_found() -> None:
    exchange = EXCHANGES[RANGE]
    response = answer(exchange)
    del response.headers["last-modified"]
    assert differences(exchange, response)[0].startswith("last-modified")


def test_bytes_are_counted() -> None:
    exchange = EXCHANGES[RANGE]
    assert "99 bytes" in differences(exchange, answer(exchange, "<99 bytes>"))[0]


def test_what_is_not_json_is_found() -> None:
    exchange = EXCHANGES[POLL]
    assert "not JSON" in differences(exchange, answer(exchange, "<html>"))[0]


def test_one_id_cannot_become_two_nor_two_one() -> None:
    names = Names()
    assert names.learn("action", "20", "1") is None
    assert names.learn("action", "20", "2") is not None
    assert names.learn("action", "21", "1") is not None
    assert names.learn("set", "20", "2") is None


def test_ids_have_to_be_consistent_over_exchanges() -> None:
    names = Names()
    exchange = EXCHANGES[POLL]
    assert compare(exchange, answer(exchange), names, BASE) == []
    body = copy.deepcopy(exchange.response)
    link = body["_links"]["deploymentBase"]
    link["href"] = link["href"].replace("deploymentBase/20", "deploymentBase/7")
    assert (
        "action 20 was 20 and is now 7" in compare(exchange, answer(exchange, body), names, BASE)[0]
    )


def test_c_may_not_change_where_it_did_not() -> None:
    names = Names()
    exchange = EXCHANGES[POLL]
    assert compare(exchange, answer(exchange), names, BASE) == []
    body = copy.deepcopy(exchange.response)
    link = body["_links"]["deploymentBase"]
    link["href"] = link["href"].split("?")[0] + "?c=5"
    assert "c of 20" in compare(exchange, answer(exchange, body), names, BASE)[0]


def test_times_and_totals_may_differ() -> None:
    def later(body: Any) -> None:
        body["installedAt"] += 5000
        body["pollStatus"]["lastRequestAt"] = 1

    assert mutated(TARGET, later) == []
    assert mutated(STATUSES, lambda body: body.update(total=999)) == []


def test_requests_are_sent_with_live_ids() -> None:
    names = Names()
    names.learn("action", "20", "3")
    names.learn("c of 20", "429146778", "-5")
    path = "/default/controller/v1/a21019/deploymentBase/20?c=429146778"
    assert names.path(path) == "/default/controller/v1/a21019/deploymentBase/3?c=-5"
    assert names.path("/default/controller/v1/a20/deploymentBase/999999").endswith("/999999")
