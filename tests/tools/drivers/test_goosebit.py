"""The gooseBit driver where it talks to something else. What it does with gooseBit itself is shown
against gooseBit (tests/interop/goosebit)."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest

from tools.drivers.base import DriverSettings, Secrets
from tools.drivers.errors import DriverError, MissingSecret, UnsupportedServer
from tools.drivers.goosebit import NEEDED, GoosebitDriver

DESCRIPTION: dict[str, Any] = {
    "info": {"title": "gooseBit", "version": "0.9.0"},
    "paths": {path: dict.fromkeys(methods, {}) for path, methods in NEEDED.items()},
}
IDENTITY = Secrets("goosebit", "admin", "pa55word")


def driver(answer: Any, identity: Secrets = IDENTITY) -> GoosebitDriver:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/openapi.json":
            return (
                answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)
            )
        return httpx.Response(200, json={"access_token": "t0ken", "success": False, "devices": []})

    transport = httpx.MockTransport(handler)
    return GoosebitDriver(DriverSettings("http://other", identity, "77", transport=transport))


def without(path: str, method: str) -> dict[str, Any]:
    description = copy.deepcopy(DESCRIPTION)
    del description["paths"][path][method]
    return description


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404), "is this gooseBit"),
        (httpx.Response(401), "is this gooseBit"),
        (httpx.Response(200, text="<html>"), "not JSON"),
        ({}, "no 'info'"),
        ({"info": {"title": "hawkBit"}, "paths": {}}, "calls itself 'hawkBit'"),
        (without("/api/v1/rollouts", "patch"), "version 0.9.0 does not have /api/v1/rollouts"),
    ],
)
async def test_something_else_answers(answer: Any, words: str) -> None:
    made = driver(answer)
    with pytest.raises(UnsupportedServer, match=words):
        await made.open()
    await made.close()


async def test_secrets_are_asked_for_by_name() -> None:
    made = driver(DESCRIPTION, Secrets("goosebit"))
    with pytest.raises(MissingSecret, match="FOTILLA_GOOSEBIT_USER"):
        await made.open()
    await made.close()


async def test_a_server_that_says_it_failed_is_believed() -> None:
    made = driver(DESCRIPTION)
    with pytest.raises(DriverError, match="says that it did not succeed"):
        await made.provision(["a"])
    await made.cleanup()
    await made.close()


async def test_devices_are_told_what_hardware_the_package_is_for() -> None:
    made = driver(DESCRIPTION)
    assert made.device_options == {
        "tenant": "DEFAULT",
        "hw_boardname": "fotilla",
        "hw_revision": "77",
        "format": "swu",
    }
    await made.close()
