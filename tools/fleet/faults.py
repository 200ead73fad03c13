"""Faults as people name them, and the agent's own form of them."""

from __future__ import annotations

from collections.abc import Iterable

from agent.faults import FaultSpec
from tools.fleet.spec import FAULTS, FaultShare


def fault_spec(shares: Iterable[FaultShare]) -> FaultSpec:
    """The agent's fault specification of one group; names were checked by `FleetSpec`."""
    by_name = dict.fromkeys(FAULTS, 0.0) | {share.name: share.share for share in shares}
    return FaultSpec(
        bad_boot=by_name["bad-boot"],
        power_cut=by_name["power-cut"],
        corrupt_download=by_name["corrupt-download"],
        corrupt_slot=by_name["corrupt-slot"],
        counter_bump=by_name["counter-bump"],
        cut_download=by_name["cut-download"],
    )
