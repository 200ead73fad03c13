"""RFC 7252 section 4: retransmission, duplicates, resets, pings; strangers and restarts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from protocols.coap import (
    DEFAULT_TUNING,
    Code,
    Message,
    RequestReset,
    RequestTimeout,
    make_options,
    response,
)
from protocols.coap.udp_peer import KEPT_LIMIT, RECENT
from tests.protocols.coap.wire import (
    ACK,
    CON,
    NON,
    RST,
    End,
    Net,
    Result,
    get,
    pair,
    post,
    put,
)

EMPTY = Message(0)


class Counting:
    """A handler that counts, and answers with how often it was called for that method."""

    def __init__(self, size: int = 0) -> None:
        self.calls: Counter[int] = Counter()
        self.size = size

    def __call__(self, peer: object, request: Message, exchange: object) -> Message:
        self.calls[request.code] += 1
        text = str(self.calls[request.code]).encode()
        return response(Code.CONTENT, payload=text.ljust(self.size, b"."))


def lose(*which: int):
    """Lose the datagrams with these positions in the order of sending."""
    count = iter(range(1 << 30))
    return lambda flown: [] if next(count) in which else [0.0]


def test_a_request_and_its_piggybacked_response() -> None:
    net, client, server = pair(Counting())
    result = client.ask(server, get("5", "0"))
    assert isinstance(result, Message) and result.payload == b"1"
    assert net.kinds == ["CON GET", "ACK 2.05"]
    assert net.flown[0].decoded[1] == net.flown[1].decoded[1]


def test_a_non_confirmable_request_gets_a_non_confirmable_response() -> None:
    net, client, server = pair(Counting())
    assert isinstance(client.ask(server, get(), confirmable=False), Message)
    assert net.kinds == ["NON GET", "NON 2.05"]


# -- retransmission -------------------------------------------------------------------------------


def test_silence_is_asked_again_with_doubled_jittered_intervals_and_given_up() -> None:
    firsts = set()
    for seed in range(20):
        net = Net()
        client, nobody = End(net, ("c", 1), seed=seed), End(net, ("n", 1))
        del net.ends[nobody.address]
        started = net.now
        results: list[tuple[float, Result]] = []
        peer = client.messages.peer(nobody.address)
        client.requests.request(peer, get(), lambda r, n=net, out=results: out.append((n.now, r)))
        net.run()
        times = [flown.time - started for flown in net.flown]
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        assert len(times) == 1 + DEFAULT_TUNING.max_retransmit
        assert 2.0 <= gaps[0] <= 3.0 + 1 / 32
        for before, after in zip(gaps, gaps[1:], strict=False):
            assert after == pytest.approx(2 * before, abs=0.05)
        ((ended, error),) = results
        assert isinstance(error, RequestTimeout) and "n:1 (5 sent)" in str(error)
        assert ended - started == pytest.approx(31 * gaps[0], abs=0.5)
        assert ended - started <= DEFAULT_TUNING.max_transmit_wait + 0.2
        assert len({flown.data for flown in net.flown}) == 1  # the same message id and token
        assert client.counters["retransmissions"] == 4
        firsts.add(round(gaps[0], 2))
    assert len(firsts) > 10, "no jitter"


def test_derived_times_are_the_rfc_s() -> None:
    tuning = DEFAULT_TUNING
    spans = (tuning.max_transmit_span, tuning.max_transmit_wait, tuning.exchange_lifetime)
    assert spans == (45.0, 93.0, 247.0)


@pytest.mark.parametrize("lost", range(4))
def test_any_one_lost_datagram_is_made_good(lost: int) -> None:
    net, client, server = pair(handler := Counting())
    net.fate = lose(lost)
    for payload in (b"1", b"2"):
        result = client.ask(server, post("x"))
        assert isinstance(result, Message) and result.payload == payload
    assert handler.calls[Code.POST] == 2
    assert client.counters["retransmissions"] == 1


def test_only_nstart_requests_are_under_way_and_the_others_follow_in_order() -> None:
    net, client, server = pair(Counting())
    net.latency = 1.0
    results: list[Result] = []
    for n in range(4):
        client.request(server, get(str(n)), results)
    assert len(net.flown) == 1
    net.run(2.5)
    assert len(results) == 1 and len(client.sent) == 2
    net.run()
    assert len(results) == 4
    assert [flown.decoded[2].options.path for flown in client.sent] == [(str(n),) for n in range(4)]


def test_a_larger_nstart_retransmits_each_message_on_its_own_time() -> None:
    net = Net()
    client = End(net, ("c", 1), tuning=replace(DEFAULT_TUNING, nstart=3))
    server = End(net, ("s", 1), Counting())
    net.fate = lose(0, 2)
    results: list[Result] = []
    for n in range(5):
        client.request(server, get(str(n)), results)
    net.run()
    assert len(results) == 5 and all(isinstance(result, Message) for result in results)
    assert client.counters["retransmissions"] == 2


def test_a_request_that_is_given_up_lets_the_next_one_go() -> None:
    net, client, server = pair()
    del net.ends[server.address]
    results: list[Result] = []
    for n in range(3):
        client.request(server, get(str(n)), results)
    net.run()
    assert [type(result) for result in results] == [RequestTimeout] * 3
    assert len(client.sent) == 3 * 5


def test_a_cancelled_request_lets_the_next_one_go_and_is_not_repeated() -> None:
    net, client, server = pair(Counting())
    net.fate = lose(0)
    results: list[Result] = []
    first = client.request(server, get("a"), results)
    client.request(server, get("b"), results)
    third = client.request(server, get("c"), results)
    third.cancel()
    first.cancel()
    assert not first.active
    net.run()
    assert len(results) == 1
    assert [flown.decoded[2].options.path for flown in client.sent] == [("a",), ("b",)]


def test_after_power_loss_nothing_is_sent_or_told() -> None:
    net, client, server = pair(Counting())
    net.fate = lambda flown: []
    results: list[Result] = []
    client.request(server, get("a"), results)
    client.request(server, get("b"), results)
    client.messages.drop_all()
    client.requests.drop_all()
    net.run()
    assert len(net.flown) == 1 and not results


# -- duplicates -----------------------------------------------------------------------------------


def test_a_duplicate_gets_the_same_answer_and_executes_once() -> None:
    net, client, server = pair(handler := Counting(size=500))
    net.fate = lambda flown: [0.0, 0.1, 0.2] if flown.source == client.address else [0.0]
    client.ask(server, put("5", "0", "0", payload=b"x"))
    assert handler.calls[Code.PUT] == 1
    assert len({flown.data for flown in server.sent}) == 1 and len(server.sent) == 3
    assert server.counters["duplicates"] == 2


@pytest.mark.parametrize("code", [Code.POST, Code.DELETE])
def test_execute_then_read_then_the_execute_again(code: int) -> None:
    """The ACK of a POST was lost; the server reads something and then repeats the POST."""
    net, client, server = pair(handler := Counting())
    mid = 100
    client.inject(server, CON, mid, Message(code, b"a"))
    for n in range(2 * RECENT):
        client.inject(server, CON, mid + 1 + n, Message(Code.GET, b"b"))
    net.run(5)
    client.inject(server, CON, mid, Message(code, b"a"))
    net.run(5)
    assert handler.calls == {code: 1, Code.GET: 2 * RECENT}
    assert server.sent[-1].data == server.sent[0].data


def test_a_reply_is_kept_for_exchange_lifetime_and_no_longer() -> None:
    net, client, server = pair(handler := Counting())
    client.inject(server, CON, 1, Message(Code.DELETE, b"a"))
    net.run(DEFAULT_TUNING.exchange_lifetime - 1)
    client.inject(server, CON, 1, Message(Code.DELETE, b"a"))
    net.run(0.5)
    assert handler.calls[Code.DELETE] == 1
    net.run(DEFAULT_TUNING.exchange_lifetime + 1)
    client.inject(server, CON, 1, Message(Code.DELETE, b"a"))
    net.run(1)
    assert handler.calls[Code.DELETE] == 2


def test_expired_replies_are_not_kept() -> None:
    net, client, server = pair(Counting())
    for mid in range(10):
        client.inject(server, CON, mid, Message(Code.POST, b"a"))
    net.run(1000)
    client.inject(server, CON, 10, Message(Code.POST, b"a"))
    net.run(1)
    assert list(server.messages.peer(client.address).kept or ()) == [10]


def test_kept_replies_are_bounded_and_the_newest_stay() -> None:
    net, client, server = pair(handler := Counting())
    count = KEPT_LIMIT + 10
    for mid in range(count):
        client.inject(server, CON, mid, Message(Code.POST, b"a"))
    net.run(1)
    peer = server.messages.peer(client.address)
    assert peer.kept is not None and len(peer.kept) == KEPT_LIMIT
    for mid in range(count - KEPT_LIMIT, count):
        client.inject(server, CON, mid, Message(Code.POST, b"a"))
    net.run(1)
    assert handler.calls[Code.POST] == count


def test_a_long_reply_is_kept_for_the_newest_only_and_a_read_is_answered_anew() -> None:
    net, client, server = pair(handler := Counting(size=500))
    client.inject(server, CON, 1, Message(Code.GET, b"a"))
    client.inject(server, CON, 2, Message(Code.GET, b"b"))
    net.run(1)
    client.inject(server, CON, 2, Message(Code.GET, b"b"))
    net.run(1)
    assert handler.calls[Code.GET] == 2
    client.inject(server, CON, 1, Message(Code.GET, b"a"))
    net.run(1)
    assert handler.calls[Code.GET] == 3
    assert server.sent[-1].decoded[1] == 1


def test_a_restarted_peer_that_uses_an_id_again_is_heard() -> None:
    """Message ids start at random after a reboot; the token tells that it is not a duplicate."""
    net, client, server = pair(handler := Counting())
    for token in (b"before", b"after"):
        client.inject(server, CON, 77, Message(Code.POST, token))
        net.run(1)
    assert handler.calls[Code.POST] == 2
    assert [flown.decoded[2].token for flown in server.sent] == [b"before", b"after"]
    client.inject(server, CON, 77, Message(Code.POST, b"after"))
    net.run(1)
    assert handler.calls[Code.POST] == 2 and server.sent[-1].data == server.sent[-2].data


# -- separate responses ---------------------------------------------------------------------------


class Deferring:
    """A handler that answers when told to."""

    def __init__(self) -> None:
        self.exchanges: list = []

    def __call__(self, peer: object, request: Message, exchange: object) -> None:
        self.exchanges.append(exchange)


def test_a_late_answer_comes_separately_after_an_empty_ack() -> None:
    net, client, server = pair(handler := Deferring())
    results: list[Result] = []
    client.request(server, get("slow"), results)
    net.run(30)
    assert net.kinds == ["CON GET", "ACK"]  # the empty ACK left before any retransmission
    handler.exchanges[0].respond(response(Code.CONTENT, payload=b"done"))
    handler.exchanges[0].respond(response(Code.CONTENT, payload=b"twice"))
    net.run()
    assert net.kinds == ["CON GET", "ACK", "CON 2.05", "ACK"]
    assert [result.payload for result in results] == [b"done"]  # type: ignore[union-attr]
    assert net.flown[2].decoded[2].token == net.flown[0].decoded[2].token


def test_an_answer_within_the_time_is_piggybacked() -> None:
    net, client, server = pair(handler := Deferring())
    results: list[Result] = []
    client.request(server, get("quick"), results)
    net.run(0.2)
    handler.exchanges[0].respond(response(Code.CONTENT))
    net.run()
    assert net.kinds == ["CON GET", "ACK 2.05"] and len(results) == 1


def test_a_separate_response_that_overtakes_its_ack_is_the_result() -> None:
    net, client, server = pair(handler := Deferring())
    net.fate = lambda flown: [] if flown.kind == "ACK" and flown.source == server.address else [0.0]
    results: list[Result] = []
    client.request(server, post("slow"), results)
    net.run(1)
    handler.exchanges[0].respond(response(Code.CHANGED))
    net.run()
    assert len(results) == 1 and len(handler.exchanges) == 1
    assert net.kinds == ["CON POST", "ACK", "CON 2.04", "ACK"]  # not retransmitted any more


def test_a_duplicate_of_a_separate_response_is_acknowledged_again() -> None:
    """The client's ACK is lost. A Reset to the second copy would say that it was refused."""
    net, client, server = pair(handler := Deferring())
    results: list[Result] = []
    client.request(server, get("slow"), results)
    net.run(1)
    net.fate = lose(1)
    handler.exchanges[0].respond(response(Code.CONTENT))
    net.run()
    assert net.kinds == ["CON GET", "ACK", "CON 2.05", "ACK", "CON 2.05", "ACK"]
    assert len(results) == 1 and client.counters["duplicates"] == 1


