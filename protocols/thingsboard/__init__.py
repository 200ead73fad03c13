"""ThingsBoard devices, over MQTT or HTTP as the server's URI says."""

from __future__ import annotations

from agent.device import Device
from agent.protocol import ClientSettings, ProtocolClient, protocol_clients
from protocols.thingsboard.http import ThingsBoardHttp
from protocols.thingsboard.mqtt import ThingsBoardMqtt

__all__ = ["ThingsBoardHttp", "ThingsBoardMqtt"]


@protocol_clients.register("thingsboard")
def _client(device: Device, settings: ClientSettings) -> ProtocolClient:
    if settings.server.partition(":")[0] in ("http", "https"):
        return ThingsBoardHttp(device, settings)
    return ThingsBoardMqtt(device, settings)
