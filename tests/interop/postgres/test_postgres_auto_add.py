"""Campaigns that add devices by themselves: on PostgreSQL."""

import pytest

from tests.tools.backend.test_auto_add import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
