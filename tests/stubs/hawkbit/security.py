"""Who may: device tokens, gateway tokens, a reverse proxy's headers, Basic for management."""

from __future__ import annotations

import base64
import hmac
import re

from tests.stubs.hawkbit.errors import Plain
from tests.stubs.hawkbit.http import Request
from tests.stubs.hawkbit.state import HawkbitState


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())


def check_management(state: HawkbitState, request: Request) -> None:
    """Raises Plain(401)."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    given = b""
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(value, validate=True)
        except ValueError:
            given = b""
    expected = f"{state.settings.user}:{state.settings.password}"
    if not hmac.compare_digest(given, expected.encode()):
        raise Plain(401, (("www-authenticate", 'Basic realm="Realm"'),))


def check_device(state: HawkbitState, request: Request, tenant: str, device: str) -> None:
    """One of the modes that the tenant has switched on must hold. Raises Plain(401)."""
    if tenant.upper() != state.settings.tenant.upper():
        raise Plain(401)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    target = state.targets.get(device)
    expected = ""
    if scheme == "TargetToken" and state.setting("authentication.targettoken.enabled"):
        expected = target.security_token if target is not None else ""
    elif scheme == "GatewayToken" and state.setting("authentication.gatewaytoken.enabled"):
        expected = state.setting("authentication.gatewaytoken.key")
    if expected and _same(token, expected):
        return
    if state.setting("authentication.header.enabled") and _proxied(state, request, device):
        return
    raise Plain(401)


def _proxied(state: HawkbitState, request: Request, device: str) -> bool:
    """A proxy ended mutual TLS: the certificate's name is the device, its authority is known."""
    if request.headers.get("x-controller-id") != device:
        return False
    configured = str(state.setting("authentication.header.authority"))
    known = {part.strip().lower() for part in re.split("[;,]", configured) if part.strip()}
    shown = request.headers.get("x-authority", "").split(",")
    index = 0
    while (one := request.headers.get(f"x-authority-{index}")) is not None:
        shown.append(one)
        index += 1
    return bool(known & {part.strip().lower() for part in shown})
