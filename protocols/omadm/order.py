"""The firmware operation that a server ordered, as it is kept in `nvm` until its end was reported.

The update engine knows how far the work is; the order says what was asked, and by which words its
end must be told. Without an order nothing is under way, whatever the engine did last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from agent.nvm import Nvm, NvmFull
from protocols.omadm.fumo_tables import Operation, Trouble
from protocols.omadm.status import StatusCode, TreeError

__all__ = ["NAMESPACE", "Order", "OrderBook"]

NAMESPACE = "omadm"
_NAME = "order"

MAX_CORRELATOR = 128
"""Octets. It names an operation to its server; real ones have 8 to 40."""
MAX_URL = 1024
"""Octets of a package URL; what the update engine keeps of one."""


@dataclass(frozen=True, slots=True)
class Order:
    """One Exec that was accepted with 202."""

    operation: Operation
    uri: str
    """The node that was executed."""
    correlator: str | None = None
    url: str = field(default="", repr=False)
    """Of the package or of its descriptor; empty for an Update."""
    trouble: Trouble = Trouble.NONE
    install_at: float | None = None
    """UTC seconds: the install was put off until then."""
    notify: str = field(default="", repr=False)
    """Where an install-notify has yet to go."""

    def encode(self) -> bytes:
        record: dict[str, object] = {"op": self.operation.value, "uri": self.uri}
        if self.correlator is not None:
            record["cor"] = self.correlator
        if self.url:
            record["url"] = self.url
        if self.trouble is not Trouble.NONE:
            record["bad"] = self.trouble.value
        if self.install_at is not None:
            record["at"] = self.install_at
        if self.notify:
            record["tell"] = self.notify
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Order:
        """Raises ValueError for what is no record of ours."""
        record = json.loads(data)
        if not isinstance(record, dict):
            raise ValueError("an order is an object")
        at = record.get("at")
        return cls(
            Operation(record.get("op")),
            str(record.get("uri", "")),
            record.get("cor"),
            str(record.get("url", "")),
            Trouble(record.get("bad", "")),
            float(at) if isinstance(at, int | float) else None,
            str(record.get("tell", "")),
        )


class OrderBook:
    """The one order of a device."""

    __slots__ = ("_nvm", "order")

    def __init__(self, nvm: Nvm) -> None:
        self._nvm = nvm
        self.order: Order | None = None
        stored = nvm.get(NAMESPACE, _NAME)
        if stored is not None:
            try:
                self.order = Order.decode(stored)
            except ValueError:
                # Written by another version of this program: nobody could report on it.
                nvm.delete(NAMESPACE, _NAME)

    @property
    def notify(self) -> str:
        """Where the order's install-notify has yet to go; empty: nowhere."""
        return "" if self.order is None else self.order.notify

    def take(self, order: Order) -> None:
        """Raises TreeError: 414 for what is too long to be kept, 420 when the storage is full."""
        if len(order.url.encode()) > MAX_URL:
            raise TreeError(StatusCode.URI_TOO_LONG, "the package URL is too long to be kept")
        if order.correlator is not None and len(order.correlator.encode()) > MAX_CORRELATOR:
            raise TreeError(StatusCode.TOO_LARGE, "the correlator is too long to be kept")
        self._keep(order)

    def note(
        self,
        *,
        trouble: Trouble | None = None,
        install_at: float | None = None,
        notify: str | None = None,
    ) -> None:
        """Keep more about the order that there is. What does not fit is forgotten: it refines a
        report, and a device with a full storage must still send one."""
        order = self.order
        if order is None:
            return
        if trouble is not None:
            order = replace(order, trouble=trouble)
        if install_at is not None:
            order = replace(order, install_at=install_at)
        if notify is not None:
            order = replace(order, notify=notify if len(notify.encode()) <= MAX_URL else "")
        if order != self.order:
            try:
                self._keep(order)
            except TreeError:
                self.order = order

    def drop(self) -> None:
        """It is over and told."""
        self.order = None
        self._nvm.delete(NAMESPACE, _NAME)

    def _keep(self, order: Order) -> None:
        try:
            self._nvm.set(NAMESPACE, _NAME, order.encode())
        except NvmFull:
            raise TreeError(StatusCode.DEVICE_FULL, "the storage is full") from None
        self.order = order
