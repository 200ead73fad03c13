"""The device listener on real sockets: TLS, certificates of clients, connections that stall."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.protocols.http.transport.certificates import Authority, authority
from tests.tools.backend.http_device import HttpDevice, devices
from tests.tools.backend.virtual import CONFIG, IMAGE, started
from tools.backend import listener
from tools.backend.backend import Backend
from tools.backend.config import Listen
from tools.backend.errors import ListenerRefused
from tools.backend.faces.base import TlsFiles

WAIT = 30.0  # seconds; only what is broken takes them


@asynccontextmanager
async def real(tls: TlsFiles | None = None) -> AsyncIterator[Backend]:
    async with (
        Runtime.real() as runtime,
        started(runtime, replace(CONFIG, listen={"http": Listen(tls=tls)})) as made,
    ):
        yield made


def tls_files(folder: Path) -> TlsFiles:
    trusted = authority()
    certificate, key = trusted.issue("server", address="127.0.0.1")
    paths = folder / "server.pem", folder / "server.key", folder / "devices.pem"
    for path, content in zip(paths, (certificate, key, trusted.pem), strict=True):
        path.write_bytes(content)
    return TlsFiles(*paths)


def context_of(
    folder: Path, name: str | None = None, signer: Authority | None = None
) -> ssl.SSLContext:
    """A client that trusts the test authority, with a certificate when it has a name."""
    context = ssl.create_default_context(cadata=authority().pem.decode())
    if name is not None:
        certificate, key = (signer or authority()).issue(name)
        path = folder / "client.pem"
        path.write_bytes(certificate + key)
        context.load_cert_chain(path)
    return context


async def test_a_whole_update_on_sockets() -> None:
    async with real() as backend, httpx.AsyncClient(base_url=backend.http_url) as client:
        assert backend.http_address is not None
        made = await devices(backend, client, 5)
        firmware = await backend.add_package(IMAGE, name="a", version="2", protocol="HTTP")
        campaign = await backend.create_campaign([device.name for device in made], firmware)

        async def live(device: HttpDevice) -> None:
            while "campaign" not in (answer := await device.check_in()):
                await asyncio.sleep(0.01)
            assert answer["campaign"]["url"].startswith(backend.http_url)
            assert await device.update(answer["campaign"]) == IMAGE

        async with asyncio.timeout(WAIT):
            await asyncio.gather(*map(live, made))
            await backend.finished.wait()
        assert {member.status for member in campaign.members.values()} == {"UpgradeSuccess"}


async def test_certificates_of_clients(tmp_path: Path) -> None:
    async with real(tls_files(tmp_path)) as backend:
        [device] = await devices(backend, httpx.AsyncClient(), 1)
        await device.client.aclose()
        url = f"{backend.http_url}/device/v1/checkin"
        assert url.startswith("https://")
        number = device.name.removeprefix("urn:imei:")

        async def status(headers: dict[str, str], context: ssl.SSLContext) -> int:
            async with httpx.AsyncClient(verify=context) as client:
                answer = await client.post(url, headers=headers, json=device.checkin_body())
                return answer.status_code

        assert await status({}, context_of(tmp_path, number)) == 200
        assert await status({}, context_of(tmp_path, device.name)) == 200
        assert await status(device.headers, context_of(tmp_path)) == 200
        assert await status(device.headers, context_of(tmp_path, number)) == 200
        assert await status({}, context_of(tmp_path)) == 401
        assert await status({}, context_of(tmp_path, "stranger")) == 401
        assert await status(device.headers, context_of(tmp_path, "stranger")) == 401
        # Nobody's certificate: whatever it says, the handshake ends it.
        forged = context_of(tmp_path, number, authority("another authority"))
        with pytest.raises(httpx.TransportError):
            await status(device.headers, forged)


async def test_requests_of_one_connection_have_one_client(tmp_path: Path) -> None:
    async with real(tls_files(tmp_path)) as backend:
        context = context_of(tmp_path, "350000000000000")
        async with httpx.AsyncClient(base_url=backend.http_url, verify=context) as client:
            [device] = await devices(backend, client, 1)
            device.headers = {}
            for _ in range(3):
                await device.check_in()


@pytest.mark.parametrize("which", ["cert", "key", "client_ca"])
async def test_bad_tls_files_are_named(tmp_path: Path, which: str) -> None:
    files = tls_files(tmp_path)
    missing = replace(files, **{which: tmp_path / "none.pem"})
    with pytest.raises(ListenerRefused, match=r"none\.pem: No such file"):
        async with real(missing):
            pass
    path: Path = getattr(files, which)
    path.write_bytes(b"no PEM")
    with pytest.raises(ListenerRefused, match=f"HTTP listener: .*{re.escape(str(path))}"):
        async with real(files):
            pass


@pytest.mark.parametrize(
    "sent", [b"", b"POST /device/v1/checkin HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\n"]
)
async def test_a_head_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(listener, "STALLED", 0.05)
    async with real() as backend:
        assert backend.http_address is not None
        reader, writer = await asyncio.open_connection(*backend.http_address)
        writer.write(sent)
        async with asyncio.timeout(WAIT):
            assert await reader.read() == b""
        writer.close()


async def test_a_second_head_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STALLED", 0.05)
    async with real() as backend:
        assert backend.http_address is not None
        reader, writer = await asyncio.open_connection(*backend.http_address)
        request = b"GET /device/v1/packages/1 HTTP/1.1\r\nHost: x\r\n\r\n"
        async with asyncio.timeout(WAIT):
            writer.write(request)
            assert b"401" in await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.2)  # idle is no fault
            writer.write(request)
            assert b"401" in await reader.readuntil(b"\r\n\r\n")
            writer.write(request[:20])
            assert await reader.read() == b""
        writer.close()


async def test_an_answer_that_nobody_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STALLED", 0.02)
    content = IMAGE * (8 << 10)  # more than the buffers of two sockets hold
    async with real() as backend, httpx.AsyncClient(base_url=backend.http_url) as client:
        [device] = await devices(backend, client, 1)
        firmware = await backend.add_package(content, name="a", version="2", protocol="HTTP")
        await backend.create_campaign([device.name], firmware)
        while "campaign" not in (answer := await device.check_in()):
            await asyncio.sleep(0.01)
        assert backend.http_address is not None
        path = httpx.URL(answer["campaign"]["url"]).path
        token = device.headers["Authorization"]
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"
        loop = asyncio.get_running_loop()
        with socket.socket() as lazy:
            lazy.setblocking(False)
            await loop.sock_connect(lazy, backend.http_address)
            await loop.sock_sendall(lazy, head.encode())
            connections = backend._served._listeners["http"]._server.server_state.connections
            async with asyncio.timeout(WAIT):
                while len(connections) < 2:
                    await asyncio.sleep(0.01)
                while len(connections) > 1:
                    await asyncio.sleep(0.01)
        assert (await device.fetch(answer["campaign"]["url"])).content == content


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"NONSENSE\r\n\r\n",
        b"POST /device/v1/checkin HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000,
    ],
)
async def test_what_is_no_http_costs_one_connection(sent: bytes) -> None:
    async with real() as backend, httpx.AsyncClient(base_url=backend.http_url) as client:
        [device] = await devices(backend, client, 1)
        assert backend.http_address is not None
        reader, writer = await asyncio.open_connection(*backend.http_address)
        writer.write(sent)
        try:
            async with asyncio.timeout(WAIT):
                answer = await reader.read()
        except ConnectionResetError:
            answer = b""
        finally:
            writer.close()
        assert not answer or answer.split()[1].startswith(b"4")
        await device.check_in()


async def test_the_answer_is_json_and_says_its_length() -> None:
    async with real() as backend, httpx.AsyncClient(base_url=backend.http_url) as client:
        [device] = await devices(backend, client, 1)
        answer = await device.post("/checkin", json=device.checkin_body())
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert json.loads(answer.content)["nextCheckIn"] == 5
