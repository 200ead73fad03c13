"""A stub of Mender's management APIs, written from the published descriptions (docs/drivers.md
names them); no Mender server was at hand to prove it. It knows the calls of the driver, the states
that they need, and the refusals that the descriptions tell of."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

import httpx

from firmware_images import as_source
from firmware_images.errors import PackageRefused
from firmware_images.keys import PublicKey
from firmware_images.mender import verify_artifact
from tests.stubs.management import ManagementStub, Refused, body, form

AUTH = "/api/management/v2/devauth"
DEPLOYMENTS = "/api/management/v1/deployments"

FINAL = frozenset({"success", "failure", "aborted", "noartifact", "already-installed"})
STATUSES = (
    *("success", "pending", "failure", "downloading", "installing", "rebooting", "noartifact"),
    *("already-installed", "aborted", "pause_before_installing", "pause_before_rebooting"),
    "pause_before_committing",
)


@dataclass
class Deployment:
    name: str
    artifact: str
    devices: list[str]
    asked: dict[str, str] = field(default_factory=dict)
    """Status by device, for those that have asked for an update."""
    aborted: bool = False

    @property
    def finished(self) -> bool:
        states = [self.asked.get(device, "pending") for device in self.devices]
        return self.aborted or all(state in FINAL for state in states)


class MenderManagement(ManagementStub):
    """`tell(name, status)` is what a device would do over its own API."""

    user, password, personal = "admin@example.com", "mender-password", "pat.aaa.bbb"

    def __init__(self) -> None:
        super().__init__()
        self.jwt = "head.one.tail"
        self.devices: dict[str, dict[str, str]] = {}
        self.keys: dict[str, PublicKey] = {}
        self.artifacts: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        """Artifacts by name."""
        self.deployments: dict[str, Deployment] = {}
        self._count = 0
        self.route("POST", "/api/management/v1/useradm/auth/login", self.open_login)
        self.route("GET", f"{AUTH}/devices", self.list_devices)
        self.route("POST", f"{AUTH}/devices", self.preauthorize)
        self.route("DELETE", f"{AUTH}/devices/{{}}", self.decommission)
        self.route("POST", f"{DEPLOYMENTS}/artifacts", self.upload)
        self.route("GET", f"{DEPLOYMENTS}/artifacts/list", self.list_artifacts)
        self.route("DELETE", f"{DEPLOYMENTS}/artifacts/{{}}", self.delete_artifact)
        self.route("POST", f"{DEPLOYMENTS}/deployments", self.deploy)
        self.route("GET", f"{DEPLOYMENTS}/deployments/{{}}", self.show)
        self.route("PUT", f"{DEPLOYMENTS}/deployments/{{}}/status", self.abort)
        self.route("GET", f"{DEPLOYMENTS}/deployments/{{}}/statistics", self.statistics)
        self.route("GET", f"{DEPLOYMENTS}/deployments/{{}}/devices/list", self.list_deployed)

    def tell(self, name: str, status: str) -> None:
        (device,) = [one for one, data in self.devices.items() if name in data.values()]
        for deployment in self.deployments.values():
            if device in deployment.devices and not deployment.aborted:
                deployment.asked[device] = status

    def authorize(self, request: httpx.Request) -> None:
        allowed = (f"Bearer {self.jwt}", f"Bearer {self.personal}")
        if request.headers.get("authorization") not in allowed:
            raise Refused(401, "unauthorized")

    def open_login(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        given = request.headers.get("authorization", "").removeprefix("Basic ")
        if base64.b64decode(given) != f"{self.user}:{self.password}".encode():
            raise Refused(401, "unauthorized")
        return httpx.Response(
            200, content=self.jwt.encode(), headers={"content-type": "application/jwt"}
        )

    def list_devices(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        devices = [
            {
                "id": one,
                "identity_data": data,
                "status": "preauthorized",
                "auth_sets": [{"pubkey": self.keys[one].to_pem().decode()}],
            }
            for one, data in self.devices.items()
        ]
        return httpx.Response(200, json=self._page(request, devices))

    def preauthorize(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        asked = body(request, {"identity_data": dict, "pubkey": str}, {"force": bool})
        if asked["identity_data"] in self.devices.values():
            raise Refused(409, "device already exists")
        made = self._new("device")
        self.keys[made] = PublicKey.from_pem(asked["pubkey"].encode())
        self.devices[made] = asked["identity_data"]
        return httpx.Response(201, headers={"location": f"devices/{made}"})

    def decommission(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        if self.devices.pop(parts[0], None) is None:
            raise Refused(404, "device not found")
        return httpx.Response(204)

    def upload(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        fields = form(request)
        if not fields or fields[-1][0] != "artifact":
            raise Refused(400, "the artifact has to be the last part")
        name = self._artifact_name(fields[-1][1])
        if name in self.artifacts.values():
            raise Refused(409, "an artifact with the same name and depends already exists")
        made = self._new("artifact")
        self.artifacts[made] = name
        self.files[name] = fields[-1][1]
        return httpx.Response(201, headers={"location": f"{DEPLOYMENTS}/artifacts/{made}"})

    def _artifact_name(self, artifact: bytes) -> str:
        try:
            return verify_artifact(as_source(artifact), None).name
        except PackageRefused as refused:
            raise Refused(400, f"invalid artifact: {refused}") from None

    def list_artifacts(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        wanted = request.url.params.get("name")
        found = [
            {"id": one, "name": name}
            for one, name in self.artifacts.items()
            if wanted in (None, name)
        ]
        return httpx.Response(200, json=self._page(request, found))

    def delete_artifact(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        name = self.artifacts.get(parts[0])
        if name is None:
            raise Refused(404, "artifact not found")
        if any(one.artifact == name and not one.finished for one in self.deployments.values()):
            raise Refused(409, "artifact used by active deployment")
        del self.artifacts[parts[0]]
        return httpx.Response(204)

    def deploy(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        optional = {"devices": list, "all_devices": bool, "force_installation": bool}
        asked = body(request, {"name": str, "artifact_name": str}, optional)
        if asked["artifact_name"] not in self.artifacts.values():
            raise Refused(422, "no artifact for the deployment")
        made = self._new("deployment")
        self.deployments[made] = Deployment(asked["name"], asked["artifact_name"], asked["devices"])
        return httpx.Response(201, headers={"location": f"./deployments/{made}"})

    def _deployment(self, parts: tuple[str, ...]) -> Deployment:
        if parts[0] not in self.deployments:
            raise Refused(404, "deployment not found")
        return self.deployments[parts[0]]

    def show(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        deployment = self._deployment(parts)
        status = "finished" if deployment.finished else "inprogress"
        if status == "inprogress" and not deployment.asked:
            status = "pending"
        return httpx.Response(
            200,
            json={
                "id": parts[0],
                "name": deployment.name,
                "artifact_name": deployment.artifact,
                "created": "2026-01-02T03:04:05.123456789Z",
                "status": status,
                "device_count": len(deployment.devices),
            },
        )

    def abort(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        deployment = self._deployment(parts)
        if body(request, {"status": str})["status"] != "aborted":
            raise Refused(400, "status can only be aborted")
        if deployment.finished:
            raise Refused(422, "deployment already finished")
        deployment.aborted = True
        for device in deployment.devices:
            if deployment.asked.get(device, "pending") not in FINAL:
                deployment.asked[device] = "aborted"
        return httpx.Response(204)

    def statistics(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        deployment = self._deployment(parts)
        states = [deployment.asked.get(device, "pending") for device in deployment.devices]
        return httpx.Response(200, json={status: states.count(status) for status in STATUSES})

    def list_deployed(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        deployment = self._deployment(parts)
        entries = [
            {
                "id": device,
                "status": status,
                "created": "2026-01-02T03:04:05.123456789Z",
                "log": False,
            }
            for device, status in deployment.asked.items()
        ]
        return httpx.Response(200, json=self._page(request, entries))

    def _page(self, request: httpx.Request, entries: list[dict[str, object]]) -> object:
        page, size = (
            int(request.url.params.get(key, d)) for key, d in (("page", 1), ("per_page", 20))
        )
        if not 1 <= size <= 500:
            raise Refused(400, "per_page is at most 500")
        return json.loads(json.dumps(entries[(page - 1) * size : page * size]))

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count:08d}"
