"""Access control lists: which server may do what to a node.

OMA-TS-DM_TND 1.2.1, section 7.7.1. An ACL reads `Add=*&Get=*&Replace=srvA+srvB`. A node without
one inherits the *whole* list of its nearest ancestor that has one, never single commands of it;
the root always has one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

__all__ = ["COMMANDS", "DEFAULT_ROOT_ACL", "MAX_ACL", "Acl", "AclError"]

COMMANDS = ("Add", "Delete", "Exec", "Get", "Replace")
"""In the order in which an ACL is written. Copy is a Get of its source and an Add at its end."""

DEFAULT_ROOT_ACL = "Add=*&Get=*"

MAX_ACL = 512
"""Octets: some ten server ids for each command."""

_EVERYBODY = "*"


class AclError(ValueError):
    """No access control list."""


@dataclass(frozen=True, slots=True)
class Acl:
    """The rights at one node. An empty one has none of its own: it inherits."""

    rights: tuple[tuple[str, frozenset[str]], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Acl:
        """Raises AclError, which names what is wrong."""
        return _parse(text)

    def allows(self, command: str, server_id: str) -> bool:
        for name, servers in self.rights:
            if name == command:
                return _EVERYBODY in servers or server_id in servers
        return False

    def granting(self, server_id: str, *commands: str) -> Acl:
        """This list with `commands` allowed to one server more."""
        rights = dict(self.rights)
        for command in commands:
            servers = rights.get(command, frozenset())
            if _EVERYBODY not in servers:
                rights[command] = servers | {server_id}
        return Acl(tuple((name, rights[name]) for name in COMMANDS if name in rights))

    def without(self, server_id: str, fallback: Acl | None = None) -> Acl:
        """This list without a server. A command that it was the only one for goes too, or, for
        the root, becomes what `fallback` has for it."""
        factory = {} if fallback is None else dict(fallback.rights)
        rights = []
        for name, servers in self.rights:
            rest = servers - {server_id} or factory.get(name, frozenset()) - {server_id}
            if rest:
                rights.append((name, rest))
        return Acl(tuple(rights))

    def __str__(self) -> str:
        return "&".join(f"{name}={'+'.join(sorted(servers))}" for name, servers in self.rights)


@functools.lru_cache(maxsize=256)
def _parse(text: str) -> Acl:
    if not text:
        return Acl()
    if len(text) > MAX_ACL:
        raise AclError(f"an ACL of {len(text)} characters")
    rights: dict[str, frozenset[str]] = {}
    for entry in text.split("&"):
        command, mark, names = entry.partition("=")
        if command not in COMMANDS:
            raise AclError("an ACL for what is no command")
        if command in rights:
            raise AclError(f"an ACL with {command} twice")
        servers = frozenset(names.split("+"))
        if not mark or "" in servers:
            raise AclError(f"an ACL with nobody for {command}")
        if any("*" in name[1:] or " " in name or not name.isprintable() for name in servers):
            raise AclError("an ACL with what is no server identifier")
        # "*" is everybody: what else is named changes nothing.
        rights[command] = frozenset(_EVERYBODY) if _EVERYBODY in servers else servers
    return Acl(tuple((name, rights[name]) for name in COMMANDS if name in rights))
