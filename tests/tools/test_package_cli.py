"""`fotilla image swu`, `mender`, and what `inspect` and `verify` make of packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from firmware_images import as_source
from firmware_images.keys import TrustedKeys, load_signing_key
from firmware_images.mender import build_artifact, verify_artifact
from firmware_images.swu import Hardware, build_swu, load_certificate, self_signed, verify_swu
from tools.image_cli import app

Run = Callable[..., Result]
BOARD = ("--hardware", "board-a:1.0")
TYPE = ("--device-type", "board-a")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder with a signed image and two keys. Traceback is failure."""
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
    invoke("keygen", "package.pem", "--public", "package.pub")
    invoke("build", "app.bin", "-o", "a.bin", "--version", "1.2.3+4", "--key", "key.pem")
    return invoke


def swu(run: Run, *more: str) -> bytes:
    result = run("swu", "a.bin", "-o", "a.swu", *BOARD, *more)
    assert result.exit_code == 0, result.output
    assert "a.swu: " in result.stdout
    return Path("a.swu").read_bytes()


def mender(run: Run, *more: str) -> bytes:
    result = run("mender", "a.bin", "-o", "a.mender", "--name", "r2", *TYPE, *more)
    assert result.exit_code == 0, result.output
    assert "a.mender: r2" in result.stdout
    return Path("a.mender").read_bytes()


def test_a_swu_is_what_the_library_builds(run: Run) -> None:
    key = load_signing_key(Path("package.pem").read_bytes())
    built = swu(run, "--key", "package.pem", "--software-set", "stable,main")
    assert built == build_swu(
        Path("a.bin").read_bytes(),
        version="1.2.3+4",
        hardware=[Hardware("board-a", "1.0")],
        software_set="stable,main",
        key=key,
    )
    info = verify_swu(as_source(swu(run, "--version", "7", "--path", "/tmp/x")), None)
    assert (info.version, info.image.target, info.signed) == ("7", "/tmp/x", False)


def test_the_certificate_is_written_for_swupdate(run: Run) -> None:
    built = swu(run, "--key", "package.pem", "--write-certificate", "c.pem")
    key = load_signing_key(Path("package.pem").read_bytes())
    assert load_certificate(Path("c.pem").read_bytes()) == self_signed(key)
    assert swu(run, "--key", "package.pem", "--certificate", "c.pem") == built


def test_an_artifact_is_what_the_library_builds(run: Run) -> None:
    key = load_signing_key(Path("package.pem").read_bytes())
    built = mender(run, "--key", "package.pem", "--depends-name", "r1", "--compression", "none")
    found = verify_artifact(as_source(built), TrustedKeys.of([key]))
    assert (found.name, found.compression.name) == ("r2", "NONE")
    assert found.depends == {"device_type": ("board-a",), "artifact_name": ("r1",)}
    assert found.provides["rootfs-image.version"] == "1.2.3+4"
    assert mender(run) == build_artifact(
        Path("a.bin").read_bytes(),
        name="r2",
        device_types=["board-a"],
        software_version="1.2.3+4",
    )


def test_verify_judges_package_and_image(run: Run) -> None:
    swu(run, "--key", "package.pem")
    mender(run, "--key", "package.pem")
    for name, who in (("a.swu", BOARD), ("a.mender", TYPE)):
        verdict = run("verify", name, "--key", "pub.pem", "--package-key", "package.pub", *who)
        assert verdict.exit_code == 0, verdict.output
        assert "1.2.3+4" in verdict.stdout
        assert verdict.stderr == ""


