"""What a new campaign brings with it: on PostgreSQL."""

import pytest

from tests.tools.backend.campaigns.test_campaign_creation import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
