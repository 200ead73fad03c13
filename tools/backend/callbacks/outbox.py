"""From changes of a status to messages in the outbox.

Theory of operation
-------------------
The engine tells of a change *before* it submits it (`Observer`). The change becomes a row of
`outbox_changes` there and then, which is therefore in the same transaction as the change itself or
in an earlier one: whatever is killed when, a change that is durable has its row, or the message
that was made of it.

    change -> row of outbox_changes -> (1 s later, with its neighbours) row of outbox -> delivered
                 `--- both in one transaction: the message in, its changes out ---'

Changes of one listener gather in a *bucket*. v1 publishes what became of its devices once a day, so
its buckets are two: campaigns, which are live, and devices, which wait for the publication and of
which only the last status before it is ever shown.

A pass over a fleet changes a hundred thousand devices between two turns of the loop. Their rows go
into *blocks*: the first change submits a block, those that follow go into it until the writer has
come to it or it is full. Every row is so written before its own change, and the changes stay
neighbours in the writer's queue and share one statement. The messages are made by the writer's
thread, a few at a time, so that no other commit waits long for them.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sqlalchemy import Connection

from agent.runtime.wheel import Timer, TimerWheel
from tools.backend.callbacks import messages, rows
from tools.backend.callbacks.messages import MAX_DEVICES
from tools.backend.callbacks.rows import Change, Key, Message
from tools.backend.campaigns import states
from tools.backend.campaigns.records import NOTHING_MORE, Campaign, Member, Rider
from tools.backend.inventory import Firmware
from tools.backend.store.writer import Writer
from tools.backend.timing import DAY, BackendTime

COALESCE = 1.0
"""Seconds in which changes gather before a message tells them; ours."""

MAX_COMPOSED = 5 * MAX_DEVICES
"""Changes made into messages in one transaction: some 40 ms, in which other commits wait."""

MAX_BLOCK = 1_000
"""Changes in one block, so that a batch of the writer stays near its own bound."""

STORE_RETRY = 5.0
"""Seconds until messages are made again that the store did not take: a full disk is emptied by
hand, a lock passes."""


class _Block:
    """Changes that are written at one place of the writer's queue."""

    __slots__ = ("changes", "closed", "lock")

    def __init__(self, lock: threading.Lock, change: Change) -> None:
        self.lock = lock
        self.changes = [change]
        self.closed = False

    def write(self, connection: Connection) -> None:
        """Take nothing more and write; again, when the transaction is run again."""
        with self.lock:
            self.closed = True
        rows.add_changes(connection, self.changes)


@dataclass(slots=True, eq=False)
class _Bucket:
    """Changes of one listener that no message holds yet."""

    key: Key
    drops: tuple[Any, ...]
    """The statements that delete its changes."""
    publication: float | None = None
    """Seconds after midnight UTC at which its changes are published; None: at once."""
    changes: dict[object, Change] = field(default_factory=dict)
    due: float = inf
    busy: bool = False
    closed: bool = False
    withdrawn: set[int] = field(default_factory=set)
    """Numbers of changes that are being composed, and are not to be told after all."""

    def published(self, change: Change) -> float:
        """When a change may be told."""
        if self.publication is None:
            return change.time
        return change.time + (self.publication - change.time) % DAY

    def add(self, change: Change) -> None:
        if self.publication is None:
            self.changes[change.number] = change
            return
        # Nobody was shown the status that this one replaces.
        name = (change.campaign, change.device_id, self.published(change))
        self.changes.pop(name, None)
        self.changes[name] = change

    def take(self, now: float) -> dict[object, Change]:
        """Some of what may be told, oldest first; `due` says when to look again."""
        taken: dict[object, Change] = {}
        for name, change in self.changes.items():
            if len(taken) == MAX_COMPOSED:
                break
            if self.publication is not None and self.published(change) > now:
                self.due = self.published(change)
                break
            taken[name] = change
        for name in taken:
            del self.changes[name]
        if not self.changes:
            self.due = inf
        return taken

    def withdraw(self, change: Change) -> None:
        """What a change tells of was not stored: nobody is told of it."""
        self.changes = {name: item for name, item in self.changes.items() if item is not change}
        if self.busy:
            self.withdrawn.add(change.number)

    def put_back(self, taken: dict[object, Change], again: float) -> None:
        """The store did not take them."""
        newer = self.changes
        taken = {name: item for name, item in taken.items() if item.number not in self.withdrawn}
        # What was replaced meanwhile stays out, so that the numbers still ascend.
        self.changes = {name: taken[name] for name in taken if name not in newer} | newer
        self.due = again


