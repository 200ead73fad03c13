"""`.swu` packages: built, taken apart in pieces of any size, and refused for the right reason."""

from __future__ import annotations

import hashlib
import pickle
import random
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_images import (
    BadKey,
    CannotBuild,
    PackageRefused,
    Reason,
    UnusableInput,
    as_source,
)
from firmware_images.keys import KeyType, PublicKey, SigningKey, TrustedKeys
from firmware_images.mcuboot import verify_image
from firmware_images.package import PackageLimits
from firmware_images.swu import (
    Hardware,
    SignatureForm,
    SwuUnpacker,
    build_swu,
    load_certificate,
    self_signed,
    verify_swu,
)
from firmware_images.swu.cms import sign_cms, verify_cms
from firmware_images.swu.cpio import TRAILING_LIMIT, write_cpio

DATA = Path(__file__).parent / "data"
IMAGE = bytes(range(256)) * 5 + b"end"
BOARD = Hardware("board-a", "1.0")
HARDWARE = [BOARD, Hardware("board-a", "1.1"), Hardware("board-b", "2")]
KINDS = [KeyType.ECDSA_P256, KeyType.RSA_2048, KeyType.RSA_3072]
SHA256 = hashlib.sha256(IMAGE).hexdigest()
ENTRY = f'filename = "fw.bin"; size = {len(IMAGE)}; sha256 = "{SHA256}"; type = "raw";'

Member = tuple[str, bytes]


@pytest.fixture(scope="module")
def signer(keyring: dict[KeyType, SigningKey]) -> SigningKey:
    return keyring[KeyType.ECDSA_P256]


def built(key: SigningKey | None, **options: object) -> bytes:
    arguments: dict[str, object] = {"version": "1.2.3+4", "hardware": HARDWARE} | options
    return build_swu(IMAGE, key=key, **arguments)  # type: ignore[arg-type]


def described(entry: str = ENTRY, extra: str = "") -> bytes:
    return (
        f'software = {{ version = "1"; {extra} '
        f'board-a = {{ hardware-compatibility: ["1.0"]; images: ({{ {entry} }}); }}; }};'
    ).encode()


def package(*members: Member, description: bytes | None = None) -> bytes:
    """Unsigned; what is not given is right."""
    text = described() if description is None else description
    return write_cpio([("sw-description", text), *(members or [("fw.bin", IMAGE)])])


def unpack(unpacker: SwuUnpacker, data: bytes, sizes: Sequence[int] = (1 << 20,)) -> bytes:
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", list(SignatureForm))
def test_from_image_to_package_and_back(
    kind: KeyType, form: SignatureForm, keyring: dict[KeyType, SigningKey]
) -> None:
    key = keyring[kind]
    if kind is KeyType.ECDSA_P256 and form is SignatureForm.RAW_RSA:
        with pytest.raises(BadKey, match="needs an RSA key"):
            built(key, form=form)
        return
    swu = built(key, form=form)
    assert swu == built(key, form=form)
    unpacker = SwuUnpacker(key.public, hardware=BOARD)
    assert unpack(unpacker, swu, [100]) == IMAGE
    info = unpacker.info
    assert info == verify_swu(as_source(swu), key.public)
    assert (info.version, info.name, info.signed) == ("1.2.3+4", "firmware", True)
    assert info.size == info.image.size == len(IMAGE)
    assert info.image.sha256 == hashlib.sha256(IMAGE).digest()
    assert info.hardware == (("board-a", "1.0"), ("board-a", "1.1"), ("board-b", "2"))


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(1, 700), min_size=1, max_size=20))
def test_pieces_of_any_size(signer: SigningKey, sizes: list[int]) -> None:
    assert unpack(SwuUnpacker(signer.public), built(signer), sizes) == IMAGE


