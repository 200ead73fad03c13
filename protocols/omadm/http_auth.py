"""HTTP authentication at a download server: Basic (RFC 7617) and Digest (RFC 7616), when asked.

`AuthorizedHttp` is an `HttpClient` that answers one challenge and remembers it, so that a resumed
download authenticates at once. It also remembers how the last request went wrong, because FUMO's
result codes tell a server that refuses from one that does not answer.

An account is given to the origin that it was meant for and to no other: a redirect to another one
that challenges meets silence. Basic shows the password, so it is answered over https, or on the
loopback of a test bench; anywhere else a person must allow it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent.runtime.http import (
    DEFAULT_TIMEOUTS,
    MAX_BODY,
    PLAIN_LINK,
    HttpClient,
    HttpFailed,
    HttpLink,
    HttpResponse,
    HttpStream,
    HttpTimeouts,
)
from protocols.http.urls import BadUrl, Site, locate
from protocols.omadm.fumo_tables import Trouble
from protocols.omadm.troubles import trouble_of_failure, trouble_of_status

__all__ = ["Account", "AuthorizedHttp", "Challenge", "answer", "challenges"]

MAX_FIELD = 4096
"""Characters of a WWW-Authenticate field that are read."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who the device is at a download server."""

    username: str
    password: str = field(repr=False)
    basic_in_clear: bool = False
    """Answer Basic over plain http to any host."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a WWW-Authenticate field; parameter names in lower case."""

    scheme: str
    """In lower case."""
    parameters: Mapping[str, str] = field(repr=False)


