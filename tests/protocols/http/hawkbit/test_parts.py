"""Options, personas, records and bodies."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UnusableSettings
from agent.flash import Flash
from agent.image_store import ImageStore
from agent.nvm import Nvm
from agent.outcome import Outcome
from protocols.http.download import DownloadFailed
from protocols.http.hawkbit.artifacts import chosen
from protocols.http.hawkbit.feedback import MAX_DETAIL, MAX_DETAILS, feedback_body
from protocols.http.hawkbit.memory import ActionRecord, Memory, decode_action
from protocols.http.hawkbit.misbehaviour import foreign_action, foreign_name
from protocols.http.hawkbit.options import Confirm, PackageFormat, Soft, parse_options
from protocols.http.hawkbit.persona import FOTILLA, RAUC_HAWKBIT_UPDATER, SWUPDATE, personas
from protocols.http.hawkbit.resources import Artifact
from protocols.http.hawkbit.tables import (
    DOWNLOADED,
    FAILED,
    CancelAnswer,
    Execution,
)
from tests.agent.parts import SLOT, new_image, old_image


def test_options() -> None:
    options = parse_options(
        {
            "tenant": "acme",
            "poll": "2.5",
            "persona": "rauc-hawkbit-updater",
            "etag": "on",
            "confirm": "auto",
            "soft": "wait",
            "cancel": "reject",
            "installed": "fw:factory:1.0",
        }
    )
    assert (options.tenant, options.poll, options.etag) == ("acme", 2.5, True)
    assert options.persona is RAUC_HAWKBIT_UPDATER
    assert (options.confirm, options.soft) == (Confirm.AUTO, Soft.WAIT)
    assert options.cancel is CancelAnswer.REJECT
    assert options.installed == ("fw:factory", "1.0")
    assert parse_options({}).persona is FOTILLA


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tenant", "a/b", "tenant='a/b' cannot stand in a URL"),
        ("tenant", "", "cannot stand in a URL"),
        ("poll", "soon", "poll='soon' is not a number of seconds"),
        ("poll", "0", "poll='0' is not a number of seconds"),
        ("poll", "nan", "poll='nan' is not a number of seconds"),
        ("poll", "90000", "up to a day"),
        ("persona", "nobody", "no hawkBit persona 'nobody'; known: fotilla, rauc-"),
        ("etag", "yes", "etag='yes' is neither on nor off"),
        ("confirm", "maybe", "confirm='maybe' is none of yes, deny, auto"),
        ("soft", "x", "soft='x' is none of install, wait"),
        ("format", "rpm", "format='rpm' is none of mcuboot, swu"),
        ("mode", "x", "mode='x' is none of merge, replace, remove"),
        ("installed", "fw", "installed='fw' is not NAME:VERSION"),
        ("hw_revision", "", "hw_revision='' is not a text"),
    ],
)
def test_bad_options(name: str, text: str, message: str) -> None:
    with pytest.raises(UnusableSettings) as caught:
        parse_options({name: text})
    assert message in str(caught.value)


def test_a_board_that_no_swu_can_name() -> None:
    with pytest.raises(UnusableSettings, match="hw_boardname"):
        parse_options({"format": "swu", "hw_boardname": "two words"})


def test_personas() -> None:
    for name in personas:
        persona = personas.get(name)
        assert persona.name == name
        assert Execution.CLOSED in persona.executions


# -- records --------------------------------------------------------------------------------------


def test_memory_survives() -> None:
    nvm = Nvm(Flash(ImageStore(), SLOT, old_image()))
    memory = Memory(nvm)
    assert memory.action is None and memory.image() is None
    memory.take_up(ActionRecord("20", "429146778", 3))
    memory.sent("accepted")
    memory.sent("accepted")
    memory.fetched("5", True)
    memory.set_image(4, "abc")
    again = Memory(nvm)
    assert again.action == ActionRecord("20", "5", 3, True, ("accepted",))
    assert again.image() == (4, "abc")
    again.forget()
    again.forget()
    assert Memory(nvm).action is None


@given(st.binary(max_size=80))
def test_any_record_decodes(data: bytes) -> None:
    action = decode_action(data)
    assert action is None or decode_action(action.encode()) == action


@given(
    st.builds(
        ActionRecord,
        st.text(max_size=64),
        st.text(max_size=64),
        st.integers(0, 0xFFFF),
        st.booleans(),
        st.lists(st.text(max_size=12), max_size=5).map(tuple),
    )
)
def test_records_come_back(action: ActionRecord) -> None:
    assert decode_action(action.encode()) == action


# -- bodies ---------------------------------------------------------------------------------------


def test_body() -> None:
    body = feedback_body(DOWNLOADED, ["verified"], persona=FOTILLA, action="20")
    assert body == {
        "status": {
            "execution": "downloaded",
            "result": {"finished": "none"},
            "details": ["verified"],
        }
    }
    body = feedback_body(DOWNLOADED, ["verified"], persona=SWUPDATE, action="20")
    assert body["status"]["result"] == {"finished": "none", "progress": {"cnt": 0, "of": 0}}
    utc = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    body = feedback_body(FAILED, [], persona=RAUC_HAWKBIT_UPDATER, action="20", utc=utc)
    assert body["id"] == "20"
    assert body["timestamp"] == 1_893_456_000_000


def test_details_are_bounded() -> None:
    body = feedback_body(FAILED, ["x" * 2000] * 90, persona=FOTILLA, action="1")
    details = body["status"]["details"]
    assert len(details) == MAX_DETAILS
    assert {len(one) for one in details} == {MAX_DETAIL}


# -- artifacts ------------------------------------------------------------------------------------


def files(*heads: bytes) -> tuple[list[Artifact], dict[str, bytes]]:
    made = [Artifact(f"f{n}", f"http://h/{n}", 9, {"md5": "0" * 32}) for n in range(len(heads))]
    return made, {one.url: head for one, head in zip(made, heads, strict=True)}


def test_exactly_one() -> None:
    image, archive = new_image()[:6], b"070701"
    artifacts, heads = files(b"notes", image, archive)
    assert chosen(artifacts, heads, PackageFormat.MCUBOOT) is artifacts[1]
    assert chosen(artifacts, heads, PackageFormat.SWU) is artifacts[2]
    for wrong in ((b"a", b"b"), (image, image), ()):
        artifacts, heads = files(*wrong)
        with pytest.raises(DownloadFailed) as caught:
            chosen(artifacts, heads, PackageFormat.MCUBOOT)
        assert caught.value.outcome is Outcome.UNSUPPORTED_PACKAGE


def test_a_single_one_is_not_looked_at() -> None:
    artifacts, _ = files(b"?")
    assert chosen(artifacts, {}, PackageFormat.MCUBOOT) is artifacts[0]


# -- misbehaviour ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("fotilla-000001", "fotilla-000000"),
        ("fotilla-000000", "fotilla-000001"),
        ("fotilla-000100", "fotilla-000099"),
        ("gauge", "gauge-clone"),
        ("a7b", "a6b"),
    ],
)
def test_foreign_name(name: str, other: str) -> None:
    assert foreign_name(name) == other


def test_foreign_action() -> None:
    assert foreign_action("41") == "42"
    assert foreign_action("-1") == "1"
