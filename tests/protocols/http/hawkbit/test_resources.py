"""What servers answer: recorded answers are read as they are, bad ones are named and bounded."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.hawkbit.resources import (
    Handling,
    Limits,
    Window,
    auto_confirm,
    cancel_action,
    deployment,
    poll_answer,
)
from protocols.http.messages import BadAnswer

VECTORS = Path(__file__).parents[3] / "stubs/vectors/hawkbit-exchanges-1.0.4.jsonl"
RECORDED = [json.loads(line) for line in VECTORS.read_text().splitlines()]
SHA256 = "c59d3c0480cc2d71d8f646e735e92da65450311eec46e81a5db8c7e6e8a92054"


def answers(end: str, member: str) -> list[dict[str, Any]]:
    found = [
        one["response"]
        for one in RECORDED
        if one["who"] != "management"
        and one["status"] == 200
        and isinstance(one["response"], dict)
        and member in one["response"]
        and end in one["path"]
    ]
    # The recording has the port taken out.
    return [json.loads(json.dumps(one).replace(":PORT", ":8080")) for one in found]


POLLS = answers("/controller/v1/", "config")
DEPLOYMENTS = answers("/deploymentBase/", "deployment")


def test_recorded_polls() -> None:
    assert len(POLLS) == 40
    for answer in POLLS:
        polled = poll_answer(answer)
        assert polled.sleep == 30
        links = answer.get("_links", {})
        actions = (polled.deployment, polled.cancel, polled.confirmation)
        names = ("deploymentBase", "cancelAction", "confirmationBase")
        for link, name in zip(actions, names, strict=True):
            assert (link is not None) == (name in links)
            if link is not None:
                assert links[name]["href"] == link.href
                assert f"/{name}/{link.id}" in link.href
                assert link.version == link.href.partition("?c=")[2]
        assert (polled.installed is not None) == ("installedBase" in links)
        assert (polled.config_data is not None) == ("configData" in links)
        assert sum(link is not None for link in actions) <= 1


def test_recorded_deployments() -> None:
    for answer in DEPLOYMENTS + answers("/installedBase/", "deployment"):
        action = deployment(answer)
        assert action.id == answer["id"]
        assert action.download is Handling(answer["deployment"]["download"])
        for artifact in action.artifacts:
            assert set(artifact.hashes) == {"sha256", "sha1", "md5"}
            assert artifact.url.endswith(f"/{artifact.filename}")
    only, window = [deployment(one) for one in DEPLOYMENTS if one["deployment"]["update"] == "skip"]
    assert (only.window, only.download_only) == (None, True)
    assert (window.window, window.download_only) == (Window.UNAVAILABLE, False)


def test_recorded_confirmations() -> None:
    (answer,) = answers("/confirmationBase/", "confirmation")
    assert len(deployment(answer, "confirmation").artifacts) == 1
    states = [auto_confirm(one) for one in answers("/confirmationBase", "autoConfirm")]
    assert [one.active for one in states] == [False, True]
    assert states[0].activate is not None and states[0].deactivate is None
    assert states[1].deactivate is not None and states[1].activate is None


def test_recorded_cancels() -> None:
    for answer in answers("/cancelAction/", "cancelAction"):
        assert cancel_action(answer).stop_id == answer["id"]


def test_goosebit() -> None:
    """Links are empty instead of absent, `download` and SHA-1 are all there is."""
    assert poll_answer({"config": {"polling": {"sleep": "00:00:10"}}, "_links": {}}).sleep == 10
    artifact = {
        "filename": "a.swu",
        "hashes": {"sha1": "A" * 40},
        "size": 5,
        "_links": {"download": {"href": "http://127.0.0.1:60053/ddi/d/controller/v1/x/download"}},
    }
    chunk = {"part": "os", "version": "1", "name": "a", "artifacts": [artifact]}
    body = {"download": "forced", "update": "forced", "chunks": [chunk]}
    (found,) = deployment({"id": "1", "deployment": body}).artifacts
    assert found.hashes == {"sha1": "a" * 40}


def test_download_is_preferred() -> None:
    answer = copy.deepcopy(DEPLOYMENTS[0])
    links = answer["deployment"]["chunks"][0]["artifacts"][0]["_links"]
    links["download"] = {"href": "https://cdn.example/app.bin"}
    (artifact,) = deployment(answer).artifacts
    assert artifact.url == "https://cdn.example/app.bin"


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    answer = copy.deepcopy(DEPLOYMENTS[0])
    at: Any = answer
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return answer


CHUNK = ("deployment", "chunks", 0)
FILE = (*CHUNK, "artifacts", 0)

BAD: list[tuple[tuple[str | int, ...], object, str]] = [
    (("id",), None, "id is absent"),
    (("id",), "../../x", "id is '../../x'"),
    (("id",), True, "id is True"),
    (("deployment",), [], "deployment is a JSON list"),
    (("deployment", "download"), "maybe", "deployment.download is 'maybe'"),
    (("deployment", "update"), 7, "deployment.update is 7"),
    (("deployment", "maintenanceWindow"), "open", "maintenanceWindow is 'open'"),
    (("deployment", "chunks"), {}, "deployment.chunks is a JSON dict"),
    (CHUNK, "os", "chunks[0] is 'os'"),
    ((*CHUNK, "part"), 1, "chunks[0].part is 1"),
    ((*CHUNK, "name"), "n" * 600, "chunks[0].name is 600 characters"),
    ((*CHUNK, "version"), None, "chunks[0].version is absent"),
    ((*CHUNK, "artifacts"), 3, "chunks[0].artifacts is 3"),
    (FILE, None, "artifacts[0] is absent"),
    ((*FILE, "size"), -1, "artifacts[0].size is -1"),
    ((*FILE, "size"), "5000", "artifacts[0].size is '5000'"),
    ((*FILE, "size"), True, "artifacts[0].size is True"),
    ((*FILE, "size"), 1 << 60, "artifacts[0].size is 1152921504606846976"),
    ((*FILE, "hashes"), "none", "artifacts[0].hashes is 'none'"),
    ((*FILE, "hashes"), {}, "artifacts[0].hashes has none of"),
    ((*FILE, "hashes", "sha256"), SHA256[:-1], "hashes.sha256 is"),
    ((*FILE, "hashes", "md5"), "z" * 32, "hashes.md5 is"),
    ((*FILE, "_links"), [], "artifacts[0]._links is a JSON list"),
    ((*FILE, "_links"), {}, "neither a download nor a download-http link"),
    ((*FILE, "_links", "download-http"), {"href": 5}, "download-http has no href"),
    ((*FILE, "_links", "download-http"), "http://x/", "download-http has no href"),
    ((*FILE, "_links", "download-http", "href"), "ftp://x/a", "download-http: the URL is neither"),
    ((*FILE, "_links", "download-http", "href"), "/a/b", "download-http: the URL"),
    ((*FILE, "_links", "download-http", "href"), "http://", "download-http: the URL names no host"),
    (
        (*FILE, "_links", "download-http", "href"),
        "http://x/" + "a" * 2000,
        "download-http is 2009 characters long",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=lambda one: str(one)[:40])
def test_bad_deployments(path: tuple[str | int, ...], value: object, message: str) -> None:
    with pytest.raises(BadAnswer) as caught:
        deployment(changed(path, value))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "config is absent"),
        ({"config": {}}, "config.polling is absent"),
        ({"config": {"polling": {}}}, "config.polling.sleep is absent"),
        ({"config": {"polling": {"sleep": "soon"}}}, "sleep is 'soon', not HH:mm:ss"),
        ({"config": {"polling": {"sleep": 30}}}, "sleep is 30, not HH:mm:ss"),
    ],
)
def test_bad_polls(answer: dict[str, Any], message: str) -> None:
    with pytest.raises(BadAnswer, match=message):
        poll_answer(answer)


@pytest.mark.parametrize(
    ("href", "message"),
    [
        ("http://h/t/controller/v1/d/cancelAction/7", "does not end in /deploymentBase/"),
        ("http://h/deploymentBase/", "does not end in /deploymentBase/"),
        ("http://h/deploymentBase/a b", "does not end in /deploymentBase/"),
        ("http://user:secret@h/deploymentBase/7", "the URL holds a user name"),
        ("http://h:99999/deploymentBase/7", "the URL cannot be read"),
    ],
)
def test_bad_action_links(href: str, message: str) -> None:
    answer = {
        "config": {"polling": {"sleep": "00:01:00"}},
        "_links": {"deploymentBase": {"href": href}},
    }
    with pytest.raises(BadAnswer) as caught:
        poll_answer(answer)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_bounds() -> None:
    file = DEPLOYMENTS[0]["deployment"]["chunks"][0]["artifacts"][0]
    chunk = DEPLOYMENTS[0]["deployment"]["chunks"][0]
    with pytest.raises(BadAnswer, match="more than 64 artifacts"):
        deployment(
            changed(("deployment", "chunks"), [{**chunk, "artifacts": [file] * 40}] * 2),
        )
    with pytest.raises(BadAnswer, match=r"chunks has 65 entries"):
        deployment(changed(("deployment", "chunks"), [chunk] * 65))
    tight = Limits(chunks=1, artifacts=1)
    assert len(deployment(DEPLOYMENTS[0], limits=tight).artifacts) == 1


def test_sleep_is_bounded() -> None:
    def sleep(text: str) -> int:
        return poll_answer({"config": {"polling": {"sleep": text}}}).sleep

    assert sleep("00:00:00") == 1
    assert sleep("99:59:59") == 86_400
    assert sleep("01:02:03") == 3723


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "config", "polling", "sleep", "_links", "href", "deployment", "chunks"]
                + ["artifacts", "size", "hashes", "sha256", "deploymentBase", "stopId"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=14), JSON, max_size=6) | JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Nothing but BadAnswer comes out, whatever goes in."""
    if not isinstance(value, dict):
        return
    for parse in (poll_answer, deployment, cancel_action, auto_confirm):
        try:
            parse(value)
        except BadAnswer as error:
            assert str(error)


@given(st.data())
def test_any_change_of_a_deployment(data: st.DataObject) -> None:
    """One member replaced by any JSON: read, or refused by name."""
    paths: list[tuple[str | int, ...]] = []

    def walk(value: object, at: tuple[str | int, ...]) -> None:
        items = value.items() if isinstance(value, dict) else ()
        if isinstance(value, list):
            items = enumerate(value)  # type: ignore[assignment]
        for name, inner in items:
            paths.append((*at, name))
            walk(inner, (*at, name))

    walk(DEPLOYMENTS[0], ())
    answer = changed(data.draw(st.sampled_from(paths)), data.draw(JSON))
    try:
        deployment(answer)
    except BadAnswer as error:
        assert str(error)
