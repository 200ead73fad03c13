"""Debian's SWUpdate against the hawkBit stub: a real DDI client says whether the stub is true.

suricatta, SWUpdate's daemon, polls, sends its attributes, downloads our signed `.swu`, verifies and
installs it with the rawfile handler into a temporary folder, and is started again (there is no
bootloader that could keep its state) with `-c 2`: the new software runs. Nothing outside the
folder is written: its sockets and temporary files go there too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_images import as_source
from firmware_images.keys import KeyType, SigningKey, TrustedKeys, generate_key
from firmware_images.mcuboot import verify_image
from firmware_images.swu import Hardware, build_swu, self_signed
from tests.interop.images import KEY, signed
from tests.stubs.hawkbit import HawkbitStub
from tests.stubs.hawkbit.model import Action, ActionStatus, UpdateStatus

BOARD = Hardware("default-board", "1.0")
DEVICE, TOKEN = "suricatta", "a-token-of-its-own"
PATIENCE = 120.0
"""Seconds until what was waited for must have happened; it takes two or three."""

GRACE = 10.0
"""Seconds that SWUpdate has to end before it is killed."""

CONFIG = """
globals : { verbose = false; };
identify : ( { name = "hw_revision"; value = "1.0"; } );
"""

RESTARTED_WELL = ("-c", "2")
"""How SWUpdate is told at its start that what it installed last works."""


class Bench:
    def __init__(self, stub: HawkbitStub, management: httpx.AsyncClient, folder: Path) -> None:
        self.stub = stub
        self.management = management
        self.folder = folder
        self.slot = folder / "slot.bin"
        self.key = generate_key(KeyType.ECDSA_P256)
        self.log = b""
        self.reading: asyncio.Task[bytes]

    async def call(self, method: str, path: str, **more: Any) -> Any:
        answer = await self.management.request(method, "/rest/v1" + path, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def prepare(self) -> None:
        self.stub.state.settings.min_polling_time = 1
        for key, value in (
            ("pollingTime", "00:00:01"),
            ("authentication.targettoken.enabled", True),
        ):
            await self.call("PUT", f"/system/configs/{key}", json={"value": value})
        target = {"controllerId": DEVICE, "securityToken": TOKEN}
        await self.call("POST", "/targets", json=[target])

    async def assign(self, image: bytes, signer: SigningKey) -> Action:
        """Publishes a `.swu` and assigns it; the action."""
        package = build_swu(
            image, version="2.0.0", hardware=[BOARD], path=str(self.slot), key=signer
        )
        part = {"name": "firmware", "version": "2.0.0", "type": "os"}
        module = (await self.call("POST", "/softwaremodules", json=[part]))[0]["id"]
        files = {"file": ("firmware.swu", package)}
        await self.call("POST", f"/softwaremodules/{module}/artifacts", files=files)
        body = part | {"modules": [{"id": module}]}
        ds = (await self.call("POST", "/distributionsets", json=[body]))[0]["id"]
        wanted = [{"id": DEVICE, "type": "forced"}]
        assigned = await self.call("POST", f"/distributionsets/{ds}/assignedTargets", json=wanted)
        return self.stub.state.action(assigned["assignedActions"][0]["id"])

    @asynccontextmanager
    async def swupdate(self, *options: str) -> AsyncIterator[None]:
        """SWUpdate runs while the block does."""
        certificate, config = self.folder / "signer.pem", self.folder / "swupdate.cfg"
        certificate.write_bytes(self_signed(self.key).public_bytes(Encoding.PEM))
        config.write_text(CONFIG)
        daemon = ("-t", "DEFAULT", "-u", self.stub.url, "-i", DEVICE, "-k", TOKEN, "-p", "1")
        process = await asyncio.create_subprocess_exec(
            *("swupdate", "-l", "3", "-f", str(config), "-k", str(certificate), "-H", str(BOARD)),
            *("-u", " ".join((*daemon, *options))),
            cwd=self.folder,
            env=os.environ | {"TMPDIR": str(self.folder), "RUNTIME_DIRECTORY": str(self.folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        self.reading = asyncio.create_task(process.stdout.read())
        try:
            yield
        finally:
            # The session is its own: what it started ends with it. Waiting for the end of its
            # output waits for all of them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            await asyncio.wait({self.reading}, timeout=GRACE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            self.log += await self.reading

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Raises AssertionError when it does not come, or SWUpdate ends before."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    assert not self.reading.done(), f"SWUpdate ended: {self.reading.result()!r}"
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"never: {what}; requests: {self.stub.requests[-20:]}")

    def posted(self, resource: str) -> int:
        return sum(
            seen.method == "POST" and f"/{resource}/" in seen.path and seen.status == 200
            for seen in self.stub.requests
        )

    def told(self, action: Action, words: str) -> bool:
        return any(words in message for entry in action.history for message in entry.messages)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with (
        HawkbitStub.serve() as stub,
        httpx.AsyncClient(
            base_url=stub.url, auth=(stub.user, stub.password), timeout=PATIENCE
        ) as management,
    ):
        bench = Bench(stub, management, tmp_path)
        await bench.prepare()
        yield bench


async def test_a_deployment_from_the_poll_to_the_restart(bench: Bench) -> None:
    image = signed()
    action = await bench.assign(image, bench.key)
    target = bench.stub.state.target(DEVICE)
    async with bench.swupdate():
        await bench.until("installed", lambda: bench.told(action, "All Chunks Installed"))
        await bench.until("attributes", lambda: "hw_revision" in target.attributes)
    assert bench.slot.read_bytes() == image
    verify_image(as_source(bench.slot.read_bytes()), TrustedKeys.of([KEY]), capacity=1 << 20)
    assert (action.active, target.update_status) == (True, UpdateStatus.PENDING)

    async with bench.swupdate(*RESTARTED_WELL):
        await bench.until("closed", lambda: not action.active)
        polls = len(bench.stub.requests)
        await bench.until("a poll after it", lambda: len(bench.stub.requests) > polls + 1)
    assert action.status is ActionStatus.FINISHED
    assert (target.installed, target.update_status) == (
        action.distribution_set,
        UpdateStatus.IN_SYNC,
    )
    assert [entry.status for entry in action.history][-1] is ActionStatus.FINISHED
    assert {seen.status for seen in bench.stub.requests if "/controller/" in seen.path} == {200}


async def test_a_package_of_another_signer_fails(bench: Bench) -> None:
    action = await bench.assign(signed(), generate_key(KeyType.ECDSA_P256))
    async with bench.swupdate():
        await bench.until("closed", lambda: not action.active)
    assert action.status is ActionStatus.ERROR
    assert bench.stub.state.target(DEVICE).update_status is UpdateStatus.ERROR
    assert not bench.slot.exists()


async def test_a_cancel_is_accepted(bench: Bench) -> None:
    action = await bench.assign(signed(), bench.key)
    await bench.call("DELETE", f"/targets/{DEVICE}/actions/{action.id}")
    async with bench.swupdate():
        await bench.until("cancelled", lambda: not action.active)
    assert action.status is ActionStatus.CANCELED
    assert bench.posted("cancelAction") == 1
    assert not bench.slot.exists()
