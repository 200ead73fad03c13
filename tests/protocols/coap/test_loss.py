"""A wire that loses, doubles and delays at will: one result per request, one execution per POST."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import Timer
from protocols.coap import (
    DEFAULT_TUNING,
    BodyAssembler,
    Code,
    Message,
    Options,
    RequestFailed,
    make_options,
    response,
)
from tests.protocols.coap.wire import End, Flown, Net, Result

# One step of a story: which request, how long the server thinks, how long until the next one.
steps = st.tuples(
    st.sampled_from([Code.GET, Code.POST, Code.PUT, Code.DELETE]),
    st.sampled_from([0.0, 0.0, 0.1, 3.0]),
    st.floats(0, 8),
    st.booleans(),
)
fates = st.lists(st.floats(0, 6), max_size=3)  # no copy, one, or more, each with its delay


class Server:
    """Answers by the number in the payload, now or after a while, and counts by that number."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.executed: dict[bytes, int] = {}

    def __call__(self, peer: object, request: Message, exchange) -> Message | None:
        number, _, wait = request.payload.partition(b":")
        self.executed[number] = self.executed.get(number, 0) + 1
        answer = response(Code.CHANGED, payload=number)
        if not float(wait):
            return answer
        timer = Timer(lambda now: exchange.respond(answer))
        self.net.wheel.arm(timer, self.net.now + float(wait))
        return None


@settings(max_examples=150, deadline=None)
@given(
    st.lists(steps, min_size=1, max_size=12),
    st.lists(fates, max_size=60),
    st.integers(1, 3),
    st.integers(0, 2**32),
)
def test_every_request_has_one_result_and_no_post_executes_twice(
    story: list, fate: list[list[float]], nstart: int, seed: int
) -> None:
    net = Net()
    tuning = replace(DEFAULT_TUNING, nstart=nstart)
    handler = Server(net)
    client = End(net, ("client", 1), tuning=tuning, seed=seed)
    server = End(net, ("server", 1), handler, tuning=tuning, seed=seed + 1)
    plan = iter(fate)
    net.fate = lambda flown: next(plan, [0.01])
    results: list[list[Result]] = [[] for _ in story]
    for n, (code, wait, pause, confirmable) in enumerate(story):
        client.request(
            server,
            Message(code, payload=f"{n}:{wait}".encode()),
            results[n],
            confirmable=confirmable,
        )
        net.run(pause)
    net.run(5000)
    for n, ((code, _, _, confirmable), got) in enumerate(zip(story, results, strict=True)):
        number = str(n).encode()
        (result,) = got
        if isinstance(result, Message):
            assert result.payload == number, "another request's answer"
            assert handler.executed[number] >= 1
        elif not confirmable or story[n][1]:
            assert isinstance(result, RequestFailed)
        if code in (Code.POST, Code.DELETE):
            assert handler.executed.get(number, 0) <= 1
    assert not client.requests._waiting
    for end in (client, server):
        for peer in end.messages._peers.values():
            assert not peer.busy


def fate_of(seed: int, loss: float, twice: float):
    random = DeviceRandom(seed)

    def fate(flown: Flown) -> list[float]:
        copies = 0 if random.uniform(0, 1) < loss else 2 if random.uniform(0, 1) < twice else 1
        return [random.uniform(0.01, 0.3) for _ in range(copies)]

    return fate


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(0, 4000), st.integers(0, 6), st.integers(0, 6), st.booleans()
)
def test_a_body_goes_up_and_comes_back_over_a_bad_wire(
    seed: int, size: int, up: int, server_szx: int, reorder: bool
) -> None:
    net = Net()
    body = DeviceRandom(seed).bytes(size)
    assembler = BodyAssembler(1 << 16, 247.0, szx=server_szx)
    whole: list[bytes] = []

    def echo(peer, request: Message, exchange) -> Message:
        taken = assembler.take(peer, request, net.now)
        if isinstance(taken, Message):
            return taken
        if request.options.block2 is None or request.options.block2.number == 0:
            whole.append(taken)
        options = request.options.block1 and make_options(block1=request.options.block1)
        return response(Code.CHANGED, options or Options.of())

    client = End(net, ("client", 1), seed=seed)
    server = End(net, ("server", 1), echo, seed=seed)
    net.fate = fate_of(seed, 0.15, 0.1)
    message = Message(Code.PUT, options=make_options(path=["5", "0", "0"]))
    result = client.fetch(server, message, body=body, szx=up)
    if isinstance(result, Message):
        assert result.code == Code.CHANGED
        assert whole[-1] == body
    else:
        assert "sent" in str(result) or "no response" in str(result)

    server.requests._handler = lambda peer, request, exchange: response(Code.CONTENT, payload=body)
    parts: list[bytes] = []
    done: list[Result] = []

    def on_block(offset: int, data: bytes, total: int | None, etag: bytes) -> bool:
        if offset == 0:
            parts.clear()
        assert offset == sum(map(len, parts)) and total in (None, size)
        parts.append(data)
        return True

    get = Message(Code.GET, options=make_options(path=["image"]))
    client.transfer(server, get, done, szx=up, on_block=on_block)
    net.run(100_000)
    (result,) = done
    if isinstance(result, Message):
        assert b"".join(parts) == body
