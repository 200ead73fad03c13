"""ThingsBoard, through its REST API (`/api`, JWT from `/api/auth/login`); written for 3.4 to 4.3.

A package is an OTA package of type FIRMWARE for the tenant's default device profile, and devices
get it one by one, so that no other device is offered anything. What the server believes is the
latest `fw_state` of a device, which is what the device told it last. Every call and its source is
in docs/drivers.md.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agent.credentials import Credential
from tools.drivers.api import Api, members
from tools.drivers.base import (
    Campaign,
    DriverBelief,
    DriverSettings,
    Package,
    Tally,
    believed_by,
    check_options,
    drivers,
)
from tools.drivers.errors import DriverError, RequestRefused, ServerUnreachable, UnsupportedServer
from tools.drivers.undo import Stage, Undo, each, each_in_spite, finish
from tools.fleet.audit import Belief, BeliefVerdict

__all__ = ["ThingsboardDriver"]

VERDICTS: Mapping[str, BeliefVerdict] = {
    "UPDATED": "updated",
    "FAILED": "failed",
    "QUEUED": "unfinished",
    "INITIATED": "unfinished",
    "DOWNLOADING": "unfinished",
    "DOWNLOADED": "unfinished",
    "VERIFIED": "unfinished",
    "UPDATING": "unfinished",
    "": "unfinished",
}
"""`fw_state`: QUEUED and INITIATED are the server's, the others the device's; without one nothing
was said yet."""

OPTIONS = {"mqtt": ""}
"""mqtt: the URL that devices connect to, such as mqtt://host:1883; without it they use HTTP."""

KEYS = "fw_state,current_fw_version"


