"""RFC 7959: bodies by Block1 and Block2 at every size, negotiation, restarts, gaps, limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.coap import (
    DEFAULT_TUNING,
    Block,
    BodyAssembler,
    Code,
    Message,
    Options,
    TransferFailed,
    decode_datagram,
    encode_datagram,
    make_options,
    response,
)
from protocols.coap.blockwise import MAX_RESTARTS
from tests.protocols.coap.wire import ACK, End, Net, Result, get, pair, post, put

SIZES = range(7)
BODY = bytes(range(256)) * 12 + b"tail"


class Store:
    """A server that takes bodies by Block1 and gives them back by Block2."""

    def __init__(self, limit: int = 1 << 16, szx: int = 6) -> None:
        self.assembler = BodyAssembler(limit, 247.0, szx)
        self.now = 0.0
        self.body = b""
        self.stored = 0

    def __call__(self, peer, request: Message, exchange) -> Message:
        if request.code == Code.GET:
            return response(Code.CONTENT, payload=self.body)
        taken = self.assembler.take(peer, request, self.now)
        if isinstance(taken, Message):
            return taken
        self.body = taken
        self.stored += 1
        block = request.options.block1
        return response(Code.CHANGED, make_options(block1=block))


def blocks(end: End, option: str) -> list[Block]:
    """The Block options that ``end`` sent, in order."""
    sent = [getattr(flown.decoded[2].options, option) for flown in end.sent]
    return [block for block in sent if block is not None]


def code_of(result: Result) -> int:
    assert isinstance(result, Message), result
    return result.code


# -- Block1 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 64, 1024, 1025, len(BODY)])
@pytest.mark.parametrize("szx", SIZES)
def test_a_body_goes_up_in_blocks_of_every_size(szx: int, size: int) -> None:
    net, client, server = pair(store := Store())
    progress: list[int] = []
    body = BODY[:size]
    result = client.fetch(server, put("p"), body=body, szx=szx, on_progress=progress.append)
    assert code_of(result) == Code.CHANGED and store.body == body and store.stored == 1
    step = 16 << szx
    assert progress == [*range(step, size, step), size]
    sent = blocks(client, "block1")
    if size <= step:
        assert not sent
    else:
        assert [block.number for block in sent] == list(range(len(sent)))
        assert [block.more for block in sent] == [True] * (len(sent) - 1) + [False]
        assert client.sent[0].decoded[2].options.size1 == size
        assert all(flown.decoded[2].options.size1 is None for flown in client.sent[1:])


@pytest.mark.parametrize("wanted", SIZES)
@pytest.mark.parametrize("szx", SIZES)
def test_the_server_negotiates_block1_down(szx: int, wanted: int) -> None:
    net, client, server = pair(store := Store(szx=wanted))
    assert code_of(client.fetch(server, put("p"), body=BODY, szx=szx)) == Code.CHANGED
    assert store.body == BODY
    first, *rest = blocks(client, "block1")
    assert first.szx == szx
    assert {block.szx for block in rest} == {min(szx, wanted)}


def test_a_peer_with_small_blocks_gets_no_larger_ones() -> None:
    net, client, server = pair(store := Store())
    client.messages.peer(server.address).largest_block = 2
    client.fetch(server, put("p"), body=BODY, szx=6)
    assert store.body == BODY and {block.szx for block in blocks(client, "block1")} == {2}


def scripted(*answers: Message | None):
    """These answers first (None: as usual), then as usual."""
    store = Store()
    script = iter(answers)

    def handler(peer, request: Message, exchange) -> Message:
        answer = next(script, None)
        return store(peer, request, exchange) if answer is None else answer

    handler.store = store  # type: ignore[attr-defined]
    return handler


def code(number: int, **options: object) -> Message:
    return response(number, make_options(**options))  # type: ignore[arg-type]


def test_408_starts_the_body_again() -> None:
    handler = scripted(None, None, code(Code.REQUEST_ENTITY_INCOMPLETE))
    net, client, server = pair(handler)
    assert code_of(client.fetch(server, put("p"), body=BODY)) == Code.CHANGED
    assert [block.number for block in blocks(client, "block1")] == [0, 1, 2, 0, 1, 2, 3]
    assert handler.store.body == BODY and handler.store.stored == 1


def test_408_for_ever_is_a_failure() -> None:
    def handler(peer, request: Message, exchange) -> Message:
        block = request.options.block1
        assert block is not None
        if block.number:
            return code(Code.REQUEST_ENTITY_INCOMPLETE)
        return code(Code.CONTINUE, block1=block)

    net, client, server = pair(handler)
    result = client.fetch(server, put("p"), body=BODY)
    assert isinstance(result, TransferFailed) and "4.08" in str(result)
    assert len(client.sent) == 2 * (MAX_RESTARTS + 1)


def test_408_to_the_first_block_is_an_answer() -> None:
    net, client, server = pair(scripted(code(Code.REQUEST_ENTITY_INCOMPLETE)))
    assert code_of(client.fetch(server, put("p"), body=BODY)) == Code.REQUEST_ENTITY_INCOMPLETE


def test_413_with_a_smaller_block_is_tried_again_in_that_size() -> None:
    too_large = Code.REQUEST_ENTITY_TOO_LARGE
    handler = scripted(
        code(too_large, block1=Block(0, True, 4)), None, code(too_large, block1=Block(0, True, 1))
    )
    net, client, server = pair(handler)
    assert code_of(client.fetch(server, put("p"), body=BODY)) == Code.CHANGED
    assert handler.store.body == BODY
    assert [block.szx for block in blocks(client, "block1")[:4]] == [6, 4, 4, 1]


def test_413_with_the_same_block_is_an_answer() -> None:
    too_large = code(Code.REQUEST_ENTITY_TOO_LARGE, block1=Block(0, True, 6))
    net, client, server = pair(scripted(too_large))
    assert code_of(client.fetch(server, put("p"), body=BODY)) == Code.REQUEST_ENTITY_TOO_LARGE
    assert len(client.sent) == 1


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_413_with_the_limit(announced: bool) -> None:
    net, client, server = pair(store := Store(limit=2000))
    if announced:
        result = client.fetch(server, put("p"), body=BODY)
        assert len(client.sent) == 1
    else:
        result = client.ask(server, with_block1(BODY[:1024], Block(0, True, 6)))
        assert code_of(result) == Code.CONTINUE
        result = client.ask(server, with_block1(BODY[1024:2048], Block(1, True, 6)))
    assert code_of(result) == Code.REQUEST_ENTITY_TOO_LARGE
    assert isinstance(result, Message) and result.options.size1 == 2000
    assert not store.stored and not store.assembler._partial


def with_block1(payload: bytes, block: Block, *path: str, **options: object) -> Message:
    options = {"path": path or ("p",), "block1": block, **options}
    return Message(Code.PUT, options=make_options(**options), payload=payload)  # type: ignore[arg-type]


def test_gaps_strays_and_wrong_lengths_are_refused() -> None:
    net, client, server = pair(store := Store())

    def ask(payload: bytes, number: int, more: bool, **how: object) -> int:
        return code_of(client.ask(server, with_block1(payload, Block(number, more, 0), **how)))

    full = bytes(16)
    assert ask(full, 1, True) == Code.REQUEST_ENTITY_INCOMPLETE  # never began
    assert ask(full, 0, True) == Code.CONTINUE
    assert ask(full, 2, True) == Code.REQUEST_ENTITY_INCOMPLETE  # a gap
    assert ask(full, 1, True) == Code.REQUEST_ENTITY_INCOMPLETE  # the partial body is gone
    assert ask(full, 0, True) == Code.CONTINUE
    assert ask(full, 1, True, content_format=42) == Code.REQUEST_ENTITY_INCOMPLETE
    assert ask(b"short", 0, True) == Code.BAD_REQUEST
    assert ask(bytes(17), 0, True) == Code.BAD_REQUEST
    assert ask(full, 0, True) == Code.CONTINUE
    assert ask(bytes(17), 1, False) == Code.BAD_REQUEST
    assert ask(full, 0, True) == Code.CONTINUE
    assert ask(full, 0, True) == Code.CONTINUE  # block 0 again: a new body
    assert ask(b"end", 1, False) == Code.CHANGED
    assert store.body == full + b"end" and store.stored == 1


def test_a_client_that_keeps_its_size_is_told_the_block_it_sent_in_ours() -> None:
    net, client, server = pair(Store(szx=0))
    for number in (0, 1):
        result = client.ask(server, with_block1(bytes(64), Block(number, True, 2)))
        assert isinstance(result, Message)
        assert result.options.block1 == Block(4 * number, True, 0)


def test_a_slow_body_lives_as_long_as_its_blocks_keep_coming() -> None:
    net, client, server = pair(store := Store())
    for number in range(4):
        answer = client.ask(server, with_block1(bytes(16), Block(number, number < 3, 0)))
        assert code_of(answer) == (Code.CONTINUE if number < 3 else Code.CHANGED)
        store.now += 200.0


def test_bodies_of_different_targets_and_peers_are_apart_and_bounded() -> None:
    net, client, server = pair(store := Store())
    other = End(net, ("other", 1), seed=9)
    block = Block(0, True, 0)
    for end in (client, other):
        for path in ("a", "b"):
            assert code_of(end.ask(server, with_block1(bytes(16), block, path))) == Code.CONTINUE
    assert len(store.assembler._partial) == 4
    for n in range(100):
        client.ask(server, with_block1(bytes(16), block, f"p{n}"))
    assert len(store.assembler._partial) == BodyAssembler.MAX_PARTIAL
    store.now = 1000.0
    late = with_block1(bytes(16), Block(1, True, 0), "p99")
    assert code_of(client.ask(server, late)) == Code.REQUEST_ENTITY_INCOMPLETE
    assert not store.assembler._partial


def test_a_server_that_wants_more_than_the_body_is_a_failure() -> None:
    echo = lambda peer, request, exchange: code(Code.CONTINUE, block1=request.options.block1)  # noqa: E731
    net, client, server = pair(echo)
    result = client.fetch(server, put("p"), body=BODY)
    assert isinstance(result, TransferFailed) and "more than the whole body" in str(result)


def test_a_success_before_the_last_block_is_no_success() -> None:
    progress: list[int] = []
    net, client, server = pair(scripted(None, code(Code.CHANGED)))
    result = client.fetch(server, put("p"), body=BODY, on_progress=progress.append)
    assert isinstance(result, TransferFailed) and "2048 of 3076 bytes" in str(result)
    assert progress == [1024]


def test_a_server_that_acts_on_each_block_gets_them_all() -> None:
    """RFC 7959 section 2.3: a final code whose Block1 has no M bit, before the last block."""
    taken: list[bytes] = []

    def handler(peer, request: Message, exchange) -> Message:
        block = request.options.block1
        assert block is not None
        taken.append(request.payload)
        return code(Code.CHANGED, block1=replace(block, more=False))

    net, client, server = pair(handler)
    assert code_of(client.fetch(server, put("p"), body=BODY)) == Code.CHANGED
    assert b"".join(taken) == BODY


def test_an_error_in_mid_transfer_is_the_result() -> None:
    net, client, server = pair(scripted(None, code(Code.FORBIDDEN)))
    assert code_of(client.fetch(server, put("p"), body=BODY)) == Code.FORBIDDEN
    assert len(client.sent) == 2


def test_a_cancelled_transfer_stops_even_from_its_own_callback() -> None:
    net, client, server = pair(Store())
    results: list[Result] = []
    transfers: list = []
    stop = lambda done: transfers[0].cancel()  # noqa: E731
    transfers.append(client.transfer(server, put("p"), results, body=BODY, on_progress=stop))
    net.run()
    assert len(client.sent) == 1 and not results


# -- Block2 ---------------------------------------------------------------------------------------


class Download:
    """What a caller collects of a streamed response."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bytes, int | None, bytes]] = []
        self.body = b""

    def __call__(self, offset: int, data: bytes, total: int | None, etag: bytes) -> bool:
        self.calls.append((offset, data, total, etag))
        self.body = self.body[:offset] + data
        return True


