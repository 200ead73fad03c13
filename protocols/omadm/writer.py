"""The model, written out: one walk for both representations.

XML and WBXML differ in how an element begins and ends and how text is carried, and in nothing
else; that is their :class:`Alphabet`. The walk fills in templates which are composed of it once.
Order is the DTD's, which is the order that every reader takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Any

from protocols.omadm.errors import SyncmlMisuse
from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Command,
    Copy,
    Cred,
    Delete,
    Exec,
    Get,
    Header,
    Item,
    ItemCommand,
    Message,
    Meta,
    MgmtTree,
    Node,
    Replace,
    Results,
    Sequence,
    Status,
    Unsupported,
)

__all__ = ["DDF", "METINF", "SYNCML", "Alphabet", "Writer"]

# Code pages, and with them namespaces.
SYNCML, METINF, DDF = 0, 1, 2

_PLAIN = (
    *("Get", "Add", "Replace", "Delete", "Copy", "Exec", "Atomic", "Sequence"),
    *("Put", "Search", "Map", "Sync", "Move"),
)
"""Commands of CmdID and what follows it."""
_FORMATS = ("b64", "bin", "bool", "chr", "int", "node", "null", "xml", "date", "time", "float")


_RARE_META = {
    "mark": "Mark",
    "size": "Size",
    "version": "Version",
    "next_nonce": "NextNonce",
    "max_msg_size": "MaxMsgSize",
    "max_obj_size": "MaxObjSize",
}
"""In the DTD's order, which has Format and Type before them and EMI behind."""
_rare_meta = attrgetter(*_RARE_META, "emi")
_NO_RARE_META = _rare_meta(Meta())


class Alphabet(ABC):
    """How elements and text look. "%" in a name does not occur, so these are templates."""

    @abstractmethod
    def begin(self, page: int, name: str, inside: int) -> str:
        """The start of an element that stands among elements of `page` and holds some of the page
        `inside`."""

    @abstractmethod
    def end(self, page: int, name: str, inside: int) -> str: ...

    @abstractmethod
    def empty(self, page: int, name: str) -> str: ...

    @abstractmethod
    def leaf(self, page: int, name: str) -> str:
        """An element with "%s" for its text."""

    @abstractmethod
    def text(self, text: str) -> str:
        """Text for :meth:`leaf`. Raises SyncmlMisuse for what cannot be carried."""

    @abstractmethod
    def data(
        self, data: str | bytes, format: str | None, page: int, name: str
    ) -> tuple[str, str | None]:
        """The whole element of a node's data, and the Format under which it is carried."""


