"""Who is at the other end: an opaque handle for the layers above.

Never ``(host, port)``: addresses move under NAT and connection ids, and over TCP there is a
connection instead. The request layer compares handles by identity and nothing else.
"""

from __future__ import annotations

from protocols.coap.options import Block

__all__ = ["Peer"]


class Peer:
    """One remote endpoint.

    ``scheme`` as in URIs, ``identity`` a text for people and logs, ``mtu`` the largest datagram in
    bytes, ``largest_block`` the largest block-wise exponent (SZX) that fits.
    """

    __slots__ = ("identity", "largest_block", "mtu", "scheme")

    def __init__(
        self, scheme: str, identity: str, *, mtu: int = 1280, largest_block: int = 6
    ) -> None:
        self.scheme = scheme
        self.identity = identity
        self.mtu = mtu
        self.largest_block = largest_block

    @property
    def uri(self) -> str:
        return f"{self.scheme}://{self.identity}"

    def clamp(self, block: Block) -> Block:
        """``block`` no larger than this peer takes, at the same offset."""
        if block.szx <= self.largest_block:
            return block
        shift = block.szx - self.largest_block
        return Block(block.number << shift, block.more, self.largest_block)

    def __repr__(self) -> str:
        return f"<Peer {self.uri}>"
