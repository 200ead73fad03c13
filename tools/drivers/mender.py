"""Mender, through its management APIs (JWT from `/api/management/v1/useradm/auth/login`, or a
personal access token).

Devices are preauthorized with a key each, so that the server accepts them at their first request.
A package is an artifact of version 3, a campaign a deployment. A deployment cannot be removed: it
is aborted and stays in the server's history. Every call and its source is in docs/drivers.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.credentials import Credential
from firmware_images.keys import KeyType, generate_key
from firmware_images.mender import build_artifact
from tools.drivers.api import Answer, Api, members, objects
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
from tools.drivers.errors import BadOption, RequestRefused, UnsupportedServer
from tools.drivers.undo import Stage, Undo, each, finish
from tools.fleet.audit import Belief, BeliefVerdict

__all__ = ["MenderDriver"]

VERDICTS: Mapping[str, BeliefVerdict] = {
    "success": "updated",
    "already-installed": "updated",
    "failure": "failed",
    "aborted": "failed",
    "noartifact": "unfinished",
    "decommissioned": "unfinished",
    "pending": "unfinished",
    "downloading": "unfinished",
    "pause_before_installing": "unfinished",
    "installing": "unfinished",
    "pause_before_rebooting": "unfinished",
    "rebooting": "unfinished",
    "pause_before_committing": "unfinished",
}
"""The status of a device in a deployment. `noartifact` and `decommissioned` end the deployment for
a device that was never offered anything."""

KEYS = {"ecdsa": KeyType.ECDSA_P256, "ed25519": KeyType.ED25519, "rsa": KeyType.RSA_2048}

OPTIONS = {"device_type": "fotilla", "key": "ecdsa", "identity": "fotilla_id"}
"""device_type: of the artifact, and what devices say they are. key: of each device, one of ecdsa,
ed25519 and rsa. identity: the attribute of the identity data that holds a device's name."""

AUTH = "api/management/v2/devauth"
DEPLOYMENTS = "api/management/v1/deployments"
PAGE = 500  # the largest page the API allows