class Writer:
    """Writes messages and serialised trees in one alphabet."""

    def __init__(self, alphabet: Alphabet) -> None:
        self._alphabet = a = alphabet
        self._text = a.text

        def leaf(name: str) -> str:
            return a.leaf(SYNCML, name)

        def element(name: str, *content: str, inside: int = SYNCML) -> str:
            return a.begin(SYNCML, name, inside) + "".join(content) + a.end(SYNCML, name, inside)

        def metinf(name: str) -> str:
            return a.leaf(METINF, name)

        self._message = element("SyncML", "%s", element("SyncBody", "%s"))
        self._header = element(
            "SyncHdr", *(leaf(name) for name in ("VerDTD", "VerProto", "SessionID", "MsgID")), "%s"
        )
        self._resp_uri = leaf("RespURI")
        self._target = element("Target", leaf("LocURI"))
        self._target_named = element("Target", leaf("LocURI"), leaf("LocName"))
        self._source = element("Source", leaf("LocURI"))
        self._source_named = element("Source", leaf("LocURI"), leaf("LocName"))
        self._no_resp = a.empty(SYNCML, "NoResp")
        self._final = a.empty(SYNCML, "Final")

        self._meta = element("Meta", "%s", inside=METINF)
        self._meta_empty = a.empty(SYNCML, "Meta")
        self._format = metinf("Format")
        self._type = metinf("Type")
        self._max_msg_size = metinf("MaxMsgSize")
        self._max_obj_size = metinf("MaxObjSize")
        self._rare_meta = tuple(metinf(name) for name in _RARE_META.values())
        self._emi = metinf("EMI")

        self._item_template = element("Item", "%s")
        self._data_empty = a.empty(SYNCML, "Data")
        self._data_tree = element("Data", "%s", inside=DDF)
        self._more_data = a.empty(SYNCML, "MoreData")

        self._status = element(
            "Status",
            *(leaf(name) for name in ("CmdID", "MsgRef", "CmdRef", "Cmd")),
            "%s",
            leaf("Data"),
            "%s",
        )
        self._target_ref = leaf("TargetRef")
        self._source_ref = leaf("SourceRef")
        self._cred = element("Cred", "%s", leaf("Data"))
        self._chal = element("Chal", "%s")
        self._alert = element("Alert", leaf("CmdID"), "%s", leaf("Data"), "%s")
        self._correlator = leaf("Correlator")
        self._results = element("Results", leaf("CmdID"), leaf("MsgRef"), leaf("CmdRef"), "%s")
        self._plain = {name: element(name, leaf("CmdID"), "%s") for name in _PLAIN}
        self._by_type: dict[type[Any], Callable[[Any], str]] = {
            Status: self._write_status,
            Results: self._write_results,
            Alert: self._write_alert,
            Atomic: self._write_nested,
            Sequence: self._write_nested,
            Unsupported: self._write_unsupported,
            **dict.fromkeys((Get, Add, Replace, Delete, Copy, Exec), self._write_item_command),
        }
        self._ddf = _TreeTemplates(a)

    def message(self, message: Message) -> str:
        """Raises SyncmlMisuse for what the representation cannot carry."""
        body = self._commands(message.commands)
        if message.final:
            body += self._final
        return self._message % (self._write_header(message.header), body)

    def _write_header(self, header: Header) -> str:
        text = self._text
        out = self._location(
            self._target, self._target_named, header.target, header.target_name
        ) + self._location(self._source, self._source_named, header.source, header.source_name)
        if header.resp_uri is not None:
            out += self._resp_uri % text(header.resp_uri)
        if header.no_resp:
            out += self._no_resp
        if header.cred is not None:
            out += self._write_cred(header.cred)
        sizes = ""
        if header.max_msg_size is not None:
            sizes = self._max_msg_size % header.max_msg_size
        if header.max_obj_size is not None:
            sizes += self._max_obj_size % header.max_obj_size
        if sizes:
            out += self._meta % sizes
        return self._header % (
            text(header.ver_dtd),
            text(header.ver_proto),
            text(header.session_id),
            header.msg_id,
            out,
        )

    def _location(self, plain: str, named: str, uri: str | None, name: str | None) -> str:
        if uri is None:
            if name is not None:
                raise SyncmlMisuse("a LocName without LocURI")
            return ""
        if name is None:
            return plain % self._text(uri)
        return named % (self._text(uri), self._text(name))

    def _write_cred(self, cred: Cred) -> str:
        meta = self._write_meta(Meta(format=cred.format, type=cred.type or None))
        return self._cred % (meta, self._text(cred.data))

    def _write_meta(self, meta: Meta) -> str:
        out = ""
        if meta.format is not None:
            out = self._format % self._text(meta.format)
        if meta.type is not None:
            out += self._type % self._text(meta.type)
        rare = _rare_meta(meta)
        if rare != _NO_RARE_META:
            *values, emi = rare
            for leaf, value in zip(self._rare_meta, values, strict=True):
                if value is not None:
                    out += leaf % (self._text(value) if isinstance(value, str) else value)
            for text in emi:
                out += self._emi % self._text(text)
        return self._meta % out if out else self._meta_empty

    # --- commands ------------------------------------------------------------------------

    def _commands(self, commands: Iterable[Command]) -> str:
        by_type = self._by_type
        written = []
        for command in commands:
            try:
                written.append(by_type[type(command)](command))
            except SyncmlMisuse as error:
                raise SyncmlMisuse(f"{command.name} {command.cmd_id[:20]!r}: {error}") from None
        return "".join(written)

    def _write_item_command(self, command: ItemCommand) -> str:
        out = self._no_resp if command.no_resp else ""
        meta = command.meta
        if meta is not None:
            out += self._write_meta(meta)
        if command.correlator is not None:
            out += self._correlator % self._text(command.correlator)
        out += self._items(command.items, meta)
        return self._plain[command.name] % (self._text(command.cmd_id), out)

    def _write_alert(self, alert: Alert) -> str:
        out = ""
        if alert.correlator is not None:
            out = self._correlator % self._text(alert.correlator)
        return self._alert % (
            self._text(alert.cmd_id),
            self._no_resp if alert.no_resp else "",
            alert.code,
            out + self._items(alert.items),
        )

    def _write_results(self, results: Results) -> str:
        meta = results.meta
        out = "" if meta is None else self._write_meta(meta)
        out += self._refs(results) + self._items(results.items, meta)
        return self._results % (
            self._text(results.cmd_id),
            results.msg_ref,
            self._text(results.cmd_ref),
            out,
        )

    def _write_status(self, status: Status) -> str:
        text = self._text
        before = after = ""
        if status.target_refs or status.source_refs:
            before = self._refs(status)
        if status.cred is not None:
            before += self._write_cred(status.cred)
        chal = status.chal
        if chal is not None:
            before += self._chal % self._write_meta(
                Meta(format=chal.format, type=chal.type or None, next_nonce=chal.next_nonce)
            )
        if status.items:
            after = self._items(status.items)
        return self._status % (
            text(status.cmd_id),
            status.msg_ref,
            text(status.cmd_ref),
            text(status.cmd),
            before,
            status.code,
            after,
        )

    def _refs(self, command: Status | Results) -> str:
        text = self._text
        return "".join(
            [self._target_ref % text(ref) for ref in command.target_refs]
            + [self._source_ref % text(ref) for ref in command.source_refs]
        )

    def _write_nested(self, command: Atomic | Sequence) -> str:
        out = self._no_resp if command.no_resp else ""
        if command.meta is not None:
            out += self._write_meta(command.meta)
        out += self._commands(command.commands)
        return self._plain[command.name] % (self._text(command.cmd_id), out)

    def _write_unsupported(self, command: Unsupported) -> str:
        out = self._no_resp if command.no_resp else ""
        return self._plain[command.name] % (self._text(command.cmd_id), out)

    # --- items ---------------------------------------------------------------------------

    def _items(self, items: Iterable[Item], meta: Meta | None = None) -> str:
        format = None if meta is None else meta.format
        return "".join([self._write_item(item, format) for item in items])

    def _write_item(self, item: Item, format: str | None) -> str:
        """`format` is the command's, for an item that has none."""
        out = self._location(self._target, self._target_named, item.target, item.target_name)
        out += self._location(self._source, self._source_named, item.source, item.source_name)
        meta, data = item.meta, item.data
        content = ""
        if isinstance(data, MgmtTree):
            content = self._data_tree % self.tree(data)
        elif data is not None:
            if meta is not None and meta.format is not None:
                format = meta.format
            content, carried = self._alphabet.data(data, format, SYNCML, "Data")
            if carried != format:
                meta = replace(meta or Meta(), format=carried)
        if meta is not None:
            out += self._write_meta(meta)
        out += content
        if item.more_data:
            out += self._more_data
        return self._item_template % out

    # --- serialised trees ----------------------------------------------------------------

    def tree(self, tree: MgmtTree) -> str:
        text, ddf = self._text, self._ddf
        out = ddf.ver_dtd % text(tree.ver_dtd)
        if tree.man is not None:
            out += ddf.man % text(tree.man)
        if tree.mod is not None:
            out += ddf.mod % text(tree.mod)
        return ddf.tree % (out + "".join([self._write_node(node) for node in tree.nodes]))

    def _write_node(self, node: Node) -> str:
        text, ddf = self._text, self._ddf
        if node.children and node.value is not None:
            raise SyncmlMisuse(f"node {node.name!r} has both a value and children")
        format, value = node.format, ""
        if node.value is not None:
            value, format = self._alphabet.data(node.value, format, DDF, "Value")
        properties = ""
        if node.acl is not None:
            properties += ddf.acl % text(node.acl)
        if format is not None:
            if format not in ddf.formats:
                raise SyncmlMisuse(f"node {node.name!r}: {format!r} is no format")
            properties += ddf.formats[format]
        if node.size is not None:
            properties += ddf.size % node.size
        if node.title is not None:
            properties += ddf.title % text(node.title)
        if node.tstamp is not None:
            properties += ddf.tstamp % text(node.tstamp)
        if node.ddf_name is not None or node.type is not None:
            kind = "" if node.type is None else ddf.mime % text(node.type)
            if node.ddf_name is not None:
                kind += ddf.ddf_name % text(node.ddf_name)
            properties += ddf.type % kind
        if node.ver_no is not None:
            properties += ddf.ver_no % node.ver_no
        out = ddf.node_name % text(node.name)
        if node.path is not None:
            out += ddf.path % text(node.path)
        if properties:
            out += ddf.properties % properties
        out += value
        return ddf.node % (out + "".join([self._write_node(child) for child in node.children]))


class _TreeTemplates:
    """The elements of a serialised tree, in one alphabet."""

    def __init__(self, a: Alphabet) -> None:
        def leaf(name: str) -> str:
            return a.leaf(DDF, name)

        def element(name: str, content: str = "%s") -> str:
            return a.begin(DDF, name, DDF) + content + a.end(DDF, name, DDF)

        self.tree = element("MgmtTree")
        self.ver_dtd = leaf("VerDTD")
        self.man = leaf("Man")
        self.mod = leaf("Mod")
        self.node = element("Node")
        self.node_name = leaf("NodeName")
        self.path = leaf("Path")
        self.properties = element("RTProperties")
        self.acl = leaf("ACL")
        self.formats = {name: element("Format", a.empty(DDF, name)) for name in _FORMATS}
        self.size = leaf("Size")
        self.title = leaf("Title")
        self.tstamp = leaf("TStamp")
        self.type = element("Type")
        self.mime = leaf("MIME")
        self.ddf_name = leaf("DDFName")
        self.ver_no = leaf("VerNo")
