"""Delivery over real sockets: certificates, redirects, answers that are slow, huge or cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.protocols.http.transport.certificates import Authority, authority
from tests.tools.backend.callbacks.callback_raw import OK, raw, says
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, package, started
from tools.backend.callbacks import delivery
from tools.backend.callbacks.delivery import (
    MAX_ANSWER,
    CertificatesRefused,
    send,
    sockets,
    tls_context,
)

WAIT = 30.0  # seconds; only what is broken takes them
BODY = b'{"type":"x"}'


@asynccontextmanager
async def network(authorities: Path | None = None) -> AsyncIterator[httpx.AsyncBaseTransport]:
    transport = sockets(tls_context(authorities))
    async with asyncio.timeout(WAIT):
        yield transport
    await transport.aclose()


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority().pem)
    return path


async def test_a_message_and_its_head() -> None:
    async with raw(says(OK)) as listener, network() as transport:
        assert await send(transport, listener.url, 17, BODY) == ""
        assert await send(transport, listener.url, 18, BODY) == ""
        head, _, body = listener.requests[0].partition(b"\r\n\r\n")
        assert body == BODY
        lines = head.decode().lower().splitlines()
        assert lines[0] == "post /fota?key=secret http/1.1"
        assert "content-type: application/json" in lines
        assert "x-message-id: 17" in lines
        assert not any(line.startswith(("authorization", "cookie")) for line in lines)
        assert listener.connections == 1  # kept for the next message


async def test_cookies_are_not_kept() -> None:
    answer = b"HTTP/1.1 204 OK\r\nSet-Cookie: a=b\r\n\r\n"
    async with raw(says(answer)) as listener, network() as transport:
        for number in range(2):
            assert await send(transport, listener.url, number, BODY) == ""
        assert all(b"cookie" not in request.lower() for request in listener.requests)


async def test_the_environment_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with raw(says(OK)) as listener, network() as transport:
        assert await send(transport, listener.url, 1, BODY) == ""
        assert b"authorization" not in listener.requests[0].lower()


async def test_a_certificate_of_a_known_authority(tmp_path: Path, trusted: Path) -> None:
    tls = authority().server(tmp_path)
    async with raw(says(OK), tls) as listener, network(trusted) as transport:
        assert await send(transport, listener.url, 1, BODY) == ""


@rules("BR-133")
@pytest.mark.parametrize(
    ("signer", "address", "until", "why"),
    [
        (authority("another authority"), "127.0.0.1", 2120, "unable to get local issuer"),
        (authority(), "127.0.0.9", 2120, "IP address mismatch"),
        (authority(), "127.0.0.1", 2021, "expired"),
    ],
)
async def test_a_certificate_that_is_not_accepted(
    tmp_path: Path, trusted: Path, signer: Authority, address: str, until: int, why: str
) -> None:
    tls = signer.server(tmp_path, address=address, until=until)
    async with raw(says(OK), tls) as listener, network(trusted) as transport:
        error = await send(transport, listener.url, 1, BODY)
        assert error.startswith("certificate not accepted: ")
        assert why in error
        assert not listener.requests


async def test_the_systems_authorities_do_not_know_ours(tmp_path: Path) -> None:
    async with raw(says(OK), authority().server(tmp_path)) as listener, network() as transport:
        error = await send(transport, listener.url, 1, BODY)
        assert error.startswith("certificate not accepted: ")


async def test_a_server_without_tls(trusted: Path) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 no TLS here\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, network(trusted) as transport:
        error = await send(transport, f"https://127.0.0.1:{port}/", 1, BODY)
        assert error.startswith("TLS failed: ")


def test_authorities_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(CertificatesRefused, match="cannot read .*missing"):
        tls_context(tmp_path / "missing.pem")
    path = tmp_path / "wrong.pem"
    path.write_text("no certificate")
    with pytest.raises(CertificatesRefused, match="holds no PEM certificates"):
        tls_context(path)


@rules("BR-131")
async def test_redirects_are_not_followed() -> None:
    async with raw(says(OK)) as other, network() as transport:
        for status in (301, 302, 303, 307, 308):
            answer = f"HTTP/1.1 {status} Go\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n"
            async with raw(says(answer.encode())) as listener:
                assert await send(transport, listener.url, 1, BODY) == f"answered {status}"
                assert len(listener.requests) == 1
        assert not other.requests


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n<evil>", "answered 500"),
        (b"garbage <evil>\r\n\r\n", "the answer is not HTTP, or not whole"),
        (b"", "the answer is not HTTP, or not whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "the answer is not HTTP, or not whole"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
            "the answer is not HTTP, or not whole",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the answer is not HTTP, or not whole",
        ),
    ],
)
async def test_an_answer_that_is_none(answer: bytes, error: str) -> None:
    """What it says is repeated nowhere."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with raw(behave) as listener, network() as transport:
        assert await send(transport, listener.url, 1, BODY) == error


async def test_a_connection_that_is_reset_in_mid_answer() -> None:
    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with raw(behave) as listener, network() as transport:
        error = await send(transport, listener.url, 1, BODY)
        assert error in ("the connection broke", "the answer is not HTTP, or not whole")


async def test_nobody_is_there() -> None:
    async with raw(says(OK)) as listener:
        url = listener.url
    async with network() as transport:
        assert await send(transport, url, 1, BODY) == "cannot connect"


@rules("BR-131")
async def test_an_answer_that_comes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT", 0.2)
    silent = says(b"", stays=True)
    half = says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", stays=True)

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Never silent, never done."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    for behave in (silent, half, drip):
        async with raw(behave) as listener, network() as transport:
            assert await send(transport, listener.url, 1, BODY) == "no answer within 0.2 s"


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    sent = 0

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 1 << 30:
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    async with raw(behave) as listener, network() as transport:
        # Its status has arrived; what else it says is of no interest.
        assert await send(transport, listener.url, 1, BODY) == ""
        assert sent < 1 << 25  # what the buffers of both sides hold
    assert MAX_ANSWER < 1 << 20


async def test_a_slow_listener_uses_up_no_connection_of_another(trusted: Path) -> None:
    async with (
        raw(says(b"", stays=True)) as slow,
        raw(says(OK)) as quick,
        network(trusted) as transport,
    ):
        hanging = [
            asyncio.create_task(send(transport, slow.url, number, BODY)) for number in range(120)
        ]
        while slow.connections < len(hanging):
            await asyncio.sleep(0.01)
        assert await send(transport, quick.url, 1, BODY) == ""
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_whole_backend_delivers_over_tls(tmp_path: Path, trusted: Path) -> None:
    config = replace(CONFIG, callback_ca=trusted)
    async with (
        raw(says(OK), authority().server(tmp_path)) as listener,
        Runtime.real() as runtime,
        started(runtime, config) as backend,
        asyncio.timeout(WAIT),
    ):
        account = backend.account.name
        await backend.callbacks.register(account, 3, listener.url)
        # Nobody listens there: it holds up nothing.
        await backend.callbacks.register(account, 1, "http://127.0.0.1:1/")
        await package(backend)
        while backend.callbacks.counters()["delivered"] < 1:
            await asyncio.sleep(0.01)
        assert b'"type":"newFirmware"' in listener.requests[0]
        [waiting] = backend.callbacks.pending()
        assert (waiting.version, waiting.kind) == (1, "newFirmware")
        while not waiting.error:
            await asyncio.sleep(0.01)
        assert waiting.error == "cannot connect"
