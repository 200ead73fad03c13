"""The licences of all accounts: decided in memory, kept in the store.

Whoever asks is decided upon at once and without an await in between, so that two requests at the
same time never share a place; the answer waits for the commit. What could not be stored is undone
when the store says so. A place that a licence leaves is free only when that is stored.

Long lists are worked off in parts, and other requests have their turn in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from tools.backend.campaigns.records import Campaign, Member
from tools.backend.errors import RequestRefused
from tools.backend.inventory import (
    ACTIVE,
    MONTHLY_BILLED,
    Account,
    Device,
    Inventory,
    check_device_id,
)
from tools.backend.licences import rows
from tools.backend.licences.pool import Candidate, Licence, Pool, Verdict, purchase_types
from tools.backend.refusals import Refusal
from tools.backend.store.writer import Writer
from tools.backend.timing import BackendTime

T = TypeVar("T")
Work = Callable[[Connection], Any]

PART = 1_000
"""Devices of a list that are worked off in one go: some 3 ms."""

MAX_LICENCES = 10_000_000
"""Licences of one subscription; ours: beyond any fleet, and far below what a column holds."""

NOT_ACTIVE = "Device is not in active state or is not connected."
"""Documented for v2; the other versions' words are not public."""

NOT_LICENSED = "No license attached to device"
"""The public SDK's example has it for a removal; that campaigns say the same is ours."""


class Upgrades(Protocol):
    """What licences ask of the campaign engine."""

    def in_progress(self, name: str) -> bool:
        """Whether an upgrade of the device is under way."""

    def release(self, names: Iterable[str]) -> None:
        """The devices have no licence any more: cancel what is scheduled for them."""


class Watcher(Protocol):
    """Who wants to know which devices have a licence: their reachability is monitored from the
    assignment on and until the removal [documented]. Told after the commit."""

    def licence_assigned(self, device: Device) -> None:
        """The device has a licence."""

    def licence_released(self, device: Device) -> None:
        """The device has none any more."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one device of a request."""

    device_id: str
    verdict: Verdict


def needs_licence(account: Account) -> bool:
    """Whether the devices of an account need licences: an account that is billed by the event too
    can do without [documented]."""
    return purchase_types(account.purchase_type) == {MONTHLY_BILLED}


async def parts_of(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """The items in parts; between two of them everybody else has a turn."""
    for start in range(0, len(items), PART):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + PART]


class Grant:
    """Licences that devices of a campaign have in memory, to be stored with what they are for: a
    `Rider`. When that is not stored, nobody has them."""

    __slots__ = ("_done", "_made", "_undo")

    def __init__(
        self, made: Sequence[Licence], done: Callable[[], None], undo: Callable[[], None]
    ) -> None:
        self._made = made
        self._done = done
        self._undo = undo

    def write(self, connection: Connection) -> None:
        """Store them."""
        rows.put_licences(connection, self._made)

    def settled(self, error: Exception | None) -> None:
        """They are stored, or with an error they are not."""
        if error is None:
            self._done()
        else:
            self._undo()