@dataclass(slots=True)
class _Composition:
    """One transaction: messages in, their changes out."""

    bucket: _Bucket
    changes: list[Change]
    statuses: Mapping[str, str]
    campaigns: Mapping[str, Campaign | None]
    now: float
    numbers: itertools.count[int]

    def write(self, connection: Connection) -> list[Message]:
        account, version = self.bucket.key
        made: list[Message] = []
        told = [item for item in self.changes if item.number not in self.bucket.withdrawn]
        for draft in messages.drafts_of(version, told, self.statuses):
            body = messages.body_of(version, account, draft, self.campaigns[draft.campaign])
            # Numbered here and not when it was submitted: so they ascend in the order of commits.
            number = next(self.numbers)
            message = _message(number, self.bucket.key, draft.kind, draft.campaign, self.now)
            _insert(connection, message, body)
            made.append(message)
        last = max(change.number for change in self.changes)
        for statement in self.bucket.drops:
            connection.execute(statement, {**rows.key_of(self.bucket.key), "b_last": last})
        return made


class _Creation:
    """Changes that a new campaign comes with, stored with it or not at all: a `Rider`."""

    __slots__ = ("_changes",)

    def __init__(self, changes: list[tuple[_Bucket, Change]]) -> None:
        self._changes = changes

    def write(self, connection: Connection) -> None:
        """Store them."""
        rows.add_changes(connection, [change for _bucket, change in self._changes])

    def settled(self, error: Exception | None) -> None:
        """The campaign is stored, or with an error it never was."""
        if error is not None:
            for bucket, change in self._changes:
                bucket.withdraw(change)


def _message(number: int, key: Key, kind: str, campaign: str, now: float) -> Message:
    account, version = key
    return Message(number, account, version, kind, campaign, rows.WAITING, 0, now, now, None, "")


def _insert(connection: Connection, message: Message, body: str) -> None:
    row = {name: getattr(message, name) for name in Message.__slots__}
    connection.execute(rows.ADD_MESSAGE, {**row, "body": body})


