"""The device wire, version 1 (docs/device-checkin.md): its messages, its words, its refusals."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, Strict, StrictStr, ValidationError

from tools.backend.faces.base import Ending, FaceKind, Order
from tools.backend.timing import Windows

VERSION = "v1"

MAX_CHECK_IN = 64 << 10
"""Bytes; 64 software and 64 file entries of the largest size take 50 KiB."""

MAX_STATUS = 4 << 10
MAX_LOG = 1 << 20
"""Bytes of a log entry, text and binary file together."""

MAX_SEQ = 2**53 - 1
"""What a JSON number holds exactly in every implementation (RFC 8259 section 6)."""

# The update engine's outcomes as words of the wire. `success` is a state.
REASONS: dict[str, Ending] = {
    "cancelled": Ending.CANCELLED,
    "deferred": Ending.DEFERRED,
    "no-space": Ending.NO_SPACE,
    "out-of-memory": Ending.OUT_OF_MEMORY,
    "connection-lost": Ending.CONNECTION_LOST,
    "integrity": Ending.INTEGRITY,
    "signature": Ending.SIGNATURE,
    "wrong-device": Ending.WRONG_DEVICE,
    "downgrade": Ending.DOWNGRADE,
    "dependency": Ending.DEPENDENCY,
    "unsupported-package": Ending.UNSUPPORTED_PACKAGE,
    "bad-uri": Ending.BAD_URI,
    "unsupported-protocol": Ending.UNSUPPORTED_PROTOCOL,
    "install-failed": Ending.INSTALL_FAILED,
    "reverted": Ending.REVERTED,
}

# What a state says to the engine; the two final ones need a look at the rest of the report.
PROGRESS: dict[str, FaceKind] = {
    "downloading": FaceKind.PROGRESS,
    "downloaded": FaceKind.DOWNLOADED,
    "installing": FaceKind.INSTALLING,
}

# With `by_alias` unused and extras ignored: unknown members are the future's.
_SHAPE = ConfigDict(extra="ignore")

Label = Annotated[StrictStr, Field(min_length=1, max_length=64)]
DeviceName = Annotated[StrictStr, Field(min_length=1, max_length=255)]
Moment = Annotated[AwareDatetime, Strict()]


class Item(BaseModel):
    model_config = _SHAPE
    name: Annotated[StrictStr, Field(max_length=300)]
    version: Annotated[StrictStr, Field(max_length=255)]


class Current(BaseModel):
    model_config = _SHAPE
    campaignId: Label
    state: Literal["waiting", "downloading", "downloaded", "installing", "success", "failed"]
    offset: Annotated[int, Strict(), Field(ge=0, le=MAX_SEQ)] = 0


class CheckIn(BaseModel):
    model_config = _SHAPE
    deviceId: DeviceName
    reason: Literal["power-up", "schedule", "retry", "user"]
    clientType: Label
    make: Label
    model: Label
    software: Annotated[list[Item], Field(max_length=64)]
    files: Annotated[list[Item], Field(max_length=64)]
    current: Current | None = None


class Report(BaseModel):
    model_config = _SHAPE
    seq: Annotated[int, Strict(), Field(ge=0, le=MAX_SEQ)]
    state: Literal["downloading", "downloaded", "installing", "success", "failed"]
    reason: Annotated[StrictStr, Field(max_length=64)] | None = None
    time: Moment
    version: Annotated[StrictStr, Field(max_length=255)] | None = None


class DeviceLog(BaseModel):
    """As in the API (v2)."""

    model_config = _SHAPE
    deviceId: DeviceName
    logTime: Moment
    logType: Literal[
        "SoftwareUpdate",
        "Event",
        "UserNotification",
        "AgentService",
        "Wireless",
        "WirelessWeb",
        "MobileBroadbandModem",
        "WindowsMDM",
    ]
    eventLog: Annotated[StrictStr, Field(max_length=65_536)]
    binaryLogFileBase64: StrictStr
    binaryLogFilename: Annotated[StrictStr, Field(max_length=128)]


class Refused(Exception):
    """A request that is answered with an error; the device reads it."""

    def __init__(
        self,
        status: int,
        code: str = "INVALID_PARAMETER",
        message: str = "",
        *headers: tuple[bytes, bytes],
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = b""
        if code:
            self.body = json.dumps({"errorCode": code, "errorMessage": message}).encode()
        self.headers = headers


def unauthorized() -> Refused:
    """401 with nothing that helps a guesser."""
    return Refused(401, "", "", (b"www-authenticate", b"Bearer"))


def not_now(seconds: float, code: str, message: str, status: int = 503) -> Refused:
    """Come again after so many seconds."""
    return Refused(status, code, message, (b"retry-after", b"%d" % max(1, -int(-seconds // 1))))


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], body: bytes) -> M:
    """A body as a message. Raises Refused that names the member at fault."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        text = f"{where}: {first['msg']}" if where else str(first["msg"])
        raise Refused(400, message=text) from None


def ending_of(report: Report) -> Ending:
    """The ending that a `failed` report names. Raises Refused for an unknown word."""
    if report.reason is None:
        raise Refused(400, message="reason: required with failed")
    try:
        return REASONS[report.reason]
    except KeyError:
        raise Refused(400, message=f"reason: {report.reason!r} is no reason") from None


def check_base64(text: str) -> None:
    """Raises Refused for what is no base64 (RFC 4648 section 4)."""
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, message="binaryLogFileBase64: not base64") from None


def _windows(windows: Windows) -> list[dict[str, int]]:
    return [{"startTime": start, "endTime": end} for start, end in windows]


def campaign_answer(order: Order, url: str) -> dict[str, Any]:
    """An order as a device reads it."""
    terms, package = order.terms, order.package
    dates = {"start": terms.start_date, "end": terms.end_date}
    if terms.download_after:
        dates["downloadAfter"] = terms.download_after
    if terms.install_after:
        dates["installAfter"] = terms.install_after
    answer = {
        "id": terms.campaign,
        "kind": terms.kind,
        "name": package.name,
        "to": package.version,
        "url": url,
        "size": len(package.body),
        "sha256": package.digest,
        "dates": dates,
        "windows": {"download": _windows(terms.download), "install": _windows(terms.install)},
    }
    if terms.kind == "file":
        answer["path"] = terms.path
    return answer