def test_a_duplicate_while_the_handler_works_does_not_start_it_again() -> None:
    net, client, server = pair(handler := Deferring())
    for pause in (0.2, 1.0, 1.0):
        client.inject(server, CON, 5, Message(Code.POST, b"t"))
        net.run(pause)
    assert len(handler.exchanges) == 1
    assert [flown.kind for flown in server.sent] == ["ACK", "ACK"]


def test_a_promised_answer_that_never_comes_is_a_timeout() -> None:
    net, client, server = pair(Deferring())
    result = client.ask(server, get())
    assert isinstance(result, RequestTimeout) and net.kinds == ["CON GET", "ACK"]


def test_a_late_answer_longer_than_a_datagram_is_cut_into_blocks() -> None:
    net, client, server = pair(handler := Deferring())
    client.request(server, get("slow"))
    net.run(1)
    handler.exchanges[0].respond(response(Code.CONTENT, payload=bytes(3000)))
    message = net.flown[-1].decoded[2]
    assert len(message.payload) == 1024
    assert message.options.block2 is not None and message.options.block2.more
    net.run()


def test_a_handler_that_raises_is_answered_by_500_and_seen() -> None:
    def broken(peer: object, request: Message, exchange: object) -> Message:
        raise ZeroDivisionError

    net, client, server = pair(broken)
    results: list[Result] = []
    client.request(server, get(), results)
    with pytest.raises(ZeroDivisionError):
        net.run()
    net.run()
    assert [result.code for result in results] == [Code.INTERNAL_SERVER_ERROR]  # type: ignore[union-attr]


