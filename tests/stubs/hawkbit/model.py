"""What the modelled server remembers: tenant settings, targets, software, actions, rollouts."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class ActionStatus(enum.Enum):
    """`Action.Status` of hawkBit: one set for the action itself and for its history entries."""

    SCHEDULED = "scheduled"
    WAIT_FOR_CONFIRMATION = "wait_for_confirmation"
    RUNNING = "running"
    RETRIEVED = "retrieved"
    DOWNLOAD = "download"
    DOWNLOADED = "downloaded"
    WARNING = "warning"
    FINISHED = "finished"
    ERROR = "error"
    CANCELING = "canceling"
    CANCELED = "canceled"
    CANCEL_REJECTED = "cancel_rejected"


class ForceType(enum.Enum):
    FORCED = "forced"
    SOFT = "soft"
    TIMEFORCED = "timeforced"
    DOWNLOADONLY = "downloadonly"


class UpdateStatus(enum.Enum):
    """What hawkBit believes of a target as a whole."""

    UNKNOWN = "unknown"
    REGISTERED = "registered"
    PENDING = "pending"
    IN_SYNC = "in_sync"
    ERROR = "error"


@dataclass(slots=True)
class Settings:
    """Switches of the server process, as its command line has them; tests may set them."""

    user: str = "admin"
    password: str = "admin"
    tenant: str = "DEFAULT"
    min_polling_time: int = 30
    """Seconds; hawkBit's default. A polling time below it is refused."""
    max_polling_time: int = 86_399
    max_status_entries: int = 1000
    """History entries of one action before intermediate feedback is answered 429."""
    quota_refuses_downloads: bool = False
    """A download without Range writes an entry too; by its source hawkBit refuses it as well when
    the history is full, but no 429 was recorded."""
    max_messages: int = 50
    max_attributes: int = 100
    rollout_period: float = 0.5
    """Seconds between two passes of the rollout scheduler (hawkBit: some seconds)."""
    https_links: bool = False
    """Emit `download` and `md5sum` beside `download-http` and `md5sum-http`."""
    max_body: int = 64 << 20
    """Bytes of a request; hawkBit takes artifacts up to 1 GiB, a test never needs that."""


@dataclass(slots=True)
class ConfigValue:
    value: str | int | bool
    created_at: int | None = None
    modified_at: int | None = None
    modified_by: str = ""


@dataclass(slots=True)
class Artifact:
    id: int
    filename: str
    content: bytes
    sha1: str
    md5: str
    sha256: str
    created_at: int


@dataclass(slots=True)
class SoftwareModule:
    id: int
    name: str
    version: str
    type: str
    description: str
    created_at: int
    modified_at: int
    locked: bool = False
    deleted: bool = False
    artifacts: list[Artifact] = field(default_factory=list)
    metadata: list[tuple[str, str, bool]] = field(default_factory=list)
    """(key, value, visible to targets)"""


@dataclass(slots=True)
class DistributionSet:
    id: int
    name: str
    version: str
    type: str
    description: str
    required_migration_step: bool
    created_at: int
    modified_at: int
    modules: list[SoftwareModule] = field(default_factory=list)
    locked: bool = False
    deleted: bool = False

    @property
    def title(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(slots=True)
class AutoConfirm:
    initiator: str
    remark: str
    activated_at: int


@dataclass(slots=True)
class Target:
    controller_id: str
    name: str
    security_token: str
    created_by: str
    created_at: int
    modified_by: str
    modified_at: int
    description: str = ""
    update_status: UpdateStatus = UpdateStatus.UNKNOWN
    address: str | None = None
    last_poll: int | None = None
    installed_at: int | None = None
    installed: DistributionSet | None = None
    assigned: DistributionSet | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    request_attributes: bool = True
    auto_confirm: AutoConfirm | None = None
    actions: list[Action] = field(default_factory=list)
    """Oldest first."""


@dataclass(slots=True)
class StatusEntry:
    id: int
    status: ActionStatus
    messages: list[str]
    reported_at: int
    timestamp: int
    """When it happened by the device's clock, if the device said so."""
    code: int | None = None


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    schedule: str
    duration: str
    timezone: str


@dataclass(slots=True)
class Action:
    id: int
    target: Target
    distribution_set: DistributionSet
    force_type: ForceType
    created_at: int
    modified_at: int
    status: ActionStatus = ActionStatus.RUNNING
    active: bool = True
    force_time: int = 0
    weight: int = 1000
    window: MaintenanceWindow | None = None
    revision: int = 1
    """JPA's optimistic lock: counts stored changes and enters `c=`."""
    last_code: int | None = None
    rollout: Rollout | None = None
    history: list[StatusEntry] = field(default_factory=list)

    @property
    def canceling_or_canceled(self) -> bool:
        return self.status in (ActionStatus.CANCELING, ActionStatus.CANCELED)

    @property
    def download_only(self) -> bool:
        return self.force_type is ForceType.DOWNLOADONLY

    def hits_forced_time(self, now: int) -> bool:
        return self.force_type is ForceType.TIMEFORCED and self.force_time <= now

    def forced(self, now: int) -> bool:
        return self.force_type is ForceType.FORCED or self.hits_forced_time(now)


@dataclass(frozen=True, slots=True)
class Condition:
    """THRESHOLD is the only condition hawkBit knows; the expression is a percentage."""

    expression: int


@dataclass(slots=True)
class RolloutGroup:
    id: int
    name: str
    targets: list[Target]
    percentage: float
    success: Condition
    error: Condition
    created_at: int
    modified_at: int
    status: str = "ready"
    actions: list[Action] = field(default_factory=list)


@dataclass(slots=True)
class Rollout:
    id: int
    name: str
    description: str
    query: str
    distribution_set: DistributionSet
    force_type: ForceType
    force_time: int
    weight: int
    confirm: bool
    created_at: int
    modified_at: int
    status: str = "creating"
    modified_by: str = "admin"
    deleted: bool = False
    groups: list[RolloutGroup] = field(default_factory=list)

    @property
    def total_targets(self) -> int:
        return sum(len(group.targets) for group in self.groups)
