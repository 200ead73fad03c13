"""How a run ended: `RunResult`, what `--json` prints of it, and the exit code.

The exit code is read off `EXIT_CODES` from the top; the first line that holds decides. A run that
a person stopped says so whatever else is true, an invalid run proves nothing about the server, and
a backend that believes what is not so is worse than a device that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agent.misbehaviour import Judgement
from agent.runtime.metrics import MetricsSnapshot
from tools.fleet.audit import SUCCESS, AuditResult, DeviceTruth, Target
from tools.fleet.timeline import TimelineSnapshot

BAD_INPUT = 2  # flags, files, names: no run began, so no result has this code


@dataclass(frozen=True, slots=True)
class Counts:
    """Devices by how they ended."""

    updated: int = 0
    failed: int = 0
    unfinished: int = 0

    @property
    def devices(self) -> int:
        return self.updated + self.failed + self.unfinished

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.updated + other.updated,
            self.failed + other.failed,
            self.unfinished + other.unfinished,
        )

    def as_dict(self) -> dict[str, int]:
        return {
            "devices": self.devices,
            "updated": self.updated,
            "failed": self.failed,
            "unfinished": self.unfinished,
        }


@dataclass(frozen=True, slots=True)
class RunResult:
    """Everything that is known after a run; picklable, and free of any protocol's terms."""

    title: str
    """What was run: demo, run."""
    target: Target
    by_protocol: Mapping[str, Counts]
    seconds: float
    """Wall time."""
    audit: AuditResult = AuditResult()
    truths: tuple[DeviceTruth, ...] = ()
    metrics: MetricsSnapshot = MetricsSnapshot()
    timeline: TimelineSnapshot = TimelineSnapshot()
    failures: Mapping[str, int] = field(default_factory=dict)
    """Devices that failed, by reason."""
    troubles: Mapping[str, int] = field(default_factory=dict)
    """Unfinished devices that were without their server at the end, by reason."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the person asked for, as shown in the report."""
    report: str | None = None
    """Directory of the report."""
    invalid: str | None = None
    """Why the numbers prove nothing, such as a scheduler that lagged."""
    error: str | None = None
    """What ended the run before its time."""
    interrupted: bool = False
    findings: tuple[str, ...] = ()
    """Where the server contradicts itself, in words."""
    left: tuple[str, ...] = ()
    """What a driven run could not remove from the server."""
    thresholds_missed: tuple[str, ...] = ()
    misbehaviours: Mapping[tuple[str, str], Judgement] = field(default_factory=dict)
    """How the server answered what devices did wrong on purpose, by protocol and name."""

    @property
    def counts(self) -> Counts:
        return sum(self.by_protocol.values(), Counts())

    @property
    def broken(self) -> int:
        """Answers to misbehaviour that a right server would not give."""
        return sum(judgement.broken for judgement in self.misbehaviours.values())


def count_devices(truths: Iterable[DeviceTruth], target: Target) -> dict[str, Counts]:
    """The counts of each protocol, from the devices' own truth."""
    one = {"updated": Counts(1), "failed": Counts(0, 1), "unfinished": Counts(0, 0, 1)}
    by_protocol: dict[str, Counts] = {}
    for truth in truths:
        so_far = by_protocol.get(truth.protocol, Counts())
        by_protocol[truth.protocol] = so_far + one[truth.verdict(target)]
    return by_protocol


def count_failures(truths: Iterable[DeviceTruth], target: Target) -> dict[str, int]:
    """Failed devices by reason, the most frequent first."""
    reasons: dict[str, int] = {}
    for truth in truths:
        if truth.verdict(target) == "failed":
            reason = "runs another image" if truth.outcome == SUCCESS else str(truth.outcome)
            reasons[reason] = reasons.get(reason, 0) + 1
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


EXIT_CODES: tuple[tuple[int, str, Callable[[RunResult], bool]], ...] = (
    (130, "interrupted", lambda r: r.interrupted),
    (4, "the run is invalid", lambda r: r.invalid is not None or r.error is not None),
    (1, "the audit differs", lambda r: r.audit.differ > 0),
    (1, "the server contradicts itself", lambda r: bool(r.findings)),
    (1, "the server answered misbehaviour wrongly", lambda r: r.broken > 0),
    (99, "threshold missed", lambda r: bool(r.thresholds_missed)),
    (3, "failed or unfinished devices", lambda r: r.counts.updated < r.counts.devices),
    (0, "all updated and the audit agrees", lambda r: True),
)


def _decide(result: RunResult) -> tuple[int, str]:
    return next((code, text) for code, text, holds in EXIT_CODES if holds(result))


def exit_code(result: RunResult) -> int:
    return _decide(result)[0]


def verdict_text(result: RunResult) -> str:
    """The line of `EXIT_CODES` that decided, in words, with what is known of the reason."""
    text = _decide(result)[1]
    if exit_code(result) == 4:
        reason = result.error or result.invalid
        return f"{text}: {reason}"
    if result.thresholds_missed and exit_code(result) == 99:
        return f"{text}: {', '.join(result.thresholds_missed)}"
    return text


def json_object(result: RunResult) -> dict[str, object]:
    """What `--json` prints: its keys and meanings do not change within a major version."""
    document: dict[str, object] = {
        **result.counts.as_dict(),
        "seconds": round(result.seconds, 3),
        "by_protocol": {name: counts.as_dict() for name, counts in result.by_protocol.items()},
        "audit": {
            "agree": result.audit.agree,
            "differ": result.audit.differ,
            "unknown": result.audit.unknown,
        },
        "report": result.report,
    }
    if result.findings:
        document["findings"] = list(result.findings)
    if result.left:
        document["left_on_server"] = list(result.left)
    if result.misbehaviours:
        document["misbehaviours"] = {
            protocol: {
                name: {"kept": judgement.kept, "broken": judgement.broken}
                for (owner, name), judgement in result.misbehaviours.items()
                if owner == protocol
            }
            for protocol in dict.fromkeys(owner for owner, _ in result.misbehaviours)
        }
    error = result.error or result.invalid
    if error is not None:
        document["error"] = error
    return document


def failure_object(error: str) -> dict[str, object]:
    """The same object for a run that never began."""
    return {
        **Counts().as_dict(),
        "seconds": 0.0,
        "by_protocol": {},
        "audit": {"agree": 0, "differ": 0, "unknown": 0},
        "report": None,
        "error": error,
    }
