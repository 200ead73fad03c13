"""kill -9 at each position of an attempt, real sockets: on PostgreSQL."""

import pytest

from tests.tools.backend.test_kill import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
