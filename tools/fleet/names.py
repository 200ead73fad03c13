"""Device names: from a pattern, or from the first column of a CSV file.

A pattern is text with `{index}` in it, formatted as Python formats a whole number:
`meter-{index}`, `urn:imei:{index:015d}`. It is not a full format string: no attributes, no other
fields, so a pattern from a stranger's scenario file can do nothing but count.
"""

from __future__ import annotations

import csv
import re
import string
from collections.abc import Callable, Iterable
from pathlib import Path

from tools.fleet.spec import SpecError

DEFAULT_PATTERN = "fotilla-{index:06d}"
MAX_NAME_BYTES = 255  # a longer name does not fit into one CoAP option (RFC 7252, 5.10)
# Zero padding, width, decimal or hexadecimal: forms that give every number a text of its own.
WIDTH = re.compile(r"0?[0-9]{0,3}[dxX]?")
# What the first row of an exported list calls its first column.
HEADERS = frozenset({"name", "names", "endpoint", "endpoint_name", "device", "id"})


def device_names(source: str, count: int, first: int = 0) -> tuple[str, ...]:
    """`count` unique names; `source` is a pattern, or a file when it ends in .csv."""
    if source.lower().endswith(".csv"):
        return names_from_csv(Path(source), count)
    return names_from_pattern(source, count, first)


def names_from_pattern(pattern: str, count: int, first: int = 0) -> tuple[str, ...]:
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise SpecError("names", f"pattern {pattern!r}: {error}") from None
    indexed = False
    for _, field, form, conversion in parts:
        if field is None:
            continue
        if field != "index" or conversion or "{" in (form or ""):
            raise SpecError("names", f"pattern {pattern!r}: only {{index}} may stand in braces")
        if not WIDTH.fullmatch(form or ""):
            raise SpecError(
                "names", f"pattern {pattern!r}: after the colon goes a width such as 015d"
            )
        indexed = True
    if not indexed and count > 1:
        raise SpecError("names", f"pattern {pattern!r} has no {{index}}: every name is the same")
    names = tuple(pattern.format(index=index) for index in range(first, first + count))
    check_names(names, lambda position: f"index {first + position}")
    return names


def names_from_csv(path: Path, count: int) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError("names", f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SpecError("names", f"{path}: not UTF-8 at byte {error.start}") from None
    names: list[str] = []
    lines: list[int] = []
    reader = csv.reader(text.splitlines())
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            name = row[0].strip()
            if not names and name.lower() in HEADERS:
                continue
            names.append(name)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise SpecError("names", f"{path}: line {reader.line_num}: {error}") from None
    check_names(names, lambda position: f"{path} line {lines[position]}")
    if len(names) < count:
        raise SpecError("names", f"{path} has {len(names)} names, {count} devices need one each")
    return tuple(names[:count])


def check_names(names: Iterable[str], where: Callable[[int], str], field: str = "names") -> None:
    """Refuse empty, overlong, unprintable and repeated names, saying where they stand."""
    seen: dict[str, int] = {}
    for position, name in enumerate(names):
        if not name:
            raise SpecError(field, f"{where(position)}: the name is empty")
        if not name.isprintable():
            raise SpecError(field, f"{where(position)}: {name!r} has unprintable characters")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise SpecError(
                field, f"{where(position)}: {name[:20]!r}... exceeds {MAX_NAME_BYTES} bytes"
            )
        if name in seen:
            raise SpecError(field, f"{name!r} twice: {where(seen[name])} and {where(position)}")
        seen[name] = position
