"""The device-facing servers that come with the project, by name."""

from __future__ import annotations

from tools.backend.faces import http, lwm2m, omadm
from tools.backend.faces.base import FaceMaker, device_faces

__all__ = ["known_faces", "known_protocols"]

_MODULES = (http, lwm2m, omadm)
"""Importing a module registers its face."""


def known_faces() -> dict[str, FaceMaker]:
    """What makes each face."""
    return {name: device_faces.get(name) for name in device_faces}


def known_protocols() -> dict[str, FaceMaker]:
    """The same by what campaigns of the API call the protocol."""
    return {maker.protocol: maker for maker in known_faces().values()}
