"""What a `sw-description` says: version, hardware, and the files of the archive.

    software = { version; name; hardware-compatibility; images: (...); files: (...);
                 BOARD = { the same; SET = { MODE = { the same }; }; }; SET = { MODE = {...}; }; };

A device looks for each setting in four places, the most particular first, exactly as SWUpdate's
parser does (`find_node` in its parser/parser.c): board and set, set, board, and the root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from firmware_images.archive import refuse_name
from firmware_images.errors import CannotBuild, PackageRefused, Reason, UnusableInput
from firmware_images.package import PackageLimits
from firmware_images.swu.libconfig import Group, Value, dump, parse

__all__ = ["Description", "Hardware", "SwuFile", "write_description"]

_NAME = re.compile(r"[A-Za-z*][-A-Za-z0-9_*]*", re.ASCII)
_REVISION = re.compile(r"[-A-Za-z0-9_.+]+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SECTIONS = ("images", "files", "scripts")
_RESERVED = frozenset({*_SECTIONS, "version", "name", "description", "hardware-compatibility"})
_EXPRESSION = "#RE:"
"""SWUpdate reads what follows as a POSIX expression; here it is refused: expressions handed in by
a package can take for ever."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One revision of one board, `board:revision` as SWUpdate's `-H` takes it."""

    board: str
    revision: str

    def __post_init__(self) -> None:
        if self.board in _RESERVED or not _NAME.fullmatch(self.board):
            raise UnusableInput(
                f"board {self.board!r}: a letter, then letters, digits, '-', '_' or '*', "
                "and no word of sw-description"
            )
        if not _REVISION.fullmatch(self.revision):
            raise UnusableInput(
                f"revision {self.revision!r} of {self.board}: letters, digits and '-_.+' only"
            )

    @classmethod
    def parse(cls, text: str) -> Hardware:
        board, colon, revision = text.partition(":")
        if not colon:
            raise UnusableInput(f"{text!r} is not BOARD:REVISION, as in default-board:1.0")
        return cls(board, revision)

    def __str__(self) -> str:
        return f"{self.board}:{self.revision}"


@dataclass(frozen=True, slots=True)
class SwuFile:
    """One entry of `images`, `files` or `scripts`."""

    filename: str
    section: str
    kind: str
    """SWUpdate's handler: raw, rawfile, ..."""
    size: int | None
    sha256: bytes | None = field(repr=False)
    target: str
    """Where SWUpdate would write it; our devices write to their own slot."""
    compressed: bool = False
    encrypted: bool = False


class Description:
    """A parsed sw-description. Raises `PackageRefused` for what cannot be one."""

    __slots__ = ("_limits", "_root", "all_files", "hardware", "name", "version")

    def __init__(self, text: bytes, limits: PackageLimits) -> None:
        try:
            settings = parse(text.decode("utf-8"))
        except UnicodeDecodeError:
            raise _bad("is not UTF-8") from None
        root = settings.get("software")
        if not isinstance(root, dict):
            raise _bad("has no group 'software'")
        self._root = root
        self._limits = limits
        self.version = _text(root, "version")
        if not self.version:
            raise _bad("has no version")
        self.name = _text(root, "name")
        self.hardware = tuple(_all_hardware(root))
        """(board, revision) of everything named; board "" where it stands outside any board."""
        self.all_files = tuple(dict.fromkeys(self._walk(root)))
        """Every file of every board and set, each once."""

    def check_hardware(self, hardware: Hardware, software_set: str = "") -> None:
        """Raise with WRONG_DEVICE unless `hardware` is named. SWUpdate demands that the list is."""
        accepted = self._find("hardware-compatibility", hardware.board, software_set)
        if accepted is None:
            raise PackageRefused(
                Reason.WRONG_DEVICE, f"names no hardware that {hardware} could be: {self._boards()}"
            )
        if hardware.revision not in _texts(accepted, "hardware-compatibility"):
            raise PackageRefused(
                Reason.WRONG_DEVICE, f"is not for {hardware}, but for {self._boards()}"
            )

    def files_for(self, board: str, software_set: str = "") -> tuple[SwuFile, ...]:
        """What is installed on `board` when `software_set` ("stable,main", or "") is chosen."""
        found: list[SwuFile] = []
        for section in _SECTIONS:
            entries = self._find(section, board, software_set)
            if entries is not None:
                found += self._entries(section, entries)
        return tuple(found)

    def _find(self, setting: str, board: str, software_set: str) -> Value | None:
        chosen = tuple(software_set.split(",")) if software_set else ()
        named = (board,) if board else ()
        for path in ((*named, *chosen), chosen, named, ()):
            group: Value | None = self._root
            for name in path:
                group = group.get(name) if isinstance(group, dict) else None
            if isinstance(group, dict) and setting in group:
                return group[setting]
        return None

    def _walk(self, group: Group) -> Iterator[SwuFile]:
        for name, value in group.items():
            if name in _SECTIONS:
                yield from self._entries(name, value)
            elif isinstance(value, dict):
                yield from self._walk(value)

    def _entries(self, section: str, value: Value) -> Iterator[SwuFile]:
        if not isinstance(value, tuple):
            raise _bad(f"{section!r} is no list")
        for entry in value:
            if not isinstance(entry, dict):
                raise _bad(f"{section!r} holds something that is no group")
            yield self._file(section, entry)

    def _file(self, section: str, entry: Group) -> SwuFile:
        filename = _text(entry, "filename")
        if not filename:
            raise _bad(f"an entry of {section!r} has no filename")
        refuse_name(filename, self._limits)
        digest = _text(entry, "sha256")
        if digest and not _SHA256.fullmatch(digest):
            raise _bad(f"sha256 of {filename!r} is not 64 hexadecimal digits")
        size = entry.get("size")
        if isinstance(size, str) and size.isascii() and size.isdigit() and len(size) < 20:
            size = int(size)
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            raise _bad(f"size of {filename!r} is no number of bytes")
        return SwuFile(
            filename,
            section,
            _text(entry, "type"),
            size,
            bytes.fromhex(digest) if digest else None,
            _text(entry, "path") or _text(entry, "device"),
            compressed=entry.get("compressed", False) is not False,
            encrypted=entry.get("encrypted", False) is not False,
        )

    def _boards(self) -> str:
        named = [f"{board or 'any board'}:{revision}" for board, revision in self.hardware[:8]]
        return ", ".join(map(repr, named)) or "none at all"


