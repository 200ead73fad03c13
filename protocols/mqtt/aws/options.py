"""What a person may set of the AWS client (`--option NAME=VALUE`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.errors import UnusableSettings
from protocols.mqtt.aws.document import Way
from protocols.mqtt.aws.streams import MAX_BLOCK, MIN_BLOCK

__all__ = ["NAMES", "AwsOptions", "parse_options"]


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """The defaults are those of the FreeRTOS OTA agent where it has one."""

    block: int = 4096
    """Bytes of a stream's block (otaconfigLOG2_FILE_BLOCK_SIZE 12)."""
    window: int = 8
    """Blocks that are asked for at once (otaconfigMAX_NUM_BLOCKS_REQUEST)."""
    encoding: Literal["cbor", "json"] = "cbor"
    """Of streams."""
    download: Way | None = None
    """The way that is taken when a job offers both; None: the first one that it names."""
    signer: str = ""
    """PEM file of the certificate or public key that `sig-sha256-ecdsa` is checked with."""
    step_timeout: int | None = 30
    """Minutes that the service gives a step before it calls the job TIMED_OUT; None leaves it to
    the job."""
    keepalive: int = 60
    """Seconds; AWS takes 30 to 1200."""


NAMES = frozenset(
    {"block", "window", "encoding", "download", "signer", "step-timeout", "keepalive"}
)


def parse_options(options: Mapping[str, str]) -> AwsOptions:
    """Raises :class:`~agent.errors.UnusableSettings`."""
    return _parse(tuple(sorted(options.items())))


@functools.lru_cache(maxsize=16)
def _parse(options: tuple[tuple[str, str], ...]) -> AwsOptions:
    """One object for a fleet."""
    given = dict(options)
    defaults = AwsOptions()
    encoding = given.get("encoding", defaults.encoding)
    if encoding != "cbor" and encoding != "json":
        raise UnusableSettings(f"aws: encoding is cbor or json, not {encoding!r}")
    ways = {"mqtt": Way.STREAM, "http": Way.URL}
    download = given.get("download")
    if download is not None and download not in ways:
        raise UnusableSettings(f"aws: download is mqtt or http, not {download!r}")
    minutes = _number(given, "step-timeout", 30, 0, 10_080)
    return AwsOptions(
        block=_number(given, "block", defaults.block, MIN_BLOCK, MAX_BLOCK),
        window=_number(given, "window", defaults.window, 1, 512),
        encoding="cbor" if encoding == "cbor" else "json",
        download=None if download is None else ways[download],
        signer=given.get("signer", ""),
        step_timeout=minutes or None,
        keepalive=_number(given, "keepalive", defaults.keepalive, 5, 1200),
    )


def _number(given: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise UnusableSettings(f"aws: {name} is a number from {low} to {high}, not {text!r}")
    return int(text)
