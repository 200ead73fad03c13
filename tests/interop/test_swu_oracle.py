"""Our .swu files against Debian's SWUpdate, which checks and installs them.

Its log is the verdict, for its exit code is 1 now and then after a success: the processes it starts
are ended in any order. In that race it may also clean up before it has checked (then "endupdate"
stands in the log too early); such a run says nothing about the package and is made again. Debian
builds it for CMS signatures, so the raw RSA form is checked against openssl alone.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_images import PackageRefused, Reason, as_source
from firmware_images.keys import KeyType, SigningKey, TrustedKeys, generate_key
from firmware_images.mcuboot import verify_image
from firmware_images.swu import (
    Hardware,
    SignatureForm,
    SwuUnpacker,
    build_swu,
    self_signed,
    verify_swu,
)
from firmware_images.swu.cpio import write_cpio
from tests.interop.images import KEY, signed

BOARD = Hardware("default-board", "1.0")
OTHERS = [BOARD, Hardware("default-board", "1.1"), Hardware("other-board", "7")]
KINDS = [KeyType.RSA_2048, KeyType.RSA_3072, KeyType.ECDSA_P256]
PATIENCE = 60.0
ATTEMPTS = 6
_ACCEPTED, _REFUSED, _ENDED = "SWUPDATE successful !", "SWUPDATE failed [1]", "[endupdate]"


@dataclass(frozen=True, slots=True)
class Verdict:
    accepted: bool
    log: str


class SwUpdate:
    """A folder for each run: its sockets and its temporary files are named always alike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, swu: bytes, signer: SigningKey, *options: str) -> Verdict:
        """Check everything, install nothing."""
        return self.install(swu, signer, "-c", *options)

    def install(self, swu: bytes, signer: SigningKey, *options: str) -> Verdict:
        for _ in range(ATTEMPTS):
            log = self._run(swu, signer, *options)
            accepted = _ACCEPTED in log
            verdict, ended = log.find(_ACCEPTED if accepted else _REFUSED), log.find(_ENDED)
            if verdict >= 0 and not 0 <= ended < verdict:
                return Verdict(accepted, log)
        raise AssertionError(f"swupdate gave no verdict in {ATTEMPTS} runs; the last one: {log}")

    def _run(self, swu: bytes, signer: SigningKey, *options: str) -> str:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        package, certificate = folder / "a.swu", folder / "signer.pem"
        package.write_bytes(swu)
        certificate.write_bytes(self_signed(signer).public_bytes(Encoding.PEM))
        command = ["swupdate", "-l", "5", "-i", str(package), "-k", str(certificate)]
        done = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        return done.stdout + done.stderr


@pytest.fixture
def swupdate(tmp_path: Path) -> SwUpdate:
    return SwUpdate(tmp_path)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.value)
def key(request: pytest.FixtureRequest) -> SigningKey:
    return generate_key(request.param)


@pytest.fixture(scope="module")
def ecdsa_key() -> SigningKey:
    return generate_key(KeyType.ECDSA_P256)


