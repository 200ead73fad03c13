"""`/rest/v1/targets` and what lies below one target: its actions, sets and attributes."""

from __future__ import annotations

from tests.stubs.hawkbit.deployments import Deployments
from tests.stubs.hawkbit.errors import Plain, invalid, unreadable
from tests.stubs.hawkbit.http import Answer, Request, Resource, Response, Route, route
from tests.stubs.hawkbit.management_bodies import parse_assignments, parse_name, records
from tests.stubs.hawkbit.model import Action, StatusEntry
from tests.stubs.hawkbit.query import TARGET_FIELDS, Fields, page
from tests.stubs.hawkbit.rollouts import Rollouts
from tests.stubs.hawkbit.views import Views

ACTION_FIELDS: Fields[Action] = {
    "id": lambda action: action.id,
    "status": lambda action: action.status.value,
    "active": lambda action: str(action.active).lower(),
    "weight": lambda action: action.weight,
}
STATUS_FIELDS: Fields[StatusEntry] = {
    "id": lambda entry: entry.id,
    "reportedat": lambda entry: entry.reported_at,
    "timestamp": lambda entry: entry.timestamp,
}


class TargetResources:
    def __init__(self, deployments: Deployments, rollouts: Rollouts) -> None:
        self.state = deployments.state
        self.deployments = deployments
        self.rollouts = rollouts
        targets, one = "/rest/v1/targets", "/rest/v1/targets/{device}"
        action = one + "/actions/{action:int}"
        self.routes: tuple[Route, ...] = (
            route("GET", targets, self.list_targets),
            route("POST", targets, self.post_targets),
            route("GET", one, self.get_target),
            route("PUT", one, self.put_target),
            route("DELETE", one, self.delete_target),
            route("GET", one + "/attributes", self.get_attributes),
            route("GET", one + "/assignedDS", self.get_assigned),
            route("POST", one + "/assignedDS", self.post_assigned),
            route("GET", one + "/installedDS", self.get_installed),
            route("GET", one + "/actions", self.list_actions),
            route("GET", action, self.get_action),
            route("PUT", action, self.put_action),
            route("DELETE", action, self.delete_action),
            route("GET", action + "/status", self.list_status),
        )

    def _views(self, request: Request) -> Views:
        return Views(self.deployments, self.rollouts, request)

    def _action(self, device: str, action: int) -> Action:
        """Raises Plain(404) for another target's action."""
        target, found = self.state.target(device), self.state.action(action)
        if found.target is not target:
            raise Plain(404)
        return found

    def list_targets(self, request: Request) -> Answer:
        found = self.state.targets.values()
        return Resource(page(request, found, TARGET_FIELDS, self._views(request).target))

    def post_targets(self, request: Request) -> Answer:
        made = [
            self.state.create_target(
                parse_name(record, "controllerId"),
                parse_name(record, "name", ""),
                parse_name(record, "securityToken", ""),
                parse_name(record, "description", ""),
            )
            for record in records(request.json())
        ]
        views = self._views(request)
        return Resource([views.target(target) for target in made], 201)

    def get_target(self, request: Request, device: str) -> Answer:
        return Resource(self._views(request).target(self.state.target(device), full=True))

    def put_target(self, request: Request, device: str) -> Answer:
        target, body = self.state.target(device), request.json()
        if not isinstance(body, dict):
            raise unreadable()
        if body.get("requestAttributes") is False:
            raise invalid("requestAttributes can only be set to true")
        target.name = parse_name(body, "name", target.name)
        target.description = parse_name(body, "description", target.description)
        target.security_token = parse_name(body, "securityToken", target.security_token)
        target.request_attributes |= body.get("requestAttributes") is True
        target.modified_at = self.state.now_ms()
        return self.get_target(request, device)

    def delete_target(self, request: Request, device: str) -> Answer:
        self.state.delete_target(device)
        return Response(204)

    def get_attributes(self, request: Request, device: str) -> Answer:
        attributes = self.state.target(device).attributes
        return Resource(attributes) if attributes else Response(204)

    def get_assigned(self, request: Request, device: str) -> Answer:
        ds = self.state.target(device).assigned
        return Resource(self._views(request).distribution_set(ds, True)) if ds else Response(204)

    def get_installed(self, request: Request, device: str) -> Answer:
        ds = self.state.target(device).installed
        return Resource(self._views(request).distribution_set(ds, True)) if ds else Response(204)

    def post_assigned(self, request: Request, device: str) -> Answer:
        """The same assignment from the target's end: `id` is the distribution set's."""
        target, body = self.state.target(device), request.json()
        record = body[0] if isinstance(body, list) and len(body) == 1 else body
        if not isinstance(record, dict) or type(record.get("id")) is not int:
            raise unreadable()
        ds = self.state.distribution_set(record["id"])
        (_, make), *_ = parse_assignments([record | {"id": device}])
        offline = request.query.get("offline") == "true"
        actions, already = self.deployments.assign(ds, [make(target)], offline)
        return Resource(self._views(request).assigned(actions, already))

    def list_actions(self, request: Request, device: str) -> Answer:
        found = self.state.target(device).actions
        return Resource(page(request, found, ACTION_FIELDS, self._views(request).action))

    def get_action(self, request: Request, device: str, action: int) -> Answer:
        return Resource(self._views(request).action(self._action(device, action), full=True))

    def put_action(self, request: Request, device: str, action: int) -> Answer:
        found, body = self._action(device, action), request.json()
        if not isinstance(body, dict):
            raise unreadable()
        if body.get("forceType") != "forced":
            raise invalid("Resource supports only switch to FORCED.")
        self.deployments.force(found)
        return Resource(self._views(request).action(found, full=True))

    def delete_action(self, request: Request, device: str, action: int) -> Answer:
        force = request.query.get("force", "false").lower()
        if force not in ("true", "false"):
            raise invalid("force is not a boolean")
        self.deployments.cancel(self._action(device, action), force == "true")
        return Response(204)

    def list_status(self, request: Request, device: str, action: int) -> Answer:
        found = self._action(device, action).history
        return Resource(page(request, found, STATUS_FIELDS, self._views(request).status))
