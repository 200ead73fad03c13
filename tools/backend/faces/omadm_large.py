"""Large objects both ways: one that we send in chunks, and one that a device sends us
(OMA DM Protocol 1.2, section 7)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from protocols.omadm.encoding import Encoding
from protocols.omadm.model import Item, Meta
from tools.backend.faces.omadm_work import Request

MEDIA_TYPE = "application/octet-stream"

QUANTUM = 4
"""Base64 is cut where whole groups end, so that no text of the whole package has to exist."""


@dataclass(slots=True)
class Outgoing:
    """The package of a request on its way. `body` is shared by all devices."""

    request: Request
    body: bytes = field(repr=False)
    encoding: Encoding
    sent: int = 0
    """Of the data as carried: octets in WBXML, characters of base64 in XML."""

    @property
    def size(self) -> int:
        """Of the data as carried."""
        if self.encoding is Encoding.WBXML:
            return len(self.body)
        return -(-len(self.body) // 3) * QUANTUM

    @property
    def left(self) -> int:
        return self.size - self.sent

    def frame(self) -> Item:
        """The next item without its data, to see what room it leaves."""
        return Item(target=self.request.uri, meta=self._meta(), data="", more_data=True)

    def chunk(self, room: int) -> Item:
        """The next item, with at most `room` of data. Raises ValueError when nothing fits."""
        wbxml = self.encoding is Encoding.WBXML
        length = min(room if wbxml else room - room % QUANTUM, self.left)
        if length <= 0 < self.left:
            raise ValueError("no room for a chunk")
        meta = self._meta()
        end = self.sent + length
        data: str | bytes
        if wbxml:
            data = self.body[self.sent : end]
        else:
            octets = self.body[self.sent // QUANTUM * 3 : end // QUANTUM * 3]
            data = base64.b64encode(octets).decode()
        self.sent = end
        return Item(target=self.request.uri, meta=meta, data=data, more_data=self.left > 0)

    def _meta(self) -> Meta:
        # The size stands in the first chunk only; the rest of Meta is repeated.
        return Meta(
            format="bin" if self.encoding is Encoding.WBXML else "b64",
            type=MEDIA_TYPE,
            size=None if self.sent else self.size,
        )


@dataclass(slots=True)
class Incoming:
    """What a device is sending us in chunks."""

    uri: str
    limit: int
    size: int | None
    parts: list[str | bytes] = field(default_factory=list, repr=False)
    length: int = 0

    def add(self, data: str | bytes) -> bool:
        """Take a chunk; False when the object has become larger than we take."""
        self.length += len(data)
        self.parts.append(data)
        return self.length <= self.limit

    @property
    def right_size(self) -> bool:
        return self.size is None or self.size == self.length

    def text(self) -> str:
        """The whole of it, as text."""
        return "".join(
            part if isinstance(part, str) else part.decode("utf-8", "replace")
            for part in self.parts
        )
