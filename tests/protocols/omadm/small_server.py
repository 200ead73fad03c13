"""A server of few octets: what a device says to one that takes small messages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from protocols.omadm import encoding as syncml
from protocols.omadm.auth import AuthType, challenge, credentials, next_nonce
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import (
    Alert,
    Command,
    Cred,
    Header,
    Item,
    Message,
    Meta,
    Results,
    Status,
)
from protocols.omadm.peer_auth import Account, ClientAuth, ServerAuth
from protocols.omadm.personas import PERSONAS
from protocols.omadm.session import DevInfo, DmSession, SessionSetup
from protocols.omadm.standard_objects import DeviceValues, shared_tree
from protocols.omadm.tree import Tree
from tests.protocols.omadm.device_parts import make_nvm

SHARED = shared_tree(DeviceValues("m", "x"), fumo="./FwUpdate/Fotilla")
DEVICE, SERVER = "IMEI:490154203237518", "http://dm.test/dm"
NONCE = b"sixteen octets.."
BOUND = 9000
"""Messages after which a session has no end: the longest value takes fewer, in single octets."""


@dataclass
class Listener:
    """A server that takes `limit` octets, asks for everything in `commands` and looks at sizes."""

    limit: int
    encoding: Encoding
    commands: list[Command]
    challenges: bool = True
    shows: bool = False
    """It has to show who it is."""
    persona: str = "default"
    sizes: list[int] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    aborted: bool = False

    def session(self) -> DmSession:
        way = self.encoding
        shown = AuthType.MD5 if self.shows else AuthType.NONE
        account = Account("fotilla", "user", "secret", "", "its own", AuthType.MD5, shown)
        alert = Alert("", 1226, (Item(source="./x", meta=Meta("int", "some.alert"), data="200"),))
        nonces = iter(range(1 << 20))
        return DmSession(
            SessionSetup(
                "1F",
                DEVICE,
                SERVER,
                "user",
                DevInfo((("DevId", DEVICE), ("Man", "m" * 40), ("Lang", "en"))),
                alerts=(alert,),
            ),
            PERSONAS[self.persona],
            Tree(SHARED, make_nvm(), server_id="fotilla", encoding=way),
            ClientAuth(account, b""),
            ServerAuth(account, b"", lambda size: b"%016d" % next(nonces)),
            lambda message: syncml.size_of(message, way),
            carried=lambda item: syncml.carried(item, way),
        )

    def talk(self) -> DmSession:
        session = self.session()
        message: Message | None = session.start()
        sent, nonce = 0, b""
        challenged = whole = False
        while message is not None:
            self.sizes.append(len(syncml.encode(message, self.encoding)))
            assert len(self.sizes) < BOUND
            self.messages.append(message)
            codes = [one.code for one in message.commands if isinstance(one, Alert)]
            if 1223 in codes:
                self.aborted = True
                break
            for one in message.commands:
                if isinstance(one, Status) and one.chal is not None:
                    nonce = next_nonce(one.chal) or b""
            sent += 1
            code, chal = (212, None)
            if self.challenges and not challenged:
                code, chal, challenged = 407, challenge(AuthType.MD5, NONCE), True
            commands: list[Command] = [
                Status("1", message.header.msg_id, "0", "SyncHdr", code, chal=chal)
            ]
            last = True
            if code == 212:
                if not message.final:
                    commands.append(Alert("2", 1222))
                    last = False
                elif not whole:
                    commands += [
                        replace(one, cmd_id=str(at)) for at, one in enumerate(self.commands, 2)
                    ]
                    whole = not self.shows or sent > 2
            cred: Cred | None = None
            if self.shows:
                cred = credentials(AuthType.MD5, "fotilla", "its own", nonce)
            header = Header("1F", sent, DEVICE, SERVER, cred=cred, max_msg_size=self.limit)
            message = session.received(Message(header, tuple(commands), last))
        return session

    @property
    def heard(self) -> list[Command]:
        return [one for message in self.messages for one in message.commands]

    def codes(self, name: str) -> list[int]:
        """Of the statuses of commands with this name."""
        return [one.code for one in self.heard if isinstance(one, Status) and one.cmd == name]

    def values(self) -> list[object]:
        found = [one for one in self.heard if isinstance(one, Results)]
        return [item.data for one in found for item in one.items]

    @property
    def kept(self) -> bool:
        """Package 1 leaves before the device knows anything of its server."""
        return all(size <= self.limit for size in self.sizes[1:])
