"""Device management of a real client: Read, Write, Discover, Execute, Create, Delete."""

from __future__ import annotations

import pytest

from agent.flash import CutMode, PowerCut
from protocols.coap.message import Message
from protocols.coap.numbers import Code
from protocols.coap.options import Block, make_options
from protocols.lwm2m import codecs
from protocols.lwm2m.model import OBJECTS, type_of
from protocols.lwm2m.objects import MAX_INSTANCES
from protocols.lwm2m.paths import parse_path
from protocols.lwm2m.records import ObjectLink
from tests.protocols.lwm2m.client_world import LIFETIME, World, virtual, world

GET, PUT, POST, DELETE = Code.GET, Code.PUT, Code.POST, Code.DELETE
CONTENT, CHANGED, CREATED, DELETED = Code.CONTENT, Code.CHANGED, Code.CREATED, Code.DELETED
BAD, UNAUTHORIZED, NOT_FOUND = Code.BAD_REQUEST, Code.UNAUTHORIZED, Code.NOT_FOUND
NOT_ALLOWED, NOT_ACCEPTABLE = Code.METHOD_NOT_ALLOWED, Code.NOT_ACCEPTABLE

SINGLE = (codecs.TEXT, codecs.CBOR)
ALL = {name: number for number, name in codecs.NAMES.items() if number != codecs.LINK}


async def values(built: World, path: str, accept: int) -> dict[str, object]:
    answer = await built.read(path, accept)
    assert answer.code == CONTENT, answer
    assert answer.options.content_format == accept
    records = codecs.decode(accept, parse_path(path), answer.payload, type_of)
    return {"/" + "/".join(map(str, record.path)): record.value for record in records}


@pytest.mark.parametrize("accept", ALL.values(), ids=ALL)
def test_read_in_every_format(accept: int) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            multi = accept in codecs.MULTI_VALUE
            if accept == codecs.OPAQUE:
                for path in ("/3/0/0", "/3/0", "/3", "/3/0/6"):
                    assert (await built.read(path, accept)).code == NOT_ACCEPTABLE
                return
            assert await values(built, "/3/0/0", accept) == {"/3/0/0": "fotilla"}
            assert await values(built, "/3/0/9", accept) == {"/3/0/9": 100}
            assert await values(built, "/1/0/6", accept) == {"/1/0/6": True}
            assert await values(built, "/3/0/7/1", accept) == {"/3/0/7/1": 5000}
            if not multi:
                for path in ("/3/0/7", "/3/0", "/3", "/1"):
                    assert (await built.read(path, accept)).code == NOT_ACCEPTABLE
                return
            assert await values(built, "/3/0/7", accept) == {"/3/0/7/0": 3800, "/3/0/7/1": 5000}
            device = await values(built, "/3/0", accept)
            assert device["/3/0/2"] == "dev-1" and "/3/0/4" not in device
            assert (await values(built, "/3", accept)).keys() == device.keys()
            firmware = await values(built, "/5/0", accept)
            assert "/5/0/0" not in firmware and firmware["/5/0/3"] == 0

    run()


@virtual
async def test_read_without_accept() -> None:
    async with world() as built:
        assert (await built.read("/3/0/0")).options.content_format == codecs.TEXT
        assert (await built.read("/3/0/7/0")).payload == b"3800"
        for path in ("/3/0/7", "/3/0", "/3"):
            assert (await built.read(path)).options.content_format == codecs.TLV


@virtual
async def test_everything_that_discover_shows_can_be_read() -> None:
    async with world() as built:
        for object_id in (1, 3, 4, 5):
            answer = await built.read(f"/{object_id}", codecs.LINK)
            links = [part.split(">")[0][1:] for part in answer.payload.decode().split(",")]
            assert links[0] == f"/{object_id}" and links[1] == f"/{object_id}/0"
            for link in links[2:]:
                definition = OBJECTS[object_id].resources[int(link.split("/")[3])]
                expected = CONTENT if definition.readable else NOT_ALLOWED
                assert (await built.read(link)).code == expected, link


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", NOT_ALLOWED),
        ("/0", UNAUTHORIZED),
        ("/0/0", UNAUTHORIZED),
        ("/0/0/0", UNAUTHORIZED),
        ("/0/0/16/0", UNAUTHORIZED),
        ("/2", NOT_FOUND),
        ("/99/0/1", NOT_FOUND),
        ("/3/1", NOT_FOUND),
        ("/3/1/0", NOT_FOUND),
        ("/3/0/99", NOT_FOUND),
        ("/3/0/18", NOT_FOUND),
        ("/3/0/7/9", NOT_FOUND),
        ("/3/0/0/0", NOT_FOUND),
        ("/3/0/4", NOT_ALLOWED),
        ("/5/0/0", NOT_ALLOWED),
        ("/5/0/2", NOT_ALLOWED),
        ("/1/0/2", NOT_FOUND),
        ("/1/0/8", NOT_ALLOWED),
        ("/x/0/1", NOT_FOUND),
        ("/3/0/00", NOT_FOUND),
        ("/3/0/1/2/3", NOT_FOUND),
        ("/65535", NOT_FOUND),
    ],
)
@pytest.mark.parametrize("accept", [None, codecs.TEXT, codecs.TLV, codecs.SENML_CBOR])
def test_reads_that_are_refused(path: str, code: Code, accept: int | None) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            assert (await built.read(path, accept)).code == code

    run()


