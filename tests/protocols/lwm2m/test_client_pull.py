"""Object 5 by pull: the device fetches its package, resumes it after a reboot, or says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent import State
from protocols.coap.message import Message, response
from protocols.coap.numbers import Code
from protocols.coap.options import Block, Options, make_options
from protocols.lwm2m import codecs
from tests.agent.parts import image, new_image
from tests.protocols.lwm2m.client_world import World, virtual, world

GET, POST, CHANGED = Code.GET, Code.POST, Code.CHANGED
URI = "coap://10.0.0.1:5683/fw/app.bin"
SLOT = 256 * 1024


def large(major: int = 2, size: int = 150_000) -> bytes:
    return image(major, size, 2)


async def pull(built: World, uri: str = URI) -> None:
    assert (await built.text("/5/0/1", uri)).code == CHANGED


async def fetched(built: World, uri: str = URI) -> None:
    """A pull that ends one way or the other."""
    await pull(built, uri)
    await built.until(lambda: built.device.engine.state is not State.DOWNLOADING)


def blocks(package: Callable[[], bytes], etag: Callable[[], bytes], szx: int = 6):  # type: ignore[no-untyped-def]
    """A file served by Block2, without Size2, so that a test can change it between two blocks."""

    def reply(request: Message) -> Message:
        asked = request.options.block2 or Block(0, False, szx)
        szx_sent = min(asked.szx, szx)
        offset = asked.offset
        size = 16 << szx_sent
        body = package()
        if offset >= len(body):
            return response(Code.BAD_REQUEST)
        block = Block(offset >> (szx_sent + 4), offset + size < len(body), szx_sent)
        return Message(
            Code.CONTENT, b"", make_options(block2=block, etag=etag()), body[offset : offset + size]
        )

    return reply


@pytest.mark.parametrize("szx", range(7))
def test_pull_at_every_block_size(szx: int) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            package = new_image()
            built.files["fw/app.bin"] = blocks(lambda: package, lambda: b"v", szx)
            await pull(built)
            assert await built.shown() == (1, 0)
            assert await built.value("/5/0/1") == URI
            await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
            assert await built.shown() == (2, 0)
            assert len(built.asked(GET, "fw")) == -(-len(package) // (16 << szx))
            assert (await built.send(POST, "/5/0/2")).code == CHANGED
            await built.until(lambda: built.device.engine.state is State.IDLE and built.registered)
            assert await built.shown() == (0, 1)

    run()


@virtual
async def test_the_answer_to_the_write_leaves_before_the_first_request() -> None:
    async with world() as built:
        built.files["fw/app.bin"] = new_image()
        built.wire.clear()
        await fetched(built)
        out = [message for _, way, *_, message in built.wire if way == ">"]
        assert out[0].code == CHANGED and out[1].code == GET


@virtual
async def test_path_and_query_of_the_uri_become_options() -> None:
    async with world() as built:
        built.files["a b/c"] = new_image()
        await fetched(built, "coap://10.0.0.1/a%20b/c?x=1&y=%26")
        assert built.asked(GET)[0].options.queries == ("x=1", "y=&")
        assert await built.shown() == (2, 0)


@virtual
async def test_a_uri_by_other_formats() -> None:
    async with world() as built:
        built.files["fw/app.bin"] = new_image()
        for content_format in (codecs.TLV, codecs.SENML_CBOR, codecs.CBOR):
            answer = await built.write("/5/0/1", [("/5/0/1", URI)], content_format)
            assert answer.code == CHANGED
            await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
            assert (await built.text("/5/0/1", "")).code == CHANGED
        answer = await built.write("/5/0", [("/5/0/1", URI)], codecs.TLV, partial=True)
        assert answer.code == CHANGED
        assert await built.shown() == (1, 0)


@virtual
async def test_a_reboot_in_mid_download_resumes_with_what_is_missing() -> None:
    async with world(slot_size=SLOT) as built:
        package = large()
        built.files["fw/app.bin"] = package
        await pull(built)
        await built.until(lambda: built.device.engine.offset > 100_000)
        before = len(built.asked(GET, "fw"))
        built.device.reboot("test")
        await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
        after = built.asked(GET, "fw")[before:]
        first = after[0].options.block2
        assert first is not None and first.offset == 64 * 1024
        assert len(after) == -(-(len(package) - 64 * 1024) // 1024)
        assert len(after) < len(package) // 1024
        await built.registration()
        assert await built.shown() == (2, 0)


@virtual
async def test_another_package_after_the_reboot_is_fetched_from_its_first_byte() -> None:
    async with world(slot_size=SLOT) as built:
        files = {"now": large(2), "etag": b"v2"}
        built.files["fw/app.bin"] = blocks(lambda: files["now"], lambda: files["etag"])
        await pull(built)
        await built.until(lambda: built.device.engine.offset > 100_000)
        built.device.reboot("test")
        files.update(now=large(3), etag=b"v3")
        await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
        assert built.device.engine.package_version == "3.0.0"
        assert built.device.engine.offset == len(files["now"])


@virtual
async def test_the_etag_changes_in_mid_download() -> None:
    async with world(slot_size=SLOT) as built:
        files = {"now": large(2), "etag": b"v2"}
        built.files["fw/app.bin"] = blocks(lambda: files["now"], lambda: files["etag"])
        await pull(built)
        await built.until(lambda: built.device.engine.offset > 50_000)
        files.update(now=large(3, 90_000), etag=b"v3")
        await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
        assert built.device.engine.package_version == "3.0.0"
        assert built.device.engine.offset == len(files["now"])


@virtual
async def test_a_shorter_package_after_the_reboot() -> None:
    async with world(slot_size=SLOT) as built:
        files = {"now": large(2), "etag": b"v2"}
        built.files["fw/app.bin"] = blocks(lambda: files["now"], lambda: files["etag"])
        await pull(built)
        await built.until(lambda: built.device.engine.offset > 100_000)
        built.device.reboot("test")
        files.update(now=new_image(), etag=b"v3")
        await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
        assert built.device.engine.offset == len(new_image())


@virtual
async def test_a_uri_that_is_gone_after_the_reboot() -> None:
    async with world(slot_size=SLOT) as built:
        built.files["fw/app.bin"] = large(2)
        await pull(built)
        await built.until(lambda: built.device.engine.offset > 100_000)
        built.device.reboot("test")
        del built.files["fw/app.bin"]
        await built.until(lambda: built.device.engine.state is State.IDLE)
        await built.registration()
        assert await built.shown() == (0, 7)


@virtual
async def test_power_goes_again_and_again() -> None:
    async with world(slot_size=SLOT) as built:
        built.files["fw/app.bin"] = large()
        await pull(built)
        for _ in range(5):
            await built.sleep(1.5)
            built.device.cut_power(back_after=0.5)
            await built.registration()
        await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
        assert await built.shown() == (2, 0)


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (Code.NOT_FOUND, 7),
        (Code.FORBIDDEN, 7),
        (Code.INTERNAL_SERVER_ERROR, 4),
        (Code.SERVICE_UNAVAILABLE, 4),
    ],
)
def test_a_refused_download_ends_at_its_result(code: Code, result: int) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            built.files["fw/app.bin"] = lambda request: response(code)
            await fetched(built)
            assert await built.shown() == (0, result)
            assert (await built.push(new_image())).code == CHANGED

    run()


@virtual
async def test_nobody_there() -> None:
    async with world() as built:
        began = built.now
        await pull(built, "coap://10.9.9.9/fw")
        await built.until(lambda: built.device.engine.state is State.IDLE)
        assert built.now - began > 45
        assert await built.shown() == (0, 4)


@virtual
async def test_a_server_that_falls_silent() -> None:
    async with world(slot_size=SLOT) as built:
        built.files["fw/app.bin"] = large()
        await pull(built)
        await built.until(lambda: built.device.engine.offset > 10_000)
        built.runtime.network.loss = 1.0  # type: ignore[attr-defined]
        await built.until(lambda: built.device.engine.state is State.IDLE)
        built.runtime.network.loss = 0.0  # type: ignore[attr-defined]
        await built.registration()
        assert await built.shown() == (0, 4)


@pytest.mark.parametrize("uri", ["http://10.0.0.1/fw", "coaps://10.0.0.1/fw", "ftp://x/y"])
def test_a_scheme_that_is_not_spoken(uri: str) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            assert (await built.text("/5/0/1", uri)).code == Code.BAD_REQUEST
            assert await built.shown() == (0, 9)
            await built.alive()

    run()


@pytest.mark.parametrize(
    "uri",
    [
        "no uri",
        "coap://",
        "coap:fw",
        "/fw/app.bin",
        "coap://10.0.0.1:99999/fw",
        "coap://10.0.0.1:x/fw",
        "coap://[::1/fw",
        "coap://10.0.0.1/fw#part",
        "coap://10.0.0.1/" + "a" * 256,
        "coap://10.0.0.1/" + "a/" * 600,
    ],
)
def test_a_malformed_uri(uri: str) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            answer = await built.server.ask(
                built.peer,  # type: ignore[arg-type]
                Message(Code.PUT, b"", make_options(path=(5, 0, 1), content_format=0)),
                body=uri.encode(),
            )
            assert answer.code == CHANGED
            assert await built.shown() == (0, 7)
            await built.alive()

    run()


@virtual
async def test_a_name_that_cannot_be_resolved() -> None:
    async with world() as built:
        network = built.runtime.network

        class Resolver:
            error: Exception

            def resolve(self, host: str, port: int) -> tuple[str, int]:
                raise self.error

            def __getattr__(self, name: str) -> object:
                return getattr(network, name)

        resolver = Resolver()
        built.runtime.network = resolver  # type: ignore[assignment]
        for error in (OSError("no such name"), UnicodeError("label empty or too long")):
            resolver.error = error
            await fetched(built, "coap://a..b/fw")
            assert await built.shown() == (0, 7)
        built.runtime.network = network


@virtual
async def test_a_package_that_is_too_large_is_not_fetched() -> None:
    async with world() as built:
        built.files["fw/app.bin"] = bytes(built.device.engine.capacity + 1)
        await fetched(built)
        assert await built.shown() == (0, 2)
        assert len(built.asked(GET, "fw")) == 1


@virtual
async def test_a_package_that_turns_out_too_large() -> None:
    async with world() as built:
        body = bytes(built.device.engine.capacity + 5000)
        built.files["fw/app.bin"] = blocks(lambda: body, lambda: b"e")
        await fetched(built)
        assert await built.shown() == (0, 2)
        asked = len(built.asked(GET, "fw"))
        await built.sleep(100)
        assert len(built.asked(GET, "fw")) == asked


@virtual
async def test_a_damaged_package() -> None:
    async with world() as built:
        built.files["fw/app.bin"] = new_image()[:5000] + b"?" + new_image()[5001:]
        await fetched(built)
        assert await built.shown() == (0, 5)


@virtual
async def test_an_empty_file_is_no_package() -> None:
    async with world() as built:
        built.files["fw/app.bin"] = b""
        await fetched(built)
        assert await built.shown() == (0, 6)


@virtual
async def test_a_reset_stops_the_download() -> None:
    async with world() as built:
        built.files["fw/app.bin"] = new_image()
        for path, body in (("/5/0/1", b""), ("/5/0/0", b"\0")):
            await pull(built)
            await built.sleep(0.1)
            answer = await built.send(Code.PUT, path, body)
            assert answer.code == CHANGED
            assert await built.shown() == (0, 0)
            asked = len(built.asked(GET, "fw"))
            await built.sleep(100)
            assert len(built.asked(GET, "fw")) == asked
            assert await built.value("/5/0/1") == ""


@virtual
async def test_a_second_uri_and_a_wrong_push_do_not_disturb_the_download() -> None:
    async with world() as built:
        built.files["fw/app.bin"] = new_image()
        await pull(built)
        assert (await built.text("/5/0/1", URI)).code == Code.BAD_REQUEST
        assert (await built.text("/5/0/1", "http://x/")).code == Code.BAD_REQUEST
        unsupported = await built.send(Code.PUT, "/5/0/0", bytes(20), content_format=999)
        assert unsupported.code == Code.UNSUPPORTED_CONTENT_FORMAT
        assert (await built.block(new_image(), 1, 6)).code == Code.REQUEST_ENTITY_INCOMPLETE
        assert (await built.send(POST, "/5/0/2")).code == Code.METHOD_NOT_ALLOWED
        await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
        assert await built.shown() == (2, 0)


@virtual
async def test_a_push_takes_over_from_a_pull() -> None:
    async with world() as built:
        built.files["fw/app.bin"] = image(3, 40_000, 3)
        await pull(built)
        await built.sleep(0.2)
        assert (await built.push(new_image())).code == CHANGED
        assert built.device.engine.package_version == "2.0.0"
        asked = len(built.asked(GET, "fw"))
        await built.sleep(300)
        assert len(built.asked(GET, "fw")) == asked
        assert await built.shown() == (2, 0)
        assert await built.value("/5/0/1") == ""


@virtual
async def test_blocks_that_make_no_sense_end_the_download() -> None:
    async with world() as built:

        def wrong(request: Message) -> Message:
            block = Block(7, True, 6)
            return Message(Code.CONTENT, b"", Options.of((23, block.encode())), bytes(1024))

        built.files["fw/app.bin"] = wrong
        await fetched(built)
        assert await built.shown() == (0, 4)


@virtual
async def test_switched_off_in_mid_download_it_goes_on_when_it_is_back() -> None:
    async with world(slot_size=SLOT) as built:
        built.files["fw/app.bin"] = large()
        await pull(built)
        await built.until(lambda: built.device.engine.offset > 100_000)
        built.device.power_off()
        asked = len(built.asked(GET, "fw"))
        await built.sleep(100)
        assert len(built.asked(GET, "fw")) == asked
        built.device.power_on()
        await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
        assert len(built.asked(GET, "fw")) - asked == -(-(len(large()) - 65536) // 1024)
