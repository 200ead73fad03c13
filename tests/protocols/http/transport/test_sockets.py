"""The aiohttp adapter against servers that no ASGI application could be: liars, and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent import Runtime
from agent.credentials import Credential
from agent.runtime.http import HttpFailed, HttpIdentity, HttpTimeouts, Phase, Why
from protocols.http.aiohttp_transport import AiohttpClient, AiohttpTransport
from protocols.http.tls import TLS_BUFFER
from tests.protocols.http.transport.certificates import authority
from tests.protocols.http.transport.houses import PATIENT, RATE, SHORT, raw_server, saying

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    async with Runtime.real(rate=RATE) as runtime:
        transport = AiohttpTransport(runtime, keep_alive=4)
        runtime.http = transport
        yield transport


def client(transport: AiohttpTransport, name: str = "dev-0", **identity: Any) -> AiohttpClient:
    return transport.client(HttpIdentity(name, **identity))


async def failure(
    transport: AiohttpTransport, url: str, timeouts: HttpTimeouts = PATIENT, **identity: Any
) -> HttpFailed:
    with pytest.raises(HttpFailed) as caught:
        await client(transport, **identity).request("GET", url, timeouts=timeouts)
    return caught.value


MALFORMED = {
    "not HTTP": b"220 smtp.example ESMTP\r\n\r\n",
    "a length that is no number": OK + b"Content-Length: many\r\n\r\n",
    "a negative length": OK + b"Content-Length: -1\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a field without a name": OK + b": x\r\n\r\n",
    "a chunk size that is no number": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n",
    "one endless field": OK + b"X: " + b"y" * 200_000,
    "many fields": OK + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "a status line without end": b"HTTP/1.1 200 " + b"O" * 200_000,
    "another protocol, unasked": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_not_http_is_a_violation(transport: AiohttpTransport, answer: bytes) -> None:
    async with raw_server(saying(answer, hang=True)) as origin:
        assert (await failure(transport, origin)).why is Why.VIOLATION


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        OK + b"Content-Length: 100\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    ],
)
async def test_what_ends_too_early_is_a_cut(transport: AiohttpTransport, answer: bytes) -> None:
    async with raw_server(saying(answer)) as origin:
        assert (await failure(transport, origin)).why is Why.CUT


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
        OK + b"Content-Length: 100\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\nshort",
    ],
)
async def test_what_does_not_end_is_a_timeout(transport: AiohttpTransport, answer: bytes) -> None:
    async with raw_server(saying(answer, hang=True)) as origin:
        assert (await failure(transport, origin, SHORT)).why is Why.TIMEOUT


async def test_a_head_that_trickles_is_a_timeout(transport: AiohttpTransport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        while not writer.is_closing():
            writer.write(b"X: y\r\n")
            await writer.drain()
            await transport.runtime.clock.sleep(0.2)

    async with raw_server(answer) as origin:
        failed = await failure(transport, origin, SHORT)
    assert (failed.why, failed.phase) == (Why.TIMEOUT, Phase.WAIT)


UPLOAD = bytes(12 << 20)  # more than the kernel keeps for both ends


async def test_a_long_body_may_take_longer_than_an_answer(transport: AiohttpTransport) -> None:
    """As long as it gets shorter; the buffer is a stub, for the kernel's own cannot be told to."""

    class Shrinking:
        def __init__(self, *left: int) -> None:
            self.left = list(left)
            self.aborted = False

        @property
        def transport(self) -> Shrinking:
            return self

        def get_write_buffer_size(self) -> int:
            return self.left.pop(0)

        def abort(self) -> None:
            self.aborted = True

    async with raw_server(saying(OK + b"Content-Length: 1\r\n\r\nx")) as origin:
        device = client(transport)
        async with device.stream("GET", origin):
            (wire,) = device.wires
            real, wire._unsent = wire._proto, 1001
            stub = Shrinking(1000, 300, 300)
            wire._proto = stub  # type: ignore[assignment]
            for aborted in (False, False, True):
                wire._expired(0.0)
                assert stub.aborted is aborted
            wire._proto = real


