"""OMA-DM on real sockets: TLS, notifications over UDP, and a backend that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import httpx

from agent.credentials import Credential
from agent.runtime.runtime import Runtime
from protocols.omadm.model import Alert, Message
from tests.protocols.http.transport.certificates import authority
from tests.tools.backend.omadm_device import DmDevice
from tests.tools.backend.rest_client import administrator
from tests.tools.backend.virtual import CONFIG, IMAGE, started
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.config import Listen
from tools.backend.faces.base import TlsFiles

WAIT = 30.0  # seconds; only what is broken takes them
LIMIT = 120.0

NAMES = [f"IMEI:{350000000000100 + number}" for number in range(6)]


@asynccontextmanager
async def real(tls: TlsFiles | None = None) -> AsyncIterator[Backend]:
    config = replace(CONFIG, listen={"omadm": Listen(tls=tls)})
    async with Runtime.real() as runtime, started(runtime, config) as made:
        yield made


async def test_a_notification_and_an_update_over_tls(tmp_path: Path) -> None:
    certificate, key = authority().issue("server", address="127.0.0.1")
    files = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key")
    files.cert.write_bytes(certificate)
    files.key.write_bytes(key)
    context = ssl.create_default_context(cadata=authority().pem.decode())
    async with real(files) as backend, httpx.AsyncClient(verify=context) as client:
        assert backend.omadm_url.startswith("https://127.0.0.1:")
        await backend.load_devices([{"name": NAMES[0]}])
        async with administrator(backend) as admin:
            answer = await admin.post("/admin/devices/dm-accounts", json={"names": NAMES[:1]})
            minted = answer.json()
            assert (minted["serverId"], minted["auth"]) == ("fotilla", "md5")
            [account] = minted["accounts"].values()
            wrong = {"names": ["IMEI:000000000000000"]}
            refused = await admin.post("/admin/devices/dm-accounts", json=wrong)
            assert refused.status_code == 400
        credential = Credential(
            username=account["username"],
            password=account["password"],
            token=account["serverPassword"],
        )
        device = DmDevice(client, NAMES[0], credential, server=backend.omadm_url)
        with closing(device.listen(backend, "127.0.0.1")) as push:
            await backend.operator.attach(NAMES[0], "c1", push.local)
            firmware = await backend.add_package(IMAGE, name="a", version="2.0.0", protocol="OMADM")
            campaign = await backend.create_campaign(
                NAMES[:1], firmware, delivery_of=lambda _name: "pull"
            )
            async with asyncio.timeout(WAIT):
                while not device.pushed:
                    await asyncio.sleep(0.01)
                await device.session(session=device.pushed[0].session_text)
                assert device.url.startswith("https://")
                described = (await client.get(device.url)).text
                url = described.partition("<objectURI>")[2].partition("</objectURI>")[0]
                assert (await client.get(url)).content == IMAGE
                device.install()
                await device.session(device.result(200))
        [member] = campaign.members.values()
        assert (member.status, member.attempts) == (states.SUCCESS, 1)


PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from agent.runtime.runtime import Runtime
from tools.backend.backend import Backend, BackendConfig
from tools.backend.config import Listen

async def main(db, port, ready, names):
    listen = {"omadm": Listen(("127.0.0.1", port))}
    config = BackendConfig(db=db, listen=listen, timing="immediate", pilot_waived=True)
    async with Runtime.real() as runtime:
        backend = Backend(runtime, config)
        await backend.start()
        minted = {}
        if not backend.inventory.devices:
            await backend.load_devices({"name": name} for name in names)
            for name, one in (await backend.mint_dm_accounts(names)).items():
                minted[name] = [one.username, one.password, one.token]
            image = bytes(range(256)) * 12
            package = await backend.add_package(image, name="a", version="2.0.0", protocol="OMADM")
            pushed = names[::2]
            await backend.create_campaign(
                names, package, delivery_of=lambda name: "push" if name in pushed else "pull"
            )
        draft = Path(ready + ".draft")
        draft.write_text(json.dumps({"url": backend.omadm_url, "accounts": minted}))
        draft.rename(ready)
        while not backend.finished.is_set():
            await asyncio.sleep(0.05)
        beliefs = {name: belief.verdict for name, belief in backend.beliefs().items()}
        members = next(iter(backend.engine.book.campaigns.values())).members.values()
        attempts = [member.attempts for member in members]
        Path(ready).with_name("end").write_text(json.dumps([beliefs, attempts]))
        await backend.stop()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
"""


