"""A stand-in for Mender's device APIs, strict, and a stub all the same.

Written from the published interface descriptions; `mender-client` of Debian, which nobody here
wrote, is what shows whether it is true (tests/interop/test_mender_client.py). Every body is checked
against what those descriptions allow; whatever is beside them is noted in `violations`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

AUTH = "/api/devices/v1/authentication/auth_requests"
INVENTORY = "/api/devices/v1/inventory/device/attributes"
BASE = "/api/devices/v1/deployments/device/deployments"
NEXT_V2 = "/api/devices/v2/deployments/device/deployments/next"
REPORT = re.compile(re.escape(BASE) + r"/([^/]+)/(status|log)")

STATUSES = {
    "downloading",
    "pause_before_installing",
    "installing",
    "pause_before_rebooting",
    "rebooting",
    "pause_before_committing",
    "success",
    "failure",
    "already-installed",
}
FINAL = {"success", "failure", "already-installed"}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

Answer = tuple[int, bytes]


@dataclass
class StubDevice:
    """An identity, the key it is accepted with, and what it has said."""

    identity: str
    """The identity data as the device sent it."""
    pubkey: str
    accepted: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    statuses: list[tuple[str, str]] = field(default_factory=list)
    """(deployment, status)"""
    logs: list[dict[str, Any]] = field(default_factory=list)
    provides: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Deployment:
    id: str
    artifact_name: str
    uri: str
    device_types: list[str]
    aborted: bool = False
    aborted_at: str = ""
    """The status at which an operator's abort comes in between; empty for none."""
    final: str = ""


