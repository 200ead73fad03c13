"""The wire of the AWS IoT Jobs and streams stub, member by member: the schema of every message.

Written from the AWS IoT developer guide and API reference (UpdateJobExecution,
DescribeJobExecution, StartNextPendingJobExecution, GetPendingJobExecutions, MQTT-based file
delivery). Requests are closed: a member that the guide does not name is an error here, while AWS
itself may ignore it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ClientToken = Annotated[str, StringConstraints(min_length=1, max_length=64)]
DetailName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9:_-]{1,128}$")]
DetailValue = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Details = dict[DetailName, DetailValue]
StepTimeout = Annotated[int, Field(ge=-1, le=10_080)]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# --- requests


class GetPending(Closed):
    clientToken: ClientToken | None = None


class StartNext(Closed):
    statusDetails: Details | None = None
    stepTimeoutInMinutes: StepTimeout | None = None
    clientToken: ClientToken | None = None


class Describe(Closed):
    executionNumber: int | None = None
    includeJobDocument: bool = True
    clientToken: ClientToken | None = None


class Update(Closed):
    status: Literal["IN_PROGRESS", "FAILED", "SUCCEEDED", "REJECTED"]
    statusDetails: Details | None = None
    expectedVersion: int | None = None
    executionNumber: int | None = None
    includeJobExecutionState: bool = False
    includeJobDocument: bool = False
    stepTimeoutInMinutes: StepTimeout | None = None
    clientToken: ClientToken | None = None


class DescribeStream(Closed):
    c: ClientToken | None = None


class GetStream(Closed):
    """The bounds of `l`, `o`, `n` and `b` have error codes of their own and are checked there."""

    c: ClientToken | None = None
    s: int | None = None
    f: Annotated[int, Field(ge=0, le=255)]
    l: int  # noqa: E741 - the wire's name
    o: int = 0
    n: int | None = None
    b: str | bytes | None = None


# --- answers and notifications


class Summary(Closed):
    jobId: str
    queuedAt: int
    startedAt: int | None = None
    lastUpdatedAt: int
    versionNumber: int
    executionNumber: int


class Pending(Closed):
    inProgressJobs: list[Summary]
    queuedJobs: list[Summary]
    timestamp: int
    clientToken: str | None = None


class Execution(Closed):
    jobId: str
    thingName: str
    status: Literal["QUEUED", "IN_PROGRESS"]
    statusDetails: Details | None = None
    queuedAt: int
    startedAt: int | None = None
    lastUpdatedAt: int
    versionNumber: int
    executionNumber: int
    jobDocument: dict[str, object] | None = None
    approximateSecondsBeforeTimedOut: int | None = None


class OneExecution(Closed):
    execution: Execution | None = None
    timestamp: int
    clientToken: str | None = None


class State(Closed):
    status: str
    statusDetails: Details
    versionNumber: int


class Updated(Closed):
    executionState: State | None = None
    jobDocument: dict[str, object] | None = None
    timestamp: int
    clientToken: str | None = None


class Rejected(Closed):
    code: Literal[
        "InvalidTopic",
        "InvalidJson",
        "InvalidRequest",
        "InvalidStateTransition",
        "ResourceNotFound",
        "VersionMismatch",
        "InternalError",
        "RequestThrottled",
        "TerminalStateReached",
    ]
    message: str
    timestamp: int
    clientToken: str | None = None
    executionState: State | None = None


class Notify(Closed):
    timestamp: int
    jobs: dict[Literal["QUEUED", "IN_PROGRESS"], list[Summary]]


class StreamFile(Closed):
    f: int
    z: int


class StreamDescription(Closed):
    c: str | None = None
    s: int
    d: str
    r: list[StreamFile]


class Block(Closed):
    c: str | None = None
    f: int
    l: int  # noqa: E741
    i: int
    p: str | bytes


class StreamRejected(Closed):
    o: Literal[
        "InvalidTopic",
        "InvalidJson",
        "InvalidCbor",
        "InvalidRequest",
        "Unauthorized",
        "BlockSizeOutOfBounds",
        "OffsetOutOfBounds",
        "BlockCountLimitExceeded",
        "BlockBitmapLimitExceeded",
        "ResourceNotFound",
        "VersionMismatch",
        "ETagMismatch",
        "InternalError",
    ]
    m: str
    c: str | None = None