@drivers.register("thingsboard")
class ThingsboardDriver:
    """See the module's docstring."""

    name = "thingsboard"
    protocol = "thingsboard"

    def __init__(
        self,
        settings: DriverSettings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = check_options(self.name, settings.options, OPTIONS)
        self._settings = settings
        self._label = f"fotilla-{settings.suffix}"
        self._undo = Undo()
        self._profile = ""
        self._ids: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._ended: set[str] = set()
        self._api = Api(
            settings.server,
            driver=self.name,
            hidden=settings.identity.values(),
            tuning=settings.tuning,
            transport=settings.transport,
            sleep=sleep,
        )

    @property
    def device_server(self) -> str:
        return self._options["mqtt"] or self._settings.server

    @property
    def device_options(self) -> Mapping[str, str]:
        return {}

    async def open(self) -> None:
        if self._settings.identity.token:
            self._api.use_bearer(self._settings.identity.token, header="X-Authorization")
        else:
            await self._log_in()
            self._api.renew = self._log_in
        what = "read the default device profile"
        try:
            answer = await self._api.json("GET", "api/deviceProfileInfo/default", what)
        except RequestRefused as error:
            if error.status != 404:
                raise
            raise UnsupportedServer(
                f"thingsboard: {self._api.server} has no device profiles; is this ThingsBoard 3.3 "
                f"or later?"
            ) from None
        self._profile = _id_of(answer, what)

    async def _log_in(self) -> None:
        user, password = self._settings.identity.login()
        body = {"username": user, "password": password}
        what = "log in"
        answer = await self._api.json(
            "POST", "api/auth/login", what, body=body, quiet=True, renewable=False
        )
        (token,) = members(answer, f"thingsboard: {what}", "token")
        self._api.use_bearer(str(token), header="X-Authorization")

    # --- devices

    async def provision(self, devices: Sequence[str]) -> dict[str, Credential]:
        if not self._profile:
            await self.open()
        self._tokens |= {name: self._settings.new_token(10) for name in devices}
        self._undo.add(
            Stage.DEVICE,
            f"{len(devices)} devices from {devices[0]}",
            lambda: each_in_spite(list(self._tokens), self._remove_device),
        )
        await each(devices, lambda name: finish(self._create_device(name)))
        return {name: Credential(self._tokens[name]) for name in devices}

    async def _create_device(self, name: str) -> None:
        what = f"create {name}"
        body = {
            "device": {
                "name": name,
                "deviceProfileId": {"entityType": "DEVICE_PROFILE", "id": self._profile},
            },
            "credentials": {
                "credentialsType": "ACCESS_TOKEN",
                "credentialsId": self._tokens[name],
            },
        }
        try:
            answer = await self._api.json(
                "POST", "api/device-with-credentials", what, body=body, quiet=True
            )
        except ServerUnreachable:
            raise
        except DriverError:
            del self._tokens[name]  # it is somebody else's, or it was never made
            raise
        self._ids[name] = _id_of(answer, what)

    async def _remove_device(self, name: str) -> None:
        known = self._ids.get(name) or await self._found(name)
        if known is not None:
            await self._api.call("DELETE", f"api/device/{known}", f"remove {name}", gone=True)
        self._ids.pop(name, None)
        self._tokens.pop(name, None)

    async def _found(self, name: str) -> str | None:
        """The device of that name whose answer was lost, when it has our token."""
        what = f"look for {name}"
        params: dict[str, str | int] = {"deviceName": name}
        found = await self._api.call(
            "GET", "api/tenant/devices", what, params=params, gone=True, quiet=True
        )
        if found.status == 404:
            return None
        known = _id_of(self._api.decode(found, what), what)
        credentials = await self._api.json(
            "GET", f"api/device/{known}/credentials", what, quiet=True
        )
        (token,) = members(credentials, f"thingsboard: {what}", "credentialsId")
        return known if token == self._tokens[name] else None

    # --- packages

    async def publish(self, image: bytes, version: str) -> Package:
        made = await finish(self._create_package(version))
        what = "upload the image"
        files = {"file": (f"{self._label}.bin", image, "application/octet-stream")}
        params: dict[str, str | int] = {"checksumAlgorithm": "SHA256"}
        answer = await self._api.json(
            "POST", f"api/otaPackage/{made}", what, params=params, files=files
        )
        (checksum,) = members(answer, f"thingsboard: {what}", "checksum")
        if checksum != hashlib.sha256(image).hexdigest():
            raise DriverError(f"thingsboard: {what}: the server stored something else")
        return Package(made, version)

    async def _create_package(self, version: str) -> str:
        what = "create a package"
        body = {
            "deviceProfileId": {"entityType": "DEVICE_PROFILE", "id": self._profile},
            "type": "FIRMWARE",
            "title": self._label,
            "version": version,
            "usesUrl": False,
        }
        made = _id_of(await self._api.json("POST", "api/otaPackage", what, body=body), what)

        async def remove() -> None:
            await self._api.call(
                "DELETE", f"api/otaPackage/{made}", "remove the package", gone=True
            )

        self._undo.add(Stage.PACKAGE, f"package {made}", remove)
        return made

    # --- campaigns

    async def start(self, package: Package, devices: Sequence[str]) -> Campaign:
        self._ended.clear()
        target = {"entityType": "OTA_PACKAGE", "id": package.id}
        await each(devices, lambda name: self._assign(name, target))
        actions = {name: self._ids[name] for name in devices}
        return Campaign(package.id, package, tuple(devices), actions)

    async def _assign(self, name: str, firmware: Mapping[str, str] | None) -> None:
        """A device is saved as a whole, so it is read first: it may have changed meanwhile."""
        path = f"api/device/{self._ids[name]}"
        device = await self._api.json("GET", path, f"read {name}", quiet=True)
        _id_of(device, f"read {name}")
        body = {**device, "firmwareId": firmware}
        await self._api.call("POST", "api/device", f"assign {name}", body=body, quiet=True)

    # --- what it believes

    async def belief(self, campaign: Campaign) -> dict[str, DriverBelief]:
        beliefs: dict[str, DriverBelief] = {}

        async def read(name: str) -> None:
            belief = await self._belief_of(name, campaign)
            if belief is not None:
                beliefs[name] = belief

        await each(campaign.devices, read)
        return beliefs

    async def _belief_of(self, name: str, campaign: Campaign) -> DriverBelief | None:
        what = f"read the state of {name}"
        path = f"api/plugins/telemetry/DEVICE/{campaign.actions[name]}/values/timeseries"
        params: dict[str, str | int] = {"keys": KEYS}
        found = await self._api.call("GET", path, what, params=params, gone=True)
        if found.status == 404:
            return None
        latest = self._api.decode(found, what)
        if not isinstance(latest, dict):
            raise UnsupportedServer(f"thingsboard: {what}: the answer is no JSON object")
        state, time = _latest(latest, "fw_state")
        version, _ = _latest(latest, "current_fw_version")
        return DriverBelief(state or "", version, time)

    def believed(self, belief: DriverBelief, campaign: Campaign) -> Belief:
        return believed_by(VERDICTS, belief, campaign)

    async def tally(self, campaign: Campaign) -> Tally | None:
        return None

    async def settled(self, campaign: Campaign) -> bool:
        """Devices that ended are not asked about again, and the first that has not ends the
        question."""
        for name in campaign.devices:
            if name in self._ended:
                continue
            belief = await self._belief_of(name, campaign)
            if belief is None:
                return False
            if self.believed(belief, campaign).verdict not in ("updated", "failed"):
                return False
            self._ended.add(name)
        return True

    async def cancel(self, campaign: Campaign) -> None:
        """There is no cancel: the package is taken away from devices that have not ended."""
        open_ones = [name for name in campaign.devices if name not in self._ended]
        await each(open_ones, lambda name: self._assign(name, None))

    async def cleanup(self) -> None:
        await self._undo.run()

    def hurry(self, seconds: float) -> None:
        self._api.hurry(seconds)

    async def close(self) -> None:
        await self._api.close()


def _id_of(entity: object, what: str) -> str:
    """Entities are named by `{"entityType", "id"}` under `id`."""
    (entity_id,) = members(entity, f"thingsboard: {what}", "id")
    (text,) = members(entity_id, f"thingsboard: {what}", "id")
    return str(text)


def _latest(latest: Mapping[str, Any], key: str) -> tuple[str | None, datetime | None]:
    """The newest value of a key and its time; a key without values is absent, or null."""
    values = latest.get(key)
    if not isinstance(values, list) or not values or not isinstance(values[0], dict):
        return None, None
    value, stamp = values[0].get("value"), values[0].get("ts")
    if value is None:
        return None, None
    time = datetime.fromtimestamp(stamp / 1000, UTC) if isinstance(stamp, int) else None
    return str(value), time
