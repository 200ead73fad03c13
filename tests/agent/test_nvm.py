from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.flash import NVM, CutMode, Flash, PowerCut, PowerLoss
from agent.image_store import PAGE_SIZE, ImageStore
from agent.nvm import MAX_LIVE, Nvm, NvmFull, decode_log
from tests.agent.parts import SLOT


def make() -> Nvm:
    return Nvm(Flash(ImageStore(), SLOT))


def test_values_survive_a_reboot_and_names_are_apart() -> None:
    nvm = make()
    nvm.set("a", "x", b"1")
    nvm.set("b", "x", b"2")
    nvm.set("a", "y", b"")
    nvm.set("a", "x", b"3")
    again = Nvm(nvm._flash)
    assert again.get("a", "x") == b"3"
    assert again.get("b", "x") == b"2"
    assert dict(again.items("a")) == {"x": b"3", "y": b""}
    again.delete("a", "x")
    again.delete("a", "never there")
    assert Nvm(nvm._flash).get("a", "x") is None


def test_a_device_that_stored_nothing_wrote_nothing() -> None:
    nvm = make()
    assert nvm.get("a", "x") is None
    assert list(nvm.items("a")) == []
    assert nvm._flash.operations == 0
    assert nvm._flash.is_blank(NVM)


def test_a_partly_written_page_costs_what_was_written() -> None:
    nvm = make()
    nvm.set("a", "x", b"1" * 16)
    assert sum(len(page) for page in nvm._flash.pages(NVM)) < 64


def test_the_log_is_compacted_for_ever() -> None:
    nvm = make()
    for i in range(2000):
        nvm.set("n", str(i % 7), bytes([i % 256]) * 40)
    for i in range(1993, 2000):
        assert nvm.get("n", str(i % 7)) == bytes([i % 256]) * 40


@pytest.mark.parametrize("live", [100, 1000, 2000])
def test_history_does_not_pile_up(live: int) -> None:
    """A fleet keeps every byte of it in memory."""
    nvm = make()
    nvm.set("n", "kept", bytes(live))
    for i in range(500):
        nvm.set("n", "state", bytes([i % 256]) * 60)
        used = sum(len(page) for page in nvm._flash.pages(NVM))
        assert used < 2 * (live + 100) + PAGE_SIZE
        assert nvm.get("n", "kept") == bytes(live)


def test_what_cannot_fit_is_refused_and_nothing_is_lost() -> None:
    nvm = make()
    nvm.set("n", "kept", b"1")
    with pytest.raises(NvmFull):
        nvm.set("n", "big", b"x" * MAX_LIVE)
    with pytest.raises(NvmFull):
        nvm.set("n", "big", b"x" * (MAX_LIVE + 1))
    assert nvm.get("n", "kept") == b"1"
    with pytest.raises(ValueError, match="NUL"):
        nvm.set("n", "a\0b", b"")


@pytest.mark.parametrize("mode", list(CutMode))
def test_cut_at_every_operation_leaves_the_old_value_or_the_new(mode: CutMode) -> None:
    """Every write of a run that compacts several times, cut; the device then writes on."""
    values = [bytes([i]) * (100 + i) for i in range(80)]
    total = _fill(make(), values)
    assert total > 80
    for operation in range(1, total + 1):
        nvm = make()
        nvm._flash.arm(operation, PowerCut(mode, operation))
        done = 0
        try:
            for done, value in enumerate(values):  # noqa: B007
                nvm.set("n", "k", value)
        except PowerLoss:
            pass
        nvm = Nvm(nvm._flash)
        allowed = {values[done], values[done - 1] if done else None}
        assert nvm.get("n", "k") in allowed, (operation, mode)
        nvm.set("n", "after", b"works")
        assert Nvm(nvm._flash).get("n", "after") == b"works"
        assert Nvm(nvm._flash).get("n", "k") in allowed


def _fill(nvm: Nvm, values: list[bytes]) -> int:
    for value in values:
        nvm.set("n", "k", value)
    return nvm._flash.operations


@given(st.binary(max_size=600))
def test_any_bytes_are_a_log(data: bytes) -> None:
    live, end, clean = decode_log(data)
    assert 0 <= end <= len(data)
    assert isinstance(clean, bool)
    assert all(isinstance(value, bytes) for value in live.values())


class NvmMachine(RuleBasedStateMachine):
    """Against a dict, with power cuts at any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.nvm = make()
        self.model: dict[str, bytes] = {}

    names = st.sampled_from(["a", "b", "c", "dd"])

    @rule(name=names, value=st.binary(max_size=300))
    def set(self, name: str, value: bytes) -> None:
        self.nvm.set("n", name, value)
        self.model[name] = value

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.nvm.delete("n", name)
        self.model.pop(name, None)

    @rule()
    def reboot(self) -> None:
        self.nvm = Nvm(self.nvm._flash)

    @rule(
        name=names,
        value=st.none() | st.binary(max_size=300),
        at=st.integers(1, 6),
        mode=st.sampled_from(CutMode),
        seed=st.integers(0, 99),
    )
    def cut(self, name: str, value: bytes | None, at: int, mode: CutMode, seed: int) -> None:
        before = self.model.get(name)
        self.nvm._flash.arm(at, PowerCut(mode, seed))
        try:
            if value is None:
                self.nvm.delete("n", name)
            else:
                self.nvm.set("n", name, value)
            found = value
            self.nvm._flash.disarm()
        except PowerLoss:
            self.nvm = Nvm(self.nvm._flash)
            found = self.nvm.get("n", name)
            assert found in (before, value)
        if found is None:
            self.model.pop(name, None)
        else:
            self.model[name] = found

    @invariant()
    def agrees(self) -> None:
        assert dict(self.nvm.items("n")) == self.model


TestNvmMachine = NvmMachine.TestCase
TestNvmMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
