"""OMA-DM, killed at each message: on PostgreSQL."""

import pytest

from tests.tools.backend.test_omadm_restart import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
