"""`--serve-image`: the person's image under a CoAP URL, for a server that has devices pull it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from agent.runtime.runtime import Runtime
from protocols.coap import (
    DEFAULT_TUNING,
    CoapEndpoint,
    Code,
    ContentFormat,
    Exchange,
    Message,
    Peer,
    make_options,
    response,
)

PATH = "image"
MAX_PEERS = 65536  # every device of a run asks from a port of its own
BURST = 64
SOCKET_BUFFER = 4 << 20


class ImageServer:
    """Answers GET of one path; `url` is what the operator writes into 5/0/1."""

    def __init__(self, runtime: Runtime, image: bytes, host: str, port: int) -> None:
        self._image = image
        self._options = make_options(
            content_format=ContentFormat.OCTET_STREAM, etag=hashlib.sha256(image).digest()[:8]
        )
        self._endpoint = CoapEndpoint(
            runtime,
            bind=(host, port),
            handler=self._handle,
            tuning=replace(DEFAULT_TUNING, burst=BURST, socket_buffer=SOCKET_BUFFER),
            max_peers=MAX_PEERS,
        )
        bound, number = self._endpoint.local
        shown = f"[{bound}]" if ":" in bound else bound
        self.url = f"coap://{shown}:{number}/{PATH}"

    def close(self) -> None:
        self._endpoint.close()

    def _handle(self, peer: Peer, request: Message, exchange: Exchange) -> Message:
        if request.options.path != (PATH,):
            return response(Code.NOT_FOUND)
        if request.code != Code.GET:
            return response(Code.METHOD_NOT_ALLOWED)
        return response(Code.CONTENT, self._options, self._image)
