"""A deployment as the server offers it, and as the device keeps it in `nvm`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from protocols.http.messages import BadAnswer

__all__ = ["Deployment", "Kept", "decode_kept", "parse_deployment"]

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
MAX_NAME = 255
MAX_URI = 8192
"""Characters; presigned links of object stores are long."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a device shall install."""

    id: str
    artifact_name: str
    uri: str = field(repr=False)
    device_types: tuple[str, ...] = ()


def parse_deployment(answer: Mapping[str, Any]) -> Deployment:
    """The body of a 200 to `next`. Raises BadAnswer, which names what is wrong."""
    identifier = answer.get("id")
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        raise BadAnswer("'id' of the deployment is no identifier")
    artifact = answer.get("artifact")
    if not isinstance(artifact, dict):
        raise BadAnswer("'artifact' is no object")
    source = artifact.get("source")
    if not isinstance(source, dict):
        raise BadAnswer("'artifact.source' is no object")
    types = artifact.get("device_types_compatible") or []
    if not isinstance(types, list) or not all(isinstance(one, str) for one in types):
        raise BadAnswer("'artifact.device_types_compatible' is no list of texts")
    return Deployment(
        identifier,
        _text(artifact, "artifact_name", MAX_NAME),
        _text(source, "uri", MAX_URI),
        tuple(types),
    )


def _text(members: Mapping[str, Any], name: str, limit: int) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise BadAnswer(f"{name!r} is missing or no text")
    if len(value) > limit:
        raise BadAnswer(f"{name!r} is longer than {limit} characters")
    return value


@dataclass(frozen=True, slots=True)
class Kept:
    """The deployment under way: what a reboot must not lose."""

    id: str
    artifact_name: str

    def encode(self) -> bytes:
        return json.dumps([self.id, self.artifact_name], separators=(",", ":")).encode()


def decode_kept(data: bytes | None) -> Kept | None:
    """None for nothing, and for what no client of this version wrote."""
    if data is None:
        return None
    try:
        identifier, name = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(identifier, str) or not isinstance(name, str):
        return None
    return Kept(identifier, name)