async def test_a_server_that_does_not_read_is_a_timeout(transport: AiohttpTransport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with raw_server(answer) as origin:
        with pytest.raises(HttpFailed) as caught:
            await client(transport).request("POST", origin, body=UPLOAD, timeouts=SHORT)
    assert (caught.value.why, caught.value.phase) == (Why.TIMEOUT, Phase.SEND)


async def test_a_body_without_a_length_ends_with_the_connection(
    transport: AiohttpTransport,
) -> None:
    async with raw_server(saying(b"HTTP/1.0 200 OK\r\n\r\nall of it")) as origin:
        assert (await client(transport).request("GET", origin)).body == b"all of it"


async def test_more_than_the_announced_length_is_not_the_next_answer(
    transport: AiohttpTransport,
) -> None:
    lie = OK + b"Content-Length: 5\r\n\r\nshort" + OK + b"Content-Length: 4\r\n\r\nevil"
    async with raw_server(saying(lie)) as origin:
        device = client(transport)
        for _ in range(3):
            assert (await device.request("GET", origin)).body == b"short"


async def test_connections_are_kept_and_never_shared(transport: AiohttpTransport) -> None:
    peers: list[Any] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            peers.append(writer.get_extra_info("peername"))
            writer.write(OK + b"Content-Length: 0\r\n\r\n")

    async with raw_server(answer) as origin:
        one, twin = client(transport), client(transport)
        far = client(transport, "dev-1", source="127.0.0.9")
        for device in (one, one, twin, far, twin, far, one):
            await device.request("GET", origin)
    assert len(set(peers)) == 3
    assert peers[0] == peers[1] == peers[6] and peers[2] == peers[4]
    assert peers[3] == peers[5] and peers[3][0] == "127.0.0.9"


@pytest.mark.parametrize("source", ["192.0.2.1", "::1"])
async def test_a_source_address_that_cannot_be_is_named(
    transport: AiohttpTransport, source: str
) -> None:
    async with raw_server(saying(OK + b"\r\n")) as origin:
        failed = await failure(transport, origin, source=source)
    assert (failed.why, failed.phase) == (Why.UNREACHABLE, Phase.CONNECT)
    assert f"from {source}: " in str(failed)


async def test_a_redirect_with_a_body_keeps_its_connection(transport: AiohttpTransport) -> None:
    peers: list[Any] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            peers.append(writer.get_extra_info("peername"))
            if head.startswith(b"GET / "):
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 4\r\n\r\nhere")
            else:
                writer.write(OK + b"Content-Length: 2\r\n\r\nok")

    async with raw_server(answer) as origin:
        found = await client(transport).request("GET", origin, redirects=1)
    assert found.body == b"ok" and found.url == f"{origin}/x"
    assert len(peers) == 2 and len(set(peers)) == 1


async def test_a_kept_connection_is_closed_after_a_while(transport: AiohttpTransport) -> None:
    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        assert await reader.read() == b""
        closed.set()

    async with raw_server(answer) as origin:
        device = client(transport)
        await device.request("GET", origin)
        assert len(device.wires) == 1
        await asyncio.wait_for(closed.wait(), 10)
        assert device.wires == ()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_dead_kept_connection_costs_only_what_may_not_be_repeated(
    transport: AiohttpTransport, method: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")  # and says nothing to the second request

    async with raw_server(answer) as origin:
        device = client(transport)
        await device.request(method, origin)
        if method == "POST":
            with pytest.raises(HttpFailed) as caught:
                await device.request(method, origin)
            assert caught.value.why is Why.CUT
        else:
            assert (await device.request(method, origin)).status == 200


async def test_abort_resets_kept_and_busy_connections(transport: AiohttpTransport) -> None:
    ends: list[BaseException | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        try:
            await reader.read()
            ends.append(None)
        except OSError as error:
            ends.append(error)

    async with raw_server(answer) as origin:
        device = client(transport)
        await device.request("GET", origin)
        device.abort()
        assert device.wires == ()
        while not ends:
            await asyncio.sleep(0.01)
    assert isinstance(ends[0], ConnectionResetError), "the power is gone: no goodbye"


# -- TLS ----------------------------------------------------------------------------------------

FINE = OK + b"Content-Length: 2\r\n\r\nok"


async def test_tls_is_verified(transport: AiohttpTransport, tmp_path: Path) -> None:
    trusts = Credential(authorities=authority().pem)
    async with raw_server(saying(FINE), authority().server(tmp_path)) as origin:
        device = client(transport, credential=trusts)
        async with device.stream("GET", origin) as stream:
            assert await stream.read() == b"ok"
            (wire,) = device.wires
            tls = wire._proto.transport._ssl_protocol  # type: ignore[union-attr]
            assert len(tls._ssl_buffer) == TLS_BUFFER
        stranger = Credential(authorities=authority("another").pem)
        failed = await failure(transport, origin, credential=stranger)
        assert (failed.why, failed.phase) == (Why.UNTRUSTED, Phase.TLS)
        failed = await failure(transport, origin)
        assert failed.why is Why.UNTRUSTED
        careless = client(transport, credential=stranger, verify=False)
        assert (await careless.request("GET", origin)).body == b"ok"


@pytest.mark.parametrize("server", [{"address": "127.0.0.2"}, {"until": 2021}])
async def test_certificates_of_others_and_of_the_past_are_refused(
    transport: AiohttpTransport, tmp_path: Path, server: dict[str, Any]
) -> None:
    trusts = Credential(authorities=authority().pem)
    async with raw_server(saying(FINE), authority().server(tmp_path, **server)) as origin:
        failed = await failure(transport, origin, credential=trusts)
    assert (failed.why, failed.phase) == (Why.UNTRUSTED, Phase.TLS)


async def test_each_device_presents_its_own_certificate(
    transport: AiohttpTransport, tmp_path: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        subject = writer.get_extra_info("peercert")["subject"]
        name = subject[0][0][1].encode()
        writer.write(OK + b"Content-Length: %d\r\n\r\n%b" % (len(name), name))

    async with raw_server(answer, authority().server(tmp_path, mutual=True)) as origin:
        for name in ("dev-1", "dev-2"):
            certificate, key = authority().issue(name)
            own = Credential(certificate=certificate, private_key=key, authorities=authority().pem)
            device = client(transport, name, credential=own)
            assert (await device.request("GET", origin)).body == name.encode()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("certified", [False, True])
async def test_a_server_that_refuses_our_certificate(
    transport: AiohttpTransport, tmp_path: Path, version: ssl.TLSVersion, certified: bool
) -> None:
    """Its alert comes within the handshake (TLS 1.2) or after it (1.3). asyncio's own server sends
    none, so this one blocks, in a thread."""
    context = authority().server(tmp_path, mutual=True)
    context.maximum_version = version
    certificate, key = authority("another").issue("dev-1") if certified else (b"", b"")
    own = Credential(certificate=certificate, private_key=key, authorities=authority().pem)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        accepted, _ = listener.accept()
        accepted.settimeout(10)
        wrapped = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        with wrapped, contextlib.suppress(OSError):
            try:
                wrapped.do_handshake()
            except ssl.SSLError:
                # Closing with a request unread would reset the connection and lose the alert.
                while os.read(wrapped.fileno(), 65536):
                    pass

    server = asyncio.create_task(asyncio.to_thread(serve))
    try:
        failed = await failure(
            transport, "https://{}:{}".format(*listener.getsockname()), credential=own
        )
    finally:
        await server
        listener.close()
    assert (failed.why, failed.phase) == (Why.UNTRUSTED, Phase.TLS)


async def test_a_server_that_closes_in_the_handshake(transport: AiohttpTransport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with raw_server(answer) as origin:
        failed = await failure(transport, origin.replace("http:", "https:"))
    assert (failed.why, failed.phase) == (Why.CUT, Phase.TLS)


async def test_a_server_without_tls(transport: AiohttpTransport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(answer) as origin:
        failed = await failure(transport, origin.replace("http:", "https:"))
    assert (failed.why, failed.phase) == (Why.VIOLATION, Phase.TLS)


async def test_a_server_that_never_answers_the_handshake(transport: AiohttpTransport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with raw_server(answer) as origin:
        brief = HttpTimeouts(connect=1)
        failed = await failure(transport, origin.replace("http:", "https:"), brief)
    assert (failed.why, failed.phase) == (Why.TIMEOUT, Phase.CONNECT)


# -- proxies ------------------------------------------------------------------------------------


class Proxy:
    """Forwards nothing: answers what is addressed to others, and opens tunnels."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, _ = head.split("\r\n")[0].split(" ")
        if method != "CONNECT":
            writer.write(FINE)
            return
        host, _, port = target.rpartition(":")
        if port == "1":
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)

        pumps = [
            asyncio.ensure_future(pump(reader, back)),
            asyncio.ensure_future(pump(there, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            back.close()


async def test_plain_requests_are_addressed_through_the_proxy(
    transport: AiohttpTransport,
) -> None:
    proxy = Proxy()
    async with raw_server(proxy) as origin:
        device = client(transport, proxy=origin.replace("http://", "http://user:pass@"))
        assert (await device.request("GET", "http://10.9.8.7/x?y")).body == b"ok"
    (head,) = proxy.heads
    assert head.startswith("GET http://10.9.8.7/x?y HTTP/1.1\r\nHost: 10.9.8.7\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in head


async def test_tls_goes_through_a_tunnel(transport: AiohttpTransport, tmp_path: Path) -> None:
    trusts = Credential(authorities=authority().pem)
    proxy = Proxy()
    async with (
        raw_server(saying(FINE), authority().server(tmp_path)) as origin,
        raw_server(proxy) as between,
    ):
        device = client(transport, credential=trusts, proxy=between)
        answer = await device.request("GET", origin, headers=[("Authorization", "secret")])
        assert answer.body == b"ok"
        failed = await failure(transport, "https://127.0.0.1:1/", proxy=between)
        assert (failed.why, failed.phase) == (Why.UNREACHABLE, Phase.CONNECT)
        assert "403" in str(failed)
    assert proxy.heads[0].startswith("CONNECT 127.0.0.1:")
    assert "secret" not in proxy.heads[0]


async def test_a_proxy_that_is_not_there(transport: AiohttpTransport) -> None:
    failed = await failure(transport, "http://10.9.8.7/", proxy="http://u:secret@127.0.0.1:1")
    assert failed.why is Why.UNREACHABLE and "secret" not in str(failed)