# -- resets, pings, nonsense ----------------------------------------------------------------------


class Pong:
    def __init__(self) -> None:
        self.told: list[object] = []

    def acknowledged(self, now: float) -> None:
        self.told.append("acknowledged")

    def failed(self, error: object) -> None:
        self.told.append(type(error))


def test_a_ping_is_answered_by_a_reset_and_silence_is_told() -> None:
    net, client, server = pair()
    pong = Pong()
    client.messages.ping(client.messages.peer(server.address), pong)
    net.run()
    assert net.kinds == ["CON", "RST"] and pong.told == [RequestReset]
    del net.ends[server.address]
    client.messages.ping(client.messages.peer(server.address), pong)
    net.run()
    assert pong.told == [RequestReset, RequestTimeout]


def test_a_reset_ends_a_request() -> None:
    net, client, server = pair()
    del net.ends[server.address]
    results: list[Result] = []
    client.request(server, get(), results)
    server.inject(client, RST, net.flown[0].decoded[1], EMPTY)
    net.run()
    (result,) = results
    assert isinstance(result, RequestReset) and "coap://server:5683" in str(result)
    assert len(client.sent) == 1


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\x40\x01\x12\x34\xf0", b"\x70\x00\x12\x34"),  # CON with a bad option
        (b"\x4f\x01\x12\x34", b"\x70\x00\x12\x34"),  # CON with a reserved token length
        (b"\x40\x00\x12\x34\xff", b"\x70\x00\x12\x34"),  # CON Empty with more
        (b"\x50\x01\x12\x34\xf0", None),  # the same as NON, ACK, RST: ignored
        (b"\x60\x45\x12\x34\xf0", None),
        (b"\x70\x00\x12\x34\xf0", None),
        (b"\xc0\x01\x12\x34", None),  # another version: silently ignored
        (b"\x40\x01", None),
        (b"", None),
        (b"\x40\x02\x12\x34\xff" + bytes(3000), b"\x70\x00\x12\x34"),  # too long to be whole
    ],
)
def test_malformed_datagrams_are_counted_and_confirmable_ones_reset(
    data: bytes, answer: bytes | None
) -> None:
    net, client, server = pair(handler := Counting())
    net.carry(client.address, data, server.address)
    net.run()
    assert [flown.data for flown in server.sent] == ([] if answer is None else [answer])
    assert server.counters["malformed"] == 1 and not handler.calls
    assert isinstance(client.ask(server, get()), Message)


