"""The wire to one device: one request at a time, observations, and values out of payloads.

Every answer ends in exactly one of three callbacks: a value, a refusal (the device answered, but
not with that value), or silence (it did not answer).
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.coap import (
    CoapEndpoint,
    Code,
    Message,
    Options,
    RequestFailed,
    RequestHandle,
    Transfer,
    code_text,
    make_options,
)
from protocols.coap.udp_peer import UdpPeer
from protocols.lwm2m import codecs
from protocols.lwm2m.model import type_of
from protocols.lwm2m.records import Value

Path = tuple[int, ...]
PACKAGE: Path = (5, 0, 0)
PACKAGE_URI: Path = (5, 0, 1)
UPDATE: Path = (5, 0, 2)
STATE: Path = (5, 0, 3)
RESULT: Path = (5, 0, 5)
VERSION: Path = (3, 0, 3)

_READ: dict[Path, Options] = {
    path: make_options(path=path, accept=codecs.TEXT) for path in (STATE, RESULT, VERSION)
}

OnValue = Callable[[Value], None]
OnText = Callable[[str], None]
OnResult = Callable[[Message | RequestFailed], None]


def path_text(path: Path) -> str:
    return "/" + "/".join(map(str, path))


def value_of(path: Path, message: Message, on_value: OnValue, on_refused: OnText) -> None:
    """The one value in the payload of a response, in whatever format it came."""
    content_format = message.options.content_format
    try:
        records = codecs.decode(
            codecs.TEXT if content_format is None else content_format,
            path,
            message.payload,
            type_of,
        )
    except codecs.CodecError as error:
        on_refused(f"{path_text(path)}: {error}")
        return
    if len(records) == 1 and records[0].path == path:
        on_value(records[0].value)
    else:
        on_refused(f"{path_text(path)} is not one value")


def nothing(_text: str) -> None:
    """Nothing follows: what could not be read now is read again by the poll."""


class DeviceLink:
    """Requests to one device."""

    __slots__ = ("_asking", "_observers", "_request", "peer")

    def __init__(self, peer: UdpPeer) -> None:
        self.peer = peer
        self._request: RequestHandle | Transfer | None = None
        self._observers: dict[Path, RequestHandle] | None = None
        # The path of an Observe that has not been answered yet.
        self._asking: Path | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._request is not None or self._asking is not None

    def cancel(self) -> None:
        """Stop the request under way; nobody hears of it any more."""
        if self._request is not None:
            self._request.cancel()
            self._request = None
        if self._asking is not None and self._observers is not None:
            handle = self._observers.pop(self._asking, None)
            if handle is not None:
                handle.cancel()
        self._asking = None

    def forget(self) -> None:
        """Drop everything: the device no longer knows our requests and observations."""
        self.cancel()
        if self._observers is not None:
            for handle in self._observers.values():
                handle.cancel()
            self._observers = None

    def send(self, endpoint: CoapEndpoint, message: Message, on_result: OnResult) -> None:
        """One request."""
        self._request = endpoint.request(self.peer, message, self._ends_with(on_result))

    def push(
        self,
        endpoint: CoapEndpoint,
        message: Message,
        body: bytes,
        on_progress: Callable[[int], None],
        on_result: OnResult,
    ) -> None:
        """One request with a large body, by Block1."""
        self._request = endpoint.transfer(
            self.peer, message, self._ends_with(on_result), body=body, on_progress=on_progress
        )

    def _ends_with(self, on_result: OnResult) -> OnResult:
        def ended(result: Message | RequestFailed) -> None:
            self._request = None
            on_result(result)

        return ended

    def read(
        self,
        endpoint: CoapEndpoint,
        path: Path,
        on_value: OnValue,
        on_refused: OnText,
        on_silence: OnText,
    ) -> None:
        """Read one resource."""

        def answered(result: Message | RequestFailed) -> None:
            self._answered(path, result, on_value, on_refused, on_silence)

        self.send(endpoint, Message(Code.GET, options=_READ[path]), answered)

    def watch(
        self,
        endpoint: CoapEndpoint,
        path: Path,
        on_value: OnValue,
        on_refused: OnText,
        on_silence: OnText,
        on_notified: OnValue,
    ) -> None:
        """Read one resource, and observe it unless it is observed already."""
        if self._observers is None:
            self._observers = {}
        handle = self._observers.get(path)
        if handle is not None and handle.active:
            self.read(endpoint, path, on_value, on_refused, on_silence)
            return

        def heard(result: Message | RequestFailed) -> None:
            if self._asking == path:
                self._asking = None
                self._answered(path, result, on_value, on_refused, on_silence)
            elif isinstance(result, Message) and result.code < 128:
                value_of(path, result, on_notified, nothing)

        self._asking = path
        message = Message(Code.GET, options=_READ[path])
        self._observers[path] = endpoint.observe(self.peer, message, heard)

    @staticmethod
    def _answered(
        path: Path,
        result: Message | RequestFailed,
        on_value: OnValue,
        on_refused: OnText,
        on_silence: OnText,
    ) -> None:
        if isinstance(result, RequestFailed):
            on_silence(str(result))
        elif result.code >= 128:
            on_refused(f"reading {path_text(path)} gives {code_text(result.code)}")
        else:
            value_of(path, result, on_value, on_refused)
