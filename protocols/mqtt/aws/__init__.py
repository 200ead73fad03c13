"""AWS IoT: jobs, OTA documents, MQTT streams."""

from protocols.mqtt.aws.client import AwsClient

__all__ = ["AwsClient"]
