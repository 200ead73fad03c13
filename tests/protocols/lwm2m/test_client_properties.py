"""Any request gets an answer and never an exception, and the device works after it."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import State
from agent.runtime import run_virtual
from protocols.coap.message import Message
from protocols.coap.numbers import Code, OptionNumber
from protocols.coap.options import Block, Options, encode_uint, make_options
from protocols.lwm2m import codecs
from protocols.lwm2m.firmware_tables import report
from protocols.lwm2m.model import OBJECTS, type_of
from protocols.lwm2m.paths import Path
from protocols.lwm2m.records import ObjectLink, Record
from tests.agent.parts import new_image
from tests.protocols.lwm2m.client_world import World, world

FORMATS = (*codecs.SUPPORTED, codecs.LINK, 50, 65000)

ids = st.sampled_from((0, 0, 0, 1, 2, 3, 255, 256, 65534))
known = st.sampled_from(
    [
        (definition.id, 0, resource)
        for definition in OBJECTS.values()
        for resource in definition.resources
    ]
)
paths: st.SearchStrategy[Path] = st.one_of(
    known,
    known.map(lambda path: path[:2]),
    known.map(lambda path: path[:1]),
    st.tuples(known, ids).map(lambda pair: (*pair[0], pair[1])),
    st.lists(ids, max_size=4).map(tuple),
)
segments = st.one_of(
    paths.map(lambda path: tuple(map(str, path))),
    st.lists(st.text(max_size=6), max_size=6).map(tuple),
)
values = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=20),
    st.binary(max_size=40),
    st.builds(ObjectLink, st.integers(0, 65535), st.integers(0, 65535)),
    st.sampled_from(("coap://10.0.0.1/fw", "coap://[", "http://x", "U", "")),
)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[int, bytes]:
    """A payload that is right, or nearly so."""
    content_format = draw(st.sampled_from(codecs.SUPPORTED))
    base = draw(paths)
    records = [
        Record(draw(known.filter(lambda path: path[: len(base)] == base[:3]) | known), value)
        for value in draw(st.lists(values, max_size=4))
    ]
    try:
        payload = codecs.encode(content_format, base, records, lambda path: None)
    except codecs.CodecError:
        payload = draw(st.binary(max_size=60))
    return content_format, payload


payloads = st.one_of(
    encoded(),
    st.tuples(st.sampled_from(FORMATS), st.binary(max_size=80)),
    st.just((codecs.OPAQUE, new_image()[:1024])),
)
block_options = st.builds(Block, st.integers(0, 4), st.booleans(), st.integers(0, 6))
queries = st.lists(
    st.one_of(
        st.sampled_from(("pmin=1", "pmax=5", "gt=3.5", "lt=1", "st=1", "pmin", "gt", "x=y")),
        st.text(max_size=8),
    ),
    max_size=3,
)
maybe = st.booleans()


@st.composite
def requests(draw: st.DrawFn) -> Message:
    content_format, payload = draw(payloads)
    options = make_options(
        path=draw(segments),
        queries=draw(queries) if draw(maybe) else (),
        content_format=content_format if draw(maybe) else None,
        accept=draw(st.sampled_from(FORMATS)) if draw(maybe) else None,
        observe=draw(st.integers(0, 2)) if draw(maybe) else None,
        block1=draw(block_options) if draw(maybe) else None,
        block2=draw(block_options) if draw(maybe) else None,
        size1=draw(st.integers(0, 1 << 20)) if draw(maybe) else None,
    )
    if draw(st.integers(0, 9)) == 0:
        number = draw(st.integers(1, 3000).filter(lambda number: number not in _KNOWN))
        options = Options.of(*options.pairs, (number, encode_uint(draw(st.integers(0, 300)))))
    code = draw(st.sampled_from((1, 1, 2, 2, 3, 3, 4, 5, 7, 31)))
    return Message(code, b"", options, payload if draw(maybe) else b"")


_KNOWN = {int(number) for number in OptionNumber}


async def back(built: World) -> None:
    """The device is there again after a reboot, or a Disable that lasts a day."""
    await built.sleep(1)
    if not built.registered:
        await built.sleep(5)
    if not built.registered:
        built.device.cut_power(back_after=1.0)
        await built.registration()


async def works(built: World) -> None:
    """The device takes an update from whatever state it was left in."""
    await back(built)
    engine = built.device.engine
    await built.until(lambda: engine.state not in (State.INSTALLING, State.TRIAL))
    await built.registration()
    assert report(engine.state, engine.outcome) == await built.shown()
    await built.alive()
    assert (await built.text("/5/0/1", "")).code == Code.CHANGED
    assert (await built.push(new_image())).code == Code.CHANGED
    assert (await built.send(Code.POST, "/5/0/2")).code == Code.CHANGED
    await built.until(lambda: engine.state is State.IDLE and built.registered)
    assert await built.shown() == (0, 1)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.lists(requests(), min_size=1, max_size=12))
def test_any_requests_are_answered_and_the_device_works_after(script: list[Message]) -> None:
    async def run() -> None:
        async with world() as built:
            built.runtime.network.latency = 0.001  # type: ignore[attr-defined]
            for message in script:
                if not built.registered:
                    await back(built)
                copy = Message(message.code, b"", message.options, message.payload)
                answer = await built.ask(copy)
                assert 64 <= answer.code < 192
                assert answer.code != Code.INTERNAL_SERVER_ERROR or b"room" in answer.payload
            await works(built)

    run_virtual(run())


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from((None, *codecs.SUPPORTED)),
            st.binary(max_size=70),
            st.none() | block_options,
        ),
        max_size=10,
    )
)
def test_any_package_blocks(script: list[tuple[int | None, bytes, Block | None]]) -> None:
    async def run() -> None:
        async with world() as built:
            for content_format, payload, block in script:
                answer = await built.send(
                    Code.PUT, "/5/0/0", payload, content_format=content_format, block1=block
                )
                assert 64 <= answer.code < 160
                await built.shown()
            await works(built)

    run_virtual(run())


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(paths, values, st.sampled_from(codecs.SUPPORTED))
def test_what_was_written_is_read_back(path: Path, value: object, content_format: int) -> None:
    async def run() -> None:
        async with world() as built:
            name = "/" + "/".join(map(str, path))
            if len(path) != 3 or path[0] == 5:
                return
            try:
                body = codecs.encode(
                    content_format,
                    path,
                    [Record(path, value)],  # type: ignore[arg-type]
                    type_of,
                )
            except codecs.CodecError:
                return
            answer = await built.send(Code.PUT, name, body, content_format=content_format)
            if answer.code == Code.CHANGED and path != (3, 0, 13):
                kept = await built.value(name)
                # Plain text names no type: a number written to a string is its digits.
                assert kept == value or isinstance(kept, float) or kept == str(value)
                built.device.reboot("test")
                await built.registration()
                assert await built.value(name) == kept

    run_virtual(run())
