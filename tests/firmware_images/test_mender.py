"""Mender artifacts: built, taken apart in pieces of any size, and refused for the right reason."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_images import BadKey, CannotBuild, PackageRefused, Reason, as_source
from firmware_images.keys import KeyType, SigningKey, TrustedKeys
from firmware_images.mcuboot import verify_image
from firmware_images.mender import (
    Compression,
    MenderUnpacker,
    build_artifact,
    verify_artifact,
)
from firmware_images.mender.compression import compress
from firmware_images.mender.tar import TRAILING_LIMIT, write_tar
from firmware_images.package import PackageLimits
from firmware_images.signatures import sign_package

DATA = Path(__file__).parent / "data"
IMAGE = bytes(range(256)) * 5 + b"end"
TYPES = ["board-a", "board-b"]
KINDS = [KeyType.ECDSA_P256, KeyType.RSA_2048, KeyType.RSA_3072]
VERSION = b'{"format":"mender","version":3}'
INFO = {
    "payloads": [{"type": "mcuboot"}],
    "artifact_provides": {"artifact_name": "r2"},
    "artifact_depends": {"device_type": TYPES},
}
KIND = {"type": "mcuboot"}

Members = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def signer(keyring: dict[KeyType, SigningKey]) -> SigningKey:
    return keyring[KeyType.ECDSA_P256]


def built(key: SigningKey | None = None, **options: object) -> bytes:
    arguments: dict[str, object] = {"name": "r2", "device_types": TYPES} | options
    return build_artifact(IMAGE, key=key, **arguments)  # type: ignore[arg-type]


def trusted(*keys: SigningKey) -> TrustedKeys:
    return TrustedKeys.of(keys)


def header(info: object = INFO, kind: object = KIND, *, members: Members | None = None) -> bytes:
    files = [
        ("header-info", json.dumps(info).encode()),
        ("headers/0000/type-info", json.dumps(kind).encode()),
        ("headers/0000/meta-data", b""),
    ]
    return zlib_gzip(write_tar(files if members is None else members))


def payload(members: Members | None = None) -> bytes:
    return zlib_gzip(write_tar([("fw.bin", IMAGE)] if members is None else members))


def zlib_gzip(data: bytes) -> bytes:
    return compress(data, Compression.GZIP)


def manifest_of(head: bytes, extra: Sequence[str] = (), image: bytes = IMAGE) -> bytes:
    named = {"data/0000/fw.bin": image, "header.tar.gz": head, "version": VERSION}
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in named.items()]
    return "".join(f"{line}\n" for line in [*lines, *extra]).encode()


def crafted(
    *,
    version: bytes = VERSION,
    head: bytes | None = None,
    manifest: bytes | None = None,
    data: bytes | None = None,
    between: Members = (),  # type: ignore[assignment]
    behind: Members = (),  # type: ignore[assignment]
) -> bytes:
    """Unsigned, written part by part; what is not given is right."""
    head = header() if head is None else head
    return write_tar(
        [
            ("version", version),
            ("manifest", manifest_of(head) if manifest is None else manifest),
            *between,
            ("header.tar.gz", head),
            ("data/0000.tar.gz", payload() if data is None else data),
            *behind,
        ]
    )


def unpack(unpacker: MenderUnpacker, data: bytes, sizes: Sequence[int] = (1 << 20,)) -> bytes:
    out, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        out.append(unpacker.feed(data[at : at + size]))
        at, turn = at + size, turn + 1
    unpacker.finish()
    return b"".join(out)


def refusal(act: Callable[[], object]) -> Reason:
    with pytest.raises(PackageRefused) as refused:
        act()
    return refused.value.reason


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("compression", list(Compression))
def test_from_image_to_artifact_and_back(
    kind: KeyType | None, compression: Compression, keyring: dict[KeyType, SigningKey]
) -> None:
    key = keyring[kind] if kind else None
    keys = trusted(key, keyring[KeyType.RSA_2048]) if key else None
    artifact = built(key, compression=compression)
    assert artifact == built(key, compression=compression)
    unpacker = MenderUnpacker(keys, device_type="board-b", artifact_name="r1")
    assert unpack(unpacker, artifact, [100]) == IMAGE
    found = unpacker.artifact
    assert found == verify_artifact(as_source(artifact), keys)
    assert (found.name, found.payload_type, found.filename) == (
        "r2",
        "rootfs-image",
        "firmware.bin",
    )
    assert (found.size, found.sha256) == (len(IMAGE), hashlib.sha256(IMAGE).digest())
    assert (found.signed, found.compression) == (key is not None, compression)
    assert found.provides["rootfs-image.checksum"] == found.sha256.hex()
    assert found.device_types == ("board-a", "board-b")


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(1, 900), min_size=1, max_size=20))
def test_pieces_of_any_size(signer: SigningKey, sizes: list[int]) -> None:
    assert unpack(MenderUnpacker(trusted(signer)), built(signer), sizes) == IMAGE


@pytest.mark.parametrize(
    ("name", "key", "payload_type", "provides"),
    [
        ("rootfs-rsa", "rsa", "rootfs-image", {"rootfs-image.version": "2.0.0"}),
        ("module-ec", "ec", "mcuboot", {"rootfs-image.mcuboot.version": "release-2"}),
        ("module-xz", None, "mcuboot", {"rootfs-image.mcuboot.version": "release-2"}),
    ],
)
def test_what_mender_artifact_wrote(
    name: str,
    key: str | None,
    payload_type: str,
    provides: dict[str, str],
    signer: SigningKey,
) -> None:
    artifact = (DATA / f"mender-{name}.mender").read_bytes()
    keys = TrustedKeys.from_pem((DATA / f"{key}.pem").read_bytes()) if key else None
    unpacker = MenderUnpacker(keys, device_type="board-a", artifact_name="release-1")
    image = unpack(unpacker, artifact, [77])
    assert image == (DATA / "firmware.bin").read_bytes()
    signed_by = TrustedKeys.from_pem((DATA / "image.pem").read_bytes())
    assert str(verify_image(as_source(image), signed_by, 1 << 16).version) == "2.0.0"
    found = unpacker.artifact
    assert (found.name, found.payload_type) == ("release-2", payload_type)
    assert provides.items() <= found.provides.items()
    assert found.signed == (key is not None)
    reason = Reason.BAD_SIGNATURE if key else Reason.UNSIGNED
    assert refusal(lambda: verify_artifact(as_source(artifact), trusted(signer))) is reason


def test_signatures_in_der_are_taken_too(signer: SigningKey) -> None:
    """Key services write ECDSA signatures so; the tool writes two numbers."""
    head = header()
    text = manifest_of(head)
    signature = base64.b64encode(sign_package(signer, text)) + b"\n"
    artifact = crafted(head=head, between=[("manifest.sig", signature)])
    assert verify_artifact(as_source(artifact), trusted(signer)).signed


def test_ed25519_has_no_place_in_an_artifact(keyring: dict[KeyType, SigningKey]) -> None:
    key = keyring[KeyType.ED25519]
    for act in (lambda: built(key), lambda: MenderUnpacker(trusted(key))):
        with pytest.raises(BadKey, match="not with ed25519"):
            act()


def test_dependencies() -> None:
    artifact = built(
        depends={"bootloader": ["1", "2"]}, depends_names=["r1", "r0"], depends_groups=["pilots"]
    )

    def judged(**device: object) -> None:
        verify_artifact(as_source(artifact), None, **device)  # type: ignore[arg-type]

    right = {
        "device_type": "board-a",
        "artifact_name": "r0",
        "provides": {"bootloader": "2", "artifact_group": "pilots"},
    }
    judged(**right)
    judged()  # nothing is known of the device, and nothing is asked
    assert refusal(lambda: judged(**right | {"device_type": "x"})) is Reason.WRONG_DEVICE
    for wrong in (
        {"artifact_name": "r2"},
        {"artifact_name": ""},
        {"provides": {"bootloader": "2"}},
        {"provides": {"bootloader": "3", "artifact_group": "pilots"}},
        {"provides": None},
    ):
        assert refusal(lambda: judged(**right | wrong)) is Reason.UNMET_DEPENDENCY  # noqa: B023


def test_scripts_are_named_and_not_run() -> None:
    files = [
        ("header-info", json.dumps(INFO).encode()),
        ("scripts/ArtifactInstall_Enter_00", b"#!/bin/sh\nexit 1\n"),
        ("headers/0000/type-info", b'{"type":""}'),
    ]
    artifact = crafted(head=header(members=files))
    assert verify_artifact(as_source(artifact), None).scripts == ("ArtifactInstall_Enter_00",)


def test_a_long_name_in_an_extended_header() -> None:
    name = "x" * 150 + ".bin"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size, member.mtime = len(IMAGE), 1.5  # a fraction is written beside the name
        archive.addfile(member, io.BytesIO(IMAGE))
    head = header()
    artifact = crafted(
        head=head,
        manifest=manifest_of(head).replace(b"fw.bin", name.encode()),
        data=zlib_gzip(buffer.getvalue()),
    )
    unpacker = MenderUnpacker(None)
    assert unpack(unpacker, artifact) == IMAGE
    assert unpacker.artifact.filename == name


def linked(kind: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("fw.bin")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    return zlib_gzip(buffer.getvalue())


def info_with(**changes: object) -> bytes:
    return crafted(head=header(INFO | changes))


def kind_with(**changes: object) -> bytes:
    return crafted(head=header(kind=KIND | changes))


def listed_as(*names: str) -> bytes:
    return crafted(manifest=manifest_of(header(), [f"{'0' * 64}  {name}" for name in names]))


HEAD = header()
RIGHT = manifest_of(HEAD)
PAIR = ("header-info", json.dumps(INFO).encode()), ("headers/0000/type-info", b'{"type":"mcuboot"}')
BOMB = compress(bytes(64 << 20), Compression.GZIP)


@pytest.mark.parametrize(
    ("artifact", "reason"),
    [
        # The outer archive and its order.
        (b"", Reason.TRUNCATED),
        (b"no artifact " * 100, Reason.BAD_MAGIC),
        (write_tar([]), Reason.TRUNCATED),
        (write_tar([("manifest", RIGHT)]), Reason.BAD_MAGIC),
        (write_tar([("version", VERSION)]), Reason.TRUNCATED),
        (write_tar([("version", VERSION), ("header.tar.gz", HEAD)]), Reason.BAD_STRUCTURE),
        (write_tar([("version", VERSION), ("manifest", RIGHT), ("data/0000.tar.gz", payload())]),
         Reason.BAD_STRUCTURE),
        (write_tar([("version", VERSION), ("manifest", RIGHT), ("header.tar.gz", HEAD)]),
         Reason.TRUNCATED),
        (crafted(behind=[("header.tar", b"")]), Reason.BAD_STRUCTURE),
        (crafted(behind=[("data/0001.tar.gz", payload())]), Reason.BAD_STRUCTURE),
        (crafted(behind=[("notes", b"x")]), Reason.BAD_STRUCTURE),
        (crafted(behind=[("data/0000.tar.gz", payload())]), Reason.BAD_STRUCTURE),
        (crafted(between=[("notes", b"x")]), Reason.BAD_STRUCTURE),
        (crafted(between=[("manifest-augment", b"")]), Reason.UNSUPPORTED_FLAGS),
        (crafted(between=[("../manifest.sig", b"")]), Reason.BAD_STRUCTURE),
        (crafted() + b"more", Reason.BAD_STRUCTURE),
        (crafted() + bytes(TRAILING_LIMIT), Reason.BAD_STRUCTURE),
        (crafted()[:300] + b"\1" + crafted()[301:], Reason.BAD_STRUCTURE),
        # The version.
        (crafted(version=b'{"format":"mender","version":2}'), Reason.UNSUPPORTED_FLAGS),
        (crafted(version=b'{"format":"other","version":3}'), Reason.BAD_MAGIC),
        (crafted(version=b"[3]"), Reason.BAD_STRUCTURE),
        (crafted(version=b"[" * 5000), Reason.BAD_STRUCTURE),
        (crafted(version=b'{"format":"mender", "version":3}'), Reason.BAD_HASH),
        # The manifest.
        (crafted(manifest=b"\xff"), Reason.BAD_STRUCTURE),
        (crafted(manifest=b"nonsense\n"), Reason.BAD_STRUCTURE),
        (crafted(manifest=RIGHT.replace(b"  version", b"  Version")), Reason.BAD_STRUCTURE),
        (crafted(manifest=RIGHT.replace(b"fw.bin", b"f w.bin")), Reason.BAD_STRUCTURE),
        (crafted(manifest=RIGHT.replace(b"fw.bin", b"../fw")), Reason.BAD_STRUCTURE),
        (crafted(manifest=RIGHT.replace(b"fw.bin", b"other.bin")), Reason.BAD_STRUCTURE),
        (crafted(manifest=RIGHT.replace(b"tar.gz", b"tar.xz")), Reason.BAD_STRUCTURE),
        (listed_as("data/0000/second.bin"), Reason.BAD_STRUCTURE),
        (listed_as("data/0001/fw.bin"), Reason.BAD_STRUCTURE),
        (listed_as("notes"), Reason.BAD_STRUCTURE),
        (listed_as("version"), Reason.BAD_STRUCTURE),
        (listed_as(*map(str, range(100))), Reason.BAD_STRUCTURE),
        # The header.
        (crafted(head=header(), manifest=manifest_of(header(kind={}))), Reason.BAD_HASH),
        (crafted(head=b"no gzip"), Reason.BAD_STRUCTURE),
        (crafted(head=header()[:-1]), Reason.TRUNCATED),
        (crafted(head=header() + b"x"), Reason.BAD_STRUCTURE),
        (crafted(head=zlib_gzip(b"no tar" * 100)), Reason.BAD_MAGIC),
        (crafted(head=header(members=[])), Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[PAIR[0]])), Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[PAIR[1], PAIR[0]])), Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[*PAIR, PAIR[0]])), Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[*PAIR, ("notes", b"")])), Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[*PAIR, ("headers/0001/type-info", b"")])),
         Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[*PAIR, ("scripts/late", b"")])), Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[PAIR[0], ("scripts/a/b", b""), PAIR[1]])),
         Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[("header-info", b"{"), PAIR[1]])), Reason.BAD_STRUCTURE),
        (crafted(head=header(members=[("header-info", b"1" * 5000), PAIR[1]])),
         Reason.BAD_STRUCTURE),
        (info_with(payloads=[]), Reason.BAD_STRUCTURE),
        (info_with(payloads=[KIND, KIND]), Reason.BAD_STRUCTURE),
        (info_with(payloads=[1]), Reason.BAD_STRUCTURE),
        (info_with(payloads=[{"type": ""}]), Reason.BAD_STRUCTURE),
        (info_with(artifact_provides={}), Reason.BAD_STRUCTURE),
        (info_with(artifact_provides=[1]), Reason.BAD_STRUCTURE),
        (info_with(artifact_provides={"artifact_name": 1}), Reason.BAD_STRUCTURE),
        (info_with(artifact_depends=None), Reason.BAD_STRUCTURE),
        (info_with(artifact_depends={"device_type": []}), Reason.BAD_STRUCTURE),
        (info_with(artifact_depends={"device_type": [1]}), Reason.BAD_STRUCTURE),
        (info_with(artifact_depends=[1]), Reason.BAD_STRUCTURE),
        (kind_with(type="other"), Reason.BAD_STRUCTURE),
        (kind_with(artifact_depends={"a": 1}), Reason.BAD_STRUCTURE),
        (kind_with(clears_artifact_provides="a"), Reason.BAD_STRUCTURE),
        # The payload.
        (crafted(data=payload([("fw.bin", IMAGE[:-1] + b"!")])), Reason.BAD_HASH),
        (crafted(data=payload([("fw.bin", IMAGE[:-1])])), Reason.BAD_HASH),
        (crafted(data=payload([])), Reason.TRUNCATED),
        (crafted(data=payload([("other", IMAGE)])), Reason.BAD_STRUCTURE),
        (crafted(data=payload([("fw.bin", IMAGE), ("other", b"")])), Reason.BAD_STRUCTURE),
        (crafted(data=payload([("fw.bin", IMAGE), ("fw.bin", IMAGE)])), Reason.BAD_STRUCTURE),
        (crafted(data=b""), Reason.TRUNCATED),
        (crafted(data=payload()[:-9]), Reason.TRUNCATED),
        (crafted(data=payload() + payload()), Reason.BAD_STRUCTURE),
        (crafted(data=payload()[:-8] + bytes(8)), Reason.BAD_STRUCTURE),
        (crafted(data=linked(tarfile.SYMTYPE)), Reason.BAD_STRUCTURE),
        (crafted(data=linked(tarfile.LNKTYPE)), Reason.BAD_STRUCTURE),
        (crafted(data=linked(tarfile.DIRTYPE)), Reason.BAD_STRUCTURE),
        (crafted(data=linked(tarfile.BLKTYPE)), Reason.BAD_STRUCTURE),
        (crafted(data=linked(tarfile.GNUTYPE_SPARSE)), Reason.BAD_STRUCTURE),
        # Bombs: zeros that a kilobyte of gzip holds by the megabyte.
        (crafted(head=BOMB), Reason.BAD_STRUCTURE),
        (crafted(data=BOMB), Reason.BAD_STRUCTURE),
    ],
)  # fmt: skip
def test_each_fault_is_refused_for_its_reason(artifact: bytes, reason: Reason) -> None:
    assert refusal(lambda: unpack(MenderUnpacker(None), artifact)) is reason
    assert refusal(lambda: unpack(MenderUnpacker(None), artifact, [61])) is reason


def test_the_same_parts_unharmed_are_accepted() -> None:
    assert unpack(MenderUnpacker(None), crafted()) == IMAGE


def test_unsigned_is_known_before_anything_is_decompressed(signer: SigningKey) -> None:
    artifact = crafted(head=b"not even gzip")
    assert refusal(lambda: unpack(MenderUnpacker(trusted(signer)), artifact)) is Reason.UNSIGNED
    for signature in (b"", b"*", b"AAAA", base64.b64encode(bytes(64)), b"\xff"):
        artifact = crafted(between=[("manifest.sig", signature)])
        act = lambda: unpack(MenderUnpacker(trusted(signer)), artifact)  # noqa: B023, E731
        assert refusal(act) is Reason.BAD_SIGNATURE
        # Without a key the client does not look at signatures either.
        assert unpack(MenderUnpacker(None), artifact) == IMAGE


def test_limits() -> None:
    for limits, reason in (
        (PackageLimits(image_size=len(IMAGE) - 1), Reason.TOO_LARGE),
        (PackageLimits(header_size=200), Reason.BAD_STRUCTURE),
        (PackageLimits(entries=3), Reason.BAD_STRUCTURE),
        (PackageLimits(name_size=12), Reason.BAD_STRUCTURE),
    ):
        unpacker = MenderUnpacker(None, limits=limits)
        assert refusal(lambda: unpack(unpacker, crafted())) is reason  # noqa: B023
    assert unpack(MenderUnpacker(None, limits=PackageLimits(len(IMAGE))), crafted()) == IMAGE


def test_bombs_cost_no_memory() -> None:
    """64 MiB from 64 KiB: refused with less than one of them in memory."""
    huge = zlib_gzip(write_tar([("fw.bin", b"")])[:512] + bytes(64 << 20))
    liar = bytearray(write_tar([("fw.bin", b"")])[:512])
    for bomb in (
        crafted(head=BOMB),
        crafted(data=BOMB),
        crafted(data=huge),
        crafted(data=bytes(liar)),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(PackageRefused):
                unpack(MenderUnpacker(None), bomb)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20


def test_a_large_image_passes_through_without_being_kept() -> None:
    image = random.Random(4).randbytes(1 << 20) * 8
    artifact = build_artifact(image, name="r2", device_types=TYPES)
    unpacker = MenderUnpacker(None)
    digest = hashlib.sha256()
    tracemalloc.start()
    try:
        for at in range(0, len(artifact), 1 << 14):
            digest.update(unpacker.feed(artifact[at : at + (1 << 14)]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    unpacker.finish()
    assert digest.digest() == hashlib.sha256(image).digest()
    assert peak < 1 << 19


@pytest.mark.parametrize("compression", list(Compression))
def test_cut_at_every_byte(compression: Compression, signer: SigningKey) -> None:
    artifact = built(signer, compression=compression)
    for cut in range(len(artifact)):
        unpacker = MenderUnpacker(trusted(signer))
        assert refusal(lambda: unpack(unpacker, artifact[:cut])) is Reason.TRUNCATED  # noqa: B023


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=1200))
def test_any_bytes(signer: SigningKey, data: bytes) -> None:
    for candidate in (data, crafted()[:1024] + data):
        with pytest.raises(PackageRefused):
            unpack(MenderUnpacker(trusted(signer)), candidate)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=600))
def test_any_bytes_inside(data: bytes) -> None:
    """Behind right digests: what an attacker can put there when nobody asks for signatures."""
    for artifact in (
        crafted(head=data),
        crafted(head=zlib_gzip(data)),
        crafted(head=header(members=[("header-info", data), PAIR[1]])),
        crafted(manifest=data),
        crafted(data=data),
        crafted(data=zlib_gzip(write_tar([("fw.bin", IMAGE)])[:512] + data)),
    ):
        with pytest.raises(PackageRefused):
            unpack(MenderUnpacker(None), artifact)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(
    where=st.sampled_from(["payloads", "artifact_provides", "artifact_depends", "type",
                           "clears_artifact_provides"]),
    value=json_values,
)  # fmt: skip
def test_any_json_in_the_header(where: str, value: object) -> None:
    artifact = crafted(head=header(INFO | {where: value}, KIND | {where: value}))
    try:
        assert unpack(MenderUnpacker(None, device_type="board-a"), artifact) == IMAGE
    except PackageRefused:
        return


@settings(deadline=None, max_examples=300)
@given(data=st.data(), compression=st.sampled_from([Compression.NONE, Compression.GZIP]))
def test_mutations(signer: SigningKey, data: st.DataObject, compression: Compression) -> None:
    """Changed anywhere, a signed artifact is refused or still gives the image that was signed."""
    artifact = bytearray(built(signer, compression=compression))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(artifact)))
        end = data.draw(st.integers(start, min(len(artifact), start + 8)))
        artifact[start:end] = data.draw(st.binary(max_size=8))
    try:
        image = unpack(MenderUnpacker(trusted(signer), device_type="board-a"), bytes(artifact))
    except PackageRefused:
        return
    assert image == IMAGE


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": ""}, "artifact name ''"),
        ({"device_types": []}, "no device type"),
        ({"device_types": [""]}, "no device type"),
        ({"payload_type": ""}, "payload type ''"),
        ({"filename": "a b"}, "'a b'"),
        ({"filename": ".."}, r"'\.\.'"),
        ({"filename": "x" * 91}, "at most 90"),
    ],
)
def test_what_cannot_be_built(options: dict[str, object], said: str) -> None:
    with pytest.raises(CannotBuild, match=said):
        built(**options)
    with pytest.raises(CannotBuild, match="image is empty"):
        build_artifact(b"", name="r2", device_types=TYPES)


def test_gzip_is_the_same_everywhere() -> None:
    """No name, no time of day: the header is fixed but for the system's number."""
    packed = zlib_gzip(b"data")
    assert packed[:4] == b"\x1f\x8b\x08\x00" and packed[4:8] == bytes(4)
    assert zlib.decompress(packed, 31) == b"data"
