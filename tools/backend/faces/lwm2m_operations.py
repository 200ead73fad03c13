"""Device management beside the campaigns: read, write, execute, discover and observe anything.

For tests, for the admin and for whoever embeds the backend. A request waits for its turn behind
what a campaign is doing with the same device (RFC 7252 NSTART is 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.coap import Code, Message, RequestFailed, RequestHandle, code_text, make_options
from protocols.lwm2m import codecs
from protocols.lwm2m.codecs import link
from protocols.lwm2m.model import type_of
from protocols.lwm2m.records import Record
from tools.backend.errors import BackendError
from tools.backend.faces.lwm2m import Lwm2mFace
from tools.backend.faces.lwm2m_link import Path, path_text


class OperationFailed(BackendError):
    """The device is not registered, refused, did not answer, or answered something unreadable."""


OnRecords = Callable[[list[Record] | OperationFailed], None]


class Operations:
    """The device management interface (LwM2M 1.1 core, section 6.3) and observation (6.4)."""

    def __init__(self, face: Lwm2mFace) -> None:
        self._face = face

    async def read(self, name: str, path: Path, content_format: int | None = None) -> list[Record]:
        """The values under `path`; the device chooses the format when none is asked for."""
        options = make_options(path=path, accept=content_format)
        return _records(path, await self._ask(name, Message(Code.GET, options=options)))

    async def write(
        self,
        name: str,
        path: Path,
        records: Sequence[Record],
        *,
        content_format: int = codecs.TLV,
        replace: bool = True,
    ) -> None:
        """Write, by replacing or (for an instance) by updating."""
        payload = codecs.encode(content_format, path, records, type_of)
        options = make_options(path=path, content_format=content_format)
        code = Code.PUT if replace else Code.POST
        await self._ask(name, Message(code, options=options), payload)

    async def execute(self, name: str, path: Path, arguments: str = "") -> None:
        options = make_options(path=path, content_format=codecs.TEXT if arguments else None)
        await self._ask(name, Message(Code.POST, options=options), arguments.encode())

    async def delete(self, name: str, path: Path) -> None:
        await self._ask(name, Message(Code.DELETE, options=make_options(path=path)))

    async def discover(self, name: str, path: Path) -> list[link.Link]:
        """The links under `path`, with their attributes."""
        options = make_options(path=path, accept=codecs.LINK)
        answer = await self._ask(name, Message(Code.GET, options=options))
        try:
            return link.decode(answer.payload)
        except codecs.CodecError as error:
            raise OperationFailed(f"discover {path_text(path)}: {error}") from error

    async def write_attributes(self, name: str, path: Path, *attributes: str) -> None:
        """Write-Attributes, each as `pmin=10`; a bare name unsets it."""
        options = make_options(path=path, queries=attributes)
        await self._ask(name, Message(Code.PUT, options=options))

    def observe(
        self, name: str, path: Path, on_records: OnRecords, content_format: int | None = None
    ) -> RequestHandle:
        """Observe; the first answer and every notification go to `on_records`."""
        options = make_options(path=path, accept=content_format)

        def heard(result: Message | RequestFailed) -> None:
            try:
                if isinstance(result, RequestFailed):
                    raise OperationFailed(str(result))
                on_records(_records(path, result))
            except OperationFailed as error:
                on_records(error)

        peer = self._face.peer_of(name)
        if peer is None:
            raise OperationFailed(f"{name} is not registered")
        return self._face.endpoint.observe(peer, Message(Code.GET, options=options), heard)

    async def _ask(self, name: str, message: Message, payload: bytes = b"") -> Message:
        peer = self._face.peer_of(name)
        if peer is None:
            raise OperationFailed(f"{name} is not registered")
        try:
            answer = await self._face.endpoint.ask(peer, message, body=payload or None)
        except RequestFailed as error:
            raise OperationFailed(str(error)) from error
        if answer.code >= 128:
            detail = answer.payload.decode("utf-8", "replace")[:128]
            raise OperationFailed(f"{name}: {code_text(answer.code)} {detail}".rstrip())
        return answer


def _records(path: Path, answer: Message) -> list[Record]:
    if answer.code >= 128:
        raise OperationFailed(f"{path_text(path)}: {code_text(answer.code)}")
    content_format = answer.options.content_format
    try:
        return codecs.decode(
            codecs.TEXT if content_format is None else content_format, path, answer.payload, type_of
        )
    except codecs.CodecError as error:
        raise OperationFailed(f"{path_text(path)}: {error}") from error
