"""What an OMA-DM client takes from a person."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from agent.errors import UnusableSettings
from protocols.http.urls import parse_server
from protocols.omadm.auth import AuthType
from protocols.omadm.bootstrap import BootstrapSecrets
from protocols.omadm.encoding import Encoding
from protocols.omadm.personas import Profile, persona
from protocols.omadm.standard_objects import AccountValues, DeviceValues, shared_tree
from protocols.omadm.tree_nodes import SharedTree, TreeFeatures

__all__ = ["ACCOUNT", "OPTIONS", "Options", "factory_tree", "read_options", "scheme_of"]

OPTIONS = frozenset(
    {
        "auth",
        "bootstrap-pin",
        "bootstrap-secret",
        "cell",
        "download-auth",
        "encoding",
        "interval",
        "operator",
        "operator-token",
        "persona",
        "push",
        "server-auth",
        "server-id",
    }
)

ACCOUNT = "Factory"
"""Node of ./DMAcc for the account that a device has from the beginning."""

_AUTH = {
    "none": AuthType.NONE,
    "basic": AuthType.BASIC,
    "md5": AuthType.MD5,
    "hmac": AuthType.HMAC,
}

DEFAULT_CELL = "cell-1"

LONGEST_INTERVAL = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Options:
    """One for all devices of a group."""

    profile: Profile
    encoding: Encoding
    server_id: str
    auth: AuthType | None
    """None: md5 when the device has a password, else none."""
    server_auth: AuthType | None
    """None: md5 when the device has a secret of its server, else none."""
    interval: float | None
    """Seconds between two checks; None: what the persona does."""
    push: int | None
    """UDP port for WAP push, 0 for any free one; None: there is none."""
    operator: str
    """Base URL of the operator network that the device attaches to; empty: none."""
    operator_token: str = field(repr=False)
    cell: str
    download_auth: bool
    """A download server that challenges gets the device's own user name and password."""
    bootstrap: BootstrapSecrets
    """What bootstrap messages must be made with; a device without any believes none."""


def read_options(options: Mapping[str, str]) -> Options:
    """Raises UnusableSettings."""
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        known = ", ".join(sorted(OPTIONS))
        raise UnusableSettings(f"omadm has no option {unknown[0]!r}; known: {known}")
    return _read(tuple(sorted(options.items())))


@functools.cache  # one entry per group, not per device
def _read(given: tuple[tuple[str, str], ...]) -> Options:
    options = dict(given)
    profile = persona(options.get("persona", "default"))
    server_id = options.get("server-id", "fotilla")
    if not 1 <= len(server_id.encode()) <= 64 or not server_id.isprintable():
        raise UnusableSettings("omadm: server-id has 1 to 64 printable characters")
    operator = options.get("operator", "")
    if operator:
        operator = parse_server(operator).base
    push = options.get("push", "0" if operator else "off")
    if operator and push == "off":
        raise UnusableSettings("omadm: an operator network pushes, so push cannot be off")
    return Options(
        profile,
        _encoding(options.get("encoding"), profile),
        server_id,
        _auth("auth", options.get("auth")),
        _auth("server-auth", options.get("server-auth")),
        _interval(options.get("interval")),
        _port(push),
        operator,
        options.get("operator-token", ""),
        options.get("cell", DEFAULT_CELL),
        _choice("download-auth", options.get("download-auth", "none"), ("none", "device"))
        == "device",
        BootstrapSecrets(
            options.get("bootstrap-secret", "").encode() or None,
            options.get("bootstrap-pin") or None,
        ),
    )


def factory_tree(
    options: Options, address: str, auth: AuthType, server_auth: AuthType
) -> SharedTree:
    """The tree that a group's devices leave the factory with: one for all of them."""
    account = AccountValues(options.server_id, address, auth, server_auth)
    return _factory_tree(options.profile.name, account)


@functools.cache  # one entry per group, not per device
def _factory_tree(profile_name: str, account: AccountValues) -> SharedTree:
    profile = persona(profile_name)
    features = TreeFeatures()
    if profile.quirks.copy_unsupported:
        features = replace(features, copy=False)
    if profile.quirks.list_unsupported:
        features = replace(features, lists=frozenset())
    return shared_tree(
        DeviceValues(profile.man, profile.mod, profile.lang, oem=profile.man),
        accounts={ACCOUNT: account},
        fumo=profile.fumo.root,
        features=features,
    )


def _encoding(text: str | None, profile: Profile) -> Encoding:
    if text is None:
        return Encoding.WBXML if profile.wbxml else Encoding.XML
    return Encoding.XML if _choice("encoding", text, ("wbxml", "xml")) == "xml" else Encoding.WBXML


def _auth(name: str, text: str | None) -> AuthType | None:
    return None if text is None else _AUTH[_choice(name, text, tuple(_AUTH))]


def _choice(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise UnusableSettings(f"omadm: {name} is one of {', '.join(choices)}, not {text[:40]!r}")
    return text


def _interval(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_INTERVAL:
        raise UnusableSettings(f"omadm: interval is a number of seconds above 0, not {text[:40]!r}")
    return seconds


def _port(text: str) -> int | None:
    if text == "off":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise UnusableSettings(f"omadm: push is a UDP port or 'off', not {text[:40]!r}")
    return int(text)


def scheme_of(url: str) -> str:
    """The scheme in lower case; empty for what is no URL."""
    try:
        return urlsplit(url).scheme.lower()
    except ValueError:
        return ""
