"""The Software Management Services client of HTTP devices: check-in, campaigns, files, logging."""

from protocols.http.checkin.client import CheckInClient

__all__ = ["CheckInClient"]
