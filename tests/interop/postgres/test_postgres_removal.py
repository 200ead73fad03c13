"""Removing devices and accounts, and what the page keeps of the past: on PostgreSQL."""

import pytest

from tests.tools.backend.admin.test_admin_removal import *  # noqa: F403
from tests.tools.backend.page.test_page_routes import (  # noqa: F401
    test_history_and_timeline_are_there_after_a_restart,
)
from tests.tools.backend.test_trail import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
