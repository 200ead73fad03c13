"""What both ThingsBoard clients take from a person."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from protocols.thingsboard.personas import Persona, persona

__all__ = ["MISBEHAVIOURS", "OPTIONS", "Options", "read_options"]

OPTIONS = frozenset({"persona", "title", "chunk", "interval"})

MISBEHAVIOURS = frozenset(
    {
        Misbehaviour.DUPLICATE_REPORT,
        Misbehaviour.OUT_OF_ORDER,
        Misbehaviour.FOREIGN_REPORT,
        Misbehaviour.STALE_CREDENTIAL,
        Misbehaviour.NEVER_REPORT,
        Misbehaviour.FALSE_SUCCESS,
        Misbehaviour.FALSE_FAILURE,
    }
)
"""The server keeps every state it is told, in whatever order: those three are judged by the audit,
and so are lies. A device is its token, so no clone can be told from the original."""

DEFAULT_TITLE = "fotilla"
DEFAULT_INTERVAL = 30.0
"""Seconds between two looks at the attributes over HTTP."""

MAX_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Options:
    persona: Persona
    title: str
    """Of the factory image; the server names packages by title and version."""
    interval: float


def read_options(options: Mapping[str, str]) -> Options:
    """Raises UnusableSettings."""
    return _read(frozenset(options.items()))


@functools.lru_cache(maxsize=16)  # one entry per group of devices, not per device
def _read(items: frozenset[tuple[str, str]]) -> Options:
    options = dict(items)
    chosen = persona(options.get("persona", "default"))
    chunk = options.get("chunk")
    if chunk is not None:
        if not (chunk.isascii() and chunk.isdigit() and 0 < int(chunk[:9]) <= MAX_CHUNK):
            raise UnusableSettings(f"chunk is {chunk!r}: 1 to {MAX_CHUNK} bytes")
        chosen = replace(chosen, chunk=int(chunk))
    try:
        interval = float(options.get("interval", DEFAULT_INTERVAL))
    except ValueError:
        raise UnusableSettings(f"interval is {options['interval']!r}: seconds") from None
    if not 0.1 <= interval <= 86_400:
        raise UnusableSettings(f"interval is {interval:g} s: 0.1 to 86,400")
    return Options(chosen, options.get("title", DEFAULT_TITLE), interval)
