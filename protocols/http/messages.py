"""What update servers put into HTTP messages: JSON bodies and `Retry-After`, checked."""

from __future__ import annotations

import datetime
import email.utils
import json
from collections.abc import Mapping
from typing import Any

from agent.runtime.http import HttpResponse

__all__ = ["JSON", "BadAnswer", "Refused", "json_body", "json_object", "retry_after"]

JSON = "application/json"

# Made once: `json.dumps` makes one for each call that wants other separators.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

MAX_RETRY_AFTER = 86_400.0
"""Seconds. A server that says more is obeyed for a day: by then its operator has looked."""


class BadAnswer(Exception):
    """The server answered, and the answer cannot be used. Its fault; `str` holds no secret."""


class Refused(Exception):
    """The server answered with a status that ends this story: unauthorised, busy, broken."""

    def __init__(self, status: int, what: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} to {what}")
        self.status = status
        self.retry_after = retry_after


def json_body(value: object) -> bytes:
    """Compact JSON."""
    return _encode(value).encode()


def json_object(answer: HttpResponse) -> dict[str, Any]:
    """The JSON object that an answer holds. Raises BadAnswer."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        problem = "nests too deeply" if isinstance(error, RecursionError) else "is not JSON"
        raise BadAnswer(f"the answer {problem}") from None
    if not isinstance(value, dict):
        raise BadAnswer(f"the answer is a JSON {type(value).__name__}, not an object")
    return value


def retry_after(headers: Mapping[str, str], utc: datetime.datetime) -> float | None:
    """Seconds that a `Retry-After` asks for (RFC 9110 section 10.2.3), as seconds or as a date;
    None when there is none that can be read."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER) if len(text) < 10 else MAX_RETRY_AFTER
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return min(max(0.0, (date - utc).total_seconds()), MAX_RETRY_AFTER)
