"""A fleet's devices attach to the operator network of a reference backend.

That is how the backend learns in which cell a device is, without asking it
(docs/operator-network.md). Devices of a protocol that attaches by itself (`--option operator=...`
of OMA-DM) need none of this; a device that never attaches works all the same, its cell is unknown.

The attachment goes out when a device is powered on, a few at a time, and is taken back at the end
of the run. What the network does not take is counted and said, and never stops a device.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from urllib.parse import quote

import httpx

from tools.fleet.spec import OperatorAccess, SpecError

__all__ = ["Attachments", "read_access"]

AT_ONCE = 8
"""Attachments under way at a time: each costs the network a commit, which it shares between
them."""

PATIENCE = 10.0  # seconds of a request
DETACH_SECONDS = 15.0
"""For all devices at the end of a run; a network that did not hear finds out by itself."""


def read_access(ready_file: Path, cells: int) -> OperatorAccess:
    """From the file that `fotilla backend --ready-file` writes. Raises SpecError."""
    if not 1 <= cells <= 1_000_000:
        raise SpecError("cells", f"from 1 to 1000000, not {cells}")
    try:
        content = json.loads(ready_file.read_bytes())
        access = OperatorAccess(
            url=str(content["listeners"]["rest"]),
            account=str(content["account"]["name"]),
            secret=str(content["account"]["secret"]),
            cells=cells,
        )
    except OSError as error:
        raise SpecError("operator", f"cannot read {ready_file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise SpecError(
            "operator", f"{ready_file} is no ready file of a backend with a REST listener"
        ) from None
    return access


class Attachments:
    """The devices of one shard in the operator network."""

    def __init__(
        self, access: OperatorAccess, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._access = access
        self._api = httpx.AsyncClient(
            base_url=access.url, timeout=PATIENCE, transport=transport, trust_env=False
        )
        self._token = ""
        self._asking = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._attached: list[str] = []
        self.failed = 0
        """Devices that the network did not take."""
        self.trouble = ""
        """What it said to the last of them."""

    def attach(self, name: str, position: int) -> None:
        """A device powers up, in the cell of its position."""
        cell = f"cell-{position % self._access.cells}"
        task = asyncio.get_running_loop().create_task(self._attach(name, cell))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Take every attachment back, for a while, and let go of the connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DETACH_SECONDS):
                await asyncio.gather(*(self._detach(name) for name in self._attached))
        await self._api.aclose()

    async def _attach(self, name: str, cell: str) -> None:
        said = await self._ask("PUT", name, {"cell": cell})
        if said:
            self.failed += 1
            self.trouble = said
        else:
            self._attached.append(name)

    async def _detach(self, name: str) -> None:
        await self._ask("DELETE", name, None)

    async def _ask(self, method: str, name: str, body: dict[str, str] | None) -> str:
        """Empty when it went well, else what was wrong."""
        path = f"/operator/devices/{quote(name, safe='')}"
        async with self._places:
            try:
                for _ in range(2):  # a token lives an hour, a run may live longer
                    token = await self._bearer()
                    answer = await self._api.request(
                        method, path, json=body, headers={"Authorization": f"Bearer {token}"}
                    )
                    if answer.status_code != httpx.codes.UNAUTHORIZED:
                        break
                    self._token = ""
            except httpx.HTTPError as error:
                return f"{type(error).__name__}: {error}"
        return "" if answer.is_success else f"{answer.status_code}: {answer.text[:200]}"

    async def _bearer(self) -> str:
        async with self._asking:
            if not self._token:
                answer = await self._api.post(
                    "/api/ts/v1/oauth2/token",
                    auth=(self._access.account, self._access.secret),
                    data={"grant_type": "client_credentials"},
                )
                self._token = (
                    str(answer.json().get("access_token", "")) if answer.is_success else ""
                )
            return self._token
