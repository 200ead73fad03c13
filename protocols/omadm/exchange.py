"""One message of a session over HTTP: posted, again where that is safe, and its answer judged.

A message that got no usable answer is posted again as it was, with the same MsgID: a server that
has seen it answers the same. Redirects keep the method and the body, as a 307 asks for anyway and
as every DM client treats the others; one that leaves https ends the session. An answer of another
Content-Type, or one that is no SyncML, ends it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin

from agent.device import Device
from agent.protocol import ClientSettings
from agent.runtime.http import Headers, HttpClient, HttpFailed, HttpResponse, HttpTimeouts, Why
from protocols.backoff import Backoff
from protocols.http.messages import retry_after
from protocols.omadm.encoding import Encoding, decode, of
from protocols.omadm.errors import SyncmlError
from protocols.omadm.model import Alert, Message, Status
from protocols.omadm.options import scheme_of
from protocols.omadm.personas.profile import Profile

__all__ = ["Answer", "DmPost", "SessionLost"]

HMAC_HEADER = "x-syncml-hmac"

TRIES = 3
"""Of one message; then the session is lost and its schedule decides."""
BETWEEN_TRIES = Backoff(first=2.0, limit=30.0)
LONGEST_RETRY_AFTER = 120.0
"""Seconds of a Retry-After that a running session waits; what asks for more ends it."""
TIMEOUTS = HttpTimeouts(total=120.0)
REDIRECTS = 3
MAX_ANSWER = 1 << 20
"""Octets; what the decoders take of one message."""

_REDIRECTED = frozenset({301, 302, 307, 308})


class SessionLost(Exception):
    """The server gave no answer that the session could go on with; `str` holds no secret."""

    def __init__(
        self, detail: str, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.status = status
        """Of HTTP, where that was it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A message of the server as it came."""

    message: Message
    body: bytes = field(repr=False)
    mac: str | None = field(repr=False)
    url: str = field(repr=False)
    """Where it came from in the end."""


class DmPost:
    """Posts the messages of one session."""

    __slots__ = ("_device", "_encoding", "_headers", "_http", "_server", "_trace")

    def __init__(
        self,
        device: Device,
        http: HttpClient,
        settings: ClientSettings,
        encoding: Encoding,
        profile: Profile,
        server: str,
    ) -> None:
        """`server`: where the session begins."""
        self._device = device
        self._http = http
        self._trace = settings.trace
        self._encoding = encoding
        self._server = server
        sent = profile.quirks.content_type or encoding.content_type
        self._headers = (
            ("Content-Type", sent),
            ("Accept", encoding.content_type),
            ("User-Agent", profile.user_agent),
        )

    async def send(self, url: str, message: Message, body: bytes, mac: str | None) -> Answer:
        """Post a message and read its answer. `url` may be a RespURI. Raises SessionLost."""
        url = _below(self._server, url, "RespURI")
        headers = self._headers if mac is None else (*self._headers, (HMAC_HEADER, mac))
        if self._trace is not None:
            self._trace(f"> {summary(message)} ({len(body)} bytes)")
        response = await self._post(url, headers, body)
        fields: Mapping[str, str] = response.headers
        try:
            encoding = of(fields.get("content-type", ""))
            answer = decode(response.body, encoding)
        except SyncmlError as error:
            raise SessionLost(str(error)) from None
        if self._trace is not None:
            self._trace(f"< {summary(answer)} ({len(response.body)} bytes)")
        return Answer(answer, response.body, fields.get(HMAC_HEADER), response.url)

    async def _post(
        self, url: str, headers: tuple[tuple[str, str], ...], body: bytes
    ) -> HttpResponse:
        device = self._device
        clock, metrics = device.runtime.clock, device.runtime.metrics
        followed = tries = 0
        while True:
            wait = None
            sent = clock.now()
            try:
                response = await self._http.request(
                    "POST", url, headers=headers, body=body, timeouts=TIMEOUTS, limit=MAX_ANSWER
                )
            except HttpFailed as error:
                if error.why in (Why.BAD_URL, Why.UNTRUSTED, Why.TOO_LARGE, Why.VIOLATION):
                    raise SessionLost(str(error)) from None
                problem = str(error)
            else:
                metrics.request.record(clock.now() - sent)
                if response.status == 200:
                    return response
                problem = f"HTTP {response.status}"
                if response.status in _REDIRECTED:
                    followed += 1
                    if followed > REDIRECTS:
                        raise SessionLost(f"more than {REDIRECTS} redirects")
                    url = _below(url, response.headers.get("location", ""), "redirect")
                    continue
                if response.status != 429 and response.status < 500:
                    raise SessionLost(problem, status=response.status)
                wait = retry_after(Headers(list(response.headers.items())), clock.utc())
            tries += 1
            if self._trace is not None:
                self._trace(f"! {problem}")
            if tries >= TRIES or (wait is not None and wait > LONGEST_RETRY_AFTER):
                raise SessionLost(problem, wait)
            delay = BETWEEN_TRIES.delay(tries, device.random)
            await clock.sleep(delay if wait is None else wait + delay / 2)


def _below(url: str, link: str, what: str) -> str:
    """The absolute form of a link that came from `url`: the session's secrets stay behind TLS."""
    try:
        target = urljoin(url, link)
    except ValueError:
        raise SessionLost(f"a {what} that is no URL") from None
    if scheme_of(url) == "https" and scheme_of(target) != "https":
        raise SessionLost(f"a {what} that leaves https")
    return target


def summary(message: Message) -> str:
    """A message in one line, without what it carries."""
    parts = []
    for command in message.commands:
        if isinstance(command, Status):
            parts.append(f"Status {command.cmd} {command.code}")
        elif isinstance(command, Alert):
            parts.append(f"Alert {command.code}")
        else:
            parts.append(command.name)
    final = " Final" if message.final else ""
    header = message.header
    return f"session {header.session_id} msg {header.msg_id}: {', '.join(parts)}{final}"
