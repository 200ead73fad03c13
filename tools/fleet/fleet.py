"""From shards to one result: what a run was, device by device, beside what its server believes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from agent.misbehaviour import Judgement
from agent.misbehaviour import merge as merge_ledgers
from agent.runtime.metrics import MetricsSnapshot
from tools.fleet.audit import UNKNOWN, Belief, audit
from tools.fleet.result import RunResult, count_devices, count_failures
from tools.fleet.shard import ShardSnapshot
from tools.fleet.spec import FleetSpec
from tools.fleet.timeline import merge


def join(
    title: str,
    specs: Sequence[FleetSpec],
    shards: Sequence[ShardSnapshot],
    *,
    seconds: float,
    beliefs: Mapping[str, Belief] | None = None,
    findings: Sequence[str] = (),
    left: Sequence[str] = (),
) -> RunResult:
    """The result of a run of at least one shard.

    `beliefs` are those of a backend of ours, which knows every device or is wrong not to. Without
    them the server is somebody else's: it believes what it was told over the wire, and of a device
    that told it nothing nobody can say.
    """
    first = shards[0]
    truths = tuple(truth for shard in shards for truth in shard.truths)
    if beliefs is None:
        told = {name: belief for shard in shards for name, belief in shard.beliefs.items()}
        beliefs = {truth.name: told.get(truth.name, UNKNOWN) for truth in truths}
    return RunResult(
        title=title,
        target=first.target,
        by_protocol=count_devices(truths, first.target),
        seconds=seconds,
        audit=audit(truths, beliefs, first.target),
        truths=truths,
        metrics=sum((shard.metrics for shard in shards), MetricsSnapshot()),
        timeline=merge([shard.timeline for shard in shards]),
        misbehaviours=merge_ledgers(
            [_asked_for(specs), *[shard.misbehaviours for shard in shards]]
        ),
        failures=count_failures(truths, first.target),
        troubles=sum((Counter(shard.troubles) for shard in shards), Counter[str]()),
        settings=settings_of(specs),
        report=specs[0].report_dir,
        invalid=next((shard.invalid for shard in shards if shard.invalid), None),
        error=next((shard.error for shard in shards if shard.error), None),
        findings=tuple(findings),
        left=tuple(left),
        interrupted=any(shard.interrupted for shard in shards),
    )


def _asked_for(specs: Sequence[FleetSpec]) -> dict[tuple[str, str], Judgement]:
    """An entry for each misbehaviour that was asked for, though none may have met an answer."""
    return {
        (spec.protocol, name.value): Judgement() for spec in specs for name, _ in spec.misbehave
    }


SECRET_WORDS = ("token", "password", "secret")
"""In the name of an option: its value stays out of reports, which are handed around."""


def _shown(name: str, value: str) -> str:
    return f"{name}=..." if any(word in name for word in SECRET_WORDS) else f"{name}={value}"


def settings_of(specs: Sequence[FleetSpec]) -> dict[str, str]:
    """What was asked for, as the report shows it; groups differ in what they speak, and to whom."""
    spec = specs[0]
    shown = {
        "server": ", ".join(one.server for one in specs),
        "protocol": ", ".join(one.protocol for one in specs),
        "devices": ", ".join(str(one.devices) for one in specs),
        "image": f"{len(spec.image):,} bytes",
        "slot size": f"{spec.slot_size:,} bytes",
        "lifetime": f"{spec.lifetime} s",
        "ramp": "default" if spec.ramp is None else f"{spec.ramp:g}/s",
        "duration": "until the last device" if spec.duration is None else f"{spec.duration:g} s",
        "seed": str(spec.seed),
        "local address": spec.bind or "by route",
    }
    if spec.faults:
        shown["faults"] = ", ".join(f"{f.name} {f.share * 100:g}%" for f in spec.faults)
    if spec.misbehave:
        shown["misbehaviour"] = ", ".join(
            f"{name.value} {share * 100:g}%" for name, share in spec.misbehave
        )
    if spec.bandwidth is not None:
        shown["bandwidth"] = f"{spec.bandwidth:,.0f} bytes/s"
    if spec.options:
        shown["options"] = ", ".join(_shown(name, value) for name, value in spec.options)
    if spec.journal is not None:
        shown["journal"] = spec.journal
    return shown
