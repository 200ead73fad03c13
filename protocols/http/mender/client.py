"""A Mender device: it authenticates, tells what it is, asks for a deployment, and carries it out.

A poll, in this order:

1. without a token: a signed authentication request. 401 means that nobody has accepted the device
   yet, or any more; it asks again after a back-off. A token that has run out is answered 401
   anywhere, and the next poll begins here again;
2. whatever runs has reached its server now and is confirmed;
3. an attempt that has ended is reported, a failure with the device's log behind it;
4. the inventory, at the first poll of an uptime and when it has changed;
5. the next deployment, unless one is under way.

A deployment is a story beside the polls. The server may end it with a 409 to any status: the device
drops what it has and says nothing more.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from agent.device import Device
from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from agent.nvm import NvmFull
from agent.outcome import Outcome
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime.http import HttpFailed, HttpResponse
from agent.update import State
from firmware_images.errors import BadKey
from firmware_images.keys import TrustedKeys
from firmware_images.signatures import check_package_key
from protocols.http.download import Download, Resource
from protocols.http.mender.artifact import DeployedArtifact
from protocols.http.mender.deployment import (
    Deployment,
    Kept,
    decode_kept,
    decode_provides,
    encode_provides,
    parse_deployment,
)
from protocols.http.mender.identity import DeviceKey, auth_request, device_key
from protocols.http.mender.options import OPTIONS, parse_options
from protocols.http.mender.tables import (
    ALREADY_INSTALLED,
    AUDITED,
    FAILURE,
    FINAL,
    RIGHT_ANSWERS,
    STATUSES,
    SUCCESS,
)
from protocols.http.messages import JSON, BadAnswer, Refused, json_object
from protocols.http.poller import HttpPoller

__all__ = ["MenderClient"]

AUTH_REQUESTS = "/api/devices/v1/authentication/auth_requests"
INVENTORY = "/api/devices/v1/inventory/device/attributes"
DEPLOYMENTS = "/api/devices/v1/deployments/device/deployments"
NEXT_V2 = "/api/devices/v2/deployments/device/deployments/next"

MAX_TOKEN = 16 << 10
"""Bytes; a JWT with a certificate chain in it is a quarter of that."""
_TOKEN = re.compile(rf"[!-~]{{1,{MAX_TOKEN}}}")
MAX_LOG = 16
"""Lines of a log: what a device remembers of itself."""
MAX_SPREAD = 5.0
"""Seconds after a Retry-After: not all devices in the same second."""

_NAMESPACE = "mender"
_FOREIGN = "00000000-0000-0000-0000-000000000000"
_NONE: frozenset[Misbehaviour] = frozenset()
_STALE_TOKEN = "e30.e30.c3RhbGU"  # three parts, as a JWT has, and no signature that anybody made


class Aborted(Exception):
    """The server ended the deployment (409)."""


@protocol_clients.register("mender")
class MenderClient(HttpPoller):
    """One device, for one uptime."""

    name = "mender"
    OPTIONS = OPTIONS
    MISBEHAVIOURS = frozenset(RIGHT_ANSWERS) | AUDITED

    __slots__ = ("_inventory", "_judged", "_options", "_signers", "_token")

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        super().__init__(device, settings)
        options = self._options = parse_options(settings.options)
        self._key()  # that it can be used is known before anything starts
        self._signers = _signers(device) if options.signed else None
        self._token = ""
        self._inventory: tuple[str, ...] = ()
        """Artifact and version that the server has been told of in this uptime."""
        self._judged: frozenset[Misbehaviour] = _NONE

    # -- polls ----------------------------------------------------------------------------------

    async def poll(self) -> float:
        if not self._token:
            await self._authenticate()
            self.answered()
        await self._report_end()
        await self._tell_inventory()
        if not self.busy:
            await self._next()
        return self._options.interval

    async def _authenticate(self) -> None:
        options = self._options
        identity = {options.identity: self.device.name}
        body, signature = auth_request(identity, self._key(), options.tenant_token)
        answer = await self.ask(
            "POST",
            self.origin.base + AUTH_REQUESTS,
            body=body,
            headers=[("Content-Type", JSON), ("X-MEN-Signature", signature)],
        )
        if self._clone:
            self._judge(Misbehaviour.CLONED_IDENTITY, answer)
        if answer.status != 200:
            raise Refused(answer.status, "the authentication request")
        token = answer.body.decode("ascii", "replace").strip()
        if not _TOKEN.fullmatch(token):
            raise BadAnswer("the answer to the authentication request is no token")
        self._token = token
        if Misbehaviour.STALE_CREDENTIAL in self.misbehave:
            await self._present_stale()

    async def _next(self) -> None:
        engine = self.device.engine
        kept = self._kept
        if engine.state in (State.INSTALLING, State.TRIAL):
            return
        deployment = await self._ask_next()
        await self._foreign_report()
        if deployment is None:
            if kept is not None:
                self._forget()
            return
        if deployment.artifact_name == self._artifact_name:
            self._forget()
            if Misbehaviour.NEVER_REPORT not in self.misbehave:
                answer = await self._status(deployment.id, ALREADY_INSTALLED)
                if answer.status in (200, 204):
                    self._believed("updated", ALREADY_INSTALLED)
            return
        if kept is None or kept.id != deployment.id:
            self._forget()
            record = Kept(deployment.id, deployment.artifact_name)
            self.device.nvm.set(_NAMESPACE, "deployment", record.encode())
        self.begin(self._deploy(deployment))

    async def _ask_next(self) -> Deployment | None:
        provides = {
            "artifact_name": self._artifact_name,
            "device_type": self._options.device_type,
        }
        if self._options.api == "v2":
            asked = {
                "device_provides": {**self._provides, **provides},
                "update_control_map": False,
            }
            answer = await self._call("POST", NEXT_V2, asked)
            # A server that has the first version only does not know this path.
            if answer.status in (404, 405):
                answer = await self._call("GET", f"{DEPLOYMENTS}/next?{urlencode(provides)}")
        else:
            answer = await self._call("GET", f"{DEPLOYMENTS}/next?{urlencode(provides)}")
        if answer.status == 204:
            return None
        if answer.status != 200:
            raise Refused(answer.status, "the question for a deployment")
        return parse_deployment(json_object(answer))

    # -- a deployment ---------------------------------------------------------------------------

    async def _deploy(self, deployment: Deployment) -> None:
        engine = self.device.engine
        try:
            if not self._downloaded:
                if engine.state is State.DOWNLOADED:
                    engine.cancel()
                await self._step(deployment.id, State.DOWNLOADING)
                if not await self._download(deployment):
                    self.wake()  # the next poll reports how it ended
                    return
            await self._step(deployment.id, State.DOWNLOADED)
        except Aborted:
            self._forget()
            return
        except HttpFailed:
            # Without its server a device does not go on; the next poll finds where it stands.
            return
        except Refused as refused:
            if refused.retry_after is not None:
                # While this story is told no poll begins it again.
                spread = self.device.random.uniform(0.0, MAX_SPREAD)
                await self.device.runtime.clock.sleep(refused.retry_after + spread)
            return
        engine.install()

    async def _download(self, deployment: Deployment) -> bool:
        options, device = self._options, self.device
        artifact: DeployedArtifact

        def unpacker() -> DeployedArtifact:
            nonlocal artifact
            artifact = DeployedArtifact(
                deployment,
                self._signers,
                device_type=options.device_type,
                running=self._artifact_name,
                provides=self._provides,
                room=device.engine.capacity,
            )
            return artifact

        if not await Download(self, Resource(deployment.uri), unpacker=unpacker).run():
            return False
        record = Kept(deployment.id, deployment.artifact_name, artifact.provided())
        # A key and a long link leave little room: without its provides the record fits as before.
        lean = replace(record, provides={})
        self._keep("deployment", record.encode(), lean.encode())
        return True

    async def _step(self, deployment: str, state: State) -> None:
        """Tell the statuses of a step. Raises Aborted, unless that is what it ignores."""
        for status in STATUSES[state]:
            if Misbehaviour.NEVER_REPORT in self.misbehave:
                return
            answer = await self._status(deployment, status)
            if answer.status == 409 and Misbehaviour.IGNORE_CANCEL in self.misbehave:
                self._judge(Misbehaviour.IGNORE_CANCEL, await self._status(deployment, status))
            elif answer.status == 409:
                raise Aborted
            elif answer.status not in (200, 204):
                # A deployment that is no more is dropped by the next poll, which is offered none.
                raise Refused(answer.status, f"status {status}")

    async def _report_end(self) -> None:
        """Tell how the attempt ended, if it has and the server does not know."""
        engine, kept = self.device.engine, self._kept
        outcome = engine.outcome
        if outcome is None or not engine.report_pending:
            return
        if outcome is Outcome.SUCCESS and kept is not None:
            if kept.provides is not None:
                # Moved, not copied: the name needs the room.
                self._keep("provides", encode_provides(kept.provides), b"{}")
                moved = replace(kept, provides=None)
                self.device.nvm.set(_NAMESPACE, "deployment", moved.encode())
            self.device.nvm.set(_NAMESPACE, "artifact", kept.artifact_name.encode())
        status = FINAL[outcome]
        if outcome not in (Outcome.CANCELLED, Outcome.DEFERRED):
            if Misbehaviour.FALSE_SUCCESS in self.misbehave:
                status = SUCCESS
            elif Misbehaviour.FALSE_FAILURE in self.misbehave:
                status = FAILURE
        if not status or kept is None or Misbehaviour.NEVER_REPORT in self.misbehave:
            self._close()
            return
        answer = await self._status(kept.id, status)
        if answer.status not in (200, 204, 404, 409):
            raise Refused(answer.status, f"status {status}")
        if answer.status in (200, 204):
            if status == FAILURE:
                with contextlib.suppress(HttpFailed, Refused):
                    await self._send_log(kept.id)
            self._believed("updated" if status == SUCCESS else "failed", status)
        self._close()

    def _believed(self, verdict: str, status: str) -> None:
        """Let the fleet know what the server believes from now on."""
        if self.settings.told is not None:
            running = self.device.running
            version = None if running is None else str(running.version)
            self.settings.told(self.device.name, verdict, status, version)

    async def _status(self, deployment: str, status: str) -> HttpResponse:
        answer = await self._call("PUT", f"{DEPLOYMENTS}/{deployment}/status", {"status": status})
        if Misbehaviour.DUPLICATE_REPORT in self.misbehave and answer.status == 204:
            again = await self._call(
                "PUT", f"{DEPLOYMENTS}/{deployment}/status", {"status": status}
            )
            self._judge(Misbehaviour.DUPLICATE_REPORT, again)
        return answer

    async def _send_log(self, deployment: str) -> None:
        """What the device remembers of itself. Losing it costs nothing but the log."""
        device = self.device
        clock = device.runtime.clock
        origin = clock.utc() - datetime.timedelta(seconds=clock.now())
        messages = [
            {
                "timestamp": _rfc3339(origin + datetime.timedelta(seconds=record.time)),
                "level": "info",
                "message": f"{record.machine}: {record.old} -> {record.new} ({record.cause})",
            }
            for record in device.runtime.journal.history(device.ring)[-MAX_LOG:]
        ]
        await self._call("PUT", f"{DEPLOYMENTS}/{deployment}/log", {"messages": messages})

    # -- the rest -------------------------------------------------------------------------------

    async def _tell_inventory(self) -> None:
        running = self.device.running
        told = (self._artifact_name, "" if running is None else str(running.version))
        if told == self._inventory:
            return
        attributes = [
            {"name": "device_type", "value": self._options.device_type},
            {"name": "artifact_name", "value": told[0]},
            {"name": "firmware_version", "value": told[1]},
        ]
        answer = await self._call("PATCH", INVENTORY, attributes)
        if answer.status != 200:
            raise Refused(answer.status, "the inventory")
        self._inventory = told

    async def _call(self, method: str, path: str, body: Any = None) -> HttpResponse:
        """A request with our token. Raises Refused for a token that is accepted no more."""
        token = self._token
        answer = await self.ask(
            method,
            self.origin.base + path,
            json=body,
            headers=[("Authorization", f"Bearer {token}")],
        )
        if answer.status == 401:
            if self._token == token:  # and not one that a poll has fetched meanwhile
                self._token = ""
            raise Refused(401, f"{method} {path.partition('?')[0]}")
        self.answered()
        return answer

    async def _present_stale(self) -> None:
        answer = await self.ask(
            "GET",
            f"{self.origin.base}{DEPLOYMENTS}/next?artifact_name=x&device_type=x",
            headers=[("Authorization", f"Bearer {_STALE_TOKEN}")],
        )
        self._judge(Misbehaviour.STALE_CREDENTIAL, answer)

    async def _foreign_report(self) -> None:
        if (
            Misbehaviour.FOREIGN_REPORT in self.misbehave
            and Misbehaviour.FOREIGN_REPORT not in self._judged
        ):
            answer = await self._status(_FOREIGN, SUCCESS)
            self._judge(Misbehaviour.FOREIGN_REPORT, answer)

    def _judge(self, name: Misbehaviour, answer: HttpResponse) -> None:
        self._judged |= {name}
        kept = answer.status in RIGHT_ANSWERS[name]
        ledger = self.device.runtime.misbehaviours
        ledger.judge(self.name, name, kept, self.device.name, str(answer.status))

    @property
    def _clone(self) -> bool:
        return Misbehaviour.CLONED_IDENTITY in self.misbehave

    def _key(self) -> DeviceKey:
        """Made anew for each request: a key is a kilobyte or two of an idle device, and one request
        a day needs it."""
        device = self.device
        pem = self.settings.credential(device).private_key
        # A clone knows whom it plays, and has not that device's key.
        pem, name = (b"", f"clone of {device.name}") if self._clone else (pem, device.name)
        return device_key(pem, self._options.key, device.runtime.seed, name, device.nvm)

    def _keep(self, key: str, data: bytes, lean: bytes) -> None:
        """`lean` is kept where there is no room for all."""
        try:
            self.device.nvm.set(_NAMESPACE, key, data)
        except NvmFull:
            self.device.nvm.set(_NAMESPACE, key, lean)

    @property
    def _provides(self) -> dict[str, str]:
        return decode_provides(self.device.nvm.get(_NAMESPACE, "provides"))

    @property
    def _kept(self) -> Kept | None:
        return decode_kept(self.device.nvm.get(_NAMESPACE, "deployment"))

    @property
    def _downloaded(self) -> bool:
        """The artifact is here, and has been read: a power cut may come between the two."""
        engine, kept = self.device.engine, self._kept
        return (
            engine.state is State.DOWNLOADED
            and engine.outcome is None
            and kept is not None
            and kept.provides is not None
        )

    @property
    def _artifact_name(self) -> str:
        stored = self.device.nvm.get(_NAMESPACE, "artifact")
        return self._options.artifact if stored is None else stored.decode(errors="replace")

    def _close(self) -> None:
        """The end is known to the server, or is nobody's business."""
        self.device.nvm.delete(_NAMESPACE, "deployment")
        self.device.engine.reported()

    def _forget(self) -> None:
        """Drop what was begun for a deployment that is no more, silently."""
        engine = self.device.engine
        self.device.nvm.delete(_NAMESPACE, "deployment")
        if engine.state in (State.DOWNLOADING, State.DOWNLOADED):
            engine.cancel()


def _signers(device: Device) -> TrustedKeys:
    """Those of the keys that the device trusts which can sign an artifact."""
    able = []
    for key in device.store.bootloader.trusted.keys:
        with contextlib.suppress(BadKey):
            check_package_key(key)
            able.append(key)
    if not able:
        raise UnusableSettings("signed=yes, and no key of the device can sign an artifact")
    return TrustedKeys(tuple(able))


def _rfc3339(instant: datetime.datetime) -> str:
    return (
        instant.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
