"""Object 5 by push: a real device, packages by every wrapping and block size."""

from __future__ import annotations

import base64
import struct

import cbor2
import pytest

from agent import FaultPlan, State
from agent.runtime.metrics import Histogram
from firmware_images.mcuboot import Version, build_image
from protocols.coap.message import Message
from protocols.coap.numbers import Code
from protocols.coap.options import Block, make_options
from protocols.lwm2m import codecs
from tests.agent.parts import image, key, new_image
from tests.protocols.lwm2m.client_world import World, block_of, virtual, world

CHANGED, CONTINUE, BAD = Code.CHANGED, Code.CONTINUE, Code.BAD_REQUEST
INCOMPLETE = Code.REQUEST_ENTITY_INCOMPLETE

SMALL = build_image(
    bytes(range(200)), version=Version(2, 0, 0, 0), key=key(0), security_counter=2, header_size=32
)


def tlv(data: bytes) -> bytes:
    if len(data) < 8:
        return bytes((0xC0 | len(data), 0)) + data
    return b"\xd8\x00" + len(data).to_bytes(3, "big") + data


WRAPPINGS = {
    codecs.OPAQUE: bytes,
    codecs.TLV: tlv,
    codecs.TEXT: base64.b64encode,
    codecs.CBOR: cbor2.dumps,
}


async def install(built: World, version: str = "2.0.0") -> None:
    """Execute, the reboot, and the confirmation."""
    device = built.device
    built.wire.clear()
    assert (await built.send(Code.POST, "/5/0/2")).code == CHANGED
    assert device.engine.state is State.INSTALLING
    assert await built.value("/5/0/3") == 3
    await built.until(lambda: device.engine.state is State.IDLE and built.registered)
    assert await built.shown() == (0, 1)
    running = device.running
    assert running is not None and str(running.version) == version
    assert await built.value("/3/0/3") == version


@pytest.mark.parametrize("content_format", WRAPPINGS)
@pytest.mark.parametrize("szx", range(7))
def test_push_by_blocks(content_format: int, szx: int) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            package = SMALL if szx < 5 else new_image()
            body = WRAPPINGS[content_format](package)
            answer = await built.push(body, szx, content_format=content_format)
            assert answer.code == CHANGED
            assert answer.options.block1 is not None
            assert await built.shown() == (2, 0)
            assert await built.value("/5/0/7") == "2.0.0"
            await install(built)

    run()


@pytest.mark.parametrize("content_format", WRAPPINGS)
@virtual
async def test_push_in_one_message(content_format: int) -> None:
    async with world() as built:
        body = WRAPPINGS[content_format](SMALL)
        answer = await built.send(Code.PUT, "/5/0/0", body, content_format=content_format)
        assert (answer.code, answer.options.block1) == (CHANGED, None)
        assert await built.shown() == (2, 0)
        await install(built)


@virtual
async def test_push_as_a_write_of_the_instance() -> None:
    async with world() as built:
        body = codecs.tlv.encode((5, 0), [codecs_record(SMALL)], lambda path: None)
        answer = await built.send(Code.POST, "/5/0", body, content_format=codecs.TLV)
        assert answer.code == CHANGED
        assert await built.shown() == (2, 0)


def codecs_record(data: bytes) -> codecs.tlv.Record:
    return codecs.tlv.Record((5, 0, 0), data)


@virtual
async def test_without_a_content_format_the_body_is_the_package() -> None:
    async with world() as built:
        assert (await built.send(Code.PUT, "/5/0/0", SMALL)).code == CHANGED
        assert await built.shown() == (2, 0)


@virtual
async def test_a_content_format_that_carries_no_package_changes_nothing() -> None:
    async with world() as built:
        for content_format in (codecs.SENML_JSON, codecs.SENML_CBOR, codecs.JSON_OLD, 40, 999):
            answer = await built.send(Code.PUT, "/5/0/0", SMALL, content_format=content_format)
            assert answer.code == Code.UNSUPPORTED_CONTENT_FORMAT
            short = await built.send(Code.PUT, "/5/0/0", b"\0", content_format=content_format)
            assert short.code == Code.UNSUPPORTED_CONTENT_FORMAT
        assert await built.shown() == (0, 0)


@virtual
async def test_a_wrong_content_format_in_mid_push_still_lets_it_stall() -> None:
    async with world() as built:
        assert (await built.block(new_image(), 0, 6)).code == CONTINUE
        answer = await built.block(new_image(), 0, 6, content_format=codecs.SENML_CBOR)
        assert answer.code == Code.UNSUPPORTED_CONTENT_FORMAT
        assert await built.shown() == (1, 0)
        await built.sleep(260)
        assert await built.shown() == (0, 4)