_PARAMETER = re.compile(
    r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)"""
)
_SCHEME = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s+|\s*,|\s*$)")


def challenges(text: str) -> list[Challenge]:
    """The challenges in a WWW-Authenticate field (RFC 9110 section 11.6.1). What cannot be read
    ends the list: nothing behind it can be told apart."""
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    text = text[:MAX_FIELD]
    position = 0
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is not None and found:
            quoted, plain = parameter.group(2), parameter.group(3)
            value = re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain
            parameters.setdefault(parameter.group(1).lower(), value)
            position = parameter.end()
            continue
        scheme = _SCHEME.match(text, position)
        if scheme is None:
            break
        parameters = {}
        found.append(Challenge(scheme.group(1).lower(), parameters))
        position = scheme.end()
    return found


_HASHES = {"md5": "md5", "sha-256": "sha256"}


def answer(
    challenge: Challenge,
    account: Account,
    method: str,
    target: str,
    *,
    count: int,
    cnonce: str,
) -> str | None:
    """The value of Authorization; None when the challenge is of a kind that we do not speak.

    `count` is how often this nonce was answered, from 1 (RFC 7616 section 3.4)."""
    if challenge.scheme == "basic":
        pair = f"{account.username}:{account.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()
    if challenge.scheme != "digest":
        return None
    given = challenge.parameters
    algorithm = given.get("algorithm", "MD5")
    name, _, session = algorithm.lower().partition("-sess")
    if name not in _HASHES or "-sess" in algorithm.lower() or session:
        return None
    realm, nonce = given.get("realm", ""), given.get("nonce", "")
    if any(mark in value for value in (realm, nonce, account.username) for mark in '"\\\r\n'):
        return None  # nothing of ours is quoted, and no server needs it

    def digest(text: str) -> str:
        return hashlib.new(_HASHES[name], text.encode(), usedforsecurity=False).hexdigest()

    secret = digest(f"{account.username}:{realm}:{account.password}")
    asked = digest(f"{method}:{target}")
    offers = [one.strip() for one in given.get("qop", "").lower().split(",") if one.strip()]
    fields = [
        f'username="{account.username}"',
        f'realm="{realm}"',
        f'nonce="{nonce}"',
        f'uri="{target}"',
    ]
    if "auth" in offers:
        number = f"{count:08x}"
        response = digest(f"{secret}:{nonce}:{number}:{cnonce}:auth:{asked}")
        fields += ["qop=auth", f"nc={number}", f'cnonce="{cnonce}"']
    elif offers:
        return None  # auth-int alone
    else:
        response = digest(f"{secret}:{nonce}:{asked}")  # RFC 2069, still met in old servers
    fields.append(f'response="{response}"')
    if "algorithm" in given:
        fields.append(f"algorithm={algorithm}")
    opaque = given.get("opaque")
    if opaque is not None and '"' not in opaque and "\\" not in opaque:
        fields.append(f'opaque="{opaque}"')
    return "Digest " + ", ".join(fields)


class AuthorizedHttp:
    """`http` with an account at one origin, or with none; one per download."""

    __slots__ = ("_account", "_challenge", "_cnonce", "_count", "_http", "_origin", "trouble")

    def __init__(
        self,
        http: HttpClient,
        account: Account | None,
        url: str,
        cnonce: Callable[[], str],
    ) -> None:
        """`account` counts at the origin of `url`. `cnonce` gives a fresh client nonce."""
        self._http = http
        self._account = account
        self._origin = _origin(url)
        self._cnonce = cnonce
        self._challenge: Challenge | None = None
        self._count = 0
        self.trouble = Trouble.NONE
        """How the last request went wrong."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeouts: HttpTimeouts = DEFAULT_TIMEOUTS,
        limit: int = MAX_BODY,
        redirects: int = 0,
    ) -> HttpResponse:
        """As `HttpClient.request`."""
        for last in (False, True):
            try:
                response = await self._http.request(
                    method,
                    url,
                    headers=self._with(headers, method, url),
                    body=body,
                    timeouts=timeouts,
                    limit=limit,
                    redirects=redirects,
                )
            except HttpFailed as error:
                self.trouble = trouble_of_failure(error)
                raise
            self.trouble = trouble_of_status(response.status)
            if last or not self._challenged(response.status, response.headers, response.url):
                return response
            url = response.url
        raise AssertionError("the second answer is returned, whatever it is")

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeouts: HttpTimeouts = DEFAULT_TIMEOUTS,
        link: HttpLink = PLAIN_LINK,
        redirects: int = 0,
    ) -> AsyncIterator[HttpStream]:
        """As `HttpClient.stream`."""
        for last in (False, True):
            try:
                async with self._http.stream(
                    method,
                    url,
                    headers=self._with(headers, method, url),
                    timeouts=timeouts,
                    link=link,
                    redirects=redirects,
                ) as response:
                    self.trouble = trouble_of_status(response.status)
                    if last or not self._challenged(
                        response.status, response.headers, response.url
                    ):
                        yield response
                        return
                    url = response.url
            except HttpFailed as error:
                self.trouble = trouble_of_failure(error)
                raise

    def abort(self) -> None:
        self._http.abort()

    # -- internals ------------------------------------------------------------------------------

    def _with(
        self, headers: Sequence[tuple[str, str]], method: str, url: str
    ) -> Sequence[tuple[str, str]]:
        """`headers` with what answers the challenge that is known."""
        challenge, account = self._challenge, self._account
        if challenge is None or account is None:
            return headers
        site, target = locate(url)
        if site != self._origin:
            return headers
        self._count += 1
        value = answer(challenge, account, method, target, count=self._count, cnonce=self._cnonce())
        assert value is not None  # `_challenged` tried it
        return [*headers, ("Authorization", value)]

    def _challenged(self, status: int, headers: Mapping[str, str], url: str) -> bool:
        """A challenge that can be answered, and is another than the one answered before."""
        account, site = self._account, self._origin
        if status != 401 or account is None or site is None or _origin(url) != site:
            return False
        stale = False
        for one in _by_strength(challenges(headers.get("www-authenticate", ""))):
            if one.scheme == "basic" and not _may_show(site, account):
                continue
            if answer(one, account, "GET", "/", count=1, cnonce="") is None:
                continue
            stale = one.parameters.get("stale", "").lower() == "true"
            if self._challenge is not None and self._count and not stale:
                # Answered before, and refused: the account is not good enough.
                fresh = one.parameters.get("nonce") != self._challenge.parameters.get("nonce")
                if not fresh:
                    return False
            self._challenge = one
            self._count = 0
            return True
        return False


def _by_strength(offers: list[Challenge]) -> list[Challenge]:
    """Digest before Basic, SHA-256 before MD5."""

    def rank(one: Challenge) -> int:
        if one.scheme != "digest":
            return 2
        return 0 if "256" in one.parameters.get("algorithm", "") else 1

    return sorted(offers, key=rank)


def _origin(url: str) -> Site | None:
    try:
        return locate(url)[0]
    except BadUrl:
        return None


def _may_show(site: Site, account: Account) -> bool:
    loopback = site.host in ("localhost", "::1") or site.host.startswith("127.")
    return site.scheme == "https" or loopback or account.basic_in_clear
