"""The Software Management Services client of one HTTP device, for one uptime.

It speaks version 1 of the device wire (docs/device-checkin.md) and asks at power-up, when the
server's `nextCheckIn` has passed, after a final report, and when somebody wants it to. Between two
check-ins there is a timer, set to whatever comes first: the next check-in, or the opening of the
window that the campaign waits for.

All reports are sent by the poll, one after the other; a download is the long story beside it, so
that check-ins go on meanwhile and can call it off. What is to be done is decided by `Campaign`.
"""

from __future__ import annotations

import datetime
import functools
import math
from urllib.parse import urljoin, urlsplit

from agent.device import Device
from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from agent.outcome import Outcome
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime.http import HttpFailed
from agent.update import EngineEvent
from protocols.http.checkin.campaign import Act, Campaign
from protocols.http.checkin.device_log import DeviceLog
from protocols.http.checkin.misbehaviour import (
    FOREIGN_CAMPAIGN,
    OVERSIZE,
    another_name,
    kept,
)
from protocols.http.checkin.tables import Cause, Stage, Word
from protocols.http.checkin.wire import (
    CHECK_IN_PATH,
    LOGS_PATH,
    Current,
    Installed,
    Kind,
    Order,
    Persona,
    Reason,
    StatusReport,
    check_in_body,
    error_text,
    log_body,
    parse_check_in,
    status_body,
    status_path,
)
from protocols.http.download import Download, DownloadFailed, Resource
from protocols.http.fetch import check
from protocols.http.messages import Refused
from protocols.http.poller import HttpPoller
from protocols.http.urls import BadUrl, locate

__all__ = ["CheckInClient"]

CHECK_IN_SPREAD = 0.05
"""Of the time until the next check-in, added at random (at most a minute): a fleet that was told
the same interval at one instant drifts apart."""
WINDOW_SPREAD = 60.0
"""Seconds after the opening of a window within which a device that waited for it begins: the
shortest window has sixty times as many."""
LONGEST_SPREAD = 60.0
FILE_LIMIT = 4 << 20
"""Bytes of a configuration file: what a device of this size has for its file system."""
MAX_WORD = 64
"""Characters of clientType, make and model on the wire."""

NO_SKEW = datetime.timedelta()
NOTHING_WRONG: frozenset[Misbehaviour] = frozenset()

_CLOSED = frozenset({404, 409, 410})
_ACCEPTED = frozenset({200, 204})


