"""Build `.swu` files. The same arguments give the same bytes, signatures included."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence

from cryptography import x509

from firmware_images.archive import refuse_name
from firmware_images.errors import BadKey, CannotBuild, PackageRefused
from firmware_images.keys import KeyType, SigningKey
from firmware_images.package import DEFAULT_LIMITS
from firmware_images.signatures import check_package_key, sign_package
from firmware_images.swu.cms import self_signed, sign_cms
from firmware_images.swu.cpio import write_cpio
from firmware_images.swu.description import Hardware, SwuFile, write_description
from firmware_images.swu.unpack import DESCRIPTION, SIGNATURE

__all__ = ["SignatureForm", "build_swu"]

DEFAULT_DEVICE = "/dev/mtdblock1"
"""Where SWUpdate's raw handler would write: the second slot of a board with two. Nothing here
opens it."""


class SignatureForm(enum.Enum):
    """How `sw-description.sig` is written. A build of SWUpdate knows one of them."""

    CMS = "cms"
    """RFC 5652, `CONFIG_SIGALG_CMS`: what Debian's SWUpdate is built for."""
    RAW_RSA = "rsa"
    """PKCS #1 v1.5 alone, `CONFIG_SIGALG_RAWRSA`."""


def build_swu(
    image: bytes,
    *,
    version: str,
    hardware: Sequence[Hardware],
    name: str = "firmware",
    filename: str = "firmware.bin",
    software_set: str = "",
    device: str = DEFAULT_DEVICE,
    path: str = "",
    key: SigningKey | None = None,
    form: SignatureForm = SignatureForm.CMS,
    certificate: x509.Certificate | None = None,
) -> bytes:
    """Wrap `image` into a package for `hardware`, signed with `key` or, without one, not.

    SWUpdate writes the image to `device` (handler raw) or, with a `path`, to that file (handler
    rawfile). `software_set` is SET,MODE as in SWUpdate's `-e`. A CMS signature names a
    `certificate` of the key; without one it is `self_signed(key)`. Raises `UnusableInput`.
    """
    if not image:
        raise CannotBuild("the image is empty")
    if filename in (DESCRIPTION, SIGNATURE, "") or "/" in filename or not filename.isascii():
        raise CannotBuild(f"file name {filename!r} cannot be that of an image in the archive")
    try:
        refuse_name(filename, DEFAULT_LIMITS)
    except PackageRefused as refused:
        raise CannotBuild(refused.detail) from None
    if not version:
        raise CannotBuild("the version is empty")
    for what, text in (("version", version), ("name", name), ("device", device), ("path", path)):
        if not text.isprintable():
            raise CannotBuild(f"{what} {text!r} has characters that cannot be printed")
    file = SwuFile(
        filename,
        "files" if path else "images",
        "rawfile" if path else "raw",
        len(image),
        hashlib.sha256(image).digest(),
        path or device,
    )
    description = write_description(
        version=version, name=name, hardware=hardware, software_set=software_set, file=file
    )
    members = [(DESCRIPTION, description)]
    if key is not None:
        members.append((SIGNATURE, _sign(description, key, form, certificate)))
    return write_cpio([*members, (filename, image)])


def _sign(
    description: bytes,
    key: SigningKey,
    form: SignatureForm,
    certificate: x509.Certificate | None,
) -> bytes:
    check_package_key(key)
    if form is SignatureForm.CMS:
        return sign_cms(description, key, certificate or self_signed(key))
    if key.kind is KeyType.ECDSA_P256:
        raise BadKey("a raw RSA signature needs an RSA key; ECDSA ones go into CMS")
    return sign_package(key, description)
