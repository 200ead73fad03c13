"""Killed around the commit of each report: on PostgreSQL."""

import pytest

from tests.tools.backend.test_http_restart import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
