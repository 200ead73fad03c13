"""The download descriptor of OMA Download 1.0: parsed, judged, and its install-notify statuses.

A descriptor (`application/vnd.oma.dd+xml`) says of what type and size an object is, where it lies
and whom to tell how it went. Elements that are not known are ignored, as the int-14 rules of the
interoperability tests ask; a document that is none, or lacks a mandatory element, is a 906.

The text of the specification was not among the sources: element names, the statuses and what they
mean are those that four independent clients agree on [unverified against the text].
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from lxml import etree

from agent.outcome import Outcome

__all__ = [
    "CONTENT_TYPE",
    "MAX_DESCRIPTOR",
    "NOTIFY_STATUS",
    "BadDescriptor",
    "Descriptor",
    "NotifyStatus",
    "parse",
]

CONTENT_TYPE = "application/vnd.oma.dd+xml"
NAMESPACE = "http://www.openmobilealliance.org/xmlns/dd"

MAX_DESCRIPTOR = 16 << 10
"""Bytes. Real ones have under one kilobyte; signed links make them two or three."""
MAX_TEXT = 2048
"""Characters of one element: what a URL may have, and no description needs more."""
MAX_TYPES = 32
MAX_SIZE = (1 << 53) - 1
MAX_DEPTH = 8
"""Elements inside each other; a descriptor has two, extensions may have some."""

FIRST_VERSION = "1.0"


class NotifyStatus(enum.IntEnum):
    """What is posted to installNotifyURI; `line` is the body."""

    SUCCESS = 900
    INSUFFICIENT_MEMORY = 901
    USER_CANCELLED = 902
    LOSS_OF_SERVICE = 903
    ATTRIBUTE_MISMATCH = 905
    INVALID_DESCRIPTOR = 906
    INVALID_VERSION = 951
    DEVICE_ABORTED = 952
    NON_ACCEPTABLE_CONTENT = 953
    LOADER_ERROR = 954

    @property
    def line(self) -> str:
        return f"{self.value} {_TEXTS[self]}"


_TEXTS = {
    NotifyStatus.SUCCESS: "Success",
    NotifyStatus.INSUFFICIENT_MEMORY: "Insufficient Memory",
    NotifyStatus.USER_CANCELLED: "User Cancelled",
    NotifyStatus.LOSS_OF_SERVICE: "Loss of Service",
    NotifyStatus.ATTRIBUTE_MISMATCH: "Attribute Mismatch",
    NotifyStatus.INVALID_DESCRIPTOR: "Invalid Descriptor",
    NotifyStatus.INVALID_VERSION: "Invalid DDVersion",
    NotifyStatus.DEVICE_ABORTED: "Device Aborted",
    NotifyStatus.NON_ACCEPTABLE_CONTENT: "Non-Acceptable Content",
    NotifyStatus.LOADER_ERROR: "Loader Error",
}

NOTIFY_STATUS: dict[Outcome, NotifyStatus | None] = {
    Outcome.SUCCESS: NotifyStatus.SUCCESS,
    Outcome.CANCELLED: NotifyStatus.USER_CANCELLED,
    Outcome.DEFERRED: None,
    Outcome.NO_SPACE: NotifyStatus.INSUFFICIENT_MEMORY,
    Outcome.OUT_OF_MEMORY: NotifyStatus.INSUFFICIENT_MEMORY,
    Outcome.CONNECTION_LOST: NotifyStatus.LOSS_OF_SERVICE,
    # What came has another size than the descriptor says, or is not what was signed.
    Outcome.INTEGRITY: NotifyStatus.ATTRIBUTE_MISMATCH,
    Outcome.SIGNATURE: NotifyStatus.NON_ACCEPTABLE_CONTENT,
    Outcome.WRONG_DEVICE: NotifyStatus.NON_ACCEPTABLE_CONTENT,
    Outcome.DOWNGRADE: NotifyStatus.NON_ACCEPTABLE_CONTENT,
    Outcome.DEPENDENCY: NotifyStatus.NON_ACCEPTABLE_CONTENT,
    Outcome.UNSUPPORTED_PACKAGE: NotifyStatus.NON_ACCEPTABLE_CONTENT,
    Outcome.BAD_URI: NotifyStatus.LOADER_ERROR,
    Outcome.UNSUPPORTED_PROTOCOL: NotifyStatus.LOADER_ERROR,
    Outcome.INSTALL_FAILED: NotifyStatus.DEVICE_ABORTED,
    Outcome.REVERTED: NotifyStatus.DEVICE_ABORTED,
}
"""What the download server is told of an outcome; None: nothing, it is not over."""


class BadDescriptor(Exception):
    """The server's descriptor cannot be used; `status` is what it is told."""

    def __init__(self, status: NotifyStatus, detail: str, notify_uri: str = "") -> None:
        super().__init__(f"{status.line}: {detail}")
        self.status = status
        self.detail = detail
        self.notify_uri = notify_uri
        """Where to say so, as far as it could be read."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a server says of an object. URIs are as written, perhaps relative."""

    types: tuple[str, ...]
    size: int
    """Bytes."""
    object_uri: str = field(repr=False)
    install_notify_uri: str = field(default="", repr=False)
    next_url: str = ""
    version: str = FIRST_VERSION
    name: str = ""
    description: str = ""
    vendor: str = ""
    info_url: str = ""
    icon_uri: str = ""
    install_param: str = ""
    """Where vendors put flags, as `name=value` parted by semicolons."""

    def flag(self, name: str) -> str | None:
        """The value of a flag in `install_param`."""
        for part in self.install_param.split(";"):
            key, mark, value = part.partition("=")
            if mark and key.strip() == name:
                return value.strip()
        return None


