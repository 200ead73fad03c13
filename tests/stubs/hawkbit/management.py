"""The management side below `/rest/v1`: the calls that the recordings and a driver need."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.stubs.hawkbit.deployments import Assignment, Deployments
from tests.stubs.hawkbit.errors import REPOSITORY, Plain, Refused, invalid, not_found, unreadable
from tests.stubs.hawkbit.http import (
    Answer,
    Request,
    Resource,
    Response,
    Route,
    multipart_file,
    route,
)
from tests.stubs.hawkbit.management_bodies import (
    parse_assignments,
    parse_name,
    parse_rollout,
    records,
)
from tests.stubs.hawkbit.model import Artifact, DistributionSet, Rollout, SoftwareModule
from tests.stubs.hawkbit.query import TARGET_FIELDS, Fields, page
from tests.stubs.hawkbit.rollouts import OPERATIONS, Rollouts
from tests.stubs.hawkbit.state import SET_TYPES
from tests.stubs.hawkbit.target_resources import TargetResources
from tests.stubs.hawkbit.views import Views

NAMED_FIELDS: Fields[Any] = {
    "id": lambda item: item.id,
    "name": lambda item: item.name,
    "version": lambda item: item.version,
    "type": lambda item: item.type,
}
ROLLOUT_FIELDS: Fields[Rollout] = {
    "id": lambda item: item.id,
    "name": lambda item: item.name,
    "status": lambda item: item.status,
}


class ManagementResources:
    """Everything of `/rest/v1`; what concerns targets is in `target_resources`."""

    def __init__(self, deployments: Deployments, rollouts: Rollouts) -> None:
        self.state = deployments.state
        self.deployments = deployments
        self.rollouts = rollouts
        self.targets = TargetResources(deployments, rollouts)
        modules, sets = "/rest/v1/softwaremodules", "/rest/v1/distributionsets"
        module, one_set = modules + "/{module:int}", sets + "/{ds:int}"
        rollout = "/rest/v1/rollouts/{rollout:int}"
        group = rollout + "/deploygroups/{group:int}"
        self.routes: tuple[Route, ...] = self.targets.routes + (
            route("GET", "/rest/v1/system/configs", self.get_configs),
            route("GET", "/rest/v1/system/configs/{key}", self.get_config),
            route("PUT", "/rest/v1/system/configs/{key}", self.put_config),
            route("DELETE", "/rest/v1/system/configs/{key}", self.delete_config),
            route("GET", modules, self.list_modules),
            route("POST", modules, self.post_modules),
            route("GET", module, self.get_module),
            route("DELETE", module, self.delete_module),
            route("GET", module + "/artifacts", self.list_artifacts),
            route("POST", module + "/artifacts", self.post_artifact),
            route("GET", module + "/artifacts/{artifact:int}", self.get_artifact),
            route("DELETE", module + "/artifacts/{artifact:int}", self.delete_artifact),
            route("GET", module + "/artifacts/{artifact:int}/download", self.download_artifact),
            route("GET", "/rest/v1/distributionsettypes", self.list_set_types),
            route("GET", sets, self.list_sets),
            route("POST", sets, self.post_sets),
            route("GET", one_set, self.get_set),
            route("DELETE", one_set, self.delete_set),
            route("POST", one_set + "/assignedTargets", self.post_assigned),
            route("GET", one_set + "/assignedTargets", self.list_assigned),
            route("GET", one_set + "/installedTargets", self.list_installed),
            route("GET", "/rest/v1/rollouts", self.list_rollouts),
            route("POST", "/rest/v1/rollouts", self.post_rollout),
            route("GET", rollout, self.get_rollout),
            route("DELETE", rollout, self.delete_rollout),
            route("POST", rollout + "/{operation}", self.post_operation),
            route("GET", rollout + "/deploygroups", self.list_groups),
            route("GET", group, self.get_group),
            route("GET", group + "/targets", self.list_group_targets),
        )

    def _views(self, request: Request) -> Views:
        return Views(self.deployments, self.rollouts, request)

    # Tenant configuration

    def get_configs(self, request: Request) -> Answer:
        return Resource(self._views(request).configs())

    def get_config(self, request: Request, key: str) -> Answer:
        return Resource(self._views(request).config(key, links=True))

    def put_config(self, request: Request, key: str) -> Answer:
        body = request.json()
        if not isinstance(body, dict) or "value" not in body:
            raise unreadable()
        self.state.configure(key, body["value"])
        return Response(204)

    def delete_config(self, request: Request, key: str) -> Answer:
        self.state.setting(key)
        self.state.config.pop(key, None)
        return Response(204)

    # Software modules and artifacts

    def list_modules(self, request: Request) -> Answer:
        kept = [module for module in self.state.modules.values() if not module.deleted]
        return Resource(page(request, kept, NAMED_FIELDS, self._views(request).module))

    def post_modules(self, request: Request) -> Answer:
        made = [
            self.state.create_module(
                parse_name(record, "name"),
                parse_name(record, "version"),
                parse_name(record, "type"),
                parse_name(record, "description", ""),
            )
            for record in records(request.json())
        ]
        views = self._views(request)
        return Resource([views.module(module) for module in made], 201)

    def get_module(self, request: Request, module: int) -> Answer:
        return Resource(self._views(request).module(self.state.module(module), full=True))

    def delete_module(self, request: Request, module: int) -> Answer:
        found = self.state.module(module)
        if any(found in ds.modules for ds in self.state.sets.values() if not ds.deleted):
            found.deleted = True  # what a set holds stays readable for its actions
        else:
            del self.state.modules[module]
        return Response(204)

    def list_artifacts(self, request: Request, module: int) -> Answer:
        found, views = self.state.module(module), self._views(request)
        return Resource([views.artifact(found, artifact) for artifact in found.artifacts])

    def post_artifact(self, request: Request, module: int) -> Answer:
        found = self.state.module(module)
        filename, content = multipart_file(request, "file")
        filename = request.query.get("filename") or filename
        if not filename or any(c in filename for c in '\\/<>*?:"|'):
            raise invalid("Invalid file name")
        for algorithm in ("md5", "sha1", "sha256"):
            expected = request.query.get(f"{algorithm}sum")
            if expected and expected.lower() != hashlib.new(algorithm, content).hexdigest():
                raise Refused(
                    400,
                    REPOSITORY + f"Invalid{algorithm.upper()}HashException",
                    f"artifact.uploadFailed.checksum.{algorithm}.match",
                    f"Upload failed: {algorithm} checksum does not match",
                )
        artifact = self.state.add_artifact(found, filename, content)
        return Resource(self._views(request).artifact(found, artifact), 201)

    def _artifact(self, module: int, artifact: int) -> tuple[SoftwareModule, Artifact]:
        found = self.state.module(module)
        for each in found.artifacts:
            if each.id == artifact:
                return found, each
        raise not_found("Artifact", artifact)

    def get_artifact(self, request: Request, module: int, artifact: int) -> Answer:
        return Resource(self._views(request).artifact(*self._artifact(module, artifact)))

    def delete_artifact(self, request: Request, module: int, artifact: int) -> Answer:
        found, each = self._artifact(module, artifact)
        found.artifacts.remove(each)
        return Response(204)

    def download_artifact(self, request: Request, module: int, artifact: int) -> Answer:
        _, each = self._artifact(module, artifact)
        return Response(200, each.content, {"content-type": "application/octet-stream"})

    # Distribution sets

    def list_set_types(self, request: Request) -> Answer:
        fields: Fields[Any] = {
            "id": lambda item: item.id,
            "key": lambda item: item.key,
            "name": lambda item: item.name,
        }
        return Resource(page(request, SET_TYPES, fields, self._views(request).set_type))

    def list_sets(self, request: Request) -> Answer:
        kept = [ds for ds in self.state.sets.values() if not ds.deleted]
        return Resource(page(request, kept, NAMED_FIELDS, self._views(request).distribution_set))

    def post_sets(self, request: Request) -> Answer:
        made: list[DistributionSet] = []
        for record in records(request.json()):
            modules = record.get("modules") or []
            if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
                raise unreadable()
            identifiers = [module.get("id") for module in modules]
            if not all(type(identifier) is int for identifier in identifiers):
                raise unreadable()
            made.append(
                self.state.create_set(
                    parse_name(record, "name"),
                    parse_name(record, "version"),
                    parse_name(record, "type", "os_app"),
                    identifiers,
                    parse_name(record, "description", ""),
                    record.get("requiredMigrationStep") is True,
                )
            )
        views = self._views(request)
        return Resource([views.distribution_set(ds) for ds in made], 201)

    def get_set(self, request: Request, ds: int) -> Answer:
        found = self.state.distribution_set(ds)
        return Resource(self._views(request).distribution_set(found, full=True))

    def delete_set(self, request: Request, ds: int) -> Answer:
        self.state.distribution_set(ds).deleted = True
        return Response(204)

    def post_assigned(self, request: Request, ds: int) -> Answer:
        found = self.state.distribution_set(ds)
        wanted = parse_assignments(request.json())
        assignments: list[Assignment] = []
        for controller_id, make in wanted:
            target = self.state.targets.get(controller_id)
            if target is not None:  # hawkBit passes over targets that it does not know
                assignments.append(make(target))
        offline = request.query.get("offline") == "true"
        actions, already = self.deployments.assign(found, assignments, offline)
        return Resource(self._views(request).assigned(actions, already))

    def list_assigned(self, request: Request, ds: int) -> Answer:
        found = self.state.distribution_set(ds)
        kept = [target for target in self.state.targets.values() if target.assigned is found]
        return Resource(page(request, kept, TARGET_FIELDS, self._views(request).target))

    def list_installed(self, request: Request, ds: int) -> Answer:
        found = self.state.distribution_set(ds)
        kept = [target for target in self.state.targets.values() if target.installed is found]
        return Resource(page(request, kept, TARGET_FIELDS, self._views(request).target))

    # Rollouts

    def list_rollouts(self, request: Request) -> Answer:
        kept = [rollout for rollout in self.state.rollouts.values() if not rollout.deleted]
        views = self._views(request)
        full = request.query.get("representation") == "full"
        return Resource(
            page(request, kept, ROLLOUT_FIELDS, lambda rollout: views.rollout(rollout, full))
        )

    def post_rollout(self, request: Request) -> Answer:
        order = parse_rollout(request.json(), self.state)
        rollout = self.rollouts.create(order)
        return Resource(self._views(request).rollout(rollout, full=True), 201)

    def get_rollout(self, request: Request, rollout: int) -> Answer:
        return Resource(self._views(request).rollout(self.rollouts.rollout(rollout), full=True))

    def delete_rollout(self, request: Request, rollout: int) -> Answer:
        found = self.rollouts.rollout(rollout)
        found.deleted, found.status = True, "deleted"
        return Response(204)

    def post_operation(self, request: Request, rollout: int, operation: str) -> Answer:
        if operation not in OPERATIONS:
            raise Plain(404)
        self.rollouts.operate(self.rollouts.rollout(rollout), operation)
        return Response(204)

    def list_groups(self, request: Request, rollout: int) -> Answer:
        found, views = self.rollouts.rollout(rollout), self._views(request)
        fields: Fields[Any] = {
            "id": lambda item: item.id,
            "name": lambda item: item.name,
            "status": lambda item: item.status,
        }
        return Resource(page(request, found.groups, fields, lambda g: views.group(found, g)))

    def _group(self, rollout: int, group: int) -> tuple[Rollout, Any]:
        found = self.rollouts.rollout(rollout)
        for each in found.groups:
            if each.id == group:
                return found, each
        raise not_found("RolloutGroup", group)

    def get_group(self, request: Request, rollout: int, group: int) -> Answer:
        return Resource(self._views(request).group(*self._group(rollout, group)))

    def list_group_targets(self, request: Request, rollout: int, group: int) -> Answer:
        _, found = self._group(rollout, group)
        view = self._views(request).target
        return Resource(page(request, found.targets, TARGET_FIELDS, view, "controllerid"))
