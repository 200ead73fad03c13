"""What stands behind nodes of the tree: what is executed, what takes packages, what is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from protocols.omadm.status import StatusCode
from protocols.omadm.tree_nodes import ANY_NAME
from protocols.omadm.tree_uri import Path, format_path

__all__ = ["NO_HOOKS", "Execution", "Executor", "Hooks", "Sink"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Execution:
    """An Exec that the tree let through."""

    uri: str
    """Canonical: `./FUMO/Download`."""
    data: str | bytes | None = field(repr=False)
    correlator: str | None
    server_id: str | None


Executor = Callable[[Execution], StatusCode]
"""Begins what Exec demands: 202 when the end is told later, 200 when it is done. May raise
TreeError."""


class Sink(Protocol):
    """Takes what servers write into a leaf, in pieces. Any of `begin`, `data`, `end` may raise
    TreeError; nothing more is called then but `begin`."""

    def begin(self, uri: str, size: int | None) -> None:
        """`size`: octets to come at most, None if the server did not tell."""
        ...

    def data(self, chunk: bytes) -> None: ...

    def end(self) -> StatusCode:
        """All of it is there."""
        ...

    def abort(self) -> None:
        """It will not come to an end."""
        ...

    def undo(self) -> bool:
        """Take back what the last `end` did, for an Atomic; False if that cannot be."""
        ...


@dataclass(frozen=True, slots=True)
class Hooks:
    """What stands behind nodes, by URI; "*" as a segment stands for any name."""

    on_execute: Mapping[str, Executor] = field(default_factory=dict)
    on_replace: Mapping[str, Sink] = field(default_factory=dict)
    computed: Mapping[str, Callable[[], str]] = field(default_factory=dict)

    def find(self, kind: Mapping[str, T], path: Path) -> T | None:
        """The one of `kind` for a node."""
        found = kind.get(format_path(path))
        if found is not None or not kind:
            return found
        for uri, hook in kind.items():
            if ANY_NAME not in uri:
                continue
            pattern = uri.removeprefix("./").split("/")
            if len(pattern) == len(path) and all(
                want in (ANY_NAME, name) for want, name in zip(pattern, path, strict=True)
            ):
                return hook
        return None


NO_HOOKS = Hooks()
