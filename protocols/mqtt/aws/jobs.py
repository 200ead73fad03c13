"""The job session of one device: which job it works on, and what the service knows of it. Sans-IO.

Theory of operation
===================

::

    OFFLINE   no connection
    ASKING    waits to be told what to do: $next/get after a connect, start-next to begin it, get
              (the list of what is pending) after a job has ended
    IDLE      nothing is pending; a notification says when that changes
    WORKING   one job is in progress
    SYNCING   what we know of our job is out of date, or it may be gone: {jobId}/get tells

Reports leave one at a time. Each carries the version that the service had last (`expectedVersion`),
so that two who believe to work on one job cannot both succeed; a VersionMismatch is resolved by
{jobId}/get and the report is sent again with the new version. An execution that has become final
without us was cancelled, deleted or timed out: it is `gone`, and nothing is reported about it.

What is lost is asked for again when `deadline` has passed. Each request has a token of its own:
an answer that comes twice (QoS 1), or too late, has one that nobody waits for.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from agent.errors import LocalMisuse
from protocols.mqtt.aws.messages import (
    BadMessage,
    Execution,
    ExecutionState,
    decode,
    encode,
    execution_of,
    pending_jobs,
    rejection_of,
    state_of,
)
from protocols.mqtt.aws.tables import FINAL, JobStatus
from protocols.mqtt.aws.topics import NEXT, Answer, Kind, Topics

__all__ = ["TRANSITIONS", "JobHost", "JobReport", "JobSession", "JobState"]

MAX_QUEUE = 4
"""Reports that wait: progress is coalesced, so a final one and the steps before it fit."""


class JobState(enum.Enum):
    OFFLINE = "OFFLINE"
    ASKING = "ASKING"
    IDLE = "IDLE"
    WORKING = "WORKING"
    SYNCING = "SYNCING"


TRANSITIONS: dict[JobState, dict[str, JobState]] = {
    JobState.OFFLINE: {"online": JobState.ASKING},
    JobState.ASKING: {
        "queued": JobState.ASKING,
        "offered": JobState.WORKING,
        "nothing": JobState.IDLE,
        "offline": JobState.OFFLINE,
    },
    JobState.IDLE: {"notified": JobState.ASKING, "offline": JobState.OFFLINE},
    JobState.WORKING: {
        "doubt": JobState.SYNCING,
        "closed": JobState.ASKING,
        "gone": JobState.ASKING,
        "offline": JobState.OFFLINE,
    },
    JobState.SYNCING: {
        "current": JobState.WORKING,
        "closed": JobState.ASKING,
        "gone": JobState.ASKING,
        "offline": JobState.OFFLINE,
    },
}

_RETRIED = frozenset({"RequestThrottled", "InternalError"})
"""Asked again when the deadline has passed: nobody's fault for good."""
_GONE = frozenset({"ResourceNotFound", "TerminalStateReached"})


@dataclass(frozen=True, slots=True)
class JobReport:
    """One update of a job execution."""

    status: JobStatus
    details: dict[str, str]

    @property
    def final(self) -> bool:
        return self.status in FINAL


class JobHost(Protocol):
    """The device behind a session."""

    def send(self, topic: str, payload: bytes) -> None: ...

    def moved(self, old: JobState, new: JobState, cause: str) -> None:
        """The session changed its state; `deadline` may have changed with it."""
        ...

    def offered(self, execution: Execution) -> None:
        """The service wants this job done; it is IN_PROGRESS. After a connect also when the device
        has worked on it before."""
        ...

    def gone(self, job_id: str) -> None:
        """The job is not ours any more: cancelled, deleted, timed out, or closed."""
        ...

    def settled(self, job_id: str, report: JobReport) -> None:
        """The service has taken the report."""
        ...

    def refused(self, job_id: str, report: JobReport, code: str) -> None:
        """The service will never take the report."""
        ...


