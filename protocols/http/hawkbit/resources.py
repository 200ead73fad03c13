"""What a DDI server answers (hawkBit DDI v1), checked before anything is done with it.

Every function takes decoded JSON and gives frozen data, or raises `BadAnswer` that names the member
it cannot use. Members that are not known are ignored, members that a server may leave out have
defaults: hawkBit leaves `_links` out when there is nothing to do, gooseBit gives it empty. What is
counted is bounded (`Limits`): an answer that lists ten thousand artifacts is not for a device.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from protocols.http.messages import BadAnswer
from protocols.http.urls import BadUrl, locate

__all__ = [
    "DEFAULT_LIMITS",
    "Artifact",
    "AutoConfirm",
    "CancelAction",
    "Chunk",
    "Deployment",
    "Handling",
    "Limits",
    "Link",
    "Polled",
    "Window",
    "auto_confirm",
    "cancel_action",
    "deployment",
    "poll_answer",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an answer may hold."""

    chunks: int = 64
    """Software modules of one distribution set; people assign one to five."""
    artifacts: int = 64
    """Files of all chunks together; each is downloaded and hashed."""
    text: int = 512
    """Characters of a name or version; hawkBit's columns hold 128."""
    href: int = 1024
    """Characters of a link: what the update engine keeps of a URI."""
    size: int = 1 << 40
    """Bytes of an artifact; hawkBit allows 1 GiB."""


DEFAULT_LIMITS = Limits()

MIN_SLEEP, MAX_SLEEP = 1, 86_400
"""Seconds between polls. hawkBit allows 30 s to a day; test servers are set to one second."""

_HASHES = {"sha256": 64, "sha1": 40, "md5": 32}
"""Name and length in hex digits of the hashes that DDI knows."""

_ID = re.compile(r"-?[A-Za-z0-9_]{1,64}")
_SLEEP = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})")
_HEX = re.compile(r"[0-9a-f]+")

E = TypeVar("E", bound=enum.Enum)


class Handling(enum.Enum):
    """How an action is to be downloaded, or to be installed."""

    SKIP = "skip"
    ATTEMPT = "attempt"
    """Soft: the device may choose its time."""
    FORCED = "forced"


class Window(enum.Enum):
    """The maintenance window of an action that has one."""

    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Link:
    """A link to an action: where it leads, whose it is, and in which version."""

    href: str
    id: str
    version: str = ""
    """The `c=` of its query: changes whenever the resource behind it did."""


@dataclass(frozen=True, slots=True)
class Polled:
    """The poll resource."""

    sleep: int
    """Seconds."""
    deployment: Link | None = None
    cancel: Link | None = None
    confirmation: Link | None = None
    installed: Link | None = None
    config_data: str | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a chunk."""

    filename: str
    url: str
    size: int
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Lower-case hex by hashlib's name; gooseBit gives SHA-1 alone."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One software module."""

    part: str
    name: str
    version: str
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What deploymentBase, confirmationBase and installedBase describe alike."""

    id: str
    download: Handling
    update: Handling
    window: Window | None
    chunks: tuple[Chunk, ...]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        return tuple(artifact for chunk in self.chunks for artifact in chunk.artifacts)

    @property
    def download_only(self) -> bool:
        """Nothing will be installed: the install is skipped, and no window is awaited."""
        return self.update is Handling.SKIP and self.window is None


@dataclass(frozen=True, slots=True)
class CancelAction:
    """A request to stop an action."""

    id: str
    stop_id: str


@dataclass(frozen=True, slots=True)
class AutoConfirm:
    """The device's standing consent."""

    active: bool
    activate: str | None = None
    deactivate: str | None = None


# -- answers ------------------------------------------------------------------------------------


