"""The repository of one tenant: settings, targets, software; ids, time and retrieval."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.stubs.hawkbit.errors import REPOSITORY, Refused, exists, invalid, locked, not_found
from tests.stubs.hawkbit.model import (
    Action,
    Artifact,
    ConfigValue,
    DistributionSet,
    Rollout,
    Settings,
    SoftwareModule,
    Target,
    UpdateStatus,
)
from tests.stubs.hawkbit.schedule import seconds

CONFIG_DEFAULTS: dict[str, str | int | bool] = {
    "user.confirmation.flow.enabled": False,
    "action.cleanup.onQuotaHit.percent": 0,
    "authentication.gatewaytoken.enabled": False,
    "authentication.header.authority": "",
    "authentication.gatewaytoken.key": "",
    "pollingTime": "00:05:00",
    "authentication.targettoken.enabled": False,
    "rollout.approval.enabled": False,
    "action.cleanup.auto.expiry": -1,
    "action.cleanup.auto.status": "CANCELED,ERROR",
    "maintenanceWindowPollCount": 3,
    "repository.actions.autoclose.enabled": False,
    "default.ds.type": 1,
    "authentication.header.enabled": False,
    "pollingOverdueTime": "00:05:00",
    "implicit.lock.enabled": True,
    "batch.assignments.enabled": False,
}
"""Every key of the recorded `GET /system/configs` with the monolith's default."""

DURATIONS = ("pollingTime", "pollingOverdueTime")
TENANT_OWN = ("default.ds.type",)
"""Set when the tenant is made, so never reported as the global default."""

MODULE_TYPES: dict[str, tuple[str, str]] = {
    "os": ("OS", "os"),
    "application": ("Application", "bApp"),
}
"""Key: (name shown to management, `part` of a chunk shown to the device)."""


@dataclass(frozen=True, slots=True)
class SetType:
    id: int
    name: str
    key: str
    description: str
    mandatory: frozenset[str]
    allowed: frozenset[str]


SET_TYPES = (
    SetType(
        1,
        "OS with app(s)",
        "os_app",
        "Default type with Firmware/OS and optional app(s).",
        frozenset({"os"}),
        frozenset({"os", "application"}),
    ),
    SetType(
        2,
        "OS only",
        "os",
        "Default type with Firmware/OS only.",
        frozenset({"os"}),
        frozenset({"os"}),
    ),
    SetType(
        3,
        "App(s) only",
        "app",
        "Default type with app(s) only.",
        frozenset({"application"}),
        frozenset({"application"}),
    ),
)


def set_type(key: str) -> SetType:
    for found in SET_TYPES:
        if found.key == key:
            return found
    raise not_found("DistributionSetType", key)


