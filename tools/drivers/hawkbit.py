"""hawkBit, through its management API (`/rest/v1`, Basic authentication); speaks to 1.0 and 1.1.

A package is one software module with one artifact in one distribution set. A campaign is a direct
assignment, or with the option `groups` a rollout. Every call is in docs/drivers.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from agent.credentials import Credential, TokenKind
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
from tools.drivers.errors import BadOption, DriverError, RequestRefused, UnsupportedServer
from tools.drivers.undo import Stage, Undo, each, each_in_spite, finish
from tools.fleet.audit import Belief, BeliefVerdict

__all__ = ["HawkbitDriver"]

VERDICTS: Mapping[str, BeliefVerdict] = {
    "finished": "updated",
    "error": "failed",
    "canceled": "failed",
    "canceling": "unfinished",
    "cancel_rejected": "unfinished",
    "scheduled": "unfinished",
    "retrieved": "unfinished",
    "running": "unfinished",
    "download": "unfinished",
    "downloaded": "unfinished",
    "warning": "unfinished",
    "wait_for_confirmation": "unfinished",
    "pending": "unfinished",
}
"""hawkBit's status of an action. `downloaded` ends a download-only action, with nothing installed;
`warning` ends none."""

OPTIONS = {
    "tenant": "DEFAULT",
    "type": "forced",
    "groups": "0",
    "credentials": "target",
    "polling": "00:00:30",
    "confirmation": "",
}
"""tenant: in the devices' URLs. type: of the assignment. groups: of a rollout, 0 assigns directly.
credentials: target or gateway tokens. polling: the tenant's polling time as HH:MM:SS for this run;
the default is the shortest that hawkBit allows, whose own default lets devices sleep for five
minutes. confirmation: on or off for this run. Empty leaves the tenant's setting alone."""

TYPES = ("forced", "soft", "downloadonly")

TARGETS_AT_ONCE = 500
"""Targets in one call; hawkBit takes at most 5,000 in one assignment."""

READY_SECONDS = 120.0
"""A rollout is made ready by a scheduler of the server, which looks every few seconds."""

READY_INTERVAL = 1.0

PLAIN = re.compile(r"[A-Za-z0-9_.:*-]+")
"""What RSQL takes without quotes; its reserved characters are quotes, brackets, ; , = ! ~ < >."""

POLLING = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\s*[~,].*)?")
"""HH:MM:SS; hawkBit 1.0 takes a spread and other times for some targets behind it."""

POLLING_LIMITS = "00:00:30 to 23:59:59"
"""hawkBit's own (hawkbit.controller.minPollingTime and maxPollingTime)."""

SETTLED_ROLLOUTS = frozenset({"finished", "stopped", "paused", "deleted"})


