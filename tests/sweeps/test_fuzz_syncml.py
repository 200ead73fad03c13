"""The SyncML decoders under damage. Run by `make sweeps`; see fuzz_syncml for longer runs."""

from __future__ import annotations

import pytest

from tests.sweeps.fuzz_syncml import fuzz

MUTANTS = 20_000
"""Of each of the four kinds, for each seed."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_mutant_is_read_or_refused(seed: int) -> None:
    tally = fuzz(seed, iter(range(MUTANTS)))
    print(tally)
    # Damage is of use only as long as some of it is near to a message.
    assert min(tally.read.values()) > MUTANTS // 100
    assert sum(tally.read.values()) + sum(tally.refused.values()) == 4 * MUTANTS
