"""The JSON of the Jobs service, read with care: bad input is one error class and costs nothing.

Names and types as in the AWS IoT developer guide ("Jobs device MQTT and HTTPS API operations and
data types"). Members that we do not know are ignored: the service adds some from time to time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from protocols.mqtt.aws.tables import JobStatus
from protocols.mqtt.aws.topics import JOB_ID

__all__ = [
    "BadMessage",
    "Execution",
    "ExecutionState",
    "Rejection",
    "decode",
    "encode",
    "execution_of",
    "pending_jobs",
    "rejection_of",
    "state_of",
]

MAX_MESSAGE = 128 * 1024
"""Bytes: what AWS IoT Core carries in one PUBLISH."""


class BadMessage(ValueError):
    """A message of the service that cannot be understood."""


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """Of a job execution, as update answers carry it."""

    status: JobStatus
    version: int
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Execution:
    """A job execution, as `get`, `start-next` and `notify-next` carry it."""

    job_id: str
    state: ExecutionState
    document: object = field(default=None, repr=False)
    """None when the message left it out."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request was refused: `code` is one of the service's error codes."""

    code: str
    message: str = ""
    state: ExecutionState | None = None
    """With VersionMismatch and InvalidStateTransition."""


def decode(payload: bytes) -> dict[str, object]:
    """Raises :class:`BadMessage`."""
    if len(payload) > MAX_MESSAGE:
        raise BadMessage(f"{len(payload)} bytes")
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        raise BadMessage("no JSON") from None
    if not isinstance(message, dict):
        raise BadMessage("no JSON object")
    return message


def encode(message: dict[str, object]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def execution_of(message: dict[str, object]) -> Execution | None:
    """The execution that a message is about; None when nothing is pending."""
    execution = message.get("execution")
    if execution is None or execution == {}:
        return None
    if not isinstance(execution, dict):
        raise BadMessage("execution: no object")
    job_id = execution.get("jobId")
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise BadMessage("execution.jobId: no job id")
    return Execution(job_id, state_of(execution), execution.get("jobDocument"))


def state_of(state: object) -> ExecutionState:
    """Raises :class:`BadMessage`."""
    if not isinstance(state, dict):
        raise BadMessage("executionState: no object")
    try:
        status = JobStatus(state.get("status"))
    except ValueError:
        raise BadMessage("status: none of the known") from None
    version = state.get("versionNumber")
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise BadMessage("versionNumber: no number")
    details = state.get("statusDetails") or {}
    if not isinstance(details, dict):
        raise BadMessage("statusDetails: no object")
    return ExecutionState(status, version, {str(k): str(v) for k, v in details.items()})


def rejection_of(message: dict[str, object]) -> Rejection:
    code, text = message.get("code"), message.get("message", "")
    state = message.get("executionState")
    return Rejection(
        code if isinstance(code, str) else "",
        text if isinstance(text, str) else "",
        state_of(state) if state else None,
    )


def pending_jobs(message: dict[str, object]) -> frozenset[str]:
    """The job ids in a `notify`, or in the answer to `get`. Raises :class:`BadMessage`."""
    jobs = message.get("jobs")
    if isinstance(jobs, dict):
        lists = list(jobs.values())
    else:
        lists = [message.get("inProgressJobs", []), message.get("queuedJobs", [])]
    found = set()
    for summaries in lists:
        if not isinstance(summaries, list):
            raise BadMessage("jobs: no list")
        for summary in summaries:
            job_id = summary.get("jobId") if isinstance(summary, dict) else None
            if not isinstance(job_id, str):
                raise BadMessage("jobs: an entry without jobId")
            found.add(job_id)
    return frozenset(found)