class CheckInClient(HttpPoller):
    """Options: `interval` (seconds between check-ins, instead of what the server says),
    `clientType`, `make`, `model`."""

    name = "http"
    OPTIONS = frozenset({"interval", "clientType", "make", "model"})
    MISBEHAVIOURS = frozenset(Misbehaviour)

    __slots__ = (
        "_campaign",
        "_check_in_at",
        "_done_wrong",
        "_interval",
        "_log",
        "_persona",
        "_quiet_until",
        "_reason",
        "_skew",
        "_work_at",
    )

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        options = settings.options
        super().__init__(device, settings)
        self._interval = _interval(options.get("interval"))
        self._persona = _persona(
            options.get("clientType"), options.get("make"), options.get("model")
        )
        self._campaign = Campaign(device, self.misbehave, self._stage_changed)
        self._log: DeviceLog | None = None
        self._reason = Reason.POWER_UP
        self._check_in_at = 0.0
        self._work_at = math.inf
        self._quiet_until = 0.0
        # The server's calendar judges windows and dates; how far ours is off is heard from it.
        self._skew = NO_SKEW
        self._done_wrong = NOTHING_WRONG

    def check_in_now(self) -> None:
        """A user asks."""
        self._reason = Reason.USER
        self._check_in_at = 0.0
        self.wake()

    # -- HttpPoller -----------------------------------------------------------------------------

    async def poll(self) -> float:
        clock = self.device.runtime.clock
        self._campaign.settle()
        if clock.now() >= self._check_in_at:
            await self._check_in()
        await self._work()
        await self._upload_log()
        return max(0.0, min(self._check_in_at, self._work_at) - clock.now())

    def engine_event(self, event: EngineEvent) -> None:
        if event.outcome not in (None, Outcome.SUCCESS, Outcome.CANCELLED):
            self.wake()  # a slot store may fail at any time
        outcome = "" if event.outcome is None else f" ({event.outcome.name.lower()})"
        detail = f": {event.detail}" if event.detail else ""
        self._note(f"update {event.old.name} -> {event.new.name}: {event.cause}{outcome}{detail}")

    # -- the check-in ---------------------------------------------------------------------------

    async def _check_in(self) -> None:
        device, campaign = self.device, self._campaign
        reason = self._reason
        self._reason = Reason.RETRY
        running = device.running
        version = "unknown" if running is None else str(running.version)
        body = check_in_body(
            device.name,
            reason,
            self._persona,
            [Installed("firmware", version)],
            campaign.files.installed(),
            self._current(),
        )
        await self._wrong_check_ins(body)
        answer = await self.ask(
            "POST", self.origin.base + CHECK_IN_PATH, headers=self._headers, json=body
        )
        if answer.status == 401:
            raise Refused(401, f"the check-in: the server refuses the credential of {device.name}")
        if answer.status != 200:
            raise Refused(answer.status, f"the check-in: {error_text(answer) or 'no reason given'}")
        order = parse_check_in(answer)
        clock = device.runtime.clock
        self._skew = order.server_time - clock.utc()
        wait = self._interval or float(order.next_check_in)
        self._check_in_at = clock.now() + wait + self._spread(wait * CHECK_IN_SPREAD)
        self._reason = Reason.SCHEDULE
        if self._quiet_until == math.inf:
            self._quiet_until = 0.0
        self._switch_log(order.logging_until, f"runs {version}, {device.boots} boots")
        self.answered()
        if campaign.obey(order):
            self.drop()

    def _current(self) -> Current | None:
        if Misbehaviour.NEVER_REPORT in self.misbehave:
            return None
        return self._campaign.current

    # -- the campaign ---------------------------------------------------------------------------

    async def _work(self) -> None:
        """Do what the campaign needs now; leaves in `_work_at` when to look again."""
        campaign, clock = self._campaign, self.device.runtime.clock
        if clock.now() < self._quiet_until:
            self._work_at = self._quiet_until
            return
        while True:
            utc = clock.utc() + self._skew
            act, until = campaign.step(utc, self.busy)
            if act is Act.TELL:
                if not await self._report():
                    return
            elif act is Act.FETCH:
                order = campaign.order
                assert order is not None  # `step` fetches nothing without one
                self.begin(self._fetch(order))
            elif act is Act.INSTALL:
                campaign.install()
            elif act is Act.GIVE_UP:
                self.drop()
                campaign.drop()
            else:
                self._work_at = math.inf
                if until is not None:
                    wait = (until - utc).total_seconds() + self._spread(WINDOW_SPREAD)
                    self._work_at = clock.now() + wait
                return

    async def _fetch(self, order: Order) -> None:
        """The download of a campaign, told beside the polls."""
        firmware = order.kind is Kind.FIRMWARE
        try:
            url = urljoin(self.origin.base + CHECK_IN_PATH, order.url)
            scheme = urlsplit(url).scheme
        except ValueError:
            refused: Outcome | None = Outcome.BAD_URI
        else:
            refused = None if scheme in ("http", "https") else Outcome.UNSUPPORTED_PROTOCOL
            if not firmware and order.size > FILE_LIMIT:
                refused = Outcome.NO_SPACE
        if refused is None:
            hashes = {"sha256": order.sha256}
            resource = Resource(url, order.size, hashes, self._headers_for(url))
            if firmware:
                await Download(self, resource).run()
            else:
                self._campaign.fetched(await self._fetch_file(resource))
        elif firmware:
            self.device.engine.fail(refused)
        else:
            self._campaign.fetched(refused)
        self.wake()

    async def _fetch_file(self, resource: Resource) -> Outcome | None:
        try:
            await check(self, resource)
        except DownloadFailed as failed:
            return failed.outcome
        return None

    @property
    def _headers(self) -> tuple[tuple[str, str], ...]:
        """Made anew for each request: an idle device keeps no second copy of its token."""
        token = self.settings.credential(self.device).token
        return (("Authorization", f"Bearer {token}"),) if token else ()

    def _headers_for(self, url: str) -> tuple[tuple[str, str], ...]:
        """The token goes to the server that it belongs to, and to no other."""
        try:
            same = locate(url)[0] == locate(self.origin.base)[0]
        except BadUrl:
            same = False  # and the download will say so
        return self._headers if same else ()

    # -- reports --------------------------------------------------------------------------------

    async def _report(self) -> bool:
        """Send the pending report. False: nothing more to do for now."""
        campaign = self._campaign
        record = campaign.record
        assert record.pending is not None  # `step` tells nothing else
        if Misbehaviour.NEVER_REPORT in self.misbehave:
            campaign.accepted(record.seq)
            return True
        try:
            await self._wrong_reports()
            pending = campaign.record.pending
            assert pending is not None  # misbehaviour changes its number at most
            status = await self._post(record.id, pending)
            if Misbehaviour.DUPLICATE_REPORT in self.misbehave and status in _ACCEPTED:
                again = await self._post(record.id, pending)
                self._judge(Misbehaviour.DUPLICATE_REPORT, again, "the same report again")
        except Refused as refused:
            if refused.retry_after is None:
                raise
            return self._put_off(refused)
        return await self._answered_report(record.id, pending, status)

    async def _answered_report(self, campaign_id: str, pending: StatusReport, status: int) -> bool:
        campaign = self._campaign
        final = pending.word is Word.SUCCESS or pending.word is Word.FAILED
        if campaign.record.defiant:
            self._judge(Misbehaviour.IGNORE_CANCEL, status, f"{pending.word} after the cancel")
        if status in _ACCEPTED:
            campaign.accepted(pending.seq)
            if final:
                self._acknowledged(pending)
                if pending.word is Word.SUCCESS:
                    await self._late_report(campaign_id, pending)
            return True
        if status == 409 and Misbehaviour.IGNORE_CANCEL in self.misbehave:
            if not campaign.record.defiant:
                campaign.defy()
                campaign.renumber()
                return True  # and say it again
            if not final:
                campaign.accepted(pending.seq)
                return True
        if status in _CLOSED:
            campaign.drop()
            return True
        # Said wrongly, or with a credential that is refused: the same again would help nobody.
        self._quiet_until = self._work_at = math.inf
        return False

    def _acknowledged(self, pending: StatusReport) -> None:
        """The server knows the result; it should see soon what this device runs."""
        self._check_in_at = 0.0
        told = self.settings.told
        if told is not None:
            verdict = "updated" if pending.word is Word.SUCCESS else "failed"
            detail = f"{pending.word}: {pending.reason}" if pending.reason else str(pending.word)
            told(self.device.name, verdict, detail, pending.version or None)

    def _put_off(self, refused: Refused) -> bool:
        """Not now, says the server: an overload, or a window that it holds to be closed."""
        campaign = self._campaign
        pending = campaign.record.pending
        assert pending is not None and refused.retry_after is not None
        if refused.status == 429 and pending.word in (Word.DOWNLOADING, Word.DOWNLOADED):
            campaign.accepted(pending.seq)  # steps may be left out; results are told
            return True
        wait = refused.retry_after + self._spread(5.0)
        self._quiet_until = self._work_at = self.device.runtime.clock.now() + wait
        return False

    async def _post(
        self, campaign_id: str, report: StatusReport, padding: dict[str, object] | None = None
    ) -> int:
        url = self.origin.base + status_path(campaign_id)
        body = status_body(report) | (padding or {})
        answer = await self.ask("POST", url, headers=self._headers, json=body)
        trace = self.settings.trace
        if trace is not None and answer.status >= 400:
            trace(f"! {answer.status} to {report.word}: {error_text(answer) or 'no reason given'}")
        return answer.status

    # -- what is done wrong on purpose ----------------------------------------------------------

    def _judge(self, name: Misbehaviour, status: int, what: str) -> None:
        self.device.runtime.misbehaviours.judge(
            self.name, name, kept(name, status), self.device.name, f"{status} to {what}"
        )

    def _once(self, name: Misbehaviour) -> bool:
        """Do it now: this device does so, and has not in this uptime."""
        return name in self.misbehave and name not in self._done_wrong

    async def _wrong_check_ins(self, body: dict[str, object]) -> None:
        """Check-ins under a credential or a name that is not this device's."""
        url = self.origin.base + CHECK_IN_PATH
        if self._once(Misbehaviour.STALE_CREDENTIAL):
            stale = (("Authorization", "Bearer expired"),)
            answer = await self.ask("POST", url, headers=stale, json=body)
            self._judge(Misbehaviour.STALE_CREDENTIAL, answer.status, "a stale credential")
            self._done_wrong |= {Misbehaviour.STALE_CREDENTIAL}
        if self._once(Misbehaviour.CLONED_IDENTITY):
            clone = body | {"deviceId": another_name(self.device.name)}
            answer = await self.ask("POST", url, headers=self._headers, json=clone)
            self._judge(Misbehaviour.CLONED_IDENTITY, answer.status, "another device's name")
            self._done_wrong |= {Misbehaviour.CLONED_IDENTITY}

    async def _wrong_reports(self) -> None:
        """Reports that come before the right one."""
        campaign = self._campaign
        record = campaign.record
        pending = record.pending
        assert pending is not None
        if self._once(Misbehaviour.FOREIGN_REPORT):
            status = await self._post(FOREIGN_CAMPAIGN, pending)
            self._judge(Misbehaviour.FOREIGN_REPORT, status, "a report on nobody's campaign")
            self._done_wrong |= {Misbehaviour.FOREIGN_REPORT}
        if self._once(Misbehaviour.OVERSIZED_REPORT):
            status = await self._post(record.id, pending, {"padding": "x" * OVERSIZE})
            self._judge(Misbehaviour.OVERSIZED_REPORT, status, f"{OVERSIZE} bytes too many")
            self._done_wrong |= {Misbehaviour.OVERSIZED_REPORT}
        if self._once(Misbehaviour.OUT_OF_ORDER) and pending.word is Word.DOWNLOADING:
            later = StatusReport(pending.seq, Word.DOWNLOADED, "", pending.time, "")
            campaign.renumber()
            first = await self._post(record.id, later)
            assert campaign.record.pending is not None
            second = await self._post(record.id, campaign.record.pending)
            campaign.renumber()
            for status, what in ((first, "downloaded, too early"), (second, "downloading, late")):
                self._judge(Misbehaviour.OUT_OF_ORDER, status, what)
            self._done_wrong |= {Misbehaviour.OUT_OF_ORDER}
        if pending.word is Word.SUCCESS and campaign.early:
            # A success is believed only of a device that asked for leave.
            asked = StatusReport(pending.seq, Word.INSTALLING, "", pending.time, "")
            campaign.renumber()
            campaign.early = False
            await self._post(record.id, asked)

    async def _late_report(self, campaign_id: str, pending: StatusReport) -> None:
        if Misbehaviour.LATE_REPORT not in self.misbehave:
            return
        self._campaign.renumber()
        late = StatusReport(
            self._campaign.record.seq, pending.word, pending.reason, pending.time, pending.version
        )
        status = await self._post(campaign_id, late)
        self._judge(Misbehaviour.LATE_REPORT, status, "a result that is known already")

    # -- the log --------------------------------------------------------------------------------

    def _stage_changed(self, old: Stage, new: Stage, cause: Cause) -> None:
        self.device.record("campaign", old.name, new.name, cause.value)
        self._note(f"campaign {old.name} -> {new.name}: {cause.value}")

    def _note(self, text: str) -> None:
        if self._log is not None:
            self._log.add(self.device.runtime.clock.utc(), text)

    def _switch_log(self, until: datetime.datetime | None, first: str) -> None:
        if until is None:
            self._log = None
        elif self._log is None:
            self._log = DeviceLog(until)
            self._note(first)
        else:
            self._log.until = until

    async def _upload_log(self) -> None:
        """What was logged since the last time. A log that cannot be stored is no reason to count
        the server as gone."""
        log = self._log
        if log is None or not log:
            return
        clock = self.device.runtime.clock
        if clock.utc() + self._skew >= log.until:
            self._log = None
            return
        lines = log.take()
        text = "".join(f"{time} {line}\n" for time, line in lines)
        body = log_body(self.device.name, lines[-1][0], text)
        try:
            answer = await self.ask(
                "POST", self.origin.base + LOGS_PATH, headers=self._headers, json=body
            )
        except (HttpFailed, Refused):
            log.put_back(lines)
            return
        if answer.status == 409:
            self._log = None

    # -- internals ------------------------------------------------------------------------------

    def _spread(self, longest: float) -> float:
        if Misbehaviour.HERD in self.misbehave:
            return 0.0
        return self.device.random.uniform(0.0, min(longest, LONGEST_SPREAD))


def _interval(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UnusableSettings(f"http: interval is a number of seconds above 0, not {text!r}")
    return seconds


@functools.cache
def _persona(client_type: str | None, make: str | None, model: str | None) -> Persona:
    """One for all devices of a group."""
    usual = Persona()
    return Persona(
        _word("clientType", usual.client_type if client_type is None else client_type),
        _word("make", usual.make if make is None else make),
        _word("model", usual.model if model is None else model),
    )


def _word(name: str, text: str) -> str:
    if not 1 <= len(text) <= MAX_WORD or not text.isprintable():
        raise UnusableSettings(f"http: {name} has 1 to {MAX_WORD} printable characters")
    return text


protocol_clients.register("http")(CheckInClient)
