"""Downloads through Debian's nginx: ranges, resumption, changes, TLS with certificates."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent import Device, FaultPlan, Outcome, Runtime
from agent.credentials import Credential
from agent.flash import SECONDARY
from agent.protocol import ClientSettings
from agent.runtime.http import HttpFailed, Why
from agent.update import State
from protocols.http.download import Download, Resource
from tests.agent.parts import image, old_image, trusted
from tests.protocols.http.http_world import IdlePoller
from tests.protocols.http.transport.certificates import authority
from tools.bench.http_nginx import Nginx

IMAGE = image(3, 40_000, 3)
OTHER = image(4, 41_000, 4)
SLOT = 64 * 1024
SECONDS = 180.0

FILES = """
        location /files/ {{ root {folder}; }}
        location /slow/ {{ alias {folder}/files/; limit_rate 60k; sendfile off; }}
        location /busy/ {{ add_header Retry-After 1 always; return 503; }}
        location /moved/ {{ return 302 /files/image; }}
        location /whoami {{ return 200 $ssl_client_s_dn; }}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "image").write_bytes(IMAGE)
    certificate, key = authority().issue("server", address="127.0.0.1")
    (tmp_path / "server.pem").write_bytes(certificate + key)
    (tmp_path / "authority.pem").write_bytes(authority().pem)
    return folder


def nginx(files: Path, verify: str = "") -> Nginx:
    return Nginx(files.parent, verify=verify, more=FILES.format(folder=files.parent))


def own_credential(device: Device) -> Credential:
    certificate, key = authority().issue(device.name)
    return Credential(certificate=certificate, private_key=key, authorities=authority().pem)


@asynccontextmanager
async def fleet(
    server: Nginx,
    count: int = 1,
    *,
    faults: FaultPlan | None = None,
    credential: Credential | None = None,
    rate: float = 5.0,
) -> AsyncIterator[list[Device]]:
    """`rate` is how fast devices live: quickly where they wait before they try again, not where
    many of them, or one that tries once, have to come through in time."""
    settings = ClientSettings(
        server=server.origin,
        credential=own_credential if credential is None else lambda device: credential,
    )
    async with Runtime.real(seed=7, rate=rate) as runtime:
        devices = []
        for index in range(count):
            plan = None if faults is None else dataclasses.replace(faults)
            device = Device(
                runtime,
                f"dev-{index}",
                image=old_image(),
                trusted=trusted(),
                slot_size=SLOT,
                index=index,
                faults=plan,
            )
            device.attach(lambda device: IdlePoller(device, settings))
            device.power_on()
            devices.append(device)
        while any(device.client is None for device in devices):
            await asyncio.sleep(0.01)
        try:
            yield devices
        finally:
            for device in devices:
                device.power_off()


def poller(device: Device) -> IdlePoller:
    assert isinstance(device.client, IdlePoller)
    return device.client


def resource(server: Nginx, path: str = "files/image", data: bytes = IMAGE) -> Resource:
    hashes = {name: hashlib.new(name, data).hexdigest() for name in ("sha256", "sha1", "md5")}
    return Resource(f"{server.origin}/{path}", len(data), hashes)


def stored(device: Device, data: bytes = IMAGE) -> bool:
    return device.flash.read(SECONDARY, 0, len(data)) == data


async def test_a_download_is_resumed_after_every_cut(files: Path) -> None:
    cuts = (1, 5000, 20_000, 39_999)
    with nginx(files) as server:
        async with fleet(server, faults=FaultPlan(cut_downloads=cuts)) as (device,):
            download = Download(poller(device), resource(server))
            assert await asyncio.wait_for(download.run(), SECONDS)
            assert device.faults is not None and device.faults.cut_downloads == ()
            assert stored(device) and download.received == len(IMAGE)
            assert download.status == 206


