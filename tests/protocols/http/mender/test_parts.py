"""Tables over every cell, answers of any shape, options that make no sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UnusableSettings
from agent.outcome import Outcome
from agent.update import State
from protocols.http.mender.deployment import Kept, decode_kept, parse_deployment
from protocols.http.mender.options import parse_options
from protocols.http.mender.tables import FINAL, STATUSES
from protocols.http.messages import BadAnswer
from tests.stubs.mender import FINAL as FINAL_WORDS
from tests.stubs.mender import STATUSES as WORDS

GOOD = {
    "id": "w81s4fae-7dec-11d0-a765-00a0c91e6bf6",
    "artifact": {
        "artifact_name": "release-2",
        "source": {"uri": "https://host/a?sig=x", "expire": "2030-01-01T00:00:00Z"},
        "device_types_compatible": ["rspi"],
    },
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def test_the_tables_have_every_cell() -> None:
    assert STATUSES.keys() == set(State)
    assert FINAL.keys() == set(Outcome)
    for statuses in STATUSES.values():
        assert set(statuses) <= WORDS - FINAL_WORDS
    for outcome, word in FINAL.items():
        assert (word == "success") is (outcome is Outcome.SUCCESS)
        assert word in FINAL_WORDS or outcome in (Outcome.CANCELLED, Outcome.DEFERRED)


def test_a_deployment_is_read() -> None:
    deployment = parse_deployment(GOOD)
    assert deployment.artifact_name == "release-2"
    assert "sig=" not in repr(deployment)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": 7}, "'id'"),
        ({"id": "../etc"}, "'id'"),
        ({"artifact": []}, "'artifact'"),
        ({"artifact": {**GOOD["artifact"], "source": None}}, "'artifact.source'"),
        ({"artifact": {**GOOD["artifact"], "source": {}}}, "'uri'"),
        ({"artifact": {**GOOD["artifact"], "artifact_name": "x" * 256}}, "'artifact_name'"),
        ({"artifact": {**GOOD["artifact"], "artifact_name": "\U0001f4a1" * 64}}, "255 bytes"),
        ({"artifact": {**GOOD["artifact"], "artifact_name": "\ud800"}}, "encoded"),
        ({"artifact": {**GOOD["artifact"], "device_types_compatible": "rspi"}}, "compatible"),
    ],
)
def test_what_is_wrong_with_a_deployment_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(BadAnswer, match=named):
        parse_deployment({**GOOD, **change})


@given(st.dictionaries(st.sampled_from(["id", "artifact"]), json_values))
def test_any_object_is_a_deployment_or_refused(value: dict[str, object]) -> None:
    try:
        deployment = parse_deployment(value)
    except BadAnswer:
        return
    assert deployment.id and deployment.uri


@given(st.binary(max_size=60))
def test_what_is_kept_is_read_back_or_nothing(data: bytes) -> None:
    kept = decode_kept(data)
    assert kept is None or decode_kept(kept.encode()) == kept
    assert decode_kept(Kept("a", "b").encode()) == Kept("a", "b")
    assert decode_kept(None) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"interval": "soon"}, "interval is 'soon'"),
        ({"interval": "nan"}, "interval is nan"),
        ({"key": "dsa"}, "key is 'dsa': one of ecdsa"),
        ({"api": "v3"}, "api is 'v3'"),
        ({"signed": "maybe"}, "signed is 'maybe'"),
        ({"device_type": ""}, "device_type is empty"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict[str, str], says: str) -> None:
    with pytest.raises(UnusableSettings, match=says):
        parse_options(options)
