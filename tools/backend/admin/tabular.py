"""The inventory as CSV (RFC 4180) and as JSON: read and written a few rows at a time.

Readers are plain iterators, so that whoever loads a hundred thousand rows can let others have their
turn in between. They give each row with the place that an error names.

What starts like a formula is data: a spreadsheet that opens our CSV must not run what a device has
said. Such a cell is written with an apostrophe before it, which is taken off again when the file
comes back.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from tools.backend.errors import RequestRefused
from tools.backend.inventory import Device

COLUMNS = (
    "deviceId",
    "name",
    "make",
    "model",
    "firmware",
    "delivery",
    "protocol",
    "mdn",
    "line",
)
"""What a download has of each device."""

SECRET = "token"
"""Can be loaded besides, and is never shown: only a hash of it is kept."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_SPACE = re.compile(r"[ \t\n\r]*")

Row = tuple[str, dict[str, Any]]
"""Where it stands, and what it says."""


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """The reverse of `guarded`."""
    return text[1:] if _GUARDED.match(text) else text


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise RequestRefused(f"line {line}: not UTF-8") from None


def csv_rows(body: bytes) -> Iterator[Row]:
    """The rows below the header, without their empty cells. Raises RequestRefused."""
    reader = csv.reader(io.StringIO(_text(body), newline=""), strict=True)
    header: list[str] = []
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise RequestRefused(f"line {reader.line_num}: {error}") from None
        if not cells:
            continue  # an empty line
        where = f"line {reader.line_num}"
        if not header:
            header = _header(where, cells)
            continue
        if len(cells) != len(header):
            raise RequestRefused(
                f"{where}: {len(cells)} cells, and the header has {len(header)} columns"
            )
        yield (
            where,
            {name: unguarded(cell) for name, cell in zip(header, cells, strict=True) if cell},
        )
    if not header:
        raise RequestRefused("line 1: a header is needed")


def _header(where: str, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    known = (*COLUMNS, SECRET)
    for name in names:
        if name not in known:
            raise RequestRefused(f"{where}: no column {name[:64]!r}; there are {', '.join(known)}")
        if names.count(name) > 1:
            raise RequestRefused(f"{where}: the column {name!r} is there twice")
    return names


def _no_number(_text: str) -> NoReturn:
    raise ValueError("no NaN and no Infinity")


def json_rows(body: bytes) -> Iterator[Row]:
    """The items of a JSON array (RFC 8259), read one after the other. Raises RequestRefused."""
    text = _text(body)
    decoder = json.JSONDecoder(parse_constant=_no_number)
    place = _after_space(text, 0)
    if text[place : place + 1] != "[":
        raise RequestRefused("The request body is not a JSON array")
    place = _after_space(text, place + 1)
    number = 0
    while text[place : place + 1] != "]" or number:
        where = f"item {number}"
        try:
            item, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            problem = error.msg if isinstance(error, json.JSONDecodeError) else "unreadable"
            raise RequestRefused(f"{where}: not JSON: {problem}") from None
        if not isinstance(item, dict):
            raise RequestRefused(f"{where}: not a JSON object")
        yield where, item
        number += 1
        place = _after_space(text, place)
        separator = text[place : place + 1]
        if separator == "]":
            break
        if separator != ",":
            raise RequestRefused(f"{where}: not JSON: a comma or ] is missing after it")
        place = _after_space(text, place + 1)
    if _after_space(text, place + 1) != len(text):
        raise RequestRefused("The request body is not JSON: something follows the array")


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def record_of(device: Device) -> dict[str, str]:
    """A device as it is downloaded, and can be loaded again."""
    return {
        "deviceId": device.device_id,
        "name": device.name,
        "make": device.make,
        "model": device.model,
        "firmware": device.firmware,
        "delivery": device.delivery,
        "protocol": device.protocol,
        "mdn": device.mdn,
        "line": device.line,
    }


def csv_header() -> str:
    """The first line of a download."""
    return ",".join(COLUMNS) + "\r\n"


def csv_text(records: Iterable[Mapping[str, str]]) -> str:
    """Records as lines of CSV."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerows([guarded(record[name]) for name in COLUMNS] for record in records)
    return out.getvalue()
