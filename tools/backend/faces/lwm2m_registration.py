"""The registration interface's requests, parsed (LwM2M 1.1 core, section 6.2). No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.lwm2m.codecs import CodecError, link
from tools.backend.errors import BackendError

DEFAULT_LIFETIME = 86_400
"""Section 6.2.1.1: without lt, 86400 seconds."""

MAX_LIFETIME = 2**31 - 1
"""Sixty-eight years; keeps an absurd number from becoming an absurd timer."""

MAX_NAME = 255
"""A Uri-Query option holds 255 bytes at most, `ep=` included (RFC 7252 section 5.10)."""

MAX_OBJECTS = 8_192
"""Bytes of an object list that are accepted; a device with hundreds of instances fits."""

VERSIONS = ("1.0", "1.1")
BINDINGS = frozenset("UMHTSNQ")
"""Section 6.2.1.2; Q is the 1.0 way to say queue mode (`UQ`)."""


class BadRegistration(BackendError):
    """A registration request that is refused; `precondition` for an unsupported version (4.12)."""

    def __init__(self, text: str, *, precondition: bool = False) -> None:
        super().__init__(text)
        self.precondition = precondition


@dataclass(frozen=True, slots=True)
class Parameters:
    """The query of Register or Update; None where it says nothing."""

    endpoint: str | None = None
    lifetime: int | None = None
    version: str | None = None
    binding: str | None = None
    queue: bool = False


def parse_queries(queries: Sequence[str]) -> Parameters:
    """The parameters of a query. Unknown ones are ignored; a known one must be right."""
    found: dict[str, str] = {}
    queue = False
    for query in queries:
        name, equals, value = query.partition("=")
        if name == "Q" and not equals:
            queue = True
            continue
        if name not in ("ep", "lt", "lwm2m", "b"):
            continue
        if not equals or not value:
            raise BadRegistration(f"query parameter {name} has no value")
        if name in found:
            raise BadRegistration(f"query parameter {name} is given twice")
        found[name] = value
    binding = found.get("b")
    if binding is not None:
        if not set(binding) <= BINDINGS:
            raise BadRegistration(f"b={binding[:16]} is no binding mode")
        queue = queue or "Q" in binding
    return Parameters(
        found.get("ep"), _lifetime(found.get("lt")), _version(found.get("lwm2m")), binding, queue
    )


def _lifetime(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise BadRegistration(f"lt={text[:16]} is no number of seconds")
    value = int(text)
    if not 1 <= value <= MAX_LIFETIME:
        raise BadRegistration(f"lt={value} is not from 1 to {MAX_LIFETIME}")
    return value


def _version(text: str | None) -> str | None:
    if text is not None and text not in VERSIONS:
        raise BadRegistration(
            f"lwm2m={text[:16]} is not supported, only {' and '.join(VERSIONS)}", precondition=True
        )
    return text


def check_register(parameters: Parameters) -> str:
    """The endpoint name of a Register request."""
    name = parameters.endpoint
    if name is None:
        raise BadRegistration("query parameter ep is missing")
    if len(name.encode()) > MAX_NAME or not name.isprintable():
        raise BadRegistration("query parameter ep is too long or not printable")
    return name


def parse_objects(payload: bytes) -> str:
    """The object list as it will be stored: link format that was understood."""
    if len(payload) > MAX_OBJECTS:
        raise BadRegistration(f"an object list of {len(payload)} bytes is too long")
    try:
        links = link.decode(payload)
    except CodecError as error:
        raise BadRegistration(str(error)) from None
    return ",".join(map(str, links))
