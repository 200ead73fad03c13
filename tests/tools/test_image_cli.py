"""`fotilla image` as a person or a script uses it. No input may end in a traceback."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from firmware_images import Reason, as_source
from firmware_images.keys import KeyType, PublicKey, TrustedKeys
from firmware_images.mcuboot import CHECKS, Dependency, Version, decode_image, verify_image
from tools.image_cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder with a payload and a key pair. Traceback is failure."""
    monkeypatch.chdir(tmp_path)
    # One line whatever the width: rich folds its error boxes to the terminal.
    monkeypatch.setenv("COLUMNS", "400")
    Path("app.bin").write_bytes(bytes(range(256)) * 16)

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        assert "Traceback" not in result.output
        return result

    invoke("keygen", "key.pem", "--public", "pub.pem", "--type", "ed25519")
    return invoke


def build(run: Run, *more: str) -> Path:
    result = run("build", "app.bin", "-o", "a.bin", "--version", "1.2.3+4", *more)
    assert result.exit_code == 0, result.output
    return Path("a.bin")


@pytest.mark.parametrize("kind", list(KeyType))
def test_from_key_to_verdict(kind: KeyType, run: Run) -> None:
    made = run("keygen", "new.pem", "--public", "new.pub", "--type", kind.value)
    assert made.exit_code == 0
    assert stat.S_IMODE(Path("new.pem").stat().st_mode) == 0o600
    public = PublicKey.from_pem(Path("new.pub").read_bytes())
    assert public.kind is kind
    assert public.key_hash.hex() in made.output

    build(run, "--key", "new.pem", "--security-counter", "5", "--header-size", "0x400")
    for key in ("new.pub", "new.pem"):
        verdict = run("verify", "a.bin", "--key", key)
        assert verdict.exit_code == 0
        assert "1.2.3+4" in verdict.stdout
        assert kind.value in verdict.stdout


def test_build_writes_what_was_asked(run: Run) -> None:
    asked = ("--key", "key.pem", "--security-counter", "7", "--dependency", "1.0")
    path = build(run, *asked, "--dependency", "3:2.1.0", "--header-size", "1024")
    trusted = TrustedKeys.from_pem(Path("pub.pem").read_bytes())
    info = verify_image(as_source(path.read_bytes()), trusted, 1 << 20)
    assert info.version == Version(1, 2, 3, 4)
    assert info.security_counter == 7
    assert info.header_size == 1024
    assert info.dependencies == (Dependency(0, Version(1)), Dependency(3, Version(2, 1)))


def test_unsigned_image_is_refused(run: Run) -> None:
    build(run)
    verdict = run("verify", "a.bin", "--key", "pub.pem")
    assert verdict.exit_code == 3
    assert "refused: unsigned" in verdict.stderr
    assert "check 9" in verdict.stderr


def test_sign_a_raw_binary_as_build_does(run: Run) -> None:
    built = build(run, "--key", "key.pem").read_bytes()
    signed = run("sign", "app.bin", "--key", "key.pem", "-o", "b.bin", "--version", "1.2.3+4")
    assert signed.exit_code == 0
    assert Path("b.bin").read_bytes() == built


def test_sign_an_image_again(run: Run) -> None:
    build(run, "--key", "key.pem", "--security-counter", "3")
    run("keygen", "other.pem", "--type", "ecdsa-p256")
    assert run("verify", "a.bin", "--key", "other.pem").exit_code == 3
    assert run("sign", "a.bin", "--key", "other.pem", "-o", "b.bin").exit_code == 0
    assert run("verify", "b.bin", "--key", "other.pem").exit_code == 0
    before, after = (
        decode_image(as_source(Path(name).read_bytes())) for name in ("a.bin", "b.bin")
    )
    assert before.header == after.header
    assert before.protected == after.protected


def test_several_trusted_keys(run: Run) -> None:
    build(run, "--key", "key.pem")
    run("keygen", "other.pem")
    verdict = run("verify", "a.bin", "--key", "other.pem", "--key", "pub.pem")
    assert verdict.exit_code == 0


def test_inspect_as_json(run: Run) -> None:
    path = build(run, "--key", "key.pem", "--security-counter", "7", "--dependency", "1.0")
    path.write_bytes(path.read_bytes() + b"\xff" * 10)
    shown = json.loads(run("inspect", "a.bin", "--json").stdout)
    assert shown["version"] == "1.2.3+4"
    assert shown["image_size"] == 4096
    assert shown["trailing_bytes"] == 10
    assert shown["security_counter"] == 7
    assert shown["dependencies"] == [{"image_id": 0, "minimum": "1.0.0"}]
    assert shown["digest_matches"] is True
    assert shown["signatures"] == ["ed25519"]
    assert [record["name"].split()[0] for record in shown["records"]] == [
        "SEC_CNT",
        "DEPENDENCY",
        "SHA256",
        "KEYHASH",
        "ED25519",
    ]


