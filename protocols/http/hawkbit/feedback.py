"""Bodies of what a device sends to a DDI server."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from protocols.http.hawkbit.persona import Persona
from protocols.http.hawkbit.tables import Report

__all__ = ["MAX_DETAIL", "MAX_DETAILS", "feedback_body"]

MAX_DETAILS = 50
"""Messages of one feedback; hawkBit answers more with 429 (its quota of messages per status)."""

MAX_DETAIL = 512
"""Characters of one message: the length of hawkBit's column."""


def feedback_body(
    report: Report,
    details: Sequence[str],
    *,
    persona: Persona,
    action: str,
    utc: datetime.datetime | None = None,
    bounded: bool = True,
) -> dict[str, Any]:
    """A feedback as JSON. Its details are cut to what hawkBit stores, if they are `bounded`."""
    result: dict[str, Any] = {"finished": report.finished.value}
    if persona.progress:
        result["progress"] = {"cnt": 0, "of": 0}
    status: dict[str, Any] = {"execution": report.execution.value, "result": result}
    if bounded:
        details = [text[:MAX_DETAIL] for text in details[:MAX_DETAILS]]
    status["details"] = list(details)
    body: dict[str, Any] = {}
    if persona.body_id:
        body["id"] = action
    if utc is not None:
        body["timestamp"] = int(utc.timestamp() * 1000)
    body["status"] = status
    return body
