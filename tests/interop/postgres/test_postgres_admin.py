"""Administration and the clock: on PostgreSQL."""

import pytest

from tests.tools.backend.admin.test_admin_api import *  # noqa: F403
from tests.tools.backend.admin.test_admin_cells import *  # noqa: F403
from tests.tools.backend.admin.test_admin_clock import *  # noqa: F403
from tests.tools.backend.admin.test_admin_inventory import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
