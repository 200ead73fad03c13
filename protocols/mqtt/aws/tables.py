"""AWS IoT Jobs over the update engine: what is reported for (engine state, outcome).

A job execution has no states of its own for download, install and trial: it is IN_PROGRESS, and
`statusDetails` say the rest in the words of the FreeRTOS OTA agent (aws_iot_ota_mqtt.c: `receive`
as blocks of blocks, `self_test` ready and active with `updatedBy`, `reason`; accepted and rejected
stand in its `reason`, and here in `self_test` as well). The final status is SUCCEEDED, FAILED, or
REJECTED for an image that this device must not run. AWS documents the difference between the last
two only as "the device rejected the job"; that a package which can never fit is rejected and all
others fail is our choice.

A missing cell cannot happen; None is a cell that is not reported: nothing runs, or the service
itself ended the execution and expects no report.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from agent.update import Outcome, State

__all__ = ["FINAL", "REPORTS", "JobStatus", "Report", "report"]


class JobStatus(enum.Enum):
    """Of a job execution. A device sets the first five, the service the others."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    CANCELED = "CANCELED"
    REMOVED = "REMOVED"


FINAL = frozenset(JobStatus) - {JobStatus.QUEUED, JobStatus.IN_PROGRESS}


class Report(NamedTuple):
    status: JobStatus
    details: tuple[tuple[str, str], ...]
    """`statusDetails`; what changes from device to device (progress, version) is added later."""


def _progress(*details: tuple[str, str]) -> Report:
    return Report(JobStatus.IN_PROGRESS, details)


def _failed(reason: str, self_test: str = "") -> Report:
    extra = (("self_test", self_test),) if self_test else ()
    return Report(JobStatus.FAILED, (("reason", reason), *extra))


def _rejected(reason: str) -> Report:
    return Report(JobStatus.REJECTED, (("reason", reason),))


REPORTS: dict[tuple[State, Outcome | None], Report | None] = {
    (State.IDLE, None): None,
    (State.DOWNLOADING, None): _progress(("receive", "0/0")),
    (State.DOWNLOADED, None): _progress(("self_test", "ready")),
    (State.INSTALLING, None): _progress(("self_test", "ready")),
    (State.TRIAL, None): _progress(("self_test", "active")),
    (State.IDLE, Outcome.SUCCESS): Report(JobStatus.SUCCEEDED, (("self_test", "accepted"),)),
    (State.IDLE, Outcome.CANCELLED): None,
    (State.IDLE, Outcome.NO_SPACE): _failed("no space"),
    (State.IDLE, Outcome.OUT_OF_MEMORY): _failed("out of memory"),
    (State.IDLE, Outcome.CONNECTION_LOST): _failed("connection lost"),
    (State.IDLE, Outcome.INTEGRITY): _failed("integrity"),
    (State.IDLE, Outcome.SIGNATURE): _failed("signature"),
    (State.IDLE, Outcome.WRONG_DEVICE): _rejected("wrong device"),
    (State.IDLE, Outcome.DOWNGRADE): _rejected("downgrade"),
    (State.IDLE, Outcome.DEPENDENCY): _rejected("dependency"),
    (State.IDLE, Outcome.UNSUPPORTED_PACKAGE): _rejected("unsupported package"),
    (State.IDLE, Outcome.UNSUPPORTED_PROTOCOL): _rejected("unsupported protocol"),
    (State.IDLE, Outcome.BAD_URI): _failed("bad URI"),
    (State.IDLE, Outcome.INSTALL_FAILED): _failed("install failed"),
    (State.IDLE, Outcome.REVERTED): _failed("reverted", "rejected"),
    (State.DOWNLOADED, Outcome.DEFERRED): _progress(("self_test", "ready")),
    (State.DOWNLOADED, Outcome.INSTALL_FAILED): _failed("install failed"),
    (State.DOWNLOADED, Outcome.REVERTED): _failed("reverted", "rejected"),
}


def report(state: State, outcome: Outcome | None) -> Report | None:
    """What the service is told; None: nothing."""
    return REPORTS[state, outcome]
