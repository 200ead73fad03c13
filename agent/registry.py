"""Registries: how a room offers a kind of thing whose members other rooms bring along.

A member registers itself where it is defined, so a new one needs no change elsewhere::

    @protocol_clients.register("lwm2m")
    class Lwm2mClient: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from agent.errors import LocalMisuse, UnknownName

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Members of one kind by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: register under `name`. A name is taken once; the same member may come again,
        because a module may be imported under two names."""

        def decorate(member: T) -> T:
            known = self._members.setdefault(name, member)
            if known is not member:
                raise LocalMisuse(f"{self.kind} {name!r} is registered twice")
            return member

        return decorate

    def get(self, name: str) -> T:
        member = self._members.get(name)
        if member is None:
            known = ", ".join(sorted(self._members)) or "none"
            raise UnknownName(f"no {self.kind} {name!r}; known: {known}")
        return member

    def names(self) -> list[str]:
        return sorted(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
