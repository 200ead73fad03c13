"""What a refused image means for an update attempt, when the application finds it before
DOWNLOADED.

What the bootloader is the first to find is always `Outcome.REVERTED`: the device had accepted the
image, tried to install it, and runs the old one again.
"""

from __future__ import annotations

from agent.outcome import Outcome
from firmware_images.errors import Reason

__all__ = ["OUTCOME_OF"]

OUTCOME_OF: dict[Reason, Outcome] = {
    Reason.TOO_LARGE: Outcome.NO_SPACE,
    Reason.TRUNCATED: Outcome.UNSUPPORTED_PACKAGE,
    Reason.BAD_MAGIC: Outcome.UNSUPPORTED_PACKAGE,
    Reason.BAD_STRUCTURE: Outcome.UNSUPPORTED_PACKAGE,
    Reason.UNSUPPORTED_FLAGS: Outcome.UNSUPPORTED_PACKAGE,
    Reason.ENCRYPTED: Outcome.UNSUPPORTED_PACKAGE,
    Reason.COMPRESSED: Outcome.UNSUPPORTED_PACKAGE,
    Reason.BAD_LOAD_ADDRESS: Outcome.UNSUPPORTED_PACKAGE,
    Reason.UNKNOWN_TLV: Outcome.UNSUPPORTED_PACKAGE,
    Reason.DUPLICATE_TLV: Outcome.UNSUPPORTED_PACKAGE,
    Reason.BAD_HASH: Outcome.INTEGRITY,
    Reason.UNKNOWN_KEY: Outcome.SIGNATURE,
    Reason.UNSIGNED: Outcome.SIGNATURE,
    Reason.BAD_SIGNATURE: Outcome.SIGNATURE,
    Reason.MISSING_COUNTER: Outcome.DOWNGRADE,
    Reason.LOW_COUNTER: Outcome.DOWNGRADE,
    Reason.LOW_VERSION: Outcome.DOWNGRADE,
    Reason.UNMET_DEPENDENCY: Outcome.DEPENDENCY,
    Reason.WRONG_DEVICE: Outcome.WRONG_DEVICE,
}
