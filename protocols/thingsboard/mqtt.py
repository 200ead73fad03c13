"""ThingsBoard's device API over MQTT: attributes, telemetry and packages in chunks.

Topics are those of the server's v1 device API and v2 package API. A device is its access token
(the user name), or its client certificate.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings
from agent.runtime.mqtt import MqttCause, MqttSettings
from agent.runtime.wheel import Timer
from agent.update import EngineEvent
from protocols.mqtt.address import BrokerAddress
from protocols.mqtt.client import MqttClient
from protocols.thingsboard.attributes import Kind, keys
from protocols.thingsboard.core import Fetch, Ota, RequestChunk, Telemetry, decode_object
from protocols.thingsboard.settings import MISBEHAVIOURS, OPTIONS, read_options
from protocols.thingsboard.url_download import UrlDownload
from protocols.thingsboard.verdict import verdict

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["ThingsBoardMqtt"]

ATTRIBUTES = "v1/devices/me/attributes"
ATTRIBUTES_REQUEST = "v1/devices/me/attributes/request/"
ATTRIBUTES_RESPONSE = "v1/devices/me/attributes/response/"
TELEMETRY = "v1/devices/me/telemetry"

CHUNK_SECONDS = 10.0
"""How long a chunk may take before it is asked for again."""

SESSION = 16
"""Bits of a request id that count requests; those above count boots, so that no answer to a former
life is taken for one to this."""

_NAMESPACE = "thingsboard"
_SHARED_KEYS = json.dumps({"sharedKeys": ",".join(key for kind in Kind for key in keys(kind))})
_STALE_TOKEN = "fotilla-stale-token"


class ThingsBoardMqtt(MqttClient):
    """One device over MQTT."""

    name = "thingsboard"
    OPTIONS = OPTIONS
    MISBEHAVIOURS = MISBEHAVIOURS | {Misbehaviour.HERD}

    __slots__ = ("_download", "_held", "_ids", "_ota", "_request", "_sent", "_timeout")

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        super().__init__(device, settings)
        options = read_options(settings.options)
        self._ota = Ota(device, options.title, options.persona, self.misbehave)
        self._timeout = Timer(self._chunk_due)
        self._held: RequestChunk | None = None
        self._request = ""
        self._sent = 0.0
        self._ids = 0 if options.persona.ids_from_zero else self._session() << SESSION
        self._download: UrlDownload | None = None

    # -- MqttClient -----------------------------------------------------------------------------

    def identity(self, broker: BrokerAddress) -> MqttSettings:
        credential = self.settings.credential(self.device)
        token = credential.token or credential.username
        if Misbehaviour.STALE_CREDENTIAL in self.misbehave:
            token = _STALE_TOKEN
        return MqttSettings(
            broker.host,
            broker.port,
            self.device.name,
            username=token or None,
            password=credential.password or None,
            tls=broker.tls,
            credential=credential,
        )

    def filters(self) -> tuple[str, ...]:
        packages = (
            f"v2/{kind.value}/{what}" for kind in Kind for what in ("response/+/chunk/+", "error")
        )
        return (ATTRIBUTES, f"{ATTRIBUTES_RESPONSE}+", *packages)

    def ready(self, session_present: bool) -> None:
        if Misbehaviour.STALE_CREDENTIAL in self.misbehave:
            self._judge(Misbehaviour.STALE_CREDENTIAL, False, "connected")
        self._ota.connected()
        self._drain()
        self._ask_attributes()
        if Misbehaviour.FOREIGN_REPORT in self.misbehave:
            self.publish(f"v2/fw/request/{self._next_id()}/chunk/4000000000", b"64")

    def message(self, topic: str, payload: bytes, duplicate: bool) -> None:
        if topic == ATTRIBUTES:
            # It may hold what has changed alone, so the whole is asked for.
            self._ask_attributes()
        elif topic.startswith(ATTRIBUTES_RESPONSE):
            answer = decode_object(payload)
            shared = None if answer is None else answer.get("shared", {})
            if isinstance(shared, dict):
                self._ota.attributes(shared)
        elif topic.startswith("v2/"):
            self._package(topic, payload)
        self._drain()

    def ended(self, cause: MqttCause, detail: str) -> None:
        if cause is MqttCause.REFUSED and Misbehaviour.STALE_CREDENTIAL in self.misbehave:
            self._judge(Misbehaviour.STALE_CREDENTIAL, True, "")
        self._disarm()
        self._ota.disconnected()

    def silenced(self) -> None:
        self._disarm()
        if self._download is not None:
            self._download.drop()
            self._download = None

    def engine_event(self, event: EngineEvent) -> None:
        self._ota.engine_event(event)
        self._drain()

    # -- internals ------------------------------------------------------------------------------

    def _package(self, topic: str, payload: bytes) -> None:
        parts = topic.split("/")
        if parts[2] == "error":
            self._disarm()
            self._ota.refused(payload[:128].decode(errors="replace"))
            return
        waiting = self._ota.waiting
        if (
            waiting is None
            or parts[3:] != [self._request, "chunk", str(waiting.index)]
            or parts[1] != waiting.offer.kind.value
        ):
            if parts[-1] == "4000000000":
                self._judge(Misbehaviour.FOREIGN_REPORT, not payload, f"{len(payload)} bytes")
            return
        self._disarm()
        self._request = ""  # answered
        metrics = self.device.runtime.metrics
        now = self.device.runtime.clock.now()
        metrics.block.record(now - self._sent)
        bandwidth = self.settings.bandwidth
        self._ota.chunk(waiting.index, payload)
        waiting = self._ota.waiting
        if bandwidth is not None and waiting is not None:
            early = len(payload) / bandwidth - (now - self._sent)
            if early > 0:
                # The link is still busy with the chunk that has just come.
                self._ota.outbox.remove(waiting)
                self._held = waiting
                self.device.runtime.arm(self._timeout, early)

    def _drain(self) -> None:
        outbox = self._ota.outbox
        while outbox:
            action = outbox.pop(0)
            if isinstance(action, Telemetry):
                payload = json.dumps(action.values, separators=(",", ":")).encode()
                self.publish(
                    TELEMETRY, payload, acknowledged=self._acknowledged if action.final else None
                )
            elif isinstance(action, RequestChunk):
                self._request_chunk(action)
            else:
                self._fetch(action)

    def _acknowledged(self) -> None:
        """The server has the final report."""
        engine = self.device.engine
        running = self.device.running
        if self.settings.told is not None and engine.outcome is not None:
            version = None if running is None else str(running.version)
            said, detail = verdict(engine.outcome, self.misbehave)
            self.settings.told(self.device.name, said, detail, version)
        self._ota.reported()
        self._ask_attributes()  # a package of the other kind may have waited for its turn

    def _request_chunk(self, action: RequestChunk) -> None:
        self._held = None
        self._request = str(self._next_id())
        runtime = self.device.runtime
        self._sent = runtime.clock.now()
        runtime.arm(self._timeout, CHUNK_SECONDS)
        kind = action.offer.kind.value
        topic = f"v2/{kind}/request/{self._request}/chunk/{action.index}"
        self.publish(topic, str(action.size).encode())

    def _fetch(self, action: Fetch) -> None:
        if self._download is not None:
            self._download.drop()
        self._download = UrlDownload(self.device, self.settings, action.offer, self._fetched)
        self._download.start()

    def _fetched(self) -> None:
        self._download = None
        self._ota.fetched()
        self._drain()

    def _chunk_due(self, now: float) -> None:
        self.device.run(self._timed_out)

    def _timed_out(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            if held is self._ota.waiting:  # else it was taken back, or replaced, meanwhile
                self._request_chunk(held)
        else:
            self._ota.chunk_lost()
            self._drain()

    def _ask_attributes(self) -> None:
        self.publish(f"{ATTRIBUTES_REQUEST}{self._next_id()}", _SHARED_KEYS.encode())

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _session(self) -> int:
        """How often this device has booted, as far as it knows itself."""
        nvm = self.device.nvm
        stored = nvm.get(_NAMESPACE, "boots")
        boots = (int.from_bytes(stored or b"", "big") + 1) & 0x7FFF
        nvm.set(_NAMESPACE, "boots", boots.to_bytes(2, "big"))
        return boots

    def _disarm(self) -> None:
        self._held = None
        self.device.runtime.wheel.disarm(self._timeout)

    def _judge(self, name: Misbehaviour, kept: bool, detail: str) -> None:
        ledger = self.device.runtime.misbehaviours
        ledger.judge(self.name, name, kept, self.device.name, detail)
