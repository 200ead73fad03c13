"""A fleet's devices attach to the operator network of a reference backend.

That is how the backend learns in which cell a device is, without asking it
(docs/operator-network.md). A device that listens for pushes (OMA-DM) attaches with the address of
that at each boot, because the port is another one then; the others attach once. A device that never
attaches works all the same, its cell is unknown.

Attachments go out a few at a time, and are taken back at the end of the run. A network that is away
or fails is asked again; what it does not take is counted and said, and never stops a device.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from agent.runtime.network import Address, source_address
from tools.fleet.clients import client_maker
from tools.fleet.spec import FleetSpec, OperatorAccess, SpecError

__all__ = ["Attachments", "listening", "read_access"]

AT_ONCE = 8
"""Attachments under way at a time: each costs the network a commit, which it shares between
them."""

ANY_PORT = "0"
EVERYWHERE = ("0.0.0.0", "::")
"""Good to listen on, but nothing can be sent there."""

PATIENCE = 10.0  # seconds of a request
RETRY_FIRST, RETRY_LAST = 1.0, 30.0
"""Seconds until a network that is away is asked again, doubling: a backend restarts in a few."""
DETACH_SECONDS = 15.0
"""For all devices at the end of a run; a network that did not hear finds out by itself."""


def read_access(ready_file: Path, cells: int, account: str | None = None) -> OperatorAccess:
    """From the file that `fotilla backend --ready-file` writes; `account` is one that it names, the
    backend's own without. Raises SpecError."""
    if not 1 <= cells <= 1_000_000:
        raise SpecError("cells", f"from 1 to 1000000, not {cells}")
    try:
        content = json.loads(ready_file.read_bytes())
        url = str(content["listeners"]["rest"])
        known = [content["account"], *content.get("accounts", ())]
        secrets = {str(one["name"]): str(one["secret"]) for one in known}
        name = str(content["account"]["name"]) if account is None else account
    except OSError as error:
        raise SpecError("operator", f"cannot read {ready_file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SpecError(
            "operator", f"{ready_file} is no ready file of a backend with a REST listener"
        ) from None
    if name not in secrets:
        raise SpecError("account", f"{ready_file} has the secrets of {', '.join(secrets)} only")
    return OperatorAccess(url=url, account=name, secret=secrets[name], cells=cells)


def listening(spec: FleetSpec) -> FleetSpec:
    """The same; devices of a protocol that can be woken by a push listen for it when they attach.
    Raises SpecError when nobody could say where."""
    if spec.operator is None or not hasattr(client_maker(spec.protocol), "push_address"):
        return spec
    options = dict(spec.options)
    if "operator" in options:
        raise SpecError("operator", "the devices attach by --option operator already")
    if options.get("push", "off") == "off":
        options["push"] = ANY_PORT
    if source_address(spec.bind, urlsplit(spec.server).hostname or "", 0)[0] in EVERYWHERE:
        raise SpecError("bind", "needed with --operator: where the devices take pushes")
    return replace(spec, options=tuple(options.items()))


class Attachments:
    """The devices of one shard in the operator network."""

    def __init__(
        self,
        access: OperatorAccess,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._access = access
        self._api = httpx.AsyncClient(
            base_url=access.url, timeout=PATIENCE, transport=transport, trust_env=False
        )
        self._sleep = sleep
        self._token = ""
        self._asking = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wanted: dict[str, dict[str, str]] = {}
        """What was asked for each device last."""
        self._attached: set[str] = set()
        self._without: dict[str, str] = {}
        """Devices that are not attached, and what the network said."""

    @property
    def failed(self) -> int:
        """Devices that the network has not taken."""
        return len(self._without)

    @property
    def trouble(self) -> str:
        """What it said to the last of them, empty without any."""
        return next(reversed(self._without.values()), "")

    def attach(self, name: str, position: int, push: Address | None = None) -> None:
        """A device boots, in the cell of its position; `push` is where it takes datagrams."""
        body = {"cell": f"cell-{position % self._access.cells}"}
        if push is not None:
            host, port = push
            body["push"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._wanted.get(name) == body:
            return
        self._wanted[name] = body
        if name not in self._tasks:
            self._tasks[name] = asyncio.get_running_loop().create_task(self._attach(name))

    async def settled(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def close(self) -> None:
        """Take every attachment back, for a while, and let go of the connections."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DETACH_SECONDS):
                await asyncio.gather(*(self._ask("DELETE", name, None) for name in self._attached))
        await self._api.aclose()

    async def _attach(self, name: str) -> None:
        delay = RETRY_FIRST
        try:
            while True:
                body = self._wanted[name]
                said, again = await self._ask("PUT", name, body)
                if said:
                    self._without[name] = said
                else:
                    self._without.pop(name, None)
                    self._attached.add(name)
                if again:
                    await self._sleep(delay)
                    delay = min(2 * delay, RETRY_LAST)
                elif self._wanted[name] is body:
                    return
        finally:
            del self._tasks[name]

    async def _ask(self, method: str, name: str, body: dict[str, str] | None) -> tuple[str, bool]:
        """What was wrong, empty when it went well, and whether it may pass."""
        path = f"/operator/devices/{quote(name, safe='')}"
        async with self._places:
            try:
                for _ in range(2):  # a token lives an hour or until the backend restarts
                    token = await self._bearer()
                    answer = await self._api.request(
                        method, path, json=body, headers={"Authorization": f"Bearer {token}"}
                    )
                    if answer.status_code != httpx.codes.UNAUTHORIZED:
                        break
                    if self._token == token:  # nobody has asked for another one meanwhile
                        self._token = ""
            except httpx.HTTPError as error:
                return f"{type(error).__name__}: {error}", True
        if answer.is_success:
            return "", False
        return f"{answer.status_code}: {answer.text[:200]}", answer.is_server_error

    async def _bearer(self) -> str:
        async with self._asking:
            if not self._token:
                answer = await self._api.post(
                    "/api/ts/v1/oauth2/token",
                    auth=(self._access.account, self._access.secret),
                    data={"grant_type": "client_credentials"},
                )
                if answer.is_server_error:
                    answer.raise_for_status()
                self._token = (
                    str(answer.json().get("access_token", "")) if answer.is_success else ""
                )
            return self._token
