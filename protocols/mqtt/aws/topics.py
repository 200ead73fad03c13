"""The reserved topics of one thing (AWS IoT developer guide, "Reserved topics": jobs, streams).

Every request is answered under its own topic with `/accepted` or `/rejected`, and AWS delivers the
answer to who asked without a subscription; a broker that is not AWS does not, so we subscribe.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

__all__ = ["NEXT", "Answer", "Kind", "Topics"]

NEXT = "$next"
"""Stands for a job id: the next pending one."""

THING_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
JOB_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Kind(enum.Enum):
    """What a message of the service is."""

    NOTIFY = "notify"
    NOTIFY_NEXT = "notify-next"
    PENDING = "get"
    START_NEXT = "start-next"
    DESCRIBE = "{job}/get"
    UPDATE = "{job}/update"
    DATA = "streams/{stream}/data"
    STREAM_REJECTED = "streams/{stream}/rejected"


class Answer(NamedTuple):
    kind: Kind
    subject: str
    """The job id (or `$next`) or the stream id."""
    accepted: bool
    encoding: str
    """json or cbor."""


class Topics:
    """Builds and reads the topics of one thing."""

    __slots__ = ("_jobs", "_streams")

    def __init__(self, thing: str) -> None:
        """Raises :class:`ValueError` for a name that no thing can have."""
        if not THING_NAME.fullmatch(thing):
            raise ValueError(f"{thing!r} is no thing name: 1 to 128 of letters, digits and :_-")
        self._jobs = f"$aws/things/{thing}/jobs/"
        self._streams = f"$aws/things/{thing}/streams/"

    @property
    def filters(self) -> tuple[str, ...]:
        """Everything that the service may send. Eight: AWS takes no more in one SUBSCRIBE."""
        jobs, streams = self._jobs, self._streams
        return (
            f"{jobs}notify",
            f"{jobs}notify-next",
            f"{jobs}get/+",
            f"{jobs}start-next/+",
            f"{jobs}+/get/+",
            f"{jobs}+/update/+",
            f"{streams}+/data/+",
            f"{streams}+/rejected/+",
        )

    @property
    def pending(self) -> str:
        """GetPendingJobExecutions."""
        return f"{self._jobs}get"

    @property
    def start_next(self) -> str:
        """StartNextPendingJobExecution."""
        return f"{self._jobs}start-next"

    def describe(self, job: str) -> str:
        """DescribeJobExecution."""
        return f"{self._jobs}{job}/get"

    def update(self, job: str) -> str:
        """UpdateJobExecution."""
        return f"{self._jobs}{job}/update"

    def get_stream(self, stream: str, encoding: str) -> str:
        """GetStream."""
        return f"{self._streams}{stream}/get/{encoding}"

    def read(self, topic: str) -> Answer | None:
        """What a message under `topic` is; None for what is none of ours."""
        if topic.startswith(self._streams):
            return _stream(topic[len(self._streams) :].split("/"))
        if not topic.startswith(self._jobs):
            return None
        levels = topic[len(self._jobs) :].split("/")
        if len(levels) == 1 and levels[0] in ("notify", "notify-next"):
            return Answer(Kind(levels[0]), "", True, "json")
        if levels[-1] not in ("accepted", "rejected"):
            return None
        accepted = levels[-1] == "accepted"
        match levels[:-1]:
            case ["get" | "start-next" as name]:
                return Answer(Kind(name), "", accepted, "json")
            case [job, "get" | "update" as name] if job == NEXT or JOB_ID.fullmatch(job):
                return Answer(Kind(f"{{job}}/{name}"), job, accepted, "json")
        return None


def _stream(levels: list[str]) -> Answer | None:
    match levels:
        case [stream, "data", "json" | "cbor" as encoding]:
            return Answer(Kind.DATA, stream, True, encoding)
        case [stream, "rejected", "json" | "cbor" as encoding]:
            return Answer(Kind.STREAM_REJECTED, stream, False, encoding)
    return None