def serving(body: bytes = BODY, **how: object) -> tuple[Net, End, End, Store]:
    net, client, server = pair(store := Store(), **how)
    store.body = body
    return net, client, server, store


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 64, 1024, 1025, len(BODY)])
@pytest.mark.parametrize("szx", SIZES)
def test_a_response_comes_in_blocks_of_every_size(szx: int, size: int) -> None:
    net, client, server, _ = serving(BODY[:size])
    download = Download()
    result = client.fetch(server, get("image"), szx=szx, on_block=download)
    assert code_of(result) == Code.CONTENT and download.body == BODY[:size]
    assert all(total == size for _, _, total, _ in download.calls)
    assert {block.szx for block in blocks(client, "block2")} == {szx}
    joined = client.fetch(server, get("image"), szx=szx)
    assert isinstance(joined, Message) and joined.payload == BODY[:size]


@pytest.mark.parametrize("limit", SIZES)
@pytest.mark.parametrize("szx", SIZES)
def test_the_server_negotiates_block2_down(szx: int, limit: int) -> None:
    net, client, server, _ = serving()
    server.messages.peer(client.address).largest_block = limit
    download = Download()
    client.fetch(server, get("image"), szx=szx, on_block=download)
    assert download.body == BODY
    first, *rest = blocks(client, "block2")
    assert first.szx == szx and {block.szx for block in rest} == {min(szx, limit)}
    assert {block.szx for block in blocks(server, "block2")} == {min(szx, limit)}


