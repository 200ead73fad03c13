"""What can stop a figure from being taken; the text says what is missing."""

from __future__ import annotations

__all__ = ["BenchError"]


class BenchError(Exception):
    """A figure that could not be measured, and why."""