def write_description(
    *,
    version: str,
    name: str,
    hardware: Sequence[Hardware],
    software_set: str,
    file: SwuFile,
) -> bytes:
    """The text for one file on each of the boards.

    With a `software_set` the file stands there and beside it, so that it is found with SWUpdate's
    `-e` and without. gooseBit takes board and revision from the boards' groups.
    """
    if not hardware:
        raise CannotBuild("no hardware: SWUpdate and update servers need to know whom it is for")
    entry: Group = {"filename": file.filename, "type": file.kind}
    entry["path" if file.section == "files" else "device"] = file.target
    assert file.size is not None and file.sha256 is not None  # our own builder knows both
    entry |= {"size": file.size, "sha256": file.sha256.hex()}
    software: Group = {"version": version, "name": name}
    for board in dict.fromkeys(item.board for item in hardware):
        revisions = dict.fromkeys(item.revision for item in hardware if item.board == board)
        group: Group = {"hardware-compatibility": tuple(revisions), file.section: (entry,)}
        if software_set:
            chosen, mode = _split_set(software_set)
            group[chosen] = {mode: {file.section: (entry,)}}
        software[board] = group
    return dump({"software": software}).encode()


def _split_set(software_set: str) -> tuple[str, str]:
    chosen, comma, mode = software_set.partition(",")
    if not comma or not all(_NAME.fullmatch(x) and x not in _RESERVED for x in (chosen, mode)):
        raise CannotBuild(f"software set {software_set!r} is not SET,MODE, as in stable,main")
    return chosen, mode


def _all_hardware(root: Group) -> Iterator[tuple[str, str]]:
    for revision in _texts(root.get("hardware-compatibility", ()), "hardware-compatibility"):
        yield "", revision
    for board, group in root.items():
        if isinstance(group, dict):
            accepted = group.get("hardware-compatibility", ())
            for revision in _texts(accepted, "hardware-compatibility"):
                yield board, revision


def _text(group: Group, name: str) -> str:
    value = group.get(name, "")
    if not isinstance(value, str):
        raise _bad(f"{name!r} is no string")
    return value


def _texts(value: Value, name: str) -> tuple[str, ...]:
    if not isinstance(value, tuple):
        raise _bad(f"{name!r} is no list of strings")
    texts = tuple(item for item in value if isinstance(item, str))
    if len(texts) != len(value):
        raise _bad(f"{name!r} is no list of strings")
    if any(text.startswith(_EXPRESSION) for text in texts):
        raise PackageRefused(
            Reason.UNSUPPORTED_FLAGS, f"{name!r} holds an expression ({_EXPRESSION}...)"
        )
    return texts


def _bad(detail: str) -> PackageRefused:
    return PackageRefused(Reason.BAD_STRUCTURE, f"sw-description {detail}")
