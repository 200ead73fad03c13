"""What the campaign engine and a device-facing server say to each other.

The engine decides *whether and when* (dates, windows, places, attempts); a face knows *how* (one
protocol). The engine calls `offer`, `install` and `withdraw`; the face answers with `FaceEvent`s.
Nothing here names a protocol.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from agent.credentials import Credential
from agent.registry import Registry
from agent.runtime.runtime import Runtime
from tools.backend.errors import BackendError
from tools.backend.store.writer import Writer
from tools.backend.timing import BackendTime, Windows

if TYPE_CHECKING:
    from tools.backend.administration import Administration
    from tools.backend.campaigns.kinds import CampaignKind
    from tools.backend.device_logs import DeviceLogs
    from tools.backend.inventory import Inventory
    from tools.backend.operator_network.network import OperatorNetwork

Delivery = Literal["push", "pull"]


class FaceRefused(BackendError):
    """A face cannot begin an order now; the reason is ours, not the device's."""


class Position(enum.IntEnum):
    """How far the one attempt under way has come. Durable, so that a restart knows it."""

    WAITING = 0
    OFFERED = 1
    DOWNLOADING = 2
    DOWNLOADED = 3
    EXECUTE = 4
    """The device may have been told to install: written before the message leaves."""
    INSTALLING = 5
    """The device has confirmed that it was told to install."""
    DONE = 6


class Ending(enum.StrEnum):
    """How an attempt ended: the update engine's outcomes, and what only a server can see."""

    SUCCESS = "success"
    CANCELLED = "cancelled"
    DEFERRED = "deferred"
    NO_SPACE = "no space"
    OUT_OF_MEMORY = "out of memory"
    CONNECTION_LOST = "connection lost"
    INTEGRITY = "integrity"
    SIGNATURE = "signature"
    WRONG_DEVICE = "wrong device"
    DOWNGRADE = "downgrade"
    DEPENDENCY = "dependency"
    UNSUPPORTED_PACKAGE = "unsupported package"
    BAD_URI = "bad URI"
    UNSUPPORTED_PROTOCOL = "unsupported protocol"
    INSTALL_FAILED = "install failed"
    REVERTED = "reverted"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    NONSENSE = "protocol violation"
    WRONG_VERSION = "wrong version"


class FaceKind(enum.Enum):
    """What a face has to tell."""

    REGISTERED = "registered"
    """The device is reachable; one that drives itself is asking for an order."""
    GONE = "gone"
    """The device said goodbye or its registration ran out."""
    VERSION = "version"
    """The device named its running version."""
    PROGRESS = "progress"
    DOWNLOADED = "downloaded"
    INSTALLING = "installing"
    FINAL = "final"
    """The attempt is over: `ending` says how, `said` in the protocol's own words."""


@dataclass(frozen=True, slots=True)
class FaceEvent:
    """One thing that happened to one device."""

    device: str
    kind: FaceKind
    ending: Ending | None = None
    said: str = ""
    version: str = ""
    campaign: str = ""
    """Which campaign the device speaks of, where its protocol says so; else the open one."""


@dataclass(frozen=True, slots=True)
class Package:
    """A firmware package as a face delivers it. `body` is shared by all devices."""

    name: str
    version: str
    digest: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Terms:
    """What an order is part of, for protocols that tell their devices. One for each attempt."""

    campaign: str
    """Its id."""
    kind: str
    """`firmware`, or `file`."""
    path: str
    """Where a file goes on the device."""
    start_date: str
    end_date: str
    download_after: str
    """A date, or empty; likewise `install_after`."""
    install_after: str
    download: Windows
    install: Windows
    began: float
    """When the attempt began, on the backend's time."""


class Standing(enum.Enum):
    """How a device stands to a campaign that it speaks of."""

    OPEN = "open"
    """An attempt is under way."""
    WAITING = "waiting"
    """None is, but one may come."""
    ABORTED = "aborted"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    """No such campaign, or not with this device."""


AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """The listener of a face, as it is offered to people."""

    name: str
    """Of its options (`--NAME HOST:PORT`), in the config, and in the ready file."""
    title: str
    """What is spoken there, for people."""
    bind: str
    """HOST:PORT where `fotilla backend` has it by default."""
    scheme: str
    """Of its URLs; with TLS an `s` is added."""
    path: str = ""
    """Of the URL that devices are given."""
    tls: bool = False
    """Whether it can speak TLS (`--NAME-cert`, `--NAME-key`)."""
    client_ca: bool = False
    """Whether devices may come with certificates then (`--NAME-client-ca`)."""

    def url(self, host: str, *, secure: bool = False) -> str:
        """What devices are given as their server; `host` is written as URLs have it."""
        return f"{self.scheme}{'s' if secure else ''}://{host}{self.path}"


