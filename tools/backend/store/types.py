"""Column types that mean the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Dialect
from sqlalchemy import Integer as SqlInteger
from sqlalchemy import String as SqlString
from sqlalchemy.dialects.postgresql import TEXT
from sqlalchemy.types import TypeDecorator, TypeEngine

Integer = BigInteger().with_variant(SqlInteger(), "sqlite")
"""A number of 64 bits: what SQLite calls an INTEGER has 32 in PostgreSQL."""


class String(TypeDecorator[str]):
    """Text of any length that can be told in Unicode.

    The length documents what the API or the wire allows. SQLite does not hold anybody to it, so
    PostgreSQL must not either: who accepted a value cannot have it refused when it is stored. For
    the same reason the characters that only PostgreSQL refuses are replaced by U+FFFD there."""

    impl = SqlString
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TEXT())
        return dialect.type_descriptor(self.impl_instance)

    def bind_processor(self, dialect: Dialect) -> Any:
        # None on SQLite: a Python call for each value would be felt in every batch.
        return _storable if dialect.name == "postgresql" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return None


def _storable(value: str | None) -> str | None:
    if value is None or (value.isascii() and "\0" not in value):
        return value
    text = value.replace("\0", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
