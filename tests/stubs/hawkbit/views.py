"""JSON of the management side: the recorded key sets, in lists (short) and alone (with links)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.stubs.hawkbit.deployments import Deployments
from tests.stubs.hawkbit.http import Request
from tests.stubs.hawkbit.model import (
    Action,
    Artifact,
    ConfigValue,
    DistributionSet,
    ForceType,
    Rollout,
    RolloutGroup,
    SoftwareModule,
    StatusEntry,
    Target,
)
from tests.stubs.hawkbit.rollouts import Rollouts
from tests.stubs.hawkbit.schedule import Schedule, seconds
from tests.stubs.hawkbit.state import CONFIG_DEFAULTS, MODULE_TYPES, TENANT_OWN, SetType, set_type

Json = dict[str, Any]

PAGED = "?offset=0&limit=50"
NEWEST_FIRST = PAGED + "&sort=id%3ADESC"


class Views:
    """Renders for one request: links begin as the client wrote its own."""

    def __init__(self, deployments: Deployments, rollouts: Rollouts, request: Request) -> None:
        self.state = deployments.state
        self.rollouts = rollouts
        self.base = f"{request.base}/rest/v1"

    def _href(self, path: str) -> Json:
        return {"href": f"{self.base}/{path}"}

    def _audit(self, created: int, modified: int, by: str = "", changed_by: str = "") -> Json:
        user = self.state.settings.user
        return {
            "createdBy": by or user,
            "createdAt": created,
            "lastModifiedBy": changed_by or user,
            "lastModifiedAt": modified,
        }

    # Configuration

    def config(self, key: str, links: bool) -> Json:
        stored: ConfigValue | None = self.state.config.get(key)
        body: Json = {"value": self.state.setting(key)}
        body["global"] = stored is None and key not in TENANT_OWN
        if stored is not None:
            body["lastModifiedAt"] = stored.modified_at
            body["lastModifiedBy"] = stored.modified_by
            body["createdAt"] = stored.created_at
            body["createdBy"] = stored.modified_by
        href = self._href(f"system/configs/{key}")
        if links:
            body["_links"] = {"self": href}
        else:
            body["links"] = [{"rel": "self"} | href]
        return body

    def configs(self) -> Json:
        return {key: self.config(key, links=False) for key in CONFIG_DEFAULTS}

    # Targets

    def target(self, target: Target, full: bool = False) -> Json:
        body = self._audit(
            target.created_at, target.modified_at, target.created_by, target.modified_by
        )
        body["name"] = target.name
        if target.description:
            body["description"] = target.description
        body["controllerId"] = target.controller_id
        body["updateStatus"] = target.update_status.value
        if target.last_poll is not None:
            body["lastControllerRequestAt"] = target.last_poll
        if target.installed_at is not None:
            body["installedAt"] = target.installed_at
        if target.address is not None and target.last_poll is not None:
            body["ipAddress"] = target.address
            body["address"] = f"http://{target.address}"
            expected = target.last_poll + 1000 * seconds(self.state.setting("pollingTime"))
            grace = 1000 * seconds(self.state.setting("pollingOverdueTime"))
            body["pollStatus"] = {
                "lastRequestAt": target.last_poll,
                "nextExpectedRequestAt": expected,
                "overdue": self.state.now_ms() > expected + grace,
            }
        body["securityToken"] = target.security_token
        body["requestAttributes"] = target.request_attributes
        if self.state.setting("user.confirmation.flow.enabled"):
            body["autoConfirmActive"] = target.auto_confirm is not None
        path = f"targets/{quote(target.controller_id, safe='')}"
        links = {"self": self._href(path)}
        if full:
            for name in ("assignedDS", "installedDS", "attributes"):
                links[name] = self._href(f"{path}/{name}")
            links["actions"] = self._href(f"{path}/actions{NEWEST_FIRST}")
            links["metadata"] = self._href(f"{path}/metadata")
        body["_links"] = links
        return body

    def action(self, action: Action, full: bool = False) -> Json:
        path = f"targets/{quote(action.target.controller_id, safe='')}"
        mine = f"{path}/actions/{action.id}"
        body = self._audit(action.created_at, action.modified_at)
        body["id"] = action.id
        body["type"] = "cancel" if action.canceling_or_canceled else "update"
        body["active"] = action.active
        body["status"] = action.status.value
        if action.last_code is not None:
            body["lastStatusCode"] = action.last_code
        body["forceType"] = action.force_type.value
        if action.force_type is ForceType.TIMEFORCED:
            body["forceTime"] = action.force_time
        body["weight"] = action.weight
        if action.window is not None:
            start = Schedule(action.window).next_start(self.state.now())
            window: Json = {
                "schedule": action.window.schedule,
                "duration": action.window.duration,
                "timezone": action.window.timezone,
            }
            if start is not None:
                window["nextStartAt"] = int(start * 1000)
            body["maintenanceWindow"] = window
        if action.rollout is not None:
            body["rollout"] = action.rollout.id
            body["rolloutName"] = action.rollout.name
        links = {"self": self._href(mine)}
        if full:
            if action.canceling_or_canceled:
                links["canceledaction"] = self._href(mine)
            ds = action.distribution_set
            links["target"] = self._href(path) | {"name": action.target.name}
            links["distributionset"] = self._href(f"distributionsets/{ds.id}") | {"name": ds.title}
            links["status"] = self._href(f"{mine}/status{NEWEST_FIRST}")
            if action.rollout is not None:
                rollout = action.rollout
                links["rollout"] = self._href(f"rollouts/{rollout.id}") | {"name": rollout.name}
        body["_links"] = links
        return body

    def status(self, entry: StatusEntry) -> Json:
        body: Json = {
            "id": entry.id,
            "type": entry.status.value,
            "messages": entry.messages,
            "reportedAt": entry.reported_at,
            "timestamp": entry.timestamp,
        }
        if entry.code is not None:
            body["code"] = entry.code
        return body

    def assigned(self, actions: list[Action], already: int) -> Json:
        links = [
            {
                "id": action.id,
                "_links": {
                    "self": self._href(
                        f"targets/{quote(action.target.controller_id, safe='')}/actions/{action.id}"
                    )
                },
            }
            for action in actions
        ]
        return {
            "alreadyAssigned": already,
            "assignedActions": links,
            "assigned": len(actions),
            "total": len(actions) + already,
        }

    # Software

    def module(self, module: SoftwareModule, full: bool = False) -> Json:
        body = self._audit(module.created_at, module.modified_at)
        body["name"] = module.name
        if module.description:
            body["description"] = module.description
        body |= {
            "id": module.id,
            "version": module.version,
            "type": module.type,
            "typeName": MODULE_TYPES[module.type][0],
            "encrypted": False,
            "locked": module.locked,
            "deleted": module.deleted,
            "complete": True,
        }
        path = f"softwaremodules/{module.id}"
        links = {"self": self._href(path)}
        if full:
            links["artifacts"] = self._href(f"{path}/artifacts")
        body["_links"] = links
        return body

    def artifact(self, module: SoftwareModule, artifact: Artifact) -> Json:
        path = f"softwaremodules/{module.id}/artifacts/{artifact.id}"
        body = self._audit(artifact.created_at, artifact.created_at)
        body |= {
            "id": artifact.id,
            "hashes": {"sha1": artifact.sha1, "md5": artifact.md5, "sha256": artifact.sha256},
            "providedFilename": artifact.filename,
            "size": len(artifact.content),
            "_links": {"self": self._href(path), "download": self._href(f"{path}/download")},
        }
        return body

    def distribution_set(self, ds: DistributionSet, full: bool = False) -> Json:
        kind = set_type(ds.type)
        body = self._audit(ds.created_at, ds.modified_at)
        body["name"] = ds.name
        if ds.description:
            body["description"] = ds.description
        body |= {
            "id": ds.id,
            "version": ds.version,
            "type": ds.type,
            "typeName": kind.name,
            "locked": ds.locked,
            "deleted": ds.deleted,
            "valid": True,
            "requiredMigrationStep": ds.required_migration_step,
            "modules": [self.module(module) for module in ds.modules],
            "complete": self.state.complete(ds),
        }
        path = f"distributionsets/{ds.id}"
        links = {"self": self._href(path)}
        if full:
            links["modules"] = self._href(f"{path}/assignedSM{PAGED}")
            links["type"] = self._href(f"distributionsettypes/{kind.id}")
            links["metadata"] = self._href(f"{path}/metadata")
        body["_links"] = links
        return body

    def set_type(self, kind: SetType) -> Json:
        created = self.state.created_at
        body = self._audit(created, created, "system", "system")
        body |= {
            "name": kind.name,
            "description": kind.description,
            "key": kind.key,
            "deleted": False,
            "id": kind.id,
            "_links": {"self": self._href(f"distributionsettypes/{kind.id}")},
        }
        return body

    # Rollouts

    def rollout(self, rollout: Rollout, full: bool = False) -> Json:
        body = self._audit(rollout.created_at, rollout.modified_at, changed_by=rollout.modified_by)
        body["name"] = rollout.name
        if rollout.description:
            body["description"] = rollout.description
        body |= {
            "id": rollout.id,
            "targetFilterQuery": rollout.query,
            "distributionSetId": rollout.distribution_set.id,
            "status": rollout.status,
            "totalTargets": rollout.total_targets,
        }
        if full:
            body["totalTargetsPerStatus"] = self.rollouts.counts(rollout)
            body["totalGroups"] = len(rollout.groups)
        body |= {
            "forcetime": rollout.force_time,
            "deleted": rollout.deleted,
            "type": rollout.force_type.value,
            "weight": rollout.weight,
            "dynamic": False,
        }
        path = f"rollouts/{rollout.id}"
        links: Json = {}
        if full:
            for name in ("start", "pause", "resume", "triggerNextGroup", "approve", "deny"):
                links[name] = self._href(f"{path}/{name}")
            links["groups"] = self._href(f"{path}/deploygroups{PAGED}")
            ds = rollout.distribution_set
            links["distributionset"] = self._href(f"distributionsets/{ds.id}") | {"name": ds.title}
        links["self"] = self._href(path)
        body["_links"] = links
        return body

    def group(self, rollout: Rollout, group: RolloutGroup) -> Json:
        def threshold(value: int) -> Json:
            return {"condition": "THRESHOLD", "expression": str(value)}

        body = self._audit(group.created_at, group.modified_at)
        body |= {
            "name": group.name,
            "description": group.name,
            "successCondition": threshold(group.success.expression),
            "successAction": {"action": "NEXTGROUP", "expression": ""},
            "errorCondition": threshold(group.error.expression),
            "errorAction": {"action": "PAUSE", "expression": ""},
            "targetFilterQuery": "",
            "targetPercentage": group.percentage,
            "id": group.id,
            "dynamic": False,
            "status": group.status,
            "totalTargets": len(group.targets),
            "_links": {"self": self._href(f"rollouts/{rollout.id}/deploygroups/{group.id}")},
        }
        return body
