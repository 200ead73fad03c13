"""The sans-IO parts of the AWS client: tables, topics, documents, messages, streams, sessions."""

from __future__ import annotations

import json
import re

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import LocalMisuse
from agent.update import TRANSITIONS as ENGINE
from agent.update import Event, Outcome, State
from protocols.mqtt.aws.document import BadDocument, OtaFile, Way, parse_document
from protocols.mqtt.aws.jobs import TRANSITIONS, JobReport, JobSession, JobState
from protocols.mqtt.aws.messages import (
    BadMessage,
    Execution,
    decode,
    execution_of,
    pending_jobs,
    rejection_of,
)
from protocols.mqtt.aws.streams import StreamDownload, stream_rejection
from protocols.mqtt.aws.tables import FINAL, REPORTS, JobStatus, report
from protocols.mqtt.aws.topics import Answer, Kind, Topics
from protocols.mqtt.topics import check_filter
from tests.stubs import aws_iot_schema as schema
from tests.stubs.aws_iot_streams import Stream, blocks_of

# --- tables


def possible() -> set[tuple[State, Outcome | None]]:
    """Every (state, outcome) that the engine can be in: outcomes end attempts in IDLE, or keep the
    image in DOWNLOADED."""
    ends = {Event.STORE_FAILED, Event.BOOT_REVERTED, Event.BOOT_UNCHANGED, Event.DEFER}
    kept = {Outcome.DEFERRED, Outcome.INSTALL_FAILED, Outcome.REVERTED}
    assert all(
        new in (State.IDLE, State.DOWNLOADED)
        for row in ENGINE.values()
        for event, new in row.items()
        if event in ends
    )
    cells: set[tuple[State, Outcome | None]] = {(state, None) for state in State}
    cells |= {(State.IDLE, outcome) for outcome in Outcome if outcome is not Outcome.DEFERRED}
    return cells | {(State.DOWNLOADED, outcome) for outcome in kept}


def test_every_cell_has_its_report() -> None:
    assert set(REPORTS) == possible()
    rejected = {
        Outcome.WRONG_DEVICE, Outcome.DOWNGRADE, Outcome.DEPENDENCY,
        Outcome.UNSUPPORTED_PACKAGE, Outcome.UNSUPPORTED_PROTOCOL,
    }  # fmt: skip
    for (state, outcome), cell in REPORTS.items():
        assert report(state, outcome) is cell
        if outcome is Outcome.CANCELLED or (state, outcome) == (State.IDLE, None):
            assert cell is None
            continue
        assert cell is not None
        if outcome is Outcome.SUCCESS:
            assert cell.status is JobStatus.SUCCEEDED
        elif outcome in rejected:
            assert cell.status is JobStatus.REJECTED
        elif outcome is None or outcome is Outcome.DEFERRED:
            assert cell.status is JobStatus.IN_PROGRESS
        else:
            assert cell.status is JobStatus.FAILED
        update = schema.Update(status=cell.status.value, statusDetails=dict(cell.details))  # type: ignore[arg-type]
        assert update.statusDetails
    with pytest.raises(KeyError):
        report(State.TRIAL, Outcome.SUCCESS)


# --- topics


def test_topics_are_built_and_read() -> None:
    topics = Topics("thing-1")
    base = "$aws/things/thing-1/"
    assert len(topics.filters) == 8
    for topic_filter in topics.filters:
        check_filter(topic_filter)
    read = topics.read
    assert read(f"{base}jobs/notify") == Answer(Kind.NOTIFY, "", True, "json")
    assert read(f"{base}jobs/notify-next") == Answer(Kind.NOTIFY_NEXT, "", True, "json")
    assert read(f"{topics.pending}/accepted") == Answer(Kind.PENDING, "", True, "json")
    assert read(f"{topics.start_next}/rejected") == Answer(Kind.START_NEXT, "", False, "json")
    assert read(f"{topics.describe('$next')}/accepted") == Answer(
        Kind.DESCRIBE, "$next", True, "json"
    )
    assert read(f"{topics.update('j')}/rejected") == Answer(Kind.UPDATE, "j", False, "json")
    assert read(f"{base}streams/s/data/cbor") == Answer(Kind.DATA, "s", True, "cbor")
    assert read(f"{base}streams/s/rejected/json") == Answer(
        Kind.STREAM_REJECTED, "s", False, "json"
    )
    for strange in ("", "x", f"{base}jobs/", f"{base}jobs/notify/x", f"{base}jobs/a/b/accepted",
                    f"{base}jobs/get", "$aws/things/thing-2/jobs/notify",
                    f"{base}streams/s/data/xml", f"{base}shadow/get"):  # fmt: skip
        assert read(strange) is None