@virtual
async def test_an_accept_that_nobody_speaks() -> None:
    async with world() as built:
        for path in ("/3/0/0", "/3/0", "/3"):
            assert (await built.read(path, 50)).code == NOT_ACCEPTABLE
            assert (await built.read(path, 65000)).code == NOT_ACCEPTABLE


@virtual
async def test_a_long_answer_comes_by_blocks() -> None:
    async with world() as built:
        whole = (await built.read("/4", codecs.SENML_JSON)).payload
        parts: list[bytes] = []
        while True:
            block = Block(len(parts), False, 1)
            answer = await built.send(GET, "/4", accept=codecs.SENML_JSON, block2=block)
            assert answer.code == CONTENT and answer.options.block2 is not None
            parts.append(answer.payload)
            if not answer.options.block2.more:
                break
        assert len(parts) > 3 and b"".join(parts) == whole


# -- Write ------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_format", [n for n in ALL.values() if n != codecs.OPAQUE])
def test_write_a_resource_in_every_format(content_format: int) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            answer = await built.write("/3/0/15", [("/3/0/15", "Europe/Oslo")], content_format)
            assert answer.code == CHANGED
            assert await built.value("/3/0/15") == "Europe/Oslo"
            assert (await built.write("/1/0/1", [("/1/0/1", 77)], content_format)).code == CHANGED
            assert await built.value("/1/0/1") == 77
            built.device.reboot("test")
            await built.registration()
            assert await built.value("/3/0/15") == "Europe/Oslo"
            assert await built.value("/1/0/1") == 77

    run()


@pytest.mark.parametrize("content_format", codecs.MULTI_VALUE)
def test_partial_write_keeps_and_replace_drops(content_format: int) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            first = [("/1/0/1", 100), ("/1/0/2", 5), ("/1/0/10", ObjectLink(10, 3))]
            assert (await built.write("/1/0", first, content_format, partial=True)).code == CHANGED
            assert (
                await built.write("/1/0", [("/1/0/3", 60)], content_format, partial=True)
            ).code == CHANGED
            assert await built.value("/1/0/2") == 5
            assert await built.value("/1/0/3") == 60
            built.device.reboot("test")
            await built.registration()
            assert await built.value("/1/0/10") == ObjectLink(10, 3)
            new = [("/1/0/0", 123), ("/1/0/1", 200), ("/1/0/6", False), ("/1/0/7", "U")]
            assert (await built.write("/1/0", new, content_format)).code == CHANGED
            assert (await built.read("/1/0/2")).code == NOT_FOUND
            assert await built.value("/1/0/1") == 200
            assert await built.value("/1/0/6") is False
            assert await built.value("/1/0/0") == 123

    run()


@virtual
async def test_a_replace_without_lifetime_falls_back_and_tells_the_server() -> None:
    async with world() as built:
        await built.text("/1/0/1", "100")
        await built.sleep(1)
        assert (await built.write("/1/0", [("/1/0/6", True)], codecs.TLV)).code == CHANGED
        await built.sleep(1)
        assert await built.value("/1/0/1") == LIFETIME
        assert built.asked(POST, "rd", "at1")[-1].options.queries == (f"lt={LIFETIME}",)


@virtual
async def test_optional_resources_are_written_into_being() -> None:
    async with world() as built:
        for resource, text in ((2, "3"), (3, "30"), (5, "60")):
            assert (await built.text(f"/1/0/{resource}", text)).code == CHANGED
            assert await built.value(f"/1/0/{resource}") == int(text)


