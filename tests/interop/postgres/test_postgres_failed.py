"""Campaigns that could not be scheduled: on PostgreSQL."""

import pytest

from tests.tools.backend.campaigns.test_campaign_failed import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