@pytest.mark.parametrize(
    ("content_format", "body"),
    [
        (codecs.TLV, tlv(SMALL)[:-1]),
        (codecs.TLV, tlv(SMALL) + b"x"),
        (codecs.TLV, b"\xd8\x01\x00\x00\x10" + bytes(16)),
        (codecs.TLV, b"\xd8"),
        (codecs.TEXT, b"!!!!" * 10),
        (codecs.TEXT, base64.b64encode(SMALL)[:-2]),
        (codecs.CBOR, cbor2.dumps(SMALL) + b"x"),
        (codecs.CBOR, cbor2.dumps(SMALL)[:-1]),
        (codecs.CBOR, cbor2.dumps("text" * 10)),
        (codecs.CBOR, b"\x5f\x41\x00\xff"),
    ],
)
@pytest.mark.parametrize("szx", [None, 0])
def test_a_broken_wrapping_is_an_unsupported_package(
    content_format: int, body: bytes, szx: int | None
) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            if szx is None:
                answer = await built.send(Code.PUT, "/5/0/0", body, content_format=content_format)
            else:
                answer = await built.push(body, szx, content_format=content_format)
            assert answer.code == BAD
            assert await built.shown() == (0, 6)
            assert (await built.push(new_image())).code == CHANGED

    run()


@virtual
async def test_block_0_again_starts_again() -> None:
    async with world() as built:
        package = new_image()
        for number in range(5):
            assert (await built.block(package, number, 6)).code == CONTINUE
        answer = await built.block(package, 0, 5)
        assert (answer.code, block_of(answer.options)) == (CONTINUE, (0, True, 5))
        assert built.device.engine.offset == 512
        assert await built.shown() == (1, 0)
        assert (await built.push(package, 5)).code == CHANGED
        assert await built.shown() == (2, 0)


@virtual
async def test_the_same_block_under_a_new_id_is_taken_once() -> None:
    async with world() as built:
        package = new_image()
        last = (len(package) - 1) // 1024
        for number in range(last + 1):
            assert (await built.block(package, number, 6)).code == (
                CONTINUE if number < last else CHANGED
            )
            if 0 < number < last:
                assert (await built.block(package, number, 6)).code == CONTINUE
                assert built.device.engine.offset == (number + 1) * 1024
        assert await built.shown() == (2, 0)


