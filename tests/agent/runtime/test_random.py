from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.random import DeviceRandom

u64s = st.integers(0, 2**64 - 1)


def test_it_is_splitmix64() -> None:
    """The first outputs of the reference implementation for the seed 1234567."""
    random = DeviceRandom(0)
    random._state = 1234567
    assert [random.u64() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_numbers_of_a_device_are_pinned() -> None:
    """They are part of the journal: a release that changes them breaks every replay."""
    assert DeviceRandom(7, 2, 5).u64() == DeviceRandom(7, 2, 5).u64()
    assert [DeviceRandom(0, 0, 0).u64(), DeviceRandom(1, 2, 3).u64()] == [
        12035550249420947055,
        13992974892751943003,
    ]


@given(st.lists(st.tuples(u64s, u64s, st.integers(0, 2**32)), min_size=2, max_size=5, unique=True))
def test_neighbours_draw_apart(keys: list[tuple[int, int, int]]) -> None:
    assert len({DeviceRandom(*key).u64() for key in keys}) == len(keys)


def test_ten_thousand_devices_start_at_different_numbers() -> None:
    assert (
        len({DeviceRandom(1, group, n).u64() for group in range(2) for n in range(5000)}) == 10000
    )


@given(u64s, st.integers(1, 2**40), st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(0, 40))
def test_ranges(seed: int, bound: int, low: float, width: float, count: int) -> None:
    random = DeviceRandom(seed)
    assert 0 <= random.below(bound) < bound
    assert low <= random.uniform(low, low + width) <= low + width
    assert len(random.bytes(count)) == count
    with pytest.raises(ValueError, match="positive"):
        random.below(0)


def test_uniform_fills_its_range_evenly() -> None:
    random = DeviceRandom(3)
    counts = [0] * 8
    for _ in range(8000):
        counts[int(random.uniform(0, 8))] += 1
    assert all(850 < count < 1150 for count in counts)
