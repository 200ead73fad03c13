"""The transport to real brokers, against mosquitto: the contract, TLS, a fleet in one process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.credentials import Credential
from agent.runtime.clock import LoopClock
from agent.runtime.mqtt import MqttCause, MqttSettings
from protocols.http.tls import BadCredential
from protocols.mqtt import AiomqttTransport
from protocols.mqtt.transport import CONNECT_THREADS
from tests.protocols.mqtt.contract import SCENES, Heard, Scene, World
from tools.bench.mqtt_broker import Authority, Mosquitto, mosquitto
from tools.bench.ports import free_port

FLEET = 2000

PATIENCE = 120.0
"""Seconds until what was waited for must have happened; it takes two or three."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture
async def transport() -> AsyncIterator[AiomqttTransport]:
    transport = AiomqttTransport()
    yield transport
    await transport.close()
    assert len(transport) == 0


def plain(broker: Mosquitto) -> MqttSettings:
    return MqttSettings("127.0.0.1", broker.port, f"test-{uuid.uuid4().hex[:8]}")


def secure(broker: Mosquitto, credential: Credential) -> MqttSettings:
    settings = replace(plain(broker), port=broker.tls_port)
    return replace(settings, tls=True, credential=credential)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_contract(
    scene: Scene, tls: bool, broker: Mosquitto, transport: AiomqttTransport
) -> None:
    settings = secure(broker, broker.authority.issue("device")) if tls else plain(broker)
    async with asyncio.timeout(PATIENCE):
        await scene(World(transport, LoopClock(), settings))


async def refused(transport: AiomqttTransport, settings: MqttSettings) -> Heard:
    heard = Heard()
    transport.open(settings, heard)
    async with asyncio.timeout(PATIENCE):
        while heard.over is None:
            await asyncio.sleep(0.01)
    assert heard.present is None
    return heard


async def test_tls_verifies_both_sides(broker: Mosquitto, transport: AiomqttTransport) -> None:
    own = broker.authority.issue("device")
    stranger = Authority("somebody else's")
    # The broker's certificate is from an authority that the device does not trust.
    heard = await refused(transport, secure(broker, replace(own, authorities=stranger.pem)))
    assert heard.over is MqttCause.UNTRUSTED
    assert "the broker's certificate is not trusted: self-signed certificate in" in heard.detail
    # The device has no certificate, or one that the broker does not trust.
    for credential in (
        replace(own, certificate=b"", private_key=b""),
        replace(stranger.issue("device"), authorities=broker.authority.pem),
    ):
        heard = await refused(transport, secure(broker, credential))
        assert heard.over is MqttCause.UNREACHABLE
    # The name: the certificate is for 127.0.0.1.
    heard = await refused(transport, replace(secure(broker, own), host="localhost"))
    assert heard.over is MqttCause.UNTRUSTED
    assert "not valid for 'localhost'" in heard.detail
    # A credential that is none.
    for broken in (
        Credential(certificate=own.certificate, private_key=b"no key"),
        Credential(authorities=b"nobody"),
    ):
        with pytest.raises(BadCredential) as caught:
            transport.open(secure(broker, broken), Heard())
        assert "no key" not in str(caught.value)
    assert len(transport) == 0


async def test_nobody_listens(transport: AiomqttTransport) -> None:
    heard = await refused(transport, MqttSettings("127.0.0.1", free_port(), "x"))
    assert heard.over is MqttCause.UNREACHABLE
    assert "refused" in heard.detail


async def test_a_server_that_is_no_broker(transport: AiomqttTransport) -> None:
    """It announces a packet of 200 MB, sends nothing, or nonsense."""
    answers = iter(
        [b"\x20\xff\xff\xff\x5f" + bytes(3000), b"HTTP/1.1 400 Bad Request\r\n\r\n", b""]
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(next(answers))
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for _ in range(3):
        heard = await refused(transport, MqttSettings("127.0.0.1", port, "x"))
        assert heard.over is MqttCause.UNREACHABLE
    server.close()
    await server.wait_closed()


async def test_one_context_for_each_set_of_credentials(
    broker: Mosquitto, transport: AiomqttTransport
) -> None:
    world = World(transport, LoopClock(), secure(broker, broker.authority.issue("fleet")))
    for number in range(20):
        await world.connect(world.named(str(number)))
    assert len(transport.contexts._contexts) == 1
    other = replace(world.named("other"), credential=broker.authority.issue("other"))
    connection, heard = await world.connect(other)
    assert len(transport.contexts._contexts) == 2
    connection.close()
    await world.until(lambda: heard.over is not None, "the goodbye")
    del connection
    await world.until(lambda: len(transport.contexts._contexts) == 1, "the end of its context")


async def test_a_fleet_in_one_process(broker: Mosquitto, transport: AiomqttTransport) -> None:
    """Two thousand devices connect, each gets the message that is meant for it, all say goodbye;
    while they are idle they own no task."""
    world = World(transport, LoopClock(), plain(broker))
    devices = [Heard() for _ in range(FLEET)]
    connections = [
        transport.open(replace(world.named(str(number)), bind="127.0.0.1"), heard)
        for number, heard in enumerate(devices)
    ]
    async with asyncio.timeout(2 * PATIENCE):
        while not all(heard.present is not None for heard in devices):
            await asyncio.sleep(0.05)
        for number, connection in enumerate(connections):
            connection.subscribe(world.topic(f"to/{number}"))
        while not all(heard.granted for heard in devices):
            await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) < 10
        sender, _ = await world.connect(world.named("sender"))
        for number in range(FLEET):
            sender.publish(world.topic(f"to/{number}"), b"%d" % number)
        while not all(heard.messages for heard in devices):
            await asyncio.sleep(0.05)
    for number, heard in enumerate(devices):
        assert heard.messages == [(world.topic(f"to/{number}"), b"%d" % number)]
        assert heard.over is None
    await transport.close()
    assert all(heard.over is MqttCause.CLOSED for heard in devices)