@given(st.text())
def test_any_topic_may_come(topic: str) -> None:
    topics = Topics("t")
    topics.read(topic)
    topics.read(f"$aws/things/t/jobs/{topic}")
    topics.read(f"$aws/things/t/streams/{topic}")


# --- documents and messages

DOCUMENT = {
    "afr_ota": {
        "protocols": ["HTTP", "MQTT", "BLE"],
        "streamname": "AFR_OTA-7",
        "files": [
            {
                "filepath": "/device/update",
                "filesize": 180_568,
                "fileid": 3,
                "certfile": "rsasigner.crt",
                "fileType": 202,
                "update_data_url": "https://bucket/fw?sig=x",
                "auth_scheme": "aws.s3.presigned",
                "sig-sha256-ecdsa": "MEQCIF2Q",
            }
        ],
    }
}


def test_an_ota_document_is_read() -> None:
    file = parse_document(DOCUMENT)
    assert file == OtaFile(
        ways=(Way.URL, Way.STREAM),
        size=180_568,
        file_id=3,
        stream="AFR_OTA-7",
        url="https://bucket/fw?sig=x",
        signature=bytes.fromhex("3044022 05d90".replace(" ", "")),
        certificate="rsasigner.crt",
    )
    assert "sig=x" not in repr(file)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.data())
@settings(max_examples=300)
def test_any_document_is_read_or_refused(data: st.DataObject) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    ota = document["afr_ota"]
    target = data.draw(st.sampled_from([document, ota, ota["files"][0]]))
    key = data.draw(st.sampled_from(sorted(target)))
    target[key] = data.draw(json_values)
    try:
        assert parse_document(document).size > 0
    except BadDocument as error:
        assert re.search(r"[a-z]", str(error))


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300)
def test_any_message_is_read_or_refused(payload: bytes) -> None:
    for read in (execution_of, pending_jobs, rejection_of):
        try:
            read(decode(payload))
        except BadMessage as error:
            assert str(error)


@given(st.dictionaries(st.sampled_from(["execution", "jobs", "executionState", "code",
                                        "inProgressJobs"]), json_values))  # fmt: skip
def test_any_members_are_read_or_refused(message: dict[str, object]) -> None:
    for read in (execution_of, pending_jobs, rejection_of):
        try:
            read(message)
        except BadMessage as error:
            assert str(error)


# --- streams


def stream_of(data: bytes, **options: object) -> StreamDownload:
    members: dict[str, object] = {"block": 256, "window": 5, "encoding": "json", "token": "t"}
    return StreamDownload("s", 3, len(data), **{**members, **options})  # type: ignore[arg-type]


def answers(data: bytes, request: bytes, encoding: str) -> list[bytes]:
    """What the stub sends, checked by its schema."""
    message = cbor2.loads(request) if encoding == "cbor" else json.loads(request)
    blocks = blocks_of(
        Stream("s", 1, {3: data}), schema.GetStream.model_validate(message), encoding
    )
    if encoding == "cbor":
        return [cbor2.dumps(block.model_dump(exclude_none=True)) for block in blocks]
    return [block.model_dump_json(exclude_none=True).encode() for block in blocks]


@given(
    data=st.binary(min_size=1, max_size=4000),
    block=st.sampled_from([256, 300, 1024, 4096]),
    window=st.integers(1, 12),
    encoding=st.sampled_from(["json", "cbor"]),
    start=st.integers(0, 10),
    chaos=st.randoms(use_true_random=False),
)
@settings(max_examples=200)
def test_a_stream_arrives_whole_whatever_the_network_does(
    data: bytes, block: int, window: int, encoding: str, start: int, chaos: object
) -> None:
    offset = len(data) * start // 11
    stream = stream_of(data, offset=offset, block=block, window=window, encoding=encoding)
    got = b""
    rounds = 0
    while not stream.complete:
        rounds += 1
        sent = answers(data, stream.request(), encoding)
        assert sent
        assert len(sent) <= window
        sent += [one for one in sent if chaos.random() < 0.2]  # type: ignore[attr-defined]
        chaos.shuffle(sent)  # type: ignore[attr-defined]
        # Some are lost, but not always all.
        for one in sent:
            if rounds % 3 == 0 or chaos.random() < 0.6:  # type: ignore[attr-defined]
                if stream.complete:
                    break
                got += stream.block(one)
    assert got == data[offset:]