def test_inspect_for_people(run: Run) -> None:
    path = build(run, "--key", "key.pem")
    shown = run("inspect", "a.bin")
    assert shown.exit_code == 0
    for words in ("1.2.3+4", "matches the bytes", "ed25519", "KEYHASH"):
        assert words in shown.stdout
    damaged = bytearray(path.read_bytes())
    damaged[600] ^= 1
    Path("[bold]a.bin").write_bytes(damaged)
    shown = run("inspect", "[bold]a.bin")
    assert "DOES NOT MATCH" in shown.stdout
    assert "[bold]a.bin" in shown.stdout


def test_inspect_what_is_no_image(run: Run) -> None:
    shown = run("inspect", "app.bin")
    assert shown.exit_code == 3
    assert "bad magic" in shown.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--slot-size", "12K"), Reason.TOO_LARGE),
        (("--security-counter", "8"), Reason.LOW_COUNTER),
        (("--running", "0.9"), Reason.UNMET_DEPENDENCY),
        (("--running", "2.0", "--prevent-downgrade"), Reason.LOW_VERSION),
    ],
)
def test_verify_names_reason_and_check(options: tuple[str, ...], reason: Reason, run: Run) -> None:
    build(run, "--key", "key.pem", "--security-counter", "7", "--dependency", "1.0")
    verdict = run("verify", "a.bin", "--key", "pub.pem", *options)
    assert verdict.exit_code == 3
    assert f"refused: {reason.value}" in verdict.stderr
    assert f"check {CHECKS[reason].number}" in verdict.stderr
    assert verdict.stdout == ""


def test_dependency_is_judged_only_against_a_running_version(run: Run) -> None:
    build(run, "--key", "key.pem", "--dependency", "1.0")
    verdict = run("verify", "a.bin", "--key", "pub.pem")
    assert verdict.exit_code == 0
    assert "--running" in verdict.stderr
    assert run("verify", "a.bin", "--key", "pub.pem", "--running", "1.0").exit_code == 0


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("build gone.bin -o x --version 1", "gone.bin: No such file"),
        ("build . -o x --version 1", ".: Is a directory"),
        ("build app.bin -o . --version 1", ".: is a directory"),
        ("build app.bin -o gone/x --version 1", "gone/x: No such file"),
        ("build app.bin -o x --version one", "'one'"),
        ("build app.bin -o x --version 256", "major"),
        ("build app.bin -o x", "--version"),
        ("build app.bin -o x --version 1 --key gone.pem", "gone.pem: No such file"),
        ("build app.bin -o x --version 1 --key pub.pem", "pub.pem: holds only a public key"),
        ("build app.bin -o x --version 1 --key app.bin", "app.bin: not a PEM"),
        ("build app.bin -o x --version 1 --header-size 8", "header size 8"),
        ("build app.bin -o x --version 1 --header-size big", "'big' is not a number"),
        ("build app.bin -o x --version 1 --security-counter 4294967296", "4294967296"),
        ("build app.bin -o x --version 1 --dependency 300:1", "'300:1'"),
        ("build app.bin -o x --version 1 --dependency 0:x", "'x'"),
        ("build app.bin -o x --version 1 --slot-size 12K", "more than fit"),
        ("build app.bin -o x --version 1 --slot-size 6Q", "'6Q'"),
        ("build app.bin -o x --version 1 --slot-size 100", "slot size 100"),
        ("build empty.bin -o x --version 1", "empty.bin: is empty"),
        ("sign app.bin -o x --key key.pem", "app.bin: is a raw binary"),
        ("sign a.bin -o x --key key.pem --version 2", "--version is for raw binaries"),
        ("sign a.bin -o x --key key.pem --header-size 0", "--header-size is for raw binaries"),
        ("sign a.bin -o x --key key.pem --slot-size 12K", "has room for"),
        ("inspect gone.bin", "gone.bin: No such file"),
        ("verify a.bin", "--key"),
        ("verify a.bin --key empty.bin", "empty.bin: not a PEM"),
        ("verify gone.bin --key pub.pem", "gone.bin: No such file"),
        ("keygen key.pem", "key.pem: exists already"),
        ("keygen x.pem --public pub.pem", "pub.pem: exists already"),
        ("keygen x.pem --public ./x.pem", "same file"),
        ("keygen x.pem --type dsa", "dsa"),
    ],
)
def test_bad_input_is_named(command: str, names: str, run: Run) -> None:
    build(run)
    Path("empty.bin").write_bytes(b"")
    before = Path("key.pem").read_bytes()
    result = run(*command.split())
    assert result.exit_code == 2, result.output
    assert names in result.stderr
    assert not Path("x").exists() and not Path("x.pem").exists()
    assert Path("key.pem").read_bytes() == before
    assert not list(Path().glob(".*"))  # no draft is left behind


def test_keygen_overwrites_only_when_told(run: Run) -> None:
    before = Path("key.pem").read_bytes()
    assert run("keygen", "key.pem", "--force").exit_code == 0
    assert Path("key.pem").read_bytes() != before


def test_output_through_a_link_keeps_the_link(run: Run) -> None:
    Path("link.bin").symlink_to("target.bin")
    assert run("build", "app.bin", "-o", "link.bin", "--version", "1").exit_code == 0
    assert Path("link.bin").is_symlink()
    assert Path("target.bin").is_file()


def test_output_to_a_device_leaves_the_device(run: Run) -> None:
    assert run("build", "app.bin", "-o", "/dev/null", "--version", "1").exit_code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
