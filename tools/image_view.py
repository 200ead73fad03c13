"""What `image inspect` shows: an image as it describes itself, not yet believed."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from firmware_images import ByteSource
from firmware_images.mcuboot import Flag, Layout, Tlv
from firmware_images.mcuboot.format import ENCRYPTION_TLVS, SIGNATURE_OF, flag_names, tlv_name
from firmware_images.mcuboot.verify import hash_region

__all__ = ["describe_image", "render_image"]

_ENCRYPTED = Flag.ENCRYPTED_AES128 | Flag.ENCRYPTED_AES256
_SHOWN_BYTES = 20


def describe_image(source: ByteSource, layout: Layout) -> dict[str, Any]:
    """The image as JSON data. `digest_matches` is null where the hash is not over these bytes."""
    header = layout.header
    claimed = layout.find(Tlv.SHA256)
    key_hash = layout.find(Tlv.KEYHASH)
    encrypted = bool(header.flags & _ENCRYPTED) or any(
        record.kind in ENCRYPTION_TLVS for record in layout.unprotected
    )
    matches = (
        None
        if encrypted or claimed is None
        else claimed == hash_region(source, layout.areas.protected_end)
    )
    return {
        "version": str(header.version),
        "header_size": header.header_size,
        "image_size": header.image_size,
        "total_size": layout.areas.end,
        "trailing_bytes": len(source) - layout.areas.end,
        "flags": flag_names(header.flags).split(),
        "load_addr": header.load_addr,
        "security_counter": layout.security_counter(),
        "dependencies": [
            {"image_id": dependency.image_id, "minimum": str(dependency.minimum)}
            for dependency in layout.dependencies()
        ],
        "digest": claimed.hex() if claimed is not None else None,
        "digest_matches": matches,
        "key_hash": key_hash.hex() if key_hash is not None else None,
        "signatures": [
            kind.value
            for kind, tlv in SIGNATURE_OF.items()
            if any(record.kind == tlv for record in layout.unprotected)
        ],
        "records": [
            {
                "type": record.kind,
                "name": tlv_name(record.kind),
                "protected": protected,
                "size": len(record.value),
                "value": record.value.hex(),
            }
            for protected, area in ((True, layout.protected), (False, layout.unprotected))
            for record in area
        ],
    }


def render_image(name: str, description: dict[str, Any]) -> Group:
    """The same for people. Built of `Text`, so that no file name is taken for markup."""
    facts = Table.grid(padding=(0, 2))
    for label, value in (
        ("version", description["version"]),
        (
            "size",
            f"{description['total_size']:,} bytes: header {description['header_size']:,}, "
            f"payload {description['image_size']:,}, then records",
        ),
        ("behind it", f"{description['trailing_bytes']:,} bytes"),
        ("flags", " ".join(description["flags"]) or "none"),
        ("load address", f"0x{description['load_addr']:08x}"),
        ("security counter", _or_none(description["security_counter"])),
        (
            "dependencies",
            ", ".join(f"image {d['image_id']} >= {d['minimum']}"
                      for d in description["dependencies"]) or "none",
        ),
        ("digest", f"{_or_none(description['digest'])} {_verdict(description)}"),
        ("key hash", _or_none(description["key_hash"])),
        ("signed with", ", ".join(description["signatures"]) or "nothing: unsigned"),
    ):  # fmt: skip
        facts.add_row(Text(label, style="bold"), Text(str(value)))
    records = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("record", "area", "bytes", "value"):
        records.add_column(heading)
    for record in description["records"]:
        value = record["value"]
        cut = value if len(value) <= 2 * _SHOWN_BYTES else f"{value[: 2 * _SHOWN_BYTES]}..."
        records.add_row(
            Text(record["name"]),
            "protected" if record["protected"] else "-",
            str(record["size"]),
            Text(cut),
        )
    return Group(Text(name, style="bold underline"), facts, Text(), records)


def _verdict(description: dict[str, Any]) -> str:
    match description["digest_matches"]:
        case None:
            return "(cannot be checked)"
        case True:
            return "(matches the bytes)"
        case _:
            return "(DOES NOT MATCH the bytes)"


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)
