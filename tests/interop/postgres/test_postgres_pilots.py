"""Pilots at the edges: on PostgreSQL."""

import pytest

from tests.tools.backend.campaigns.test_campaign_pilots import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