@dataclass(slots=True)
class HawkbitState:
    """Everything the server knows. `now` gives seconds since the epoch."""

    now: Callable[[], float] = time.time
    settings: Settings = field(default_factory=Settings)
    config: dict[str, ConfigValue] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    modules: dict[int, SoftwareModule] = field(default_factory=dict)
    sets: dict[int, DistributionSet] = field(default_factory=dict)
    actions: dict[int, Action] = field(default_factory=dict)
    rollouts: dict[int, Rollout] = field(default_factory=dict)
    created_at: int = 0
    _sequences: dict[str, count[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.created_at = self.now_ms()

    def now_ms(self) -> int:
        return int(self.now() * 1000)

    def next_id(self, kind: str) -> int:
        return next(self._sequences.setdefault(kind, count(1)))

    # Tenant configuration

    def setting(self, key: str) -> Any:
        """The value in force. Raises Refused for a key that hawkBit does not know."""
        if key not in CONFIG_DEFAULTS:
            raise Refused(
                400,
                REPOSITORY + "InvalidTenantConfigurationKeyException",
                "repo.tenantConfigurationKeyInvalid",
                f"The given configuration key {key} does not exist.",
            )
        stored = self.config.get(key)
        return CONFIG_DEFAULTS[key] if stored is None else stored.value

    def configure(self, key: str, value: object) -> None:
        default = type(CONFIG_DEFAULTS[key]) if key in CONFIG_DEFAULTS else None
        self.setting(key)
        wrong = default is None or type(value) is not default
        if key in DURATIONS and isinstance(value, str):
            try:
                wrong = False
                length = seconds(value)
                if key == "pollingTime":
                    limits = self.settings
                    wrong = not limits.min_polling_time <= length <= limits.max_polling_time
            except ValueError:
                wrong = True
        if wrong:
            raise Refused(
                400,
                REPOSITORY + "TenantConfigurationValidatorException",
                "repo.tenantConfigurationValueInvalid",
                f"The given configuration value is invalid for {key}.",
            )
        assert isinstance(value, str | int)
        now = self.now_ms()
        stored = self.config.setdefault(key, ConfigValue(value, now))
        stored.value, stored.modified_at, stored.modified_by = value, now, self.settings.user

    # Targets

    def target(self, controller_id: str) -> Target:
        found = self.targets.get(controller_id)
        if found is None:
            raise not_found("Target", controller_id)
        return found

    def create_target(
        self,
        controller_id: str,
        name: str = "",
        token: str = "",
        description: str = "",
        by: str = "",
    ) -> Target:
        if controller_id in self.targets:
            raise exists("Target", controller_id)
        if not token:
            # hawkBit draws 32 characters; ours only have to be unlike each other.
            seed = f"{self.next_id('token')}/{controller_id}"
            token = hashlib.sha256(seed.encode()).hexdigest()[:32]
        now, by = self.now_ms(), by or self.settings.user
        target = Target(controller_id, name or controller_id, token, by, now, by, now, description)
        self.targets[controller_id] = target
        return target

    def polled(self, controller_id: str, client: str) -> Target:
        """Plug and play: a device that polls exists from then on."""
        target = self.targets.get(controller_id)
        if target is None:
            target = self.create_target(
                controller_id,
                description=f"Plug and Play target: {controller_id}",
                by="CONTROLLER_PLUG_AND_PLAY",
            )
        if target.update_status is UpdateStatus.UNKNOWN:
            target.update_status = UpdateStatus.REGISTERED
        target.last_poll, target.address = self.now_ms(), client
        return target

    def delete_target(self, controller_id: str) -> None:
        target = self.target(controller_id)
        del self.targets[controller_id]
        for action in target.actions:
            del self.actions[action.id]

    def action(self, identifier: int) -> Action:
        found = self.actions.get(identifier)
        if found is None:
            raise not_found("Action", identifier)
        return found

    # Software

    def module(self, identifier: int) -> SoftwareModule:
        found = self.modules.get(identifier)
        if found is None or found.deleted:
            raise not_found("SoftwareModule", identifier)
        return found

    def create_module(self, name: str, version: str, kind: str, description: str) -> SoftwareModule:
        if kind not in MODULE_TYPES:
            raise not_found("SoftwareModuleType", kind)
        for other in self.modules.values():
            if (other.name, other.version, other.type) == (name, version, kind):
                raise exists("SoftwareModule", f"{name}:{version}")
        now = self.now_ms()
        module = SoftwareModule(self.next_id("module"), name, version, kind, description, now, now)
        self.modules[module.id] = module
        return module

    def add_artifact(self, module: SoftwareModule, filename: str, content: bytes) -> Artifact:
        if module.locked:
            raise locked("SoftwareModule", module.id)
        if not content:
            raise invalid("The given file is empty")
        if any(artifact.filename == filename for artifact in module.artifacts):
            raise exists("Artifact", filename)
        module.modified_at = self.now_ms()
        artifact = Artifact(
            self.next_id("artifact"),
            filename,
            content,
            hashlib.sha1(content).hexdigest(),
            hashlib.md5(content).hexdigest(),
            hashlib.sha256(content).hexdigest(),
            module.modified_at,
        )
        module.artifacts.append(artifact)
        return artifact

    def distribution_set(self, identifier: int) -> DistributionSet:
        found = self.sets.get(identifier)
        if found is None or found.deleted:
            raise not_found("DistributionSet", identifier)
        return found

    def create_set(
        self,
        name: str,
        version: str,
        kind: str,
        modules: Iterable[int],
        description: str = "",
        migration: bool = False,
    ) -> DistributionSet:
        allowed = set_type(kind).allowed
        found = [self.module(identifier) for identifier in modules]
        for other in self.sets.values():
            if (other.name, other.version) == (name, version) and not other.deleted:
                raise exists("DistributionSet", f"{name}:{version}")
        for module in found:
            if module.type not in allowed:
                raise Refused(
                    400,
                    REPOSITORY + "UnsupportedSoftwareModuleForThisDistributionSetException",
                    "distributionset.modules.unsupported",
                    f"Software module type {module.type} is not supported by {kind}.",
                )
        now = self.now_ms()
        ds = DistributionSet(
            self.next_id("set"), name, version, kind, description, migration, now, now, found
        )
        self.sets[ds.id] = ds
        return ds

    def complete(self, ds: DistributionSet) -> bool:
        return set_type(ds.type).mandatory <= {module.type for module in ds.modules}

    def set_by_name(self, name: str, version: str) -> DistributionSet:
        for ds in self.sets.values():
            if (ds.name, ds.version) == (name, version) and not ds.deleted:
                return ds
        raise not_found("DistributionSet", f"{name}:{version}")

    def lock(self, ds: DistributionSet) -> None:
        """What is assigned may not change any more (`implicit.lock.enabled`)."""
        if not self.setting("implicit.lock.enabled") or ds.locked:
            return
        now = self.now_ms()
        ds.locked, ds.modified_at = True, now
        for module in ds.modules:
            module.locked, module.modified_at = True, now
