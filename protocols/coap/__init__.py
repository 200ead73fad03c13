"""CoAP over UDP: RFC 7252, 7641 (Observe) and 7959 (block-wise), sans-IO, with a thin endpoint."""

from protocols.coap.blockwise import BodyAssembler, Transfer
from protocols.coap.endpoint import CoapEndpoint
from protocols.coap.errors import (
    CoapError,
    CoapFormatError,
    CoapUriError,
    EndpointClosed,
    RequestFailed,
    RequestReset,
    RequestTimeout,
    TransferFailed,
)
from protocols.coap.message import Message, decode_datagram, encode_datagram, response
from protocols.coap.message_layer import Exchange
from protocols.coap.numbers import Code, ContentFormat, OptionNumber, Type, code_text
from protocols.coap.options import NO_OPTIONS, Block, Options, make_options
from protocols.coap.peer import Peer
from protocols.coap.request_layer import RequestHandle
from protocols.coap.tuning import DEFAULT_TUNING, TransportTuning
from protocols.coap.uri import CoapUri, parse_uri

__all__ = [
    "DEFAULT_TUNING",
    "NO_OPTIONS",
    "Block",
    "BodyAssembler",
    "CoapEndpoint",
    "CoapError",
    "CoapFormatError",
    "CoapUri",
    "CoapUriError",
    "EndpointClosed",
    "Code",
    "ContentFormat",
    "Exchange",
    "Message",
    "OptionNumber",
    "Options",
    "Peer",
    "RequestFailed",
    "RequestHandle",
    "RequestReset",
    "RequestTimeout",
    "Transfer",
    "TransferFailed",
    "TransportTuning",
    "Type",
    "code_text",
    "decode_datagram",
    "encode_datagram",
    "make_options",
    "parse_uri",
    "response",
]
