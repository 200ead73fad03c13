"""Revisions, on PostgreSQL."""

from tests.tools.backend.store.test_store_schema import *  # noqa: F403
