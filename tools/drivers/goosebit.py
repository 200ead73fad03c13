"""gooseBit, through its REST API (`/api/v1`, bearer token from `/login`); speaks to 0.2.

gooseBit's action is a software package: all devices of a campaign share one identifier, and what
it believes is one state per device, of the last update that the device reported on. A campaign is
a rollout on a feed of its own. Packages are `.swu` files, offered only to the hardware that they
name. There is no cancel: a paused rollout is offered to nobody else. Every call is in
docs/drivers.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from agent.credentials import Credential
from firmware_images.swu import MAGIC_PREFIX, Hardware, build_swu
from tools.drivers.api import Api, members, objects
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
from tools.drivers.errors import (
    DriverError,
    RequestRefused,
    UnsupportedServer,
    WrongCredentials,
)
from tools.drivers.undo import Stage, Undo, each, finish
from tools.fleet.audit import Belief, BeliefVerdict

__all__ = ["GoosebitDriver"]

VERDICTS: Mapping[str, BeliefVerdict] = {
    "Finished": "updated",
    "Error": "failed",
    "None": "unfinished",
    "Unknown": "unfinished",
    "Registered": "unfinished",
    "Running": "unfinished",
}
"""gooseBit's `last_state`. It is not tied to a package: only with the campaign's version does
`Finished` mean this update."""

OPTIONS = {"tenant": "DEFAULT", "board": "fotilla", "revision": ""}
"""tenant: in the devices' URLs. board, revision: the hardware that devices report and the package
names; without a revision it is the run's own, so that no other device is offered the package."""

NEEDED = {
    "/api/v1/devices": ("get", "put", "delete"),
    "/api/v1/devices/{dev_id}": ("get",),
    "/api/v1/software": ("get", "put", "delete"),
    "/api/v1/rollouts": ("get", "put", "patch", "delete"),
}
"""What this driver calls, as the server's own description of itself names it."""

DEVICES_AT_ONCE = 200


