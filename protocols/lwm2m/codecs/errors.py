"""The one error of all content format codecs."""

from __future__ import annotations

__all__ = ["CodecError", "UnsupportedFormat"]


class CodecError(ValueError):
    """A payload is not what its content format promises, or a value does not fit; names what."""


class UnsupportedFormat(CodecError):
    """The content format itself is one that we do not speak (4.15 or 4.06 on the wire)."""