@virtual
async def test_a_gap_is_incomplete_and_the_push_goes_on() -> None:
    async with world() as built:
        package = new_image()
        assert (await built.block(package, 3, 6)).code == INCOMPLETE
        assert await built.shown() == (0, 0)
        assert (await built.block(package, 0, 6)).code == CONTINUE
        assert (await built.block(package, 2, 6)).code == INCOMPLETE
        for number in range(1, (len(package) - 1) // 1024 + 1):
            last = await built.block(package, number, 6)
        assert last.code == CHANGED
        assert await built.shown() == (2, 0)


@virtual
async def test_a_smaller_block_size_in_mid_push() -> None:
    async with world() as built:
        package = new_image()
        assert (await built.block(package, 0, 6)).code == CONTINUE
        for number in range(4, (len(package) - 1) // 256 + 1):
            last = await built.block(package, number, 4)
        assert last.code == CHANGED
        assert await built.shown() == (2, 0)


@virtual
async def test_a_block_of_the_wrong_length_is_a_bad_request() -> None:
    async with world() as built:
        options = {"content_format": codecs.OPAQUE, "block1": Block(0, True, 6)}
        assert (await built.send(Code.PUT, "/5/0/0", b"x" * 100, **options)).code == BAD
        assert await built.shown() == (0, 0)


@pytest.mark.parametrize("state", ["downloading", "downloaded"])
@pytest.mark.parametrize(
    ("path", "content_format", "body"),
    [
        ("/5/0/0", None, b"\0"),
        ("/5/0/0", codecs.OPAQUE, b"\0"),
        ("/5/0/0", codecs.OPAQUE, b""),
        ("/5/0/0", codecs.TLV, b"\xc1\x00\x00"),
        ("/5/0/0", codecs.TLV, b"\xc0\x00"),
        ("/5/0/0", codecs.TLV, b""),
        ("/5/0/0", codecs.TEXT, b"AA=="),
        ("/5/0/0", codecs.CBOR, b"\x41\x00"),
        ("/5/0/1", codecs.TEXT, b""),
        ("/5/0/1", codecs.TLV, b"\xc0\x01"),
        ("/5/0", codecs.TLV, b"\xc1\x00\x00"),
    ],
)
def test_resets(state: str, path: str, content_format: int | None, body: bytes) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            if state == "downloading":
                assert (await built.block(new_image(), 0, 6)).code == CONTINUE
            else:
                assert (await built.push(new_image())).code == CHANGED
            code = Code.POST if path == "/5/0" else Code.PUT
            answer = await built.send(code, path, body, content_format=content_format)
            assert answer.code == CHANGED
            assert await built.shown() == (0, 0)
            assert (await built.send(Code.POST, "/5/0/2")).code == Code.METHOD_NOT_ALLOWED
            # The block that was next belongs to nothing any more.
            assert (await built.block(new_image(), 1, 6)).code == INCOMPLETE
            await built.sleep(300)
            assert await built.shown() == (0, 0)
            assert (await built.push(new_image())).code == CHANGED
            await install(built)

    run()


@virtual
async def test_a_push_that_stalls_is_a_lost_connection() -> None:
    async with world() as built:
        package = new_image()
        for number in range(3):
            await built.block(package, number, 6)
            await built.sleep(200)  # each block buys another 247 seconds
        assert await built.shown() == (1, 0)
        began = built.now
        await built.until(lambda: built.device.engine.state is State.IDLE)
        assert 40 < built.now - began < 50
        assert await built.shown() == (0, 4)
        assert (await built.block(package, 3, 6)).code == INCOMPLETE
        assert (await built.push(package)).code == CHANGED
        assert await built.shown() == (2, 0)
        await built.sleep(1000)
        assert await built.shown() == (2, 0)


@virtual
async def test_a_package_that_says_it_is_too_large() -> None:
    async with world() as built:
        capacity = built.device.engine.capacity
        answer = await built.block(bytes(capacity + 2000), 0, 6, size1=capacity + 1)
        assert answer.code == Code.REQUEST_ENTITY_TOO_LARGE
        assert answer.options.size1 == capacity
        assert await built.shown() == (0, 2)
        assert (await built.block(bytes(capacity), 0, 6, size1=capacity)).code == CONTINUE


@pytest.mark.parametrize("content_format", WRAPPINGS)
@virtual
async def test_a_package_that_turns_out_too_large(content_format: int) -> None:
    async with world() as built:
        body = WRAPPINGS[content_format](bytes(built.device.engine.capacity + 1))
        number = 0
        while (
            answer := await built.block(body, number, 6, content_format=content_format)
        ).code == (CONTINUE):
            number += 1
        assert answer.code == Code.REQUEST_ENTITY_TOO_LARGE
        assert answer.options.size1 == built.device.engine.capacity
        assert await built.shown() == (0, 2)
        await built.alive()


def _damaged(package: bytes, at: int) -> bytes:
    return package[:at] + bytes((package[at] ^ 1,)) + package[at + 1 :]


WRONG = {
    "no image": (b"no image at all" * 100, 6),
    "empty flash": (b"\xff" * 5000, 6),
    "only a header": (struct.pack("<I", 0x96F3B83D) + bytes(60), 6),
    "cut short": (new_image()[:-100], 6),
    "cut in the payload": (new_image()[:1000], 6),
    "a payload bit": (_damaged(new_image(), 4000), 5),
    "a signature bit": (_damaged(new_image(), len(new_image()) - 1), 5),
    "foreign key": (
        build_image(b"x" * 3000, version=Version(2, 0, 0, 0), key=key(1), security_counter=2),
        5,
    ),
    "unsigned": (build_image(b"x" * 3000, version=Version(2, 0, 0, 0), security_counter=2), 5),
    "downgrade": (image(3, 3000, 0), 5),
}


@pytest.mark.parametrize(("package", "result"), WRONG.values(), ids=WRONG)
def test_a_wrong_image_ends_at_its_result(package: bytes, result: int) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            answer = await built.push(package)
            assert answer.code == CHANGED
            shown = await built.shown()
            assert shown[0] == 0
            assert shown[1] == result
            assert (await built.send(Code.POST, "/5/0/2")).code == Code.METHOD_NOT_ALLOWED
            built.device.reboot("test")
            await built.registration()
            assert await built.shown() == shown
            assert (await built.push(new_image())).code == CHANGED
            await install(built)

    run()


@virtual
async def test_execute_only_when_downloaded() -> None:
    async with world() as built:
        refused = Code.METHOD_NOT_ALLOWED
        assert (await built.send(Code.POST, "/5/0/2")).code == refused
        await built.block(new_image(), 0, 6)
        assert (await built.send(Code.POST, "/5/0/2")).code == refused
        assert await built.shown() == (1, 0)
        await built.push(new_image())
        assert (await built.send(Code.POST, "/5/0/2")).code == CHANGED
        # Installing: nothing can be taken back, and there is no second install.
        assert (await built.send(Code.POST, "/5/0/2")).code == refused
        assert (await built.send(Code.PUT, "/5/0/0", b"\0")).code == refused
        assert (await built.text("/5/0/1", "")).code == refused
        assert (await built.block(new_image(), 0, 6)).code == refused
        await built.until(lambda: built.device.boots == 2 and built.registered)
        assert await built.shown() == (0, 1)


@virtual
async def test_in_downloaded_another_package_is_refused_until_a_reset() -> None:
    async with world() as built:
        await built.push(new_image())
        assert (await built.block(new_image(), 0, 6)).code == BAD
        assert (await built.send(Code.PUT, "/5/0/0", SMALL)).code == BAD
        assert (await built.text("/5/0/1", "coap://10.0.0.1/fw")).code == BAD
        assert await built.shown() == (2, 0)


@virtual
async def test_the_answer_to_execute_leaves_before_the_reboot() -> None:
    async with world() as built:
        await built.push(new_image())
        asked = built.now
        assert (await built.send(Code.POST, "/5/0/2")).code == CHANGED
        assert built.device.boots == 1 and built.now - asked < 0.1
        await built.until(lambda: built.device.client is None)
        answered = [at for at, way, *_, message in built.wire if way == ">" and message.code == 68]
        assert answered and answered[-1] < built.now
        await built.until(lambda: built.registered)


@virtual
async def test_a_lost_answer_to_execute_does_not_execute_twice() -> None:
    async with world() as built:
        await built.push(new_image())
        assert built.peer is not None
        network = built.runtime.network
        network.loss = 1.0  # type: ignore[attr-defined]
        answers: list[object] = []
        message = Message(Code.POST, b"", make_options(path=(5, 0, 2)))
        built.server.request(built.peer, message, answers.append)
        await built.sleep(0.5)
        network.loss = 0.0  # type: ignore[attr-defined]
        await built.until(lambda: bool(answers))
        assert isinstance(answers[0], Message) and answers[0].code == CHANGED
        await built.until(lambda: built.registered and built.device.boots == 2)
        assert await built.shown() == (0, 1)


@virtual
async def test_a_bad_trial_boot_reverts_and_keeps_the_image() -> None:
    async with world(faults=FaultPlan(bad_boots=1)) as built:
        await built.push(new_image())
        await built.send(Code.POST, "/5/0/2")
        await built.until(lambda: not built.registered)
        await built.registration()
        assert await built.shown() == (2, 8)
        assert await built.value("/3/0/3") == "1.0.0"
        built.device.reboot("test")
        await built.registration()
        assert await built.shown() == (2, 8)
        assert built.told[-1][1] == "failed"
        # The image is there: Execute again, and this time it boots.
        await install(built)


@virtual
async def test_a_new_image_that_never_reaches_its_server_is_reverted() -> None:
    async with world() as built:
        await built.push(new_image())
        await built.send(Code.POST, "/5/0/2")
        built.register = lambda request: None
        await built.until(lambda: built.device.engine.state is State.DOWNLOADED, 1200)
        built.register = built._accept
        await built.registration()
        assert await built.shown() == (2, 8)
        assert await built.value("/3/0/3") == "1.0.0"


@virtual
async def test_a_download_by_push_is_lost_by_a_reboot_and_the_rest_is_kept() -> None:
    async with world() as built:
        await built.block(new_image(), 0, 6)
        built.device.cut_power(back_after=1)
        await built.registration()
        assert await built.shown() == (0, 4)
        await built.push(new_image())
        built.device.cut_power(back_after=1)
        await built.registration()
        assert await built.shown() == (2, 0)
        await install(built)
        built.device.cut_power(back_after=1)
        await built.registration()
        assert await built.shown() == (0, 1)


@virtual
async def test_blocks_are_timed_between_the_answer_and_the_next_one() -> None:
    async with world() as built:
        metrics = built.runtime.metrics
        assert isinstance(metrics.block, Histogram)
        await built.block(new_image(), 4, 6)
        assert metrics.block.count == 0
        await built.push(new_image())
        assert metrics.block.count == (len(new_image()) - 1) // 1024


@virtual
async def test_what_the_server_was_told() -> None:
    async with world() as built:
        await built.push(_damaged(new_image(), 4000))
        assert not built.told
        await built.value("/5/0/3")
        assert not built.told  # state 0 alone does not tell success from failure
        await built.value("/5/0/5")
        assert built.told == [("dev-1", "failed", "state 0, result 5", None)]
        await built.push(new_image())
        await install(built)
        verdicts = [told[1] for told in built.told]
        assert verdicts[-1] == "updated" and "unfinished" in verdicts
        assert ("dev-1", "updated", "version 2.0.0", "2.0.0") in built.told