def test_the_guides_example_of_a_bitmap() -> None:
    """Blocks 20, 21, 24 and 43: offset 20 and bits 0, 1, 4, 23. The guide's text says 0x130080; by
    its own rule (first byte holds bits 7 to 0) that is what comes out."""
    data = bytes(256 * 50)
    stream = stream_of(data, offset=256 * 20, window=24)
    for block in answers(data, stream.request(), "json"):
        if json.loads(block)["i"] not in (20, 21, 24, 43):
            stream.block(block)
    request = json.loads(stream.request())
    assert (request["o"], request["b"], request["n"]) == (20, "0x130080", 4)
    stream.encoding = "cbor"
    assert cbor2.loads(stream.request())["b"] == bytes.fromhex("130080")


@pytest.mark.parametrize(
    "wrong",
    [
        {"f": 4}, {"i": -1}, {"i": "0"}, {"l": 255}, {"p": "!"}, {"p": ""}, {"p": None},
        {"i": 99}, {"p": "AAAA"},
    ],
)  # fmt: skip
def test_blocks_that_are_none(wrong: dict[str, object]) -> None:
    data = bytes(1000)
    stream = stream_of(data)
    block = json.loads(answers(data, stream.request(), "json")[0])
    with pytest.raises(BadMessage):
        stream.block(json.dumps({**block, **wrong}).encode())
    assert stream.offset == 0
    assert stream.block(json.dumps({**block, "c": "somebody else's"}).encode()) == b""
    assert stream.block(json.dumps(block).encode()) == bytes(256)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300)
def test_any_block_is_read_or_refused(payload: bytes) -> None:
    for encoding in ("json", "cbor"):
        stream = stream_of(bytes(5000), encoding=encoding)
        for read in (stream.block, lambda data, e=encoding: stream_rejection(data, e)):
            try:
                read(payload)
            except BadMessage as error:
                assert str(error)


def test_what_waits_is_bounded_by_the_window() -> None:
    data = bytes(256 * 100)
    stream = stream_of(data, window=4)
    stream.request()
    wide = json.dumps({"f": 3, "l": 256, "o": 1, "n": 99}).encode()
    for block in answers(data, wide, "json"):
        stream.block(block)
    assert len(stream._held) == 3


# --- the session