@virtual
async def test_unknown_optional_resources_in_an_instance_are_left_out() -> None:
    async with world() as built:
        body = [("/1/0/1", 90), ("/1/0/9999", b"?")]
        assert (await built.write("/1/0", body, codecs.TLV, partial=True)).code == CHANGED
        assert await built.value("/1/0/1") == 90
        assert (await built.read("/1/0/9999")).code == NOT_FOUND


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/3/0/0", NOT_ALLOWED),  # ETS 256
        ("/3/0/4", NOT_ALLOWED),
        ("/3/0/18", NOT_FOUND),
        ("/3/0/99", NOT_FOUND),
        ("/3/1/15", NOT_FOUND),
        ("/99/0/0", NOT_FOUND),
        ("/0/0/0", UNAUTHORIZED),
        ("/0/0", UNAUTHORIZED),
        ("/0", NOT_ALLOWED),
        ("/3", NOT_ALLOWED),
        ("/", NOT_ALLOWED),
        ("/5/0/3", NOT_ALLOWED),
        ("/5/0/8/0", NOT_ALLOWED),
        ("/3/0/15/0", NOT_ALLOWED),
        ("/1/1/1", NOT_FOUND),
        ("/1/0/0", NOT_ALLOWED),
    ],
)
@virtual
async def test_writes_that_are_refused(path: str, code: Code) -> None:
    async with world() as built:
        assert (await built.text(path, "1")).code == code


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/1/0/1", "0"),
        ("/1/0/1", "-5"),
        ("/1/0/1", "soon"),
        ("/1/0/1", ""),
        ("/1/0/1", "4294967296"),
        ("/1/0/2", "-1"),
        ("/1/0/6", "2"),
        ("/1/0/7", "T"),
        ("/1/0/10", "1:x"),
        ("/3/0/15", "x" * 256),
    ],
)
@virtual
async def test_values_that_are_refused(path: str, text: str) -> None:
    async with world() as built:
        assert (await built.text(path, text)).code == BAD
        assert (await built.value("/1/0/1")) == LIFETIME


@virtual
async def test_a_wrong_value_in_an_instance_changes_nothing_of_it() -> None:
    async with world() as built:
        for partial in (True, False):
            body = [("/1/0/1", 90), ("/1/0/2", 5), ("/1/0/7", "S")]
            assert (await built.write("/1/0", body, codecs.TLV, partial=partial)).code == BAD
            assert await built.value("/1/0/1") == LIFETIME
        answer = await built.send(PUT, "/3/0/15", b"Z", content_format=999)
        assert answer.code == Code.UNSUPPORTED_CONTENT_FORMAT
        assert (await built.send(PUT, "/1/0", b"\xff\xff", content_format=codecs.TLV)).code == BAD


@virtual
async def test_a_write_by_blocks() -> None:
    async with world() as built:
        assert built.peer is not None
        message = Message(PUT, b"", make_options(path=(3, 0, 15), content_format=0))
        answer = await built.server.ask(built.peer, message, body=b"z" * 200, szx=2)
        assert answer.code == CHANGED
        assert await built.value("/3/0/15") == "z" * 200
        huge = await built.server.ask(built.peer, message, body=b"z" * 70_000, szx=6)
        assert huge.code == Code.REQUEST_ENTITY_TOO_LARGE


@virtual
async def test_written_values_never_take_the_room_of_the_engine() -> None:
    async with world() as built:
        codes = set()
        for number in range(1, 12):
            body = [(f"/1/{number}/22", "x" * 255)]
            codes.add((await built.write("/1", body, codecs.TLV, partial=True)).code)
        assert codes == {CREATED, BAD, Code.INTERNAL_SERVER_ERROR} or codes == {
            CREATED,
            Code.INTERNAL_SERVER_ERROR,
        }
        await built.alive()
        # A URI of full length still finds its place.
        uri = "coap://10.0.0.1/" + "a" * 200 + "/" + "b" * 200
        assert (await built.text("/5/0/1", uri)).code == CHANGED
        built.device.reboot("test")
        await built.registration()
        await built.alive()


@virtual
async def test_a_power_cut_inside_a_write_answers_nothing_and_the_device_comes_back() -> None:
    async with world() as built:
        cut = PowerCut(CutMode.BEFORE, 1, lambda: built.device.cut_power(back_after=1.0))
        built.device.flash.arm(1, cut)
        assert built.peer is not None
        answers: list[object] = []
        message = Message(PUT, b"", make_options(path=(3, 0, 15), content_format=0), b"Mars")
        handle = built.server.request(built.peer, message, answers.append)
        await built.sleep(0.5)
        handle.cancel()
        assert not answers
        await built.registration()
        assert await built.value("/3/0/15") == "Etc/UTC"


