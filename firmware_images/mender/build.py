"""Build Mender artifacts of version 3, with one payload of one file.

The same arguments give the same bytes, signature included, on one machine (what a compressor makes
of them depends on its version).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from firmware_images.errors import CannotBuild
from firmware_images.keys import KeyType, SigningKey
from firmware_images.mender.compression import Compression, compress
from firmware_images.mender.header import (
    ARTIFACT_NAME,
    DATA_FOLDER,
    DEVICE_TYPE,
    HEADER_INFO,
    META_DATA,
    TYPE_INFO,
    VERSION_TEXT,
    file_name_allowed,
)
from firmware_images.mender.tar import write_tar
from firmware_images.mender.unpack import ECDSA_BYTES, Part
from firmware_images.signatures import check_package_key, sign_package

__all__ = ["ROOTFS_IMAGE", "build_artifact"]

ROOTFS_IMAGE = "rootfs-image"
"""The payload type that every Mender client knows. Any other names an update module."""
NAME_LIMIT = 90
"""Bytes of a file name, so that it fits into a tar header of any kind."""


def build_artifact(
    image: bytes,
    *,
    name: str,
    device_types: Sequence[str],
    payload_type: str = ROOTFS_IMAGE,
    filename: str = "firmware.bin",
    software_version: str = "",
    provides: Mapping[str, str] | None = None,
    depends: Mapping[str, Sequence[str]] | None = None,
    depends_names: Sequence[str] = (),
    depends_groups: Sequence[str] = (),
    compression: Compression = Compression.GZIP,
    key: SigningKey | None = None,
) -> bytes:
    """Wrap `image` into an artifact called `name`, signed with `key` or, without one, not.

    It tells the server and the device what `mender-artifact` tells them: a version
    (`software_version`, or the name), for a rootfs-image its checksum, and what of the old is no
    longer true. `provides` and `depends` of the payload are added to that. `depends_names` and
    `depends_groups` are artifacts and groups of which the device must have one. Raises
    `UnusableInput`.
    """
    if not image:
        raise CannotBuild("the image is empty")
    if not name or not name.isprintable():
        raise CannotBuild(f"artifact name {name!r} is empty or cannot be printed")
    if not device_types or not all(device_types):
        raise CannotBuild("no device type: nobody could install the artifact")
    if not payload_type or not payload_type.isprintable():
        raise CannotBuild(f"payload type {payload_type!r} is empty or cannot be printed")
    if not file_name_allowed(filename) or len(filename) > NAME_LIMIT:
        raise CannotBuild(
            f"file name {filename!r}: at most {NAME_LIMIT} letters, digits and '.,_-' are allowed"
        )
    if key is not None:
        check_package_key(key)
    digest = hashlib.sha256(image).hexdigest()
    version = software_version or name
    said, clears = _about_the_payload(payload_type, version, digest)
    needed: dict[str, Sequence[str]] = {DEVICE_TYPE: device_types}
    if depends_names:
        needed[ARTIFACT_NAME] = depends_names
    if depends_groups:
        needed["artifact_group"] = depends_groups
    header_info = {
        "payloads": [{"type": payload_type}],
        "artifact_provides": {ARTIFACT_NAME: name},
        "artifact_depends": {what: list(values) for what, values in needed.items()},
    }
    type_info: dict[str, object] = {
        "type": payload_type,
        "artifact_provides": {**said, **(provides or {})},
        "clears_artifact_provides": clears,
    }
    if depends:
        type_info["artifact_depends"] = {what: list(values) for what, values in depends.items()}
    header = compress(
        write_tar(
            [(HEADER_INFO, _json(header_info)), (TYPE_INFO, _json(type_info)), (META_DATA, b"")]
        ),
        compression,
    )
    header_name = Part.HEADER.value + compression.value
    manifest = "".join(
        f"{checksum}  {listed}\n"
        for listed, checksum in sorted(
            {
                DATA_FOLDER + filename: digest,
                header_name: hashlib.sha256(header).hexdigest(),
                Part.VERSION.value: hashlib.sha256(VERSION_TEXT).hexdigest(),
            }.items()
        )
    ).encode()
    members = [(Part.VERSION.value, VERSION_TEXT), (Part.MANIFEST.value, manifest)]
    if key is not None:
        members.append((Part.SIGNATURE.value, base64.b64encode(_sign(key, manifest))))
    members.append((header_name, header))
    data = compress(write_tar([(filename, image)]), compression)
    return write_tar([*members, (Part.DATA.value + compression.value, data)])


def _about_the_payload(
    payload_type: str, version: str, digest: str
) -> tuple[dict[str, str], list[str]]:
    """Provides and clears as the tool chooses them for a root file system and for a module."""
    if payload_type == ROOTFS_IMAGE:
        said = {"rootfs-image.checksum": digest, "rootfs-image.version": version}
        return said, ["artifact_group", "rootfs_image_checksum", "rootfs-image.*"]
    name = f"{ROOTFS_IMAGE}.{payload_type}"
    return {f"{name}.version": version}, [f"{name}.*"]


def _sign(key: SigningKey, manifest: bytes) -> bytes:
    signature = sign_package(key, manifest)
    if key.kind is KeyType.ECDSA_P256:
        return b"".join(
            number.to_bytes(ECDSA_BYTES, "big") for number in decode_dss_signature(signature)
        )
    return signature


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