@drivers.register("hawkbit")
class HawkbitDriver:
    """See the module's docstring."""

    name = "hawkbit"
    protocol = "hawkbit"

    def __init__(
        self,
        settings: DriverSettings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = check_options(self.name, settings.options, OPTIONS)
        self._groups = self._checked()
        self._settings = settings
        self._sleep = sleep
        self._label = f"fotilla-{settings.suffix}"
        self._undo = Undo()
        self._configs: dict[str, Any] = {}
        self._tokens: dict[str, str] = {}
        self._ended: set[str] = set()
        self._api = Api(
            settings.server,
            driver=self.name,
            auth=httpx.BasicAuth(*settings.identity.login()),
            hidden=settings.identity.values(),
            tuning=settings.tuning,
            transport=settings.transport,
            sleep=sleep,
        )

    def _checked(self) -> int:
        options = self._options
        for option, allowed in (
            ("type", TYPES),
            ("credentials", ("target", "gateway")),
            ("confirmation", ("", "on", "off")),
        ):
            if options[option] not in allowed:
                words = ", ".join(word for word in allowed if word)
                raise BadOption(f"hawkbit: {option}={options[option]!r} is none of {words}")
        if options["polling"] and not POLLING.fullmatch(options["polling"]):
            raise BadOption(f"hawkbit: polling={options['polling']!r} is not HH:MM:SS")
        if not options["groups"].isdecimal() or int(options["groups"]) > 500:
            raise BadOption(f"hawkbit: groups={options['groups']!r} is not between 0 and 500")
        return int(options["groups"])

    @property
    def device_server(self) -> str:
        return self._settings.server

    @property
    def device_options(self) -> Mapping[str, str]:
        return {"tenant": self._options["tenant"]}

    async def open(self) -> None:
        answer = await self._tenant("read the tenant's configuration")
        if "authentication.targettoken.enabled" not in answer:
            raise UnsupportedServer(
                f"hawkbit: {self._api.server}: its configuration has no "
                f"authentication.targettoken.enabled; is this hawkBit?"
            )
        self._configs = answer

    async def _tenant(self, what: str) -> dict[str, Any]:
        try:
            answer = await self._api.json("GET", "rest/v1/system/configs", what, quiet=True)
        except RequestRefused as error:
            if error.status != 404:
                raise
            raise UnsupportedServer(
                f"hawkbit: {self._api.server} has no /rest/v1/system/configs; is this hawkBit?"
            ) from None
        if not isinstance(answer, dict):
            raise UnsupportedServer(f"hawkbit: {what}: the answer is no JSON object")
        return answer

    # --- devices

    async def provision(self, devices: Sequence[str]) -> dict[str, Credential]:
        if not self._configs:
            await self.open()
        await self._set_tenant()
        gateway = await self._gateway_token() if self._options["credentials"] == "gateway" else ""
        for start in range(0, len(devices), TARGETS_AT_ONCE):
            chunk = list(devices[start : start + TARGETS_AT_ONCE])
            self._tokens |= {name: self._settings.new_token(16) for name in chunk}
            await finish(self._create_targets(chunk))
        if gateway:
            return {name: Credential(gateway, TokenKind.GATEWAY) for name in devices}
        return {name: Credential(self._tokens[name]) for name in devices}

    async def _set_tenant(self) -> None:
        await finish(self._set("authentication.targettoken.enabled", True))
        if self._options["polling"]:
            await finish(self._set_polling(self._options["polling"]))
        if self._options["confirmation"]:
            wanted = self._options["confirmation"] == "on"
            await finish(self._set("user.confirmation.flow.enabled", wanted))

    async def _set_polling(self, polling: str) -> None:
        try:
            await self._set("pollingTime", polling)
        except RequestRefused as error:
            if error.status != 400:
                raise
            raise BadOption(
                f"hawkbit: polling={polling!r} is not a time that the server allows; unless it was "
                f"told otherwise that is {POLLING_LIMITS}"
            ) from None

    async def _gateway_token(self) -> str:
        await finish(self._set("authentication.gatewaytoken.enabled", True))
        key = "authentication.gatewaytoken.key"
        token = self._configs.get(key, {}).get("value") or self._settings.new_token(16)
        await finish(self._set(key, token))
        return str(token)

    async def _set(self, key: str, value: object) -> None:
        """Change a setting of the tenant and remember how it was."""
        before = self._configs.get(key, {})
        if before.get("value") == value:
            return
        path = f"rest/v1/system/configs/{key}"
        self._undo.add(Stage.SETTING, f"setting {key}", lambda: self._restore(key, before))
        await self._api.call("PUT", path, f"set {key}", body={"value": value}, quiet=True)
        self._configs[key] = {**before, "value": value, "global": False}

    async def _restore(self, key: str, before: Mapping[str, Any]) -> None:
        """The former value; a setting that the tenant had left to the server is left to it."""
        path, what = f"rest/v1/system/configs/{key}", f"restore {key}"
        if before.get("global", True):
            await self._api.call("DELETE", path, what, gone=True)
        else:
            body = {"value": before["value"]}
            await self._api.call("PUT", path, what, body=body, quiet=True)
        self._configs[key] = dict(before)

    async def _create_targets(self, names: list[str]) -> None:
        """All or none: hawkBit creates them in one transaction."""
        confirmed = False

        async def remove() -> None:
            await each_in_spite(names, lambda name: self._remove_target(name, confirmed))

        self._undo.add(Stage.DEVICE, f"{len(names)} targets from {names[0]}", remove)
        body = [
            {"controllerId": name, "name": name, "securityToken": self._tokens[name]}
            for name in names
        ]
        what = f"create {len(names)} targets"
        answer = objects(await self._api.json("POST", "rest/v1/targets", what, body=body), what)
        confirmed = True
        made = {target.get("controllerId"): target.get("securityToken") for target in answer}
        for name in names:
            if made.get(name) != self._tokens[name]:
                raise UnsupportedServer(f"hawkbit: {what}: the server did not take {name!r} as is")

    async def _remove_target(self, name: str, confirmed: bool) -> None:
        path = f"rest/v1/targets/{quote(name, safe='')}"
        if not confirmed:
            # The call failed. What has that name is ours only if it has our token as well.
            found = await self._api.call("GET", path, f"look for {name}", gone=True, quiet=True)
            if found.status == 404 or self._tokens[name].encode() not in found.body:
                return
        await self._api.call("DELETE", path, f"remove {name}", gone=True)

    # --- packages

    async def publish(self, image: bytes, version: str) -> Package:
        module = await finish(
            self._create("softwaremodules", {"version": version, "type": "os"}, Stage.PACKAGE)
        )
        path = f"rest/v1/softwaremodules/{module}/artifacts"
        files = {"file": (f"{self._label}.bin", image, "application/octet-stream")}
        what = "upload the image"
        answer = await self._api.json("POST", path, what, files=files)
        (hashes,) = members(answer, f"hawkbit: {what}", "hashes")
        if hashes.get("sha256") != hashlib.sha256(image).hexdigest():
            raise DriverError(f"hawkbit: {what}: the server stored something else")
        body = {"version": version, "type": "os", "modules": [{"id": int(module)}]}
        made = await finish(self._create("distributionsets", body, Stage.PACKAGE))
        return Package(made, version)

    async def _create(self, kind: str, fields: Mapping[str, object], stage: Stage) -> str:
        """One object of a kind that is created in arrays; its id."""
        what = f"create one of {kind}"
        known = self._remove_later(kind, stage)
        body = [{"name": self._label, **fields}]
        answer = objects(await self._api.json("POST", f"rest/v1/{kind}", what, body=body), what)
        if len(answer) != 1 or not isinstance(answer[0].get("id"), int):
            raise UnsupportedServer(f"hawkbit: {what}: the answer names no id")
        known.append(str(answer[0]["id"]))
        return known[0]

    def _remove_later(self, kind: str, stage: Stage) -> list[str]:
        """The list to enter the id into once it is known. An object whose answer was lost is found
        by its name, which no other run has."""
        known: list[str] = []

        async def remove() -> None:
            for made in known or await self._named(kind):
                path = f"rest/v1/{kind}/{made}"
                await self._api.call("DELETE", path, f"remove {kind}", gone=True)

        self._undo.add(stage, f"{kind} called {self._label}", remove)
        return known

    async def _named(self, kind: str) -> list[str]:
        what = f"look for {kind}"
        params: dict[str, str | int] = {"q": f"name=={self._label}"}
        answer = await self._api.json("GET", f"rest/v1/{kind}", what, params=params)
        (content,) = members(answer, f"hawkbit: {what}", "content")
        return [str(one["id"]) for one in objects(content, what)]

    # --- campaigns

    async def start(self, package: Package, devices: Sequence[str]) -> Campaign:
        self._ended.clear()
        if self._groups:
            return await self._start_rollout(package, devices)
        actions: dict[str, str] = {}
        for start in range(0, len(devices), TARGETS_AT_ONCE):
            chunk = devices[start : start + TARGETS_AT_ONCE]
            actions |= await self._assign(package, chunk)
        missing = len(set(devices) - actions.keys())
        if missing:
            raise DriverError(f"hawkbit: {missing} of {len(devices)} devices were not assigned")
        return Campaign(package.id, package, tuple(devices), actions)

    async def _assign(self, package: Package, devices: Sequence[str]) -> dict[str, str]:
        what = f"assign {len(devices)} targets"
        path = f"rest/v1/distributionsets/{package.id}/assignedTargets"
        body = [{"id": name, "type": self._options["type"]} for name in devices]
        answer = await self._api.json("POST", path, what, body=body)
        (assigned,) = members(answer, f"hawkbit: {what}", "assignedActions")
        actions: dict[str, str] = {}
        for action in objects(assigned, what):
            href = action.get("_links", {}).get("self", {}).get("href", "")
            parts = urlsplit(href).path.split("/")  # .../targets/{id}/actions/{action}
            if len(parts) >= 4 and parts[-4] == "targets":
                actions[unquote(parts[-3])] = parts[-1]
        return actions

    async def _start_rollout(self, package: Package, devices: Sequence[str]) -> Campaign:
        rollout = await finish(self._create_rollout(package, devices))
        waited = 0.0
        while (status := await self._rollout_status(rollout)) != "ready":
            if status not in ("creating", "waiting_for_approval") or waited >= READY_SECONDS:
                raise DriverError(f"hawkbit: the rollout is {status} and does not become ready")
            await self._sleep(READY_INTERVAL)
            waited += READY_INTERVAL
        await self._api.call("POST", f"rest/v1/rollouts/{rollout}/start", "start the rollout")
        return Campaign(rollout, package, tuple(devices))

    async def _create_rollout(self, package: Package, devices: Sequence[str]) -> str:
        body = {
            "name": self._label,
            "distributionSetId": int(package.id),
            "targetFilterQuery": _filter(devices),
            "amountGroups": min(self._groups, len(devices)),
            "type": self._options["type"],
            "successCondition": {"condition": "THRESHOLD", "expression": "50"},
            "errorCondition": {"condition": "THRESHOLD", "expression": "100"},
            "errorAction": {"action": "PAUSE", "expression": ""},
        }
        known = self._remove_later("rollouts", Stage.CAMPAIGN)
        answer = await self._api.json("POST", "rest/v1/rollouts", "create a rollout", body=body)
        made, total = members(answer, "hawkbit: create a rollout", "id", "totalTargets")
        known.append(str(made))
        if total != len(devices):
            raise DriverError(f"hawkbit: the rollout has {total} targets, not {len(devices)}")
        return str(made)

    async def _rollout(self, rollout: str) -> dict[str, Any]:
        answer = await self._api.json("GET", f"rest/v1/rollouts/{rollout}", "read the rollout")
        members(answer, "hawkbit: read the rollout", "status", "totalTargetsPerStatus")
        return dict(answer)

    async def _rollout_status(self, rollout: str) -> str:
        return str((await self._rollout(rollout))["status"])

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
        target = f"rest/v1/targets/{quote(name, safe='')}"
        action = await self._action(name, campaign)
        if action is None:
            found = await self._api.call("GET", target, f"read {name}", gone=True, quiet=True)
            return None if found.status == 404 else DriverBelief("pending")
        what = f"read the history of {name}"
        path = f"{target}/actions/{action['id']}/status"
        params: dict[str, str | int] = {"limit": 50, "sort": "id:DESC"}
        history = await self._api.json("GET", path, what, params=params)
        (entries,) = members(history, f"hawkbit: {what}", "content")
        times = [entry.get("timestamp") for entry in objects(entries, what)]
        newest = next((time for time in times if isinstance(time, int)), None)
        return DriverBelief(
            str(action["status"]),
            await self._installed(target, name),
            None if newest is None else datetime.fromtimestamp(newest / 1000, UTC),
        )

    async def _action(self, name: str, campaign: Campaign) -> dict[str, Any] | None:
        """The action of this campaign; a rollout gives targets theirs group by group."""
        actions = f"rest/v1/targets/{quote(name, safe='')}/actions"
        what = f"read the action of {name}"
        known = campaign.actions.get(name)
        params: dict[str, str | int] = {} if known else {"limit": 1, "sort": "id:DESC"}
        path = f"{actions}/{known}" if known else actions
        found = await self._api.call("GET", path, what, params=params, gone=True)
        if found.status == 404:
            return None
        answer = self._api.decode(found, what)
        if known is None:
            (content,) = members(answer, f"hawkbit: {what}", "content")
            if not content:
                return None
            answer = content[0]
        members(answer, f"hawkbit: {what}", "id", "status", "active")
        return dict(answer)

    async def _installed(self, target: str, name: str) -> str | None:
        what = f"read what {name} has installed"
        found = await self._api.call("GET", f"{target}/installedDS", what, gone=True)
        if found.status in (204, 404):
            return None
        (version,) = members(self._api.decode(found, what), f"hawkbit: {what}", "version")
        return str(version)

    def believed(self, belief: DriverBelief, campaign: Campaign) -> Belief:
        return believed_by(VERDICTS, belief, campaign)

    async def tally(self, campaign: Campaign) -> Tally | None:
        if not self._groups:
            return None
        totals = (await self._rollout(campaign.id))["totalTargetsPerStatus"]
        return Tally(totals.get("finished", 0), totals.get("error", 0) + totals.get("cancelled", 0))

    async def settled(self, campaign: Campaign) -> bool:
        """Devices that ended are not asked about again, and the first that has not ends the
        question: all in all a run asks little more than once for each device."""
        if self._groups and await self._rollout_status(campaign.id) in SETTLED_ROLLOUTS:
            return True
        for name in campaign.devices:
            if name in self._ended:
                continue
            action = await self._action(name, campaign)
            if action is None or action["active"]:
                return False
            self._ended.add(name)
        return True

    async def cancel(self, campaign: Campaign) -> None:
        if self._groups and await self._rollout_status(campaign.id) == "running":
            path = f"rest/v1/rollouts/{campaign.id}/pause"
            await self._api.call("POST", path, "pause the rollout")
        await each(campaign.devices, lambda name: self._cancel_action(name, campaign))

    async def _cancel_action(self, name: str, campaign: Campaign) -> None:
        action = await self._action(name, campaign)
        if action is None or not action["active"]:
            return
        path = f"rest/v1/targets/{quote(name, safe='')}/actions/{action['id']}"
        try:
            await self._api.call("DELETE", path, f"cancel {name}", gone=True)
        except RequestRefused as error:
            # 405: it was canceled before, or ended while we asked (CancelActionNotAllowed).
            if error.status != 405:
                raise

    async def cleanup(self) -> None:
        await self._undo.run()

    def hurry(self, seconds: float) -> None:
        self._api.hurry(seconds)

    async def close(self) -> None:
        await self._api.close()


def _filter(devices: Sequence[str]) -> str:
    """RSQL that selects exactly these targets. A long list would not fit into a query, so names
    that share a part of their own are selected by it."""
    common = devices[0]
    for name in devices:
        while not name.startswith(common):
            common = common[:-1]
    ending = devices[0][len(common) :]
    for name in devices:
        while not name[len(common) :].endswith(ending):
            ending = ending[1:]
    pattern = common if len(devices) == 1 else f"{common}*{ending}"
    if PLAIN.fullmatch(pattern):
        return f"controllerId=={pattern}"
    escaped = pattern.replace("\\", "\\\\").replace('"', '\\"')
    return f'controllerId=="{escaped}"'
