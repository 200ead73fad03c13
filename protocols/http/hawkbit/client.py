"""hawkBit's Direct Device Integration API, version 1, as a device speaks it.

One resource is polled; its links say what there is to do. A poll is told in this order:

1. ask; whatever answer came, the image that runs has reached its server and is confirmed;
2. an attempt that has ended is reported, before anything new is looked at: a success that comes
   while a cancel is pending wins, and so it must come first;
3. configData, whenever the server asks (it asks again after each success);
4. exactly one of cancelAction, confirmationBase and deploymentBase, or none of them;
5. installedBase, when a person wants it read.

The token goes to the server's own origin and nowhere else: links to actions must stay there, and
artifacts that lie elsewhere are fetched without it.
"""

from __future__ import annotations

from urllib.parse import quote

from agent.bootloader import BootReport
from agent.credentials import TokenKind
from agent.device import Device
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime.http import HttpResponse
from agent.update import EngineEvent, Outcome, State
from protocols.http.download import Resource
from protocols.http.hawkbit.deployments import Deployments
from protocols.http.hawkbit.memory import Memory
from protocols.http.hawkbit.misbehaviour import KNOWN, foreign_name, judge
from protocols.http.hawkbit.options import (
    Confirm,
    HawkbitOptions,
    parse_options,
)
from protocols.http.hawkbit.reports import GONE, IGNORED, Reports
from protocols.http.hawkbit.resources import (
    Artifact,
    Link,
    Polled,
    auto_confirm,
    cancel_action,
    deployment,
    poll_answer,
)
from protocols.http.hawkbit.tables import CANCEL, CancelAnswer
from protocols.http.messages import BadAnswer, Refused, json_object
from protocols.http.poller import HttpPoller
from protocols.http.urls import BadUrl, locate

__all__ = ["HawkbitClient"]

ACCEPT = ("Accept", "application/hal+json, application/json")

MAX_RUSH = 4
"""Polls in a row without a pause, each because the one before changed something. More means that
the server did not take notice, and then the device waits like any other."""

_NAMESPACE = "hawkbit"