# -- Write-Attributes, Discover ---------------------------------------------------------------


async def links(built: World, path: str) -> dict[str, str]:
    answer = await built.read(path, codecs.LINK)
    assert (answer.code, answer.options.content_format) == (CONTENT, codecs.LINK)
    pairs = [link.partition(">") for link in answer.payload.decode().split(",")]
    return {target[1:]: rest for target, _, rest in pairs}


@virtual
async def test_discover_shows_attributes_where_they_hang() -> None:
    async with world() as built:
        for path, queries in (
            ("/3", ("pmin=10",)),
            ("/3/0", ("pmax=60",)),
            ("/3/0/9", ("gt=80", "lt=20.5", "st=5", "pmin=1")),
            ("/3/0/7", ("pmax=200",)),
        ):
            assert (await built.send(PUT, path, queries=queries)).code == CHANGED
        shown = await links(built, "/3")
        assert shown["/3"] == ";ver=1.1;pmin=10"
        assert shown["/3/0"] == ";pmax=60"
        assert shown["/3/0/9"] == ";pmin=1;gt=80;lt=20.5;st=5"
        assert shown["/3/0/7"] == ";dim=2;pmax=200"
        assert shown["/3/0/0"] == ""
        assert (await links(built, "/3/0"))["/3/0"] == ";pmax=60"
        # A single resource shows what holds there, inherited or not.
        assert (await links(built, "/3/0/9"))["/3/0/9"] == ";pmin=1;pmax=60;gt=80;lt=20.5;st=5"
        assert (await links(built, "/3/0/7"))["/3/0/7"] == ";dim=2;pmin=10;pmax=200"
        assert (
            await built.send(PUT, "/3/0/9", queries=("gt", "lt=", "st", "pmin"))
        ).code == CHANGED
        assert (await links(built, "/3"))["/3/0/9"] == ""


@pytest.mark.parametrize(
    ("path", "queries", "code"),
    [
        ("/", ("pmin=1",), NOT_ALLOWED),
        ("/0", ("pmin=1",), UNAUTHORIZED),
        ("/99", ("pmin=1",), NOT_FOUND),
        ("/3/1", ("pmin=1",), NOT_FOUND),
        ("/3/0/99", ("pmin=1",), NOT_FOUND),
        ("/3/0/9", ("pmin=x",), BAD),
        ("/3/0/9", ("colour=red",), BAD),
        ("/3/0/9", ("lt=5", "gt=4"), BAD),
        ("/3/0/0", ("gt=4",), BAD),
        ("/3/0", ("gt=4",), BAD),
    ],
)
@virtual
async def test_attributes_that_are_refused(path: str, queries: tuple[str, ...], code: Code) -> None:
    async with world() as built:
        assert (await built.send(PUT, path, queries=queries)).code == code


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", NOT_ALLOWED),
        ("/0", UNAUTHORIZED),
        ("/0/0", UNAUTHORIZED),
        ("/99", NOT_FOUND),
        ("/3/1", NOT_FOUND),
        ("/3/0/99", NOT_FOUND),
        ("/3/0/7/0", NOT_ALLOWED),
    ],
)
@virtual
async def test_discovers_that_are_refused(path: str, code: Code) -> None:
    async with world() as built:
        assert (await built.read(path, codecs.LINK)).code == code


@virtual
async def test_discover_of_what_can_only_be_written_or_run() -> None:
    async with world() as built:
        assert await links(built, "/5/0/0") == {"/5/0/0": ""}
        assert await links(built, "/5/0/2") == {"/5/0/2": ""}


# -- Execute ----------------------------------------------------------------------------------


@virtual
async def test_reboot_leaves_after_the_answer() -> None:
    async with world() as built:
        assert (await built.send(POST, "/3/0/4")).code == CHANGED
        assert built.registered and built.device.boots == 1
        await built.sleep(1)
        assert not built.registered
        await built.registration()
        assert built.device.boots == 2


