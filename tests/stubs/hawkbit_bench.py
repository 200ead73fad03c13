"""One hawkBit stub in memory, one target, two distribution sets, and a clock that tests move."""

from __future__ import annotations

from typing import Any

import httpx

from tests.stubs.hawkbit import HawkbitStub

NOON = 1_795_435_200.0
"""2026-11-23 12:00:00 UTC, a Monday."""

IMAGE = bytes(range(256)) * 40
TOKEN = {"authorization": "TargetToken t"}


def closed() -> dict[str, Any]:
    return {"status": {"execution": "closed", "result": {"finished": "success"}}}


class Bench:
    """A stub with one target `d` and one distribution set, on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = NOON
        self.stub = HawkbitStub(lambda: self.clock)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.stub.app), base_url="http://hawkbit"
        )
        self.device = "/DEFAULT/controller/v1/d"

    async def rest(self, method: str, path: str, body: Any = None, expect: int = 200) -> Any:
        self.clock += 0.01
        answer = await self.client.request(
            method, "/rest/v1" + path, json=body, auth=("admin", "admin")
        )
        assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else None

    async def setting(self, key: str, value: Any) -> None:
        await self.rest("PUT", f"/system/configs/{key}", {"value": value}, 204)

    async def prepare(self) -> None:
        await self.setting("authentication.targettoken.enabled", True)
        await self.rest("POST", "/targets", [{"controllerId": "d", "securityToken": "t"}], 201)
        for version in ("1", "2"):
            await self.software(version)

    async def software(self, version: str) -> None:
        part = {"name": "app", "version": version, "type": "os"}
        module = (await self.rest("POST", "/softwaremodules", [part], 201))[0]["id"]
        answer = await self.client.post(
            f"/rest/v1/softwaremodules/{module}/artifacts",
            files={"file": ("image.bin", IMAGE)},
            auth=("admin", "admin"),
        )
        assert answer.status_code == 201
        await self.rest("POST", "/distributionsets", [part | {"modules": [{"id": module}]}], 201)

    async def assign(self, ds: int = 1, **more: Any) -> int:
        body = await self.rest(
            "POST", f"/distributionsets/{ds}/assignedTargets", [{"id": "d"} | more]
        )
        return int(body["assignedActions"][0]["id"])

    async def get(self, path: str = "", **headers: str) -> httpx.Response:
        return await self.client.get(self.device + path, headers=TOKEN | headers)

    async def links(self) -> dict[str, str]:
        body = (await self.get()).json()
        return {name: link["href"] for name, link in body.get("_links", {}).items()}

    async def post(self, path: str, body: Any) -> int:
        answer = await self.client.post(self.device + path, json=body, headers=TOKEN)
        return answer.status_code

    async def feedback(
        self, action: int, execution: str, finished: str = "none", **more: Any
    ) -> int:
        status = {"execution": execution, "result": {"finished": finished}} | more
        return await self.post(f"/deploymentBase/{action}/feedback", {"status": status})

    async def deployment(self, action: int) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get(f"/deploymentBase/{action}")).json()["deployment"]
        return found
