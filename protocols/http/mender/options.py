"""What a person may set of Mender devices."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.errors import UnusableSettings
from protocols.http.mender.identity import KEY_KINDS

__all__ = ["OPTIONS", "MenderOptions", "parse_options"]

OPTIONS = frozenset(
    {"device_type", "identity", "artifact", "key", "tenant_token", "interval", "api", "signed"}
)

MIN_INTERVAL, MAX_INTERVAL = 0.1, 604_800.0


@dataclass(frozen=True, slots=True)
class MenderOptions:
    """All of them, checked."""

    device_type: str = "fotilla"
    identity: str = "fotilla_id"
    """The attribute of the identity data that holds the device's name."""
    artifact: str = "factory"
    """Name of the artifact that the factory image came with."""
    key: str = "ecdsa"
    """Kind of the device's own key, when none is given."""
    tenant_token: str = field(default="", repr=False)
    interval: float = 30.0
    """Seconds between two questions for a deployment."""
    api: str = "v2"
    """How deployments are asked for: v2 posts what the device provides, v1 names it in the URL."""
    signed: bool = False
    """Artifacts must be signed by a key that the device trusts for its images."""


def parse_options(options: Mapping[str, str]) -> MenderOptions:
    """Raises UnusableSettings."""
    return _parsed(frozenset(options.items()))


@functools.lru_cache(maxsize=16)  # one entry per group of devices, not per device
def _parsed(items: frozenset[tuple[str, str]]) -> MenderOptions:
    options = dict(items)
    known = MenderOptions()
    interval = options.get("interval", "30")
    try:
        seconds = float(interval)
    except ValueError:
        raise UnusableSettings(f"interval is {interval!r}: not seconds") from None
    if not MIN_INTERVAL <= seconds <= MAX_INTERVAL:
        raise UnusableSettings(f"interval is {seconds:g} s: {MIN_INTERVAL:g} to {MAX_INTERVAL:g}")
    chosen = MenderOptions(
        device_type=options.get("device_type", known.device_type),
        identity=options.get("identity", known.identity),
        artifact=options.get("artifact", known.artifact),
        key=_one_of(options, "key", KEY_KINDS, known.key),
        tenant_token=options.get("tenant_token", ""),
        interval=seconds,
        api=_one_of(options, "api", ("v1", "v2"), known.api),
        signed=_one_of(options, "signed", ("yes", "no"), "no") == "yes",
    )
    for name in ("device_type", "identity", "artifact"):
        if not getattr(chosen, name):
            raise UnusableSettings(f"{name} is empty")
    return chosen


def _one_of(options: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    value = options.get(name, default)
    if value not in choices:
        raise UnusableSettings(f"{name} is {value!r}: one of {', '.join(choices)}")
    return value
