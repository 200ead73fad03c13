"""A headless Chromium, driven by the W3C WebDriver protocol (https://www.w3.org/TR/webdriver2/).

Just enough of the protocol for the tests of the page; `chromedriver` is Debian's `chromium-driver`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

START_SECONDS = 90.0
CALL_SECONDS = 90.0
WAIT_SECONDS = 60.0
"""How long something on the page may take; only a page that is broken takes so long."""

LOOK_SECONDS = 0.05

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's reference, of the standard (section 12.2)."""

CAPABILITIES = {
    "browserName": "chrome",
    "goog:loggingPrefs": {"browser": "ALL"},
    "goog:chromeOptions": {
        "args": [
            "--headless=new",
            "--window-size=1280,900",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-proxy-server",
            "--force-prefers-reduced-motion",
            # Chromium's sandbox refuses to run as root, which is who tests are in a container.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
    },
}


class DriverError(AssertionError):
    """The browser could not do what it was told."""


@dataclass(frozen=True, slots=True)
class Element:
    """Something on the page."""

    browser: Browser
    reference: str

    async def click(self) -> None:
        await self.browser.call("POST", f"/element/{self.reference}/click", {})

    async def type(self, text: str) -> None:
        """The keys of `text`, as a keyboard would send them."""
        await self.browser.call("POST", f"/element/{self.reference}/value", {"text": text})

    async def clear(self) -> None:
        await self.browser.call("POST", f"/element/{self.reference}/clear", {})

    async def text(self) -> str:
        """What can be seen of it."""
        return str(await self.browser.call("GET", f"/element/{self.reference}/text"))

    async def displayed(self) -> bool:
        return bool(await self.browser.call("GET", f"/element/{self.reference}/displayed"))


class Browser:
    """One session with one window."""

    def __init__(self, client: httpx.AsyncClient, session: str) -> None:
        self._client = client
        self._session = session

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One command of the protocol. Raises DriverError."""
        answer = await self._client.request(method, f"/session/{self._session}{path}", json=body)
        value = answer.json()["value"]
        if answer.status_code != 200:
            raise DriverError(f"{path}: {value['error']}: {value['message']}")
        return value

    async def open(self, url: str) -> None:
        await self.call("POST", "/url", {"url": url})

    async def reload(self) -> None:
        await self.call("POST", "/refresh", {})

    async def address(self) -> str:
        return str(await self.call("GET", "/url"))

    async def title(self) -> str:
        return str(await self.call("GET", "/title"))

    async def run(self, script: str, *arguments: Any) -> Any:
        """The value that a function body returns in the page."""
        return await self.call("POST", "/execute/sync", {"script": script, "args": arguments})

    async def all(self, selector: str) -> list[Element]:
        """The elements of a CSS selector."""
        found = await self.call("POST", "/elements", {"using": "css selector", "value": selector})
        return [Element(self, item[ELEMENT]) for item in found]

    async def one(self, selector: str) -> Element:
        """The first element of a CSS selector, waited for."""

        async def look() -> Element | None:
            return next(iter(await self.all(selector)), None)

        return await self.until(look, f"nothing matches {selector}")

    async def click(self, selector: str) -> None:
        """Click the first element of a CSS selector, waited for; anew when the page puts another
        in its place meanwhile."""

        async def look() -> bool:
            await (await self.one(selector)).click()
            return True

        await self.until(look, f"nothing to click matches {selector}")

    async def until(self, look: Callable[[], Awaitable[T | None]], what: str) -> T:
        """What `look` finds, as soon as it finds something. Raises DriverError with `what`."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with contextlib.suppress(DriverError):  # the page changed under the look
                found = await look()
                if found:
                    return found
            if time.monotonic() > deadline:
                raise DriverError(f"{what}; the page says:\n{await self.text()}")
            await asyncio.sleep(LOOK_SECONDS)

    async def text(self) -> str:
        """All text that can be seen."""
        return str(await self.run("return document.body.innerText"))

    async def says(self, text: str) -> None:
        """Wait until the page shows a text."""

        async def look() -> bool:
            return text in await self.text()

        await self.until(look, f"the page never says {text!r}")

    async def console(self) -> list[str]:
        """What the console has got since the last call."""
        entries = await self.call("POST", "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    async def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        body = {"cmd": command, "params": parameters}
        return await self.call("POST", "/goog/cdp/execute", body)

    async def resize(self, width: int, height: int = 900) -> None:
        """Another size of the page; a window cannot be narrower than 500 pixels, this can."""
        await self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.devtools("Emulation.setEmulatedMedia", features=[feature])

    async def press(self, *keys: str) -> None:
        """Keys, one after the other, to whatever has the focus (section 17.4.2 lists the codes)."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        await self.call("POST", "/actions", {"actions": [source]})

    async def picture(self, path: Path) -> None:
        """A PNG of what can be seen."""
        path.write_bytes(base64.b64decode(await self.call("GET", "/screenshot")))


@contextlib.asynccontextmanager
async def chromedriver(folder: Path) -> AsyncIterator[str]:
    """A driver on a port of its own; yields its address."""
    log = folder / "chromedriver.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(folder)},
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (port := re.search(r"started successfully on port (\d+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            await asyncio.sleep(LOOK_SECONDS)
        yield f"http://127.0.0.1:{port[1]}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def browser(driver: str) -> AsyncIterator[Browser]:
    """A fresh browser with nothing remembered."""
    async with httpx.AsyncClient(base_url=driver, timeout=CALL_SECONDS, trust_env=False) as client:
        capabilities = {"capabilities": {"alwaysMatch": CAPABILITIES}}
        answer = await client.post("/session", json=capabilities, timeout=START_SECONDS)
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        session = Browser(client, value["sessionId"])
        try:
            yield session
        finally:
            await session.call("DELETE", "")