def test_a_changed_etag_starts_again() -> None:
    net, client, server, store = serving()
    download = Download()

    def on_block(offset: int, data: bytes, total: int | None, etag: bytes) -> bool:
        if len(download.calls) == 1:
            store.body = BODY[::-1] + b"longer"
        return download(offset, data, total, etag)

    client.fetch(server, get("image"), on_block=on_block)
    assert [call[0] for call in download.calls] == [0, 1024, 0, 1024, 2048, 3072]
    assert download.body == store.body
    assert download.calls[0][3] != download.calls[-1][3]


def test_a_joined_response_has_nothing_of_the_state_before() -> None:
    states = iter([BODY, BODY, BODY[::-1]])
    last = [b""]

    def handler(peer, request: Message, exchange) -> Message:
        last[0] = next(states, last[0])
        return response(Code.CONTENT, payload=last[0])

    net, client, server = pair(handler)
    result = client.fetch(server, get("image"))
    assert isinstance(result, Message) and result.payload == BODY[::-1]


def test_an_etag_that_always_changes_is_a_failure() -> None:
    net, client, server, store = serving()

    def on_block(offset: int, data: bytes, total: int | None, etag: bytes) -> bool:
        store.body = etag + store.body
        return True

    result = client.fetch(server, get("image"), on_block=on_block)
    assert isinstance(result, TransferFailed) and "ETag changed" in str(result)


