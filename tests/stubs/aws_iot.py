"""A stub of AWS IoT Jobs and MQTT-based file delivery, over any MQTT transport.

It is a stub: written from the AWS IoT developer guide, never compared with the service. Strict
where the guide is: every message that comes or goes is checked against `aws_iot_schema.py`, and
what breaks a rule is answered as the guide says and noted in `violations`. What the guide leaves
open, and is therefore only our reading:

- an update of a final execution that also expects an old version is refused as a VersionMismatch
  (`version_first`; the other order can be asked for);
- a version is counted up by every change of an execution, cancel included;
- JSON blocks carry base64 (the guide says hexadecimal, FreeRTOS decodes base64).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import cbor2
from pydantic import BaseModel, ValidationError

from agent.runtime.mqtt import MqttCause, MqttSettings, MqttTransport
from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from tests.stubs import aws_iot_schema as schema
from tests.stubs.aws_iot_streams import Stream, StreamError, blocks_of, describe

Model = TypeVar("Model", bound=BaseModel)

FINAL = frozenset({"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED"})
TOPIC = re.compile(r"\$aws/things/([^/]+)/(jobs|streams)/(.+)")


@dataclass(slots=True)
class Execution:
    """One job on one thing."""

    job_id: str
    thing: str
    document: dict[str, object]
    queued_at: int
    number: int = 1
    status: str = "QUEUED"
    version: int = 1
    details: dict[str, str] = field(default_factory=dict)
    started_at: int | None = None
    updated_at: int = 0
    timer: Timer | None = None
    history: list[tuple[str, dict[str, str]]] = field(default_factory=list)


class JobError(Exception):
    def __init__(self, code: str, message: str, execution: Execution | None = None) -> None:
        super().__init__(code)
        self.code, self.message, self.execution = code, message, execution


class AwsIotStub:
    """The service. `start` connects it to the broker as a client like any other."""

    def __init__(self, runtime: Runtime, transport: MqttTransport, settings: MqttSettings) -> None:
        self.runtime = runtime
        self.settings = replace(settings, client_id=f"{settings.client_id}-service")
        self.violations: list[str] = []
        self.requests: list[tuple[str, str]] = []
        """(thing, what was asked for), in order."""
        self.streams: dict[str, Stream] = {}
        self.version_first = True
        self.ready = False
        self.throttle = 0
        """So many of the next job requests are refused as RequestThrottled."""
        self.lose_block: Callable[[int], bool] = lambda index: False
        self.mute = False
        """Answers nothing."""
        self._transport = transport
        self._executions: dict[tuple[str, str], Execution] = {}
        self._next: dict[str, tuple[str, str, int] | None] = {}
        self._listed: dict[str, set[str]] = {}
        self._connection = transport.open(self.settings, self)

    # --- the service's control side

    def create_job(self, job_id: str, things: list[str], document: dict[str, object]) -> None:
        for thing in things:
            now = self._time()
            execution = Execution(job_id, thing, document, now, updated_at=now)
            execution.history.append(("QUEUED", {}))
            self._executions[thing, job_id] = execution
            self._notify(thing)

    def cancel(self, job_id: str, thing: str) -> None:
        """CancelJobExecution with force."""
        execution = self._executions[thing, job_id]
        self._change(execution, "CANCELED", execution.details)
        self._notify(thing)

    def delete(self, job_id: str, thing: str) -> None:
        """DeleteJobExecution with force."""
        execution = self._executions.pop((thing, job_id))
        self._disarm(execution)
        self._notify(thing)

    def add_stream(self, stream_id: str, files: dict[int, bytes], version: int = 1) -> None:
        self.streams[stream_id] = Stream(stream_id, version, files)

    def execution(self, job_id: str, thing: str) -> Execution:
        return self._executions[thing, job_id]

    def touch(self, job_id: str, thing: str) -> None:
        """Somebody else updates the execution: its version changes."""
        execution = self._executions[thing, job_id]
        self._change(execution, execution.status, execution.details)

    def close(self) -> None:
        self._connection.close()

    # --- MqttListener

    def connected(self, session_present: bool) -> None:
        jobs, streams = "$aws/things/+/jobs/", "$aws/things/+/streams/"
        self._connection.subscribe(
            f"{jobs}get", f"{jobs}start-next", f"{jobs}+/get", f"{jobs}+/update",
            f"{streams}+/get/+", f"{streams}+/describe/+",
        )  # fmt: skip

    def subscribed(self, refused: tuple[str, ...]) -> None:
        assert not refused, refused
        self.ready = True

    def disconnected(self, cause: MqttCause, detail: str) -> None:
        self.ready = False

    def received(self, topic: str, payload: bytes, qos: int, duplicate: bool) -> None:
        match = TOPIC.fullmatch(topic)
        assert match is not None, topic
        thing, area, rest = match.groups()
        self.requests.append((thing, rest))
        if self.mute:
            return
        if area == "streams":
            self._stream_request(topic, thing, rest, payload)
            return
        token: str | None = None
        try:
            try:
                message = json.loads(payload or b"{}")
            except ValueError:
                raise JobError("InvalidJson", "no JSON") from None
            if isinstance(message, dict) and isinstance(message.get("clientToken"), str):
                token = message["clientToken"]
            if self.throttle:
                self.throttle -= 1
                raise JobError("RequestThrottled", "slow down")
            answer = self._job_request(thing, rest, message)
        except JobError as error:
            if error.code in ("InvalidJson", "InvalidRequest", "InvalidTopic"):
                self.violations.append(f"{topic}: {error.code}: {error.message}")
            state = None if error.execution is None else self._state(error.execution)
            rejected = schema.Rejected(
                code=error.code,  # type: ignore[arg-type]
                message=error.message,
                timestamp=self._time(),
                clientToken=token,
                executionState=state,
            )
            self._publish(f"{topic}/rejected", rejected)
            return
        self._publish(f"{topic}/accepted", answer)
        if rest.endswith("/update") or rest == "start-next":
            self._notify(thing)

    # --- jobs

    def _job_request(self, thing: str, rest: str, message: object) -> BaseModel:
        if rest == "get":
            return self._pending(thing, _parse(schema.GetPending, message))
        if rest == "start-next":
            return self._start_next(thing, _parse(schema.StartNext, message))
        job_id, _, operation = rest.rpartition("/")
        if operation == "get":
            return self._describe(thing, job_id, _parse(schema.Describe, message))
        return self._update(thing, job_id, _parse(schema.Update, message))

    def _pending(self, thing: str, request: schema.GetPending) -> BaseModel:
        lists = self._lists(thing)
        return schema.Pending(
            inProgressJobs=lists.get("IN_PROGRESS", []),
            queuedJobs=lists.get("QUEUED", []),
            timestamp=self._time(),
            clientToken=request.clientToken,
        )

    def _start_next(self, thing: str, request: schema.StartNext) -> BaseModel:
        execution = self._first(thing)
        if execution is not None and execution.status == "QUEUED":
            execution.started_at = self._time()
            self._change(execution, "IN_PROGRESS", request.statusDetails or {})
            self._step_timer(execution, request.stepTimeoutInMinutes)
        return self._one(execution, request.clientToken, document=True)

    def _describe(self, thing: str, job_id: str, request: schema.Describe) -> BaseModel:
        if job_id == "$next":
            execution = self._first(thing)
        else:
            execution = self._find(thing, job_id)
            if execution.status in FINAL:
                raise JobError("TerminalStateReached", "the job is in a terminal state", execution)
        return self._one(execution, request.clientToken, document=request.includeJobDocument)

    def _update(self, thing: str, job_id: str, request: schema.Update) -> BaseModel:
        execution = self._find(thing, job_id)
        expected = request.expectedVersion
        stale = expected is not None and expected != execution.version
        final = execution.status in FINAL
        if stale and (self.version_first or not final):
            raise JobError("VersionMismatch", f"the version is {execution.version}", execution)
        if final:
            raise JobError("InvalidStateTransition", f"it is {execution.status}", execution)
        details = execution.details if request.statusDetails is None else request.statusDetails
        if execution.started_at is None:
            execution.started_at = self._time()
        self._change(execution, request.status, details)
        self._step_timer(execution, request.stepTimeoutInMinutes)
        return schema.Updated(
            executionState=self._state(execution) if request.includeJobExecutionState else None,
            jobDocument=execution.document if request.includeJobDocument else None,
            timestamp=self._time(),
            clientToken=request.clientToken,
        )

    # --- streams

    def _stream_request(self, topic: str, thing: str, rest: str, payload: bytes) -> None:
        stream_id, operation, encoding = rest.split("/")
        base = f"$aws/things/{thing}/streams/{stream_id}"
        token: str | None = None
        try:
            try:
                message = json.loads(payload) if encoding == "json" else cbor2.loads(payload)
            except (ValueError, cbor2.CBORDecodeError):
                raise StreamError(f"Invalid{encoding.capitalize()}", "malformed") from None
            if isinstance(message, dict) and isinstance(message.get("c"), str):
                token = message["c"]
            stream = self.streams.get(stream_id)
            if operation == "describe":
                request = _parse(schema.DescribeStream, message)
                self._publish(
                    f"{base}/description/{encoding}", describe(stream, request.c), encoding
                )
                return
            get = _parse(schema.GetStream, message)
            for block in blocks_of(stream, get, encoding):
                if not self.lose_block(block.i):
                    self._publish(f"{base}/data/{encoding}", block, encoding, qos=0)
        except (StreamError, JobError) as error:
            code = error.code
            if code not in ("ResourceNotFound", "VersionMismatch"):
                self.violations.append(f"{topic}: {code}: {error.message}")
            rejected = schema.StreamRejected(o=code, m=error.message, c=token)  # type: ignore[arg-type]
            self._publish(f"{base}/rejected/{encoding}", rejected, encoding)

    # --- inside

    def _first(self, thing: str) -> Execution | None:
        """In progress before queued, the oldest first."""
        mine = [one for (name, _), one in self._executions.items() if name == thing]
        for status in ("IN_PROGRESS", "QUEUED"):
            for execution in mine:
                if execution.status == status:
                    return execution
        return None

    def _find(self, thing: str, job_id: str) -> Execution:
        execution = self._executions.get((thing, job_id))
        if execution is None:
            raise JobError("ResourceNotFound", f"no job {job_id} for {thing}")
        return execution

    def _change(self, execution: Execution, status: str, details: dict[str, str]) -> None:
        execution.status = status
        execution.details = dict(details)
        execution.version += 1
        execution.updated_at = self._time()
        execution.history.append((status, execution.details))
        if status in FINAL:
            self._disarm(execution)

    def _step_timer(self, execution: Execution, minutes: int | None) -> None:
        if minutes is None or execution.status in FINAL:
            return
        self._disarm(execution)
        if minutes > 0:
            execution.timer = Timer(lambda now: self._timed_out(execution))
            self.runtime.arm(execution.timer, minutes * 60.0)

    def _timed_out(self, execution: Execution) -> None:
        self._change(execution, "TIMED_OUT", execution.details)
        self._notify(execution.thing)

    def _disarm(self, execution: Execution) -> None:
        if execution.timer is not None:
            self.runtime.wheel.disarm(execution.timer)

    def _notify(self, thing: str) -> None:
        """What the list of the thing, and its first, have become."""
        first = self._first(thing)
        now = None if first is None else (first.job_id, first.status, first.number)
        lists = self._lists(thing)
        listed = {summary.jobId for jobs in lists.values() for summary in jobs}
        if listed != self._listed.get(thing, set()):
            self._listed[thing] = listed
            notify = schema.Notify(timestamp=self._time(), jobs=lists)  # type: ignore[arg-type]
            self._publish(f"$aws/things/{thing}/jobs/notify", notify)
        if now != self._next.get(thing):
            self._next[thing] = now
            self._publish(
                f"$aws/things/{thing}/jobs/notify-next", self._one(first, None, document=True)
            )

    def _lists(self, thing: str) -> dict[str, list[schema.Summary]]:
        lists: dict[str, list[schema.Summary]] = {}
        for (name, _), one in self._executions.items():
            if name == thing and one.status not in FINAL:
                summary = schema.Summary(
                    jobId=one.job_id,
                    queuedAt=one.queued_at,
                    startedAt=one.started_at,
                    lastUpdatedAt=one.updated_at,
                    versionNumber=one.version,
                    executionNumber=one.number,
                )
                lists.setdefault(one.status, []).append(summary)
        return lists

    def _one(self, one: Execution | None, token: str | None, *, document: bool) -> BaseModel:
        if one is None:
            return schema.OneExecution(timestamp=self._time(), clientToken=token)
        shown = schema.Execution(
            jobId=one.job_id,
            thingName=one.thing,
            status=one.status,  # type: ignore[arg-type]
            statusDetails=one.details or None,
            queuedAt=one.queued_at,
            startedAt=one.started_at,
            lastUpdatedAt=one.updated_at,
            versionNumber=one.version,
            executionNumber=one.number,
            jobDocument=one.document if document else None,
        )
        return schema.OneExecution(execution=shown, timestamp=self._time(), clientToken=token)

    def _state(self, one: Execution) -> schema.State:
        return schema.State(status=one.status, statusDetails=one.details, versionNumber=one.version)

    def _publish(
        self, topic: str, message: BaseModel, encoding: str = "json", *, qos: int = 1
    ) -> None:
        if encoding == "cbor":
            payload = cbor2.dumps(message.model_dump(exclude_none=True))
        else:
            payload = message.model_dump_json(exclude_none=True).encode()
        assert len(payload) <= 256 * 1024
        self._connection.publish(topic, payload, qos=qos)

    def _time(self) -> int:
        return int(self.runtime.clock.utc().timestamp())


def _parse(model: type[Model], message: object) -> Model:
    try:
        return model.model_validate(message)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise JobError("InvalidRequest", f"{where}: {first['msg']}") from None