@drivers.register("goosebit")
class GoosebitDriver:
    """See the module's docstring."""

    name = "goosebit"
    protocol = "hawkbit"

    def __init__(
        self,
        settings: DriverSettings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._options = check_options(self.name, settings.options, OPTIONS)
        self._settings = settings
        self._now = now
        self._label = f"fotilla-{settings.suffix}"
        self._undo = Undo()
        self._open = False
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
        return self._settings.server

    @property
    def device_options(self) -> Mapping[str, str]:
        return {
            "tenant": self._options["tenant"],
            "hw_boardname": self._options["board"],
            "hw_revision": self._revision,
            "format": "swu",
        }

    @property
    def _revision(self) -> str:
        return self._options["revision"] or self._settings.suffix

    async def open(self) -> None:
        described = await self._description()
        info, paths = members(described, "goosebit: read its description", "info", "paths")
        title = info.get("title") if isinstance(info, dict) else None
        if title != "gooseBit":
            raise UnsupportedServer(f"goosebit: {self._api.server} calls itself {title!r}")
        for path, methods in NEEDED.items():
            if any(method not in paths.get(path, {}) for method in methods):
                version = info.get("version")
                raise UnsupportedServer(f"goosebit: version {version} does not have {path} as 0.2")
        identity = self._settings.identity
        if identity.token:
            self._api.use_bearer(identity.token)
            await self._try_token()
        else:
            user, password = identity.login()
            form = {"username": user, "password": password}
            answer = await self._api.json("POST", "login", "log in", form=form, quiet=True)
            (token,) = members(answer, "goosebit: log in", "access_token")
            self._api.use_bearer(str(token))
        self._open = True

    async def _try_token(self) -> None:
        """A login is judged by the server at once, a token not before the first call."""
        try:
            await self._devices()
        except RequestRefused as error:
            if error.status != 500:
                raise
            # 0.2.12 fails on a token that it cannot decode.
            raise WrongCredentials(
                f"goosebit: {self._api.server}: the server cannot read FOTILLA_GOOSEBIT_TOKEN"
            ) from None

    async def _description(self) -> Any:
        try:
            return await self._api.json("GET", "openapi.json", "read its description")
        except (RequestRefused, WrongCredentials):
            # gooseBit shows it to anybody, and no credentials were presented yet.
            raise UnsupportedServer(
                f"goosebit: {self._api.server} shows no /openapi.json; is this gooseBit?"
            ) from None

    # --- devices

    async def provision(self, devices: Sequence[str]) -> dict[str, Credential]:
        if not self._open:
            await self.open()
        # To put a device that exists would take it away from whoever has its token.
        known = await self._devices()
        taken = [name for name in devices if name in known]
        if taken:
            raise DriverError(f"goosebit: {len(taken)} devices exist already, {taken[0]!r} first")
        tokens = {name: self._settings.new_token(16) for name in devices}
        made: list[str] = []
        self._undo.add(Stage.DEVICE, f"{len(devices)} devices", lambda: self._remove_devices(made))

        async def put(name: str) -> None:
            made.append(name)
            await self._put_device(name, tokens[name])

        await each(devices, lambda name: finish(put(name)))
        return {name: Credential(tokens[name]) for name in devices}

    async def _put_device(self, name: str, token: str) -> None:
        what = f"create {name}"
        body = {
            "devices": [name],
            "name": name,
            "feed": self._label,
            "software": "rollout",
            "auth_token": token,
        }
        answer = await self._api.json("PUT", "api/v1/devices", what, body=body, quiet=True)
        _succeeded(answer, what)

    async def _devices(self) -> dict[str, dict[str, Any]]:
        what = "list the devices"
        answer = await self._api.json("GET", "api/v1/devices", what, quiet=True)
        (devices,) = members(answer, f"goosebit: {what}", "devices")
        return {str(device["id"]): device for device in objects(devices, what)}

    async def _remove_devices(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), DEVICES_AT_ONCE):
            # Listing them first is not idle: 0.2.12 removes devices from its database and then
            # fails with 500 when one is not in its cache, which the listing fills.
            known = await self._devices()
            chunk = [name for name in names[start : start + DEVICES_AT_ONCE] if name in known]
            if chunk:
                what = f"remove {len(chunk)} devices"
                body = {"devices": chunk}
                _succeeded(await self._api.json("DELETE", "api/v1/devices", what, body=body), what)

    # --- packages

    async def publish(self, image: bytes, version: str) -> Package:
        if not image.startswith(MAGIC_PREFIX):
            hardware = Hardware(self._options["board"], self._revision)
            image = build_swu(image, version=version, hardware=[hardware])
        return await finish(self._upload(image, version))

    async def _upload(self, swu: bytes, version: str) -> Package:
        what = "upload the package"
        filename = f"{self._label}.swu"
        known = self._remove_later("software", "software_ids", filename, Stage.PACKAGE)
        files = {"file": (filename, swu, "application/octet-stream")}
        answer = await self._api.json("PUT", "api/v1/software", what, files=files)
        (made,) = members(answer, f"goosebit: {what}", "id")
        known.append(int(made))
        return Package(str(made), version)

    def _remove_later(self, kind: str, member: str, name: str, stage: Stage) -> list[int]:
        """The list to enter the id into once it is known. An object whose answer was lost is found
        by its name, which no other run has."""
        known: list[int] = []

        async def remove() -> None:
            made = known or [int(one["id"]) for one in await self._all(kind) if one["name"] == name]
            if made:
                body = {member: made}
                await self._api.call("DELETE", f"api/v1/{kind}", f"remove {name}", body=body)

        self._undo.add(stage, f"{kind} {name}", remove)
        return known

    async def _all(self, kind: str) -> list[dict[str, Any]]:
        what = f"list the {kind}"
        answer = await self._api.json("GET", f"api/v1/{kind}", what)
        (entries,) = members(answer, f"goosebit: {what}", kind)
        return objects(entries, what)

    # --- campaigns

    async def start(self, package: Package, devices: Sequence[str]) -> Campaign:
        self._ended.clear()
        rollout = await finish(self._create_rollout(package))
        return Campaign(rollout, package, tuple(devices))

    async def _create_rollout(self, package: Package) -> str:
        what = "create a rollout"
        known = self._remove_later("rollouts", "ids", self._label, Stage.CAMPAIGN)
        body = {"name": self._label, "feed": self._label, "software_id": int(package.id)}
        answer = await self._api.json("PUT", "api/v1/rollouts", what, body=body)
        _succeeded(answer, what)
        (made,) = members(answer, f"goosebit: {what}", "id")
        known.append(int(made))
        return str(made)

    # --- what it believes

    async def belief(self, campaign: Campaign) -> dict[str, DriverBelief]:
        known = await self._devices()
        return {name: self._belief(known[name]) for name in campaign.devices if name in known}

    def _belief(self, device: Mapping[str, Any]) -> DriverBelief:
        state, version, seen = members(
            device, "goosebit: read a device", "last_state", "sw_version", "last_seen"
        )
        # It tells how many seconds ago it was, not when.
        time = self._now() - timedelta(seconds=seen) if isinstance(seen, int) else None
        return DriverBelief(str(state), None if version is None else str(version), time)

    def believed(self, belief: DriverBelief, campaign: Campaign) -> Belief:
        return believed_by(VERDICTS, belief, campaign)

    async def tally(self, campaign: Campaign) -> Tally | None:
        for rollout in await self._all("rollouts"):
            if str(rollout.get("id")) == campaign.id:
                what = "goosebit: read the rollout"
                updated, failed = members(rollout, what, "success_count", "failure_count")
                return Tally(int(updated), int(failed))
        return None

    async def settled(self, campaign: Campaign) -> bool:
        """Devices that ended are not asked about again, and the first that has not ends the
        question: a list of all devices costs this server several queries for each."""
        for name in campaign.devices:
            if name in self._ended:
                continue
            path = f"api/v1/devices/{quote(name, safe='')}"
            device = await self._api.json("GET", path, f"read {name}", quiet=True)
            belief = self.believed(self._belief(device), campaign)
            if belief.verdict not in ("updated", "failed"):
                return False
            self._ended.add(name)
        return True

    async def cancel(self, campaign: Campaign) -> None:
        body = {"ids": [int(campaign.id)], "paused": True}
        await self._api.call("PATCH", "api/v1/rollouts", "pause the rollout", body=body)

    async def cleanup(self) -> None:
        await self._undo.run()

    def hurry(self, seconds: float) -> None:
        self._api.hurry(seconds)

    async def close(self) -> None:
        await self._api.close()


def _succeeded(answer: object, what: str) -> None:
    (success,) = members(answer, f"goosebit: {what}", "success")
    if success is not True:
        raise DriverError(f"goosebit: {what}: the server says that it did not succeed")