@dataclass(frozen=True, slots=True)
class Introduction:
    """What devices need to come to a face."""

    server: str
    """URL of the server."""
    credentials: tuple[Credential, ...] = ()
    """One per device, in the order of the names; none: they need none."""
    options: tuple[tuple[str, str], ...] = ()
    """Settings with which such devices are heard of every few seconds."""
    deliveries: tuple[Delivery, ...] = ("pull",)
    """How packages can come to them; to be taken in turns."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a listener that speaks TLS; with `client_ca` it asks for certificates."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Bring `package` to `device`; `position` is above OFFERED when a former run began it."""

    device: str
    package: Package
    delivery: Delivery
    position: Position
    terms: Terms


@dataclass(frozen=True, slots=True)
class FaceBelief:
    """What the device said last, and how we know."""

    state: str
    result: str
    version: str
    source: str


EventSink = Callable[[FaceEvent], None]


@dataclass(frozen=True, slots=True)
class FaceContext:
    """What a face is given."""

    runtime: Runtime
    writer: Writer
    time: BackendTime
    bind: tuple[str, int]
    sink: EventSink
    concerns: Callable[[str], bool]
    """Whether an unfinished campaign has this device."""
    poll: float
    """Seconds between two looks at a device under way, in case a notification was lost."""
    starts: int
    """How often the backend has started on this database: salts whatever must not repeat."""
    inventory: Inventory
    logs: DeviceLogs
    standing: Callable[[str, str], Standing]
    """(device, campaign id)"""
    under_way: Callable[[str], str]
    """The campaign that a device has an attempt under way in, empty without one."""
    due: Callable[[str], float | None]
    """When an attempt with a device may begin at the earliest, by the backend's time; None when
    none is waiting."""
    contact: float
    """Seconds between two contacts, for devices that come by themselves."""
    slot: float
    """Seconds that an action may run on for when its window has closed."""
    operator: OperatorNetwork


class DeviceFace(Protocol):
    """A device-facing server."""

    @property
    def name(self) -> str: ...

    @property
    def protocol(self) -> str:
        """What campaigns of the API call it."""

    @property
    def listener(self) -> ListenerSpec: ...

    @property
    def campaigns(self) -> CampaignKind:
        """The kind that `Backend.create_campaign` makes for such devices."""

    @property
    def app(self) -> AsgiApp | None:
        """What its listener serves; None for a face that opens a socket of its own."""

    @property
    def local(self) -> tuple[str, int]:
        """Where a face with a socket of its own listens; else where its listener is to be."""

    async def start(self) -> None:
        """Read back what a former run left."""

    def open(self) -> None:
        """Open the socket, for a face that has its own. Called when all faces have started;
        `resume` follows in the same turn of the loop. Raises ListenerRefused."""

    async def introduce(
        self, names: Sequence[str], server: str, office: Administration
    ) -> Introduction:
        """Take devices in that this program runs itself, and say what they need. Raises
        RequestRefused."""

    async def stop(self) -> None:
        """Close it, silently for the devices."""

    def resume(self) -> None:
        """Contact again every device of an unfinished order; called once, after a restart."""

    def reachable(self, device: str) -> bool:
        """Whether the device could be asked now."""

    def offer(self, order: Order) -> None:
        """Begin an order, or go on with it. Raises FaceRefused."""

    def install(self, device: str) -> None:
        """Tell the device to install what it has downloaded. Called once an attempt."""

    def withdraw(self, device: str) -> None:
        """Drop the order; the device may still hold what it got."""

    def forget(self, device: str) -> None:
        """The device is not in the inventory any more, and no campaign wants it. What the face has
        stored of it is gone, but for a registration: that ends when the device ends it."""

    def believed(self, device: str) -> FaceBelief | None:
        """What the device said last; None for one never seen."""

    def identities(self) -> list[str]:
        """The devices that are reachable now, by name."""


def same_version(one: str, other: str) -> bool:
    """Whether two version texts name one version: a build number of 0 may be left out."""
    return one.strip().removesuffix("+0") == other.strip().removesuffix("+0")


class FaceMaker(Protocol):
    """A class of faces: what is known of one before it is made."""

    @property
    def protocol(self) -> str: ...

    @property
    def listener(self) -> ListenerSpec: ...

    @property
    def campaigns(self) -> CampaignKind: ...

    def __call__(self, context: FaceContext, /) -> DeviceFace: ...


device_faces: Registry[FaceMaker] = Registry("device face")