def test_verify_says_what_it_did_not_judge(run: Run) -> None:
    swu(run, "--key", "package.pem")
    mender(run)
    verdict = run("verify", "a.swu", "--key", "pub.pem")
    assert verdict.exit_code == 0
    assert "only --package-key" in verdict.stderr and "only with --hardware" in verdict.stderr
    verdict = run("verify", "a.mender", "--key", "pub.pem")
    assert verdict.exit_code == 0
    assert "not signed" in verdict.stderr and "only with --device-type" in verdict.stderr


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("a.swu --package-key pub.pem", "not with ed25519"),
        ("a.swu --package-key other.pem", "refused: bad signature"),
        ("a.swu --hardware board-b:1.0", "refused: wrong device"),
        ("a.swu --software-set stable,main --hardware board-a:2", "refused: wrong device"),
        ("a.mender --package-key other.pem", "refused: bad signature"),
        ("a.mender --device-type board-b", "refused: wrong device"),
        ("a.mender --device-type board-a --artifact-name r0", "refused: unmet dependency"),
        ("bare.mender --package-key other.pem", "refused: unsigned"),
        ("bad.mender", "refused: "),
        ("cut.swu", "refused: truncated"),
    ],
)
def test_verify_names_what_it_refuses_for(command: str, reason: str, run: Run) -> None:
    mender(run)
    Path("a.mender").rename("bare.mender")
    made = bytearray(mender(run, "--key", "package.pem", "--depends-name", "r1"))
    Path("cut.swu").write_bytes(swu(run, "--key", "package.pem")[:5000])
    made[len(made) // 2] ^= 1
    Path("bad.mender").write_bytes(made)
    run("keygen", "other.pem")
    verdict = run("verify", "--key", "pub.pem", *command.split())
    assert verdict.exit_code == (2 if "ed25519" in reason else 3), verdict.output
    assert reason in verdict.stderr
    # The numbers are of MCUboot's checks; these are the package's.
    assert "(check" not in verdict.stderr


def test_a_right_package_does_not_save_a_wrong_image(run: Run) -> None:
    swu(run, "--key", "package.pem")
    verdict = run("verify", "a.swu", "--key", "package.pub", "--package-key", "package.pub")
    assert verdict.exit_code == 3
    assert "refused: unknown key" in verdict.stderr
    assert "check 8" in verdict.stderr


def test_inspect_as_json(run: Run) -> None:
    swu(run, "--key", "package.pem")
    shown = json.loads(run("inspect", "a.swu", "--json").stdout)
    assert shown["package"]["format"] == "swu"
    assert shown["package"]["hardware"] == [{"board": "board-a", "revision": "1.0"}]
    assert shown["package"]["signed"] is True
    assert shown["image"]["version"] == "1.2.3+4"
    assert shown["image_refused"] is None
    mender(run)
    shown = json.loads(run("inspect", "a.mender", "--json").stdout)
    assert shown["package"]["format"] == "mender"
    assert shown["package"]["device_types"] == ["board-a"]
    assert shown["package"]["compression"] == "gzip"
    assert shown["package"]["signed"] is False
    assert shown["image"]["digest_matches"] is True


def test_inspect_for_people(run: Run) -> None:
    swu(run, "--key", "package.pem")
    shown = run("inspect", "a.swu").stdout
    for words in ("board-a:1.0", "yes, not judged here", "inside: firmware.bin", "1.2.3+4"):
        assert words in shown
    mender(run, "--depends-name", "r1")
    shown = run("inspect", "a.mender").stdout
    for words in ("rootfs-image", "artifact_name = r1", "gzip", "inside: firmware.bin"):
        assert words in shown


def test_inspect_what_wraps_something_else(run: Run) -> None:
    Path("a.mender").write_bytes(
        build_artifact(b"a root file system", name="r2", device_types=["\x1b[2J", "\ud800"])
    )
    shown = run("inspect", "a.mender")
    assert shown.exit_code == 0
    assert "inside is no MCUboot image: bad magic" in shown.stdout
    assert "\x1b[2J" not in shown.stdout
    shown = json.loads(run("inspect", "a.mender", "--json").stdout)
    assert shown["image"] is None
    assert shown["image_refused"].startswith("bad magic")


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("swu a.bin -o x", "--hardware"),
        ("swu a.bin -o x --hardware board", "'board' is not BOARD:REVISION"),
        ("swu a.bin -o x --hardware 1:1", "board '1'"),
        ("swu app.bin -o x --hardware b:1", "app.bin: is no MCUboot image"),
        ("swu gone.bin -o x --hardware b:1", "gone.bin: No such file"),
        ("swu a.bin -o gone/x --hardware b:1", "gone/x: No such file"),
        ("swu a.bin -o x --hardware b:1 --key gone.pem", "gone.pem: No such file"),
        ("swu a.bin -o x --hardware b:1 --key key.pem", "not with ed25519"),
        ("swu a.bin -o x --hardware b:1 --key pub.pem", "pub.pem: holds only a public key"),
        ("swu a.bin -o x --hardware b:1 --key package.pem --signature rsa", "needs an RSA key"),
        ("swu a.bin -o x --hardware b:1 --signature pgp", "pgp"),
        ("swu a.bin -o x --hardware b:1 --certificate pub.pem", "no use without --key"),
        ("swu a.bin -o x --hardware b:1 --key package.pem --certificate pub.pem",
         "pub.pem: holds no certificate"),
        ("swu a.bin -o x --hardware b:1 --software-set stable", "'stable' is not SET,MODE"),
        ("swu a.bin -o x --hardware b:1 --filename a/b", "'a/b'"),
        ("mender a.bin -o x --name r", "--device-type"),
        ("mender a.bin -o x --device-type t", "--name"),
        ("mender app.bin -o x --name r --device-type t", "app.bin: is no MCUboot image"),
        ("mender a.bin -o x --name r --device-type t --key key.pem", "not with ed25519"),
        ("mender a.bin -o x --name r --device-type t --compression zip", "'zip' is none of"),
        ("mender a.bin -o x --name r --device-type t --filename a:b", "'a:b'"),
        ("verify a.bin --key pub.pem --hardware b:1", "--hardware is for .swu files"),
        ("verify a.bin --key pub.pem --package-key pub.pem", "this is no package"),
        ("verify a.swu --key pub.pem --device-type t", "--device-type is for .mender files"),
        ("verify a.swu --key pub.pem --package-key package.pub --package-key pub.pem", "one key"),
        ("verify a.mender --key pub.pem --software-set a,b", "--software-set is for .swu files"),
        ("verify a.mender --key pub.pem --artifact-name r", "together with --device-type"),
    ],
)  # fmt: skip
def test_bad_input_is_named(command: str, names: str, run: Run) -> None:
    swu(run)
    mender(run)
    result = run(*command.split())
    assert result.exit_code == 2, result.output
    assert names in result.stderr
    assert not Path("x").exists()
    assert not list(Path().glob(".*"))  # no draft is left behind
