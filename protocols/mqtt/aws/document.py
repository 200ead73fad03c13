"""Job documents: what a job asks of a device.

The FreeRTOS OTA document (`afr_ota`) is understood, with one file, which is the firmware image:

    {"afr_ota": {"protocols": ["MQTT", "HTTP"], "streamname": "AFR_OTA-...",
                 "files": [{"filepath": "/", "filesize": 65536, "fileid": 0, "certfile": "key.pem",
                            "sig-sha256-ecdsa": "<base64 DER>",
                            "update_data_url": "https://...", "auth_scheme": "aws.s3.presigned"}]}}

Any other document is somebody else's job: refused as an unsupported package.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from dataclasses import dataclass, field

__all__ = ["BadDocument", "OtaFile", "Way", "parse_document"]

STREAM_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")
MAX_FILE = 1 << 32
"""Far above any slot; the engine refuses what does not fit."""
MAX_SIGNATURE = 256
"""Bytes; an ECDSA P-256 signature has at most 72."""


class BadDocument(ValueError):
    """A job document that cannot be carried out; the text names the member."""


class Way(enum.Enum):
    """How a file is fetched; the value is the name in `protocols`."""

    STREAM = "MQTT"
    URL = "HTTP"


@dataclass(frozen=True, slots=True)
class OtaFile:
    """The image that a job offers."""

    ways: tuple[Way, ...]
    """In the order of the document."""
    size: int
    file_id: int
    stream: str
    url: str = field(repr=False)
    """Presigned, so a secret while it lasts."""
    signature: bytes = field(repr=False)
    """DER; empty when the document has none."""
    certificate: str
    """The name of the certificate that signed it, as the device knows it."""


def parse_document(document: object) -> OtaFile:
    """Raises :class:`BadDocument`."""
    ota = _dict(_dict(document, "the job document").get("afr_ota"), "afr_ota")
    files = ota.get("files")
    if not isinstance(files, list) or not files:
        raise BadDocument("files: missing or empty")
    if len(files) != 1:
        raise BadDocument(f"files: {len(files)} of them, this device has room for one image")
    file = _dict(files[0], "files[0]")
    url = _text(file, "update_data_url", 8192)
    stream = _text(ota, "streamname", 128)
    if stream and not STREAM_ID.fullmatch(stream):
        raise BadDocument("streamname: no stream id")
    ways = _ways(ota.get("protocols"), stream, url)
    size = _number(file, "filesize", MAX_FILE)
    if size == 0:
        raise BadDocument("filesize: 0")
    return OtaFile(
        ways=ways,
        size=size,
        file_id=_number(file, "fileid", 255),
        stream=stream,
        url=url,
        signature=_signature(file),
        certificate=_text(file, "certfile", 1024),
    )


def _ways(protocols: object, stream: str, url: str) -> tuple[Way, ...]:
    if not isinstance(protocols, list) or not all(isinstance(name, str) for name in protocols):
        raise BadDocument("protocols: no list of names")
    has = {Way.STREAM: stream, Way.URL: url}
    known = [way for name in protocols for way in Way if way.value == name]
    for way in known:
        if not has[way]:
            raise BadDocument(f"protocols: {way.value} without what it needs")
    return tuple(dict.fromkeys(known))


def _signature(file: dict[str, object]) -> bytes:
    text = _text(file, "sig-sha256-ecdsa", 4 * MAX_SIGNATURE)
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadDocument("sig-sha256-ecdsa: no base64") from None
    if len(signature) > MAX_SIGNATURE:
        raise BadDocument("sig-sha256-ecdsa: too long")
    return signature


def _dict(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadDocument(f"{name}: missing or no object")
    return value


def _text(value: dict[str, object], name: str, limit: int) -> str:
    text = value.get(name, "")
    if not isinstance(text, str) or len(text) > limit:
        raise BadDocument(f"{name}: no text of at most {limit} characters")
    return text


def _number(value: dict[str, object], name: str, limit: int) -> int:
    number = value.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= limit:
        raise BadDocument(f"{name}: no number from 0 to {limit}")
    return number
