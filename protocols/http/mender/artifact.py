"""The artifact of a deployment: unpacked on its way, and what the device provides afterwards."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from firmware_images.errors import PackageRefused, Reason
from firmware_images.keys import TrustedKeys
from firmware_images.mender import MenderArtifact, MenderUnpacker
from firmware_images.package import PackageLimits
from protocols.http.mender.deployment import Deployment, encode_provides

__all__ = ["DeployedArtifact", "provides_after"]

MAX_PROVIDES = 512
"""Bytes of what a device keeps of an artifact's provides, twice in its 4 KiB while a deployment is
under way; a root file system has 150. One that cannot keep them provides none of them, and refuses
what depends on them."""


class DeployedArtifact:
    """The `Unpacker` of a deployment's artifact, for one device.

    Beside what `MenderUnpacker` refuses, the artifact must have the name that the server gave it,
    as for mender-client: a device that took another one would tell its server a name that it does
    not know, and be offered the same deployment again."""

    __slots__ = ("_name", "_provides", "_unpacker")

    def __init__(
        self,
        deployment: Deployment,
        keys: TrustedKeys | None,
        *,
        device_type: str,
        running: str,
        provides: Mapping[str, str],
        room: int,
    ) -> None:
        """`running` is the artifact that the device runs, `room` the bytes of its slot."""
        self._name = deployment.artifact_name
        self._provides = provides
        self._unpacker = MenderUnpacker(
            keys,
            device_type=device_type,
            artifact_name=running,
            provides=provides,
            limits=PackageLimits(image_size=room),
        )

    def feed(self, data: bytes) -> bytes:
        return self._unpacker.feed(data)

    def finish(self) -> None:
        self._unpacker.finish()
        name = self._unpacker.artifact.name
        if name != self._name:
            raise PackageRefused(
                Reason.BAD_STRUCTURE,
                f"the artifact calls itself {name[:64]!r}, the deployment {self._name[:64]!r}",
            )

    def provided(self) -> dict[str, str]:
        """What the device will provide once this is installed; to be asked after `finish`."""
        return provides_after(self._provides, self._unpacker.artifact)


def provides_after(before: Mapping[str, str], artifact: MenderArtifact) -> dict[str, str]:
    """What a device provides, beside its own name and type, once `artifact` is installed."""
    kept = {
        name: value
        for name, value in before.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in artifact.clears)
    }
    after = {**kept, **artifact.provides}
    after.pop("artifact_name", None)
    after.pop("device_type", None)
    return after if len(encode_provides(after)) <= MAX_PROVIDES else {}
