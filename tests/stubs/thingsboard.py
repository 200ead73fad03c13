"""A stand-in for a ThingsBoard server's device APIs, strict, and a stub all the same.

Written from the public documentation of the device APIs and the OTA guide, not from a server that
ran: it says no to whatever those do not allow. The MQTT side hangs on a `MemoryBroker` (which
carries `v1/devices/me/...` to the server alone, as ThingsBoard does), the HTTP side is an ASGI
application over the same state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from agent.runtime.mqtt import MqttSettings
from protocols.mqtt.broker import MemoryBroker
from protocols.thingsboard.checksums import new_checksum

STATES = {"DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED", "FAILED"}
"""What devices may say; QUEUED and INITIATED are the server's own."""

TELEMETRY_KEY = re.compile(r"(current_|target_)?(fw|sw)_(title|version|state|error|checksum)")
MAX_PAYLOAD = 65_536

REQUEST = re.compile(r"v1/devices/me/attributes/request/(\d+)")
CHUNK = re.compile(r"v2/(fw|sw)/request/(\d+)/chunk/(\d+)")


@dataclass
class Package:
    title: str
    version: str
    data: bytes
    algorithm: str = "SHA256"
    url: str = ""

    def attributes(self, prefix: str) -> dict[str, object]:
        shared: dict[str, object] = {
            f"{prefix}_title": self.title,
            f"{prefix}_version": self.version,
            f"{prefix}_tag": f"{self.title} {self.version}",
        }
        if self.url:
            return {**shared, f"{prefix}_url": self.url}
        checksum = new_checksum(self.algorithm)
        checksum.update(self.data)
        return {
            **shared,
            f"{prefix}_size": len(self.data),
            f"{prefix}_checksum": checksum.hexdigest(),
            f"{prefix}_checksum_algorithm": self.algorithm,
        }


@dataclass
class StubDevice:
    token: str
    shared: dict[str, object] = field(default_factory=dict)
    packages: dict[str, Package] = field(default_factory=dict)
    telemetry: list[dict[str, Any]] = field(default_factory=list)
    chunks: list[tuple[str, int]] = field(default_factory=list)
    """(request id, index); over HTTP the id is empty."""
    client: str = ""

    def states(self, prefix: str = "fw") -> list[str]:
        key = f"{prefix}_state"
        return [values[key] for values in self.telemetry if key in values]

    def last(self, key: str) -> object:
        return next((v[key] for v in reversed(self.telemetry) if key in v), None)