def built(key: SigningKey | None, **options: object) -> bytes:
    return build_swu(signed(), version="2.0.0", hardware=OTHERS, key=key, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("hardware", OTHERS, ids=str)
@pytest.mark.parametrize("path", ["", "/tmp/firmware.bin"], ids=["raw", "rawfile"])
def test_swupdate_accepts_what_we_build(
    swupdate: SwUpdate, key: SigningKey, hardware: Hardware, path: str
) -> None:
    verdict = swupdate.check(built(key, path=path), key, "-H", str(hardware))
    assert verdict.accepted, verdict.log
    for line in ("Verified OK", "Version 2.0.0", "Hardware compatibility verified"):
        assert line in verdict.log


@pytest.mark.parametrize("option", ["path", "device"])
def test_swupdate_installs_what_we_build(
    swupdate: SwUpdate, ecdsa_key: SigningKey, tmp_path: Path, option: str
) -> None:
    """As a file, and onto a device, which a file long enough will do for."""
    target = tmp_path / "slot.bin"
    if option == "device":
        target.write_bytes(bytes(100_000))
    verdict = swupdate.install(
        built(ecdsa_key, **{option: str(target)}), ecdsa_key, "-H", str(BOARD)
    )
    assert verdict.accepted, verdict.log
    assert target.read_bytes()[: len(signed())] == signed()


def test_a_software_set_is_found_with_and_without_its_name(
    swupdate: SwUpdate, key: SigningKey
) -> None:
    swu = built(key, software_set="stable,main")
    for options in ((), ("-e", "stable,main")):
        verdict = swupdate.check(swu, key, "-H", str(BOARD), *options)
        assert verdict.accepted, verdict.log
    for chosen in ("", "stable,main"):
        info = verify_swu(as_source(swu), key.public, hardware=BOARD, software_set=chosen)
        assert info.image.filename == "firmware.bin"


@pytest.mark.parametrize("hardware", ["default-board:1.2", "unheard-of:1.0"])
def test_both_refuse_other_hardware(
    swupdate: SwUpdate, ecdsa_key: SigningKey, hardware: str
) -> None:
    swu = built(ecdsa_key)
    assert not swupdate.check(swu, ecdsa_key, "-H", hardware).accepted
    with pytest.raises(PackageRefused) as refused:
        verify_swu(as_source(swu), ecdsa_key.public, hardware=Hardware.parse(hardware))
    assert refused.value.reason is Reason.WRONG_DEVICE


def test_both_refuse_the_signature_of_another(swupdate: SwUpdate, ecdsa_key: SigningKey) -> None:
    swu = built(generate_key(KeyType.ECDSA_P256))
    assert not swupdate.check(swu, ecdsa_key, "-H", str(BOARD)).accepted
    with pytest.raises(PackageRefused) as refused:
        verify_swu(as_source(swu), ecdsa_key.public)
    assert refused.value.reason is Reason.BAD_SIGNATURE


def test_both_refuse_what_is_not_signed(swupdate: SwUpdate, ecdsa_key: SigningKey) -> None:
    swu = built(None)
    assert not swupdate.check(swu, ecdsa_key, "-H", str(BOARD)).accepted
    with pytest.raises(PackageRefused) as refused:
        verify_swu(as_source(swu), ecdsa_key.public)
    assert refused.value.reason is Reason.UNSIGNED


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (b'"2.0.0"', Reason.BAD_SIGNATURE),
        (bytes(range(200, 240)), Reason.BAD_HASH),
    ],
    ids=["description", "image"],
)
def test_both_refuse_a_changed_byte(
    swupdate: SwUpdate, ecdsa_key: SigningKey, where: bytes, reason: Reason
) -> None:
    """The byte sums of the archive are made right again, so that they are not what is met."""
    image, members = signed(), {}
    pristine = built(ecdsa_key)
    for name in ("sw-description", "sw-description.sig"):
        members[name] = _member(pristine, name)
    members["firmware.bin"] = image
    changed = {
        name: data.replace(where, where[:-2] + bytes([where[-2] ^ 1]) + where[-1:], 1)
        for name, data in members.items()
    }
    assert sum(changed[name] != members[name] for name in members) == 1
    swu = write_cpio(changed.items())
    assert not swupdate.check(swu, ecdsa_key, "-H", str(BOARD)).accepted
    with pytest.raises(PackageRefused) as refused:
        verify_swu(as_source(swu), ecdsa_key.public)
    assert refused.value.reason is reason


@pytest.mark.parametrize("attributes", [(), ("-noattr",)], ids=["attributes", "bare"])
def test_we_accept_what_openssl_signs(
    swupdate: SwUpdate, key: SigningKey, tmp_path: Path, attributes: tuple[str, ...]
) -> None:
    description = _member(built(None), "sw-description")
    files = {"d": description, "k": key.to_pem()}
    files["c"] = self_signed(key).public_bytes(Encoding.PEM)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = "openssl cms -sign -in d -out s -signer c -inkey k -outform DER -nosmimecap -binary"
    subprocess.run([*command.split(), *attributes], cwd=tmp_path, check=True, timeout=PATIENCE)
    swu = write_cpio(
        [
            ("sw-description", description),
            ("sw-description.sig", (tmp_path / "s").read_bytes()),
            ("firmware.bin", signed()),
        ]
    )
    verdict = swupdate.check(swu, key, "-H", str(BOARD))
    assert verdict.accepted, verdict.log
    unpacker = SwuUnpacker(key.public, hardware=BOARD)
    image = unpacker.feed(swu)
    unpacker.finish()
    verify_image(as_source(image), TrustedKeys.of([KEY]), len(image))


def test_openssl_accepts_our_raw_rsa_signature(tmp_path: Path) -> None:
    key = generate_key(KeyType.RSA_2048)
    swu = built(key, form=SignatureForm.RAW_RSA)
    (tmp_path / "d").write_bytes(_member(swu, "sw-description"))
    (tmp_path / "s").write_bytes(_member(swu, "sw-description.sig"))
    (tmp_path / "p").write_bytes(key.public.to_pem())
    command = "openssl dgst -sha256 -verify p -signature s d"
    done = subprocess.run(command.split(), cwd=tmp_path, timeout=PATIENCE)
    assert done.returncode == 0
    assert verify_swu(as_source(swu), key.public).signed


def _member(swu: bytes, wanted: str) -> bytes:
    """Read with nothing of ours: header of 110 bytes, name and data padded to four."""
    at = 0
    while True:
        size, name_size = int(swu[at + 54 : at + 62], 16), int(swu[at + 94 : at + 102], 16)
        name = swu[at + 110 : at + 110 + name_size - 1].decode()
        at += 110 + name_size
        at += -at % 4
        if name == wanted:
            return swu[at : at + size]
        assert name != "TRAILER!!!", f"no {wanted}"
        at += size + -size % 4
