"""Version 1 of the device wire (docs/device-checkin.md): requests built, answers checked.

An answer becomes frozen data or a `BadAnswer` that names the member at fault. Unknown members are
ignored. Everything is bounded, because an order is kept for as long as its campaign lasts.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from agent.runtime.http import HttpResponse
from protocols.http.checkin.tables import Word
from protocols.http.checkin.windows import Hours
from protocols.http.messages import BadAnswer, json_object

__all__ = [
    "CHECK_IN_PATH",
    "LOGS_PATH",
    "CheckInAnswer",
    "Current",
    "Installed",
    "Kind",
    "Order",
    "Persona",
    "Reason",
    "StatusReport",
    "check_in_body",
    "error_text",
    "log_body",
    "parse_check_in",
    "rfc3339",
    "status_body",
    "status_path",
]

CHECK_IN_PATH = "/device/v1/checkin"
LOGS_PATH = "/device/v1/logs"

MAX_ID = 64
MAX_NAME = 300
"""Of software or a file: the backend builds file names from make, model and a name of 128."""
MAX_VERSION = 255
MAX_WORD = 64
MAX_URL = 1024
"""Characters; what the update engine can keep of one over a reboot."""
MAX_SIZE = (1 << 53) - 1
"""The largest integer that every JSON parser agrees on."""
MAX_CANCEL = 256
"""Campaigns cancelled in one answer: a device is in one or two at a time."""
MAX_WINDOWS = 64
"""Windows of one list; 24 cover a day, the rest is slack for overlapping ones."""
MAX_NEXT_CHECK_IN = 30 * 86_400
"""Seconds. A server that says more is obeyed for so long: its history keeps a device that long."""
MAX_ERROR_TEXT = 200
YEARS = range(1970, 9000)
"""Beyond, calendar arithmetic overflows; no campaign is there."""

_UNUSABLE = re.compile("[\0\ud800-\udfff]")
"""What neither `nvm` nor UTF-8 can hold."""


class Reason(enum.StrEnum):
    """Why a device checks in."""

    POWER_UP = "power-up"
    SCHEDULE = "schedule"
    RETRY = "retry"
    USER = "user"


class Kind(enum.StrEnum):
    """What a campaign brings."""

    FIRMWARE = "firmware"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Persona:
    """What a device says it is."""

    client_type: str = "RovaClient"
    make: str = "fotilla"
    model: str = "virtual"


@dataclass(frozen=True, slots=True)
class Installed:
    """One entry of `software` or `files`."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Current:
    """The update under way, as a check-in names it."""

    campaign_id: str
    state: Word
    offset: int = 0
    """Bytes of the package that are stored."""


@dataclass(frozen=True, slots=True)
class Order:
    """The one update that the server wants done."""

    id: str
    kind: Kind
    name: str
    to: str
    path: str
    """Where a file goes; empty for firmware, and when the server does not say."""
    url: str
    """As the server wrote it, perhaps relative."""
    size: int
    sha256: str
    start: datetime.date
    end: datetime.date
    download_after: datetime.date | None
    install_after: datetime.date | None
    download: Hours
    install: Hours


@dataclass(frozen=True, slots=True)
class CheckInAnswer:
    """What the server answered to a check-in."""

    server_time: datetime.datetime
    next_check_in: int
    """Seconds."""
    order: Order | None
    cancel: frozenset[str]
    logging_until: datetime.datetime | None
    """Verbose logging is on until then; None: it is off."""


@dataclass(frozen=True, slots=True)
class StatusReport:
    """One report on a campaign, kept until it is answered: the same `seq` says the same."""

    seq: int
    word: Word
    reason: str
    time: str
    version: str


# -- requests -----------------------------------------------------------------------------------


def rfc3339(utc: datetime.datetime) -> str:
    """`2030-01-01T00:00:00.000Z`."""
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


def status_path(campaign_id: str) -> str:
    return f"/device/v1/campaigns/{quote(campaign_id, safe='')}/status"


def check_in_body(
    device_id: str,
    reason: Reason,
    persona: Persona,
    software: Sequence[Installed],
    files: Sequence[Installed],
    current: Current | None,
) -> dict[str, object]:
    body: dict[str, object] = {
        "deviceId": device_id,
        "reason": reason,
        "clientType": persona.client_type,
        "make": persona.make,
        "model": persona.model,
        "software": [{"name": one.name, "version": one.version} for one in software],
        "files": [{"name": one.name, "version": one.version} for one in files],
    }
    if current is not None:
        body["current"] = {
            "campaignId": current.campaign_id,
            "state": current.state,
            "offset": current.offset,
        }
    return body


def status_body(report: StatusReport) -> dict[str, object]:
    body: dict[str, object] = {"seq": report.seq, "state": report.word, "time": report.time}
    if report.reason:
        body["reason"] = report.reason
    if report.version:
        body["version"] = report.version
    return body


def log_body(device_id: str, time: str, text: str) -> dict[str, object]:
    """One DeviceLog of the API; virtual devices have no binary logs."""
    return {
        "deviceId": device_id,
        "logTime": time,
        "logType": "SoftwareUpdate",
        "eventLog": text,
        "binaryLogFileBase64": "",
        "binaryLogFilename": "",
    }


# -- answers ------------------------------------------------------------------------------------


def error_text(answer: HttpResponse) -> str:
    """`errorCode: errorMessage` of a refusal, as far as it holds them; for a person to read."""
    try:
        body = json_object(answer)
    except BadAnswer:
        return ""
    parts = [body.get("errorCode"), body.get("errorMessage")]
    text = ": ".join(part for part in parts if isinstance(part, str) and part)
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_ERROR_TEXT])


