"""Campaigns of scripted LwM2M devices: on PostgreSQL."""

import pytest

from tests.tools.backend.test_campaigns import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
