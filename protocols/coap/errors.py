"""Errors of the CoAP layers; each says whose fault it is."""

from __future__ import annotations

__all__ = [
    "CoapError",
    "CoapFormatError",
    "CoapUriError",
    "EndpointClosed",
    "LocalMisuse",
    "RequestFailed",
    "RequestReset",
    "RequestTimeout",
    "TransferFailed",
]


class CoapError(Exception):
    """Base of all."""


class CoapFormatError(CoapError):
    """The remote sent bytes that are no CoAP message (RFC 7252 section 3: Message Format Error)."""


class CoapUriError(CoapError):
    """A text is no ``coap://`` URI; it names the text."""


class LocalMisuse(CoapError):
    """The caller asked for what the protocol does not allow."""


class RequestFailed(CoapError):
    """A request ended without a response."""


class RequestTimeout(RequestFailed):
    """MAX_RETRANSMIT went by without an acknowledgement, or no response came in time."""


class RequestReset(RequestFailed):
    """The peer answered with a Reset: it is there, but lost or never had the context."""


class EndpointClosed(RequestFailed):
    """Our own endpoint was closed before an answer came."""


class TransferFailed(RequestFailed):
    """A block-wise transfer cannot go on; the text says what the peer did."""
