"""Killed at every position of an attempt: on PostgreSQL."""

import pytest

from tests.tools.backend.test_restart import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
