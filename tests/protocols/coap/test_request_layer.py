"""Tokens, options that are not understood, observations, and the two stages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.coap import (
    DEFAULT_TUNING,
    CoapFormatError,
    Code,
    EndpointClosed,
    Message,
    Options,
    RequestReset,
    RequestTimeout,
    make_options,
    response,
)
from protocols.coap.observe import Observation
from tests.protocols.coap.wire import CON, NON, End, Net, Result, get, pair, post


def hello(peer: object, request: Message, exchange: object) -> Message:
    return response(Code.CONTENT, payload="/".join(request.options.path).encode())


def codes(results: list[Result]) -> list[int]:
    return [result.code for result in results if isinstance(result, Message)]


def test_every_request_has_its_own_token() -> None:
    net = Net()
    client = End(net, ("c", 1), tuning=replace(DEFAULT_TUNING, nstart=500))
    server = End(net, ("s", 1), hello)
    results: list[list[Result]] = [[] for _ in range(500)]
    for n in range(500):
        client.request(server, get(str(n)), results[n])
    net.run()
    assert len({flown.decoded[2].token for flown in client.sent}) == 500
    for n, (result,) in enumerate(results):
        assert isinstance(result, Message) and result.payload == str(n).encode()


def test_a_token_of_another_peer_is_not_ours() -> None:
    net, client, server = pair(hello)
    liar = End(net, ("liar", 1), seed=3)
    net.latency = 1.0
    results: list[Result] = []
    client.request(server, get("a"), results)
    liar.inject(client, NON, 1, Message(Code.NOT_FOUND, client.sent[0].decoded[2].token))
    net.run()
    assert codes(results) == [Code.CONTENT]


@pytest.mark.parametrize("token", [b"", b"\x00", b"12345678"])
def test_tokens_of_any_length_come_back(token: bytes) -> None:
    net, client, server = pair(hello)
    client.inject(server, CON, 1, Message(Code.GET, token))
    net.run()
    assert server.sent[0].decoded[2].token == token


@pytest.mark.parametrize(
    ("pair_", "code"),
    [
        ((65001, b"x"), Code.BAD_OPTION),
        ((9, b""), Code.BAD_OPTION),
        ((17, b"too long"), Code.BAD_OPTION),
        ((11, b"\xff"), Code.BAD_OPTION),
        ((23, b"\x07"), Code.BAD_REQUEST),
        ((27, b"\x0f"), Code.BAD_REQUEST),
        ((23, b"long"), Code.BAD_OPTION),
        ((35, b"coap://other"), Code.PROXYING_NOT_SUPPORTED),
        ((39, b"http"), Code.PROXYING_NOT_SUPPORTED),
        ((65000, b"x"), Code.CONTENT),
        ((12, b"too long"), Code.CONTENT),
    ],
)
def test_options_that_are_not_understood(pair_: tuple[int, bytes], code: int) -> None:
    net, client, server = pair(hello)
    number, value = pair_
    message = Message(Code.GET, options=Options((pair_,), encode(number, value)))
    assert codes([client.ask(server, message)]) == [code]


def encode(number: int, value: bytes) -> bytes:
    from protocols.coap.options import _encode

    return _encode([(number, value)])


def test_a_response_with_an_unknown_critical_option_is_rejected() -> None:
    odd = Options.of((65001, b"x"))
    net, client, server = pair(lambda *_: response(Code.CONTENT, odd))
    assert isinstance(client.ask(server, get()), RequestTimeout)


def test_without_a_handler_there_is_nothing() -> None:
    net, client, server = pair()
    assert codes([client.ask(server, get("a"))]) == [Code.NOT_FOUND]


def test_a_handler_that_finds_nonsense_answers_400_with_the_text() -> None:
    def handler(peer: object, request: Message, exchange: object) -> Message:
        raise CoapFormatError("no such thing")

    net, client, server = pair(handler)
    result = client.ask(server, post("x"))
    assert isinstance(result, Message)
    assert (result.code, result.payload) == (Code.BAD_REQUEST, b"no such thing")


def test_a_timeout_of_the_callers_ends_the_exchange() -> None:
    net, client, server = pair(hello)
    net.fate = lambda flown: []
    results: list[tuple[float, Result]] = []
    client.requests.request(
        client.messages.peer(server.address),
        get(),
        lambda result: results.append((net.now, result)),
        timeout=4.0,
    )
    net.run()
    ((when, result),) = results
    assert isinstance(result, RequestTimeout) and 4.0 <= when < 4.1
    assert len(net.flown) == 2  # one retransmission before, none after


def test_closing_ends_every_request_with_its_own_error() -> None:
    net, client, server = pair(hello)
    results: list[Result] = []
    for _ in range(3):
        client.request(server, get(), results)
    client.messages.drop_all()
    client.requests.fail_all(EndpointClosed("closed"))
    net.run()
    assert [type(result) for result in results] == [EndpointClosed] * 3


# -- observe --------------------------------------------------------------------------------------


class Observed:
    """A resource with at most one observer, as a server writes it."""

    def __init__(self) -> None:
        self.observation: Observation | None = None
        self.ended: list[Observation] = []
        self.end: End | None = None

    def __call__(self, peer, request: Message, exchange) -> Message:
        if request.options.observe == 0:
            assert self.end is not None
            lower = self.end.messages
            self.observation = Observation(lower, peer, request.token, self.ended.append)
            return response(Code.CONTENT, make_options(observe=0), b"first")
        return response(Code.CONTENT, payload=b"plain")

    def publish(self, text: bytes, **how: bool) -> None:
        assert self.observation is not None
        self.observation.publish(response(Code.CONTENT, payload=text), **how)


def observing() -> tuple[Net, End, End, Observed, list[Result]]:
    resource = Observed()
    net, client, server = pair(resource)
    resource.end = server
    results: list[Result] = []
    client.request(server, get("o", observe=0), results, observing=True)
    net.run(1)
    return net, client, server, resource, results


def payloads(results: list[Result]) -> list[bytes]:
    assert all(isinstance(result, Message) for result in results), results
    return [result.payload for result in results if isinstance(result, Message)]


@pytest.mark.parametrize("confirmable", [True, False])
def test_notifications_arrive_in_order(confirmable: bool) -> None:
    net, client, server, resource, results = observing()
    for text in (b"a", b"b", b"c"):
        resource.publish(text, confirmable=confirmable)
        net.run(1)
    assert payloads(results) == [b"first", b"a", b"b", b"c"]
    kind = "CON 2.05" if confirmable else "NON 2.05"
    assert [flown.kind for flown in server.sent[1:]] == [kind] * 3
    assert [flown.decoded[2].options.observe for flown in server.sent] == [0, 1, 2, 3]


def test_what_changes_while_a_notification_is_under_way_is_told_once_and_newest() -> None:
    net, client, server, resource, results = observing()
    net.latency = 1.0
    for text in (b"a", b"b", b"c", b"d"):
        resource.publish(text)
    net.run()
    assert payloads(results) == [b"first", b"a", b"d"]


def test_an_older_notification_that_arrives_late_is_not_told() -> None:
    net, client, server, resource, results = observing()
    delays = iter([5.0, 0.0])
    net.fate = lambda flown: [next(delays, 0.0)] if flown.source == server.address else [0.0]
    resource.publish(b"old", confirmable=False)
    resource.publish(b"new", confirmable=False)
    net.run()
    assert payloads(results) == [b"first", b"new"]


def test_a_duplicate_notification_is_acknowledged_and_told_once() -> None:
    net, client, server, resource, results = observing()
    net.fate = lambda flown: [0.0, 0.5] if flown.source == server.address else [0.0]
    resource.publish(b"a")
    net.run(3)
    assert payloads(results) == [b"first", b"a"]
    assert [flown.kind for flown in client.sent[1:]] == ["ACK", "ACK"]


@pytest.mark.parametrize(
    ("last", "next_", "after", "fresh"),
    [
        (1, 2, 0, True),
        (2, 1, 0, False),
        (5, 5, 0, False),
        (0xFFFFFF, 0, 0, True),
        (0, 0xFFFFFF, 0, False),
        (0, 1 << 23, 0, False),
        (0, (1 << 23) - 1, 0, True),
        (1 << 23, 0, 0, False),
        ((1 << 23) + 1, 0, 0, True),
        (9, 3, 127, False),
        (9, 3, 129, True),
    ],
)
def test_freshness(last: int, next_: int, after: float, fresh: bool) -> None:
    """RFC 7641 section 3.4."""
    net, client, server = pair()
    handle = client.request(server, get("o", observe=0), observing=True)
    assert handle.is_fresh(last, 10.0)
    assert handle.is_fresh(next_, 10.0 + after) is fresh


@pytest.mark.parametrize("confirmable", [True, False])
def test_a_forgotten_observation_is_ended_by_a_reset(confirmable: bool) -> None:
    resource = Observed()
    net, client, server = pair(resource)
    resource.end = server
    handle = client.request(server, get("o", observe=0), observing=True)
    net.run(1)
    handle.cancel()
    resource.publish(b"a", confirmable=confirmable)
    net.run()
    assert client.sent[-1].kind == "RST"
    if confirmable:
        assert resource.ended == [resource.observation]
    else:
        assert resource.observation is not None
        assert [mid for _, mid in server.rejected] == [resource.observation.last_mid]


def test_an_observer_that_is_gone_ends_its_observation_and_what_waited_is_dropped() -> None:
    net, client, server, resource, results = observing()
    del net.ends[client.address]
    resource.publish(b"a")
    resource.publish(b"b")
    net.run()
    assert resource.ended == [resource.observation]
    assert server.counters["retransmissions"] == 4
    assert len(server.sent) == 1 + 5


def test_a_withdrawn_observation_says_nothing_more() -> None:
    net, client, server, resource, results = observing()
    net.fate = lambda flown: []
    resource.publish(b"a")
    resource.publish(b"b")
    assert resource.observation is not None
    resource.observation.withdraw()
    net.run()
    assert len(server.sent) == 2 and not resource.ended


def test_an_error_or_a_response_without_observe_ends_the_observation() -> None:
    for last in (response(Code.NOT_FOUND), response(Code.CONTENT, payload=b"no more")):
        net, client, server, resource, results = observing()
        assert resource.observation is not None
        last.token = resource.observation.token
        server.inject(client, CON, 40_000, last)
        net.run(1)
        assert codes(results)[-1] == last.code and client.sent[-1].kind == "ACK"
        resource.publish(b"late")
        net.run()
        assert len(results) == 2 and client.sent[-1].kind == "RST"


def test_an_observation_survives_for_months_without_a_timer() -> None:
    net, client, server, resource, results = observing()
    net.run(1e7)
    resource.publish(b"a")
    net.run(1)
    assert payloads(results) == [b"first", b"a"]


def test_a_notification_longer_than_a_block_brings_its_first() -> None:
    net, client, server, resource, results = observing()
    resource.publish(bytes(3000))
    net.run(1)
    message = results[-1]
    assert isinstance(message, Message) and message.payload == bytes(1024)
    assert message.options.block2 is not None and message.options.block2.more
    assert message.options.size2 == 3000


# -- stages ---------------------------------------------------------------------------------------


class Xor:
    """A datagram stage: every byte the other way round, and a mark that must be there."""

    MARK = b"\xd5"

    def __init__(self) -> None:
        self.waiting = False

    def outbound(self, peer: object, datagram: bytes, now: float) -> bytes | None:
        if self.waiting:
            return None
        return self.MARK + bytes(byte ^ 0x5A for byte in datagram)

    def inbound(self, peer: object, datagram: bytes, now: float) -> bytes | None:
        if datagram[:1] != self.MARK:
            return None
        return bytes(byte ^ 0x5A for byte in datagram[1:])


def test_a_datagram_stage_sees_every_byte() -> None:
    net = Net()
    client = End(net, ("c", 1), datagram_stage=Xor())
    server = End(net, ("s", 1), hello, datagram_stage=Xor())
    assert codes([client.ask(server, get("a"))]) == [Code.CONTENT]
    result = client.fetch(server, get("b"), szx=0)
    assert isinstance(result, Message) and result.payload == b"b"
    assert all(flown.data[:1] == Xor.MARK for flown in net.flown)
    net.carry(client.address, b"\x40\x01\x00\x01", server.address)  # not authentic: no answer
    before = len(server.sent)
    net.run()
    assert len(server.sent) == before and server.counters["malformed"] == 0


def test_what_a_stage_holds_back_is_sent_by_retransmission() -> None:
    net = Net()
    stage = Xor()
    client = End(net, ("c", 1), datagram_stage=stage)
    server = End(net, ("s", 1), hello, datagram_stage=Xor())
    stage.waiting = True
    results: list[Result] = []
    client.request(server, get("a"), results)
    net.run(1)
    assert not net.flown
    stage.waiting = False
    net.run()
    assert codes(results) == [Code.CONTENT]


class Sealed:
    """A message stage: code, options and payload hidden in the payload of a POST or 2.04."""

    def outbound(self, peer: object, message: Message) -> Message:
        raw = message.options.raw
        inner = bytes((message.code, len(raw) >> 8, len(raw) & 255)) + raw + message.payload
        outer = Code.POST if message.is_request else Code.CHANGED
        # OSCORE leaves Observe outside too, for proxies and for the request layer.
        observe = message.options.observe
        pairs = [] if observe is None else make_options(observe=observe).pairs
        return Message(outer, message.token, Options.of(*pairs, (9, b"k")), inner[::-1])

    def inbound(self, peer: object, message: Message) -> Message | None:
        from protocols.coap.options import parse

        inner = message.payload[::-1]
        if len(inner) < 3 or not message.options.values(9):
            return None
        size = inner[1] << 8 | inner[2]
        options, _ = parse(inner[3 : 3 + size], 0)
        return Message(inner[0], b"", options, inner[3 + size :])


def sealed(handler) -> tuple[Net, End, End]:
    net = Net()
    client = End(net, ("c", 1), message_stage=Sealed())
    return net, client, End(net, ("s", 1), handler, message_stage=Sealed())


def test_a_message_stage_hides_requests_and_responses() -> None:
    net, client, server = sealed(hello)
    result = client.ask(server, get("secret"))
    assert isinstance(result, Message)
    assert (result.code, result.payload) == (Code.CONTENT, b"secret")
    assert net.kinds == ["CON POST", "ACK 2.04"]
    assert all(not flown.decoded[2].options.path for flown in net.flown)


def test_what_is_refused_inside_is_hidden_too() -> None:
    net, client, server = sealed(hello)
    message = Message(Code.GET, options=Options.of((65001, b"x")))
    assert codes([client.ask(server, message)]) == [Code.BAD_OPTION]
    assert net.kinds == ["CON POST", "ACK 2.04"]


def test_late_answers_and_long_ones_pass_the_message_stage() -> None:
    body = bytes(range(256)) * 10
    exchanges: list = []

    def handler(peer, request: Message, exchange) -> Message | None:
        if request.options.path == ("slow",):
            exchanges.append(exchange)
            return None
        return response(Code.CONTENT, payload=body)

    net, client, server = sealed(handler)
    result = client.fetch(server, get("image"))
    assert isinstance(result, Message) and result.payload == body
    results: list[Result] = []
    client.request(server, get("slow"), results)
    net.run(1)
    exchanges[0].respond(response(Code.CONTENT, payload=b"done"))
    net.run()
    assert payloads(results) == [b"done"]
    assert {flown.kind for flown in server.sent} == {"ACK 2.04", "ACK", "CON 2.04"}


def test_notifications_pass_the_message_stage() -> None:
    resource = Observed()
    net, client, server = sealed(resource)
    results: list[Result] = []
    resource.end = server
    client.request(server, get("o", observe=0), results, observing=True)
    net.run(1)
    first = resource.observation
    assert first is not None
    stage = server.requests.stage
    observation = Observation(
        server.messages, first.peer, first.token, resource.ended.append, stage=stage
    )
    observation.publish(response(Code.CONTENT, payload=b"a"))
    net.run(1)
    assert payloads(results) == [b"first", b"a"]
    assert server.sent[-1].decoded[2].payload != b"a"


def test_a_request_without_protection_is_unauthorized() -> None:
    net = Net()
    client = End(net, ("c", 1))
    server = End(net, ("s", 1), hello, message_stage=Sealed())
    assert codes([client.ask(server, get("a"))]) == [Code.UNAUTHORIZED]


def test_a_response_without_protection_is_not_taken() -> None:
    net = Net()
    client = End(net, ("c", 1), message_stage=Sealed())
    server = End(net, ("s", 1), lambda *_: response(Code.CONTENT))
    result = client.ask(server, get("a"))
    assert isinstance(result, RequestTimeout | RequestReset)