class JobSession:
    """`tokens` makes a new client token; `step_timeout` in minutes, None leaves it to the job."""

    __slots__ = (
        "_host",
        "_inflight",
        "_number",
        "_queue",
        "_request",
        "_step_timeout",
        "_token",
        "_topics",
        "answers",
        "job_id",
        "state",
        "version",
    )

    def __init__(
        self, host: JobHost, topics: Topics, prefix: str, step_timeout: int | None = None
    ) -> None:
        self.state = JobState.OFFLINE
        self.job_id = ""
        """The job in progress; empty: none."""
        self.version = 0
        self.answers = 0
        """Requests that were answered."""
        self._host = host
        self._topics = topics
        self._step_timeout = step_timeout
        self._token = prefix
        self._number = 0
        self._queue: deque[JobReport] | None = None
        self._inflight: JobReport | None = None
        self._request: tuple[Kind, str, bytes, str] | None = None
        """What waits for its answer: kind, topic, payload, token."""

    # --- what happens to it

    @property
    def waits(self) -> bool:
        """An answer is due; call `timeout` when it has not come in time."""
        return self._request is not None

    def online(self) -> None:
        self._move("online")
        self._ask(Kind.DESCRIBE, self._topics.describe(NEXT), {})

    def offline(self) -> None:
        if self.state is not JobState.OFFLINE:
            self._request = None
            self._back_to_queue()
            self._move("offline")

    def timeout(self) -> None:
        """The answer did not come: ask again, in the same words."""
        if self._request is not None:
            _, topic, payload, _ = self._request
            self._host.send(topic, payload)

    def ask(self) -> None:
        """Look for a job, as after a notification."""
        if self.state is JobState.IDLE:
            self._move("notified")
            self._start_next()

    def report(self, report: JobReport) -> None:
        """Tell the service, now or when it is reached again. Progress that still waits is replaced
        by what comes after it."""
        if not self.job_id:
            return
        queue = self._queue
        if queue is None:
            queue = self._queue = deque(maxlen=MAX_QUEUE)
        while queue and not queue[-1].final and queue[-1].details.keys() <= report.details.keys():
            queue.pop()
        queue.append(report)
        self._next_report()

    def message(self, answer: Answer, payload: bytes) -> None:
        """Raises :class:`~protocols.mqtt.aws.messages.BadMessage`, with nothing changed."""
        message = decode(payload)
        if answer.kind is Kind.NOTIFY:
            self._notified(pending_jobs(message))
        elif answer.kind is Kind.NOTIFY_NEXT:
            execution = execution_of(message)
            self._notified(frozenset((execution.job_id,)) if execution is not None else frozenset())
        elif self._request is not None and message.get("clientToken") == self._request[3]:
            if answer.kind is not self._request[0]:
                raise BadMessage(f"a token of {self._request[0].value} under {answer.kind.value}")
            if answer.accepted:
                self._accepted(answer.kind, message)
            else:
                self._rejected(answer.kind, message)

    # --- answers

    def _accepted(self, kind: Kind, message: dict[str, object]) -> None:
        if kind is Kind.UPDATE:
            state = message.get("executionState")
            version = state_of(state).version if state else self.version + 1
            self._done()
            self.version = version
            self._settle()
        elif kind is Kind.PENDING:
            pending = pending_jobs(message)
            self._done()
            if pending:
                self._move("queued")
                self._start_next()
            else:
                self._move("nothing")
        else:
            execution = execution_of(message)
            self._done()
            if self.state is JobState.SYNCING:
                self._synced(execution)
            else:
                self._told(execution)

    def _told(self, execution: Execution | None) -> None:
        """The answer to $next/get or start-next."""
        mine = self.job_id
        if mine and (execution is None or execution.job_id != mine):
            self.job_id = ""
            self._drop_reports()
            self._host.gone(mine)
        if execution is None:
            self._move("nothing")
        elif execution.state.status is JobStatus.QUEUED:
            self._move("queued")
            self._start_next()
        else:
            self.job_id = execution.job_id
            self.version = execution.state.version
            self._move("offered")
            self._host.offered(execution)
            self._next_report()

    def _synced(self, execution: Execution | None) -> None:
        """The answer to {jobId}/get."""
        if execution is None or execution.state.status in FINAL:
            self._ended(execution.state if execution is not None else None)
        else:
            self.version = execution.state.version
            self._move("current")
            self._next_report()

    def _rejected(self, kind: Kind, message: dict[str, object]) -> None:
        rejection = rejection_of(message)
        code = rejection.code
        if code in _RETRIED:
            return  # the deadline passes, and it is asked again
        self._done()
        if kind is not Kind.UPDATE:
            if self.state is JobState.SYNCING:
                self._ended(rejection.state)
            else:
                self._told(None)
        elif code == "VersionMismatch":
            self._doubt()
        elif code in _GONE or (rejection.state is not None and rejection.state.status in FINAL):
            self._ended(rejection.state)
        else:
            report, self._inflight = self._inflight, None
            if report is not None:
                self._host.refused(self.job_id, report, code)
            self._next_report()

    def _notified(self, pending: frozenset[str]) -> None:
        if self.state is JobState.IDLE and pending:
            self.ask()
        elif self.state is JobState.WORKING and self.job_id not in pending:
            # A message that lists others may be older than our job: only the service knows.
            self._doubt()

    # --- inside

    def _doubt(self) -> None:
        self._request = None
        self._back_to_queue()
        self._move("doubt")
        self._ask(Kind.DESCRIBE, self._topics.describe(self.job_id), {})

    def _ended(self, state: ExecutionState | None) -> None:
        """The execution is final. By our own report, whose answer was lost, or without us."""
        self._back_to_queue()
        job_id, self.job_id = self.job_id, ""
        mine = next((report for report in self._queue or () if report.final), None)
        self._drop_reports()
        ours = mine is not None and state is not None and mine.status is state.status
        self._move("closed" if ours else "gone")
        if ours and mine is not None:
            self._host.settled(job_id, mine)
        else:
            self._host.gone(job_id)
        self._what_else()

    def _settle(self) -> None:
        report, self._inflight = self._inflight, None
        job_id = self.job_id
        assert report is not None
        if report.final:
            self.job_id = ""
            self._drop_reports()
            self._move("closed")
        self._host.settled(job_id, report)
        if report.final:
            self._what_else()
        else:
            self._next_report()

    def _what_else(self) -> None:
        if self.state is JobState.ASKING and self._request is None:
            self._ask(Kind.PENDING, self._topics.pending, {})

    def _start_next(self) -> None:
        body: dict[str, object] = {"statusDetails": {"receive": "0/0"}}
        if self._step_timeout is not None:
            body["stepTimeoutInMinutes"] = self._step_timeout
        self._ask(Kind.START_NEXT, self._topics.start_next, body)

    def _next_report(self) -> None:
        if self.state is not JobState.WORKING or self._request is not None or not self._queue:
            return
        report = self._inflight = self._queue.popleft()
        body: dict[str, object] = {
            "status": report.status.value,
            "statusDetails": report.details,
            "expectedVersion": self.version,
            "includeJobExecutionState": True,
        }
        if self._step_timeout is not None and not report.final:
            body["stepTimeoutInMinutes"] = self._step_timeout
        self._ask(Kind.UPDATE, self._topics.update(self.job_id), body)

    def _back_to_queue(self) -> None:
        report, self._inflight = self._inflight, None
        if report is not None:
            if self._queue is None:
                self._queue = deque(maxlen=MAX_QUEUE)
            self._queue.appendleft(report)

    def _drop_reports(self) -> None:
        self._queue = None
        if self._inflight is not None:
            self._inflight = None
            self._request = None

    def _ask(self, kind: Kind, topic: str, body: dict[str, object]) -> None:
        self._number += 1
        token = f"{self._token}.{self._number}"
        payload = encode({**body, "clientToken": token})
        self._request = (kind, topic, payload, token)
        self._host.send(topic, payload)

    def _done(self) -> None:
        self.answers += 1
        self._request = None

    def _move(self, cause: str) -> None:
        """The only way to another state."""
        new = TRANSITIONS[self.state].get(cause)
        if new is None:
            raise LocalMisuse(f"job session: {cause!r} while {self.state.name}")
        old, self.state = self.state, new
        self._host.moved(old, new, cause)