@protocol_clients.register("hawkbit")
class HawkbitClient(HttpPoller):
    """The DDI client of one device, for one uptime."""

    name = "hawkbit"
    OPTIONS = frozenset(HawkbitOptions.__dataclass_fields__)
    MISBEHAVIOURS = KNOWN

    __slots__ = (
        "_answered_cancel",
        "_denied",
        "_etag",
        "_installed",
        "_polled",
        "_presented",
        "_rush",
        "_said_installed",
        "_token",
        "base",
        "closed",
        "deployments",
        "memory",
        "options",
        "reports",
    )

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        self.options = parse_options(
            {name: text for name, text in settings.options.items() if name in self.OPTIONS}
        )
        super().__init__(device, settings)
        credential = settings.credential(device)
        kind = "GatewayToken" if credential.token_kind is TokenKind.GATEWAY else "TargetToken"
        self._token = f"{kind} {credential.token}" if credential.token else ""
        self.base = self._base_of(device.name)
        self.memory = Memory(device.nvm)
        self.reports = Reports(self)
        self.deployments = Deployments(self)
        self.closed = ""
        """The action whose end was reported since the last pause. A server that offers it again is
        served like any other, but not without a pause."""
        self._answered_cancel = ""
        self._denied = ""
        self._etag = ""
        self._installed = ""
        self._polled: Polled | None = None
        self._presented = False
        self._rush = 0
        self._said_installed = False

    # -- ProtocolClient -------------------------------------------------------------------------

    def booted(self, report: BootReport) -> None:
        if report.refused is not None:
            self.reports.detail = str(report.refused)

    def engine_event(self, event: EngineEvent) -> None:
        if event.detail:
            self.reports.detail = event.detail

    # -- the poll -------------------------------------------------------------------------------

    async def poll(self) -> float:
        if self.misbehave and not self._presented:
            await self._present_wrongly()
        polled = await self._look()
        self.answered()
        changed = await self.reports.close()
        if not changed:
            changed = await self._follow(polled)
        if changed and self._rush < MAX_RUSH:
            self._rush += 1
            return 0.0
        self._rush = 0
        self.closed = ""
        return self.options.poll or float(polled.sleep)

    async def _look(self) -> Polled:
        conditional = self.options.etag or self.options.persona.etag
        fields = self.fields
        if conditional and self._etag and self._polled is not None:
            fields = [*fields, ("If-None-Match", self._etag)]
        answer = await self.ask("GET", self.base, headers=fields)
        if answer.status == 304 and self._polled is not None:
            return self._polled
        if answer.status != 200:
            raise Refused(answer.status, "the poll")
        polled = poll_answer(json_object(answer))
        if conditional:
            self._etag, self._polled = answer.headers.get("etag", ""), polled
        return polled

    async def _follow(self, polled: Polled) -> bool:
        """Do what the links ask for. True: poll again soon."""
        changed = False
        if self.options.installed is not None and not self._said_installed:
            await self._report_installed(*self.options.installed)
        if polled.config_data is not None:
            await self._send_attributes(polled.config_data)
        if self.options.confirm is Confirm.DENY and not self._denied:
            await self._withdraw_consent()
        if polled.cancel is not None:
            changed = not self._ignores(polled.cancel) and await self._cancel(polled.cancel)
            if not changed:
                changed = await self.deployments.go_on()
        elif polled.confirmation is not None:
            changed = await self._confirm(polled.confirmation)
        elif polled.deployment is not None:
            if polled.deployment.id != self.closed:
                changed = await self.deployments.offered(polled.deployment)
        else:
            self.deployments.withdrawn()
        if self.options.read_installed and polled.installed is not None:
            await self._read_installed(polled.installed)
        return changed

    # -- cancelAction ---------------------------------------------------------------------------

    def _ignores(self, link: Link) -> bool:
        """This device does not look at cancels, on purpose."""
        if Misbehaviour.IGNORE_CANCEL in self.misbehave:
            action = self.memory.action
            if action is not None and action.id == link.id:
                self.memory.sent(IGNORED)
            return True
        return Misbehaviour.NEVER_REPORT in self.misbehave

    async def _cancel(self, link: Link) -> bool:
        answer = await self.get(link.href, "cancelAction")
        if answer.status in GONE:
            return False
        if answer.status != 200:
            raise BadAnswer(f"cancelAction was answered {answer.status}")
        stop = cancel_action(json_object(answer)).stop_id
        action = self.memory.action
        mine = action is not None and action.id == stop
        verdict = CANCEL[self.device.engine.state if mine else State.IDLE]
        if verdict is CancelAnswer.ACCEPT:
            verdict = self.options.cancel
        if verdict is not CancelAnswer.ACCEPT:
            return await self._refuse_cancel(stop, verdict)
        if mine or action is None:
            self.deployments.stop()
        status = await self.reports.answer_cancel(stop, verdict.report, "stopped")
        if status == 200 and (mine or self.device.engine.outcome is Outcome.CANCELLED):
            self.tell("failed", "canceled", None)
        return True

    async def _refuse_cancel(self, stop: str, verdict: CancelAnswer) -> bool:
        if self._answered_cancel == stop and verdict is CancelAnswer.CANCELED:
            return False  # it leaves the cancel open: the next poll would ask for ever
        self._answered_cancel = stop
        status = await self.reports.answer_cancel(stop, verdict.report, "the update goes on")
        return status == 200 and verdict is not CancelAnswer.CANCELED

    # -- confirmationBase -----------------------------------------------------------------------

    async def _confirm(self, link: Link) -> bool:
        """Answer an action that waits for its user. True: the server took a yes."""
        if self.options.confirm is Confirm.DENY and self._denied == link.id:
            return False  # asked again at every poll, and the answer is known
        if self.options.confirm is Confirm.AUTO and await self._consent():
            return True
        answer = await self.get(link.href, "confirmationBase")
        if answer.status in GONE:
            return False
        if answer.status != 200:
            raise BadAnswer(f"confirmationBase was answered {answer.status}")
        deployment(json_object(answer), "confirmation")
        deny = self.options.confirm is Confirm.DENY
        body = {
            "confirmation": "denied" if deny else "confirmed",
            "code": -1 if deny else 1,
            "details": ["not now" if deny else "go ahead"],
        }
        url = f"{self.base}/confirmationBase/{link.id}/feedback"
        answer = await self.ask("POST", url, headers=self.fields, json=body)
        if answer.status in GONE:
            return False
        if answer.status != 200:
            raise BadAnswer(f"the feedback on confirmationBase was answered {answer.status}")
        if deny:
            self._denied = link.id
        return not deny

    async def _consent(self) -> bool:
        """Activate auto-confirm; False when it is active already."""
        answer = await self.ask("GET", f"{self.base}/confirmationBase", headers=self.fields)
        if answer.status != 200:
            raise BadAnswer(f"confirmationBase was answered {answer.status}")
        state = auto_confirm(json_object(answer))
        if state.active or state.activate is None:
            return False
        body = {"initiator": self.device.name, "remark": "standing consent of the device"}
        await self._switch(state.activate, "activateAutoConfirm", body)
        return True

    async def _withdraw_consent(self) -> None:
        """A device whose user wants to be asked switches auto-confirm off, once per uptime."""
        self._denied = "-"
        answer = await self.ask("GET", f"{self.base}/confirmationBase", headers=self.fields)
        if answer.status != 200:
            return  # the server knows no confirmations, so there is nothing to switch off
        state = auto_confirm(json_object(answer))
        if state.active and state.deactivate is not None:
            await self._switch(state.deactivate, "deactivateAutoConfirm", None)

    async def _switch(self, href: str, name: str, body: object) -> None:
        fields = self._own_fields(href, name)
        answer = await self.ask("POST", href, headers=fields, json=body)
        if answer.status != 200:
            raise BadAnswer(f"{name} was answered {answer.status}")

    # -- configData and installedBase -----------------------------------------------------------

    async def _send_attributes(self, href: str) -> None:
        running = self.device.running
        body: dict[str, object] = {}
        if self.options.mode is not None:
            body["mode"] = self.options.mode.value
        body["data"] = {
            # The first three are what gooseBit waits for before it offers anything.
            "hw_boardname": self.options.hw_boardname,
            "hw_revision": self.options.hw_revision,
            "sw_version": str(running.version) if running is not None else "",
            "device_type": self.options.persona.name,
            "serial": self.device.name,
        }
        fields = self._own_fields(href, "configData")
        answer = await self.ask("PUT", href, headers=fields, json=body)
        if answer.status not in (200, 201, 204):
            self.note(f"configData was answered {answer.status}")

    async def _report_installed(self, name: str, version: str) -> None:
        """Say what was installed without the server, once in the life of the device."""
        said = f"{name}:{version}".encode()
        if self.device.nvm.get(_NAMESPACE, "installed") == said:
            self._said_installed = True
            return
        url = f"{self.base}/installedBase"
        body = {"name": name, "version": version}
        answer = await self.ask("PUT", url, headers=self.fields, json=body)
        if answer.status in (200, 201):
            self.device.nvm.set(_NAMESPACE, "installed", said)
        else:
            self.note(f"installedBase was answered {answer.status}")
        self._said_installed = True

    async def _read_installed(self, link: Link) -> None:
        if self._installed == link.id:
            return
        answer = await self.get(link.href, "installedBase")
        if answer.status in GONE:
            return
        if answer.status != 200:
            raise BadAnswer(f"installedBase was answered {answer.status}")
        action = deployment(json_object(answer))
        self._installed = link.id
        names = ", ".join(f"{chunk.name} {chunk.version}" for chunk in action.chunks)
        self.note(f"installedBase {action.id}: {names}")

    # -- misbehaviour ---------------------------------------------------------------------------

    async def _present_wrongly(self) -> None:
        """Once per uptime, ask with a stale token, or under another device's name."""
        if Misbehaviour.STALE_CREDENTIAL in self.misbehave and self._token:
            status = await self._status(self.base, f"{self._token}-stale")
            judge(self.device, Misbehaviour.STALE_CREDENTIAL, status, "a stale token")
        if Misbehaviour.CLONED_IDENTITY in self.misbehave and self._strict:
            url = self._base_of(foreign_name(self.device.name))
            status = await self._status(url, self._token)
            judge(self.device, Misbehaviour.CLONED_IDENTITY, status, "another device's name")
        self._presented = True

    @property
    def _strict(self) -> bool:
        """A gateway token may speak for any device: under it nothing is cloned."""
        return not self._token.startswith("GatewayToken")

    async def _status(self, url: str, token: str) -> int:
        fields = [ACCEPT, ("Authorization", token)] if token else [ACCEPT]
        answer = await self.ask("GET", url, headers=fields)
        return answer.status

    # -- for its parts --------------------------------------------------------------------------

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Header fields of a request to the server itself."""
        return [ACCEPT, ("Authorization", self._token)] if self._token else [ACCEPT]

    def fields_for(self, url: str) -> tuple[tuple[str, str], ...]:
        """Those of a download: the token stays at home when the artifact is not."""
        if self._token and self._at_home(url):
            return (("Authorization", self._token),)
        return ()

    def resource(self, artifact: Artifact) -> Resource:
        return Resource(
            artifact.url,
            size=artifact.size,
            hashes=artifact.hashes,
            headers=self.fields_for(artifact.url),
        )

    async def get(self, href: str, name: str) -> HttpResponse:
        """What is behind a link of the server."""
        return await self.ask("GET", href, headers=self._own_fields(href, name))

    @property
    def owns_attempt(self) -> bool:
        """The engine's attempt is one of the action's."""
        action = self.memory.action
        return action is not None and action.before != self.device.engine.attempt

    def forget(self) -> None:
        """The action is over, or never was."""
        self.memory.forget()
        self.deployments.forget()

    def tell(self, verdict: str, detail: str, version: str | None) -> None:
        """The server acknowledged a final report."""
        if self.settings.told is not None:
            self.settings.told(self.device.name, verdict, detail, version)

    def note(self, text: str) -> None:
        """A line for whoever traces this device."""
        if self.settings.trace is not None:
            self.settings.trace(f"! {text}")

    # -- internals ------------------------------------------------------------------------------

    def _base_of(self, name: str) -> str:
        return f"{self.origin.base}/{self.options.tenant}/controller/v1/{quote(name, safe='')}"

    def _at_home(self, url: str) -> bool:
        try:
            return locate(url)[0] == locate(self.origin.base)[0]
        except BadUrl:
            return False

    def _own_fields(self, href: str, name: str) -> list[tuple[str, str]]:
        if not self._at_home(href):
            raise BadAnswer(f"the link {name} leads away from {self.origin.base}")
        return self.fields