@pytest.mark.parametrize("code", [0x20, 0x3F, 0xC0, 0xE1, 0xFF])
@pytest.mark.parametrize("mtype", [CON, NON, ACK, RST])
def test_reserved_codes_are_reset_or_ignored(code: int, mtype: int) -> None:
    net, client, server = pair(handler := Counting())
    client.inject(server, mtype, 9, Message(code, b"t"))
    net.run()
    assert [flown.kind for flown in server.sent] == (["RST"] if mtype == CON else [])
    assert not handler.calls


@pytest.mark.parametrize("code", [Code.GET, 31, 0x20, 0xE0])
def test_an_ack_with_no_response_in_it_acknowledges_nothing(code: int) -> None:
    net, client, server = pair(Counting())
    net.fate = lose(0)
    results: list[Result] = []
    client.request(server, get(), results)
    server.inject(client, ACK, net.flown[0].decoded[1], Message(code, b"t"))
    net.run()
    assert len(results) == 1 and client.counters["retransmissions"] == 1


def test_an_ack_with_another_token_leads_to_one_failure_and_not_to_waiting_for_ever() -> None:
    net, client, server = pair()
    del net.ends[server.address]
    results: list[Result] = []
    client.request(server, get(), results)
    server.inject(client, ACK, net.flown[0].decoded[1], Message(Code.CONTENT, b"other"))
    net.run()
    assert [type(result) for result in results] == [RequestTimeout]


