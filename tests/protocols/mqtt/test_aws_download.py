"""The image by presigned URL, and the signature over the file, on both ways."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent import FaultPlan, State
from agent.errors import UnusableSettings
from agent.flash import CutMode
from protocols.http.memory_transport import MemoryHttp
from protocols.mqtt.aws.document import Way
from protocols.mqtt.aws.options import parse_options
from tests.agent.parts import image, new_image
from tests.protocols.http.http_world import ORIGIN, Reply, Server, ranged
from tests.protocols.mqtt.aws_world import JOB, World, play, updated

URL = f"{ORIGIN}/bucket/fw?X-Amz-Signature=secret"
KEY = ec.derive_private_key(4711, ec.SECP256R1())


@pytest.fixture
def signer(tmp_path: Path) -> str:
    path = tmp_path / "signer.pem"
    path.write_bytes(
        KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return str(path)


def signature(data: bytes) -> str:
    return base64.b64encode(KEY.sign(data, ec.ECDSA(hashes.SHA256()))).decode()


def serve(world: World, image: bytes) -> Server:
    server = Server(world.runtime, ranged(image))
    world.runtime.http = MemoryHttp(world.runtime, {ORIGIN: server})
    return server


def test_a_job_by_url() -> None:
    async def scene(world: World) -> None:
        server = serve(world, new_image())
        device = world.device()
        world.offer(new_image(), update_data_url=URL, auth_scheme="aws.s3.presigned")
        execution = await world.ended("SUCCEEDED")
        assert updated(device)
        assert len(server.asked) == 1
        assert "authorization" not in server.asked[0].headers
        received = [d["receive"] for _, d in execution.history if "receive" in d]
        assert len(received) >= 2
        assert not any("secret" in line for line in world.lines)

    assert play(scene).stub.violations == []


def test_a_url_is_resumed_after_cuts_of_connection_and_power() -> None:
    async def scene(world: World) -> None:
        server = serve(world, new_image())
        server_judge = server.judge
        replies = iter([5000, 7000])

        def judge(asked: object) -> Reply:
            reply = server_judge(asked)  # type: ignore[arg-type]
            reply.sent = next(replies, None)
            return reply

        server.judge = judge
        faults = FaultPlan(cut_power_at=20, cut_mode=CutMode.BEFORE)
        device = world.device(faults=faults)
        world.offer(new_image(), update_data_url=URL)
        await world.ended("SUCCEEDED")
        assert updated(device)
        assert device.boots == 3
        assert any("range" in asked.headers for asked in server.asked)

    play(scene)


def test_a_url_that_is_gone() -> None:
    async def scene(world: World) -> None:
        serve(world, new_image()).judge = lambda asked: Reply(403)
        world.device()
        world.offer(new_image(), update_data_url=URL)
        execution = await world.ended("FAILED")
        assert execution.details["reason"] == "bad URI"

    play(scene)


def test_a_job_is_cancelled_in_the_middle_of_a_url() -> None:
    async def scene(world: World) -> None:
        server = serve(world, new_image())
        world.runtime.http.bandwidth = 2000.0  # type: ignore[union-attr]
        device = world.device()
        world.offer(new_image(), update_data_url=URL)
        await world.until(lambda: device.engine.offset > 2000)
        world.stub.cancel(JOB, "thing-1")
        await world.until(lambda: device.engine.state is State.IDLE)
        await world.runtime.clock.sleep(60.0)
        assert len(server.asked) == 1
        assert device.boots == 1

    play(scene)


@pytest.mark.parametrize("way", ["mqtt", "http"])
@pytest.mark.parametrize(
    ("signed", "status"), [("right", "SUCCEEDED"), ("wrong", "FAILED"), ("none", "FAILED")]
)
def test_the_signature_over_the_file(way: str, signed: str, status: str, signer: str) -> None:
    async def scene(world: World) -> None:
        serve(world, new_image())
        members = {"update_data_url": URL} if way == "http" else {}
        if signed != "none":
            data = new_image() if signed == "right" else b"something else"
            members["sig-sha256-ecdsa"] = signature(data)
        device = world.device(signer=signer)
        world.offer(new_image(), **members)
        execution = await world.ended(status)
        assert updated(device) == (signed == "right")
        if signed != "right":
            assert execution.details["reason"] == "signature"

    assert play(scene).stub.violations == []


def test_the_signature_is_checked_over_what_was_there_before_a_power_cut(signer: str) -> None:
    async def scene(world: World) -> None:
        # Above a checkpoint, or there is nothing to resume.
        big = image(2, 80_000, 2)
        device = world.device(signer=signer, slot_size=128 * 1024)
        world.offer(big, **{"sig-sha256-ecdsa": signature(big)})
        await world.until(lambda: device.engine.offset > 70_000)
        before = len(world.stub.requests)
        device.cut_power(back_after=5.0)
        await world.ended("SUCCEEDED")
        assert updated(device)
        assert device.boots == 3
        gets = [rest for _, rest in world.stub.requests[before:] if "/get/cbor" in rest]
        assert len(gets) < 3, "the first 64 KiB were not asked for again"

    play(scene)


def test_without_a_signer_there_is_nothing_to_check() -> None:
    async def scene(world: World) -> None:
        device = world.device()
        world.offer(new_image(), **{"sig-sha256-ecdsa": signature(b"something else")})
        await world.ended("SUCCEEDED")
        assert updated(device)

    play(scene)


def test_bad_settings_are_named(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")

    async def scene(world: World) -> None:
        for options, named in (
            ({"signer": str(tmp_path / "absent.pem")}, "absent.pem"),
            ({"signer": str(nonsense)}, "nonsense.pem"),
            ({"block": "255"}, "block"),
            ({"window": "many"}, "window"),
            ({"encoding": "xml"}, "encoding"),
            ({"download": "ftp"}, "download"),
            ({"colour": "red"}, "colour"),
        ):
            with pytest.raises(UnusableSettings, match=named):
                world.device(**options)
            world.devices.pop()
        with pytest.raises(UnusableSettings, match="thing name"):
            world.device("no thing")
        world.devices.pop()

    play(scene)


def test_options_are_read() -> None:
    options = parse_options({"download": "http", "step-timeout": "0", "encoding": "json"})
    assert options.download is Way.URL
    assert options.step_timeout is None
    assert options.encoding == "json"
    assert parse_options({}).block == 4096
