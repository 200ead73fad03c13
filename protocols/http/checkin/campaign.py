"""One campaign on a device, without I/O: what to do next, and what each answer means.

The client asks `step` what is to be done now and does it; it hands back what the server answered
(`accepted`, `drop`), what a check-in brought (`obey`) and how a file was fetched (`fetched`). All
that must survive a reboot is in one record (`record.py`), written before anything is sent. The
order itself is not kept: the server gives it again at every check-in, and without it nothing
begins.

The stages and what moves them are in `tables.TRANSITIONS`. A firmware campaign reads its progress
from the update engine; a file campaign knows its own.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from agent.device import Device
from agent.errors import LocalMisuse
from agent.misbehaviour import Misbehaviour
from agent.nvm import NvmFull
from agent.outcome import Outcome
from agent.update import State
from protocols.http.checkin.record import CampaignRecord, FileStore, load, save
from protocols.http.checkin.tables import (
    TRANSITIONS,
    Cause,
    Report,
    Stage,
    Word,
    reason_of,
    report,
)
from protocols.http.checkin.windows import Hours, next_begin
from protocols.http.checkin.wire import (
    CheckInAnswer,
    Current,
    Kind,
    Order,
    StatusReport,
    rfc3339,
)

__all__ = ["Act", "Campaign", "Step"]

_WORDS = {
    Stage.WAITING: Word.WAITING,
    Stage.DOWNLOADING: Word.DOWNLOADING,
    Stage.DOWNLOADED: Word.DOWNLOADED,
    Stage.INSTALLING: Word.INSTALLING,
}
_BEFORE_LEAVE = (Stage.WAITING, Stage.DOWNLOADING, Stage.DOWNLOADED)
_UNDER_WAY = (*_BEFORE_LEAVE, Stage.INSTALLING)
_HOLDS_PACKAGE = (State.DOWNLOADING, State.DOWNLOADED)
_ONE_DAY = datetime.timedelta(days=1)


class Act(enum.Enum):
    """What there is to do."""

    REST = "nothing before an instant"
    TELL = "send the pending report"
    FETCH = "begin the download, or go on with it"
    INSTALL = "install what was downloaded"
    GIVE_UP = "the campaign's dates are over"


class Step(NamedTuple):
    act: Act
    until: datetime.datetime | None = None
    """Of REST: look again then; None: when something happens."""


_REST = Step(Act.REST)


class Campaign:
    """What one device knows of the campaign it is in; `note` hears each change of its stage."""

    __slots__ = (
        "_device",
        "_failed",
        "_fetched",
        "_misbehave",
        "_note",
        "early",
        "order",
        "record",
    )

    def __init__(
        self,
        device: Device,
        misbehave: frozenset[Misbehaviour],
        note: Callable[[Stage, Stage, Cause], None],
    ) -> None:
        self._device = device
        self._misbehave = misbehave
        self._note = note
        self.record: CampaignRecord = load(device.nvm)
        self.order: Order | None = None
        """None until a check-in of this uptime brought it."""
        self._fetched = False
        self._failed = ""
        """The campaign whose failure was acknowledged since the last check-in."""
        self.early = False
        """The result is told although no leave to install was ever asked for: a lie begins so."""

    @property
    def files(self) -> FileStore:
        return FileStore(self._device.nvm)

    @property
    def current(self) -> Current | None:
        """What a check-in says of the campaign."""
        record = self.record
        if record.stage is Stage.NONE:
            return None
        if record.stage is Stage.ENDED:
            assert record.pending is not None  # a result is told until it is acknowledged
            return Current(record.id, record.pending.word)
        begun = record.kind is Kind.FIRMWARE and record.stage is not Stage.WAITING
        offset = self._device.engine.offset if begun else 0
        return Current(record.id, _WORDS[record.stage], offset)

    # --- what happens

    def obey(self, answer: CheckInAnswer) -> bool:
        """Take over what a check-in brought. True: what is being fetched is wanted no more."""
        record = self.record
        unwanted = False
        # Leave may have been given, and the answer lost: then the repeated report decides.
        asked = record.pending is not None and record.pending.word is Word.INSTALLING
        if record.stage in _BEFORE_LEAVE and record.id in answer.cancel and not asked:
            if Misbehaviour.IGNORE_CANCEL in self._misbehave:
                self.defy()
            else:
                self.drop()
                unwanted = True
        order = answer.order
        # The check-in that follows a failure shows what runs. Another attempt begins at a later
        # one, or a server that never gives up would be asked without a pause.
        failed, self._failed = self._failed, ""
        if (
            order is None
            or order.id in answer.cancel
            or order.id == failed
            or answer.server_time >= _midnight_after(order.end)
        ):
            return unwanted
        record = self.record
        if record.stage is not Stage.NONE and record.id == order.id:
            self.order = order  # its dates and windows may have been changed
        elif record.stage is Stage.NONE:
            if record.id != order.id:
                self._adopt(order)
        elif self.order is None and record.stage in _BEFORE_LEAVE and not asked:
            # A reboot lost the order, and the server has another one instead of it.
            self.drop()
            self._adopt(order)
            unwanted = True
        return unwanted

    def accepted(self, seq: int) -> None:
        """The server has taken the report of this number."""
        pending = self.record.pending
        if pending is None or pending.seq != seq:
            return
        if pending.word is Word.DOWNLOADING:
            self._move(Cause.OPENED)
        elif pending.word is Word.DOWNLOADED:
            self._move(Cause.COMPLETE)
        elif pending.word is Word.INSTALLING:
            self._move(Cause.LEAVE)
        else:
            again = pending.word is Word.FAILED and Misbehaviour.NEVER_REPORT not in self._misbehave
            # The order of a success is not obeyed again; that of a failure is another attempt.
            self._failed = self.record.id if again else ""
            self._move(Cause.ACKNOWLEDGED, campaign_id="" if again else self.record.id)
            self._forget()

    def fetched(self, outcome: Outcome | None) -> None:
        """A file is there, or how its download ended."""
        if outcome is None:
            self._fetched = True
        elif self.record.stage in _UNDER_WAY:
            self._end(Report(Word.FAILED, reason_of(outcome)))

    def drop(self) -> None:
        """No more of this campaign, and no report."""
        engine = self._device.engine
        record = self.record
        if (
            record.kind is Kind.FIRMWARE
            and record.stage in _BEFORE_LEAVE
            and engine.state in (State.IDLE, *_HOLDS_PACKAGE)
        ):
            engine.cancel(Outcome.CANCELLED)
        self._move(Cause.DROPPED, campaign_id="")
        self._forget()

    def defy(self) -> None:
        """The server said stop, and the device goes on."""
        self._save(replace(self.record, defiant=True))

    def renumber(self) -> None:
        """The number of the pending report was used for another one: take the next."""
        pending = self.record.pending
        seq = self.record.seq + 1
        if pending is not None:
            pending = replace(pending, seq=seq)
        self._save(replace(self.record, seq=seq, pending=pending))

    def install(self) -> None:
        """Leave was given: begin."""
        if self.record.kind is Kind.FIRMWARE:
            self._device.engine.install()
            return
        order = self.order
        if order is None or not (self._fetched or self.files.holds(order)):
            raise LocalMisuse(f"{self._device.name}: no file to install")
        try:
            self.files.store(order)
        except NvmFull:
            self._end(Report(Word.FAILED, reason_of(Outcome.NO_SPACE)))
        else:
            self._end(Report(Word.SUCCESS))

    def settle(self) -> None:
        """When the engine has come to an end, that is what is told next."""
        record, engine = self.record, self._device.engine
        if (
            record.kind is Kind.FIRMWARE
            and record.stage in _UNDER_WAY
            and engine.report_pending
            and engine.outcome is not None
            and engine.outcome is not Outcome.DEFERRED
        ):
            running = self._device.running
            version = "" if running is None else str(running.version)
            self._end(report(engine.state, engine.outcome), version)

    # --- what to do

    def step(self, utc: datetime.datetime, busy: bool) -> Step:
        """The next thing to do at `utc`, the server's time; `busy`: a download runs."""
        self.settle()
        record, order = self.record, self.order
        if record.stage is Stage.NONE:
            # Acknowledged, and the power went away before the engine heard of it.
            self._device.engine.reported()
            return _REST
        over = None if order is None else _midnight_after(order.end)
        if record.stage in _BEFORE_LEAVE and over is not None and utc >= over:
            return Step(Act.GIVE_UP)
        if record.pending is not None:
            return Step(Act.TELL)
        if record.stage is Stage.INSTALLING and record.kind is Kind.FIRMWARE:
            # DOWNLOADED: the power went away between the leave and the mark for test.
            ready = self._device.engine.state is State.DOWNLOADED
            return Step(Act.INSTALL) if ready else _REST
        if order is None or over is None:
            return _REST  # the next check-in brings it
        if record.stage is Stage.INSTALLING:
            if self._complete(order):
                return Step(Act.INSTALL)
            return _REST if busy else Step(Act.FETCH)
        if record.stage is Stage.WAITING:
            return self._begin(utc, over, order.download, order.download_after, Word.DOWNLOADING)
        if busy:
            return Step(Act.REST, over)
        if not self._complete(order):
            return Step(Act.FETCH)
        if record.stage is Stage.DOWNLOADING:
            self._tell(Report(Word.DOWNLOADED))
            return Step(Act.TELL)
        return self._begin(utc, over, order.install, order.install_after, Word.INSTALLING)

    # --- internals

    def _begin(
        self,
        utc: datetime.datetime,
        over: datetime.datetime,
        hours: Hours,
        after: datetime.date | None,
        word: Word,
    ) -> Step:
        """Tell that an action begins, or wait for its window."""
        assert self.order is not None
        start = self.order.start if after is None else max(after, self.order.start)
        begin = next_begin(utc, hours, start, self.order.end)
        if begin is None or begin > utc:
            return Step(Act.REST, begin or over)
        self._tell(Report(word))
        return Step(Act.TELL)

    def _complete(self, order: Order) -> bool:
        """The package is here, whole and checked."""
        if order.kind is Kind.FIRMWARE:
            return self._device.engine.state is State.DOWNLOADED
        return self._fetched or (self.record.stage is Stage.INSTALLING and self.files.holds(order))

    def _adopt(self, order: Order) -> None:
        engine = self._device.engine
        if order.kind is Kind.FIRMWARE:
            if engine.state is State.INSTALLING or engine.state is State.TRIAL:
                return  # not ours to interrupt; the order comes again
            if engine.state in _HOLDS_PACKAGE:
                engine.cancel()
            engine.reported()
        self.order = order
        self._fetched = False
        self._move(Cause.ORDERED, campaign_id=order.id, kind=order.kind)

    def _forget(self) -> None:
        self.order = None
        self._fetched = False
        self.early = False
        self._device.engine.reported()

    def _end(self, result: Report, version: str = "") -> None:
        self.early = self.record.stage in _BEFORE_LEAVE
        if Misbehaviour.FALSE_SUCCESS in self._misbehave and result.word is Word.FAILED:
            result, version = Report(Word.SUCCESS), ""
        elif Misbehaviour.FALSE_FAILURE in self._misbehave and result.word is Word.SUCCESS:
            result = Report(Word.FAILED, reason_of(Outcome.INSTALL_FAILED))
        if result.word is Word.FAILED:
            version = ""
        self._move(Cause.ENDED, pending=self._numbered(result, version))

    def _tell(self, result: Report) -> None:
        pending = self._numbered(result, "")
        self._save(replace(self.record, seq=pending.seq, pending=pending))

    def _numbered(self, result: Report, version: str) -> StatusReport:
        time = rfc3339(self._device.runtime.clock.utc())
        return StatusReport(self.record.seq + 1, result.word, result.reason, time, version)

    def _move(
        self,
        cause: Cause,
        *,
        campaign_id: str | None = None,
        kind: Kind | None = None,
        pending: StatusReport | None = None,
    ) -> None:
        """The only way to another stage: one record, one note. The pending report is answered, or
        gives way to the one handed in."""
        record = self.record
        new = TRANSITIONS[record.stage].get(cause)
        if new is None:
            raise LocalMisuse(f"campaign: {cause.value!r} in stage {record.stage.name}")
        self._save(
            CampaignRecord(
                stage=new,
                id=record.id if campaign_id is None else campaign_id,
                kind=record.kind if kind is None else kind,
                seq=record.seq if pending is None else pending.seq,
                pending=pending,
                defiant=record.defiant and new is not Stage.NONE,
            )
        )
        self._note(record.stage, new, cause)

    def _save(self, record: CampaignRecord) -> None:
        save(self._device.nvm, record)
        self.record = record


def _midnight_after(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC) + _ONE_DAY