class Host:
    """Remembers what a session does."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, object]]] = []
        self.did: list[tuple[object, ...]] = []

    def send(self, topic: str, payload: bytes) -> None:
        self.sent.append((topic.removeprefix("$aws/things/t/jobs/"), json.loads(payload)))

    def moved(self, old: JobState, new: JobState, cause: str) -> None:
        assert TRANSITIONS[old][cause] is new

    def offered(self, execution: Execution) -> None:
        self.did.append(("offered", execution.job_id))

    def gone(self, job_id: str) -> None:
        self.did.append(("gone", job_id))

    def settled(self, job_id: str, report: JobReport) -> None:
        self.did.append(("settled", job_id, report.status))

    def refused(self, job_id: str, report: JobReport, code: str) -> None:
        self.did.append(("refused", job_id, code))


def session() -> tuple[JobSession, Host]:
    host = Host()
    return JobSession(host, Topics("t"), "1"), host


def answer(
    one: JobSession, host: Host, accepted: bool = True, again: bool = False, **members: object
) -> None:
    """Answer the last request, once or twice."""
    topic, request = host.sent[-1]
    read = Topics("t").read(f"$aws/things/t/jobs/{topic}/{'accepted' if accepted else 'rejected'}")
    assert read is not None
    payload = json.dumps({**members, "clientToken": request["clientToken"]}).encode()
    for _ in range(1 + again):
        one.message(read, payload)


def execution(job: str = "j", status: str = "IN_PROGRESS", version: int = 2) -> dict[str, object]:
    return {"jobId": job, "status": status, "versionNumber": version, "jobDocument": {}}


def working() -> tuple[JobSession, Host]:
    one, host = session()
    one.online()
    answer(one, host, execution=execution())
    assert one.state is JobState.WORKING
    return one, host


def test_every_cell_of_the_session() -> None:
    causes = {cause for row in TRANSITIONS.values() for cause in row}
    for state in JobState:
        for cause in causes:
            one, _ = session()
            one.state = state
            if cause in TRANSITIONS[state]:
                one._move(cause)
                assert one.state is TRANSITIONS[state][cause]
            else:
                with pytest.raises(LocalMisuse, match=state.name):
                    one._move(cause)
                assert one.state is state


def test_a_queued_job_is_started() -> None:
    one, host = session()
    one.online()
    assert host.sent[-1][0] == "$next/get"
    answer(one, host, execution=execution(status="QUEUED", version=1), again=True)
    assert host.sent[-1][0] == "start-next"
    answer(one, host, execution=execution(), again=True)
    assert host.did == [("offered", "j")]
    assert len(host.sent) == 2


def test_a_mismatch_is_resolved_by_get_and_the_report_sent_again() -> None:
    one, host = working()
    one.report(JobReport(JobStatus.SUCCEEDED, {}))
    assert host.sent[-1][1]["expectedVersion"] == 2
    answer(one, host, accepted=False, code="VersionMismatch", message="", again=True)
    assert host.sent[-1][0] == "j/get"
    answer(one, host, execution=execution(version=9))
    assert host.sent[-1][0] == "j/update"
    assert host.sent[-1][1]["expectedVersion"] == 9
    answer(one, host, executionState={"status": "SUCCEEDED", "versionNumber": 10}, again=True)
    assert host.did[-1] == ("settled", "j", JobStatus.SUCCEEDED)
    assert host.sent[-1][0] == "get"
    answer(one, host, inProgressJobs=[], queuedJobs=[])
    assert one.state is JobState.IDLE


def test_a_final_report_whose_answer_was_lost_is_known_by_its_state() -> None:
    one, host = working()
    one.report(JobReport(JobStatus.FAILED, {}))
    state = {"status": "FAILED", "versionNumber": 3}
    answer(one, host, accepted=False, code="InvalidStateTransition", executionState=state)
    assert host.did[-1] == ("settled", "j", JobStatus.FAILED)


@pytest.mark.parametrize("code", ["ResourceNotFound", "TerminalStateReached"])
def test_gone_jobs(code: str) -> None:
    one, host = working()
    one.report(JobReport(JobStatus.IN_PROGRESS, {"receive": "1/2"}))
    answer(one, host, accepted=False, code=code)
    assert host.did[-1] == ("gone", "j")
    assert one.job_id == ""
    one.report(JobReport(JobStatus.FAILED, {}))
    assert host.sent[-1][0] == "get"


def test_a_report_that_is_wrong_in_itself_is_not_repeated() -> None:
    one, host = working()
    one.report(JobReport(JobStatus.FAILED, {}))
    answer(one, host, accepted=False, code="InvalidRequest", message="no")
    assert host.did[-1] == ("refused", "j", "InvalidRequest")
    assert not one.waits


def test_throttled_requests_wait_and_are_repeated_in_the_same_words() -> None:
    one, host = working()
    one.report(JobReport(JobStatus.FAILED, {}))
    answer(one, host, accepted=False, code="RequestThrottled")
    assert one.waits
    before = host.sent[-1]
    one.timeout()
    assert host.sent[-1] == before


def test_progress_is_coalesced_and_the_final_report_comes_last() -> None:
    one, host = working()
    for number in range(9):
        one.report(JobReport(JobStatus.IN_PROGRESS, {"receive": f"{number}/9"}))
    one.report(JobReport(JobStatus.IN_PROGRESS, {"self_test": "ready"}))
    one.report(JobReport(JobStatus.FAILED, {"reason": "x"}))
    seen = []
    while one.waits:
        if host.sent[-1][0] == "j/update":
            seen.append(host.sent[-1][1]["statusDetails"])
            answer(one, host)
        else:
            answer(one, host, inProgressJobs=[], queuedJobs=[])
    assert seen == [{"receive": "0/9"}, {"receive": "8/9"}, {"self_test": "ready"}, {"reason": "x"}]


def test_a_lost_connection_keeps_the_reports() -> None:
    one, host = working()
    one.report(JobReport(JobStatus.IN_PROGRESS, {"self_test": "ready"}))
    one.offline()
    one.report(JobReport(JobStatus.FAILED, {"reason": "x"}))
    one.online()
    answer(one, host, execution=execution(version=5))
    assert host.sent[-1][1]["statusDetails"] == {"self_test": "ready"}
    answer(one, host)
    assert host.sent[-1][1]["statusDetails"] == {"reason": "x"}
    assert host.sent[-1][1]["expectedVersion"] == 6


@given(st.lists(st.tuples(st.sampled_from(["notify", "notify-next", "get/accepted",
       "get/rejected", "start-next/accepted", "$next/get/accepted", "j/get/accepted",
       "j/update/accepted", "j/update/rejected"]), json_values), max_size=8))  # fmt: skip
def test_any_answer_leaves_a_session_that_works(messages: list[tuple[str, object]]) -> None:
    one, host = working()
    for name, body in messages:
        read = Topics("t").read(f"$aws/things/t/jobs/{name}")
        assert read is not None
        if isinstance(body, dict) and host.sent:
            body = {**body, "clientToken": host.sent[-1][1]["clientToken"]}
        try:
            one.message(read, json.dumps(body).encode())
        except BadMessage as error:
            assert str(error)
    one.offline()
    one.online()
    assert host.sent[-1][0] == "$next/get"


def test_final_statuses() -> None:
    assert {status.value for status in FINAL} == {
        "SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED",
    }  # fmt: skip