class MenderStub:
    """Devices by their identity data; `accept_all` accepts whoever comes first with an identity."""

    def __init__(self, *, accept_all: bool = True, v2: bool = True, token_uses: int = 0) -> None:
        self.accept_all = accept_all
        self.v2 = v2
        self.token_uses = token_uses
        """Requests after which a token has run out; 0: never."""
        self.devices: dict[str, StubDevice] = {}
        self.deployments: dict[str, list[Deployment]] = {}
        """By identity data, the oldest first."""
        self.files: dict[str, bytes] = {}
        """By path below this server."""
        self.downloads: list[str] = []
        """The Range of each download, empty for none."""
        self.violations: list[str] = []
        self.auth_requests = 0
        self.on_status: Callable[[Deployment, str], None] = lambda deployment, status: None
        """Told of each status; `pending` once a device was offered the deployment."""
        self._tokens: dict[str, tuple[StubDevice, int]] = {}

    # -- what an operator does

    def deploy(
        self, identity: str, artifact_name: str, artifact: bytes, device_types: list[str], base: str
    ) -> Deployment:
        """Offer an artifact to one device; `base` is where it reaches this server."""
        number = sum(len(items) for items in self.deployments.values()) + 1
        path = f"/files/{number}.mender"
        self.files[path] = artifact
        deployment = Deployment(
            f"00000000-0000-4000-8000-{number:012d}",
            artifact_name,
            f"{base}{path}?X-Amz-Signature=s3cret",
            device_types,
        )
        self.deployments.setdefault(identity, []).append(deployment)
        return deployment

    def statuses(self, identity: str) -> list[str]:
        return [status for _, status in self.devices[identity].statuses]

    # -- ASGI

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
        fields = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        status, answer, extra = self._answer(scope, fields, body)
        headers = [(b"content-length", str(len(answer)).encode()), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _answer(
        self, scope: Any, fields: dict[str, str], body: bytes
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        method, path = scope["method"], scope["path"]
        if path in self.files:
            return self._file(method, path, fields)
        json_type = [(b"content-type", b"application/json")]
        if (method, path) == ("POST", AUTH):
            return *self._authenticate(fields, body), []
        device = self._owner(fields.get("authorization", ""))
        if device is None:
            return 401, b'{"error":"unauthorized"}', json_type
        query = {
            name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()
        }
        if path == INVENTORY and method in ("PUT", "PATCH"):
            return *self._inventory(device, method, body), json_type
        if (method, path) == ("GET", f"{BASE}/next"):
            return *self._next(device, query), json_type
        if (method, path) == ("POST", f"{BASE}/next"):
            return *self._next(device, self._json(body, "next")), json_type
        if (method, path) == ("POST", NEXT_V2) and self.v2:
            asked = self._json(body, "next")
            provides = asked.get("device_provides")
            if not isinstance(provides, dict):
                self.violations.append("next v2 without device_provides")
                return 400, b"{}", json_type
            return *self._next(device, provides), json_type
        found = REPORT.fullmatch(path)
        if found and method == "PUT":
            return *self._report(device, found[1], found[2], body), json_type
        if path != NEXT_V2:
            self.violations.append(f"{method} {path}")
        return 404, b'{"error":"not found"}', json_type

    # -- authentication

    def _authenticate(self, fields: dict[str, str], body: bytes) -> Answer:
        self.auth_requests += 1
        asked = self._json(body, "auth request")
        pubkey, identity = asked.get("pubkey"), asked.get("id_data")
        signature = fields.get("x-men-signature", "")
        if not isinstance(pubkey, str) or not isinstance(identity, str) or not signature:
            self.violations.append("auth request without pubkey, id_data or signature")
            return 400, b"{}"
        try:
            if not isinstance(json.loads(identity), dict):
                raise ValueError
            verify(pubkey, base64.b64decode(signature, validate=True), body)
        except (ValueError, InvalidSignature):
            self.violations.append("auth request whose identity or signature is wrong")
            return 401, b'{"error":"signature verification failed"}'
        device = self.devices.get(identity)
        if device is None:
            device = StubDevice(identity, pubkey, self.accept_all)
            self.devices[identity] = device
        if device.pubkey.strip() != pubkey.strip() or not device.accepted:
            return 401, b'{"error":"dev auth: unauthorized"}'
        token = f"eyJhbGciOiJub25lIn0.{self.auth_requests}.c3R1Yg"
        self._tokens[token] = (device, self.token_uses)
        return 200, token.encode()

    def _owner(self, authorization: str) -> StubDevice | None:
        kind, _, token = authorization.partition(" ")
        known = self._tokens.get(token) if kind == "Bearer" else None
        if known is None:
            return None
        device, left = known
        if left == 1:
            del self._tokens[token]
        elif left:
            self._tokens[token] = (device, left - 1)
        return device if device.accepted else None

    # -- deployments

    def _inventory(self, device: StubDevice, method: str, body: bytes) -> Answer:
        try:
            items = json.loads(body)
            attributes = {item["name"]: item["value"] for item in items}
        except (ValueError, TypeError, KeyError):
            self.violations.append(f"inventory {body[:80]!r}")
            return 400, b"{}"
        device.attributes = attributes if method == "PUT" else device.attributes | attributes
        return 200, b""

    def _next(self, device: StubDevice, provides: dict[str, str]) -> Answer:
        if not provides.get("artifact_name") or not provides.get("device_type"):
            self.violations.append(f"next with {sorted(provides)}")
            return 400, b'{"error":"artifact_name and device_type are needed"}'
        device.provides.append(provides)
        for deployment in self.deployments.get(device.identity, []):
            if deployment.final or deployment.aborted:
                continue
            self.on_status(deployment, "pending")
            answer = {
                "id": deployment.id,
                "artifact": {
                    "artifact_name": deployment.artifact_name,
                    "source": {"uri": deployment.uri, "expire": "2030-01-02T00:00:00Z"},
                    "device_types_compatible": deployment.device_types,
                },
            }
            return 200, json.dumps(answer).encode()
        return 204, b""

    def _report(self, device: StubDevice, identifier: str, what: str, body: bytes) -> Answer:
        own = self.deployments.get(device.identity, [])
        deployment = next((one for one in own if one.id == identifier), None)
        if deployment is None:
            return 404, b'{"error":"resource not found"}'
        report = self._json(body, what)
        if what == "log":
            messages = report.get("messages")
            for line in messages if isinstance(messages, list) else [None]:
                if (
                    not isinstance(line, dict)
                    or line.keys() != {"timestamp", "level", "message"}
                    or not TIMESTAMP.fullmatch(line["timestamp"])
                ):
                    self.violations.append(f"log line {line!r}")
                    return 400, b"{}"
            device.logs.append(report)
            return 204, b""
        status = report.get("status")
        if status not in STATUSES or report.keys() - {"status", "substate"}:
            self.violations.append(f"status {report!r}")
            return 400, b"{}"
        if status == deployment.aborted_at:
            deployment.aborted = True
        if deployment.aborted:
            return 409, b'{"error":"Deployment aborted"}'
        device.statuses.append((identifier, status))
        self.on_status(deployment, status)
        if status in FINAL:
            deployment.final = status
        return 204, b""

    # -- files and bodies

    def _file(
        self, method: str, path: str, fields: dict[str, str]
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        data = self.files[path]
        if "authorization" in fields:
            self.violations.append("the token was sent along with a download")
        wanted = fields.get("range", "")
        self.downloads.append(wanted)
        headers = [(b"etag", b'"v1"'), (b"accept-ranges", b"bytes")]
        if method == "GET" and (found := re.fullmatch(r"bytes=(\d+)-", wanted)):
            start = int(found[1])
            if start >= len(data):
                return 416, b"", [(b"content-range", f"bytes */{len(data)}".encode())]
            headers.append(
                (b"content-range", f"bytes {start}-{len(data) - 1}/{len(data)}".encode())
            )
            return 206, data[start:], headers
        return 200, data, headers

    def _json(self, body: bytes, what: str) -> dict[str, Any]:
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self.violations.append(f"{what}: {body[:80]!r}")
            return {}
        return value


def verify(pem: str, signature: bytes, body: bytes) -> None:
    """Raises InvalidSignature, or ValueError for a key of another kind."""
    key = load_pem_public_key(pem.encode())
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, body, padding.PKCS1v15(), SHA256())
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, body, ec.ECDSA(SHA256()))
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, body)
    else:
        raise ValueError(f"a key of the kind {type(key).__name__}")