def poll_answer(value: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> Polled:
    """`GET {controllerId}`. Raises BadAnswer."""
    config = _object(value, "config", "config")
    polling = _object(config, "polling", "config.polling")
    links = _links(value, "_links")
    return Polled(
        _sleep(polling.get("sleep")),
        _action(links, "deploymentBase", limits),
        _action(links, "cancelAction", limits),
        _action(links, "confirmationBase", limits),
        _action(links, "installedBase", limits),
        _href(links, "configData", limits),
    )


def deployment(
    value: Mapping[str, Any], member: str = "deployment", limits: Limits = DEFAULT_LIMITS
) -> Deployment:
    """`GET deploymentBase/{id}`; `member` is `confirmation` in confirmationBase. Raises
    BadAnswer."""
    body = _object(value, member, member)
    chunks = []
    artifacts = 0
    for number, item in enumerate(_list(body, "chunks", limits.chunks, member)):
        chunk = _chunk(item, f"{member}.chunks[{number}]", limits)
        artifacts += len(chunk.artifacts)
        if artifacts > limits.artifacts:
            raise BadAnswer(f"{member} lists more than {limits.artifacts} artifacts")
        chunks.append(chunk)
    window = body.get("maintenanceWindow")
    return Deployment(
        _id(value.get("id"), "id"),
        _enum(Handling, body.get("download"), f"{member}.download"),
        _enum(Handling, body.get("update"), f"{member}.update"),
        None if window is None else _enum(Window, window, f"{member}.maintenanceWindow"),
        tuple(chunks),
    )


def cancel_action(value: Mapping[str, Any]) -> CancelAction:
    """`GET cancelAction/{id}`. Raises BadAnswer."""
    body = _object(value, "cancelAction", "cancelAction")
    return CancelAction(_id(value.get("id"), "id"), _id(body.get("stopId"), "cancelAction.stopId"))


def auto_confirm(value: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> AutoConfirm:
    """`GET confirmationBase`. Raises BadAnswer."""
    body = _object(value, "autoConfirm", "autoConfirm")
    active = body.get("active")
    if not isinstance(active, bool):
        raise BadAnswer(f"autoConfirm.active is {_shown(active)}, not true or false")
    links = _links(value, "_links")
    return AutoConfirm(
        active,
        _href(links, "activateAutoConfirm", limits),
        _href(links, "deactivateAutoConfirm", limits),
    )


# -- parts --------------------------------------------------------------------------------------


def _chunk(value: object, where: str, limits: Limits) -> Chunk:
    if not isinstance(value, dict):
        raise BadAnswer(f"{where} is {_shown(value)}, not an object")
    return Chunk(
        _text(value, "part", where, limits),
        _text(value, "name", where, limits),
        _text(value, "version", where, limits),
        tuple(
            _artifact(item, f"{where}.artifacts[{number}]", limits)
            for number, item in enumerate(_list(value, "artifacts", limits.artifacts, where))
        ),
    )


def _artifact(value: object, where: str, limits: Limits) -> Artifact:
    if not isinstance(value, dict):
        raise BadAnswer(f"{where} is {_shown(value)}, not an object")
    size = value.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= limits.size:
        raise BadAnswer(f"{where}.size is {_shown(size)}, not a number of bytes")
    links = _links(value, f"{where}._links")
    # A server that serves both gives `download` for https (hawkBit's URL configuration).
    url = _href(links, "download", limits) or _href(links, "download-http", limits)
    if url is None:
        raise BadAnswer(f"{where} has neither a download nor a download-http link")
    return Artifact(
        _text(value, "filename", where, limits), url, size, _hashes(value, f"{where}.hashes")
    )


def _hashes(value: Mapping[str, Any], where: str) -> dict[str, str]:
    given = value.get("hashes")
    if not isinstance(given, dict):
        raise BadAnswer(f"{where} is {_shown(given)}, not an object")
    hashes = {}
    for name, digits in _HASHES.items():
        text = given.get(name)
        if text is None or text == "":
            continue
        lower = text.lower() if isinstance(text, str) else ""
        if len(lower) != digits or not _HEX.fullmatch(lower):
            raise BadAnswer(f"{where}.{name} is {_shown(text)}, not {digits} hex digits")
        hashes[name] = lower
    if not hashes:
        raise BadAnswer(f"{where} has none of {', '.join(_HASHES)}")
    return hashes


def _sleep(value: object) -> int:
    """Seconds of `HH:mm:ss`."""
    found = _SLEEP.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadAnswer(f"config.polling.sleep is {_shown(value)}, not HH:mm:ss")
    hours, minutes, seconds = map(int, found.groups())
    return min(max(hours * 3600 + minutes * 60 + seconds, MIN_SLEEP), MAX_SLEEP)


def _links(value: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    links = value.get("_links")
    if links is None:
        return {}
    if not isinstance(links, dict):
        raise BadAnswer(f"{where} is {_shown(links)}, not an object")
    return links


def _href(links: Mapping[str, Any], name: str, limits: Limits) -> str | None:
    link = links.get(name)
    if link is None:
        return None
    href = link.get("href") if isinstance(link, dict) else None
    if not isinstance(href, str):
        raise BadAnswer(f"the link {name} has no href")
    if len(href) > limits.href:
        raise BadAnswer(f"the link {name} is {len(href)} characters long")
    try:
        locate(href)
    except BadUrl as error:
        raise BadAnswer(f"the link {name}: {error}") from None
    return href


def _action(links: Mapping[str, Any], name: str, limits: Limits) -> Link | None:
    href = _href(links, name, limits)
    if href is None:
        return None
    parts = urlsplit(href)
    before, slash, last = parts.path.rpartition("/")
    if not slash or not before.endswith(f"/{name}") or not _ID.fullmatch(last):
        raise BadAnswer(f"the link {name} does not end in /{name}/ and the id of an action")
    version = ""
    for part in parts.query.split("&"):
        if part.startswith("c="):
            version = part[2:]
    return Link(href, last, version[:64])


def _object(value: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    member = value.get(name)
    if not isinstance(member, dict):
        raise BadAnswer(f"{where} is {_shown(member)}, not an object")
    return member


def _list(value: Mapping[str, Any], name: str, limit: int, where: str) -> list[object]:
    """An array; what is absent is empty."""
    member = value.get(name)
    if member is None:
        return []
    if not isinstance(member, list):
        raise BadAnswer(f"{where}.{name} is {_shown(member)}, not an array")
    if len(member) > limit:
        raise BadAnswer(f"{where}.{name} has {len(member)} entries, more than {limit}")
    return member


def _text(value: Mapping[str, Any], name: str, where: str, limits: Limits) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise BadAnswer(f"{where}.{name} is {_shown(text)}, not a text")
    if len(text) > limits.text:
        raise BadAnswer(f"{where}.{name} is {len(text)} characters long")
    return text


def _id(value: object, where: str) -> str:
    """hawkBit gives numbers as texts; a number is taken as well."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise BadAnswer(f"{where} is {_shown(value)}, not the id of an action")
    return text


def _enum(kind: type[E], value: object, where: str) -> E:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        raise BadAnswer(f"{where} is {_shown(value)}, not one of {known}") from None


def _shown(value: object) -> str:
    """A member for an error message: short, and on one line."""
    if value is None:
        return "absent"
    text = repr(value) if not isinstance(value, (dict, list)) else f"a JSON {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
