"""Take a Mender artifact apart while it arrives, and judge it as Mender's client does.

The members of the outer archive stand in one order, `ORDER`; anything else is refused where it
stands. The signature is over the manifest, the manifest has the digests of the rest, so each part
is believed before the next one is read: manifest by its signature, header by its digest (over the
compressed bytes, before anything is decompressed), payload by its digest when it has passed.

A device with one image has no use for more: one payload with one file is taken. Augmented
artifacts (what deltas made on the server are sent as) are refused as not supported. State scripts
are named in the result and never run.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from firmware_images.archive import Gather
from firmware_images.errors import PackageRefused, Reason
from firmware_images.keys import KeyType, PublicKey, TrustedKeys
from firmware_images.mender.compression import Compression, Decompressor, decompressor
from firmware_images.mender.header import (
    ARTIFACT_NAME,
    DEVICE_TYPE,
    HeaderInfo,
    Manifest,
    Names,
    TypeInfo,
    check_version,
)
from firmware_images.mender.members import HeaderMembers, PayloadMember
from firmware_images.mender.tar import TarReader
from firmware_images.package import DEFAULT_LIMITS, PackageLimits
from firmware_images.signatures import check_package_key, verifies_package
from firmware_images.source import ByteSource

__all__ = ["ORDER", "MenderArtifact", "MenderUnpacker", "Part", "verify_artifact"]

ECDSA_BYTES = 32
"""Of each of the two numbers in a signature."""


class Part(enum.Enum):
    """A member of the outer archive."""

    VERSION = "version"
    MANIFEST = "manifest"
    SIGNATURE = "manifest.sig"
    HEADER = "header.tar"
    DATA = "data/0000.tar"


ORDER: dict[Part | None, frozenset[Part]] = {
    None: frozenset({Part.VERSION}),
    Part.VERSION: frozenset({Part.MANIFEST}),
    Part.MANIFEST: frozenset({Part.SIGNATURE, Part.HEADER}),
    Part.SIGNATURE: frozenset({Part.HEADER}),
    Part.HEADER: frozenset({Part.DATA}),
    Part.DATA: frozenset(),
}
"""What may follow what."""


@dataclass(frozen=True, slots=True)
class MenderArtifact:
    """An artifact as its header, once believed, tells of it."""

    name: str
    payload_type: str
    filename: str
    size: int
    """Bytes of the payload's file."""
    sha256: bytes = field(repr=False)
    signed: bool
    """There is a signature. It has been verified if keys were given, and else not."""
    compression: Compression
    provides: Mapping[str, str]
    """Of the artifact and of its payload."""
    depends: Mapping[str, Names]
    """Likewise; for each name the values of which one will do."""
    clears: Names
    scripts: Names

    @property
    def device_types(self) -> Names:
        return self.depends[DEVICE_TYPE]


_SUFFIXES = {compression.value: compression for compression in Compression}
_COMPRESSED = (Part.HEADER, Part.DATA)
_AUGMENTED = ("manifest-augment", "header-augment.tar")


