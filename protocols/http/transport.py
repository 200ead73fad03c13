"""The transport of a runtime: its own when it was given one, else real sockets on first use."""

from __future__ import annotations

from agent.runtime.http import HttpTransport
from agent.runtime.runtime import Runtime

__all__ = ["transport_of"]


def transport_of(runtime: Runtime) -> HttpTransport:
    """What the devices of `runtime` speak HTTP through; closed with the runtime."""
    if runtime.http is None:
        # Imported late: a run that speaks no HTTP does not pay for the library.
        from protocols.http.aiohttp_transport import AiohttpTransport

        runtime.http = AiohttpTransport(runtime)
    return runtime.http
