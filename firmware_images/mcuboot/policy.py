"""Whether a verified image may replace what runs: checks 10, 12 and 13 of `checks.py`."""

from __future__ import annotations

from firmware_images.errors import ImageRefused, Reason
from firmware_images.mcuboot.layout import ImageInfo
from firmware_images.mcuboot.version import Version

__all__ = ["OWN_IMAGE", "check_policy"]

OWN_IMAGE = 0
"""The image id of a device with a single image."""


def check_policy(
    info: ImageInfo,
    *,
    security_counter: int,
    running: Version | None,
    prevent_downgrade: bool = False,
    require_counter: bool = False,
) -> None:
    """Raise `ImageRefused` if the device must not go from `running` to this image.

    `security_counter` is the one stored in the device (0: never raised). An image without a
    counter passes only while that is 0, else leaving the record out would undo the protection.
    A dependency on the device's only image means the version that runs while the update is judged.
    Versions are compared without the build number, as MCUboot does by default.
    """
    if info.security_counter is None:
        if require_counter or security_counter > 0:
            raise ImageRefused(
                Reason.MISSING_COUNTER,
                f"the image has none, the device has stored {security_counter}",
            )
    elif info.security_counter < security_counter:
        raise ImageRefused(
            Reason.LOW_COUNTER,
            f"{info.security_counter} is below the stored {security_counter}",
        )

    for dependency in info.dependencies:
        if dependency.image_id != OWN_IMAGE:
            raise ImageRefused(
                Reason.UNMET_DEPENDENCY,
                f"needs {dependency}, the device has only image {OWN_IMAGE}",
            )
        if running is None or running.release < dependency.minimum.release:
            raise ImageRefused(
                Reason.UNMET_DEPENDENCY, f"needs {dependency}, running is {running or 'nothing'}"
            )

    if prevent_downgrade and running is not None and info.version.release < running.release:
        raise ImageRefused(Reason.LOW_VERSION, f"{info.version} is older than running {running}")
