"""Whose coming and going the operator network reports: on PostgreSQL."""

import pytest

from tests.tools.backend.rules.test_rules_monitoring import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
