"""What `image inspect` shows of a package, beside the image inside it."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from firmware_images.swu import SwuInfo
from tools.package_files import Opened

__all__ = ["describe_package", "render_package"]


def describe_package(package: Opened) -> dict[str, Any]:
    """The package as JSON data. `signed` says that a signature is there, not whose it is."""
    facts = package.facts
    if isinstance(facts, SwuInfo):
        return {
            "format": "swu",
            "name": facts.name,
            "version": facts.version,
            "hardware": [
                {"board": board, "revision": revision} for board, revision in facts.hardware
            ],
            "filename": facts.image.filename,
            "type": facts.image.kind,
            "target": facts.image.target,
            "size": facts.size,
            "sha256": facts.image.sha256.hex() if facts.image.sha256 else None,
            "signed": facts.signed,
        }
    return {
        "format": "mender",
        "name": facts.name,
        "device_types": list(facts.device_types),
        "payload_type": facts.payload_type,
        "filename": facts.filename,
        "size": facts.size,
        "sha256": facts.sha256.hex(),
        "signed": facts.signed,
        "compression": facts.compression.name.lower(),
        "provides": dict(facts.provides),
        "depends": {name: list(values) for name, values in facts.depends.items()},
        "clears_provides": list(facts.clears),
        "scripts": list(facts.scripts),
    }


def render_package(description: dict[str, Any]) -> Table:
    """The same for people."""
    table = Table.grid(padding=(0, 2))
    for label, value in description.items():
        table.add_row(Text(label.replace("_", " "), style="bold"), Text(_said(label, value)))
    return table


def _said(label: str, value: object) -> str:
    if value is None or value == [] or value == {}:
        return "none"
    match value:
        case bool():
            return "yes, not judged here" if value else "no"
        case int():
            return f"{value:,} bytes"
        case str():
            return _safe(value)
        case dict():
            return ", ".join(
                f"{_safe(name)} = {_said(label, found)}" for name, found in value.items()
            )
        case list() if label == "hardware":
            return ", ".join(
                f"{_safe(item['board'] or 'any')}:{_safe(item['revision'])}" for item in value
            )
        case list():
            # Of what is depended on, one will do.
            return (" or " if label in ("depends", "device_types") else ", ").join(
                _safe(item) for item in value
            )
    return str(value)


def _safe(text: str) -> str:
    """What a stranger wrote must not move the cursor, nor fail to be encoded."""
    return text if text.isprintable() else ascii(text)
