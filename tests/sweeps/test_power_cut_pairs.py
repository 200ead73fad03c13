"""Every pair of power cuts: one in the update, one in the recovery. Run by `make sweeps`."""

from __future__ import annotations

import pytest

from agent.flash import CutMode
from tests.agent.test_power_cuts import Story, Sweep, healthy, unhealthy


@pytest.mark.parametrize("mode", list(CutMode))
@pytest.mark.parametrize("story", [healthy, unhealthy])
def test_two_cuts_anywhere(story: Story, mode: CutMode) -> None:
    sweep = Sweep(story)
    for first in range(1, sweep.operations + 1):
        for second in range(1, sweep.operations + 1):
            sweep.cut([(first, mode), (second, mode)])
    print(f"{sweep.points} pairs of cuts tested, {len(sweep.failures)} failed")
    assert sweep.points == sweep.operations**2
    assert not sweep.failures, sweep.failures[:5]