@pytest.mark.parametrize("szx", SIZES)
@pytest.mark.parametrize("offset", [1, 16, 1000, 1024, 1500, 3072, 3075, 3076])
def test_a_download_resumes_where_it_stopped(offset: int, szx: int) -> None:
    net, client, server, store = serving()
    whole = Download()
    client.fetch(server, get("image"), on_block=whole)
    before = len(server.sent)
    rest = Download()
    rest.body = BODY[:offset]
    etag = whole.calls[0][3]
    result = client.fetch(server, get("image"), on_block=rest, offset=offset, etag=etag, szx=szx)
    assert code_of(result) == Code.CONTENT and rest.body == BODY
    assert rest.calls[0][0] == offset
    blocks_left = -(-(len(BODY) - offset // (16 << szx) * (16 << szx)) // (16 << szx))
    assert len(server.sent) - before == blocks_left


def test_a_resumed_download_of_another_image_starts_again() -> None:
    net, client, server, store = serving()
    rest = Download()
    result = client.fetch(server, get("image"), on_block=rest, offset=2048, etag=b"old")
    assert code_of(result) == Code.CONTENT and rest.body == BODY and rest.calls[0][0] == 0


def test_a_server_that_has_forgotten_the_transfer_is_asked_from_the_start() -> None:
    """aiocoap keeps block-wise state by client address: after a reboot it answers 4.08."""

    def handler(peer, request: Message, exchange) -> Message:
        block = request.options.block2
        if block is not None and block.number and not served:
            return response(Code.REQUEST_ENTITY_INCOMPLETE)
        served.append(block)
        return response(Code.CONTENT, payload=BODY)

    served: list[object] = []
    net, client, server = pair(handler)
    rest = Download()
    result = client.fetch(server, get("image"), on_block=rest, offset=2048, etag=b"tag")
    assert code_of(result) == Code.CONTENT and rest.body == BODY and rest.calls[0][0] == 0


@pytest.mark.parametrize("offset", [1024, 1500, 2000])
def test_a_resumed_download_takes_smaller_blocks_than_it_asked_for(offset: int) -> None:
    net, client, server, store = serving()
    whole = Download()
    client.fetch(server, get("image"), on_block=whole)
    server.messages.peer(client.address).largest_block = 1
    rest = Download()
    rest.body = BODY[:offset]
    client.fetch(server, get("image"), on_block=rest, offset=offset, etag=whole.calls[0][3])
    assert rest.body == BODY


def test_resuming_at_the_very_end_of_whole_blocks_is_the_servers_error() -> None:
    net, client, server, _ = serving(BODY[:2048])
    result = client.fetch(server, get("image"), on_block=Download(), offset=2048)
    assert code_of(result) == Code.BAD_REQUEST


def block2(number: int, more: bool, data: bytes, *, szx: int = 0, etag: bytes = b"e") -> Message:
    options = make_options(block2=Block(number, more, szx), etag=etag)
    return response(Code.CONTENT, options, data)


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ([block2(1, True, bytes(16))], "sent block 1 .byte 16., byte 0 was asked for"),
        ([block2(0, True, bytes(16)), block2(2, True, bytes(16))], "block 2"),
        ([block2(0, True, bytes(16)), block2(0, True, bytes(16))], "block 0"),
        ([block2(0, True, bytes(16)), block2(0, False, bytes(3))], "block 0"),
        ([block2(0, True, bytes(15))], "15 bytes as a block of 16"),
        ([block2(0, True, b"")], "0 bytes as a block of 16"),
        ([block2(0, False, bytes(17))], "17 bytes as a block of 16"),
    ],
)
def test_blocks_that_do_not_fit_are_a_failure(answers: list[Message], text: str) -> None:
    net, client, server = pair(scripted(*answers))
    download = Download()
    result = client.fetch(server, get("image"), szx=0, on_block=download)
    assert isinstance(result, TransferFailed)
    with pytest.raises(TransferFailed, match=text):
        raise result
    assert download.body == bytes(16 * (len(answers) - 1))