class Licences:
    """Assignment, removal, cancellation lists and subscriptions."""

    def __init__(
        self, writer: Writer, inventory: Inventory, time: BackendTime, upgrades: Upgrades
    ) -> None:
        self._writer = writer
        self._inventory = inventory
        self._time = time
        self._upgrades = upgrades
        self._pools: dict[str, Pool] = {}
        self._number = 0
        self._listed = 0
        # Lists and subscriptions are replaced as a whole: one change after the other.
        self._replacing = asyncio.Lock()
        self._settling: set[str] = set()
        self.watchers: list[Watcher] = []

    # -- life ---

    def load(self, connection: Connection) -> None:
        """Read what a former run left."""
        for licence in rows.load_licences(connection):
            self._pool(licence.account).held[licence.device_id] = licence
            self._number = licence.number
        for candidate in rows.load_candidates(connection):
            self._pool(candidate.account).listed[candidate.device_id] = candidate
            self._listed = candidate.number

    def resume(self) -> None:
        """Go on with a release that a former run did not finish."""
        for pool in self._pools.values():
            self._settle_soon(pool)

    def _pool(self, account: str) -> Pool:
        pool = self._pools.get(account)
        if pool is None:
            pool = self._pools[account] = Pool(account)
        return pool

    def _subscribed(self, pool: Pool) -> int:
        return self._inventory.accounts[pool.account].licence_count

    # -- what is asked ---

    def holds(self, device_id: str) -> bool:
        """Whether a device has a licence."""
        return any(device_id in pool.held for pool in self._pools.values())

    def holders(self) -> Iterator[str]:
        """The ids of all devices that have a licence."""
        return (device_id for pool in self._pools.values() for device_id in pool.held)

    def barred(self, device: Device) -> str:
        """Why a device cannot take part in a campaign; empty when it can."""
        if device.line != ACTIVE:
            return NOT_ACTIVE
        account = self._inventory.accounts[device.account]
        if needs_licence(account) and device.device_id not in self._pool(account.name).held:
            return NOT_LICENSED
        return ""

    def used(self, account: str, protocol: str | None = None) -> int:
        """How many licences are assigned; with `protocol`, to devices that speak it."""
        held = self._pool(account).held
        if protocol is None:
            return len(held)
        found = (self._inventory.by_id(account, device_id) for device_id in held)
        return sum(device is not None and device.protocol == protocol for device in found)

    def after(self, account: str, last_seen: str) -> Iterator[Licence]:
        """The licences that were assigned after that of `last_seen`, in order of assignment. Raises
        RequestRefused."""
        try:
            return self._pool(account).after(last_seen)
        except KeyError:
            raise Refusal.LAST_SEEN() from None

    def mark(self, licence: Licence) -> None:
        """Remember the end of a page."""
        self._pool(licence.account).mark(licence)

    def from_index(self, account: str, index: int) -> Iterator[Licence]:
        """The licences from a zero-based number on. Raises RequestRefused beyond the end."""
        try:
            return self._pool(account).from_index(index, self._time.now())
        except IndexError:
            raise Refusal.OFFSET_BEYOND() from None

    def mark_index(self, index: int, licence: Licence) -> None:
        """Remember the end of a page, before the one that begins at `index`."""
        self._pool(licence.account).mark_index(index, licence, self._time.now())

    def candidates(self, account: Account) -> dict[str, Candidate]:
        """The cancellation list, in order. Raises RequestRefused for an account that has none."""
        check_monthly(account)
        return self._pool(account.name).listed

    # -- writing ---

    def _write(
        self, work: Work, done: Callable[[], None], undo: Callable[[], None]
    ) -> asyncio.Future[None]:
        """Queue a change; `done` or `undo` runs after the commit, whether anybody waits or not.
        Who does gets StoreError from the future."""
        then: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def committed(_result: Any, error: Exception | None) -> None:
            if error is None:
                done()
            else:
                undo()
            if then.done():
                return
            if error is None:
                then.set_result(None)
            else:
                then.set_exception(error)

        self._writer.submit_nowait(work, committed)
        return then

    # -- assignment ---

    def _make(self, account: str, device_ids: Iterable[str]) -> list[Licence]:
        now, number = self._time.now(), self._number
        made = [
            Licence(device_id, account, number + place, now)
            for place, device_id in enumerate(device_ids, 1)
        ]
        self._number += len(made)
        return made

    def _tell(self, licences: Sequence[Licence], assigned: bool) -> None:
        for watcher in self.watchers:
            for licence in licences:
                device = self._inventory.by_id(licence.account, licence.device_id)
                if device is None:
                    continue
                if assigned:
                    watcher.licence_assigned(device)
                else:
                    watcher.licence_released(device)

    async def assign(self, account: Account, device_ids: Sequence[str]) -> list[Result]:
        """Give each of the devices a licence, as far as they go. Raises RequestRefused for a list
        that is empty or has something else than device ids, with nothing assigned."""
        wanted = await self._checked(device_ids)
        pool = self._pool(account.name)
        results: list[Result] = []
        await _all([self._assign_some(pool, part, results) async for part in parts_of(wanted)])
        return results

    def _assign_some(
        self, pool: Pool, device_ids: Sequence[str], results: list[Result]
    ) -> asyncio.Future[None]:
        free = pool.free(self._subscribed(pool))
        chosen: list[str] = []
        for device_id in device_ids:
            if self._inventory.by_id(pool.account, device_id) is None:
                verdict = Verdict.UNKNOWN_DEVICE
            elif device_id in pool.held:
                verdict = Verdict.PREEXISTING
            elif len(chosen) >= free:
                verdict = Verdict.POOL_EMPTY
            else:
                verdict = Verdict.ASSIGNED
                chosen.append(device_id)
            results.append(Result(device_id, verdict))
        made = self._make(pool.account, chosen)
        pool.add(made)
        # Also when nothing is to be written: a licence that was there already may be on its way
        # into the store still, and the answer must not come before it.
        return self._write(
            partial(rows.put_licences, found=made),
            lambda: self._tell(made, True),
            lambda: pool.drop(made),
        )

    def auto_assign(self, account: str, devices: Iterable[Device]) -> Grant | None:
        """Give all of the devices a licence, in memory and at once, or none of them when there are
        too few: None. The caller stores them in one transaction with what needs them, submitted
        before anything else has a turn. An account that is billed by the event alone has no
        licences and needs none."""
        subscription = self._inventory.accounts[account]
        if MONTHLY_BILLED not in purchase_types(subscription.purchase_type):
            return Grant((), _nothing, _nothing)
        pool = self._pool(account)
        wanted = dict.fromkeys(
            device.device_id for device in devices if device.device_id not in pool.held
        )
        if len(wanted) > pool.free(subscription.licence_count):
            return None
        made = self._make(account, wanted)
        pool.add(made)
        return Grant(made, lambda: self._tell(made, True), lambda: pool.drop(made))

    # -- removal ---

    async def remove(self, account: Account, device_ids: Sequence[str]) -> list[Result]:
        """Take the licences of devices back that have not used them. What is scheduled for such a
        device is cancelled [documented for v1]. Raises RequestRefused like `assign`."""
        wanted = await self._checked(device_ids)
        pool = self._pool(account.name)
        results: list[Result] = []
        commits = []
        async for part in parts_of(wanted):
            gone = []
            for device_id in part:
                verdict = self._removal(pool, device_id)
                if verdict is Verdict.REMOVED:
                    gone.append(pool.held[device_id])
                results.append(Result(device_id, verdict))
            commits.append(self._let_go(pool, gone))
        await _all(commits)
        return results

    def _removal(self, pool: Pool, device_id: str) -> Verdict:
        licence = pool.held.get(device_id)
        device = self._inventory.by_id(pool.account, device_id)
        if licence is None:
            return Verdict.UNKNOWN_DEVICE if device is None else Verdict.NOT_LICENSED
        if device is None:
            return Verdict.REMOVED  # the inventory has given the device another id
        if self._upgrades.in_progress(device.name):
            return Verdict.IN_PROGRESS
        if device.upgraded is not None and device.upgraded > licence.assigned:
            return Verdict.UPGRADED
        return Verdict.REMOVED

    def _let_go(self, pool: Pool, gone: Sequence[Licence]) -> asyncio.Future[None]:
        """Take licences from their devices, and with them what is scheduled."""
        pool.drop(gone)
        pool.going += len(gone)

        def done() -> None:
            pool.going -= len(gone)
            self._tell(gone, False)

        def undo() -> None:
            pool.going -= len(gone)
            pool.put_back(gone)

        commit = self._write(partial(rows.drop_licences, found=gone), done, undo)
        if gone and needs_licence(self._inventory.accounts[pool.account]):
            found = (self._inventory.by_id(pool.account, item.device_id) for item in gone)
            self._upgrades.release([device.name for device in found if device is not None])
        return commit

    # -- what is there no more ---

    def forget(self, device: Device) -> None:
        """The device is gone, from the store too."""
        pool = self._pool(device.account)
        licence = pool.held.pop(device.device_id, None)
        pool.listed = {name: item for name, item in pool.listed.items() if name != device.device_id}
        if licence is not None:
            for watcher in self.watchers:
                watcher.licence_released(device)

    def forget_account(self, account: str) -> None:
        """The account is gone, with its devices."""
        self._pools.pop(account, None)

    # -- cancellation list ---

    async def list_candidates(
        self, account: Account, device_ids: Sequence[str], append: bool
    ) -> dict[str, Candidate]:
        """Append devices to the cancellation list, or replace it; returns the list. An entry stays
        until the list is replaced or deleted [documented]; one without a licence is passed over at
        a release. Raises RequestRefused with nothing changed."""
        check_monthly(account)
        wanted = await self._checked(device_ids)
        async for part in parts_of(wanted):
            for device_id in part:
                # The answer to an unknown device is not public; ours.
                if self._inventory.by_id(account.name, device_id) is None:
                    raise Refusal.DEVICE_UNKNOWN()
        pool = self._pool(account.name)
        async with self._replacing:
            listed = dict(pool.listed) if append else {}
            now, added = self._time.now(), []
            async for part in parts_of([item for item in wanted if item not in listed]):
                for device_id in part:
                    self._listed += 1
                    added.append(Candidate(device_id, account.name, self._listed, now))
            listed.update((candidate.device_id, candidate) for candidate in added)
            await self._store_list(pool, listed, added, replace=not append)
        return listed

    async def clear_candidates(self, account: Account) -> None:
        """Delete the cancellation list; without one, nothing happens. Raises RequestRefused."""
        check_monthly(account)
        async with self._replacing:
            await self._store_list(self._pool(account.name), {}, [], replace=True)

    async def _store_list(
        self, pool: Pool, listed: dict[str, Candidate], added: list[Candidate], replace: bool
    ) -> None:
        def done() -> None:
            pool.listed = listed

        work = partial(rows.write_list, account=pool.account, found=added, replace=replace)
        await self._write(work, done, _nothing)

    # -- subscription ---

    async def set_subscription(self, name: str, purchase_type: str, count: int) -> Account:
        """Change what an account has subscribed to, and take back licences that are too many.
        `purchase_type` is a comma list of PURCHASE_TYPES. Raises RequestRefused."""
        if name not in self._inventory.accounts:
            raise Refusal.ACCOUNT_UNKNOWN()
        try:
            types = purchase_types(purchase_type)
        except ValueError as error:
            raise RequestRefused(f"Invalid purchaseType: {error}") from None
        if not 0 <= count <= MAX_LICENCES:
            raise RequestRefused(f"licenseCount is 0 to {MAX_LICENCES}")
        async with self._replacing:
            await self._store_subscription(name, ",".join(sorted(types)), count)
            # One part after the other: what cannot be stored is put back, and would come again.
            while (commit := self._settle_some(self._pool(name))) is not None:
                await commit
        return self._inventory.accounts[name]

    async def _store_subscription(self, name: str, purchase_type: str, count: int) -> None:
        pool, now = self._pool(name), self._time.now()
        keeps_list = MONTHLY_BILLED in purchase_type
        row = {
            "b_name": name,
            "b_purchase_type": purchase_type,
            "b_licence_count": count,
            "b_subscribed": now,
        }
        pool.cap = count

        def done() -> None:
            pool.cap = None
            if not keeps_list:
                pool.listed = {}
            # Other columns of the account may have changed meanwhile.
            self._inventory.accounts[name] = replace(
                self._inventory.accounts[name],
                purchase_type=purchase_type,
                licence_count=count,
                subscribed=now,
            )

        def undo() -> None:
            pool.cap = None

        work = partial(rows.write_subscription, row=row, keeps_list=keeps_list)
        await self._write(work, done, undo)

    # -- release of what is too much ---

    def _settle_some(self, pool: Pool) -> asyncio.Future[None] | None:
        """Take back some of the licences that are too many, but for those whose devices are being
        upgraded; None when there are no others."""
        due = (item for item in pool.excess(self._subscribed(pool)) if not self._busy(item))
        gone = list(islice(due, PART))
        return self._let_go(pool, gone) if gone else None

    def _busy(self, licence: Licence) -> bool:
        device = self._inventory.by_id(licence.account, licence.device_id)
        return device is not None and self._upgrades.in_progress(device.name)

    def _settle_soon(self, pool: Pool) -> None:
        """Take back what is too much when those who run now are through."""
        if pool.account in self._settling or len(pool.held) <= self._subscribed(pool):
            return
        self._settling.add(pool.account)
        asyncio.get_running_loop().call_soon(self._settle, pool)

    def _settle(self, pool: Pool) -> None:
        self._settling.discard(pool.account)
        commit = self._settle_some(pool)
        if commit is not None:
            commit.add_done_callback(partial(self._settled, pool))

    def _settled(self, pool: Pool, commit: asyncio.Future[None]) -> None:
        # Nobody waits for it: what could not be stored comes again at the end of the next upgrade,
        # or at the next start.
        if commit.exception() is None:
            self._settle_soon(pool)

    # As an observer of the campaigns: the end of an upgrade may release a licence. The engine tells
    # of the change before it has made it whole, therefore not at once.

    def campaign_changed(self, campaign: Campaign, old: str) -> None:
        """Nothing: only devices hold licences."""

    def member_changed(self, member: Member, old: str) -> None:
        """The upgrade of a device may be over."""
        self._settle_soon(self._pool(member.campaign.account))

    async def _checked(self, device_ids: Sequence[str]) -> list[str]:
        """The device ids of a request, each once. Raises RequestRefused."""
        wanted = list(dict.fromkeys(device_ids))
        if not wanted:
            raise Refusal.NO_DEVICES()
        async for part in parts_of(wanted):
            for device_id in part:
                check_device_id(device_id)
        return wanted


def check_monthly(account: Account) -> None:
    """Refuse what only accounts with a monthly subscription have [documented]."""
    if MONTHLY_BILLED not in purchase_types(account.purchase_type):
        raise Refusal.NOT_MONTHLY()


def check_index(index: int, count: int) -> None:
    """Refuse an index beyond a list; 0 is the beginning of an empty one too."""
    if index and index >= count:
        raise Refusal.OFFSET_BEYOND()


def _nothing() -> None:
    """There is nothing to undo."""


async def _all(commits: Sequence[asyncio.Future[None]]) -> None:
    """Wait for all of them, then raise the first error."""
    for outcome in await asyncio.gather(*commits, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
