"""Artifact bytes over HTTP: RFC 9110 ranges as hawkBit's FileStreamingUtil serves them."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from tests.stubs.hawkbit.http import Request, Response
from tests.stubs.hawkbit.model import Artifact

_RANGES = re.compile(r"bytes=\d*-\d*(?:,\s*\d*-\d*)*")


def _modified(artifact: Artifact) -> datetime:
    return datetime.fromtimestamp(artifact.created_at // 1000, UTC)


def _range_holds(request: Request, artifact: Artifact) -> bool:
    """If-Range: an entity tag that is ours, or a date that is not before the artifact's."""
    condition = request.headers.get("if-range")
    if condition is None:
        return True
    if condition.startswith('"') or condition.startswith("W/"):
        return condition == f'"{artifact.sha1}"'
    try:
        return parsedate_to_datetime(condition) >= _modified(artifact)
    except (TypeError, ValueError):
        return False


def _ranges(header: str, size: int) -> list[tuple[int, int]] | None:
    """(first, last) of each satisfiable range; None when the header or any range is not."""
    if not _RANGES.fullmatch(header):
        return None
    found: list[tuple[int, int]] = []
    for part in header.removeprefix("bytes=").split(","):
        first_text, _, last_text = part.strip().partition("-")
        if first_text:
            first = int(first_text)
            last = min(int(last_text), size - 1) if last_text else size - 1
        elif last_text:
            first, last = max(size - int(last_text), 0), size - 1
        else:
            return None
        if first > last:
            return None
        found.append((first, last))
    return found


def download(request: Request, artifact: Artifact) -> Response:
    """200, 206 (one range or multipart/byteranges), 412 or 416."""
    if_match = request.headers.get("if-match")
    if if_match is not None:
        held = {part.strip().strip('"') for part in if_match.split(",")}
        if not held & {artifact.sha1, "*"}:
            return Response(412)
    content, size = artifact.content, len(artifact.content)
    headers = {
        "content-disposition": f"attachment;filename={artifact.filename}",
        "last-modified": format_datetime(_modified(artifact), usegmt=True),
        "etag": f'"{artifact.sha1}"',
        "accept-ranges": "bytes",
        "content-type": "application/octet-stream",
    }
    wanted = request.headers.get("range")
    if wanted is None or not _range_holds(request, artifact):
        return Response(200, content, headers)
    ranges = _ranges(wanted, size)
    if ranges is None:
        headers["content-range"] = f"bytes */{size}"
        return Response(416, b"", headers)
    if len(ranges) == 1:
        first, last = ranges[0]
        headers["content-range"] = f"bytes {first}-{last}/{size}"
        return Response(206, content[first : last + 1], headers)
    boundary = hashlib.sha256(wanted.encode()).hexdigest()[:24]
    body = bytearray()
    for first, last in ranges:
        body += f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n".encode()
        body += f"Content-Range: bytes {first}-{last}/{size}\r\n\r\n".encode()
        body += content[first : last + 1]
    body += f"\r\n--{boundary}--\r\n".encode()
    headers["content-type"] = f"multipart/byteranges; boundary={boundary}"
    return Response(206, bytes(body), headers)


def md5sum(artifact: Artifact) -> Response:
    body = f"{artifact.md5}  {artifact.filename}".encode()
    headers = {
        "content-disposition": f"attachment;filename={artifact.filename}.MD5SUM",
        "content-type": "text/plain;charset=UTF-8",
    }
    return Response(200, body, headers)
