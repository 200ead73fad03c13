"""What connects a device with HTTP: the transport of its runtime, and what its link does."""

from __future__ import annotations

from agent.device import Device
from agent.runtime.http import HttpLink, HttpTransport
from agent.runtime.runtime import Runtime

__all__ = ["link_of", "transport_of"]


def transport_of(runtime: Runtime) -> HttpTransport:
    """What the devices of `runtime` speak HTTP through; closed with the runtime."""
    if runtime.http is None:
        # Imported late: a run that speaks no HTTP does not pay for the library.
        from protocols.http.aiohttp_transport import AiohttpTransport

        runtime.http = AiohttpTransport(runtime)
    return runtime.http


def link_of(device: Device, bandwidth: float | None) -> HttpLink:
    """What the link of `device` does to a download, by its fault plan."""
    faults = device.faults
    if faults is None or not faults.cut_downloads:
        return HttpLink(bandwidth)

    def cut(offset: int) -> None:
        # Used up; the plan is the device's, so a reboot does not repeat it.
        faults.cut_downloads = tuple(one for one in faults.cut_downloads if one != offset)

    return HttpLink(bandwidth, faults.cut_downloads, cut)