def test_a_response_that_nobody_asked_for_is_reset() -> None:
    net, client, server = pair()
    server.inject(client, CON, 1, Message(Code.CONTENT, b"what"))
    server.inject(client, NON, 2, Message(Code.CONTENT, b"what"))
    server.inject(client, ACK, 3, Message(Code.CONTENT, b"what"))
    server.inject(client, NON, 4, Message(Code.CONTENT, b"what", make_options(observe=4)))
    net.run()
    assert [(flown.kind, flown.decoded[1]) for flown in client.sent] == [("RST", 1), ("RST", 4)]
    assert [mid for _, mid in server.rejected] == [1, 4]


# -- peers ----------------------------------------------------------------------------------------


def flood(net: Net, server: End, count: int, code: int) -> None:
    for n in range(count):
        net.carry((f"stranger-{n}", 1), bytes((0x40, code, 0, n & 255)), server.address)


@pytest.mark.parametrize("code", [Code.GET, Code.POST])
def test_strangers_do_not_fill_the_memory(code: int) -> None:
    net, _, server = pair(handler := Counting())
    flood(net, server, 100, code)
    net.run(1)
    assert handler.calls[code] == 100
    assert len(server.messages._peers) <= 16


def test_strangers_do_not_break_what_is_held() -> None:
    """A device talks to its server while a hundred strangers talk to the device."""
    net, device, server = pair(deferring := Deferring())
    results: list[Result] = []
    handle = device.messages.peer(server.address)
    device.requests.request(handle, get("slow"), results.append)
    net.run(1)  # acknowledged: the peer is idle, the response is still to come
    device.requests._handler = Counting()
    flood(net, device, 100, Code.POST)
    net.run(1)
    assert device.messages.peer(server.address) is handle
    flood(net, device, 100, Code.GET)
    net.run(1)
    deferring.exchanges[0].respond(response(Code.CONTENT))
    net.run(1)
    assert [result.code for result in results] == [Code.CONTENT]  # type: ignore[union-attr]
    server.requests._handler = Counting()
    flood(net, device, 100, Code.GET)
    net.run(1)
    device.requests.request(handle, get("again"), results.append)
    net.run()
    assert [result.code for result in results] == [Code.CONTENT] * 2  # type: ignore[union-attr]


def test_peers_that_nobody_holds_are_freed() -> None:
    net, _, server = pair(Counting())
    flood(net, server, 100, Code.GET)
    net.run(1)
    assert server.messages._parked is not None and len(server.messages._parked) == 0


def test_the_trace_tells_every_message_of_both_directions() -> None:
    net, client, server = pair(Deferring())
    told: list[str] = []
    client.messages.trace = lambda way, address, mtype, mid, message: told.append(
        f"{way} {address[0]} {mtype} {message!r}"
    )
    client.ask(server, get("a"))
    assert [line.split()[0] for line in told] == [">", "<"]
    assert "GET" in told[0] and "/a" in told[0]
