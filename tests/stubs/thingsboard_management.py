"""A stub of ThingsBoard's REST API, written from its published sources (docs/drivers.md names
them); no ThingsBoard server was at hand to prove it. It knows the calls of the driver, the states
that they need, and the refusals that the sources show."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from tests.stubs.management import ManagementStub, Refused, body, form

PROFILE = "profile-1"


class ThingsboardManagement(ManagementStub):
    """`telemetry` is what devices would have told over their own API."""

    user, password = "tenant@example.com", "tenant-password"
    error_member = "message"

    def __init__(self) -> None:
        super().__init__()
        self.jwt = "jwt-1"
        self.devices: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.packages: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}
        """Of packages."""
        self.telemetry: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self._count = 0
        self.route("POST", "/api/auth/login", self.open_login)
        self.route("GET", "/api/deviceProfileInfo/default", self.profile)
        self.route("POST", "/api/device-with-credentials", self.create_device)
        self.route("GET", "/api/tenant/devices", self.find_device)
        self.route("POST", "/api/device", self.save_device)
        self.route("GET", "/api/device/{}", self.get_device)
        self.route("DELETE", "/api/device/{}", self.delete_device)
        self.route("GET", "/api/device/{}/credentials", self.credentials)
        self.route("POST", "/api/otaPackage", self.create_package)
        self.route("POST", "/api/otaPackage/{}", self.upload)
        self.route("DELETE", "/api/otaPackage/{}", self.delete_package)
        self.route("GET", "/api/plugins/telemetry/DEVICE/{}/values/timeseries", self.latest)

    def named(self, name: str) -> str:
        (device,) = [one for one, data in self.devices.items() if data["name"] == name]
        return device

    def tell(self, name: str, **values: str) -> None:
        """Telemetry of a device, newest first."""
        kept = self.telemetry.setdefault(self.named(name), {})
        for key, value in values.items():
            kept.setdefault(key, []).insert(0, {"ts": 1_767_323_045_000, "value": value})

    def authorize(self, request: httpx.Request) -> None:
        if request.headers.get("x-authorization") != f"Bearer {self.jwt}":
            raise Refused(401, "Token has expired")

    def open_login(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        asked = body(request, {"username": str, "password": str})
        if (asked["username"], asked["password"]) != (self.user, self.password):
            raise Refused(401, "Invalid username or password")
        return httpx.Response(200, json={"token": self.jwt, "refreshToken": "refresh-1"})

    def profile(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        return httpx.Response(200, json={"id": _id("DEVICE_PROFILE", PROFILE), "name": "default"})

    def create_device(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        asked = body(request, {"device": dict, "credentials": dict})
        credentials, name = asked["credentials"], asked["device"]["name"]
        if credentials["credentialsType"] != "ACCESS_TOKEN":
            raise Refused(400, "credentials of another type")
        if len(credentials["credentialsId"]) > 32:
            raise Refused(400, "length of credentialsId must be equal or less than 32")
        if any(device["name"] == name for device in self.devices.values()):
            raise Refused(400, "Device with such name already exists!")
        made = self._new("device")
        self.devices[made] = {
            **asked["device"],
            "id": _id("DEVICE", made),
            "firmwareId": None,
            "version": 1,
        }
        self.tokens[made] = credentials["credentialsId"]
        return httpx.Response(200, json=self.devices[made])

    def find_device(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        name = request.url.params["deviceName"]
        for device in self.devices.values():
            if device["name"] == name:
                return httpx.Response(200, json=device)
        raise Refused(404, "Requested item wasn't found!")

    def save_device(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        known = {name: object for name in ("id", "deviceProfileId", "firmwareId", "version")}
        asked = body(request, {"name": str, **known})
        device = self._device(asked["id"]["id"])
        if asked["version"] != device["version"]:
            raise Refused(409, "Device was already changed by someone else")
        firmware = asked["firmwareId"]
        if firmware is not None and "checksum" not in self._package(firmware["id"]):
            raise Refused(400, "Can't assign firmware with empty data!")
        device.update(asked, version=device["version"] + 1)
        return httpx.Response(200, json=device)

    def get_device(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        return httpx.Response(200, json=self._device(parts[0]))

    def delete_device(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        self._device(parts[0])
        del self.devices[parts[0]]
        return httpx.Response(200)

    def credentials(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        self._device(parts[0])
        return httpx.Response(
            200, json={"credentialsType": "ACCESS_TOKEN", "credentialsId": self.tokens[parts[0]]}
        )

    def create_package(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        required = {"deviceProfileId": dict, "type": str, "title": str, "version": str}
        asked = body(request, required, {"usesUrl": bool, "tag": str, "url": str})
        if asked["type"] not in ("FIRMWARE", "SOFTWARE"):
            raise Refused(400, "no such type")
        for package in self.packages.values():
            if (package["title"], package["version"]) == (asked["title"], asked["version"]):
                raise Refused(400, "OtaPackage with such title and version already exists!")
        made = self._new("package")
        self.packages[made] = {**asked, "id": _id("OTA_PACKAGE", made), "hasData": False}
        return httpx.Response(200, json=self.packages[made])

    def upload(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        package = self._package(parts[0])
        if request.url.params.get("checksumAlgorithm") != "SHA256":
            raise Refused(400, "this stub knows SHA256 only")
        ((name, data),) = form(request)
        if name != "file":
            raise Refused(400, "Required part 'file' is not present.")
        self.data[parts[0]] = data
        package.update(hasData=True, checksum=hashlib.sha256(data).hexdigest())
        return httpx.Response(200, json=package)

    def delete_package(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        package = self._package(parts[0])
        if any(device["firmwareId"] == package["id"] for device in self.devices.values()):
            raise Refused(400, "The otaPackage referenced by the devices cannot be deleted!")
        del self.packages[parts[0]]
        return httpx.Response(200)

    def latest(self, request: httpx.Request, parts: tuple[str, ...]) -> httpx.Response:
        self._device(parts[0])
        told = self.telemetry.get(parts[0], {})
        empty = [{"ts": 1_767_323_045_999, "value": None}]
        keys = request.url.params["keys"].split(",")
        return httpx.Response(200, json={key: told.get(key, empty)[:1] for key in keys})

    def _device(self, device: str) -> dict[str, Any]:
        if device not in self.devices:
            raise Refused(404, "Device with id is not found")
        return self.devices[device]

    def _package(self, package: str) -> dict[str, Any]:
        if package not in self.packages:
            raise Refused(404, "OtaPackage with id is not found")
        return self.packages[package]

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count:08d}"


def _id(kind: str, text: str) -> dict[str, str]:
    return {"entityType": kind, "id": text}
