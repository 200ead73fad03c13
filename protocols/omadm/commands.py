"""What a server's commands do to a device, and the statuses and results that tell of it.

Statuses come in command order, one per item with its TargetRef; the Results of a Get stand behind
its Status. Sequence and Atomic have a Status of their own, before those of their members:

- Sequence: 200 as soon as it begins. A user's "No" or cancel leaves the rest undone (215).
- Atomic: 200, or 507 when a member failed. Then what had been done is rolled back (216, or 516
  where that cannot be), the member that failed says why, and the rest was not executed (215). A Get
  or an Exec inside is a failure (500), and so is another Atomic.

  A client that can execute an Atomic as a whole may split its answers over several messages, any
  other fails it with 517 as soon as they would be (RepPro, Atomic). Ours can, as its tree changes
  whole or not at all; a persona says that it cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from protocols.omadm.interaction import ALERTS, ask
from protocols.omadm.large import LargeObject
from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Command,
    Copy,
    Delete,
    Exec,
    Get,
    Item,
    Meta,
    MgmtTree,
    Replace,
    Results,
    Sequence,
    Status,
)
from protocols.omadm.outbox import Room, Together, item_length
from protocols.omadm.personas.profile import Profile
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree import Tree

__all__ = ["Commands", "flattened"]

_Answers = list[tuple[Status | Results | Together, bool]]
"""Each with whether nobody wants it."""

_WithItems = Get | Add | Replace | Delete | Copy | Exec

_NOT_FOR_DEVICES = frozenset({1200, 1201, 1224, 1226})
"""Alerts that are known and that only a device sends."""


class Commands:
    """Carries out the commands of one session."""

    __slots__ = (
        "_atomic",
        "_broken_off",
        "_profile",
        "_tree",
        "large",
        "largest",
        "msg_ref",
        "room",
        "waits",
    )

    def __init__(self, tree: Tree, profile: Profile, large: LargeObject) -> None:
        self._tree = tree
        self._profile = profile
        self.large = large
        self._atomic = False
        self._broken_off: list[str] = []
        self.largest: int | None = None
        """MaxObjSize of the server."""
        self.msg_ref = 0
        """MsgID of the message whose commands are carried out."""
        self.room: Room | None = None
        """What the server takes in one message; None: anything."""
        self.waits = 0.0
        """Seconds that a user took to answer."""

    def run(self, command: Command) -> list[Status | Results | Together]:
        """Do it; the drafts that answer it, in order."""
        return [answer for answer, silent in self._do(command) if not silent]

    def take_broken_off(self) -> list[str]:
        """The large objects that were not brought to their end, each to be told by Alert 1225."""
        uris, self._broken_off = self._broken_off, []
        return uris

    def _do(self, command: Command) -> _Answers:
        """Do it; every answer."""
        if isinstance(command, Sequence):
            return self._sequence(command)
        if isinstance(command, Atomic):
            return self._run_atomic(command)
        if not isinstance(command, Add | Replace):
            self.interrupt()
        if isinstance(command, Alert):
            answers: list[Status | Results] = [self._alert(command)]
        elif isinstance(command, Get | Add | Replace | Delete | Copy | Exec):
            answers = self._items(command)
        else:
            answers = [self._status(command, StatusCode.NOT_SUPPORTED)]
        silent = _is_silent(command)
        return [(answer, silent and isinstance(answer, Status)) for answer in answers]

    def refuse(self, commands: Iterable[Command], code: int) -> list[Status | Results | Together]:
        """A Status with `code` for each command and for what is inside it."""
        return [answer for answer, silent in self._refused(commands, code) if not silent]

    def _refused(self, commands: Iterable[Command], code: int) -> _Answers:
        return [
            (self._status(command, code), _is_silent(command)) for command in flattened(commands)
        ]

    # -- commands with items --------------------------------------------------------------------

    def _items(self, command: _WithItems) -> list[Status | Results]:
        if not command.items:
            self.interrupt()
            return [self._status(command, StatusCode.INCOMPLETE)]
        statuses: list[Status | Results] = []
        found: list[Item] = []
        for item in command.items:
            refs = () if item.target is None else (item.target,)
            try:
                if isinstance(command, Get):
                    found += self._get(item)
                    code = StatusCode.OK
                else:
                    code = self._write(command, item)
            except TreeError as error:
                code = error.status
            statuses.append(replace(self._status(command, code), target_refs=refs))
        if found:
            statuses.append(Results("", self.msg_ref, command.cmd_id, tuple(found)))
        return statuses

    def _get(self, item: Item) -> tuple[Item, ...]:
        if self._atomic:
            raise TreeError(StatusCode.COMMAND_FAILED, "Get inside Atomic")
        items = self._tree.get(_target(item))
        if self.largest is not None:
            for one in items:
                if item_length(one) > self.largest:
                    raise TreeError(StatusCode.TOO_LARGE, "more than the server takes")
        if self.room is not None and not all(map(self.room.takes_results, items)):
            raise TreeError(StatusCode.TOO_LARGE, "more than a message of the server's takes")
        return items

    def _write(self, command: _WithItems, item: Item) -> StatusCode:
        tree, uri = self._tree, _target(item)
        if isinstance(command, Add | Replace):
            add = isinstance(command, Add)
            goes_on = self.large.continues(item, add=add)
            if not goes_on:
                self.interrupt()
            if item.more_data or goes_on:
                if self._atomic:
                    raise TreeError(StatusCode.NOT_SUPPORTED, "a large object inside Atomic")
                return self.large.take(item, command.meta, add=add)
            write = tree.add if add else tree.replace
            return write(uri, item.data, _meta(command, item))
        if isinstance(command, Delete):
            return tree.delete(uri)
        if isinstance(command, Copy):
            if item.source is None:
                raise TreeError(StatusCode.INCOMPLETE, "Copy without a source")
            return tree.copy(item.source, uri)
        data = item.data
        if isinstance(data, MgmtTree):
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "Exec with a serialised tree")
        return tree.execute(uri, data, command.correlator)

    def interrupt(self) -> None:
        """Something else has come where the next chunk of a large object should be."""
        uri = self.large.open_uri
        if uri is not None:
            self.large.break_off()
            self._broken_off.append(uri)

    # -- alerts ---------------------------------------------------------------------------------

    def _alert(self, alert: Alert) -> Status:
        if alert.code not in ALERTS:
            known = alert.code in _NOT_FOR_DEVICES
            code = StatusCode.NOT_ALLOWED if known else StatusCode.NOT_SUPPORTED
            return self._status(alert, code)
        reply = ask(alert.code, alert.items, self._profile.user)
        self.waits += reply.seconds
        items = tuple(Item(data=text) for text in reply.data)
        return replace(self._status(alert, reply.status), items=items)

    # -- Sequence and Atomic --------------------------------------------------------------------

    def _sequence(self, sequence: Sequence) -> _Answers:
        silent = sequence.no_resp
        if self._profile.quirks.sequence_unsupported:
            own = self._status(sequence, StatusCode.NOT_SUPPORTED)
            refused = self._refused(sequence.commands, StatusCode.NOT_EXECUTED)
            return [(own, silent), *refused]
        answers: _Answers = [(self._status(sequence, StatusCode.OK), silent)]
        for at, command in enumerate(sequence.commands):
            told = self._do(command)
            answers += told
            if isinstance(command, Alert) and _user_stopped(told):
                answers += self._refused(sequence.commands[at + 1 :], StatusCode.NOT_EXECUTED)
                break
        return answers

    def _run_atomic(self, atomic: Atomic) -> _Answers:
        silent = atomic.no_resp
        refusal = None
        if self._profile.quirks.atomic_unsupported:
            refusal = StatusCode.NOT_SUPPORTED
        elif self._atomic:
            refusal = StatusCode.COMMAND_FAILED
        if refusal is not None:
            members = self._refused(atomic.commands, StatusCode.NOT_EXECUTED)
            return [(self._status(atomic, refusal), silent), *members]
        self._atomic = True
        try:
            code, members = self._together(atomic)
        finally:
            self._atomic = False
        answers = [(self._status(atomic, code), silent), *members]
        if code is StatusCode.OK and self._profile.quirks.atomic_in_one_message:
            return [(Together(_statuses(answers)), False)]
        return answers

    def _together(self, atomic: Atomic) -> tuple[StatusCode, _Answers]:
        """The Status of an Atomic, and the answers of its members."""
        own = (self._status(atomic, StatusCode.OK), atomic.no_resp)
        answers: _Answers = []
        with self._tree.transaction() as transaction:
            for at, command in enumerate(atomic.commands):
                told = self._do(command)
                answers += told
                failure = None
                if not all(_good(answer) for answer, _ in told):
                    failure = StatusCode.ATOMIC_FAILED
                elif not self._in_one_message([own, *answers]):
                    failure = StatusCode.RESPONSE_TOO_LARGE
                if failure is not None:
                    rest = self._refused(atomic.commands[at + 1 :], StatusCode.NOT_EXECUTED)
                    return failure, [*_rolled_back(answers, transaction.roll_back()), *rest]
            try:
                transaction.commit()
            except TreeError:
                back = _rolled_back(answers, transaction.roll_back())
                return StatusCode.ATOMIC_FAILED, back
        return StatusCode.OK, answers

    def _in_one_message(self, answers: _Answers) -> bool:
        """Whether they are, where this persona needs it."""
        if self.room is None or not self._profile.quirks.atomic_in_one_message:
            return True
        return self.room.takes(_statuses(answers))

    # -- internals ------------------------------------------------------------------------------

    def _status(self, command: Command, code: int) -> Status:
        return Status("", self.msg_ref, command.cmd_id, command.name, int(code))


def flattened(commands: Iterable[Command]) -> Iterator[Command]:
    """Each command that wants a Status, in order, and what is inside it behind it."""
    for command in commands:
        if isinstance(command, Status | Results):
            continue
        yield command
        if isinstance(command, Sequence | Atomic):
            yield from flattened(command.commands)


def _is_silent(command: Command) -> bool:
    """Its sender wants no Status."""
    return not isinstance(command, Status | Results) and command.no_resp


def _target(item: Item) -> str:
    if not item.target:
        raise TreeError(StatusCode.INCOMPLETE, "an item without a target")
    return item.target


def _meta(command: _WithItems, item: Item) -> Meta | None:
    """The item's, completed by its command's."""
    own, common = item.meta, command.meta
    if own is None or common is None:
        return own or common
    return replace(own, format=own.format or common.format, type=own.type or common.type)


def _statuses(answers: _Answers) -> tuple[Status, ...]:
    """Those that somebody wants."""
    return tuple(one for one, silent in answers if isinstance(one, Status) and not silent)


def _good(answer: Status | Results | Together) -> bool:
    """A success in the terms of an Atomic."""
    if not isinstance(answer, Status):
        return True
    return 200 <= answer.code < 300 and answer.code not in (
        StatusCode.CANCELLED,
        StatusCode.NOT_EXECUTED,
    )


def _user_stopped(answers: _Answers) -> bool:
    return any(
        isinstance(one, Status) and one.code in (StatusCode.NOT_MODIFIED, StatusCode.CANCELLED)
        for one, _ in answers
    )


def _rolled_back(answers: _Answers, stuck: frozenset[str]) -> _Answers:
    """The statuses of an Atomic that failed; `stuck` names what could not be taken back."""
    kept = {uri.removeprefix("./") for uri in stuck}
    told: _Answers = []
    for answer, silent in answers:
        if not isinstance(answer, Status):
            continue
        if _good(answer):
            again = any(ref.removeprefix("./") in kept for ref in answer.target_refs)
            code = StatusCode.ROLL_BACK_FAILED if again else StatusCode.ROLLED_BACK
            answer = replace(answer, code=int(code))
        told.append((answer, silent))
    return told
