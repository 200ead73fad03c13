"""An action that the server offers: fetched when new or changed, begun, gone on with, installed.

What to do is looked up (`STEPS`) at each poll, from the engine's state and what the action asks for
by then. Only the download is a story of its own; polls go on beside it, so a changed `c=` is
fetched in the middle of it, and a cancel ends it. Everything else happens inside a poll, one thing
after the other: no report can overtake the answer to another one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agent.misbehaviour import Misbehaviour
from agent.runtime.http import HttpFailed
from agent.update import Outcome, State
from protocols.http.download import Download, DownloadFailed, resume_key
from protocols.http.fetch import check
from protocols.http.hawkbit.artifacts import HEAD_SIZE, chosen, unpacker_of
from protocols.http.hawkbit.memory import ActionRecord
from protocols.http.hawkbit.options import Soft
from protocols.http.hawkbit.reports import GONE
from protocols.http.hawkbit.resources import Artifact, Deployment, Link, deployment
from protocols.http.hawkbit.tables import (
    FEEDBACK,
    RESUMED,
    SCHEDULED,
    STEPS,
    Report,
    Step,
    directive,
)
from protocols.http.messages import BadAnswer, json_object, retry_after

if TYPE_CHECKING:
    from protocols.http.hawkbit.client import HawkbitClient

__all__ = ["Deployments"]

TAKEN, DOWNLOADING = FEEDBACK[State.DOWNLOADING, None]
(DOWNLOADED,) = FEEDBACK[State.DOWNLOADED, None]
(INSTALLING,) = FEEDBACK[State.INSTALLING, None]

HEAD_TRIES = 5
"""Times that the first bytes of an artifact are asked for, before the connection counts as lost."""
HEAD_REDIRECTS = 5


class Deployments:
    """The deploymentBase side of one client."""

    __slots__ = ("_client", "_current", "_held", "_version")

    def __init__(self, client: HawkbitClient) -> None:
        self._client = client
        self._current: Deployment | None = None
        """The action as last fetched in this uptime, while it is offered."""
        self._version = ""
        self._held = ""
        """The action that was reported as scheduled."""

    def forget(self) -> None:
        self._current = None

    async def offered(self, link: Link) -> bool:
        """The poll has a link to an action. True: poll again soon. Raises what a poll may raise."""
        client = self._client
        engine = client.device.engine
        if engine.state in (State.INSTALLING, State.TRIAL):
            return False
        mine = client.memory.action
        if client.busy and mine is not None and mine.id != link.id:
            client.drop()  # superseded, and the older one was not even cancelled
        action = self._current
        if action is None or action.id != link.id or self._version != link.version:
            action = await self._fetch(link)
        if action is None or client.busy:
            return False
        return await self._carry_out(self._step(action), action, link)

    async def go_on(self) -> bool:
        """A cancel is open that this device did not accept: the action is no longer offered, and
        what is known of it still holds. True: poll again soon."""
        client = self._client
        mine, action = client.memory.action, self._current
        if mine is None or action is None or action.id != mine.id or client.busy:
            return False
        link = Link("", action.id, self._version)
        return await self._carry_out(self._step(action), action, link)

    def withdrawn(self) -> None:
        """The poll has no link to the action that the device works on: it was deleted, or quit by
        force. An install that began goes on, and its report will meet 410."""
        client = self._client
        self.forget()
        installing = client.device.engine.state in (State.INSTALLING, State.TRIAL)
        if client.memory.action is not None and not installing:
            self.stop()

    def stop(self) -> None:
        """End the work on the action, whatever it has come to, and forget it."""
        client = self._client
        engine = client.device.engine
        ours = client.owns_attempt
        client.drop()
        if engine.outcome is None and (engine.state is State.IDLE or ours):
            engine.cancel(Outcome.CANCELLED)
        engine.reported()
        client.forget()

    # -- decisions ------------------------------------------------------------------------------

    def _step(self, action: Deployment) -> Step:
        client = self._client
        engine = client.device.engine
        mine = client.memory.action
        ours = mine is not None and mine.id == action.id and client.owns_attempt
        if ours and engine.outcome is not None:
            return Step.CLOSE
        patient = client.options.soft is Soft.WAIT
        return STEPS[engine.state, ours][directive(action, patient=patient)]

    async def _carry_out(self, step: Step, action: Deployment, link: Link) -> bool:
        client = self._client
        engine = client.device.engine
        if step is Step.REPLACE:
            if self._adopt(action, link):
                return True
            engine.cancel()
            engine.reported()
            step = Step.BEGIN
        if step is Step.BEGIN:
            self._take_up(action, link)
            client.begin(self._download(action))
        elif step is Step.RESUME:
            client.begin(self._download(action))
        elif step is Step.HOLD:
            await self._hold(action)
        elif step is Step.KEEP:
            return await self._keep(action)
        elif step is Step.INSTALL:
            await self._install(action)
            return engine.report_pending  # the slot could not be marked
        elif step is Step.CLOSE and not engine.report_pending:
            if Misbehaviour.NEVER_REPORT in client.misbehave:
                return False
            # The end was reported, and the action is offered again: another try is wanted.
            client.forget()
            return True
        return False

    def _take_up(self, action: Deployment, link: Link) -> None:
        client = self._client
        client.reports.detail = ""
        client.memory.take_up(
            ActionRecord(
                action.id, link.version, client.device.engine.attempt, action.download_only
            )
        )

    def _adopt(self, action: Deployment, link: Link) -> bool:
        """Take an image over that is there already, from an action with the same files."""
        client = self._client
        engine = client.device.engine
        there = client.memory.image()
        if (
            engine.state is not State.DOWNLOADED
            or engine.outcome is not None
            or there != (engine.attempt, _fingerprint(action))
        ):
            return False
        before = (engine.attempt - 1) & 0xFFFF
        client.memory.take_up(ActionRecord(action.id, link.version, before, action.download_only))
        return True

    async def _hold(self, action: Deployment) -> None:
        client = self._client
        if self._held != action.id:
            self._held = action.id
            await client.reports.mention(action.id, SCHEDULED, "waits until it is forced")

    async def _keep(self, action: Deployment) -> bool:
        client = self._client
        if action.download_only:
            return await client.reports.close_downloaded()
        if not await self._step_landed("downloaded", DOWNLOADED, "waits for its window", action):
            return True
        client.memory.sent("kept")
        return False

    async def _install(self, action: Deployment) -> None:
        client = self._client
        engine = client.device.engine
        mine = client.memory.action
        assert mine is not None
        if Misbehaviour.OUT_OF_ORDER in client.misbehave:
            steps = [(DOWNLOADING, "download"), (DOWNLOADED, "downloaded"), (INSTALLING, "install")]
            await client.reports.disordered(action.id, steps)
        elif "kept" in mine.sent:
            if not await self._step_landed("resumed", RESUMED, "the window is open", action):
                return
        elif not await self._step_landed("downloaded", DOWNLOADED, "verified", action):
            return
        if not await self._step_landed("install", INSTALLING, "installs and reboots", action):
            return
        if client.memory.action is not None and engine.state is State.DOWNLOADED:
            engine.install()

    # -- the story ------------------------------------------------------------------------------

    async def _download(self, action: Deployment) -> None:
        """Bring the action's image into the engine."""
        client = self._client
        engine = client.device.engine
        try:
            await client.reports.misreport(action.id)
        except HttpFailed as error:
            client.note(f"a wrong report of action {action.id} is lost: {error}")
        artifact: Artifact | None = None
        if engine.resumable and client.owns_attempt:
            artifact = next(
                (one for one in action.artifacts if resume_key(one.url) == engine.uri), None
            )
        if artifact is not None:
            # Once per uptime, which is how often a download is resumed: no need to remember it.
            if not await self._step_landed("", RESUMED, "goes on with the download", action):
                return
        else:
            if not await self._step_landed("taken", TAKEN, "takes the update", action):
                return
            artifact = await self._examined(action)
            if artifact is None:
                return client.wake()
            if not await self._step_landed("download", DOWNLOADING, artifact.filename, action):
                return
        download = Download(
            client,
            client.resource(artifact),
            unpacker=unpacker_of(client.options, engine.capacity),
        )
        if await download.run():
            client.memory.set_image(engine.attempt, _fingerprint(action))
        client.wake()

    async def _examined(self, action: Deployment) -> Artifact | None:
        """The artifact to install, after all others were downloaded and hashed; None: the attempt
        has ended, and the engine knows why."""
        client = self._client
        artifacts = action.artifacts
        try:
            heads = {}
            if len(artifacts) > 1:
                heads = {one.url: await self._head(one) for one in artifacts}
            artifact = chosen(artifacts, heads, client.options.format)
            for other in artifacts:
                if other is not artifact:
                    await check(client, client.resource(other))
        except DownloadFailed as failed:
            self._fail(failed.outcome, failed.detail)
            return None
        return artifact

    async def _head(self, artifact: Artifact) -> bytes:
        """The first bytes of an artifact. With Range, hawkBit notes no download."""
        client = self._client
        fields = [
            *client.fields_for(artifact.url),
            ("Range", f"bytes=0-{HEAD_SIZE - 1}"),
            ("Accept-Encoding", "identity"),
        ]
        device = client.device
        for tried in range(1, HEAD_TRIES + 1):
            wait = client.BACKOFF.delay(tried, device.random)
            try:
                async with client.http.stream(
                    "GET", artifact.url, headers=fields, redirects=HEAD_REDIRECTS
                ) as stream:
                    if stream.status == 416:
                        return b""  # an empty file
                    if stream.status in (200, 206):
                        head = b""
                        async for piece in stream.chunks():
                            head += piece
                            if len(head) >= HEAD_SIZE:
                                break
                        return head[:HEAD_SIZE]
                    if stream.status < 500 and stream.status != 429:
                        raise DownloadFailed(
                            Outcome.BAD_URI, f"{artifact.filename} was answered {stream.status}"
                        )
                    asked = retry_after(stream.headers, device.runtime.clock.utc())
                    wait = wait if asked is None else asked + device.random.uniform(0.0, wait)
            except HttpFailed as error:
                client.note(f"the head of {artifact.filename}: {error}")
            await device.runtime.clock.sleep(wait)
        raise DownloadFailed(Outcome.CONNECTION_LOST, f"{artifact.filename} cannot be read")

    # -- internals ------------------------------------------------------------------------------

    async def _fetch(self, link: Link) -> Deployment | None:
        """The action behind `link`; None when it cannot be had, or is refused."""
        client = self._client
        answer = await client.get(link.href, "deploymentBase")
        if answer.status in GONE:
            return None  # cancelled or closed since the poll; the next one tells
        if answer.status != 200:
            raise BadAnswer(f"deploymentBase was answered {answer.status}")
        value = json_object(answer)
        try:
            action = deployment(value)
            if action.id != link.id:
                raise BadAnswer(f"deploymentBase/{link.id} describes action {action.id}")
        except BadAnswer as error:
            mine = client.memory.action
            if mine is None or mine.id != link.id:
                self._refuse(link, str(error))
                return None
            raise  # what is under way is not given up for it
        self._current, self._version = action, link.version
        mine = client.memory.action
        if mine is not None and mine.id == action.id:
            client.memory.fetched(link.version, action.download_only)
        return action

    def _refuse(self, link: Link, why: str) -> None:
        """An action that describes nothing usable fails like any other."""
        client = self._client
        engine = client.device.engine
        if engine.state is not State.IDLE:
            engine.cancel()
        client.memory.take_up(ActionRecord(link.id, link.version, engine.attempt))
        self._fail(Outcome.UNSUPPORTED_PACKAGE, why)
        client.wake()

    def _fail(self, outcome: Outcome, detail: str) -> None:
        """End an attempt whose download never began."""
        engine = self._client.device.engine
        engine.begin()
        engine.fail(outcome, detail)

    async def _step_landed(
        self, name: str, report: Report, detail: str, action: Deployment
    ) -> bool:
        """Report a step; False: the action is gone, and so is what was done for it."""
        client = self._client
        mine = client.memory.action
        if mine is None or mine.id != action.id:
            return False
        if await client.reports.step(name, report, detail):
            return True
        self.stop()
        return False


def _fingerprint(action: Deployment) -> str:
    """The same for actions with the same files."""
    names = ("sha256", "sha1", "md5")
    best = sorted(
        next(one.hashes[name] for name in names if name in one.hashes) for one in action.artifacts
    )
    return hashlib.sha256("\n".join(best).encode()).hexdigest()[:32]