class MenderUnpacker:
    """The `Unpacker` of `.mender` files.

    With `keys` the manifest must be signed by one of them. With a `device_type` the artifact must
    be for it, and everything else it depends on must be met by `artifact_name` (what the device
    runs now) and by `provides`; without one no dependency is judged.
    """

    __slots__ = (
        "_compression", "_decompressor", "_gather", "_header", "_header_digest", "_keys",
        "_limits", "_manifest", "_members", "_out", "_outer", "_part", "_payload", "_provides",
        "_signed", "_text", "_version",
    )  # fmt: skip

    def __init__(
        self,
        keys: TrustedKeys | None,
        *,
        device_type: str | None = None,
        artifact_name: str = "",
        provides: Mapping[str, str] | None = None,
        limits: PackageLimits = DEFAULT_LIMITS,
    ) -> None:
        for key in keys.keys if keys is not None else ():
            check_package_key(key)
        self._keys = keys
        self._provides: dict[str, str] | None = None
        if device_type is not None:
            self._provides = {**(provides or {}), DEVICE_TYPE: device_type}
            if artifact_name:
                self._provides[ARTIFACT_NAME] = artifact_name
        self._limits = limits
        self._outer = TarReader(self, limits, "the artifact")
        self._gather = Gather()
        self._out: list[bytes] = []
        self._part: Part | None = None
        self._compression = Compression.NONE
        self._decompressor: Decompressor | None = None
        self._members: TarReader | None = None
        self._version = self._text = b""
        self._signed = False
        self._manifest: Manifest | None = None
        self._header: HeaderMembers | None = None
        self._payload: PayloadMember | None = None

    def feed(self, data: bytes) -> bytes:
        self._outer.feed(data)
        out = b"".join(self._out)
        self._out.clear()
        return out

    def finish(self) -> None:
        self._outer.finish()
        if self._payload is None:
            raise PackageRefused(Reason.TRUNCATED, "the artifact ends before its payload")

    @property
    def artifact(self) -> MenderArtifact:
        """What has been unpacked; to be asked after `finish`."""
        payload = self._payload
        if payload is None:
            raise PackageRefused(Reason.TRUNCATED, "the artifact is not complete")
        info, kind, scripts = self._described()
        return MenderArtifact(
            name=info.provides[ARTIFACT_NAME],
            payload_type=info.payload_type,
            filename=payload.filename,
            size=payload.size,
            sha256=payload.sha256,
            signed=self._signed,
            compression=self._compression,
            provides={**info.provides, **kind.provides},
            depends={**info.depends, **kind.depends},
            clears=kind.clears,
            scripts=scripts,
        )

    # What the reader of the outer archive tells of.

    def begin(self, name: str, size: int) -> None:
        part = self._next_part(name)
        self._part = part
        if part is not Part.DATA:
            if size > self._limits.header_size:
                raise PackageRefused(
                    Reason.BAD_STRUCTURE,
                    f"{name} has {size} bytes, more than {self._limits.header_size}",
                )
            self._gather.ask(size)
            return
        self._payload = PayloadMember(self._listed().payload, self._limits, self._out)
        self._members = TarReader(self._payload, self._limits, name)
        self._decompressor = decompressor(self._compression, name)

    def data(self, piece: memoryview) -> None:
        if self._part is not Part.DATA:
            self._gather.take(piece)
            return
        assert self._decompressor is not None and self._members is not None  # since `begin`
        for plain in self._decompressor.feed(piece):
            self._members.feed(plain)

    def end(self) -> None:
        match self._part:
            case Part.VERSION:
                self._version = self._gather.bytes()
                check_version(self._version)
            case Part.MANIFEST:
                self._text = self._gather.bytes()
            case Part.SIGNATURE:
                self._signed = True
                if self._keys is not None:
                    _check_signature(self._gather.bytes(), self._text, self._keys)
            case Part.HEADER:
                self._read_header(self._gather.bytes())
            case Part.DATA:
                self._end_data()

    def _next_part(self, name: str) -> Part:
        if name.startswith(_AUGMENTED):
            raise PackageRefused(Reason.UNSUPPORTED_FLAGS, f"the artifact is augmented: {name}")
        part, compression = _part_of(name)
        if part is None or part not in ORDER[self._part]:
            if self._part is None:
                raise PackageRefused(Reason.BAD_MAGIC, f"begins with {name!r}, not with 'version'")
            raise PackageRefused(
                Reason.BAD_STRUCTURE, f"{name!r} has no place behind {self._part.value!r}"
            )
        if part is Part.HEADER:
            if self._keys is not None and not self._signed:
                raise PackageRefused(Reason.UNSIGNED, "the manifest is not signed")
            self._read_manifest()
            if name != self._listed().header:
                raise PackageRefused(
                    Reason.BAD_STRUCTURE, f"{name!r} is not the header that the manifest names"
                )
        self._compression = compression
        return part

    def _read_manifest(self) -> None:
        """Not before its signature, if one is asked for, has been checked."""
        self._manifest = Manifest(self._text, self._limits)
        self._text = b""
        _check_digest("version", self._version, self._manifest)

    def _read_header(self, packed: bytes) -> None:
        manifest = self._listed()
        _check_digest(manifest.header, packed, manifest)
        header = HeaderMembers()
        members = TarReader(header, self._limits, manifest.header)
        stream = decompressor(self._compression, manifest.header)
        # The small archive is as bounded as the file it came in.
        room = self._limits.header_size
        for piece in stream.feed(memoryview(packed)):
            room -= len(piece)
            if room < 0:
                raise PackageRefused(
                    Reason.BAD_STRUCTURE,
                    f"{manifest.header} decompresses to more than {self._limits.header_size} bytes",
                )
            members.feed(piece)
        stream.finish()
        members.finish()
        self._header = header
        self._check_depends()

    def _check_depends(self) -> None:
        info, kind, _ = self._described()
        if self._provides is None:
            return
        for name, accepted in {**info.depends, **kind.depends}.items():
            found = self._provides.get(name)
            if found in accepted:
                continue
            wanted = " or ".join(map(repr, accepted[:8])) or "nothing"
            raise PackageRefused(
                Reason.WRONG_DEVICE if name == DEVICE_TYPE else Reason.UNMET_DEPENDENCY,
                f"needs {name} {wanted}, the device has {found!r}",
            )

    def _end_data(self) -> None:
        payload = self._payload
        assert self._decompressor is not None and self._members is not None  # since `begin`
        assert payload is not None
        self._decompressor.finish()
        self._members.finish()
        self._decompressor = self._members = None
        payload.check(self._listed().payload_digest)

    def _listed(self) -> Manifest:
        assert self._manifest is not None  # ORDER: the header comes first, and reads it
        return self._manifest

    def _described(self) -> tuple[HeaderInfo, TypeInfo, Names]:
        assert self._header is not None  # ORDER: no payload without a header
        return self._header.result()