def parse(data: bytes, accepted: Iterable[str] = ()) -> Descriptor:
    """The descriptor in `data`; with `accepted`, one of its types must be among them.

    Raises BadDescriptor."""
    texts, types = _texts(data)
    notify = texts.get("installNotifyURI", "")

    def bad(status: NotifyStatus, detail: str) -> NoReturn:
        raise BadDescriptor(status, detail, notify)

    version = texts.get("DDVersion", FIRST_VERSION)
    if version.partition(".")[0] != "1":
        # Minor versions are compatible; another major one says things that we do not know.
        bad(NotifyStatus.INVALID_VERSION, f"DDVersion {version[:16]!r}")
    for name in ("size", "objectURI"):
        if not texts.get(name):
            bad(NotifyStatus.INVALID_DESCRIPTOR, f"no {name}")
    if not types:
        bad(NotifyStatus.INVALID_DESCRIPTOR, "no type")
    size = texts["size"]
    if not (size.isascii() and size.isdigit() and len(size) <= 16 and int(size) <= MAX_SIZE):
        bad(NotifyStatus.INVALID_DESCRIPTOR, f"size {size[:24]!r} is no number of bytes")
    wanted = {one.lower() for one in accepted}
    if wanted and wanted.isdisjoint(one.lower() for one in types):
        bad(NotifyStatus.NON_ACCEPTABLE_CONTENT, f"type {types[0][:64]!r}")
    return Descriptor(
        types=tuple(types),
        size=int(size),
        object_uri=texts["objectURI"],
        install_notify_uri=notify,
        next_url=texts.get("nextURL", ""),
        version=version,
        name=texts.get("name", ""),
        description=texts.get("description", ""),
        vendor=texts.get("vendor", ""),
        info_url=texts.get("infoURL", ""),
        icon_uri=texts.get("iconURI", ""),
        install_param=texts.get("installParam", ""),
    )


def _texts(data: bytes) -> tuple[dict[str, str], list[str]]:
    """The text of each element below `media`, the first of a name; and all types."""
    if len(data) > MAX_DESCRIPTOR:
        raise BadDescriptor(NotifyStatus.INVALID_DESCRIPTOR, f"{len(data)} bytes")
    collector = _Collector()
    parser = etree.XMLParser(
        target=collector,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
    )
    try:
        parser.feed(data)
        parser.close()
    except etree.XMLSyntaxError as error:
        raise BadDescriptor(NotifyStatus.INVALID_DESCRIPTOR, f"no XML: {error.msg}") from None
    if not collector.rooted:
        raise BadDescriptor(NotifyStatus.INVALID_DESCRIPTOR, "an empty document")
    return collector.texts, collector.types


class _Collector:
    """Takes parser events, so that no tree is ever built of what a stranger sent."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.types: list[str] = []
        self.rooted = False
        self._depth = 0
        self._name = ""
        self._parts: list[str] = []
        self._length = 0

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        _invalid("a document type")

    def start(self, tag: str | bytes, attrib: Mapping[str | bytes, str | bytes]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _invalid(f"more than {MAX_DEPTH} elements inside each other")
        namespace, _, name = _text(tag).rpartition("}")
        if self._depth == 1:
            if name != "media" or namespace not in ("{" + NAMESPACE, ""):
                _invalid(f"the root is {name[:32]!r}, not media")
            self.rooted = True
        elif self._depth == 2:
            self._name = name
            self._parts = []
            self._length = 0

    def data(self, data: str | bytes) -> None:
        if self._depth == 2:
            text = _text(data)
            self._length += len(text)
            if self._length > MAX_TEXT:
                _invalid(f"{self._name[:32]} has more than {MAX_TEXT} characters")
            self._parts.append(text)

    def end(self, tag: str | bytes) -> None:
        if self._depth == 2:
            text = "".join(self._parts).strip()
            if self._name == "type":
                if len(self.types) >= MAX_TYPES:
                    _invalid(f"more than {MAX_TYPES} types")
                if text:
                    self.types.append(text)
            else:
                self.texts.setdefault(self._name, text)
        self._depth -= 1

    def comment(self, text: str | bytes) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        """There is nothing to hand over."""


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def _invalid(detail: str) -> NoReturn:
    raise BadDescriptor(NotifyStatus.INVALID_DESCRIPTOR, detail)