class KilledBackend:
    """A backend of its own that is killed and started again, on the same database and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.accounts: dict[str, list[str]] = {}
        self.starting = asyncio.Lock()

    async def start(self) -> None:
        self.starts += 1
        ready = self.folder / f"ready-{self.starts}.json"
        arguments = [str(self.folder / "b.db"), str(self.port), str(ready), *NAMES]
        with (self.folder / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *arguments], stderr=stderr
            )
        async with asyncio.timeout(WAIT):
            while not ready.exists():
                assert self.process.poll() is None, (self.folder / "stderr").read_text()
                await asyncio.sleep(0.02)
        told = json.loads(ready.read_text())
        self.port = int(told["url"].rpartition(":")[2].partition("/")[0])
        self.accounts.update(told["accounts"])

    async def kill(self) -> None:
        """kill -9, and a new start."""
        async with self.starting:
            assert self.process is not None
            self.process.kill()
            self.process.wait()
            await self.start()


class Striking(DmDevice):
    """Kills the backend at its `point`-th message while that is under way; begins a session again
    that it lost."""

    backend: KilledBackend
    point: int
    posted: int = 0

    async def post(self, message: Message) -> Message:
        self.posted += 1
        if self.posted != self.point:
            return await super().post(message)
        asking = asyncio.ensure_future(super().post(message))
        await asyncio.sleep(0.003)  # whether the blow falls before or after the commit is chance
        await self.backend.kill()
        with contextlib.suppress(Exception):
            await asking
        raise httpx.ReadError("the backend was killed")

    async def session(self, *alerts: Alert, session: str | None = None) -> list[Message]:
        while True:
            try:
                return await super().session(*alerts, session=session)
            except (httpx.TransportError, AssertionError):
                await asyncio.sleep(0.1)

    async def live(self) -> None:
        while not self.executed:
            await self.session()
            await asyncio.sleep(0.05)
        self.install()
        kind = "update" if self.executed[0][0].endswith("/Update") else "downloadandupdate"
        await self.session(self.result(200, f"org.openmobilealliance.dm.firmwareupdate.{kind}"))


async def test_kill_9_at_any_message(tmp_path: Path) -> None:
    backend = KilledBackend(tmp_path)
    await backend.start()
    made = []
    async with asyncio.timeout(LIMIT), httpx.AsyncClient(timeout=5.0) as client:
        for number, name in enumerate(NAMES):
            username, password, token = backend.accounts[name]
            credential = Credential(username=username, password=password, token=token)
            url = f"http://127.0.0.1:{backend.port}/dm"
            device = Striking(client, name, credential, server=url)
            device.backend, device.point = backend, 2 * number + 1
            made.append(device)
        await asyncio.gather(*(device.live() for device in made))
        while not (tmp_path / "end").exists():
            # Whoever was interrupted in its last session has one more.
            await asyncio.sleep(0.1)
    beliefs, attempts = json.loads((tmp_path / "end").read_text())
    assert beliefs == dict.fromkeys(NAMES, "updated")
    assert attempts == [1] * len(NAMES)
    assert [len(device.executed) for device in made] == [1] * len(NAMES)
    assert backend.starts > 3
    assert backend.process is not None
    assert backend.process.wait(timeout=WAIT) == 0
