"""How a package is fetched for FUMO: OMA Download 1.0, or plainly over HTTP.

One story per uptime: ask what the package URL serves; if that is a descriptor, read and judge it
and download the object that it names, else download the body itself; tell the descriptor's server
how it went. Bytes, resumption and verification are `protocols.http.download`'s and the engine's.

After a reboot the story begins anew at the package URL: the descriptor is read again (it may have
changed meanwhile), and the object goes on where the engine stopped, if it is still the same one.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from urllib.parse import urljoin

from agent.device import Device
from agent.outcome import Outcome
from agent.protocol import ClientSettings
from agent.runtime.http import HttpClient, HttpFailed, HttpLink
from agent.update import State
from protocols.http.carrier import Carries
from protocols.http.download import (
    Download,
    DownloadFailed,
    DownloadTuning,
    Resource,
    resume_key,
)
from protocols.http.fetch import Content, fetch, measure
from protocols.http.messages import retry_after
from protocols.http.urls import BadUrl, locate
from protocols.omadm.descriptor import (
    CONTENT_TYPE,
    MAX_DESCRIPTOR,
    NOTIFY_STATUS,
    BadDescriptor,
    Descriptor,
    NotifyStatus,
    parse,
)
from protocols.omadm.fumo_tables import Trouble
from protocols.omadm.http_auth import Account, AuthorizedHttp
from protocols.omadm.options import scheme_of
from protocols.omadm.personas.profile import Fumo as Persona

__all__ = ["ComponentDownload", "PackageDownload", "post_install_notify", "refused_url"]

REDIRECTS = 5
NOTIFY_TRIES = 3
"""A download server that does not take its install-notify is told no more."""

COMPONENT_LIMIT = 4 << 20
"""Bytes of a component: what a device of this size has for its file system."""

DESCRIPTOR_OUTCOME: dict[NotifyStatus, Outcome] = {
    NotifyStatus.INVALID_DESCRIPTOR: Outcome.INTEGRITY,
    NotifyStatus.INVALID_VERSION: Outcome.UNSUPPORTED_PACKAGE,
    NotifyStatus.NON_ACCEPTABLE_CONTENT: Outcome.UNSUPPORTED_PACKAGE,
}
"""What a descriptor that cannot be used makes of the attempt: 402 and 405 in FUMO's terms, as the
known clients report."""


class _Authorized:
    """A carrier whose requests are authorised: what `download` needs of a client."""

    __slots__ = ("_carrier", "http")

    def __init__(self, carrier: Carries, http: AuthorizedHttp) -> None:
        self._carrier = carrier
        self.http: HttpClient = http

    @property
    def device(self) -> Device:
        return self._carrier.device

    @property
    def link(self) -> HttpLink:
        return self._carrier.link

    @property
    def settings(self) -> ClientSettings:
        return self._carrier.settings


class PackageDownload:
    """Brings the package of one URL into the update engine."""

    __slots__ = (
        "_carrier",
        "_http",
        "_persona",
        "_tuning",
        "_url",
        "notify_uri",
        "trouble",
        "urgent",
    )

    def __init__(
        self,
        carrier: Carries,
        url: str,
        persona: Persona,
        account: Account | None = None,
    ) -> None:
        device = carrier.device
        self._http = AuthorizedHttp(
            carrier.http, account, url, lambda: device.random.bytes(8).hex()
        )
        self._carrier = _Authorized(carrier, self._http)
        self._persona = persona
        self._tuning = DownloadTuning(tries=persona.tries, backoff=persona.wait)
        self._url = url
        self.urgent = False
        """The descriptor demands an install at once."""
        self.notify_uri = ""
        """Absolute; where an install-notify has yet to go when the story is over."""
        self.trouble = Trouble.NONE
        """What ended it, where the engine's outcome does not tell."""

    async def run(self) -> bool:
        """True: the engine is DOWNLOADED. False: the attempt ended, the engine says how. Raises
        CancelledError and PowerLoss, nothing else."""
        done = await self._run()
        if not done:
            self.trouble = self._http.trouble
        if refused_url(self.notify_uri) is not None:
            self.notify_uri = ""
        if self.notify_uri and not (done and self._persona.notify_after_update):
            status = self._notify_status(done)
            if status is not None:
                await post_install_notify(
                    self._carrier, self.notify_uri, status, self._persona.notify_tail
                )
            self.notify_uri = ""
        return done

    # -- the story ------------------------------------------------------------------------------

    async def _run(self) -> bool:
        url = self._url
        if not self._resumes(url):
            described = await self._is_descriptor(url)
            if described is None:
                return self._fail(
                    Outcome.CONNECTION_LOST, "nobody says what the package URL serves"
                )
            if described:
                return await self._bring_described(url)
        return await self._bring(Resource(url, redirects=REDIRECTS))

    async def _bring_described(self, url: str) -> bool:
        descriptor = await self._descriptor(url)
        if descriptor is None:
            return False
        target = _joined(url, descriptor.object_uri)
        refused = refused_url(target)
        if refused is not None:
            return self._fail(*refused)
        return await self._bring(Resource(target, descriptor.size, redirects=REDIRECTS))

    async def _is_descriptor(self, url: str) -> bool | None:
        """What is behind the package URL, by its media type. A server that is down, or says that
        it cannot now, is asked again with the patience of a download: whatever it serves once it is
        back must not be taken for a package unasked. None: it never came back."""
        device = self._carrier.device
        for tries in range(1, self._tuning.tries + 1):
            told = await self._media_type(url)
            if isinstance(told, str):
                return _is_descriptor_type(told)
            if tries < self._tuning.tries:
                delay = self._tuning.backoff.delay(tries, device.random)
                if told is not None:
                    # Never earlier than asked, and not all in the same second.
                    delay = told + device.random.uniform(0.0, min(delay, 5.0))
                await device.runtime.clock.sleep(delay)
        return None

    async def _media_type(self, url: str) -> str | float | None:
        """The media type, empty where the server names none or refuses. No text when it may tell
        later: the seconds that it asks to wait, if it does."""
        http = self._carrier.http
        if self._persona.head_first:
            # A server need not know HEAD, whatever it makes of it.
            with contextlib.suppress(HttpFailed):
                head = await http.request(
                    "HEAD", url, timeouts=self._tuning.timeouts, redirects=REDIRECTS
                )
                if head.status == 200 and "content-type" in head.headers:
                    return head.headers["content-type"]
        try:
            # And a link may be signed for GET alone.
            async with http.stream(
                "GET", url, timeouts=self._tuning.timeouts, redirects=REDIRECTS
            ) as answer:
                if answer.status == 429 or answer.status >= 500:
                    return retry_after(answer.headers, self._carrier.device.runtime.clock.utc())
                return answer.headers.get("content-type", "")
        except HttpFailed:
            return None

    async def _descriptor(self, url: str) -> Descriptor | None:
        """The descriptor; None when the attempt has ended."""
        resource = Resource(url, redirects=REDIRECTS)
        try:
            body = await fetch(self._carrier, resource, MAX_DESCRIPTOR, tuning=self._tuning)
        except DownloadFailed as failed:
            too_large = failed.outcome is Outcome.OUT_OF_MEMORY
            self._fail(Outcome.INTEGRITY if too_large else failed.outcome, failed.detail)
            return None
        try:
            descriptor = parse(body, self._persona.types)
        except BadDescriptor as bad:
            self._fail(DESCRIPTOR_OUTCOME[bad.status], str(bad))
            await self._tell(bad.notify_uri, bad.status)
            return None
        if descriptor.install_notify_uri:
            self.notify_uri = _joined(url, descriptor.install_notify_uri)
        name, value = self._persona.urgent
        self.urgent = descriptor.flag(name) == value
        return descriptor

    async def _tell(self, uri: str, status: NotifyStatus) -> None:
        target = _joined(self._url, uri) if uri else ""
        if refused_url(target) is None:
            await post_install_notify(self._carrier, target, status, self._persona.notify_tail)

    # -- where the package goes -----------------------------------------------------------------

    @property
    def outcome(self) -> Outcome | None:
        """How the attempt ended."""
        return self._carrier.device.engine.outcome

    def _resumes(self, url: str) -> bool:
        """The body of `url` itself is what an earlier uptime began."""
        engine = self._carrier.device.engine
        return engine.resumable and engine.uri == resume_key(url)

    async def _bring(self, resource: Resource) -> bool:
        return await Download(self._carrier, resource, tuning=self._tuning).run()

    def _fail(self, outcome: Outcome, detail: str) -> bool:
        engine = self._carrier.device.engine
        if engine.state in (State.IDLE, State.DOWNLOADING):
            engine.fail(outcome, detail)
        return False

    def _notify_status(self, done: bool) -> NotifyStatus | None:
        if done:
            return NotifyStatus.SUCCESS
        return None if self.outcome is None else NOTIFY_STATUS[self.outcome]


