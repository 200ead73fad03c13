"""The device side: `/{tenant}/controller/v1/{controllerId}` and below (DDI v1)."""

from __future__ import annotations

from typing import Any

from tests.stubs.hawkbit.artifacts import download, md5sum
from tests.stubs.hawkbit.deployments import Deployments
from tests.stubs.hawkbit.device_view import DeviceView
from tests.stubs.hawkbit.errors import Plain, foreign_action, unreadable
from tests.stubs.hawkbit.feedback import UPDATE_FEEDBACK, Feedback
from tests.stubs.hawkbit.http import Answer, Request, Resource, Response, Route, route
from tests.stubs.hawkbit.model import (
    Action,
    ActionStatus,
    Artifact,
    SoftwareModule,
    Target,
)
from tests.stubs.hawkbit.state import MODULE_TYPES

MODES = ("merge", "replace", "remove")


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise unreadable()
    return value


def _whole(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise unreadable()


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise unreadable()


def parse_feedback(content: Any) -> Feedback:
    """Members that hawkBit does not know (`id`, `time`) are ignored. Raises Refused(400)."""
    body = _object(content)
    status = _object(body.get("status"))
    result = _object(status.get("result"))
    execution, finished = status.get("execution"), result.get("finished")
    if not isinstance(execution, str) or not isinstance(finished, str):
        raise unreadable()
    if finished not in UPDATE_FEEDBACK.get(execution, {}):
        raise unreadable()
    if result.get("progress") is not None:
        progress = _object(result["progress"])
        _whole(progress.get("cnt")), _whole(progress.get("of"))
    return Feedback(
        execution,
        finished,
        _texts(status.get("details")),
        _whole(status.get("code")),
        _whole(body.get("timestamp")),
    )


def parse_config_data(content: Any) -> tuple[str, dict[str, str | None]]:
    """(mode, data). Raises Refused(400)."""
    body = _object(content)
    mode = body.get("mode")
    data = _object(body.get("data"))
    if mode is not None and mode not in MODES:
        raise unreadable()
    found: dict[str, str | None] = {}
    for key, value in data.items():
        if isinstance(value, dict | list):
            raise unreadable()
        if isinstance(value, bool):
            value = str(value).lower()
        # Jackson turns numbers into text where text is wanted.
        found[key] = value if value is None else str(value)
    if not found:
        raise unreadable()
    return mode or "merge", found


class DdiResources:
    """Handlers of one tenant; `tenant` is the path's spelling, kept in the links."""

    def __init__(self, deployments: Deployments) -> None:
        self.state = deployments.state
        self.deployments = deployments
        self.view = DeviceView(self.state)
        base = "/{tenant}/controller/v1/{device}"
        action = "/{action:int}"
        artifacts = base + "/softwaremodules/{module:int}/artifacts"
        self.routes: tuple[Route, ...] = (
            route("GET", base, self.poll),
            route("PUT", base + "/configData", self.put_config_data),
            route("GET", base + "/deploymentBase" + action, self.get_deployment),
            route("POST", base + "/deploymentBase" + action + "/feedback", self.post_feedback),
            route("GET", base + "/cancelAction" + action, self.get_cancel),
            route("POST", base + "/cancelAction" + action + "/feedback", self.post_cancel),
            route("PUT", base + "/installedBase", self.put_installed),
            route("GET", base + "/installedBase" + action, self.get_installed),
            route("GET", base + "/confirmationBase", self.get_confirmation_base),
            route("POST", base + "/confirmationBase/activateAutoConfirm", self.activate),
            route("POST", base + "/confirmationBase/deactivateAutoConfirm", self.deactivate),
            route("GET", base + "/confirmationBase" + action, self.get_confirmation),
            route("POST", base + "/confirmationBase" + action + "/feedback", self.post_confirm),
            route("GET", artifacts, self.list_artifacts),
            route("GET", artifacts + "/{filename}.MD5SUM", self.get_md5sum),
            route("GET", artifacts + "/{filename}", self.get_artifact),
        )

    def _action(self, device: str, identifier: int) -> Action:
        target = self.state.target(device)
        action = self.state.action(identifier)
        if action.target is not target:
            raise foreign_action(identifier, device)
        return action

    def _link(self, request: Request, tenant: str, target: Target, rest: str) -> dict[str, str]:
        return {"href": f"{request.base}/{tenant}/controller/v1/{target.controller_id}/{rest}"}

    # Polling

    def poll(self, request: Request, tenant: str, device: str) -> Answer:
        target = self.state.polled(device, request.client)
        active = self.view.current(target)
        self.deployments.expire(active)
        links: dict[str, Any] = {}
        if active is not None:
            links.update(self._action_link(request, tenant, active))
        installed = self.view.installed(target)
        if installed is not None:
            rest = f"installedBase/{installed.id}"
            links["installedBase"] = self._link(request, tenant, target, rest)
        if target.request_attributes:
            links["configData"] = self._link(request, tenant, target, "configData")
        body: dict[str, Any] = {"config": {"polling": {"sleep": self.view.sleep(active)}}}
        if links:  # absent, not empty, when there is nothing to do
            body["_links"] = links
        return Resource(body)

    def _action_link(self, request: Request, tenant: str, action: Action) -> dict[str, Any]:
        if action.status is ActionStatus.WAIT_FOR_CONFIRMATION:
            name, query = "confirmationBase", f"?c={self.view.etag(action)}"
        elif action.canceling_or_canceled:
            name, query = "cancelAction", ""
        else:
            name, query = "deploymentBase", f"?c={self.view.etag(action)}"
        return {name: self._link(request, tenant, action.target, f"{name}/{action.id}{query}")}

    def put_config_data(self, request: Request, tenant: str, device: str) -> Answer:
        mode, data = parse_config_data(request.json())
        self.deployments.attributes(self.state.target(device), mode, data)
        return None

    # Deployments

    def get_deployment(self, request: Request, tenant: str, device: str, action: int) -> Answer:
        found = self._action(device, action)
        self.deployments.expire(found)
        if found.canceling_or_canceled or found.status is ActionStatus.WAIT_FOR_CONFIRMATION:
            raise Plain(404)
        answer = Resource(self._deployment(request, found, "deployment"))
        self.deployments.retrieved(
            found, "Target retrieved update action and should start now the download."
        )
        return answer

    def _deployment(self, request: Request, action: Action, name: str) -> dict[str, Any]:
        modules = action.distribution_set.modules
        deployment: dict[str, Any] = dict(self.view.handling(action))
        deployment["chunks"] = [self._chunk(request, action, module) for module in modules]
        window = self.view.window_open(action)
        if window is not None:
            deployment["maintenanceWindow"] = "available" if window else "unavailable"
        body: dict[str, Any] = {"id": str(action.id), name: deployment}
        messages = self.view.device_messages(action, request.number("actionHistory", 0))
        if messages:
            body["actionHistory"] = {"status": action.status.name, "messages": messages}
        return body

    def _chunk(self, request: Request, action: Action, module: SoftwareModule) -> dict[str, Any]:
        chunk: dict[str, Any] = {
            "part": MODULE_TYPES[module.type][1],
            "version": module.version,
            "name": module.name,
            "artifacts": [
                self._artifact(request, action.target, module, each) for each in module.artifacts
            ],
        }
        visible = [{"key": key, "value": value} for key, value, shown in module.metadata if shown]
        if visible:
            chunk["metadata"] = visible
        return chunk

    def _artifact(
        self, request: Request, target: Target, module: SoftwareModule, artifact: Artifact
    ) -> dict[str, Any]:
        # Unlike the links of a poll these carry the tenant's own spelling.
        rest = f"softwaremodules/{module.id}/artifacts/{artifact.filename}"
        link = self._link(request, self.state.settings.tenant, target, rest)
        sums = {"href": link["href"] + ".MD5SUM"}
        links = {"download-http": link, "md5sum-http": sums}
        if self.state.settings.https_links:
            links = {"download": link, "md5sum": sums} | links
        return {
            "filename": artifact.filename,
            "hashes": {"sha1": artifact.sha1, "md5": artifact.md5, "sha256": artifact.sha256},
            "size": len(artifact.content),
            "_links": links,
        }

    def post_feedback(self, request: Request, tenant: str, device: str, action: int) -> Answer:
        feedback = parse_feedback(request.json())
        self.deployments.feedback(self._action(device, action), feedback)
        return None

    # Cancelling

    def get_cancel(self, request: Request, tenant: str, device: str, action: int) -> Answer:
        found = self._action(device, action)
        if not found.canceling_or_canceled:
            raise Plain(404)
        self.deployments.retrieved(
            found, "Target retrieved cancel action and should start now the cancellation."
        )
        return Resource({"id": str(found.id), "cancelAction": {"stopId": str(found.id)}})

    def post_cancel(self, request: Request, tenant: str, device: str, action: int) -> Answer:
        feedback = parse_feedback(request.json())
        self.deployments.cancel_feedback(self._action(device, action), feedback)
        return None

    # What is installed

    def get_installed(self, request: Request, tenant: str, device: str, action: int) -> Answer:
        found = self._action(device, action)
        if found.active or found.canceling_or_canceled:
            raise Plain(404)
        return Resource(self._deployment(request, found, "deployment"))

    def put_installed(self, request: Request, tenant: str, device: str) -> Answer:
        body = _object(request.json())
        name, version = body.get("name"), body.get("version")
        if not isinstance(name, str) or not isinstance(version, str):
            raise unreadable()
        target = self.state.target(device)
        news = self.deployments.installed_offline(target, self.state.set_by_name(name, version))
        return Response(201 if news else 200)

    # Confirmation

    def get_confirmation_base(self, request: Request, tenant: str, device: str) -> Answer:
        target = self.state.polled(device, request.client)
        status: dict[str, Any] = {"active": False, "activatedAt": 0}
        other = "activateAutoConfirm"
        if target.auto_confirm is not None:
            status = {
                "active": True,
                "initiator": target.auto_confirm.initiator,
                "remark": target.auto_confirm.remark,
                "activatedAt": target.auto_confirm.activated_at,
            }
            other = "deactivateAutoConfirm"
        rest = f"confirmationBase/{other}"
        links = {other: self._link(request, tenant, target, rest)}
        active = self.view.current(target)
        if active is not None and active.status is ActionStatus.WAIT_FOR_CONFIRMATION:
            links.update(self._action_link(request, tenant, active))
        return Resource({"autoConfirm": status, "_links": links})

    def get_confirmation(self, request: Request, tenant: str, device: str, action: int) -> Answer:
        found = self._action(device, action)
        self.deployments.expire(found)
        if found.status is not ActionStatus.WAIT_FOR_CONFIRMATION:
            raise Plain(404)
        return Resource(self._deployment(request, found, "confirmation"))

    def post_confirm(self, request: Request, tenant: str, device: str, action: int) -> Answer:
        body = _object(request.json())
        said = body.get("confirmation")
        if said not in ("confirmed", "denied"):
            raise unreadable()
        code, details = _whole(body.get("code")), list(_texts(body.get("details")))
        self.deployments.confirm(self._action(device, action), said == "confirmed", code, details)
        return None

    def activate(self, request: Request, tenant: str, device: str) -> Answer:
        body = _object(request.json()) if request.body else {}
        initiator, remark = body.get("initiator") or "", body.get("remark") or ""
        if not isinstance(initiator, str) or not isinstance(remark, str):
            raise unreadable()
        self.deployments.activate_auto_confirm(self.state.target(device), initiator, remark)
        return None

    def deactivate(self, request: Request, tenant: str, device: str) -> Answer:
        self.state.target(device).auto_confirm = None
        return None

    # Artifacts

    def list_artifacts(self, request: Request, tenant: str, device: str, module: int) -> Answer:
        target, found = self.state.target(device), self.state.module(module)
        return Resource([self._artifact(request, target, found, each) for each in found.artifacts])

    def _file(self, device: str, module: int, filename: str) -> tuple[Action, Artifact]:
        """An artifact, and the newest action that entitles the target to it."""
        target, found = self.state.target(device), self.state.module(module)
        artifact = next((a for a in found.artifacts if a.filename == filename), None)
        if artifact is None:
            raise Plain(404)
        entitled = [a for a in target.actions if found in a.distribution_set.modules]
        if not entitled:
            raise Plain(404)
        return entitled[-1], artifact

    def get_artifact(
        self, request: Request, tenant: str, device: str, module: int, filename: str
    ) -> Answer:
        action, artifact = self._file(device, module, filename)
        response = download(request, artifact)
        if "range" not in request.headers and response.status != 412:
            self.deployments.downloads(action, request.path)
        return response

    def get_md5sum(
        self, request: Request, tenant: str, device: str, module: int, filename: str
    ) -> Answer:
        action, artifact = self._file(device, module, filename)
        self.deployments.downloads(action, request.path)
        return md5sum(artifact)
