"""A scripted OMA-DM device: messages made by hand from the model, as a right client makes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx

from agent.credentials import Credential
from agent.runtime.network import Address, DatagramSocket
from protocols.omadm import encoding as encodings
from protocols.omadm import package0, wsp
from protocols.omadm.auth import AuthType, challenge, credentials, hmac_header, next_nonce
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import (
    Alert,
    Command,
    Cred,
    Exec,
    Get,
    Header,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Status,
)
from tools.backend.backend import Backend
from tools.backend.faces.omadm_accounts import AUTH_TYPES, SERVER_ID

SERVER = "http://dm.test/dm"
DOWNLOAD_AND_UPDATE = "org.openmobilealliance.dm.firmwareupdate.downloadandupdate"
UPDATE = "org.openmobilealliance.dm.firmwareupdate.update"


@dataclass
class DmDevice:
    """One device. `tree` maps URIs to values; an interior node's is its children's names."""

    client: httpx.AsyncClient
    name: str
    account: Credential
    auth: str = "md5"
    encoding: Encoding = Encoding.WBXML
    root: str = "./FwUpdate/Fotilla"
    version: str = "1.0.0"
    state: int = 10
    max_msg: int | None = None
    max_obj: int | None = None
    chunk_status: int = 213
    exec_status: int = 202
    demand: AuthType | None = None
    """How the server is to show who it is; None believes it."""
    tree: dict[str, str] = field(default_factory=dict)
    package: bytearray = field(default_factory=bytearray)
    executed: list[tuple[str, str]] = field(default_factory=list)
    """(URI, correlator) of each Exec."""
    messages: list[Message] = field(default_factory=list)
    """What the server said."""
    pushed: list[package0.Notification] = field(default_factory=list)
    sessions: int = 0
    nonce: bytes = b""
    msg_id: int = 0
    session_id: str = ""

    server_nonce: bytes = b""
    server: str = SERVER
    trusting: bool = False

    def __post_init__(self) -> None:
        self.tree = {
            ".": "DevInfo/DevDetail/FwUpdate",
            "./FwUpdate": self.root.rpartition("/")[2],
            self.root: "State/Update/DownloadAndUpdate",
        }

    # -- messages ---

    @property
    def scheme(self) -> AuthType:
        return AUTH_TYPES[self.auth]

    def cred(self) -> Cred | None:
        return credentials(self.scheme, self.account.username, self.account.password, self.nonce)

    def header(self, *, cred: Cred | None = None) -> Header:
        self.msg_id += 1
        return Header(
            self.session_id,
            self.msg_id,
            self.server,
            self.name,
            source_name=self.account.username,
            cred=cred,
            max_msg_size=self.max_msg,
            max_obj_size=self.max_obj,
        )

    async def post(self, message: Message) -> Message:
        """Exchange a message; the answer must be right as HTTP."""
        data = encodings.encode(message, self.encoding)
        answer = await self.raw(data)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        assert answer.headers["content-type"] == self.encoding.content_type
        found = encodings.decode(answer.content, self.encoding)
        if self.max_msg is not None:
            assert len(answer.content) <= self.max_msg
        assert found.header.session_id == message.header.session_id
        assert found.header.target == self.name
        self.messages.append(found)
        return found

    async def raw(self, data: bytes, **headers: str) -> httpx.Response:
        fields = {"content-type": self.encoding.content_type, **headers}
        if self.scheme is AuthType.HMAC:
            fields["x-syncml-hmac"] = hmac_header(
                self.account.username, self.account.password, self.nonce, data
            )
        return await self.client.post(self.server, content=data, headers=fields)

    def package_1(self, *alerts: Alert, final: bool = True, session: str | None = None) -> Message:
        """The first message of a new session."""
        self.sessions += 1
        self.trusting = False
        self.session_id = f"{self.sessions:X}" if session is None else session
        self.msg_id = 0
        return Message(self.header(cred=self.cred()), tuple(self.opening(alerts)), final)

    def opening(self, alerts: Iterable[Alert]) -> list[Command]:
        info = (
            Item(source="./DevInfo/DevId", data=self.name),
            Item(source="./DevInfo/Man", data="fotilla"),
        )
        commands: list[Command] = [Alert("1", 1201), Replace("2", info)]
        commands += [replace(one, cmd_id=str(3 + at)) for at, one in enumerate(alerts)]
        return commands

    def result(
        self, code: object, kind: str = DOWNLOAD_AND_UPDATE, correlator: str | None = None
    ) -> Alert:
        """The generic alert at the end of an operation."""
        if correlator is None and self.executed:
            correlator = self.executed[-1][1]
        item = Item(source=self.root, meta=Meta(format="int", type=kind), data=str(code))
        return Alert("", 1226, (item,), correlator=correlator or None)

    # -- a session ---

    async def session(self, *alerts: Alert, session: str | None = None) -> list[Message]:
        """A whole session as a right client has it; returns what the server said."""
        began = len(self.messages)
        answer = await self.post(self.package_1(*alerts, session=session))
        while (own := self.answer(answer, alerts)) is not None:
            answer = await self.post(own)
        return self.messages[began:]

    def answer(self, message: Message, alerts: Iterable[Alert] = ()) -> Message | None:
        """Our next message; None when the session is over."""
        commands: list[Command] = []
        again = False
        for one in message.commands:
            if isinstance(one, Status) and one.cmd_ref == "0":
                if one.chal is not None and (nonce := next_nonce(one.chal)) is not None:
                    self.nonce = nonce
                again = one.code in (401, 407) and one.chal is not None
                if one.code >= 400 and not again:
                    return None
        header_code = 212
        if self.demand is not None and not self.trusting:
            self.trusting = message.header.cred == self.expected_cred()
            header_code = 212 if self.trusting else 401
        work = [one for one in message.commands if not isinstance(one, Status)]
        if any(isinstance(one, Alert) and one.code == 1223 for one in work):
            return None
        if message.final and not (work or again):
            return None
        header = self.header(cred=self.cred() if again else None)
        refs = (self.server,), (self.name,)
        status = Status("1", message.header.msg_id, "0", "SyncHdr", header_code, *refs)
        if header_code == 401:
            self.server_nonce = b"a new one"
            assert self.demand is not None
            status = replace(status, chal=challenge(self.demand, b"a new one"))
        commands.append(status)
        if again:
            opening = [
                replace(one, cmd_id=str(10 + at)) for at, one in enumerate(self.opening(alerts))
            ]
            return Message(header, (*commands, *opening), True)
        more = not message.final
        for one in work:
            number = str(len(commands) + 1)
            if isinstance(one, Alert):
                more = more or one.code == 1222
                commands.append(Status(number, message.header.msg_id, one.cmd_id, "Alert", 200))
                continue
            code, value = (401, None) if header_code == 401 else self.obey(one)
            reference = (message.header.msg_id, one.cmd_id)
            commands.append(Status(number, *reference, one.name, code))
            if value is not None:
                commands.append(Results(str(len(commands) + 1), *reference, (value,)))
        if not message.final:
            commands.append(Alert(str(len(commands) + 1), 1222))
        return Message(header, tuple(commands), message.final)

    def expected_cred(self) -> Cred | None:
        assert self.demand is not None
        return credentials(self.demand, SERVER_ID, self.account.token, self.server_nonce)

    def obey(self, command: Command) -> tuple[int, Item | None]:
        if isinstance(command, Get):
            [item] = command.items
            assert item.target is not None
            value = self.value(item.target)
            if value is None:
                return 404, None
            return 200, Item(source=item.target, data=value)
        if isinstance(command, Exec):
            [item] = command.items
            self.executed.append((item.target or "", command.correlator or ""))
            if self.exec_status == 202:
                self.state = 30
            return self.exec_status, None
        assert isinstance(command, Replace)
        [item] = command.items
        if item.target == f"{self.root}/Update/PkgData":
            return self.take(item), None
        if item.target == f"{self.root}/DownloadAndUpdate/PkgURL":
            self.tree[item.target] = str(item.data)
            return 200, None
        return 404, None

    def take(self, item: Item) -> int:
        if item.meta is not None and item.meta.size is not None:
            self.package.clear()
        self.package += item.octets()
        if item.more_data:
            return self.chunk_status
        self.state = 50
        return 200

    def value(self, uri: str) -> str | None:
        if uri == "./DevDetail/FwV":
            return self.version
        if uri == f"{self.root}/State":
            return str(self.state)
        return self.tree.get(uri)

    @property
    def url(self) -> str:
        return self.tree[f"{self.root}/DownloadAndUpdate/PkgURL"]

    def install(self, version: str = "2.0.0") -> None:
        self.version, self.state = version, 100

    # -- notifications ---

    def listen(self, backend: Backend, host: str = "10.1.0.1") -> DatagramSocket:
        """Take pushed datagrams; they must be genuine. On a real network the caller closes it."""

        def receive(data: bytes, _source: Address) -> None:
            push = wsp.decode(data)
            assert push.content_type == package0.CONTENT_TYPE
            assert push.application == wsp.DM_APPLICATION
            assert package0.verify(push.body, SERVER_ID, self.account.token, self.server_nonce)
            self.pushed.append(package0.decode(push.body))

        return backend.runtime.network.open((host, 0), receive)


@asynccontextmanager
async def in_process(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=backend.omadm_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://dm.test") as client:
        yield client


async def devices(
    backend: Backend, client: httpx.AsyncClient, count: int, auth: str = "md5"
) -> list[DmDevice]:
    """Devices in the inventory, each with an account."""
    ids = [f"{350000000000100 + number}" for number in range(count)]
    await backend.load_devices(
        {"name": f"IMEI:{one}", "deviceId": one, "protocol": "OMADM"} for one in ids
    )
    minted = await backend.mint_dm_accounts([f"IMEI:{one}" for one in ids], auth)
    return [DmDevice(client, name, account, auth) for name, account in minted.items()]
