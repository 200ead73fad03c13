"""kill -9 while HTTP devices are served: on PostgreSQL."""

import pytest

from tests.tools.backend.test_kill_http import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
