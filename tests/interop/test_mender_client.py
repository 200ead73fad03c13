"""Debian's `mender-client` 3.4 against the Mender stub: what nobody here wrote says whether it is
true. The client runs in managed mode and takes artifacts of our making with an update module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firmware_images.mender import build_artifact
from tests.interop.images import signed
from tests.interop.mender_device import CLIENT, MenderDevice, powered
from tests.stubs.hawkbit.listener import listening
from tests.stubs.mender import MenderStub

BOARD = "board-a"
FACTORY = b"what came from the factory"
NEW = signed()


@pytest.fixture(scope="module", autouse=True)
def client() -> None:
    if not CLIENT.exists():
        pytest.fail("mender-client is not there; tests/interop/setup.sh unpacks it", pytrace=False)


class Bench:
    def __init__(self, stub: MenderStub, device: MenderDevice, base: str) -> None:
        self.stub = stub
        self.device = device
        self.base = base

    def deploy(self, name: str = "release-2", board: str = BOARD, inside: str = "") -> None:
        """`inside` is how the artifact calls itself, when not by `name`."""
        artifact = build_artifact(
            NEW, name=inside or name, device_types=[board], payload_type="mcuboot"
        )
        self.stub.deploy(self.device.identity, name, artifact, [board], self.base)

    @property
    def statuses(self) -> list[str]:
        """Without repetitions: the client tells where it is in each of its own states."""
        told = self.stub.statuses(self.device.identity)
        return [one for one, before in zip(told, [None, *told], strict=False) if one != before]

    async def known(self) -> None:
        identity = self.device.identity
        await self.device.until(lambda: identity in self.stub.devices, "authentication")

    async def final(self, status: str) -> None:
        await self.device.until(lambda: status in self.statuses, status)

    async def reported(self) -> dict[str, str]:
        """The inventory, told anew."""
        device = self.stub.devices[self.device.identity]
        device.attributes = {}
        await self.device.until(lambda: bool(device.attributes), "the inventory")
        return device.attributes


@asynccontextmanager
async def bench(folder: Path, stub: MenderStub) -> AsyncIterator[Bench]:
    device = MenderDevice(folder, device_type=BOARD, serial="meter-1", running=FACTORY)
    async with listening(stub.app, "127.0.0.1") as port:
        base = f"http://127.0.0.1:{port}"
        async with powered(device, base):
            yield Bench(stub, device, base)
    # Whatever it sent is what the stub allows: it is not stricter than the real thing.
    assert stub.violations == []


async def test_a_whole_deployment(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub()) as on:
        await on.known()
        before = await on.reported()
        assert (before["device_type"], before["artifact_name"]) == (BOARD, "factory")
        on.deploy()
        await on.final("success")
        after = await on.reported()
        assert after["artifact_name"] == "release-2"
        device = on.stub.devices[on.device.identity]
        await on.device.until(
            lambda: device.provides[-1]["artifact_name"] == "release-2", "the next question"
        )
    assert on.statuses == ["downloading", "installing", "success"]
    assert on.device.image == NEW
    assert on.stub.downloads == [""]
    assert [one for one in on.device.states if one.startswith("Artifact")] == [
        "ArtifactInstall",
        "ArtifactCommit",
    ]
    # What our artifact says that it provides is provided from now on.
    assert device.provides[-1]["rootfs-image.mcuboot.version"] == "release-2"


async def test_a_deployment_through_a_reboot(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub()) as on:
        on.device.needs_reboot("Automatic")
        await on.known()
        on.deploy()
        await on.device.until(lambda: "reboot" in on.device.states, "the reboot")
        assert on.statuses == ["downloading", "installing", "rebooting"]
        await on.device.boot()
        await on.final("success")
    # What comes behind the reboot, the commit among it, is "installing" again.
    assert on.statuses == ["downloading", "installing", "rebooting", "installing", "success"]
    assert on.device.image == NEW


async def test_an_image_that_does_not_come_up_is_rolled_back(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub()) as on:
        on.device.needs_reboot("Automatic")
        on.device.flag("bad-boot")
        await on.known()
        on.deploy()
        for reboots in (1, 2):  # into the new one, and back
            await on.device.until(
                lambda reboots=reboots: on.device.states.count("reboot") == reboots, "a reboot"
            )
            await on.device.boot()
        await on.final("failure")
        device = on.stub.devices[on.device.identity]
        await on.device.until(lambda: bool(device.logs), "the log")
        assert (await on.reported())["artifact_name"] == "factory"
    assert on.device.image == FACTORY
    assert on.statuses[-1] == "failure" and "success" not in on.statuses


async def test_a_refused_installation_is_a_failure_with_a_log(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub()) as on:
        on.device.flag("refuse")
        await on.known()
        on.deploy()
        await on.final("failure")
        device = on.stub.devices[on.device.identity]
        await on.device.until(lambda: bool(device.logs), "the log")
    assert on.statuses == ["downloading", "installing", "failure"]
    assert on.device.image == FACTORY
    (log,) = device.logs
    assert any("rollback" in line["message"] for line in log["messages"])


async def test_an_artifact_for_another_board(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub()) as on:
        await on.known()
        on.deploy(board="toaster")
        await on.final("failure")
    assert "ArtifactInstall" not in on.device.states
    assert on.device.image == FACTORY


async def test_an_artifact_under_another_name(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub()) as on:
        await on.known()
        on.deploy("outside", inside="release-2")
        await on.final("failure")
    assert on.statuses == ["downloading", "failure"]
    assert on.device.image == FACTORY


async def test_what_runs_already(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub()) as on:
        await on.known()
        on.deploy("factory")
        await on.final("already-installed")
    assert on.stub.downloads == []


async def test_a_deployment_that_the_server_aborts(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub()) as on:
        await on.known()
        on.deploy()
        (deployment,) = on.stub.deployments[on.device.identity]
        deployment.aborted_at = "installing"
        await on.device.until(lambda: deployment.aborted, "the abort")
        questions = len(on.stub.devices[on.device.identity].provides)
        await on.device.until(
            lambda: len(on.stub.devices[on.device.identity].provides) > questions,
            "the next question",
        )
    # It stops, and rolls back what it has begun.
    assert on.statuses == ["downloading"]
    assert on.device.image == FACTORY


async def test_a_device_that_waits_to_be_accepted(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub(accept_all=False)) as on:
        await on.device.until(lambda: on.stub.auth_requests >= 2, "a second try")
        device = on.stub.devices[on.device.identity]
        assert not device.attributes
        device.accepted = True
        on.deploy()
        await on.final("success")
    assert on.device.image == NEW


@pytest.mark.parametrize("uses", [2, 3])
async def test_tokens_that_run_out(tmp_path: Path, uses: int) -> None:
    async with bench(tmp_path, MenderStub(token_uses=uses)) as on:
        await on.known()
        on.deploy()
        await on.final("success")
        assert on.stub.auth_requests > 2
    assert on.statuses == ["downloading", "installing", "success"]


async def test_a_server_of_the_first_version(tmp_path: Path) -> None:
    async with bench(tmp_path, MenderStub(v2=False)) as on:
        await on.known()
        on.deploy()
        await on.final("success")
    assert on.device.image == NEW
