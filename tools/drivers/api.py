"""Calls to a management API over HTTP: one shared httpx client per driver.

Proxy and netrc settings of the environment are not used (`trust_env` is off): what a run talks to
is what its command line names. Every phase of a call has a time limit. 429 and 503 are waited out
as Retry-After says (RFC 9110, section 10.2.3), since a server that guards itself against us is no
failure of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from tools.drivers.errors import (
    ConnectionBroken,
    RequestRefused,
    ServerUnreachable,
    UnsupportedServer,
    WrongCredentials,
)

__all__ = ["Answer", "Api", "ApiTuning", "members", "objects"]

GONE = frozenset({502, 503, 504})
"""What a proxy answers in the name of a server that is not there."""

SLOWER = 2.0
"""A server in a hurry gets at least so many times its slowest answer so far."""

MAX_QUOTED = 200
"""Characters of a server's own explanation that an error repeats."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ApiTuning:
    """Limits of management calls, in seconds where nothing else is said."""

    connect: float = 10.0
    answer: float = 60.0
    """A server that stores a package or assigns thousands of devices takes its time."""
    upload: float = 120.0
    connections: int = 32
    retries: int = 6
    """Attempts after a 429 or 503."""
    first_delay: float = 1.0
    """Doubles with each attempt when the server names no time."""
    longest_delay: float = 30.0
    """A server that asks for more is taken to be out of service."""
    largest_answer: int = 64 << 20
    """Bytes. A page of thousands of devices stays far below; what is longer is no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes = field(repr=False)


class Api:
    """A base URL, who we are there, and calls that fail with errors a person understands."""

    def __init__(
        self,
        server: str,
        *,
        driver: str,
        auth: httpx.Auth | None = None,
        hidden: tuple[str, ...] = (),
        tuning: ApiTuning | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnsupportedServer(f"{driver}: {server!r} is not an http or https URL")
        if parts.username or parts.password:
            raise UnsupportedServer(
                f"{driver}: the server's URL holds a user name; set FOTILLA_{driver.upper()}_USER "
                f"and _PASSWORD instead"
            )
        self.server = server.rstrip("/")
        self.driver = driver
        self.headers: dict[str, str] = {"Accept": "application/json"}
        self.renew: Callable[[], Awaitable[None]] | None = None
        """Logs in again; called once for a call that is answered with 401, because a token may run
        out during a long campaign."""
        self._tuning = tuning or ApiTuning()
        self._sleep = sleep
        self._slowest = 0.0
        self._patience: float | None = None
        self._due: float | None = None
        """In the loop's time: an answer to any call must be there. None: nobody is in a hurry."""
        self._gone = False
        self._under_way: set[asyncio.Timeout] = set()
        self._hidden = [*hidden]
        self._client = httpx.AsyncClient(
            base_url=self.server + "/",
            auth=auth,
            transport=transport,
            trust_env=False,
            timeout=httpx.Timeout(
                self._tuning.answer, connect=self._tuning.connect, write=self._tuning.upload
            ),
            limits=httpx.Limits(
                max_connections=self._tuning.connections,
                max_keepalive_connections=self._tuning.connections,
            ),
        )

    def use_bearer(self, token: str, scheme: str = "Bearer", header: str = "Authorization") -> None:
        """Present a token from now on."""
        self._hidden.append(token)
        self.headers[header] = f"{scheme} {token}".strip()

    async def close(self) -> None:
        await self._client.aclose()

    def hurry(self, seconds: float) -> None:
        """From now on a server that answers no call at all for so long is gone: those under way
        fail then, and all others at once. A run that is over must not wait for each of a thousand
        calls that nobody will answer."""
        patience = max(seconds, SLOWER * self._slowest)
        if self._patience is None or patience < self._patience:
            self._patience = patience
            self._heard()

    def _heard(self) -> None:
        if self._patience is None:
            return
        self._due = asyncio.get_running_loop().time() + self._patience
        for call in self._under_way:
            if not call.expired():
                call.reschedule(self._due)

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        if not self._under_way:
            self._heard()  # nobody asked it anything meanwhile
        gone = ServerUnreachable(f"{self.driver}: {self.server} no longer answers")
        if self._gone:
            raise gone
        limit = asyncio.timeout_at(self._due)
        try:
            async with limit:
                self._under_way.add(limit)
                try:
                    yield
                finally:
                    self._under_way.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            self._gone = True
            raise gone from None
        except ServerUnreachable as error:
            # Refused, or silent for longer than we wait: not a connection that broke once.
            if self._patience is not None and not isinstance(error, ConnectionBroken):
                self._gone = True
            raise

    async def call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        body: object = None,
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        gone: bool = False,
        quiet: bool = False,
        renewable: bool = True,
        login: tuple[str, str] | None = None,
    ) -> Answer:
        """One call; `what` says in errors what it was for.

        `gone` lets a 404 pass: to remove what is no longer there is no failure. `quiet` keeps the
        server's explanation out of errors, for calls whose content is secret. A login is not
        `renewable`; `login` presents user and password with this call (Basic). Raises a
        `DriverError`.
        """
        renew = self.renew if renewable and login is None else None
        basic = None if login is None else httpx.BasicAuth(*login)
        async with self._bounded():
            for attempt in range(self._tuning.retries + 1):
                answer = await self._send(method, path, what, body, params, form, files, basic)
                if answer.status not in GONE:
                    self._heard()
                if answer.status == 401 and renew is not None:
                    await renew()
                    renew = None
                elif answer.status in (429, 503) and attempt < self._tuning.retries:
                    await self._sleep(self._delay(answer, attempt))
                else:
                    break
        return self._judged(answer, what, gone, quiet)

    async def json(self, method: str, path: str, what: str, **options: Any) -> Any:
        """The same, and its answer decoded. Raises UnsupportedServer when that is not JSON."""
        return self.decode(await self.call(method, path, what, **options), what)

    def decode(self, answer: Answer, what: str) -> Any:
        """The JSON of an answer. Raises UnsupportedServer."""
        try:
            return json.loads(answer.body)
        except ValueError:
            raise UnsupportedServer(
                f"{self.driver}: {self.server}: {what}: the answer is not JSON; "
                f"is this the server's management interface?"
            ) from None

    async def _send(
        self,
        method: str,
        path: str,
        what: str,
        body: object,
        params: Mapping[str, str | int] | None,
        form: Mapping[str, str] | None,
        files: Mapping[str, tuple[str, bytes, str]] | None,
        basic: httpx.BasicAuth | None,
    ) -> Answer:
        where = f"{self.driver}: {self.server}: {what}"
        request = self._client.build_request(
            method,
            path.lstrip("/"),
            params=params or None,
            json=body,
            data=form,
            files=files,
            headers=self.headers,
        )
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            response = await self._client.send(
                request, stream=True, auth=basic or httpx.USE_CLIENT_DEFAULT
            )
            try:
                body_read = await self._read(response, where)
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = "no answer in time" if isinstance(error, httpx.ConnectTimeout) else str(error)
            raise ServerUnreachable(
                f"{self.driver}: {self.server} cannot be reached: {reason}"
            ) from None
        except httpx.TimeoutException:
            raise ServerUnreachable(f"{where}: no answer in time") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise ConnectionBroken(
                f"{where}: the connection failed: {str(error) or type(error).__name__}"
            ) from None
        if files is None:  # an upload takes its time whatever the server does
            self._slowest = max(self._slowest, clock() - began)
        return Answer(response.status_code, response.headers, body_read)

    async def _read(self, response: httpx.Response, where: str) -> bytes:
        """Read the body, but not without end."""
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._tuning.largest_answer:
                raise UnsupportedServer(
                    f"{where}: the answer exceeds {self._tuning.largest_answer:,} bytes"
                )
        return bytes(body)

    def _delay(self, answer: Answer, attempt: int) -> float:
        longest = self._tuning.longest_delay
        given = answer.headers.get("Retry-After", "").strip()
        if given.isdecimal():
            return min(float(given), longest)
        if given:
            try:
                until = email.utils.parsedate_to_datetime(given)
            except ValueError:
                until = None
            if until is not None and until.tzinfo is not None:
                return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), longest)
        return float(min(self._tuning.first_delay * 2**attempt, longest))

    def _judged(self, answer: Answer, what: str, gone: bool, quiet: bool) -> Answer:
        status = answer.status
        where = f"{self.driver}: {self.server}: {what}"
        if 200 <= status < 300 or (gone and status == 404):
            return answer
        if status == 401:
            raise WrongCredentials(f"{where}: the server refuses the credentials (401)")
        if status == 403:
            raise WrongCredentials(f"{where}: this user may not do that (403)")
        if 300 <= status < 400:
            raise UnsupportedServer(
                f"{where}: redirected ({status}); name the server by its final URL"
            )
        explanation = "" if quiet else self._explanation(answer)
        raise RequestRefused(f"{where}: refused with {status}{explanation}", status)

    def _explanation(self, answer: Answer) -> str:
        """The server's own words, short, printable and without what we sent in secret."""
        try:
            content = json.loads(answer.body)
        except ValueError:
            return ""
        if not isinstance(content, dict):
            return ""
        for key in ("message", "detail", "error"):
            text = content.get(key)
            if isinstance(text, str) and text:
                for secret in self._hidden:
                    text = text.replace(secret, "***")
                shown = "".join(char if char.isprintable() else " " for char in text)
                return f": {shown[:MAX_QUOTED]}"
        return ""


def members(answer: object, what: str, *names: str) -> list[Any]:
    """The named members of a JSON object. Raises UnsupportedServer when one is missing."""
    if not isinstance(answer, dict):
        raise UnsupportedServer(f"{what}: the answer is no JSON object")
    for name in names:
        if name not in answer:
            raise UnsupportedServer(f"{what}: the answer has no {name!r}")
    return [answer[name] for name in names]


def objects(answer: object, what: str) -> list[dict[str, Any]]:
    """A JSON array of objects. Raises UnsupportedServer for anything else."""
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise UnsupportedServer(f"{what}: the answer is no array of objects")
    return answer
