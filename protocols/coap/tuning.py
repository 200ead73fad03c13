"""Protocol tuning: RFC 7252 section 4.8 and RFC 7959 in one place.

A slow network or an odd device is a replaced field (:func:`dataclasses.replace`), not a patch.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_TUNING", "TransportTuning"]


@dataclass(frozen=True, slots=True)
class TransportTuning:
    """Times in seconds, sizes in bytes; the defaults are the RFCs'."""

    ack_timeout: float = 2.0
    ack_random_factor: float = 1.5
    max_retransmit: int = 4
    nstart: int = 1
    max_latency: float = 100.0
    processing_delay: float = 2.0
    # How long a request may stay unanswered before an empty ACK leaves (section 5.2.2): well
    # below ACK_TIMEOUT, so that the client does not retransmit what we already work on.
    empty_ack_after: float = 0.5
    # How long a client waits for the separate response after the empty ACK. The RFC leaves it
    # open; MAX_TRANSMIT_WAIT is what servers commonly take.
    response_timeout: float = 93.0
    # 1024-byte blocks by default (RFC 7959 section 2.2: SZX 6).
    block_szx: int = 6
    # Largest body that is put together in memory for a handler or a caller.
    max_body: int = 64 * 1024
    # A notification is confirmable at least this often (RFC 7641 section 4.5).
    confirmable_notification_every: float = 86_400.0
    # Datagrams that one readable socket may deliver per loop turn.
    burst: int = 1
    # Socket buffer in bytes; None keeps the system's.
    socket_buffer: int | None = None

    @property
    def max_transmit_span(self) -> float:
        return self.ack_timeout * ((1 << self.max_retransmit) - 1) * self.ack_random_factor

    @property
    def max_transmit_wait(self) -> float:
        return self.ack_timeout * ((2 << self.max_retransmit) - 1) * self.ack_random_factor

    @property
    def exchange_lifetime(self) -> float:
        """How long a message id must not be reused, and a duplicate may arrive: 247 s."""
        return self.max_transmit_span + 2 * self.max_latency + self.processing_delay


DEFAULT_TUNING = TransportTuning()