def test_the_image_is_let_through_as_it_comes_and_not_before_the_signature(
    signer: SigningKey,
) -> None:
    swu = built(signer)
    start = swu.index(IMAGE)
    unpacker = SwuUnpacker(signer.public)
    assert unpacker.feed(swu[:start]) == b""
    assert unpacker.feed(swu[start : start + 100]) == IMAGE[:100]
    unsigned = built(None)
    unpacker = SwuUnpacker(signer.public)
    assert refusal(lambda: unpacker.feed(unsigned)) is Reason.UNSIGNED


@pytest.mark.parametrize(
    ("name", "key"), [("cms-ec", "ec"), ("cms-rsa", "rsa"), ("rsa-rsa", "rsa")]
)
def test_what_swugenerator_wrote(name: str, key: str, signer: SigningKey) -> None:
    swu = (DATA / f"swu-{name}.swu").read_bytes()
    public = PublicKey.from_pem((DATA / f"{key}.pem").read_bytes())
    board, chosen = Hardware("default-board", "1.1"), "stable,main"
    unpacker = SwuUnpacker(public, hardware=board, software_set=chosen)
    image = unpack(unpacker, swu, [33])
    assert image == (DATA / "firmware.bin").read_bytes()
    trusted = TrustedKeys.from_pem((DATA / "image.pem").read_bytes())
    assert str(verify_image(as_source(image), trusted, 1 << 16).version) == "2.0.0"
    assert unpacker.info.image.target == "/dev/mtdblock1"
    stranger = signer.public
    assert refusal(lambda: verify_swu(as_source(swu), stranger)) is Reason.BAD_SIGNATURE
    # Without its set nothing is meant for the board.
    with pytest.raises(PackageRefused, match="0 files"):
        verify_swu(as_source(swu), public, hardware=board)


def test_a_certificate_of_ones_own(signer: SigningKey, keyring: dict[KeyType, SigningKey]) -> None:
    certificate = self_signed(signer)
    assert built(signer, certificate=certificate) == built(signer)
    with pytest.raises(BadKey, match="another key"):
        built(keyring[KeyType.RSA_2048], certificate=certificate)
    with pytest.raises(BadKey, match=r"c\.pem: holds no certificate"):
        load_certificate(b"-----BEGIN NOTHING-----", "c.pem")


def test_ed25519_has_no_place_in_a_package(keyring: dict[KeyType, SigningKey]) -> None:
    key = keyring[KeyType.ED25519]
    for act in (
        lambda: built(key),
        lambda: SwuUnpacker(key.public),
        lambda: self_signed(key),
    ):
        with pytest.raises(BadKey, match="not with ed25519"):
            act()


@pytest.mark.parametrize(
    ("hardware", "software_set", "expected"),
    [
        ("board-a:1.0", "", "board.bin"),
        ("board-a:1.0", "stable,main", "board-set.bin"),
        ("board-a:1.0", "stable,other", "set-other.bin"),
        ("board-c:9", "stable,other", "set-other.bin"),
        ("board-c:9", "", "root.bin"),
    ],
)
def test_the_most_particular_setting_counts(
    hardware: str, software_set: str, expected: str
) -> None:
    """As SWUpdate looks: board and set, set, board, root; setting by setting."""
    text = """
    software = { version = "1"; hardware-compatibility: [ "9" ];
      images: ( { filename = "root.bin"; } );
      stable = { main = { images: ( { filename = "set-main.bin"; } ); };
                 other = { images: ( { filename = "set-other.bin"; } ); }; };
      board-a = { hardware-compatibility: [ "1.0" ]; images: ( { filename = "board.bin"; } );
        stable = { main = { images: ( { filename = "board-set.bin"; } ); }; }; };
    };"""
    names = ["board.bin", "board-set.bin", "set-main.bin", "set-other.bin", "root.bin"]
    swu = package(*((name, name.encode()) for name in names), description=text.encode())
    unpacker = SwuUnpacker(None, hardware=Hardware.parse(hardware), software_set=software_set)
    assert unpack(unpacker, swu) == expected.encode()


