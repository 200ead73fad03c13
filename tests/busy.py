"""For tests that run a fleet and that are not about how late our own scheduler may be."""

from __future__ import annotations

ANY_LAG = 3600.0
"""Seconds for `max_lag`: a machine that is busy with other tests makes every run late, which says
nothing about the code."""

ANY_LAG_FLAGS = ("--max-lag", f"{ANY_LAG:g}s")
"""The same for whoever starts `fotilla`."""
