"""Our Mender artifacts against Debian's `mender-artifact` 3.9, in both directions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from firmware_images import PackageRefused, Reason, as_source
from firmware_images.keys import KeyType, SigningKey, TrustedKeys, generate_key
from firmware_images.mcuboot import verify_image
from firmware_images.mender import Compression, MenderUnpacker, build_artifact, verify_artifact
from tests.interop.images import KEY, signed

KINDS = [KeyType.RSA_2048, KeyType.RSA_3072, KeyType.ECDSA_P256]
TYPES = ["rootfs-image", "mcuboot"]
OPTION = {Compression.NONE: "none", Compression.GZIP: "gzip", Compression.LZMA: "lzma"}
PATIENCE = 60.0
OPTIONS = ["-n", "r2", "-t", "board-a", "--software-version", "2.0.0"]


class Tool:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["mender-artifact", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def validate(self, artifact: bytes, key: SigningKey | None) -> str:
        """Nothing, or what it complains of."""
        (self.folder / "a.mender").write_bytes(artifact)
        done = self.run("validate", *self._public(key), "a.mender")
        return done.stdout + done.stderr if done.returncode else ""

    def read(self, artifact: bytes, key: SigningKey | None) -> str:
        (self.folder / "a.mender").write_bytes(artifact)
        done = self.run("read", *self._public(key), "a.mender")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, payload_type: str, key: SigningKey | None, *options: str) -> bytes:
        (self.folder / "firmware.bin").write_bytes(signed())
        kind = (
            ["rootfs-image"]
            if payload_type == "rootfs-image"
            else ["module-image", "-T", payload_type]
        )
        if key is not None:
            # It reads private keys in their traditional forms only.
            pem = key.half.private_bytes(
                Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
            )
            (self.folder / "key.pem").write_bytes(pem)
            options = (*options, "-k", "key.pem")
        done = self.run("write", *kind, "-f", "firmware.bin", "-o", "b.mender", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return (self.folder / "b.mender").read_bytes()

    def _public(self, key: SigningKey | None) -> list[str]:
        if key is None:
            return []
        (self.folder / "public.pem").write_bytes(key.public.to_pem())
        return ["-k", "public.pem"]


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path)


@pytest.fixture(scope="module", params=[None, *KINDS], ids=lambda k: k.value if k else "unsigned")
def key(request: pytest.FixtureRequest) -> SigningKey | None:
    return generate_key(request.param) if request.param else None


def trusted(key: SigningKey | None) -> TrustedKeys | None:
    return TrustedKeys.of([key]) if key else None


@pytest.mark.parametrize("compression", list(Compression), ids=OPTION.__getitem__)
@pytest.mark.parametrize("payload_type", TYPES)
def test_the_tool_validates_what_we_build(
    tool: Tool, key: SigningKey | None, payload_type: str, compression: Compression
) -> None:
    artifact = build_artifact(
        signed(),
        name="release-2",
        device_types=["board-a", "board-b"],
        payload_type=payload_type,
        software_version="2.0.0",
        depends={"bootloader": ["1", "2"]},
        depends_names=["release-1"],
        depends_groups=["pilots"],
        compression=compression,
        key=key,
    )
    assert tool.validate(artifact, key) == ""
    shown = tool.read(artifact, key)
    for line in (
        "Name: release-2",
        "Compatible devices: '[board-a board-b]'",
        "Depends on one of artifact(s): [release-1]",
        "Depends on one of group(s): [pilots]",
        f"Type:   {payload_type}",
        "bootloader: [1 2]",
        "version: 2.0.0",
        f"size:     {len(signed())}",
        "signed and verified correctly" if key else "no signature",
    ):
        assert line in shown, shown


@pytest.mark.parametrize("compression", list(Compression), ids=OPTION.__getitem__)
@pytest.mark.parametrize("payload_type", TYPES)
def test_we_take_what_the_tool_writes(
    tool: Tool, key: SigningKey | None, payload_type: str, compression: Compression
) -> None:
    told = "-n release-2 -t board-a -t board-b -N release-1 -G pilots --software-version 2.0.0"
    artifact = tool.write(
        payload_type, key, *told.split(), "-d", "bootloader:2", "--compression", OPTION[compression]
    )
    unpacker = MenderUnpacker(
        trusted(key),
        device_type="board-b",
        artifact_name="release-1",
        provides={"artifact_group": "pilots", "bootloader": "2"},
    )
    image = b"".join(
        unpacker.feed(artifact[at : at + 1000]) for at in range(0, len(artifact), 1000)
    )
    unpacker.finish()
    verify_image(as_source(image), TrustedKeys.of([KEY]), len(image))
    found = unpacker.artifact
    assert found.name == "release-2"
    assert found.payload_type == payload_type
    assert found.device_types == ("board-a", "board-b")
    assert found.signed == (key is not None)
    assert found.compression is compression
    assert "2.0.0" in found.provides.values()

    for provided, reason in (
        ({"device_type": "board-c", "artifact_name": "release-1"}, Reason.WRONG_DEVICE),
        ({"device_type": "board-a", "artifact_name": "release-0"}, Reason.UNMET_DEPENDENCY),
    ):
        with pytest.raises(PackageRefused) as refused:
            verify_artifact(as_source(artifact), trusted(key), **provided)
        assert refused.value.reason is reason


def test_ours_says_of_itself_what_the_tools_does(tool: Tool) -> None:
    """The same image and options, told by the tool: line for line, but for the file's time."""
    theirs = tool.write("rootfs-image", None, *OPTIONS)
    ours = build_artifact(signed(), name="r2", device_types=["board-a"], software_version="2.0.0")
    listings = [
        [line for line in tool.read(artifact, None).splitlines() if "modified:" not in line]
        for artifact in (theirs, ours)
    ]
    assert listings[0] == listings[1]


def test_both_refuse_the_signature_of_another(tool: Tool) -> None:
    signer, other = generate_key(KeyType.ECDSA_P256), generate_key(KeyType.ECDSA_P256)
    artifact = build_artifact(signed(), name="r2", device_types=["board-a"], key=signer)
    assert "verification failed" in tool.validate(artifact, other)
    with pytest.raises(PackageRefused) as refused:
        verify_artifact(as_source(artifact), trusted(other))
    assert refused.value.reason is Reason.BAD_SIGNATURE


def test_both_refuse_a_changed_payload(tool: Tool) -> None:
    artifact = bytearray(
        build_artifact(signed(), name="r2", device_types=["board-a"], compression=Compression.NONE)
    )
    artifact[-5000] ^= 1
    assert "checksum" in tool.validate(bytes(artifact), None)
    with pytest.raises(PackageRefused) as refused:
        verify_artifact(as_source(bytes(artifact)), None)
    assert refused.value.reason is Reason.BAD_HASH


def test_an_augmented_artifact_is_not_supported_and_said_so(tool: Tool) -> None:
    artifact = tool.write(
        "mcuboot",
        None,
        *["-n", "r2", "-t", "board-a", "--augment-file", "firmware.bin", "--augment-type", "delta"],
    )
    with pytest.raises(PackageRefused) as refused:
        verify_artifact(as_source(artifact), None)
    assert refused.value.reason is Reason.UNSUPPORTED_FLAGS