def verify_artifact(
    source: ByteSource,
    keys: TrustedKeys | None,
    *,
    device_type: str | None = None,
    artifact_name: str = "",
    provides: Mapping[str, str] | None = None,
    limits: PackageLimits = DEFAULT_LIMITS,
) -> MenderArtifact:
    """Judge a whole artifact, or raise `PackageRefused`. The image inside is not judged here."""
    unpacker = MenderUnpacker(
        keys,
        device_type=device_type,
        artifact_name=artifact_name,
        provides=provides,
        limits=limits,
    )
    for chunk in source.chunks(0, len(source)):
        unpacker.feed(bytes(chunk))
    unpacker.finish()
    return unpacker.artifact


def _part_of(name: str) -> tuple[Part | None, Compression]:
    for part in Part:
        if name.startswith(part.value):
            suffix = name.removeprefix(part.value)
            if suffix == "":
                return part, Compression.NONE
            if part in _COMPRESSED and suffix in _SUFFIXES:
                return part, _SUFFIXES[suffix]
    return None, Compression.NONE


def _check_digest(name: str, data: bytes, manifest: Manifest) -> None:
    claimed, actual = manifest.digests[name], hashlib.sha256(data).digest()
    if not hmac.compare_digest(claimed, actual):
        raise PackageRefused(
            Reason.BAD_HASH, f"{name} should have {claimed.hex()}, has {actual.hex()}"
        )


def _check_signature(encoded: bytes, manifest: bytes, keys: TrustedKeys) -> None:
    try:
        signature = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        raise PackageRefused(Reason.BAD_SIGNATURE, "manifest.sig is not base64") from None
    if not any(_verifies(key, signature, manifest) for key in keys.keys):
        raise PackageRefused(Reason.BAD_SIGNATURE, "manifest.sig is of none of the trusted keys")


def _verifies(key: PublicKey, signature: bytes, manifest: bytes) -> bool:
    if key.kind is KeyType.ECDSA_P256 and len(signature) == 2 * ECDSA_BYTES:
        # The tools write the two numbers side by side, not as DER; key services write DER.
        numbers = (signature[:ECDSA_BYTES], signature[ECDSA_BYTES:])
        signature = encode_dss_signature(*(int.from_bytes(number, "big") for number in numbers))
    return verifies_package(key, signature, manifest)