@pytest.mark.parametrize("hardware", ["board-a:1.2", "board-c:1.0"])
def test_another_device(hardware: str, signer: SigningKey) -> None:
    swu, wrong = built(signer), Hardware.parse(hardware)
    act = lambda: verify_swu(as_source(swu), signer.public, hardware=wrong)  # noqa: E731
    assert refusal(act) is Reason.WRONG_DEVICE


def lied(old: bytes, new: bytes) -> bytes:
    return package(description=described().replace(old, new))


NO_DIGEST = described(entry='filename = "fw.bin"; type = "raw";')


@pytest.mark.parametrize(
    ("swu", "reason"),
    [
        (b"", Reason.TRUNCATED),
        (b"not a package at all" * 10, Reason.BAD_MAGIC),
        (write_cpio([]), Reason.TRUNCATED),
        (write_cpio([("fw.bin", IMAGE), ("sw-description", described())]), Reason.BAD_MAGIC),
        (write_cpio([("sw-description", described())]), Reason.TRUNCATED),
        (package(("fw.bin", IMAGE), ("fw.bin", IMAGE)), Reason.BAD_STRUCTURE),
        (package(("fw.bin", IMAGE), ("extra", b"x")), Reason.BAD_STRUCTURE),
        (package(("../fw.bin", IMAGE)), Reason.BAD_STRUCTURE),
        (package(("/etc/passwd", IMAGE)), Reason.BAD_STRUCTURE),
        (package(("a/../b", IMAGE)), Reason.BAD_STRUCTURE),
        (package(("a\nb", IMAGE)), Reason.BAD_STRUCTURE),
        (package(("fw.bin", IMAGE[:-1])), Reason.BAD_STRUCTURE),
        (package(("fw.bin", IMAGE[:-1] + b"!")), Reason.BAD_HASH),
        (package().replace(IMAGE, IMAGE[:-1] + b"!"), Reason.BAD_HASH),
        (package(description=described(ENTRY + 'compressed = "zlib";')), Reason.COMPRESSED),
        (package(description=described(ENTRY + "encrypted = true;")), Reason.ENCRYPTED),
        (package() + b"more", Reason.BAD_STRUCTURE),
        (package() + bytes(TRAILING_LIMIT + 1), Reason.BAD_STRUCTURE),
        (package().replace(b"000081A4", b"000041ED", 1), Reason.BAD_STRUCTURE),
        (package().replace(b"000081A4", b"0000A1ED", 1), Reason.BAD_STRUCTURE),
        (package().replace(b"0000000F", b"FFFFFFFF", 1), Reason.BAD_STRUCTURE),
        (package().replace(b"0000000F", b"00000001", 1), Reason.BAD_STRUCTURE),
        (package().replace(b"0000000F", b"0000000E", 1), Reason.BAD_STRUCTURE),
        (package().replace(b"0000000F", b"0000000G", 1), Reason.BAD_STRUCTURE),
        (b"070701" + b"0" * 48 + b"FFFFFFFF" + b"0" * 32 + b"0000000F" + b"0" * 8
         + b"sw-description\0" + bytes(3), Reason.BAD_STRUCTURE),
        (lied(b'filename = "fw.bin"', b'filename = "../fw.bin"'), Reason.BAD_STRUCTURE),
        (lied(b'filename = "fw.bin";', b""), Reason.BAD_STRUCTURE),
        (lied(b'version = "1";', b""), Reason.BAD_STRUCTURE),
        (lied(b'version = "1";', b"version = 1;"), Reason.BAD_STRUCTURE),
        (lied(b"software", b"hardware"), Reason.BAD_STRUCTURE),
        (lied(b"size = ", b"size = -"), Reason.BAD_STRUCTURE),
        (lied(b"size = ", b"size = 1.5e"), Reason.BAD_STRUCTURE),
        (lied(SHA256.encode(), b"12"), Reason.BAD_STRUCTURE),
        (lied(b'type = "raw";', b"type = (1);"), Reason.BAD_STRUCTURE),
        (lied(b"images: (", b"images: (1, "), Reason.BAD_STRUCTURE),
        (lied(b"images:", b"partitions:"), Reason.BAD_STRUCTURE),
        (lied(b"board-a =", b"@include board-a ="), Reason.BAD_STRUCTURE),
        (lied(b'["1.0"]', b"[1.0]"), Reason.BAD_STRUCTURE),
        (lied(b'["1.0"]', b'["#RE:^(a+)+$"]'), Reason.UNSUPPORTED_FLAGS),
        (lied(b'"1"', b'"\xff"'), Reason.BAD_STRUCTURE),
        (package(description=b"software = " + b"(" * 5000), Reason.BAD_STRUCTURE),
    ],
)  # fmt: skip
def test_each_fault_is_refused_for_its_reason(swu: bytes, reason: Reason) -> None:
    assert refusal(lambda: unpack(SwuUnpacker(None), swu)) is reason
    assert refusal(lambda: unpack(SwuUnpacker(None), swu, [1])) is reason