@drivers.register("mender")
class MenderDriver:
    """See the module's docstring."""

    name = "mender"
    protocol = "mender"

    def __init__(
        self,
        settings: DriverSettings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = check_options(self.name, settings.options, OPTIONS)
        if self._options["key"] not in KEYS:
            raise BadOption(f"mender: key={self._options['key']!r} is none of {', '.join(KEYS)}")
        self._settings = settings
        self._label = f"fotilla-{settings.suffix}"
        self._undo = Undo()
        self._open = False
        self._names: dict[str, str] = {}
        """Names by the server's identifiers."""
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
            "device_type": self._options["device_type"],
            "identity": self._options["identity"],
        }

    async def open(self) -> None:
        if self._settings.identity.token:
            self._api.use_bearer(self._settings.identity.token)
        else:
            await self._log_in()
            self._api.renew = self._log_in
        what = "list devices"
        params: dict[str, str | int] = {"per_page": 1}
        try:
            answer = await self._api.json("GET", f"{AUTH}/devices", what, params=params)
        except RequestRefused as error:
            if error.status != 404:
                raise
            raise UnsupportedServer(
                f"mender: {self._api.server} has no device authentication; is this Mender?"
            ) from None
        objects(answer, f"mender: {what}")
        self._open = True

    async def _log_in(self) -> None:
        """Basic authentication; the answer is the JWT itself (application/jwt)."""
        answer = await self._api.call(
            "POST",
            "api/management/v1/useradm/auth/login",
            "log in",
            quiet=True,
            login=self._settings.identity.login(),
        )
        token = answer.body.decode("ascii", "replace").strip()
        if token.count(".") != 2:
            raise UnsupportedServer(
                f"mender: {self._api.server}: log in: the answer is no JWT; an account with single "
                f"sign-on needs FOTILLA_MENDER_TOKEN"
            )
        self._api.use_bearer(token)

    # --- devices

    async def provision(self, devices: Sequence[str]) -> dict[str, Credential]:
        if not self._open:
            await self.open()
        credentials: dict[str, Credential] = {}

        async def create(name: str) -> None:
            credentials[name] = await self._preauthorize(name)

        await each(devices, lambda name: finish(create(name)))
        return {name: credentials[name] for name in devices}

    async def _preauthorize(self, name: str) -> Credential:
        what = f"preauthorize {name}"
        key = generate_key(KEYS[self._options["key"]])
        pubkey = key.public.to_pem().decode()
        body = {"identity_data": {self._options["identity"]: name}, "pubkey": pubkey}
        path = f"{AUTH}/devices"
        known = self._remove_later(
            path, f"device {name}", Stage.DEVICE, lambda: self._preauthorized(name, pubkey)
        )
        made = _located(await self._api.call("POST", path, what, body=body), what)
        known.append(made)
        self._names[made] = name
        return Credential(private_key=key.to_pem())

    # --- packages

    async def publish(self, image: bytes, version: str) -> Package:
        name = self._artifact_name(version)
        artifact = await asyncio.to_thread(
            build_artifact,
            image,
            name=name,
            device_types=[self._options["device_type"]],
            software_version=version,
        )
        made = await finish(self._upload(artifact, name))
        return Package(made, version)

    def _artifact_name(self, version: str) -> str:
        return f"{self._label}-{version}"

    async def _upload(self, artifact: bytes, name: str) -> str:
        what = "upload the artifact"
        # The artifact has to be the last part of the form.
        files = {"artifact": (f"{name}.mender", artifact, "application/octet-stream")}
        form = {"description": "made by fotilla, removed at the end of its run"}
        path = f"{DEPLOYMENTS}/artifacts"
        known = self._remove_later(
            path, f"artifact {name}", Stage.PACKAGE, lambda: self._artifacts(name)
        )
        made = _located(await self._api.call("POST", path, what, form=form, files=files), what)
        known.append(made)
        return made

    def _remove_later(
        self, path: str, what: str, stage: Stage, find: Callable[[], Awaitable[list[str]]]
    ) -> list[str]:
        """The list to enter the id into once it is known; `find` finds an object whose answer was
        lost."""
        known: list[str] = []

        async def remove() -> None:
            for made in known or await find():
                await self._api.call("DELETE", f"{path}/{made}", f"remove {what}", gone=True)

        self._undo.add(stage, what, remove)
        return known

    async def _artifacts(self, name: str) -> list[str]:
        what = f"look for {name}"
        params: dict[str, str | int] = {"name": name, "per_page": PAGE}
        answer = await self._api.json("GET", f"{DEPLOYMENTS}/artifacts/list", what, params=params)
        return [one["id"] for one in objects(answer, f"mender: {what}") if one["name"] == name]

    async def _preauthorized(self, name: str, pubkey: str) -> list[str]:
        """The device of that name that has our key."""
        what = f"look for {name}"
        params: dict[str, str | int] = {"status": "preauthorized"}
        identity = {self._options["identity"]: name}
        return [
            entry["id"]
            async for entry in self._pages(f"{AUTH}/devices", what, params)
            if entry.get("identity_data") == identity
            and any(one.get("pubkey") == pubkey for one in entry.get("auth_sets", []))
        ]

    async def _pages(
        self, path: str, what: str, params: Mapping[str, str | int]
    ) -> AsyncIterator[dict[str, Any]]:
        """All entries of a list that comes in pages."""
        page = 1
        while True:
            paged = {**params, "page": page, "per_page": PAGE}
            listed = objects(await self._api.json("GET", path, what, params=paged), what)
            for entry in listed:
                yield entry
            if len(listed) < PAGE:
                return
            page += 1

    # --- campaigns

    async def start(self, package: Package, devices: Sequence[str]) -> Campaign:
        made = await finish(self._deploy(package, devices))
        return Campaign(made, package, tuple(devices))

    async def _deploy(self, package: Package, devices: Sequence[str]) -> str:
        what = "create a deployment"
        known = {name: made for made, name in self._names.items()}
        body = {
            "name": self._label,
            "artifact_name": self._artifact_name(package.version),
            "devices": [known[name] for name in devices],
        }
        path = f"{DEPLOYMENTS}/deployments"
        made = _located(await self._api.call("POST", path, what, body=body), what)
        self._undo.add(Stage.CAMPAIGN, f"deployment {made}", lambda: self._abort(made))
        return made

    async def _abort(self, deployment: str) -> None:
        path = f"{DEPLOYMENTS}/deployments/{deployment}/status"
        try:
            await self._api.call(
                "PUT", path, "abort the deployment", body={"status": "aborted"}, gone=True
            )
        except RequestRefused as error:
            # 422: it has finished, so there is nothing to abort.
            if error.status != 422:
                raise

    # --- what it believes

    async def belief(self, campaign: Campaign) -> dict[str, DriverBelief]:
        """The list has a device only once it has asked for an update; until then the deployment
        waits for it."""
        beliefs = {name: DriverBelief("pending") for name in campaign.devices}
        what = "list the devices of the deployment"
        path = f"{DEPLOYMENTS}/deployments/{campaign.id}/devices/list"
        async for entry in self._pages(path, what, {}):
            made, status = members(entry, f"mender: {what}", "id", "status")
            name = self._names.get(made)
            if name in beliefs:
                beliefs[name] = DriverBelief(str(status), _version(entry, campaign), _time(entry))
        return beliefs

    def believed(self, belief: DriverBelief, campaign: Campaign) -> Belief:
        return believed_by(VERDICTS, belief, campaign)

    async def tally(self, campaign: Campaign) -> Tally | None:
        what = "read the deployment's statistics"
        path = f"{DEPLOYMENTS}/deployments/{campaign.id}/statistics"
        counts = members(
            await self._api.json("GET", path, what),
            f"mender: {what}",
            "success",
            "already-installed",
            "failure",
            "aborted",
        )
        return Tally(counts[0] + counts[1], counts[2] + counts[3])

    async def settled(self, campaign: Campaign) -> bool:
        what = "read the deployment"
        path = f"{DEPLOYMENTS}/deployments/{campaign.id}"
        (status,) = members(await self._api.json("GET", path, what), f"mender: {what}", "status")
        return bool(status == "finished")

    async def cancel(self, campaign: Campaign) -> None:
        await self._abort(campaign.id)

    async def cleanup(self) -> None:
        await self._undo.run()

    def hurry(self, seconds: float) -> None:
        self._api.hurry(seconds)

    async def close(self) -> None:
        await self._api.close()


def _located(answer: Answer, what: str) -> str:
    """The identifier of a new object: the last part of its Location."""
    made = str(answer.headers.get("Location", "")).rstrip("/").rpartition("/")[2]
    if not made:
        raise UnsupportedServer(f"mender: {what}: the answer has no Location")
    return made


def _version(entry: Mapping[str, Any], campaign: Campaign) -> str | None:
    """What a device runs is known only where the deployment ended well."""
    updated = VERDICTS.get(entry["status"]) == "updated"
    return campaign.package.version if updated else None


def _time(entry: Mapping[str, Any]) -> datetime | None:
    for key in ("finished", "started", "created"):
        text = entry.get(key)
        if isinstance(text, str):
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                return None
    return None
