"""MQTT for devices: transports to real brokers and to one in memory, and what clients share."""

from protocols.mqtt.address import BrokerAddress, parse_broker
from protocols.mqtt.broker import MemoryBroker
from protocols.mqtt.client import MqttClient
from protocols.mqtt.transport import AiomqttTransport, transport_of

__all__ = [
    "AiomqttTransport",
    "BrokerAddress",
    "MemoryBroker",
    "MqttClient",
    "parse_broker",
    "transport_of",
]