@virtual
async def test_a_reboot_that_was_asked_for_happens_whatever_else_is_asked() -> None:
    async with world() as built:
        assert (await built.send(POST, "/3/0/4")).code == CHANGED
        assert (await built.text("/1/0/1", "100")).code == CHANGED
        assert (await built.send(POST, "/1/0/8")).code == CHANGED
        await built.sleep(1)
        assert not built.registered
        await built.registration()
        assert built.device.boots == 2


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/3/0/12", CHANGED),
        ("/3/0/0", NOT_ALLOWED),
        ("/3/0/5", NOT_FOUND),
        ("/3/0/99", NOT_FOUND),
        ("/3/1/4", NOT_FOUND),
        ("/3/0/4/0", NOT_ALLOWED),
        ("/1/0/9", NOT_FOUND),
        ("/1/1/8", NOT_FOUND),
        ("/0/0/1", UNAUTHORIZED),
        ("/99/0/1", NOT_FOUND),
        ("/5/0/2", NOT_ALLOWED),
        ("/5/0/0", NOT_ALLOWED),
        ("/", NOT_ALLOWED),
    ],
)
@virtual
async def test_execute(path: str, code: Code) -> None:
    async with world() as built:
        assert (await built.send(POST, path)).code == code
        await built.sleep(5)
        assert built.device.boots == 1


@virtual
async def test_other_methods() -> None:
    async with world() as built:
        for code in (Code.FETCH, Code.PATCH, Code.IPATCH, 8, 31):
            assert (await built.send(code, "/3/0/15", b"x")).code == NOT_ALLOWED  # type: ignore[arg-type]


# -- Create, Delete ---------------------------------------------------------------------------


@pytest.mark.parametrize("content_format", codecs.MULTI_VALUE)
def test_create_and_delete(content_format: int) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            body = [("/1/3/1", 100), ("/1/3/2", 5), ("/1/3/7", "U")]
            created = await built.write("/1", body, content_format, partial=True)
            assert (created.code, created.options.location) == (CREATED, ("1", "3"))
            assert await built.value("/1/3/1") == 100
            assert await built.value("/1/3/6") is True
            built.device.reboot("test")
            await built.registration()
            assert await built.value("/1/3/2") == 5
            again = await built.write("/1", body, content_format, partial=True)
            assert again.code == BAD
            assert (await built.send(DELETE, "/1/3")).code == DELETED
            assert (await built.read("/1/3/1")).code == NOT_FOUND
            assert (await built.send(DELETE, "/1/3")).code == NOT_FOUND
            built.device.reboot("test")
            await built.registration()
            assert (await built.read("/1/3")).code == NOT_FOUND

    run()


@virtual
async def test_create_that_leaves_the_id_to_the_device() -> None:
    async with world() as built:
        body = codecs.tlv.encode((1, 0), [codecs.tlv.Record((1, 0, 1), 50)], type_of)
        for number in range(1, MAX_INSTANCES):
            answer = await built.send(POST, "/1", body, content_format=codecs.TLV)
            assert (answer.code, answer.options.location) == (CREATED, ("1", str(number)))
        assert (await built.send(POST, "/1", body, content_format=codecs.TLV)).code == BAD
        await built.alive()


@virtual
async def test_create_without_content() -> None:
    async with world() as built:
        answer = await built.send(POST, "/1")
        assert (answer.code, answer.options.location) == (CREATED, ("1", "1"))
        assert await built.value("/1/1/1") == 86_400


@virtual
async def test_creates_that_are_refused() -> None:
    async with world() as built:
        two = [("/1/3/1", 100), ("/1/4/1", 100)]
        assert (await built.write("/1", two, codecs.TLV, partial=True)).code == BAD
        wrong = [("/1/3/1", 0)]
        assert (await built.write("/1", wrong, codecs.TLV, partial=True)).code == BAD
        for path, code in (("/3", NOT_ALLOWED), ("/0", UNAUTHORIZED), ("/99", NOT_FOUND)):
            assert (await built.send(POST, path)).code == code
        assert (await built.send(POST, "/1", b"x", content_format=codecs.TEXT)).code == BAD
        assert (await built.read("/1/3")).code == NOT_FOUND


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/1/0", NOT_ALLOWED),
        ("/1/1", NOT_FOUND),
        ("/3/0", NOT_ALLOWED),
        ("/3", NOT_ALLOWED),
        ("/3/0/15", NOT_ALLOWED),
        ("/0/0", UNAUTHORIZED),
        ("/0", UNAUTHORIZED),
        ("/99/0", NOT_FOUND),
        ("/", NOT_ALLOWED),
    ],
)
@virtual
async def test_deletes_that_are_refused(path: str, code: Code) -> None:
    async with world() as built:
        assert (await built.send(DELETE, path)).code == code
        await built.alive()
