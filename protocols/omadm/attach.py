"""How a device attaches to an operator network that is reached by HTTP (docs/operator-network.md).

The network is told the serving cell and where pushed datagrams reach the device, before its first
session; it may then find short messages that waited for it. A fleet that lives in the process of
its operator network is attached by that process and needs none of this.
"""

from __future__ import annotations

import enum
from urllib.parse import quote

from agent.protocol import Trace
from agent.runtime.http import HttpClient, HttpFailed
from agent.runtime.network import Address
from protocols.http.messages import JSON, json_body

__all__ = ["Attachment", "attach", "detach"]


class Attachment(enum.Enum):
    """What became of asking to attach."""

    TAKEN = enum.auto()
    REFUSED = enum.auto()
    """The network takes our word for nothing: the token is wrong or has expired."""
    MISSED = enum.auto()
    """It did not answer, or not now; to be tried again."""


async def attach(
    http: HttpClient,
    base: str,
    token: str,
    device: str,
    cell: str,
    push: Address,
    trace: Trace | None,
) -> Attachment:
    """PUT the attachment."""
    host = f"[{push[0]}]" if ":" in push[0] else push[0]
    body = json_body({"cell": cell, "push": f"{host}:{push[1]}"})
    status = await _ask(http, "PUT", base, token, device, body)
    if trace is not None:
        trace(f"< {status or 'no answer'} attach to {cell}")
    if status in (401, 403):
        return Attachment.REFUSED
    return Attachment.TAKEN if 200 <= status < 300 else Attachment.MISSED


async def detach(http: HttpClient, base: str, token: str, device: str) -> None:
    """DELETE it; a network that does not hear finds out by itself."""
    await _ask(http, "DELETE", base, token, device, b"")


async def _ask(
    http: HttpClient, method: str, base: str, token: str, device: str, body: bytes
) -> int:
    headers = [("Content-Type", JSON)] if body else []
    if token:
        headers.append(("Authorization", f"Bearer {token}"))
    url = f"{base}/operator/devices/{quote(device, safe='')}"
    try:
        answer = await http.request(method, url, headers=headers, body=body)
    except HttpFailed:
        return 0
    return answer.status
