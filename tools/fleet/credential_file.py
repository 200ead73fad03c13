"""`--credentials FILE.csv`: what each device presents, and the token that all of them may share.

The first row names the columns: `name`, and any of `token`, `username`, `password`, `certificate`,
`key`. The last two are PEM files, relative to the list. Secrets are read from files and from the
environment, never from the command line, where everybody on the machine could see them.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.credentials import Credential, TokenKind
from tools.fleet.spec import SpecError

TOKEN = "FOTILLA_TOKEN"
TOKEN_KIND = "FOTILLA_TOKEN_KIND"

_COLUMNS = ("token", "username", "password", "certificate", "key")
MAX_PEM = 1 << 16  # bytes; a chain of a dozen certificates


def credentials(
    path: Path | None,
    names: Sequence[str],
    authorities: Path | None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Credential, ...]:
    """One credential per name, or none at all when nothing was given. Raises SpecError, which
    never repeats a secret."""
    environment = os.environ if environment is None else environment
    trusted = b"" if authorities is None else _pem("ca", authorities)
    token = environment.get(TOKEN, "")
    kind = _token_kind(environment.get(TOKEN_KIND, TokenKind.DEVICE.value))
    if path is None:
        if not (token or trusted):
            return ()
        return (Credential(token=token, token_kind=kind, authorities=trusted),) * len(names)
    rows = _rows(path)
    missing = next((name for name in names if name not in rows), None)
    if missing is not None:
        raise SpecError("credentials", f"{path} has no row for {missing!r}")
    return tuple(_credential(path, rows[name], token, kind, trusted) for name in names)


def _credential(
    path: Path, row: Mapping[str, str], token: str, kind: TokenKind, trusted: bytes
) -> Credential:
    certificate, key = row.get("certificate", ""), row.get("key", "")
    if bool(certificate) != bool(key):
        raise SpecError("credentials", f"{path}: {row['name']!r} needs certificate and key both")
    own = row.get("token", "")
    return Credential(
        token=own or token,
        token_kind=TokenKind.DEVICE if own else kind,
        username=row.get("username", ""),
        password=row.get("password", ""),
        certificate=_pem("credentials", path.parent / certificate) if certificate else b"",
        private_key=_pem("credentials", path.parent / key) if key else b"",
        authorities=trusted,
    )


def _rows(path: Path) -> dict[str, dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError("credentials", f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SpecError("credentials", f"{path}: not UTF-8 at byte {error.start}") from None
    reader = csv.DictReader(text.splitlines())
    columns = [column.strip().lower() for column in reader.fieldnames or []]
    if "name" not in columns:
        raise SpecError("credentials", f"{path}: the first row names no column 'name'")
    unknown = sorted(set(columns) - {"name", *_COLUMNS})
    if unknown:
        raise SpecError("credentials", f"{path}: unknown column {unknown[0]!r}")
    reader.fieldnames = columns
    rows: dict[str, dict[str, str]] = {}
    try:
        for record in reader:
            row = {key: (value or "").strip() for key, value in record.items() if key}
            if not row["name"]:
                raise SpecError("credentials", f"{path}: line {reader.line_num} has no name")
            if row["name"] in rows:
                raise SpecError("credentials", f"{path}: {row['name']!r} is given twice")
            rows[row["name"]] = row
    except csv.Error as error:
        raise SpecError("credentials", f"{path}: line {reader.line_num}: {error}") from None
    return rows


def _token_kind(text: str) -> TokenKind:
    try:
        return TokenKind(text)
    except ValueError:
        known = ", ".join(kind.value for kind in TokenKind)
        raise SpecError("credentials", f"{TOKEN_KIND} is {text!r}, known: {known}") from None


def _pem(field: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            pem = file.read(MAX_PEM + 1)
    except OSError as error:
        raise SpecError(field, f"{path}: {error.strerror or error}") from None
    if len(pem) > MAX_PEM or b"-----BEGIN " not in pem:
        raise SpecError(field, f"{path} is not a PEM file")
    return pem
