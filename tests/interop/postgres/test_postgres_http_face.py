"""HTTP devices: on PostgreSQL."""

import pytest

from tests.tools.backend.test_http_face import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
