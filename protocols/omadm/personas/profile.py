"""What a persona of an OMA-DM device is made of. Data only; `client`, `session` and `fumo` obey."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.backoff import Backoff
from protocols.omadm.interaction import User

__all__ = ["Fumo", "Notifications", "Profile", "Quirks", "Schedule"]

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a device begins a session by itself. Seconds."""

    power_up: bool = True
    """A session after each boot. Without it, a boot that has something to report makes one, and so
    does an image on trial, which only a server's answer confirms."""
    power_up_spread: tuple[float, float] = (0.0, 2.0)
    """The first session begins so long after the boot, at random within."""
    first_check: float | None = None
    """After the first activation of the device."""
    check_every: float | None = None
    """Between two checks, counted from the first activation."""
    check_retries: int = 0
    """Checks that are tried again after all tries of a session failed."""
    check_retry_after: float = DAY
    tries: int | None = None
    """Of a session in a row; None goes on for ever, as a fleet must that outlives its server."""
    retry: Backoff = Backoff(first=5.0, limit=300.0)
    """Between two tries of a session."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """What a device does with a package 0. Seconds."""

    lifetime: float = DAY
    """It is kept so long, over reboots, until a session came of it."""
    asks_user: frozenset[int] = frozenset({3})
    """ui-modes on which the user is asked first."""
    deferred_while_updating: bool = False


@dataclass(frozen=True, slots=True)
class Fumo:
    """How a device does firmware updates."""

    root: str = "./FwUpdate/Fotilla"
    """The management object."""
    alert_from_operation: bool = False
    """The generic alert names the node that was executed, not the object."""
    alert_format: str = "int"
    success_state: int = 100
    tries: int = 8
    """Of a download in a row without a byte of progress."""
    wait: Backoff = Backoff(first=1.0, limit=60.0)
    """Between two of them."""
    install_delay: float = 0.0
    """Seconds from the downloaded package to the install: the deferral."""
    urgent: tuple[str, str] = ("priorityflag", "critical")
    """The flag of a descriptor's installParam that lets an install begin at once."""
    types: tuple[str, ...] = ()
    """Media types of objects that a descriptor may name; empty: any, for the image's signature
    decides in the end."""
    head_first: bool = True
    """A HEAD tells what a package URL serves before it is fetched."""
    notify_after_update: bool = False
    """The install-notify is posted after the update, not when the package was verified."""
    notify_tail: str = ""
    """Behind the line of an install-notify."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """What known clients do wrong, or do not do."""

    nonce_as_text: bool = False
    sequence_unsupported: bool = False
    """A Sequence is refused with 406 and nothing of it is done."""
    atomic_unsupported: bool = False
    atomic_in_one_message: bool = False
    """It cannot execute an Atomic's members together, so it fails one whose answers would go in
    several messages (517)."""
    copy_unsupported: bool = False
    list_unsupported: bool = False
    wrong_final: bool = False
    """Says Final in every message, also while the server's package goes on."""
    content_type: str | None = None
    """Sent instead of the right one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One persona."""

    name: str
    title: str
    man: str = "fotilla"
    mod: str = "virtual"
    lang: str = "en-US"
    user_agent: str = "fotilla SyncML_DM Client"
    wbxml: bool = True
    max_msg_size: int = 16 << 10
    """Octets that the device takes in one message."""
    max_obj_size: int = 64 << 20
    """Octets that it takes in one large object."""
    check_alert: tuple[str, str, str] | None = None
    """(Type, Format, Data) of the generic alert of a check: a device or user request."""
    schedule: Schedule = Schedule()
    notifications: Notifications = Notifications()
    fumo: Fumo = Fumo()
    user: User = field(default_factory=User)
    quirks: Quirks = Quirks()
