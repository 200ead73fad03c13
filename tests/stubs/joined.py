"""Stubs of management APIs and of device APIs joined into servers that know both: what an operator
does reaches the devices, and what devices report reaches the operator."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.stubs.management import ManagementStub, form
from tests.stubs.mender import Deployment, MenderStub, StubDevice
from tests.stubs.mender_management import FINAL, MenderManagement
from tests.stubs.thingsboard import Package, ThingsBoardStub
from tests.stubs.thingsboard_management import ThingsboardManagement


async def serve_management(stub: ManagementStub, scope: Any, receive: Any, send: Any) -> None:
    """ASGI in front of a stub that was written for httpx's MockTransport."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    query = scope["query_string"].decode()
    url = f"http://server{scope['path']}" + (f"?{query}" if query else "")
    answer = stub(httpx.Request(scope["method"], url, headers=scope["headers"], content=body))
    headers = [
        (name, value) for name, value in answer.headers.raw if name.lower() != b"content-length"
    ]
    headers.append((b"content-length", str(len(answer.content)).encode()))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})


class MenderServer(MenderManagement):
    """One Mender server. `base` is its own URL, known once it listens."""

    def __init__(self) -> None:
        super().__init__()
        self.device_side = MenderStub(accept_all=False)
        self.device_side.on_status = self._status
        self.base = ""
        self._files: dict[str, bytes] = {}
        """Artifacts by name."""
        self._links: dict[str, tuple[str, str]] = {}
        """Deployment and device of the management side, by the device side's deployment."""

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/api/management/"):
            await serve_management(self, scope, receive, send)
        else:
            await self.device_side.app(scope, receive, send)

    def preauthorize(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        answer = super().preauthorize(request, parts)
        asked = json.loads(request.content)
        identity = _identity(asked["identity_data"])
        self.device_side.devices[identity] = StubDevice(identity, asked["pubkey"], accepted=True)
        return answer

    def decommission(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        data = self.devices.get(parts[0])
        answer = super().decommission(request, parts)
        if data is not None:
            self.device_side.devices[_identity(data)].accepted = False
        return answer

    def upload(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        answer = super().upload(request, parts)
        made = answer.headers["location"].rpartition("/")[2]
        self._files[self.artifacts[made]] = form(request)[-1][1]
        return answer

    def deploy(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        answer = super().deploy(request, parts)
        made = answer.headers["location"].rpartition("/")[2]
        deployment = self.deployments[made]
        for device in deployment.devices:
            offered = self.device_side.deploy(
                _identity(self.devices[device]),
                deployment.artifact,
                self._files[deployment.artifact],
                ["fotilla"],
                self.base,
            )
            self._links[offered.id] = made, device
        return answer

    def abort(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        answer = super().abort(request, parts)
        for offers in self.device_side.deployments.values():
            for offer in offers:
                if self._links[offer.id][0] == parts[0] and not offer.final:
                    offer.aborted = True
        return answer

    def _status(self, offer: Deployment, status: str) -> None:
        made, device = self._links[offer.id]
        asked = self.deployments[made].asked
        if asked.get(device) not in FINAL:
            asked[device] = status


def _identity(data: dict[str, str]) -> str:
    return json.dumps(data, separators=(",", ":"), sort_keys=True)


class ThingsBoardServer(ThingsboardManagement):
    """One ThingsBoard server; its devices come over HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self.device_side = ThingsBoardStub()
        self.device_side.on_telemetry = self._told
        self._data: dict[str, bytes] = {}
        """By package."""

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/api/v1/"):
            await self.device_side.app(scope, receive, send)
        else:
            await serve_management(self, scope, receive, send)

    def create_device(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        answer = super().create_device(request, parts)
        self.device_side.add(self.tokens[answer.json()["id"]["id"]])
        return answer

    def delete_device(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        answer = super().delete_device(request, parts)
        del self.device_side.devices[self.tokens[parts[0]]]
        return answer

    def upload(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        answer = super().upload(request, parts)
        ((_, self._data[parts[0]]),) = form(request)
        return answer

    def save_device(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        answer = super().save_device(request, parts)
        device = answer.json()
        made, firmware = device["id"]["id"], device["firmwareId"]
        if firmware is not None:
            package = self.packages[firmware["id"]]
            offered = Package(package["title"], package["version"], self._data[firmware["id"]])
            self.device_side.assign(self.tokens[made], offered)
            self.tell(device["name"], fw_state="QUEUED")
            self.tell(device["name"], fw_state="INITIATED")
        return answer

    def _told(self, token: str, values: dict[str, str]) -> None:
        (made,) = [device for device, known in self.tokens.items() if known == token]
        self.tell(self.devices[made]["name"], **values)