def test_what_is_signed_must_give_a_digest(signer: SigningKey) -> None:
    assert verify_swu(as_source(package(description=NO_DIGEST)), None).image.sha256 is None
    members = [
        ("sw-description", NO_DIGEST),
        ("sw-description.sig", sign_cms(NO_DIGEST, signer, self_signed(signer))),
        ("fw.bin", IMAGE),
    ]
    act = lambda: verify_swu(as_source(write_cpio(members)), signer.public)  # noqa: E731
    assert refusal(act) is Reason.BAD_HASH


def test_the_plain_variant_of_the_archive_is_read_too() -> None:
    swu = package().replace(b"070702", b"070701")
    assert unpack(SwuUnpacker(None), swu) == IMAGE


@settings(deadline=None)
@given(st.binary(max_size=2000) | st.integers(0, 70_000).map(lambda size: b"\xff" * size))
def test_the_sum_of_the_bytes(data: bytes) -> None:
    archive = write_cpio([("a", data)])
    assert int(archive[102:110], 16) == sum(data)


def test_limits() -> None:
    for limits, reason in (
        (PackageLimits(image_size=len(IMAGE) - 1), Reason.TOO_LARGE),
        (PackageLimits(header_size=len(described()) - 1), Reason.BAD_STRUCTURE),
        (PackageLimits(entries=1), Reason.BAD_STRUCTURE),
        (PackageLimits(name_size=10), Reason.BAD_STRUCTURE),
    ):
        unpacker = SwuUnpacker(None, limits=limits)
        assert refusal(lambda: unpack(unpacker, package())) is reason  # noqa: B023
    exact = PackageLimits(len(IMAGE), len(described()), 2, len("sw-description"))
    assert unpack(SwuUnpacker(None, limits=exact), package()) == IMAGE


def test_too_large_is_known_from_the_header(signer: SigningKey) -> None:
    """Not one byte of an image that will not fit is taken."""
    swu = built(signer)
    unpacker = SwuUnpacker(signer.public, limits=PackageLimits(image_size=100))
    unpacker.feed(swu[: swu.index(IMAGE) - 4])
    assert refusal(lambda: unpacker.feed(swu[swu.index(IMAGE) - 4 :])) is Reason.TOO_LARGE


def test_cut_at_every_byte(signer: SigningKey) -> None:
    swu = built(signer)
    end = swu.index(b"TRAILER!!!") + len("TRAILER!!!\0")
    for cut in range(end):
        unpacker = SwuUnpacker(signer.public)
        assert refusal(lambda: unpack(unpacker, swu[:cut])) is Reason.TRUNCATED  # noqa: B023


