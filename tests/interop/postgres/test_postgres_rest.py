"""The REST API, version 3 and what versions share: on PostgreSQL."""

import pytest

from tests.tools.backend.test_rest import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
