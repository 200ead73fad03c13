"""Any sequence of requests, upgrades, restarts and failing commits, against a model in lists.

The model knows the rules and nothing of commits. After each step: no more licences than subscribed
but for devices whose upgrade is running; memory, store and model name the same devices in the same
order.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.tools.backend.licence_office import ACCOUNT, IMEI, Office, device, ids, office
from tools.backend.errors import StoreError
from tools.backend.inventory import MONTHLY_BILLED
from tools.backend.licences import rows

DEVICES = 8
numbers = st.integers(0, DEVICES)  # the last one is nobody
several = st.lists(numbers, min_size=1, max_size=6)


class Member:
    """As much of a campaign's device as an observer looks at."""

    class campaign:
        account = ACCOUNT


class Licensing(RuleBasedStateMachine):
    """One account with a few devices."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.total = 3
        self.holders: list[int] = []
        self.listed: list[int] = []
        self.running: set[int] = set()
        self.upgraded: set[int] = set()

    @initialize()
    def begin(self) -> None:
        self.place: Office = self.loop.run_until_complete(
            self.stack.enter_async_context(office(self.total, DEVICES))
        )

    def teardown(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()

    # -- the model ---

    def settle(self) -> None:
        """Those in excess go, as far as they can."""
        order = [number for number in self.listed if number in self.holders]
        order += [number for number in self.holders if number not in self.listed]
        for number in order[: max(0, len(self.holders) - self.total)]:
            if number not in self.running:
                self.holders.remove(number)
                self.upgraded.discard(number)

    def expected(self, number: int) -> str:
        if number == DEVICES:
            return "unknown device"
        if number in self.holders:
            return "preexisting"
        if len(self.holders) >= self.total:
            return "pool empty"
        self.holders.append(number)
        return "assigned"

    # -- what happens ---

    @rule(wanted=several)
    def assign(self, wanted: list[int]) -> None:
        found = self.loop.run_until_complete(self.place.assigned(*wanted))
        assert found == [self.expected(number) for number in dict.fromkeys(wanted)]

    @rule(first=several, second=several)
    def assign_at_once(self, first: list[int], second: list[int]) -> None:
        async def both() -> list[list[str]]:
            return await asyncio.gather(self.place.assigned(*first), self.place.assigned(*second))

        found = self.loop.run_until_complete(both())
        for wanted, verdicts in zip((first, second), found, strict=True):
            assert verdicts == [self.expected(number) for number in dict.fromkeys(wanted)]

    @rule(wanted=several)
    def assign_for_a_campaign(self, wanted: list[int]) -> None:
        wanted = [number for number in wanted if number != DEVICES]
        fresh = [number for number in dict.fromkeys(wanted) if number not in self.holders]
        fits = len(self.holders) + len(fresh) <= self.total or not fresh

        async def ask() -> bool:
            return self.place.granted([device(item) for item in wanted])

        assert self.loop.run_until_complete(ask()) is fits
        if fits:
            self.holders += fresh

    @rule(wanted=several)
    def remove(self, wanted: list[int]) -> None:
        found = self.loop.run_until_complete(self.place.removed(*wanted))
        for number, verdict in zip(dict.fromkeys(wanted), found, strict=True):
            if number == DEVICES:
                assert verdict == "unknown device"
            elif number not in self.holders:
                assert verdict == "not licensed"
            elif number in self.running:
                assert verdict == "upgrade in progress"
            elif number in self.upgraded:
                assert verdict == "upgraded since the assignment"
            else:
                assert verdict == "removed"
                self.holders.remove(number)

    @rule(wanted=several, append=st.booleans())
    def change_the_list(self, wanted: list[int], append: bool) -> None:
        wanted = [number for number in dict.fromkeys(wanted) if number != DEVICES]
        if not wanted:
            return
        change = self.place.licences.list_candidates(self.place.account, ids(*wanted), append)
        self.loop.run_until_complete(change)
        kept = self.listed if append else []
        self.listed = kept + [number for number in wanted if number not in kept]

    @rule()
    def clear_the_list(self) -> None:
        self.loop.run_until_complete(self.place.licences.clear_candidates(self.place.account))
        self.listed = []

    @rule(total=st.integers(0, DEVICES))
    def subscribe(self, total: int) -> None:
        change = self.place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, total)
        self.loop.run_until_complete(change)
        self.total = total
        self.settle()

    @rule(number=st.integers(0, DEVICES - 1))
    def an_upgrade_begins(self, number: int) -> None:
        if number in self.holders:
            self.running.add(number)
            self.place.campaigns.running.add(device(number).name)

    @rule(number=st.integers(0, DEVICES - 1), good=st.booleans())
    def an_upgrade_ends(self, number: int, good: bool) -> None:
        if number not in self.running:
            return
        self.running.discard(number)

        async def end() -> None:
            # In the order of the engine: told of first, over afterwards.
            self.place.licences.member_changed(Member(), "UpgradePending")  # type: ignore[arg-type]
            self.place.campaigns.running.discard(device(number).name)
            if good:
                found = self.place.inventory.devices[device(number).name]
                found.upgraded = self.place.time.now()
            await asyncio.sleep(0)
            await self.place.writer.flushed()
            await asyncio.sleep(0)

        self.loop.run_until_complete(end())
        if good:
            self.upgraded.add(number)
        self.settle()

    @rule()
    def restart(self) -> None:
        async def open_again() -> None:
            self.place.open()
            for _ in range(3):
                await asyncio.sleep(0)
                await self.place.writer.flushed()

        self.loop.run_until_complete(open_again())
        self.settle()

    @rule(wanted=several, assigns=st.booleans())
    def the_store_fails(self, wanted: list[int], assigns: bool) -> None:
        def fail(*_arguments: object, **_named: object) -> None:
            raise StoreError("the disk is full")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "put_licences", fail)
            patch.setattr(rows, "drop_licences", fail)
            ask = self.place.assigned if assigns else self.place.removed
            with pytest.raises(StoreError):
                self.loop.run_until_complete(ask(*wanted))

    # -- what always holds ---

    @invariant()
    def memory_store_and_model_agree(self) -> None:
        if not hasattr(self, "place"):
            return
        assert self.place.holders() == self.holders
        assert self.place.stored() == self.holders
        assert self.place.listed() == self.listed
        listed = self.place.licences.candidates(self.place.account)
        assert [int(text) - IMEI for text in listed] == self.listed

    @invariant()
    def nobody_has_more_than_he_pays_for(self) -> None:
        beyond = len(self.holders) - self.total
        assert beyond <= len(self.running & set(self.holders))


TestLicensing = Licensing.TestCase
TestLicensing.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
