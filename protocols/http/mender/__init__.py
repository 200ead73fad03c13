"""Mender's device APIs: authentication by a key of its own, inventory, deployments, logs."""

from protocols.http.mender.client import MenderClient

__all__ = ["MenderClient"]
