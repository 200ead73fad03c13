"""ThingsBoard's device API over HTTP: the same attributes, telemetry and packages, asked for.

The access token is part of every path, so no URL of this client is ever shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings
from agent.runtime.http import HttpFailed, HttpTimeouts
from agent.update import EngineEvent
from protocols.http.messages import BadAnswer, Refused, json_object
from protocols.http.poller import HttpPoller
from protocols.thingsboard.attributes import Kind, keys
from protocols.thingsboard.core import Fetch, Ota, RequestChunk, Telemetry
from protocols.thingsboard.settings import MISBEHAVIOURS, OPTIONS, read_options
from protocols.thingsboard.url_download import download_from_url
from protocols.thingsboard.verdict import verdict

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["ThingsBoardHttp"]

_SHARED_KEYS = urlencode({"sharedKeys": ",".join(key for kind in Kind for key in keys(kind))})
_PACKAGE = {Kind.FIRMWARE: "firmware", Kind.SOFTWARE: "software"}
_STALE_TOKEN = "fotilla-stale-token"

CHUNK_TIMEOUTS = HttpTimeouts(connect=10.0, answer=10.0, idle=10.0)


class ThingsBoardHttp(HttpPoller):
    """One device over HTTP."""

    name = "thingsboard"
    OPTIONS = OPTIONS
    MISBEHAVIOURS = MISBEHAVIOURS

    __slots__ = ("_base", "_draining", "_interval", "_known", "_ota")

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        super().__init__(device, settings)
        options = read_options(settings.options)
        token = settings.credential(device).token
        if Misbehaviour.STALE_CREDENTIAL in self.misbehave:
            token = _STALE_TOKEN
        if not token:
            # A certificate is a device's name over MQTT; over HTTP it can only be what a proxy in
            # front of the server wants to see.
            raise UnusableSettings(
                f"{device.name}: ThingsBoard over HTTP needs an access token", "credentials"
            )
        self._base = f"{self.origin.base}/api/v1/{quote(token, safe='')}"
        self._interval = options.interval
        self._ota = Ota(device, options.title, options.persona, self.misbehave)
        self._known = False
        self._draining = False

    # -- HttpPoller -----------------------------------------------------------------------------

    async def poll(self) -> float:
        answer = await self.ask(
            "GET", f"{self._base}/attributes?{_SHARED_KEYS}", shown="attributes"
        )
        if Misbehaviour.STALE_CREDENTIAL in self.misbehave:
            self._judge(Misbehaviour.STALE_CREDENTIAL, answer.status == 401, str(answer.status))
        if answer.status != 200:
            raise Refused(answer.status, "GET attributes")
        shared = json_object(answer).get("shared", {})
        if not isinstance(shared, dict):
            raise BadAnswer("'shared' is no object")
        self.answered()
        if not self._known:
            self._known = True
            self._ota.connected()
            await self._drain()
            await self._foreign()
        self._ota.attributes(shared)
        await self._drain()
        return self._interval

    def engine_event(self, event: EngineEvent) -> None:
        self._ota.engine_event(event)
        if self._ota.outbox and not self._draining:
            self.wake()

    # -- internals ------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Do what the core wants done, in order; whoever comes second leaves it to the first."""
        if self._draining:
            return
        self._draining = True
        outbox = self._ota.outbox
        try:
            while outbox:
                action = outbox[0]
                if isinstance(action, Telemetry):
                    await self._tell_telemetry(action)
                    outbox.remove(action)
                else:
                    outbox.remove(action)
                    self.drop()
                    self.begin(self._bring(action))
        finally:
            self._draining = False

    async def _tell_telemetry(self, action: Telemetry) -> None:
        answer = await self.ask(
            "POST", f"{self._base}/telemetry", json=action.values, shown="telemetry"
        )
        if answer.status != 200:
            raise Refused(answer.status, "POST telemetry")
        engine = self.device.engine
        if action.final and engine.outcome is not None:
            if self.settings.told is not None:
                running = self.device.running
                version = None if running is None else str(running.version)
                said, detail = verdict(engine.outcome, self.misbehave)
                self.settings.told(self.device.name, said, detail, version)
            self._ota.reported()

    async def _bring(self, action: RequestChunk | Fetch) -> None:
        if isinstance(action, Fetch):
            await download_from_url(self, action.offer)
            self._ota.fetched()
        else:
            wanted: RequestChunk | None = action
            while wanted is not None:
                wanted = await self._chunk(wanted)
        self.wake()

    async def _chunk(self, wanted: RequestChunk) -> RequestChunk | None:
        """Bring one chunk; what the core asks for next is brought by the same story."""
        device = self.device
        clock = device.runtime.clock
        offer = wanted.offer
        query = urlencode(
            {
                "title": offer.title,
                "version": offer.version,
                "size": wanted.size,
                "chunk": wanted.index,
            }
        )
        sent = clock.now()
        try:
            answer = await self.ask(
                "GET",
                f"{self._base}/{_PACKAGE[offer.kind]}?{query}",
                timeouts=CHUNK_TIMEOUTS,
                shown=f"{_PACKAGE[offer.kind]} chunk {wanted.index}",
            )
        except (HttpFailed, Refused) as error:
            if self._ota.waiting is not wanted:
                return None
            tries = self._ota.tries + 1
            self._ota.chunk_lost()
            again = self._claim()
            if again is not None:
                delay = self.BACKOFF.delay(tries, device.random)
                wait = error.retry_after if isinstance(error, Refused) else None
                if wait is not None:
                    # Never earlier than asked, and not all in the same second.
                    delay = wait + device.random.uniform(0.0, min(delay, 5.0))
                await clock.sleep(delay)
            return again
        device.runtime.metrics.block.record(clock.now() - sent)
        if self.settings.bandwidth is not None:
            await clock.sleep(
                max(0.0, len(answer.body) / self.settings.bandwidth - (clock.now() - sent))
            )
        if self._ota.waiting is not wanted:
            return None  # of a package that a poll has replaced or dropped meanwhile
        if answer.status == 200:
            self._ota.chunk(wanted.index, answer.body)
        else:
            self._ota.refused(f"{answer.status} to chunk {wanted.index}")
        return self._claim()

    def _claim(self) -> RequestChunk | None:
        """The chunk that the core has just asked for, before a poll takes it for a new package."""
        outbox = self._ota.outbox
        found = next((one for one in outbox if isinstance(one, RequestChunk)), None)
        if found is not None:
            outbox.remove(found)
        return found

    async def _foreign(self) -> None:
        """Ask for a package that nobody assigned: 400, or 404 where none is assigned at all."""
        if Misbehaviour.FOREIGN_REPORT not in self.misbehave:
            return
        query = urlencode({"title": "foreign", "version": "0", "size": 64, "chunk": 0})
        answer = await self.ask("GET", f"{self._base}/firmware?{query}", shown="foreign firmware")
        kept = answer.status in (400, 404)
        self._judge(Misbehaviour.FOREIGN_REPORT, kept, str(answer.status))

    def _judge(self, name: Misbehaviour, kept: bool, detail: str) -> None:
        ledger = self.device.runtime.misbehaviours
        ledger.judge(self.name, name, kept, self.device.name, detail)