class ComponentDownload(PackageDownload):
    """Fetches a component and keeps its measure alone: it never comes near the update engine."""

    __slots__ = ("_outcome", "content")

    def __init__(
        self, carrier: Carries, url: str, persona: Persona, account: Account | None = None
    ) -> None:
        super().__init__(carrier, url, persona, account)
        self._outcome: Outcome | None = None
        self.content: Content | None = None
        """What arrived, once all of it has."""

    @property
    def outcome(self) -> Outcome | None:
        return self._outcome

    def _resumes(self, url: str) -> bool:
        return False

    async def _bring(self, resource: Resource) -> bool:
        if resource.size is not None and resource.size > COMPONENT_LIMIT:
            return self._fail(Outcome.NO_SPACE, f"{resource.size} bytes")
        tuning = replace(self._tuning, largest=COMPONENT_LIMIT)
        try:
            self.content = await measure(
                self._carrier, resource, tuning=tuning, room=COMPONENT_LIMIT
            )
        except DownloadFailed as failed:
            return self._fail(failed.outcome, failed.detail)
        self._outcome = Outcome.SUCCESS
        return True

    def _fail(self, outcome: Outcome, detail: str) -> bool:
        self._outcome = outcome
        return False


async def post_install_notify(
    carrier: Carries, uri: str, status: NotifyStatus, tail: str = ""
) -> bool:
    """POST the status line; some tries, and then it does not matter. False: nobody took it."""
    clock = carrier.device.runtime.clock
    trace = carrier.settings.trace
    backoff = DownloadTuning().backoff
    for attempt in range(1, NOTIFY_TRIES + 1):
        try:
            answer = await carrier.http.request(
                "POST",
                uri,
                headers=(("Content-Type", "text/plain"),),
                body=(status.line + tail).encode(),
                redirects=0,
            )
        except HttpFailed as error:
            told = str(error)
        else:
            told = f"< {answer.status} install-notify {status.value}"
            if answer.status < 500:
                if trace is not None:
                    trace(told)
                return answer.status < 300
        if trace is not None:
            trace(told)
        if attempt < NOTIFY_TRIES:
            await clock.sleep(backoff.delay(attempt, carrier.device.random))
    return False


def refused_url(url: str) -> tuple[Outcome, str] | None:
    """Why nothing can be fetched from `url`, before anybody tries."""
    scheme = scheme_of(url)
    if not scheme:
        return Outcome.BAD_URI, "no URL"
    if scheme not in ("http", "https"):
        return Outcome.UNSUPPORTED_PROTOCOL, scheme[:32]
    try:
        locate(url)
    except BadUrl as error:
        return Outcome.BAD_URI, str(error)
    return None


def _joined(base: str, link: str) -> str:
    """The absolute form of a link; empty for what is none."""
    try:
        return urljoin(base, link)
    except ValueError:
        return ""


def _is_descriptor_type(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == CONTENT_TYPE
