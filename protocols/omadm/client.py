"""The OMA-DM client of one device, for one uptime.

Between two sessions there is a timer and nothing else. When it fires, or a notification arrives, or
the work of an order is done, `_look` decides what is next, in this order:

1. the order: fetch its package beside everything else, or install when its time has come;
2. a session, if there is a reason for one: a notification, the result of an order, the power-up
   session (always, when an image is on trial: only a server's answer confirms it), or a check;
3. else the timer is set to whatever comes first.

A session is told as a task, a package's download as another. Sessions that fail are tried again as
the persona's schedule says; a reason stays until a session ended well, or the tries are used up.
What must survive a reboot is in `nvm`: the order, the notification, nonces, the tree, the engine.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Callable
from typing import NamedTuple

from agent.bootloader import BootReport
from agent.device import Device
from agent.errors import UnusableSettings
from agent.flash import PowerLoss
from agent.misbehaviour import Misbehaviour, check_known
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime.network import Address, DatagramSocket, source_address
from agent.runtime.wheel import Timer
from agent.update import EngineEvent, State
from protocols.http.carrier import Carrier
from protocols.http.urls import Origin, parse_server
from protocols.omadm import bootstrap, package0, wsp
from protocols.omadm.attach import Attachment, attach, detach
from protocols.omadm.errands import fetch_component, fetch_package, notify_server
from protocols.omadm.fumo import FumoClient, Step
from protocols.omadm.fumo_tables import Operation
from protocols.omadm.interaction import CONFIRM, UserAnswer
from protocols.omadm.misbehaviour import MISBEHAVIOURS, Wrongdoer
from protocols.omadm.model import Alert, Item, Meta
from protocols.omadm.nonces import NonceBook, Side
from protocols.omadm.notified import Notified, NotifiedBook
from protocols.omadm.options import OPTIONS, Options, read_options
from protocols.omadm.personas.profile import Profile
from protocols.omadm.schedule import Checks
from protocols.omadm.scomo import ScomoClient
from protocols.omadm.scomo import Step as Component
from protocols.omadm.session_tables import Phase
from protocols.omadm.talk import Plan, Talker

__all__ = ["OmadmClient", "Reason"]

REACHED = "management server"
"""Machine of the journal: whether the last session ended well."""

OFFLINE_AFTER = 2
"""Sessions that fail in a row before a device counts as unknown to its server."""

_BEHAVES: frozenset[Misbehaviour] = frozenset()
"""Shared: an empty set of its own is 216 bytes of each idle device."""


class Reason(enum.Enum):
    """Why a session begins, or what must come before any. The value is for traces."""

    ATTACH = "attach"
    NOTIFIED = "notification"
    REPORT = "report"
    POWER_UP = "power-up"
    CHECK = "check"


_STUBBORN = frozenset({Reason.REPORT, Reason.POWER_UP})
"""Reasons that a session may leave as they were: no acknowledged report, no confirmed image."""


class _Had(NamedTuple):
    """How a session, or an attachment, went."""

    well: bool
    why: str = ""
    """It did not."""
    wait: float | None = None
    """Seconds that a Retry-After asked for."""


class OmadmClient:
    """Options: see docs/omadm.md. Raises UnusableSettings."""

    name = "omadm"
    OPTIONS = OPTIONS
    MISBEHAVIOURS = MISBEHAVIOURS

    __slots__ = (
        "_attachment",
        "_booted_up",
        "_carrier",
        "_checks",
        "_failures",
        "_fumo",
        "_last_notified",
        "_not_before",
        "_notified",
        "_options",
        "_origin",
        "_scomo",
        "_session_id",
        "_socket",
        "_talker",
        "_task",
        "_timer",
        "_wrongdoer",
        "device",
        "misbehave",
        "registered",
        "settings",
    )

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        self._options: Options = read_options(settings.options)
        self._origin: Origin = parse_server(settings.server)
        self.misbehave = settings.misbehave(device) or _BEHAVES
        check_known(self.name, self.misbehave, self.MISBEHAVIOURS | {Misbehaviour.HERD})
        self.device = device
        self.settings = settings
        self.registered = False
        """The last session ended well."""
        profile = self._options.profile
        self._fumo = FumoClient(device, profile.fumo, self.misbehave)
        self._notified = NotifiedBook(device.nvm)
        self._checks = Checks(device, profile.schedule, self._options.interval)
        self._scomo = ScomoClient(device, self.misbehave)
        self._talker = Talker(
            device, settings, self._options, self._fumo, self._scomo, self._source()
        )
        self._wrongdoer = Wrongdoer(self._talker, self.misbehave)
        self._attachment = None if self._options.operator else Attachment.REFUSED
        """To the operator network; None before its first word. One that is not there refuses."""
        self._booted_up = False
        self._failures = 0
        self._not_before = 0.0
        self._last_notified = 0
        self._session_id = 0
        self._timer = Timer(self._due)
        self._task: asyncio.Task[None] | None = None
        self._carrier: Carrier | None = None
        self._socket: DatagramSocket | None = None
        if self._options.push is not None:
            source = self._source() or source_address(None, self._origin.host, device.index)[0]
            if self._options.operator and source in ("0.0.0.0", "::"):
                raise UnusableSettings(
                    "omadm: an operator network must know where to push: give an address to bind to"
                )
            self._socket = device.runtime.network.open((source, self._options.push), self._datagram)

    # -- ProtocolClient -------------------------------------------------------------------------

    def booted(self, report: BootReport) -> None:
        """The engine has judged the boot."""

    def start(self) -> None:
        schedule = self.profile.schedule
        self._booted_up = schedule.power_up
        low, high = schedule.power_up_spread
        herd = Misbehaviour.HERD in self.misbehave
        delay = low if herd else self.device.random.uniform(low, high)
        self._not_before = self._now() + delay
        self._look()

    def stop(self) -> None:
        """Device management knows no goodbye, but the operator network does."""
        attached = self._attachment is Attachment.TAKEN
        self._fall_silent()
        if attached:
            self._task = asyncio.get_running_loop().create_task(self._detach())

    def power_lost(self) -> None:
        self._fall_silent()

    def engine_event(self, event: EngineEvent) -> None:
        if event.outcome is not None and self._task is None and self._carrier is None:
            self._arm(0.0)  # a slot store may fail at any time

    # -- what a harness does --------------------------------------------------------------------

    @property
    def profile(self) -> Profile:
        return self._options.profile

    @property
    def push_address(self) -> Address | None:
        """Where WAP push reaches the device."""
        return None if self._socket is None else self._socket.local

    def notify(self, package: bytes) -> bool:
        """A package 0 has arrived, by whatever bearer. False: it is none that this device acts
        upon, and its sender hears nothing either way. May raise PowerLoss, as it is stored: a
        harness calls it through `Device.run`."""
        try:
            notification = package0.decode(package)
        except package0.NotificationError as error:
            return self._ignored(str(error))
        account = self._talker.account(notification.server_id)
        if account is None:
            return self._ignored("of a server without an account")
        nonce = NonceBook(self.device.nvm, lambda side, server: account.server_nonce).get(
            Side.SERVER, account.server_id
        )
        verified = package0.verify(
            package, account.server_user or account.server_id, account.server_password, nonce
        )
        if not verified:
            return self._ignored("forged")
        running = self._session_id if self._task is not None else 0
        known = self._notified.notified
        if notification.session_id in (running, self._last_notified) or (
            known is not None and known.session_id == notification.session_id
        ):
            return self._ignored("of a session that is known")
        until = self._utc() + self.profile.notifications.lifetime
        again = verified is package0.Verified.RESYNCHRONISE
        self._notified.keep(Notified.of(notification, again, until))
        self._failures = 0
        self._not_before = 0.0
        self._look()
        return True

    def bootstrapped(self, push: wsp.Push) -> bool:
        """A message that brings a DM account has come. It is never answered; False: it is none
        that this device acts upon."""
        if self._task is not None:
            # The session works on a tree of its own, and would write over what is made here.
            return self._ignored("a bootstrap message during a session")
        try:
            accounts = bootstrap.receive(
                push.body, push, self._options.bootstrap, self._talker.tree(None)
            )
        except bootstrap.BootstrapError as error:
            return self._ignored(str(error))
        for account in accounts:
            self.device.record("account", "NONE", "KNOWN", f"bootstrap of {account.server_id}")
        return True

    def check_now(self) -> None:
        """A user asks for a session."""
        self._checks.ask()
        self._failures = 0
        self._not_before = 0.0
        self._look()

    # -- what is next ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Do what is next, and arm the timer for what comes later."""
        step = self._fumo.step()
        if step is Step.FETCH and self._carrier is None:
            self._carrier = fetch_package(self._talker, self._fetched)
            step = self._fumo.step()
        if step is Step.REPORT and self._carrier is None and self._fumo.book.notify:
            self._carrier = notify_server(self._talker, self._fetched)
        if self._scomo.step() is Component.FETCH and self._carrier is None:
            self._carrier = fetch_component(self._talker, self._fetched)
        if self._task is not None:
            return  # its end looks again
        now = self._now()
        if self._scomo.step() is Component.APPLY:
            self._scomo.apply(self._talker.tree(None))
        if step is Step.INSTALL:
            self._fumo.install()
            step = self._fumo.step()  # unless the store failed, a reboot comes
        reason = self._reason(step)
        if reason is not None and now >= self._not_before:
            self._begin_session(reason)
            return
        times = [self._checks.due_in()]
        if reason is not None:
            times.append(self._not_before - now)
        if step is Step.WAIT:
            times.append(self._fumo.wait())
        delay = min(times)
        if delay < math.inf:
            self._arm(delay)

    def _reason(self, step: Step) -> Reason | None:
        if self._attachment in (None, Attachment.MISSED):
            return Reason.ATTACH
        notified = self._notified.notified
        if notified is not None:
            if notified.until <= self._utc():
                self._notified.drop()
            elif not (
                self.profile.notifications.deferred_while_updating
                and self._fumo.book.order is not None
                and step is not Step.REPORT
            ):
                return Reason.NOTIFIED
        if step is Step.REPORT and not self._fumo.book.notify:
            if Misbehaviour.NEVER_REPORT not in self.misbehave:
                return Reason.REPORT
            self._fumo.reported()
        if self._scomo.step() is Component.REPORT:
            if Misbehaviour.NEVER_REPORT not in self.misbehave:
                return Reason.REPORT
            self._scomo.reported()
        if self._booted_up or self.device.engine.state is State.TRIAL:
            return Reason.POWER_UP
        return Reason.CHECK if self._checks.due_in() <= 0 else None

    # -- errands --------------------------------------------------------------------------------

    def _fetched(self) -> None:
        self._carrier = None
        self._look()

    # -- the operator network -------------------------------------------------------------------

    async def _attach(self) -> _Had:
        options, push = self._options, self.push_address
        assert push is not None  # `read_options` sees to it
        self._attachment = await attach(
            self._talker.http,
            options.operator,
            options.operator_token,
            self._network_id(),
            options.cell,
            push,
            self.settings.trace,
        )
        if self._attachment is Attachment.REFUSED:
            # Asking again with the same token is no use, and servers can be reached without: only
            # that no message wakes the device, until it boots with a token that is taken.
            old = "ONLINE" if self.registered else "OFFLINE"
            self.device.record(REACHED, old, old, "the operator network refuses operator-token")
        taken = self._attachment is not Attachment.MISSED
        return _Had(taken, "the operator network does not attach it")

    async def _detach(self) -> None:
        options = self._options
        await detach(
            self._talker.http, options.operator, options.operator_token, self._network_id()
        )

    def _network_id(self) -> str:
        """What the operator network knows the device by: the digits of an IMEI, or its name."""
        return self._talker.device_id().removeprefix("IMEI:")

    # -- sessions -------------------------------------------------------------------------------

    def _begin_session(self, reason: Reason) -> None:
        self._task = asyncio.get_running_loop().create_task(self._tell(reason))

    async def _tell(self, reason: Reason) -> None:
        task = self._task
        try:
            if reason is Reason.ATTACH:
                had = await self._attach()
            else:
                had = await self._session(reason)
        except PowerLoss:
            return
        if self._task is not task:
            return  # the device fell silent meanwhile
        self._task = None
        self.device.run(self._ended, reason, had)

    def _ended(self, reason: Reason, had: _Had) -> None:
        if had.well:
            self._failures = 0
            self._not_before = 0.0
            if reason is not Reason.ATTACH:
                self._booted_up = False
            if reason is Reason.CHECK:
                self._checks.done()
            if reason in _STUBBORN and self._reason(self._fumo.step()) is reason:
                # The session ended in order and nothing came of it: not at once again.
                self._failed(reason, had.wait)
        else:
            if self._failures + 1 == min(
                OFFLINE_AFTER, self.profile.schedule.tries or OFFLINE_AFTER
            ):
                # Also of one that never was known: whoever watches it asks why.
                old, self.registered = "ONLINE" if self.registered else "OFFLINE", False
                self.device.record(REACHED, old, "OFFLINE", had.why)
            self._failed(reason, had.wait)
        self._look()

    def _failed(self, reason: Reason, wait: float | None) -> None:
        self._failures += 1
        schedule = self.profile.schedule
        delay = schedule.retry.delay(self._failures, self.device.random)
        if wait is not None:
            delay = wait + self.device.random.uniform(0.0, min(delay, 5.0))
        if schedule.tries is not None and self._failures >= schedule.tries:
            # Given up: what made the session is forgotten, except for a result, which the next
            # session takes along.
            self._failures = 0
            self._booted_up = False
            self._notified.drop()
            delay = self._checks.missed() if reason is Reason.CHECK else self._checks.due_in()
            if delay == math.inf:
                delay = schedule.check_retry_after
        self._not_before = self._now() + delay

    async def _session(self, reason: Reason) -> _Had:
        """A whole session."""
        notified = self._notified.notified if reason is Reason.NOTIFIED else None
        if notified is not None:
            self._last_notified = notified.session_id
            if not self._user_agrees(notified):
                self._notified.drop()
                return _Had(True)
        self._session_id = (
            notified.session_id if notified is not None else 1 + self.device.random.below(0xFFFF)
        )
        report, component = self._fumo.alert(), self._scomo.alert()
        await self._wrongdoer.before(report)
        heard: list[Callable[[int], None]] = []
        if component is not None:
            heard.append(lambda status: self._scomo.reported())
        if report is not None:
            heard.append(lambda status: self._acknowledged(status))
        plan = Plan(
            package0.session_text(self._session_id),
            server_id=None if notified is None else notified.server_id,
            by_server=notified is not None and notified.by_server,
            resynchronise=notified is not None and notified.resynchronise,
            alerts=self._alerts(reason, component, report, notified),
            heard=tuple(heard),
        )
        ended = await self._talker.talk(plan)
        if ended.phase is Phase.DONE and not self.registered:
            self.registered = True
            # Whoever counts devices that were heard of looks when something is recorded.
            self.device.record(REACHED, "OFFLINE", "ONLINE", "a session ended well")
        # A server that aborts has its reasons: coming back at once would not change them.
        well = ended.phase in (Phase.DONE, Phase.ABORTED)
        if well:
            self._notified_done(notified)
        await self._wrongdoer.after(report, ended, len(heard))
        return _Had(well, ended.detail or ended.phase.value.lower(), ended.retry_after)

    def _acknowledged(self, status: int) -> None:
        """The server has heard how the order ended."""
        order = self._fumo.book.order
        if order is None:
            return
        code = self._fumo.result()
        told = self.settings.told
        version = None if self.device.running is None else str(self.device.running.version)
        updates = order.operation is not Operation.DOWNLOAD
        self._fumo.reported()
        if told is not None and (updates or code != 200):
            verdict = "updated" if code == 200 else "failed"
            told(self.device.name, verdict, f"result {code}, answered {status}", version)

    def _alerts(
        self,
        reason: Reason,
        component: Alert | None,
        report: Alert | None,
        notified: Notified | None,
    ) -> tuple[Alert, ...]:
        alerts = [] if component is None else [component]
        alerts += [] if report is None else self._wrongdoer.multiplied(report)
        asked = notified is not None and not notified.by_server
        request = self.profile.check_alert
        if (reason is Reason.CHECK or asked) and request is not None:
            kind, format, data = request
            item = Item(meta=Meta(format=format, type=kind), data=data)
            alerts.append(Alert("", 1226, (item,)))
        return tuple(alerts)

    # -- notifications --------------------------------------------------------------------------

    def _datagram(self, data: bytes, source: Address) -> None:
        """A WAP push; whatever is wrong with it meets silence."""
        try:
            push = wsp.decode(data)
        except wsp.WspError as error:
            self._ignored(str(error))
            return
        if push.application not in (None, wsp.DM_APPLICATION):
            self._ignored(f"of the application {push.application[:60]}")
        elif push.content_type == package0.CONTENT_TYPE:
            self.device.run(self.notify, push.body)
        elif push.content_type == bootstrap.CONTENT_TYPE:
            self.device.run(self.bootstrapped, push)
        else:
            self._ignored(f"content type {push.content_type[:60]}")

    def _ignored(self, why: str) -> bool:
        if self.settings.trace is not None:
            self.settings.trace(f"! notification ignored: {why}")
        return False

    def _user_agrees(self, notified: Notified) -> bool:
        profile = self.profile
        if int(notified.ui_mode) not in profile.notifications.asks_user:
            return True
        return profile.user.answer_to(CONFIRM) is UserAnswer.ACCEPT

    def _notified_done(self, notified: Notified | None) -> None:
        """Its session was had; a newer notification stays."""
        known = self._notified.notified
        if notified is not None and known is not None and known.session_id == notified.session_id:
            self._notified.drop()

    # -- internals ------------------------------------------------------------------------------

    def _source(self) -> str | None:
        if self.settings.bind is not None:
            return self.settings.bind
        if self._origin.host.startswith("127."):
            return source_address(None, self._origin.host, self.device.index)[0]
        return None

    def _now(self) -> float:
        return self.device.runtime.clock.now()

    def _utc(self) -> float:
        return self.device.runtime.clock.utc().timestamp()

    def _arm(self, delay: float) -> None:
        self.device.runtime.arm(self._timer, max(0.0, delay))

    def _due(self, now: float) -> None:
        self.device.run(self._look)

    def _fall_silent(self) -> None:
        self.device.runtime.wheel.disarm(self._timer)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.drop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.registered = False
        self._talker.http.abort()


protocol_clients.register("omadm")(OmadmClient)
