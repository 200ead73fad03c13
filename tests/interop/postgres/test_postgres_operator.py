"""The operator network: on PostgreSQL."""

import pytest

from tests.tools.backend.test_operator import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