class Outbox:
    """Makes messages of changes; an observer of the campaign engine."""

    def __init__(
        self,
        writer: Writer,
        time: BackendTime,
        wheel: TimerWheel,
        campaign_of: Callable[[str], Campaign | None],
        publication: float | None,
        deliver: Callable[[list[Message]], None],
    ) -> None:
        self._writer = writer
        self._time = time
        self._wheel = wheel
        self._campaign_of = campaign_of
        self._publication = publication
        self._deliver = deliver
        self._buckets: dict[Key, tuple[_Bucket, _Bucket]] = {}
        """For each listener: where changes of campaigns go, and of devices; mostly the same."""
        self._changes = itertools.count(1)
        self._messages = itertools.count(1)
        self._lock = threading.Lock()
        self._block: _Block | None = None
        self._timer = Timer(self._flush)
        self._stopped = False
        self.composed = 0
        """Messages made in this run."""

    # -- life ---

    def load(self, connection: Connection) -> set[Key]:
        """Go on numbering, and take back the changes of which no message was made. The listeners
        have been opened; returns whom there are changes for and no listener."""
        last = 0
        unknown: set[Key] = set()
        for change in rows.load_changes(connection):
            last = change.number
            key = (change.account, change.version)
            pair = self._buckets.get(key)
            if pair is None:
                unknown.add(key)
            else:
                pair[bool(change.device_id)].add(change)
        self._changes = itertools.count(last + 1)
        self._messages = itertools.count(rows.last_message(connection) + 1)
        return unknown

    def start(self) -> None:
        """Make messages from now on, of what a former run has left first."""
        now = self._time.now()
        for bucket in self._each():
            if bucket.changes:
                bucket.due = now
        self._arm()

    def stop(self) -> None:
        """Make none any more; changes stay in the store."""
        self._stopped = True
        self._wheel.disarm(self._timer)

    def open(self, key: Key) -> None:
        """A listener is registered: take its changes from now on."""
        if key in self._buckets:
            return
        if key[1] == 1 and self._publication is not None:
            self._buckets[key] = (
                _Bucket(key, (rows.DROP_CAMPAIGN_CHANGES,)),
                _Bucket(key, (rows.DROP_DEVICE_CHANGES,), self._publication),
            )
        else:
            both = _Bucket(key, (rows.DROP_CAMPAIGN_CHANGES, rows.DROP_DEVICE_CHANGES))
            self._buckets[key] = (both, both)

    def close(self, key: Key) -> None:
        """A listener is gone, and with it what was to be told to it."""
        for bucket in self._buckets.pop(key, ()):
            bucket.closed = True

    # -- the engine's observer ---

    def campaign_changed(self, campaign: Campaign, old: str) -> None:
        """A campaign has another status."""
        pair = self._buckets.get((campaign.account, campaign.kind.version))
        if pair is not None:
            key = pair[0].key
            now = self._time.now()
            change = Change(next(self._changes), *key, campaign.id, "", campaign.status, old, now)
            self._store(change)
            self._gather(pair[0], change)

    def member_changed(self, member: Member, _old: str) -> None:
        """A device in a campaign has another status or reason."""
        campaign = member.campaign
        pair = self._buckets.get((campaign.account, campaign.kind.version))
        if pair is not None:
            change = self._of_member(pair[1].key, member)
            self._store(change)
            self._gather(pair[1], change)

    def campaign_created(self, campaign: Campaign, members: Sequence[Member]) -> Rider:
        """A campaign is about to be written, whose checks are over: what they have found is told
        where it is more than the beginning, a request that failed and devices that were
        rejected."""
        pair = self._buckets.get((campaign.account, campaign.kind.version))
        if pair is None:
            return NOTHING_MORE
        found: list[tuple[_Bucket, Change]] = []
        if campaign.status != states.REQUEST_PENDING:
            status, old = campaign.status, states.REQUEST_PENDING
            number = next(self._changes)
            change = Change(number, *pair[0].key, campaign.id, "", status, old, self._time.now())
            found.append((pair[0], change))
        found.extend(
            (pair[1], self._of_member(pair[1].key, member))
            for member in members
            if member.status == states.REJECTED
        )
        for bucket, change in found:
            self._gather(bucket, change)
        return _Creation(found) if found else NOTHING_MORE

    def _of_member(self, key: Key, member: Member) -> Change:
        return Change(
            next(self._changes),
            *key,
            member.campaign.id,
            member.device_id,
            member.status,
            member.reason,
            member.updated,
            member.recent,
            member.next,
        )

    def _gather(self, bucket: _Bucket, change: Change) -> None:
        bucket.add(change)
        if bucket.due == inf:
            if bucket.publication is None:
                bucket.due = self._time.now() + COALESCE
            else:
                bucket.due = bucket.published(change)
            self._arm()

    def _store(self, change: Change) -> None:
        """Write a change at an earlier place than what is submitted next. It is kept in memory too:
        when only this write fails, the message is made all the same."""
        with self._lock:
            block = self._block
            if block is not None and not block.closed and len(block.changes) < MAX_BLOCK:
                block.changes.append(change)
                return
            block = self._block = _Block(self._lock, change)
        self._writer.submit_nowait(block.write)

    # -- firmware ---

    def announce(self, firmware: Firmware) -> None:
        """Firmware is new in the catalogue: tell it to the account's listeners."""
        for version in messages.ANNOUNCED.get(firmware.protocol, ()):
            key = (firmware.account, version)
            if key in self._buckets:
                self._announce(key, firmware)

    def _announce(self, key: Key, firmware: Firmware) -> None:
        kind, body = messages.announcement_of(key[1], firmware)
        now = self._time.now()

        def write(connection: Connection) -> list[Message]:
            message = _message(next(self._messages), key, kind, "", now)
            _insert(connection, message, body)
            return [message]

        bucket = self._buckets[key][0]
        self._writer.submit_nowait(
            write,
            lambda made, error: self._made(bucket, made) if error is None else None,
            keep=True,  # nobody would announce it again
        )

    # -- composing ---

    def _each(self) -> list[_Bucket]:
        return list(dict.fromkeys(bucket for pair in self._buckets.values() for bucket in pair))

    def _arm(self) -> None:
        if self._stopped:
            return
        due = min((bucket.due for bucket in self._each() if not bucket.busy), default=inf)
        if due == inf:
            self._wheel.disarm(self._timer)
        else:
            self._time.arm(self._wheel, self._timer, due)

    def _flush(self, _now: float) -> None:
        now = self._time.now()
        for bucket in self._each():
            if bucket.due <= now and not bucket.busy:
                self._compose(bucket, now)
        self._arm()

    def _compose(self, bucket: _Bucket, now: float) -> None:
        taken = bucket.take(now)
        if not taken:
            return
        names = {change.campaign for change in taken.values()}
        campaigns = {name: self._campaign_of(name) for name in names}
        statuses = {
            name: "" if campaign is None else campaign.status
            for name, campaign in campaigns.items()
        }
        work = _Composition(bucket, list(taken.values()), statuses, campaigns, now, self._messages)
        bucket.busy = True

        def committed(made: Any, error: Exception | None) -> None:
            bucket.busy = False
            if error is not None:
                bucket.put_back(taken, self._time.now() + STORE_RETRY)
            else:
                self._made(bucket, made)
            bucket.withdrawn.clear()
            self._arm()

        self._writer.submit_nowait(work.write, committed)

    def _made(self, bucket: _Bucket, made: list[Message]) -> None:
        self.composed += len(made)
        if not bucket.closed:
            self._deliver(made)
