"""The routes of the operator network, ours: attach, detach, cell, short messages.

They ask for the access token only, no session (docs/operator-network.md).
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from tools.backend.errors import RequestRefused
from tools.backend.inventory import DEVICE_ID, Account
from tools.backend.operator_network.cells import MAX_CELL
from tools.backend.operator_network.network import (
    MAX_PDU,
    MAX_VALIDITY,
    NOWHERE,
    MessageRefused,
)
from tools.backend.rest.auth import Sessions
from tools.backend.rest.body import read_model
from tools.backend.rest.common import body_of
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend
    from tools.backend.operator_network.rows import Attachment

MAX_MESSAGE_NUMBER = 2**53 - 1
"""What a JSON number holds exactly in every implementation (RFC 8259 section 6)."""


class AttachRequest(BaseModel):
    """Where a device is."""

    model_config = ConfigDict(extra="ignore")
    cell: Annotated[StrictStr, Field(min_length=1, max_length=MAX_CELL)]
    push: Annotated[StrictStr, Field(max_length=64)] | None = None
    """HOST:PORT, the host an IP address; without it nothing can be pushed to the device."""


class MessageRequest(BaseModel):
    """A short message."""

    model_config = ConfigDict(extra="ignore")
    pdu: Annotated[StrictStr, Field(min_length=1, max_length=2 * MAX_PDU)]
    """Base64."""
    validity: Annotated[float, Field(gt=0, le=MAX_VALIDITY)]
    """Seconds."""


def router(backend: Backend, sessions: Sessions) -> APIRouter:
    """The routes of `/operator`."""
    from tools.backend.serve import parse_bind

    routes = APIRouter(prefix="/operator")

    def addressed(account: Account, text: str) -> str:
        """The device id that the path means. The operator serves devices that no account has;
        another account's answers as one that does not exist."""
        device = backend.inventory.identified(text)
        if device is not None:
            if device.account != account.name:
                raise RequestRefused("Device does not exist.")
            return device.device_id
        if not DEVICE_ID.fullmatch(text):
            raise RequestRefused("Invalid device id format")
        return text

    def shown(device_id: str, attachment: Attachment | None) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "deviceId": device_id,
            "attached": attachment is not None,
            "monitored": backend.operator.monitored(device_id),
            "waitingMessages": backend.operator.waiting(device_id),
        }
        if attachment is not None:
            host = f"[{attachment.host}]" if ":" in attachment.host else attachment.host
            answer["cell"] = attachment.cell
            if attachment.push != NOWHERE:
                answer["push"] = f"{host}:{attachment.port}"
            answer["since"] = rfc3339(attachment.since)
        return answer

    @routes.put("/devices/{deviceId}", openapi_extra=body_of(AttachRequest))
    async def attach(request: Request, deviceId: str) -> dict[str, Any]:
        device_id = addressed(sessions.bearer(request), deviceId)
        asked = await read_model(request, AttachRequest)
        try:
            push = None if asked.push is None else parse_bind(asked.push)
        except ValueError as error:
            raise RequestRefused(f"push: {error}") from None
        attachment = await backend.operator.attach(device_id, asked.cell, push)
        return shown(device_id, attachment)

    @routes.get("/devices/{deviceId}")
    async def show(request: Request, deviceId: str) -> dict[str, Any]:
        device_id = addressed(sessions.bearer(request), deviceId)
        return shown(device_id, backend.operator.attachment(device_id))

    @routes.delete("/devices/{deviceId}")
    async def detach(request: Request, deviceId: str) -> dict[str, Any]:
        device_id = addressed(sessions.bearer(request), deviceId)
        if not await backend.operator.detach(device_id):
            raise RequestRefused("Device is not attached")
        return shown(device_id, None)

    @routes.post("/devices/{deviceId}/messages", openapi_extra=body_of(MessageRequest))
    async def submit(request: Request, deviceId: str) -> dict[str, Any]:
        device_id = addressed(sessions.bearer(request), deviceId)
        asked = await read_model(request, MessageRequest)
        try:
            pdu = base64.b64decode(asked.pdu, validate=True)
        except (binascii.Error, ValueError):
            raise RequestRefused("pdu: not base64") from None
        try:
            number = await backend.operator.submit(device_id, pdu, asked.validity)
        except MessageRefused as error:
            raise RequestRefused(str(error)) from None
        return {"messageId": number, "state": backend.operator.state_of(number)}

    @routes.get("/messages/{messageId}")
    async def message(request: Request, messageId: str) -> dict[str, Any]:
        sessions.bearer(request)
        number = int(messageId) if messageId.isdecimal() and len(messageId) <= 16 else -1
        state = backend.operator.state_of(number) if number <= MAX_MESSAGE_NUMBER else ""
        if not state:
            raise RequestRefused("Message does not exist")
        return {"messageId": number, "state": state}

    return routes