class Simple:
    """An end that knows no block-wise: one answer after the other, piggybacked."""

    def __init__(self, net: Net, address: tuple[str, int], *answers: Message) -> None:
        self.net, self.address, self.answers = net, address, iter(answers)
        self.messages = self
        net.ends[address] = self  # type: ignore[assignment]

    def receive(self, data: bytes, source: tuple[str, int], now: float) -> None:
        _, mid, message = decode_datagram(data)
        answer = next(self.answers)
        answer.token = message.token
        self.net.carry(self.address, encode_datagram(ACK, mid, answer), source)


def test_a_response_without_block2_in_mid_transfer_starts_again() -> None:
    net, client, server = pair()
    whole = response(Code.CONTENT, payload=b"short now")
    Simple(net, server.address, block2(0, True, bytes(16)), whole, whole)
    download = Download()
    result = client.fetch(server, get("image"), szx=0, on_block=download)
    assert code_of(result) == Code.CONTENT and download.body == b"short now"
    assert [block.number for block in blocks(client, "block2")] == [0, 1, 0]


def test_a_server_that_knows_no_block_wise_gives_the_whole_at_once() -> None:
    net, client, server = pair()
    Simple(net, server.address, response(Code.CONTENT, payload=BODY[:1000]))
    download = Download()
    result = client.fetch(server, get("image"), szx=0, on_block=download)
    assert code_of(result) == Code.CONTENT
    assert download.calls == [(0, BODY[:1000], 1000, b"")]


def test_a_joined_response_is_bounded() -> None:
    net, client, server, _ = serving()
    result = client.fetch(server, get("image"), max_body=2000)
    assert isinstance(result, TransferFailed) and "exceeds 2000 bytes" in str(result)


def test_a_caller_that_has_enough_stops_the_transfer() -> None:
    net, client, server, _ = serving()
    results: list[Result] = []
    client.transfer(server, get("image"), results, on_block=lambda *block: False)
    net.run()
    assert not results and len(client.sent) == 1


def test_a_download_cancelled_in_its_callback_stops() -> None:
    net, client, server, _ = serving()
    results: list[Result] = []
    transfers: list = []

    def on_block(*block: object) -> bool:
        transfers[0].cancel()
        return True

    transfers.append(client.transfer(server, get("image"), results, on_block=on_block))
    net.run()
    assert not results and len(client.sent) == 1


def test_a_long_response_to_a_post_is_fetched_whole() -> None:
    def handler(peer, request: Message, exchange) -> Message:
        return response(Code.CONTENT, payload=BODY)

    net, client, server = pair(handler)
    result = client.fetch(server, post("q"), body=b"question")
    assert isinstance(result, Message) and result.payload == BODY


def test_a_block_past_the_end_and_a_reserved_size_are_bad_requests() -> None:
    net, client, server, _ = serving()
    for value in (Block(100, False, 6).encode(), b"\x07", b"\x0f"):
        message = Message(Code.GET, options=Options.of((23, value)))
        assert code_of(client.ask(server, message)) == Code.BAD_REQUEST


def test_a_transfer_whose_server_goes_away_fails_once() -> None:
    net, client, server, _ = serving(tuning=DEFAULT_TUNING)
    results: list[Result] = []

    def gone(*block: object) -> bool:
        net.ends.pop(server.address, None)
        return True

    client.transfer(server, get("image"), results, on_block=gone)
    net.run()
    assert len(results) == 1 and "no answer from coap://server:5683" in str(results[0])
