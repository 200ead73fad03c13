"""Why the API refuses a request: one literal table of rule, status, errorCode and errorMessage.

Every refusal of the REST versions 1, 2 and 3 is a row here; `docs/backend-errors.md` is made from
it. The public documentation shows eleven rows of v1, all with `INVALID_PARAMETER`, and says that
more exist; a row of them is `KNOWN` and stands verbatim, errors of spelling included. All others
are ours.

    raise Refusal.INVALID_FIELD(field="endDate", problem="not a date")
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from tools.backend.errors import RequestRefused

__all__ = ["MAX_SHOWN", "Refusal", "Row"]

MAX_SHOWN = 64
"""Characters of a caller's own text that an answer repeats."""

INVALID = "INVALID_PARAMETER"
KNOWN, OURS = True, False


class Row(NamedTuple):
    """What the answer says. `{}` of the message are filled in by who refuses."""

    status: int
    code: str
    message: str
    known: bool


@enum.unique
class Refusal(enum.Enum):
    """The rules; call one to get the exception to raise."""

    # -- the body ---
    EMPTY_BODY = Row(400, INVALID, "Input binding error", KNOWN)
    BROKEN_JSON = Row(400, INVALID, "The request body is not JSON: {problem}", OURS)
    INVALID_FIELD = Row(400, INVALID, "{field}: {problem}", OURS)
    INVALID_BODY = Row(400, INVALID, "{problem}", OURS)
    TOO_MANY_ITEMS = Row(400, INVALID, "More than {limit} items", OURS)
    BODY_TOO_LARGE = Row(
        413, "REQUEST_ENTITY_TOO_LARGE", "The request body is larger than {limit} bytes", OURS
    )

    # -- who and what ---
    ACCOUNT_FORMAT = Row(400, INVALID, "Invalid account name format", KNOWN)
    ACCOUNT_UNKNOWN = Row(400, INVALID, "Account does not exist", OURS)
    DEVICE_FORMAT = Row(400, INVALID, "Invalid device id format", KNOWN)
    # The text is public, as a reason in an answer about licences and not as an error.
    DEVICE_UNKNOWN = Row(400, INVALID, "Device does not exist.", OURS)
    CAMPAIGN_UNKNOWN = Row(400, INVALID, "Campaign does not exist", OURS)
    FILE_UNKNOWN = Row(400, INVALID, "File {name!r} does not exist", OURS)
    LAST_SEEN = Row(400, INVALID, "LastSeenDeviceId Not Valid", KNOWN)

    # -- lists of devices ---
    NO_DEVICES = Row(400, INVALID, "Device list is empty", KNOWN)
    ONE_CHANGE = Row(400, INVALID, "addOrRemoveDevice has exactly one item", OURS)

    # -- licences ---
    # The rule is public, the words are not.
    NOT_MONTHLY = Row(400, INVALID, "The account has no monthly subscription", OURS)

    # -- campaigns ---
    PROTOCOL = Row(400, INVALID, "Protocol {value!r} is not supported", OURS)
    FIRMWARE_UNKNOWN = Row(400, INVALID, "Firmware {name!r} is not available", OURS)
    FIRMWARE_VERSIONS = Row(
        400, INVALID, "Firmware {name!r} does not lead from {older!r} to {newer!r}", OURS
    )
    FILE_VERSION = Row(400, INVALID, "File {name!r} of version {version!r} is not available", OURS)
    DATE = Row(400, INVALID, "Invalid {field} {value!r}", OURS)
    START_IN_PAST = Row(400, INVALID, "startDate is in the past", OURS)
    END_BEFORE_START = Row(400, INVALID, "endDate is before startDate", OURS)
    DATE_OUTSIDE = Row(400, INVALID, "{field} is not between startDate and endDate", OURS)
    WINDOW = Row(
        400,
        INVALID,
        "Invalid time window {start} to {end}: startTime 0 to 23, endTime above it, to 24",
        OURS,
    )
    PILOT_FIRST = Row(
        400,
        INVALID,
        "A campaign of this firmware may hold at most {most} devices until a pilot of "
        "{least} to {most} devices has succeeded",
        OURS,
    )
    CAMPAIGN_OVER = Row(400, INVALID, "The campaign has ended or was cancelled already", OURS)
    CAMPAIGN_STARTED = Row(400, INVALID, "The campaign has started already", OURS)
    CAMPAIGN_UNCHECKED = Row(
        400, INVALID, "The devices of the campaign are still being checked", OURS
    )
    START_FIXED = Row(400, INVALID, "startDate cannot change, the campaign has started", OURS)
    END_TOO_NEAR = Row(
        400, INVALID, "endDate must be at least 24 hours away, the campaign has started", OURS
    )
    WINDOWS_FIXED = Row(400, INVALID, "Time windows cannot change, the campaign has started", OURS)
    WINDOWS_ONLY_ADDED = Row(
        400, INVALID, "{field}: windows can only be added, the campaign has started", OURS
    )
    DAY_OVER = Row(400, INVALID, "{field} cannot change to a day that is over", OURS)

    # -- v1 ---
    # The first `state` is the table's own.
    START_DATE = Row(400, INVALID, "FotaPostUpgrades: invalid state date", KNOWN)
    ACCOUNT_INACTIVE = Row(400, INVALID, "Inactive account", KNOWN)
    OFFSET_BEYOND = Row(400, INVALID, "Index exceeds number of devices in list", KNOWN)
    INDEX = Row(400, INVALID, "Invalid index value", KNOWN)
    UPGRADE_UNKNOWN = Row(400, INVALID, "Invalid upgradeId", KNOWN)
    UPGRADE_UUID = Row(400, INVALID, "Invalid uuid", KNOWN)
    UPGRADE_STATUS = Row(400, INVALID, "Invalid upgradeStatus {value!r}", OURS)
    CLIENT_TYPE = Row(400, INVALID, "Invalid clientType {value!r}", OURS)

    # -- files and logging ---
    FILE_MISSING = Row(400, INVALID, "fileupload: a file is required", OURS)
    FILE_NAME = Row(
        400, INVALID, "A file name has 1 to {limit} characters and none of control", OURS
    )
    FILE_PROTOCOL = Row(400, INVALID, "Files of distributionType {value!r} are not supported", OURS)
    NOT_LWM2M = Row(
        400, INVALID, "Only LwM2M devices can be asked for their firmware version", OURS
    )
    TOO_MANY_LOGGING = Row(400, INVALID, "At most {limit} devices of an account may log", OURS)
    NOT_HTTP = Row(400, INVALID, "Only HTTP devices have logging and check-ins", OURS)

    # -- callbacks ---
    CALLBACK_SERVICE = Row(400, INVALID, "The name of the callback service is {name}", OURS)
    CALLBACK_NONE = Row(400, INVALID, "No callback listener is registered", OURS)

    def __call__(self, **values: object) -> RequestRefused:
        """The exception of this row; texts of the caller are cut short."""
        row = self.value
        shown = {
            name: value[:MAX_SHOWN] if isinstance(value, str) and name != "problem" else value
            for name, value in values.items()
        }
        return RequestRefused(row.message.format(**shown), code=row.code, status=row.status)
