"""The recording is played against a server on a socket: a living hawkBit, or else the stub.

With HAWKBIT_URL, HAWKBIT_USER and HAWKBIT_PASSWORD set, that server is the one. It may be in use:
everything made here has a random suffix and is deleted again, the tenant's settings are put back,
and what depends on others (all settings, the first targets of a list) is compared by status alone.
Without them the stub plays hawkBit, so that this way of playing is always tried.

It was written against the recording and the stub; a living server may be slower, so a GET that
differs is repeated for a while: rollouts move in the background.
"""

from __future__ import annotations

import asyncio
import copy
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from tests.stubs.hawkbit import HawkbitStub
from tests.stubs.hawkbit_replay import Exchange, Names, compare, load, request_of

RECORDED_SUFFIX = "21019"
TOUCHED = (
    "pollingTime",
    "authentication.targettoken.enabled",
    "authentication.gatewaytoken.enabled",
    "authentication.gatewaytoken.key",
    "user.confirmation.flow.enabled",
)
STATUS_ALONE = (
    "/rest/v1/system/configs",
    "/rest/v1/system/configs/authentication.targettoken.enabled",
    "/rest/v1/targets?limit=2&sort=controllerId:ASC",
)
PATIENCE = 60.0
"""Seconds for a rollout to reach the recorded state."""

PAUSE = 0.1


def suffixed(value: Any, suffix: str, user: str) -> Any:
    """The same with this run's names and user."""
    if isinstance(value, dict):
        return {suffixed(k, suffix, user): suffixed(v, suffix, user) for k, v in value.items()}
    if isinstance(value, list):
        return [suffixed(item, suffix, user) for item in value]
    if isinstance(value, str):
        value = re.sub(rf"(?<=[A-Za-z*0-3]){RECORDED_SUFFIX}\b", suffix, value)
        return user if value == "admin" else value.replace("'admin'", f"'{user}'")
    return value


class Server:
    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self.suffix = secrets.token_hex(4)
        self.client = httpx.AsyncClient(timeout=PATIENCE)
        self.auth = (user, password)
        self.names = Names()

    def mine(self, exchange: Exchange) -> Exchange:
        request = suffixed(copy.deepcopy(exchange.request), self.suffix, self.user)
        for item in request if isinstance(request, list) else ():
            if "forcetime" in item:  # an hour ahead, as it was when recorded
                item["forcetime"] = int((time.time() + 3600) * 1000)
        return replace(
            exchange,
            path=suffixed(exchange.path, self.suffix, self.user),
            request=request,
            response=suffixed(exchange.response, self.suffix, self.user),
        )

    async def play(self, exchange: Exchange) -> list[str]:
        exchange = self.mine(exchange)
        deadline = time.monotonic() + PATIENCE
        while True:
            names = copy.deepcopy(self.names)
            arguments = request_of(exchange, names, self.url)
            if arguments["auth"] is not None:
                arguments["auth"] = self.auth
            response = await self.client.request(**arguments)
            if exchange.path in STATUS_ALONE:
                differs = response.status_code != exchange.status
                return [f"{exchange.title}: status {response.status_code}"] if differs else []
            found = compare(self._addressed(exchange, response), response, names, self.url)
            moving = exchange.method == "GET" and "rollout" in exchange.scene
            if not found or not moving or time.monotonic() > deadline:
                self.names = names
                if exchange.number == 6:
                    # The recorded module 1 is any that lacks a certain file: ours does.
                    self.names.live["module", "1"] = self.names.of("module", "6")
                return [f"{exchange.title}: {difference}" for difference in found]
            await asyncio.sleep(PAUSE)

    def _addressed(self, exchange: Exchange, response: httpx.Response) -> Exchange:
        """The address from which a living server sees us is its own affair."""
        seen = re.search(r'"ipAddress":"([^"]*)"', response.text)
        if seen is None or not isinstance(exchange.response, dict):
            return exchange
        recorded = copy.deepcopy(exchange.response)
        for item in recorded.get("content", [recorded]):
            if "ipAddress" in item:
                item |= {"ipAddress": seen[1], "address": f"http://{seen[1]}"}
        return replace(exchange, response=recorded)

    async def management(self, method: str, path: str, **more: Any) -> httpx.Response:
        url = f"{self.url}/rest/v1/{path}"
        return await self.client.request(method, url, auth=self.auth, **more)

    @asynccontextmanager
    async def left_as_it_was(self) -> AsyncIterator[None]:
        answer = await self.management("GET", "system/configs")
        before = answer.json()
        try:
            yield
        finally:
            for key in TOUCHED:
                if before[key]["global"]:
                    await self.management("DELETE", f"system/configs/{key}")
                else:
                    value = {"value": before[key]["value"]}
                    await self.management("PUT", f"system/configs/{key}", json=value)
            await self.clean()

    async def clean(self) -> None:
        """Rollouts before the sets that they hold, sets before their modules."""
        for kind, field in (
            ("rollouts", "name"),
            ("targets", "controllerId"),
            ("distributionsets", "name"),
            ("softwaremodules", "name"),
        ):
            listed = await self.management(
                "GET", kind, params={"q": f"{field}==*{self.suffix}", "limit": "500"}
            )
            for item in listed.json()["content"]:
                identifier = item["controllerId"] if kind == "targets" else item["id"]
                await self.management("DELETE", f"{kind}/{identifier}")


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    url = os.environ.get("HAWKBIT_URL")
    if url:
        living = Server(url, os.environ["HAWKBIT_USER"], os.environ["HAWKBIT_PASSWORD"])
        async with living.client:
            yield living
        return
    async with HawkbitStub.serve() as stub:
        stub.state.settings.rollout_period = 0.02
        playing = Server(stub.url, stub.user, stub.password)
        async with playing.client:
            yield playing
        state = stub.state
        left: list[object] = [*state.targets]
        for kept in (state.rollouts, state.sets, state.modules):
            left += [item for item in kept.values() if not item.deleted]
        assert not left
        assert state.config == {}


async def test_the_recording_over_a_socket() -> None:
    found: list[str] = []
    async with server() as living, living.left_as_it_was():
        for exchange in load():
            found += await living.play(exchange)
    assert not found, "\n" + "\n".join(found)


def test_only_names_get_the_suffix() -> None:
    value = {"a21019": ["r*21019", "r021019", "0b21019f", 1795421019778, "ds21019:3.0"]}
    assert suffixed(value, "X", "me") == {
        "aX": ["r*X", "r0X", "0b21019f", 1795421019778, "dsX:3.0"]
    }
    assert suffixed(["admin", "by user 'admin'", "administrator"], "X", "me") == [
        "me",
        "by user 'me'",
        "administrator",
    ]
