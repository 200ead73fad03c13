"""The audit: what every device is, beside what the backend believes of it.

Truth comes from the device's flash and bootloader, never from what it reported; belief comes from
the backend, or from what a foreign server read, observed or executed over the wire. Both are
reduced to one verdict each, and `VERDICTS` says for every pair whether they agree. A belief that
nobody has (`unknown`) neither agrees nor differs.

Files and components are judged likewise, each for itself: one that a backend believes to be on a
device is there, by the digest of the bytes that arrived, or it is not.

Three differences need no pair: a device that began more installs than it had packages delivered,
a device that reports success while it runs something else than the target, and a version that the
backend believes and the device does not run.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from agent.files import InstalledFile

TruthVerdict = Literal["updated", "failed", "unfinished"]
BeliefVerdict = Literal["updated", "failed", "unfinished", "unknown"]

SUCCESS = "success"
IDLE = "idle"
DOWNLOADED = "downloaded"


class Kind(enum.Enum):
    """How truth and belief differ."""

    FALSE_SUCCESS = "false success"
    """The backend believes in an update that the device does not run."""
    FALSE_FAILURE = "false failure"
    """The backend gave up on a device that runs the target, or is still on its way."""
    STUCK = "stuck"
    """The device came to its end and the backend still waits for it."""
    DOUBLE_EXECUTE = "double execute"
    """More installs were begun than packages delivered."""
    WRONG_VERSION = "wrong version"
    """What runs is neither what was asked for nor what is believed."""
    MISSING = "missing at backend"
    """The backend has never heard of the device."""


VERDICTS: dict[TruthVerdict, dict[BeliefVerdict, Kind | None]] = {
    "updated": {
        "updated": None,
        "failed": Kind.FALSE_FAILURE,
        "unfinished": Kind.STUCK,
        "unknown": None,
    },
    "failed": {
        "updated": Kind.FALSE_SUCCESS,
        "failed": None,
        "unfinished": Kind.STUCK,
        "unknown": None,
    },
    "unfinished": {
        "updated": Kind.FALSE_SUCCESS,
        "failed": Kind.FALSE_FAILURE,
        "unfinished": None,
        "unknown": None,
    },
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a device must run to count as updated."""

    version: str
    digest: bytes
    factory_digest: bytes = b""
    """The image the devices began with; when it is the target, only an outcome tells them apart."""


@dataclass(frozen=True, slots=True)
class DeviceTruth:
    """One device at the end of the run, read from its flash."""

    name: str
    protocol: str
    state: str
    """The engine's state, lower case: idle, downloading, downloaded, installing, trial."""
    outcome: str | None
    """How its last attempt ended, lower case (success, integrity, ...), None before the first."""
    running_version: str
    running_digest: bytes
    boots: int = 0
    executes: int = 0
    """Installs that it began."""
    deliveries: int = 1
    """Packages that it had in full; each may be installed once."""
    files: tuple[InstalledFile, ...] = ()
    """Files and components that it has installed, with the digests of what arrived."""

    def verdict(self, target: Target) -> TruthVerdict:
        if self.state == IDLE and self.running_digest == target.digest:
            moved = target.digest != target.factory_digest
            if self.outcome == SUCCESS or moved:
                return "updated"
        if self.state in (IDLE, DOWNLOADED) and self.outcome is not None:
            # An image that was tried and reverted may be kept: downloaded, with an outcome.
            return "failed"
        return "unfinished"


@dataclass(frozen=True, slots=True)
class FileBelief:
    """What the backend holds to be so of one file, or component, on a device."""

    name: str
    sha256: str
    """Of the content that it delivers, in hex."""
    verdict: BeliefVerdict


@dataclass(frozen=True, slots=True)
class Belief:
    """What the backend holds to be so, and why."""

    verdict: BeliefVerdict
    detail: str = ""
    version: str | None = None
    """The version it believes is running, None when it believes nothing."""
    files: tuple[FileBelief, ...] = ()
    """The newest of each name that it has delivered or tries to."""


UNKNOWN = Belief("unknown")


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    device: str
    truth: DeviceTruth
    belief: Belief | None
    """None: the backend has no entry at all."""

    def sentence(self) -> str:
        return f"{self.device}: {self.kind.value}: {self.truth_text}; {self.belief_text}"

    @property
    def truth_text(self) -> str:
        truth = self.truth
        parts = [f"runs {truth.running_version}", truth.state]
        if truth.outcome is not None:
            parts.append(f"outcome {truth.outcome}")
        if self.kind is Kind.DOUBLE_EXECUTE:
            parts.append(f"{truth.executes} installs of {truth.deliveries} package(s)")
        parts += [f"has {file.name} {file.version} ({file.sha256[:12]})" for file in truth.files]
        return ", ".join(parts)

    @property
    def belief_text(self) -> str:
        if self.belief is None:
            return "backend: no such device"
        parts = [f"backend: {self.belief.verdict}"]
        if self.belief.version is not None:
            parts.append(f"version {self.belief.version}")
        if self.belief.detail:
            parts.append(self.belief.detail)
        parts += [f"{file.name} ({file.sha256[:12]}) {file.verdict}" for file in self.belief.files]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Every device counts once: under `differ` when it has at least one difference."""

    agree: int = 0
    differ: int = 0
    unknown: int = 0
    differences: tuple[Difference, ...] = ()

    def by_kind(self) -> dict[Kind, int]:
        counts = dict.fromkeys(Kind, 0)
        for difference in self.differences:
            counts[difference.kind] += 1
        return {kind: n for kind, n in counts.items() if n}


def audit(
    truths: Iterable[DeviceTruth], beliefs: Mapping[str, Belief], target: Target
) -> AuditResult:
    """Compare device by device, in the order of `truths`."""
    agree = differ = unknown = 0
    differences: list[Difference] = []
    for truth in truths:
        belief = beliefs.get(truth.name)
        kinds = _kinds(truth, belief, target)
        differences += [Difference(kind, truth.name, truth, belief) for kind in kinds]
        if kinds:
            differ += 1
        elif belief is not None and belief.verdict == "unknown" and not belief.files:
            unknown += 1
        else:
            agree += 1
    return AuditResult(agree, differ, unknown, tuple(differences))


def _kinds(truth: DeviceTruth, belief: Belief | None, target: Target) -> list[Kind]:
    kinds: list[Kind] = []
    if truth.executes > max(1, truth.deliveries):
        kinds.append(Kind.DOUBLE_EXECUTE)
    elsewhere = truth.outcome == SUCCESS and truth.running_digest != target.digest
    if elsewhere:
        kinds.append(Kind.WRONG_VERSION)
    if belief is None:
        kinds.append(Kind.MISSING)
        return kinds
    kind = VERDICTS[truth.verdict(target)][belief.verdict]
    if kind is not None and not (elsewhere and kind is Kind.FALSE_SUCCESS):
        kinds.append(kind)
    elif (
        kind is None
        and not elsewhere
        and belief.version is not None
        and belief.version != truth.running_version
    ):
        kinds.append(Kind.WRONG_VERSION)
    for file in belief.files:
        kind = VERDICTS[_file_verdict(truth, file)][file.verdict]
        if kind is not None and kind not in kinds:
            kinds.append(kind)
    return kinds


def _file_verdict(truth: DeviceTruth, file: FileBelief) -> TruthVerdict:
    """Of a file that is not there nobody can say more than that: its attempt has failed, or it
    still goes on."""
    if any(one.active and one.sha256 == file.sha256 for one in truth.files):
        return "updated"
    return "failed" if file.verdict == "failed" else "unfinished"