async def test_a_file_that_changes_under_the_download_begins_again(files: Path) -> None:
    with nginx(files) as server:
        async with fleet(server, faults=FaultPlan(cut_downloads=(20_000,))) as (device,):

            def progress(offset: int, size: int | None) -> None:
                if offset == 20_000:
                    (files / "new").write_bytes(OTHER)
                    os.replace(files / "new", files / "image")

            unannounced = Resource(f"{server.origin}/files/image")
            download = Download(poller(device), unannounced, on_progress=progress)
            assert await asyncio.wait_for(download.run(), SECONDS)
            assert stored(device, OTHER)
            assert download.received == 20_000 + len(OTHER)


async def test_a_changed_file_is_refused_where_another_one_was_announced(files: Path) -> None:
    (files / "image").write_bytes(OTHER)
    with nginx(files) as server:
        async with fleet(server) as (device,):
            assert not await asyncio.wait_for(
                Download(poller(device), resource(server)).run(), SECONDS
            )
            assert device.engine.outcome is Outcome.INTEGRITY


@pytest.mark.parametrize("path", ["slow/image", "moved/x"])
async def test_slow_servers_and_redirects(files: Path, path: str) -> None:
    with nginx(files) as server:
        async with fleet(server) as (device,):
            download = Download(poller(device), resource(server, path))
            assert await asyncio.wait_for(download.run(), SECONDS)
            assert stored(device)


async def test_what_is_not_there_and_who_is_busy(files: Path) -> None:
    with nginx(files) as server:
        async with fleet(server) as (device,):
            absent = Download(poller(device), resource(server, "files/absent"))
            assert not await asyncio.wait_for(absent.run(), SECONDS)
            assert absent.status == 404 and device.engine.outcome is Outcome.BAD_URI
            busy = Download(poller(device), resource(server, "busy/image"))
            assert not await asyncio.wait_for(busy.run(), SECONDS)
            assert busy.status == 503
            assert device.engine.outcome is Outcome.CONNECTION_LOST


async def test_each_device_is_known_by_its_certificate(files: Path) -> None:
    with nginx(files, "on") as server:
        async with fleet(server, 20, rate=1.0) as devices:
            answers = await asyncio.gather(
                *(poller(one).http.request("GET", f"{server.origin}/whoami") for one in devices)
            )
            assert [answer.body for answer in answers] == [
                f"CN={device.name}".encode() for device in devices
            ]


async def test_without_a_certificate_or_with_a_strangers(files: Path) -> None:
    """nginx lets the handshake end and answers 400 itself."""
    certificate, key = authority("another").issue("dev-0")
    strangers = (
        Credential(authorities=authority().pem),
        Credential(certificate=certificate, private_key=key, authorities=authority().pem),
    )
    with nginx(files, "on") as server:
        for credential in strangers:
            async with fleet(server, credential=credential, rate=1.0) as (device,):
                answer = await poller(device).http.request("GET", f"{server.origin}/whoami")
                assert answer.status == 400
                download = Download(poller(device), resource(server))
                assert not await asyncio.wait_for(download.run(), SECONDS)
                assert device.engine.outcome is Outcome.BAD_URI


@pytest.mark.parametrize("authorities", [authority("another").pem, b""])
async def test_a_server_of_a_wrong_authority_is_refused(files: Path, authorities: bytes) -> None:
    with nginx(files, "off") as server:
        async with fleet(server, credential=Credential(authorities=authorities)) as (device,):
            with pytest.raises(HttpFailed) as caught:
                await poller(device).http.request("GET", server.origin)
            assert caught.value.why is Why.UNTRUSTED
            download = Download(poller(device), resource(server))
            assert not await asyncio.wait_for(download.run(), SECONDS)
            assert device.engine.outcome is Outcome.CONNECTION_LOST
            assert download.received == 0


async def test_a_hundred_devices_through_tls(files: Path) -> None:
    with nginx(files, "on") as server:
        faults = FaultPlan(cut_downloads=(10_000, 30_000))
        async with fleet(server, 100, faults=faults, rate=1.0) as devices:
            downloads = [Download(poller(device), resource(server)) for device in devices]
            ended = await asyncio.wait_for(
                asyncio.gather(*(download.run() for download in downloads)), SECONDS
            )
            assert all(ended)
            for device, download in zip(devices, downloads, strict=True):
                assert device.engine.state is State.DOWNLOADED and stored(device)
                assert download.received == len(IMAGE)
