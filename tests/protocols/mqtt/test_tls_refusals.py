"""What a person reads when the transport to real brokers and a broker do not trust each other. What
follows a handshake that works is shown against mosquitto (tests/interop/test_mosquitto.py)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.credentials import Credential
from agent.runtime.mqtt import MqttCause, MqttSettings
from protocols.mqtt.transport import AiomqttTransport
from tests.protocols.http.transport.certificates import Authority, authority
from tests.protocols.mqtt.contract import Heard

HANGS = 20.0


@asynccontextmanager
async def serving(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A port with nothing but a TLS handshake; without a context, nonsense."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if context is None:
            writer.write(b"this is no TLS at all\r\n")
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def outcome(port: int, host: str = "127.0.0.1") -> Heard:
    heard = Heard()
    transport = AiomqttTransport()
    credential = Credential(authorities=authority().pem)
    transport.open(MqttSettings(host, port, "x", tls=True, credential=credential), heard)
    async with asyncio.timeout(HANGS):
        while heard.over is None:
            await asyncio.sleep(0.005)
        await transport.close()
    return heard


@pytest.mark.parametrize(
    ("signed_by", "until", "host", "reason"),
    [
        (authority("a stranger"), 2120, "127.0.0.1", "unable to get local issuer certificate"),
        (authority(), 2021, "127.0.0.1", "certificate has expired"),
        (
            authority(),
            2120,
            "localhost",
            "Hostname mismatch, certificate is not valid for 'localhost'.",
        ),
    ],
)
async def test_a_broker_that_is_not_trusted(
    tmp_path: Path, signed_by: Authority, until: int, host: str, reason: str
) -> None:
    async with serving(signed_by.server(tmp_path, until=until)) as port:
        heard = await outcome(port, host)
    assert heard.over is MqttCause.UNTRUSTED
    assert heard.detail == f"{host}:{port}: the broker's certificate is not trusted: {reason}"


async def test_a_broker_that_refuses_our_handshake(tmp_path: Path) -> None:
    """TLS 1.2: with 1.3 a broker judges our certificate after our handshake has ended."""
    context = authority().server(tmp_path, mutual=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def refuse(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted, contextlib.suppress(ssl.SSLError):
            context.wrap_socket(accepted, server_side=True)

    # Not asyncio's server: it closes before its alert has left.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(HANGS)
        refusing = asyncio.ensure_future(asyncio.to_thread(refuse, listener))
        heard = await outcome(listener.getsockname()[1])
        await refusing
    assert heard.over is MqttCause.UNTRUSTED, heard.detail
    assert "the broker refused our TLS handshake: " in heard.detail
    assert "alert handshake failure" in heard.detail


async def test_a_port_that_speaks_no_tls() -> None:
    async with serving(None) as port:
        heard = await outcome(port)
    assert heard.over is MqttCause.UNREACHABLE
    assert heard.detail == f"127.0.0.1:{port}: no TLS session: wrong version number"
