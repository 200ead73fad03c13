"""The REST API, version 2: on PostgreSQL."""

import pytest

from tests.tools.backend.test_rest_v2 import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