class Puppet:
    """A server that says what it is told to and notes what it hears."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heard: list[bytes] = []
        self.closed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # who has had enough resets the connection
            while data := await reader.read(4096):
                self.heard.append(data)
                if self.answers:
                    writer.write(self.answers.pop(0))
                    await writer.drain()
        writer.close()
        self.closed.set()


CONNACK = b"\x20\x02\x00\x00"
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"


async def play(puppet: Puppet, transport: AiomqttTransport, heard: Heard, keepalive: int) -> None:
    server = await asyncio.start_server(puppet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport.open(MqttSettings("127.0.0.1", port, "x", keepalive=keepalive), heard)
    async with asyncio.timeout(PATIENCE):
        while heard.over is None:
            await asyncio.sleep(0.01)
        await puppet.closed.wait()
    server.close()
    await server.wait_closed()


async def test_the_keep_alive_finds_a_broker_that_went_silent(transport: AiomqttTransport) -> None:
    heard = Heard()
    puppet = Puppet(CONNACK, PINGRESP)
    await play(puppet, transport, heard, keepalive=1)
    assert heard.present is False
    assert heard.over is MqttCause.LOST
    # The first was answered, the second was not.
    assert puppet.heard[1:] == [PINGREQ, PINGREQ]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x30\xff\xff\xff\x7f" + bytes(2000),  # a message of 256 MiB
        b"\x30\xff\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\x04\x00\x09ab",  # a topic longer than its packet
        b"\x30\x03\x00\x01\xff",  # a topic that is not UTF-8
        b"\x00\x00",  # no packet type
    ],
    ids=["huge", "length", "topic", "utf-8", "type"],
)
async def test_a_broker_that_breaks_the_protocol(
    nonsense: bytes, transport: AiomqttTransport
) -> None:
    heard = Heard()
    await play(Puppet(CONNACK + nonsense), transport, heard, keepalive=60)
    assert heard.present is False
    assert heard.over is MqttCause.LOST
    assert heard.messages == []


async def test_certificates_that_have_run_out(transport: AiomqttTransport) -> None:
    authority = Authority("test")
    credential = authority.issue("127.0.0.1", addresses=("127.0.0.1",), expired=True)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder, "chain.pem")
        chain.write_bytes(credential.certificate + credential.private_key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
    server = await asyncio.start_server(Puppet(CONNACK), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    trusted = Credential(authorities=authority.pem)
    settings = MqttSettings("127.0.0.1", port, "x", tls=True, credential=trusted)
    heard = await refused(transport, settings)
    assert heard.over is MqttCause.UNTRUSTED
    assert "expired" in heard.detail
    # Unless a person said that it need not be looked at.
    careless = Heard()
    connection = transport.open(replace(settings, verify=False), careless)
    async with asyncio.timeout(PATIENCE):
        while careless.present is None:
            await asyncio.sleep(0.01)
    connection.abort()
    server.close()
    await server.wait_closed()


async def test_closing_does_not_wait_for_what_waits_for_a_thread() -> None:
    """A server that accepts and then says nothing holds every thread until its timeout; who stands
    behind those is let go at once, and never reaches the server."""
    accepted = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = AiomqttTransport()
    heard = [Heard() for _ in range(100)]
    credential = Credential(authorities=Authority("any").pem)
    for number, one in enumerate(heard):
        settings = MqttSettings("127.0.0.1", port, f"c{number}", tls=True, credential=credential)
        transport.open(settings, one)
    async with asyncio.timeout(PATIENCE):
        while accepted < CONNECT_THREADS:
            await asyncio.sleep(0.01)
    await transport.close()
    assert accepted == CONNECT_THREADS
    assert len(transport) == 0
    assert all(one.over is MqttCause.CLOSED for one in heard)
    server.close()
    await server.wait_closed()