def test_a_large_image_passes_through_without_being_kept() -> None:
    image = random.Random(4).randbytes(1 << 20) * 8
    swu = build_swu(image, version="1", hardware=HARDWARE)
    unpacker = SwuUnpacker(None)
    digest = hashlib.sha256()
    tracemalloc.start()
    try:
        for at in range(0, len(swu), 1 << 14):
            digest.update(unpacker.feed(swu[at : at + (1 << 14)]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    unpacker.finish()
    assert digest.digest() == hashlib.sha256(image).digest()
    assert peak < 1 << 18


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes(signer: SigningKey, data: bytes) -> None:
    for candidate in (data, b"070702" + data, built(signer)[:110] + data):
        with pytest.raises(PackageRefused):
            unpack(SwuUnpacker(signer.public), candidate)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_description(data: st.DataObject) -> None:
    """Token soup: parsed or refused, nothing else."""
    token = st.sampled_from(
        ["software", "=", ":", "{", "}", "(", ")", "[", "]", ";", ",", '"a"', "1", "0x1F", "1.5",
         "true", "version", "images", "/*", "*/", "//", "\n", "#", "\\", '"', "-", "1L", " "]
    )  # fmt: skip
    text = " ".join(data.draw(st.lists(token, max_size=40)))
    for description in (text, f"software = {{ version = {text}"):
        with pytest.raises(PackageRefused):
            unpack(SwuUnpacker(None), package(description=description.encode()))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_mutations(signer: SigningKey, data: st.DataObject) -> None:
    """Changed anywhere, a signed package is refused or still gives the image that was signed."""
    swu = bytearray(built(signer))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(swu)))
        end = data.draw(st.integers(start, min(len(swu), start + 8)))
        swu[start:end] = data.draw(st.binary(max_size=8))
    try:
        image = unpack(SwuUnpacker(signer.public, hardware=BOARD), bytes(swu))
    except PackageRefused:
        return
    assert image == IMAGE


@pytest.mark.parametrize("kind", [KeyType.ECDSA_P256, KeyType.RSA_2048])
def test_every_byte_of_the_signature_counts_or_is_no_part_of_it(
    kind: KeyType, keyring: dict[KeyType, SigningKey]
) -> None:
    """The names and certificates in a CMS blob are not what is trusted; the rest is."""
    key = keyring[kind]
    blob = sign_cms(b"content", key, self_signed(key))
    verify_cms(blob, b"content", key.public)
    assert refusal(lambda: verify_cms(blob, b"Content", key.public)) is Reason.BAD_SIGNATURE
    accepted = 0
    for at in range(len(blob)):
        changed = bytearray(blob)
        changed[at] ^= 0x01
        try:
            verify_cms(bytes(changed), b"content", key.public)
        except PackageRefused as refused:
            assert refused.reason is Reason.BAD_SIGNATURE
        else:
            accepted += 1
    # Certificate, issuer, serial number, versions and algorithm parameters.
    assert len(blob) - accepted > (70 if kind is KeyType.ECDSA_P256 else 256)
    for cut in range(len(blob)):
        with pytest.raises(PackageRefused):
            verify_cms(blob[:cut], b"content", key.public)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hardware": []}, "no hardware"),
        ({"version": ""}, "version is empty"),
        ({"version": "1\n"}, "cannot be printed"),
        ({"filename": "a/b"}, "'a/b'"),
        ({"filename": ".."}, "'..'"),
        ({"filename": "sw-description"}, "'sw-description'"),
        ({"filename": "x" * 300}, "300 bytes"),
        ({"software_set": "stable"}, "'stable' is not SET,MODE"),
        ({"software_set": "stable,version"}, "is not SET,MODE"),
    ],
)
def test_what_cannot_be_built(options: dict[str, object], said: str) -> None:
    with pytest.raises(CannotBuild, match=said):
        built(None, **options)
    with pytest.raises(CannotBuild, match="image is empty"):
        build_swu(b"", version="1", hardware=HARDWARE)


@pytest.mark.parametrize(
    "text", ["board", "1board:1", "bo ard:1", "board:", "board:a b", "images:1"]
)
def test_hardware_that_is_none(text: str) -> None:
    with pytest.raises(UnusableInput):
        Hardware.parse(text)


def test_refusals_cross_process_borders() -> None:
    refused = PackageRefused(Reason.WRONG_DEVICE, "not this one")
    back = pickle.loads(pickle.dumps(refused))
    assert type(back) is PackageRefused
    assert (back.reason, back.detail) == (Reason.WRONG_DEVICE, "not this one")
