"""All operations of the SDK, driven to the end: on PostgreSQL."""

import pytest

from tests.interop.sdk.conftest import backend, customer, interpreter  # noqa: F401
from tests.interop.sdk.test_documented import *  # noqa: F403
from tests.interop.sdk.test_operations import *  # noqa: F403
from tests.interop.sdk.test_v1 import *  # noqa: F403
from tests.interop.sdk.test_v2 import *  # noqa: F403
from tests.interop.sdk.test_v3 import *  # noqa: F403
from tests.interop.sdk.test_walkthrough import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("on_postgres")
