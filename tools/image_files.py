"""Files and numbers as people type them, for the `image` commands: read, write, explain, exit."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import typer

from agent.trailer import capacity
from firmware_images import ImageRefused, PackageRefused, UnusableInput
from firmware_images.keys import PublicKey, SigningKey, TrustedKeys, load_signing_key
from firmware_images.mcuboot import CHECKS, Dependency, Version

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_REFUSED",
    "FILE_LIMIT",
    "KEY_FILE_LIMIT",
    "explained",
    "parse_dependency",
    "parse_number",
    "parse_size",
    "parse_version",
    "read_file",
    "read_signing_key",
    "read_trusted_keys",
    "refuse_existing",
    "slot_capacity",
    "write_file",
]

EXIT_BAD_INPUT = 2
EXIT_REFUSED = 3

FILE_LIMIT = 256 << 20
"""No slot of a microcontroller is larger, and a device file or a film must not fill the memory."""
KEY_FILE_LIMIT = 64 << 10

_SUFFIXES = {"": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20}
_SIZE = re.compile(r"(0x[0-9a-f]+|\d+)\s*(k|kib|m|mib)?", re.ASCII | re.IGNORECASE)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """End the command with a sentence and an exit code instead of a traceback."""
    try:
        yield
    except PackageRefused as refused:
        typer.echo(f"refused: {refused}", err=True)
        raise typer.Exit(EXIT_REFUSED) from None
    except ImageRefused as refused:
        check = CHECKS[refused.reason]
        typer.echo(f"refused: {refused} (check {check.number}: {check.rule})", err=True)
        raise typer.Exit(EXIT_REFUSED) from None
    except UnusableInput as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except BrokenPipeError:
        raise  # whoever read our output has gone: no fault of any input
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {name}{error.strerror or error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None


def read_file(path: Path, limit: int = FILE_LIMIT) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnusableInput(f"{path}: larger than {limit} bytes")
    return data


def refuse_existing(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and os.path.lexists(path):
            raise UnusableInput(f"{path}: exists already and is not overwritten (use --force)")


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write under another name and move it, so that nobody ever reads half of it.

    The mode holds from the first byte on: a private key is never readable by others, not even
    for the moment between writing and chmod.
    """
    if path.is_dir():
        raise UnusableInput(f"{path}: is a directory")
    if path.exists() and not path.is_file():
        # A pipe or a device: moving a file over it would take its place.
        path.write_bytes(data)
        return
    path = path.resolve()  # a link stays a link
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        error.filename = str(path)  # the name that was typed, not ours
        raise
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        error.filename, error.filename2 = str(path), None
        raise


def read_signing_key(path: Path) -> SigningKey:
    return load_signing_key(read_file(path, KEY_FILE_LIMIT), str(path))


def read_trusted_keys(paths: list[Path]) -> TrustedKeys:
    return TrustedKeys(
        tuple(PublicKey.from_pem(read_file(path, KEY_FILE_LIMIT), str(path)) for path in paths)
    )


def slot_capacity(slot_size: int) -> int:
    """What our devices would accept into a slot of this size."""
    try:
        return capacity(slot_size)
    except ValueError as error:
        raise UnusableInput(f"slot size {slot_size}: {error}") from error


# typer also hands each parser its option's default, so that they meet their own results.


def parse_number(text: str | int) -> int:
    if isinstance(text, int):
        return text
    try:
        return int(text, 0)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number (as in 512 or 0x200)") from None


def parse_size(text: str | int) -> int:
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a size (as in 1048576, 0x100000, 512K or 1M)")
    return int(match[1], 0) * _SUFFIXES[(match[2] or "").lower()]


def parse_version(text: str) -> Version:
    try:
        return Version.parse(text)
    except UnusableInput as error:
        raise typer.BadParameter(str(error)) from None


def parse_dependency(text: str) -> Dependency:
    """`ID:VERSION`, or a version alone for the device's only image."""
    image_id, colon, version = text.rpartition(":")
    if colon and not (image_id.isascii() and image_id.isdigit() and int(image_id) <= 0xFF):
        raise typer.BadParameter(f"{text!r} is not ID:VERSION with an image id from 0 to 255")
    return Dependency(int(image_id or 0), parse_version(version))