class ThingsBoardStub:
    """Devices by token; what they said and asked for is kept for the tests."""

    def __init__(self) -> None:
        self.devices: dict[str, StubDevice] = {}
        self.violations: list[str] = []
        self.lose_chunks: set[int] = set()
        """Indices that are swallowed once each."""
        self.corrupt: Callable[[int, bytes], bytes] = lambda index, data: data
        self.on_telemetry: Callable[[str, dict[str, Any]], None] = lambda token, values: None
        """Told of what each device tells."""
        self._broker: MemoryBroker | None = None
        self._by_client: dict[str, StubDevice] = {}

    # -- what an operator does

    def add(self, token: str) -> StubDevice:
        device = self.devices[token] = StubDevice(token)
        return device

    def assign(self, token: str, package: Package, prefix: str = "fw") -> None:
        device = self.devices[token]
        device.packages[prefix] = package
        attributes = package.attributes(prefix)
        device.shared = {
            key: value for key, value in device.shared.items() if not key.startswith(prefix)
        } | attributes
        if self._broker is not None and device.client:
            payload = json.dumps(attributes).encode()
            self._broker.deliver(device.client, "v1/devices/me/attributes", payload)

    def withdraw(self, token: str, prefix: str = "fw") -> None:
        """Assign no package any more: the server deletes its attributes, and says which."""
        device = self.devices[token]
        gone = [key for key in device.shared if key.startswith(prefix)]
        device.shared = {key: value for key, value in device.shared.items() if key not in gone}
        del device.packages[prefix]
        if self._broker is not None and device.client:
            payload = json.dumps({"deleted": gone}).encode()
            self._broker.deliver(device.client, "v1/devices/me/attributes", payload)

    # -- MQTT

    def serve(self, broker: MemoryBroker) -> None:
        self._broker = broker
        broker.refuses = self._refuses
        broker.intercept = self._intercept

    def _refuses(self, settings: MqttSettings) -> str:
        device = self.devices.get(settings.username or "")
        if device is None:
            return "not authorised"
        device.client = settings.client_id
        self._by_client[settings.client_id] = device
        return ""

    def _intercept(self, client: str, topic: str, payload: bytes) -> bool:
        device, broker = self._by_client[client], self._broker
        assert broker is not None
        if topic == "v1/devices/me/telemetry":
            self._telemetry(device, payload)
        elif found := REQUEST.fullmatch(topic):
            asked = json.loads(payload)
            if not isinstance(asked.get("sharedKeys"), str):
                self.violations.append(f"{client}: request without sharedKeys")
                return True
            answer = {"shared": self._shared(device, asked["sharedKeys"])}
            broker.deliver(
                client,
                f"v1/devices/me/attributes/response/{found[1]}",
                json.dumps(answer).encode(),
            )
        elif found := CHUNK.fullmatch(topic):
            self._chunk(client, device, found[1], found[2], int(found[3]), payload)
        else:
            self.violations.append(f"{client}: topic {topic}")
        return True

    def _chunk(
        self, client: str, device: StubDevice, kind: str, request: str, index: int, size: bytes
    ) -> None:
        assert self._broker is not None
        if not (size == b"" or size.isdigit()):
            self.violations.append(f"{client}: chunk size {size!r}")
            return
        device.chunks.append((request, index))
        package = device.packages.get(kind)
        if package is None:
            self._broker.deliver(client, f"v2/{kind}/error", b"Failed to load firmware")
            return
        length = int(size or len(package.data))
        if length > MAX_PAYLOAD:
            self._broker.cut(client)
            return
        if index in self.lose_chunks:
            self.lose_chunks.discard(index)
            return
        data = self.corrupt(index, package.data[index * length : (index + 1) * length])
        self._broker.deliver(client, f"v2/{kind}/response/{request}/chunk/{index}", data)

    # -- both

    def _telemetry(self, device: StubDevice, payload: bytes) -> bool:
        try:
            values = json.loads(payload)
        except ValueError:
            values = None
        if not isinstance(values, dict) or not values:
            self.violations.append(f"telemetry {payload[:80]!r}")
            return False
        for key, value in values.items():
            if (
                not TELEMETRY_KEY.fullmatch(key)
                or not isinstance(value, str)
                or key.endswith("_state")
                and value not in STATES
            ):
                self.violations.append(f"telemetry {key}={value!r}")
        device.telemetry.append(values)
        self.on_telemetry(device.token, values)
        return True

    def _shared(self, device: StubDevice, keys: str) -> dict[str, object]:
        wanted = set(keys.split(","))
        return {key: value for key, value in device.shared.items() if key in wanted}

    # -- HTTP

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, answer, kind = self._http(scope, body)
        headers = [(b"content-type", kind), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _http(self, scope: Any, body: bytes) -> tuple[int, bytes, bytes]:
        json_type, plain = b"application/json", b"application/octet-stream"
        parts = scope["path"].split("/")
        if len(parts) != 5 or parts[1:3] != ["api", "v1"]:
            return 404, b"", plain
        device = self.devices.get(unquote(parts[3]))
        if device is None:
            return 401, b"", plain
        query = {
            name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()
        }
        what = (scope["method"], parts[4])
        if what == ("GET", "attributes"):
            answer = {"shared": self._shared(device, query.get("sharedKeys", ""))}
            return 200, json.dumps(answer).encode(), json_type
        if what == ("POST", "telemetry"):
            return (200 if self._telemetry(device, body) else 400), b"", plain
        kinds = {"firmware": "fw", "software": "sw"}
        if scope["method"] != "GET" or parts[4] not in kinds:
            return 405, b"", plain
        package = device.packages.get(kinds[parts[4]])
        if package is None:
            return 404, b"", plain
        if (query.get("title"), query.get("version")) != (package.title, package.version):
            return 400, b"", plain
        size, index = int(query.get("size", "0")), int(query.get("chunk", "0"))
        device.chunks.append(("", index))
        if index in self.lose_chunks:
            self.lose_chunks.discard(index)
            return 503, b"", plain
        data = package.data[index * size : (index + 1) * size] if size else package.data
        return 200, self.corrupt(index, data), plain
