from __future__ import annotations

import resource

import pytest

from tools.fleet import limits
from tools.fleet.limits import RESERVE, TooFewDescriptors, ensure_descriptors


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A pretended limit; `set` is what was asked for, `refuse` is macOS saying no."""
    state: dict[str, object] = {"limit": (256, 4096), "set": None, "refuse": False}

    def setrlimit(_: int, pair: tuple[int, int]) -> None:
        if state["refuse"]:
            raise ValueError("current limit exceeds maximum limit")
        state["set"] = pair

    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: state["limit"])
    monkeypatch.setattr(limits.resource, "setrlimit", setrlimit)
    return state


def test_enough_is_left_alone(system: dict[str, object]) -> None:
    system["limit"] = (8192, 8192)
    assert ensure_descriptors(1000) == 8192
    assert system["set"] is None


def test_the_soft_limit_is_raised(system: dict[str, object]) -> None:
    assert ensure_descriptors(1000) == 1000 + RESERVE
    assert system["set"] == (1000 + RESERVE, 4096)


def test_too_high_a_need_is_refused_with_counts(system: dict[str, object]) -> None:
    with pytest.raises(TooFewDescriptors) as caught:
        ensure_descriptors(10_000)
    assert (caught.value.needed, caught.value.available) == (10_000 + RESERVE, 4096)
    assert "10256 file descriptors are needed and 4096 are available" in str(caught.value)


def test_no_hard_limit_may_still_be_a_no(system: dict[str, object]) -> None:
    system["limit"] = (256, resource.RLIM_INFINITY)
    assert ensure_descriptors(1000) == 1000 + RESERVE
    system["refuse"] = True
    with pytest.raises(TooFewDescriptors) as caught:
        ensure_descriptors(1000)
    assert caught.value.available == 256


def test_no_limit_at_all(system: dict[str, object]) -> None:
    system["limit"] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert ensure_descriptors(1000) == 1000 + RESERVE
    assert system["set"] is None
