"""Software components and configuration files by SCOMO: orders, the inventory, and their reports.

As with firmware, an accepted Exec (202) becomes an order in `nvm` and its end a generic alert in a
new session. One order at a time; another Exec meanwhile is refused with 405. The steps of `step`::

    FETCH    download the component and check it; its outcome is noted
    APPLY    write the inventory: only while no session runs, whose tree would be another
    REPORT   tell the result

A power cut leaves the step that was not finished to be done again: what was fetched lived in RAM,
and the inventory and the result are written in an order that repeats well.

The inventory says what the server wrote; what the device really has is kept apart, as in
`agent.files`: size and digest of the bytes that arrived. A PkgID that is a SHA-256 in hex is what
they are compared with before anything is delivered: SCOMO knows no other place for a digest, and
this one is ours.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.device import Device
from agent.files import INSTALLED as INSTALLED_FILES
from agent.files import InstalledFile, key_of
from agent.misbehaviour import Misbehaviour
from agent.nvm import NvmFull
from agent.outcome import Outcome
from protocols.http.fetch import Content
from protocols.omadm.fumo_tables import Trouble
from protocols.omadm.model import Alert, Item, Meta
from protocols.omadm.order import MAX_CORRELATOR, MAX_URL
from protocols.omadm.scomo_tables import (
    ACTIVATE_FAILED,
    ACTIVE,
    ALERT_TYPE,
    DEACTIVATE_FAILED,
    INSTALLED,
    OPERATIONS,
    REMOVE_FAILED,
    Kind,
    Operation,
    Plan,
    result_code,
)
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree import Tree
from protocols.omadm.tree_hooks import Execution, Hooks

__all__ = ["ScomoClient", "ScomoOrder", "Step"]

ROOT = "./SCOMO"
_NAMESPACE = "omadm"
_NAME = "scomo"

_NODES = tuple(
    f"{ROOT}/{kind.value}/*/Operations/{operation.value}"
    for kind, operations in OPERATIONS.items()
    for operation in operations
)
"""URIs of what can be executed."""

_DELIVERED_FILES = "delivered"
"""Namespace of what was fetched and not removed: size and digest, by component."""
FILES_LIMIT = 512
"""Octets of all that is kept of the components: as with the tree, all of a device's records must
fit one sector of 4 KiB."""
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_DETAILS = {"Name": 128, "Description": 256, "EnvType": 64}
"""Copied from a download to the inventory."""


NAME_KEPT = 48
"""Characters of a name and of a version that the device keeps for itself."""


class Step(enum.Enum):
    """What the order needs now."""

    NOTHING = "nothing"
    FETCH = "fetch"
    APPLY = "apply"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class ScomoOrder:
    """One Exec that was accepted."""

    kind: Kind
    name: str
    """Of the component's node."""
    operation: Operation
    correlator: str | None
    url: str = ""
    result: int | None = None
    """Once the work is over."""
    fetched: int | None = None
    """Result of the download, before it is applied."""
    size: int = 0
    """Of what was fetched."""
    sha256: str = ""

    @property
    def base(self) -> str:
        """The component's node."""
        return f"{ROOT}/{self.kind.value}/{self.name}"

    @property
    def plan(self) -> Plan:
        return OPERATIONS[self.kind][self.operation]

    def encode(self) -> bytes:
        told = [self.kind.value, self.name, self.operation.value, self.correlator, self.url]
        came = [self.result, self.fetched, self.size, self.sha256]
        return json.dumps([*told, *came], separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> ScomoOrder:
        """Raises ValueError for what is no record of ours."""
        values = json.loads(data)
        if not isinstance(values, list) or len(values) != 9:
            raise ValueError("an order has nine values")
        kind, name, operation, correlator, url, result, fetched, size, sha256 = values
        told = Kind(kind), str(name), Operation(operation), correlator, str(url)
        return cls(*told, result, fetched, int(size), str(sha256))


class ScomoClient:
    """SCOMO of one device, for one uptime."""

    __slots__ = ("_device", "_leaf", "_misbehave", "_showing", "order")

    def __init__(self, device: Device, misbehave: frozenset[Misbehaviour]) -> None:
        self._device = device
        self._misbehave = misbehave
        self._leaf: Callable[[str], str] = _nothing
        self._showing: dict[str, Callable[[], str]] | None = None
        self.order: ScomoOrder | None = None
        stored = device.nvm.get(_NAMESPACE, _NAME)
        if stored is not None:
            try:
                self.order = ScomoOrder.decode(stored)
            except ValueError:
                device.nvm.delete(_NAMESPACE, _NAME)  # of another version of this program

    # -- what the server sees -------------------------------------------------------------------

    def hooks(self) -> Hooks:
        return Hooks(on_execute=dict.fromkeys(_NODES, self._execute))

    def show(self, computed: dict[str, Callable[[], str]]) -> None:
        """Let the leaves of `computed`, by URI, show that an operation is under way."""
        order = self.order
        if order is not None and order.result is None:
            progressing = order.plan.progressing
            computed[f"{order.base}/Status"] = lambda: progressing

    def begin(self, leaf: Callable[[str], str], computed: dict[str, Callable[[], str]]) -> None:
        """A session begins: how its tree is read, and what its leaves show."""
        self._leaf, self._showing = leaf, computed

    def end(self) -> None:
        """It is over: an idle device keeps nothing of it."""
        self._leaf, self._showing = _nothing, None

    def _execute(self, execution: Execution) -> StatusCode:
        if self.order is not None:
            raise TreeError(StatusCode.NOT_ALLOWED, "an operation is under way")
        *below, name, _, verb = execution.uri.removeprefix(f"{ROOT}/").split("/")
        kind, operation = Kind("/".join(below)), Operation(verb)
        correlator = execution.correlator
        if correlator is not None and len(correlator.encode()) > MAX_CORRELATOR:
            raise TreeError(StatusCode.TOO_LARGE, "the correlator is too long to be kept")
        url = ""
        if kind is Kind.DOWNLOAD:
            url = self._leaf(f"{ROOT}/{kind.value}/{name}/PkgURL")
            if not url or len(url.encode()) > MAX_URL:
                raise TreeError(StatusCode.NOT_ALLOWED, "no PkgURL that could be used")
        self._keep(ScomoOrder(kind, name, operation, correlator, url))
        if self._showing is not None:
            self.show(self._showing)
        return StatusCode.ACCEPTED

    # -- what the client does -------------------------------------------------------------------

    def step(self) -> Step:
        order = self.order
        if order is None:
            return Step.NOTHING
        if order.result is not None:
            return Step.REPORT
        if order.plan.fetches and order.fetched is None:
            return Step.FETCH
        return Step.APPLY

    def fetched(self, outcome: Outcome, trouble: Trouble, content: Content | None) -> None:
        """The download is over; `content` is what arrived."""
        if self.order is not None:
            order = replace(self.order, fetched=result_code(outcome, trouble))
            if content is not None:
                order = replace(order, size=content.size, sha256=content.sha256)
            self._note(order)

    def apply(self, tree: Tree) -> None:
        """Write the inventory of the device's own `tree`, and the result."""
        order = self.order
        assert order is not None
        plan, result = order.plan, order.fetched or 1200
        if result == 1200 and plan.delivers:
            wanted = _leaf(tree, f"{order.base}/PkgID")
            if _SHA256.fullmatch(wanted) and wanted.lower() != order.sha256:
                result = result_code(Outcome.INTEGRITY)
        if result == 1200:
            try:
                self._write(order, plan, tree)
                self._measure(order, plan, tree)
            except TreeError as error:
                full = error.status is StatusCode.DEVICE_FULL
                result = result_code(Outcome.NO_SPACE) if full else _failure(order)
        status = plan.done if result == 1200 else plan.failed
        if tree.exists(f"{order.base}/Status"):
            # What a full storage cannot hold is left out: the result tells it.
            _try(lambda: tree.replace(f"{order.base}/Status", status))
        self._note(replace(order, result=result))

    def alert(self) -> Alert | None:
        """The generic alert that ends the order, once there is one to tell of."""
        order = self.order
        if order is None or order.result is None:
            return None
        code = order.result
        if Misbehaviour.FALSE_SUCCESS in self._misbehave:
            code = 1200
        elif Misbehaviour.FALSE_FAILURE in self._misbehave and code == 1200:
            code = result_code(Outcome.INSTALL_FAILED)
        mark = None if code == 1200 else "critical"
        meta = Meta(format="xml", type=ALERT_TYPE, mark=mark)
        name = order.name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        data = f"<ResultCode>{code}</ResultCode><Identifier>{name}</Identifier>"
        source = f"{order.base}/Operations/{order.operation.value}"
        return Alert("", 1226, (Item(source=source, meta=meta, data=data),), order.correlator)

    def reported(self) -> None:
        """The server has the alert."""
        self.order = None
        self._device.nvm.delete(_NAMESPACE, _NAME)

    # -- internals ------------------------------------------------------------------------------

    def _write(self, order: ScomoOrder, plan: Plan, tree: Tree) -> None:
        """All of the inventory's changes, or none."""
        with tree.transaction() as transaction:
            if plan.delivers:
                self._deliver(order, tree)
            if plan.deploys is not None:
                self._deploy(order, plan.deploys, tree)
            if plan.removes and tree.exists(order.base):
                tree.delete(order.base)
            transaction.commit()

    def _deliver(self, order: ScomoOrder, tree: Tree) -> None:
        base = f"{ROOT}/{Kind.DELIVERED.value}/{order.name}"
        if tree.exists(base):
            tree.delete(base)
        tree.add(base)
        package = _leaf(tree, f"{order.base}/PkgID") or order.name
        _put(tree, f"{base}/PkgID", package)
        _copy(tree, order.base, base)

    def _deploy(self, order: ScomoOrder, state: str, tree: Tree) -> None:
        base = f"{ROOT}/{Kind.DEPLOYED.value}/{order.name}"
        if not tree.exists(base):
            tree.add(base)
            _put(tree, f"{base}/ID", order.name)
        if order.kind is not Kind.DEPLOYED:
            # Also of one that was there: an install brings what was delivered last.
            source = f"{ROOT}/{Kind.DELIVERED.value}/{order.name}"
            package = _leaf(tree, f"{source}/PkgID") or order.name
            _put(tree, f"{base}/PkgIDRef", package)
            _copy(tree, source, base)
            version = _leaf(tree, f"{source}/Description")
            if version:
                # Of a component whose content nobody reads, only its server knows it.
                _put(tree, f"{base}/Version", version[:NAME_KEPT])
        tree.replace(f"{base}/State", state)
        delivered = f"{ROOT}/{Kind.DELIVERED.value}/{order.name}/State"
        if tree.exists(delivered):
            tree.replace(delivered, INSTALLED)

    def _measure(self, order: ScomoOrder, plan: Plan, tree: Tree) -> None:
        """Keep the device's truth of what the inventory has come to. Raises TreeError(420)."""
        nvm, key = self._device.nvm, key_of(order.name)
        if plan.delivers:
            there = {key_of(name) for name in tree.names(f"{ROOT}/{Kind.DELIVERED.value}")}
            for gone in [name for name, _ in nvm.items(_DELIVERED_FILES) if name not in there]:
                nvm.delete(_DELIVERED_FILES, gone)  # a server has deleted its node
            self._put(_DELIVERED_FILES, key, json.dumps([order.size, order.sha256]).encode())
        if plan.deploys is not None:
            base = f"{ROOT}/{Kind.DEPLOYED.value}/{order.name}"
            size, sha256 = self._content(order, key)
            file = InstalledFile(
                (_leaf(tree, f"{base}/Name") or order.name)[:NAME_KEPT],
                _leaf(tree, f"{base}/Version")[:NAME_KEPT],
                "",
                size,
                sha256,
                plan.deploys == ACTIVE,
            )
            self._put(INSTALLED_FILES, key, file.encode())
        if plan.removes:
            deployed = order.kind is Kind.DEPLOYED
            nvm.delete(INSTALLED_FILES if deployed else _DELIVERED_FILES, key)

    def _content(self, order: ScomoOrder, key: str) -> tuple[int, str]:
        """Size and digest of what is deployed by `order`."""
        nvm = self._device.nvm
        try:
            if order.kind is Kind.DEPLOYED:
                kept = InstalledFile.decode(nvm.get(INSTALLED_FILES, key) or b"")
                return kept.size, kept.sha256
            size, sha256 = json.loads(nvm.get(_DELIVERED_FILES, key) or b"")
        except (TypeError, ValueError):
            return 0, ""  # nobody knows: what was there came from another version of this program
        return int(size), str(sha256)

    def _put(self, namespace: str, key: str, value: bytes) -> None:
        nvm = self._device.nvm
        used = sum(
            len(name) + len(kept)
            for space in (INSTALLED_FILES, _DELIVERED_FILES)
            for name, kept in nvm.items(space)
            if (space, name) != (namespace, key)
        )
        if used + len(key) + len(value) > FILES_LIMIT:
            raise TreeError(StatusCode.DEVICE_FULL, "no room for another component")
        try:
            nvm.set(namespace, key, value)
        except NvmFull:
            raise TreeError(StatusCode.DEVICE_FULL, "the storage is full") from None

    def _keep(self, order: ScomoOrder) -> None:
        try:
            self._device.nvm.set(_NAMESPACE, _NAME, order.encode())
        except NvmFull:
            raise TreeError(StatusCode.DEVICE_FULL, "the storage is full") from None
        self.order = order

    def _note(self, order: ScomoOrder) -> None:
        try:
            self._keep(order)
        except TreeError:
            self.order = order  # told in this uptime or done again in the next


def _nothing(uri: str) -> str:
    """What is read outside of a session."""
    return ""


def _failure(order: ScomoOrder) -> int:
    """Of an operation that the inventory refuses."""
    codes = {
        Operation.REMOVE: REMOVE_FAILED,
        Operation.ACTIVATE: ACTIVATE_FAILED,
        Operation.DEACTIVATE: DEACTIVATE_FAILED,
    }
    return codes.get(order.operation, result_code(Outcome.INSTALL_FAILED))


def _leaf(tree: Tree, uri: str) -> str:
    try:
        value = tree.value(uri)
    except TreeError:
        return ""
    return value if isinstance(value, str) else ""


def _put(tree: Tree, uri: str, value: str) -> None:
    """Some leaves come with their node, others do not."""
    write = tree.replace if tree.exists(uri) else tree.add
    write(uri, value)


def _copy(tree: Tree, source: str, target: str) -> None:
    for name, limit in _DETAILS.items():
        value = _leaf(tree, f"{source}/{name}")
        if value:
            _put(tree, f"{target}/{name}", value[:limit])


def _try(call: Callable[[], object]) -> None:
    try:
        call()
    except TreeError:
        return