def parse_check_in(answer: HttpResponse) -> CheckInAnswer:
    """Raises BadAnswer."""
    body = json_object(answer)
    order = body.get("campaign")
    cancel = body.get("cancel", [])
    if not isinstance(cancel, list) or len(cancel) > MAX_CANCEL:
        raise BadAnswer(f"cancel: a list of at most {MAX_CANCEL} ids was expected")
    ids = frozenset(_checked_text(f"cancel[{i}]", one, 1, MAX_ID) for i, one in enumerate(cancel))
    return CheckInAnswer(
        server_time=_time(body, "serverTime", ""),
        next_check_in=min(_whole(body, "nextCheckIn", "", 1, MAX_SIZE), MAX_NEXT_CHECK_IN),
        order=None if order is None else _order(_checked_object("campaign", order)),
        cancel=ids,
        logging_until=_logging(_member(body, "logging", "")),
    )


def _order(body: Mapping[str, Any]) -> Order:
    where = "campaign."
    kind = _text(body, "kind", where, 1, MAX_WORD)
    if kind not in tuple(Kind):
        raise BadAnswer(f"campaign.kind: neither firmware nor file: {kind!r}")
    url = _text(body, "url", where, 1, MAX_URL)
    if any(c.isspace() or not c.isprintable() for c in url):
        raise BadAnswer("campaign.url: holds characters that no URL has")
    sha256 = _text(body, "sha256", where, 64, 64)
    if set(sha256) - set("0123456789abcdef"):
        raise BadAnswer("campaign.sha256: not 64 hex digits in lower case")
    dates = _checked_object("campaign.dates", _member(body, "dates", where))
    windows = _checked_object("campaign.windows", _member(body, "windows", where))
    start = _date(dates, "start")
    end = _date(dates, "end")
    if end < start:
        raise BadAnswer("campaign.dates.end: before the start")
    return Order(
        id=_text(body, "id", where, 1, MAX_ID),
        kind=Kind(kind),
        name=_text(body, "name", where, 1, MAX_NAME),
        to=_text(body, "to", where, 1, MAX_VERSION),
        path=_text(body, "path", where, 0, MAX_VERSION) if "path" in body else "",
        url=url,
        size=_whole(body, "size", where, 0, MAX_SIZE),
        sha256=sha256,
        start=start,
        end=end,
        download_after=_optional_date(dates, "downloadAfter"),
        install_after=_optional_date(dates, "installAfter"),
        download=_hours(windows, "download"),
        install=_hours(windows, "install"),
    )


def _logging(value: object) -> datetime.datetime | None:
    body = _checked_object("logging", value)
    on = _member(body, "on", "logging.")
    if not isinstance(on, bool):
        raise BadAnswer("logging.on: a boolean was expected")
    return _time(body, "until", "logging.") if on else None


def _member(body: Mapping[str, Any], name: str, where: str) -> object:
    if name not in body:
        raise BadAnswer(f"{where}{name}: missing")
    return body[name]


def _checked_object(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadAnswer(f"{name}: an object was expected")
    return value


def _checked_text(name: str, value: object, low: int, high: int) -> str:
    if not isinstance(value, str) or not low <= len(value) <= high:
        raise BadAnswer(f"{name}: a string of {low} to {high} characters was expected")
    if _UNUSABLE.search(value):
        raise BadAnswer(f"{name}: holds a NUL or half a surrogate pair")
    return value


def _text(body: Mapping[str, Any], name: str, where: str, low: int, high: int) -> str:
    return _checked_text(where + name, _member(body, name, where), low, high)


def _whole(body: Mapping[str, Any], name: str, where: str, low: int, high: int) -> int:
    value = _member(body, name, where)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadAnswer(f"{where}{name}: an integer from {low} to {high} was expected")
    return value


def _time(body: Mapping[str, Any], name: str, where: str) -> datetime.datetime:
    text = _text(body, name, where, 20, 40)
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise BadAnswer(f"{where}{name}: not an RFC 3339 time") from None
    if time.tzinfo is None or time.year not in YEARS:
        raise BadAnswer(f"{where}{name}: without a zone, or in no usable year")
    return time.astimezone(datetime.UTC)


def _optional_date(body: Mapping[str, Any], name: str) -> datetime.date | None:
    return _date(body, name) if body.get(name) is not None else None


def _date(body: Mapping[str, Any], name: str) -> datetime.date:
    text = _text(body, name, "campaign.dates.", 10, 10)
    try:
        date = datetime.date.fromisoformat(text)
    except ValueError:
        raise BadAnswer(f"campaign.dates.{name}: not a date YYYY-MM-DD") from None
    if date.year not in YEARS:
        raise BadAnswer(f"campaign.dates.{name}: in no usable year")
    return date


def _hours(body: Mapping[str, Any], name: str) -> Hours:
    where = f"campaign.windows.{name}"
    value = _member(body, name, "campaign.windows.")
    if not isinstance(value, list) or len(value) > MAX_WINDOWS:
        raise BadAnswer(f"{where}: a list of at most {MAX_WINDOWS} windows was expected")
    windows: list[tuple[int, int]] = []
    for index, one in enumerate(value):
        here = f"{where}[{index}]"
        window = _checked_object(here, one)
        start = _whole(window, "startTime", f"{here}.", 0, 23)
        windows.append((start, _whole(window, "endTime", f"{here}.", start + 1, 24)))
    return Hours.of(windows)
