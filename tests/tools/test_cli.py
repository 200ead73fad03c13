"""Flags in, specs and exit codes out. The commands themselves are stood in for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import tools.backend.cli
import tools.fleet
from agent.misbehaviour import Misbehaviour
from firmware_images.keys import KeyType, generate_key
from firmware_images.mcuboot import Version, build_image
from tools import cli
from tools.backend.serve import ListenOptions, ServeOptions
from tools.backend.store.database import DURABILITIES
from tools.backend.timing import TIMINGS
from tools.drivers.errors import ServerLost
from tools.fleet.clients import MODULES
from tools.fleet.limits import TooFewDescriptors
from tools.fleet.spec import FaultShare, FleetSpec
from tools.options import DemoOptions, DeviceOptions


class Commands:
    """Stands in for what the commands call; keeps what it was given, answers what it is told."""

    def __init__(self) -> None:
        self.given: list[object] = []
        self.as_json: bool | None = None
        self.answer: Callable[[], int] = lambda: 0

    def take(self, options: object, as_json: bool | None = None) -> int:
        self.given.append(options)
        self.as_json = as_json
        return self.answer()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    stand_in = Commands()
    for module, names in {
        "tools.fleet.commands": ("run",),
        "tools.fleet.demo": ("demo",),
        "tools.fleet.single": ("single",),
    }.items():
        fake = types.ModuleType(module)
        for name in names:
            setattr(fake, name, stand_in.take)
        monkeypatch.setitem(sys.modules, module, fake)
        monkeypatch.setattr(tools.fleet, module.rpartition(".")[2], fake, raising=False)
    monkeypatch.setattr(tools.backend.cli, "serve", stand_in.take)
    return stand_in


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """An image file and a key file."""
    image, key = tmp_path / "app.bin", tmp_path / "key.pem"
    image.write_bytes(b"an image")
    key.write_bytes(generate_key(KeyType.ED25519).public.to_pem())
    return str(image), str(key)


def test_run_fills_a_spec(commands: Commands, files: tuple[str, str], tmp_path: Path) -> None:
    image, key = files
    old = tmp_path / "old.bin"
    old.write_bytes(b"old")
    line = f"run --image {image} --key {key} --server coap://h:1 --devices 2 --running {old}"
    line += " --names m-{index} --slot-size 512k --lifetime 60 --ramp 100/s --duration 5m --seed 7"
    line += " --bind 127.0.0.2 --max-lag 30s --serve-image --fault bad-boot=10% --report out"
    line += " --journal j --json"
    assert cli.call(line.split()) == 0
    (spec,) = commands.given
    assert isinstance(spec, FleetSpec)
    assert commands.as_json is True
    assert spec.names == ("m-0", "m-1")
    assert (spec.image, spec.running) == (b"an image", b"old")
    assert spec.keys[0].startswith(b"-----BEGIN PUBLIC KEY")
    assert (spec.slot_size, spec.lifetime, spec.ramp, spec.duration) == (512 << 10, 60, 100, 300)
    assert (spec.seed, spec.bind, spec.serve_image) == (7, "127.0.0.2", True)
    assert spec.faults == (FaultShare("bad-boot", 0.1),)
    assert spec.max_lag == 30
    assert (spec.report_dir, spec.journal) == ("out", "j")


def test_the_other_commands_fill_their_options(commands: Commands) -> None:
    assert cli.call(["demo", "--devices", "5", "--image-size", "64k", "--json"]) == 0
    assert cli.call(["demo", "--max-lag", "2.5"]) == 0
    assert cli.call(["device", "--server", "coap://h", "--endpoint", "me", "--trace"]) == 0
    line = "backend --coap [::1]:0 --rest :0 --ready-file r --http-cert c --http-key k"
    assert cli.call(line.split()) == 0
    assert commands.given == [
        DemoOptions((("lwm2m", 5),), image_size=64 << 10, as_json=True),
        DemoOptions(max_lag=2.5),
        DeviceOptions("coap://h", "me", trace=True),
        ServeOptions(
            {
                "coap": ListenOptions("[::1]:0"),
                "http": ListenOptions("127.0.0.1:8090", Path("c"), Path("k")),
                "omadm": ListenOptions("127.0.0.1:8091"),
            },
            rest=":0",
            ready_file=Path("r"),
        ),
    ]


def test_the_exit_code_is_the_commands(commands: Commands) -> None:
    commands.answer = lambda: 3
    assert cli.call(["demo"]) == 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("demo --devices 0", "--devices: 0 is not between"),
        ("demo --devices lwm2m=1,lwm2m=2", "--devices: lwm2m is given twice"),
        ("demo --devices lwm2m=", "--devices: 'lwm2m=' is neither"),
        ("demo --misbehave shout", "--misbehave: no misbehaviour 'shout'; known: late-report"),
        ("demo --misbehave herd=200%", "--misbehave: herd: a share of 200%"),
        ("demo --bandwidth wide", "--bandwidth: 'wide' is not a size"),
        ("demo --bandwidth 0", "--bandwidth: 0 is not a positive"),
        ("demo --devices x", "--devices"),
        ("demo --slot-size big", "--slot-size: 'big' is not a size"),
        ("demo --slot-size 5000", "--slot-size: "),
        ("demo --image-size 1", "--image-size: 1 is not between"),
        ("demo --ramp fast", "--ramp: 'fast' is not a rate"),
        ("demo --ramp 0", "--ramp: 0 is not a positive"),
        ("demo --max-lag late", "--max-lag: 'late' is not a duration"),
        ("demo --max-lag 0", "--max-lag: 0 is not a positive"),
        ("demo --duration soon", "--duration: 'soon' is not a duration"),
        ("demo --seed -1", "--seed: -1 is not between"),
        ("demo --lifetime 0", "--lifetime: 0 is not between"),
        ("demo --bind localhost", "--bind: 'localhost' is not an IP address"),
        ("demo --fault bogus", "--fault: no fault 'bogus'; known: bad-boot"),
        ("demo --fault bad-boot=200%", "--fault: bad-boot: a share of 200%"),
        ("demo --bogus", "No such option"),
        ("bogus", "No such command"),
        ("run", "Missing option '--image'"),
        ("run --image {image} --server h:1 --key {key}", "--server: 'h:1' has no scheme"),
        ("run --image {image} --server coap://h", "--key: none given"),
        ("run --image gone.bin --server coap://h --key {key}", "--image gone.bin: No such file"),
        ("run --image {image} --server coap://h --key {image}", "--key "),
        ("run --image {image} --server coap://h --key gone", "--key gone: No such file"),
        ("run --image {image} --server coap://h --key {key} --running no", "--running no: No such"),
        ("run --image {image} --server coap://h --key {key} --names x", "--names: pattern 'x' has"),
        (
            "run --image {image} --server coap://h --key {key} --names x.csv",
            "--names: x.csv: No su",
        ),
        ("run --image {image} --server coap://h --key {key} --devices 9999999999", "--devices: "),
        ("device --server coap://h --endpoint=", "--endpoint: '': the name is empty"),
        ("device --server coap:h --endpoint x", "--server: 'coap:h' has no scheme"),
        ("backend --coap 5683", "--coap: '5683' is not HOST:PORT"),
        ("backend --coap h:99999", "--coap: 'h:99999' is not HOST:PORT"),
        ("backend --timing bogus", "--timing: no timing 'bogus'; known: documented"),
        ("backend --seed -1", "--seed: -1 is not between"),
        ("backend --rest ::1:80", "--rest: '::1:80': write an IPv6 address"),
    ],
)
def test_bad_input_is_one_line_that_names_the_flag(
    line: str,
    says: str,
    commands: Commands,
    files: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = line.format(image=files[0], key=files[1]).split()
    assert cli.call(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fotilla: error: ")
    assert says in err
    assert err.count("\n") == 1
    assert commands.given == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("demo --devices ftp=3", "--devices: the embedded backend does not speak 'ftp'; it speaks"),
        ("demo --devices 3 --protocol aws", "--protocol: the embedded backend does not speak"),
        ("demo --devices lwm2m=3 --bandwidth 1k/s", "--bandwidth: the links of LwM2M devices"),
        ("run {files} --server http://h --protocol ftp", "--protocol: no protocol 'ftp'; known:"),
        ("run {files} --server ftp://h --protocol http", "--server: a server of this protocol is"),
        ("run {files} --server coap://nowhere.invalid", "--server: 'nowhere.invalid' has no"),
        (
            "run {files} --server http://nowhere.invalid --protocol http",
            "--server: 'nowhere.invalid' has no",
        ),
        (
            "run {files} --server http://h --protocol hawkbit --option speed=1",
            "--option: hawkbit has no option 'speed'",
        ),
        (
            "run {files} --server http://h --protocol mender --misbehave late-report",
            "--misbehave: mender devices cannot do late-report",
        ),
        (
            "run {files} --server http://h --drive mender --option interval=soon",
            "--option: interval is 'soon'",
        ),
        (
            "run {files} --server http://h --drive hawkbit --misbehave bogus",
            "--misbehave: no misbehaviour 'bogus'",
        ),
        (
            "device --server http://h --endpoint x --protocol hawkbit --option speed=1",
            "--option: hawkbit has no option 'speed'",
        ),
        (
            "device --server http://nowhere.invalid --endpoint x --protocol http",
            "--server: 'nowhere.invalid' has no",
        ),
    ],
)
def test_what_protocols_object_to_names_the_flag(
    line: str,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for driver in ("MENDER", "HAWKBIT"):
        monkeypatch.setenv(f"FOTILLA_{driver}_USER", "user")
        monkeypatch.setenv(f"FOTILLA_{driver}_PASSWORD", "word")
    (tmp_path / "image").write_bytes(b"an image")
    key = generate_key(KeyType.ECDSA_P256)
    (tmp_path / "key").write_bytes(key.public.to_pem())
    assert cli.call(line.format(files="--image image --key key").split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def fails(error: BaseException) -> Callable[[], int]:
    def answer() -> int:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (TooFewDescriptors(9000, 256), 2, "9000 file descriptors are needed and 256 are"),
        (FileNotFoundError(2, "No such file or directory", "x.db"), 2, "x.db: No such file"),
        (ServerLost("mender: http://h no longer answers"), 4, "http://h no longer answers"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("oops\nagain"), 4, "ZeroDivisionError: oops again (a fault of fotilla"),
    ],
)
def test_whatever_is_raised_becomes_a_line_and_a_code(
    error: BaseException,
    code: int,
    says: str,
    commands: Commands,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands.answer = fails(error)
    assert cli.call(["demo", "--json"]) == code
    out, err = capsys.readouterr()
    assert says in err
    assert err.count("\n") == 1
    assert json.loads(out)["error"] == err.removeprefix("fotilla: error: ").rstrip()


def test_the_trace_back_can_be_had(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.answer = fails(ZeroDivisionError())
    monkeypatch.setenv("FOTILLA_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.call(["demo"])


def test_bad_input_with_json_still_prints_the_object(
    commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(["run", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["error"] == "Missing option '--image'."
    assert document["devices"] == 0


def test_image_commands_are_reached_as_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(["image", "--help"]) == 0
    assert "keygen" in capsys.readouterr().out
    assert cli.call(["image", "inspect", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err
    assert cli.call(["image", "inspect", "--bogus"]) == 2
    assert "fotilla: error: No such option" in capsys.readouterr().err


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call([]) == 2
    assert "Usage: fotilla" in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fotilla ")


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from tools import cli; code = cli.call(['--help']);"
        "heavy = {'aiohttp', 'cryptography', 'fastapi', 'sqlalchemy', 'asyncio', 'httpx'};"
        "print(sorted(heavy & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: fotilla" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("image inspect {image}", 0),
        ("image inspect --json {image}", 0),
        ("image --help", 0),
        ("--help", 0),
        ("--version", 0),
        ("run --help", 0),
        ("demo --devices 2 --image-size 4k --seed 1 --report {folder}", 0),
        ("demo --devices 2 --image-size 4k --seed 1 --report {folder} --json", 0),
        ("run --json", 2),
    ],
)
def test_a_reader_that_went_away_is_no_error(line: str, code: int, tmp_path: Path) -> None:
    image = tmp_path / "app.img"
    key = generate_key(KeyType.ED25519)
    image.write_bytes(build_image(bytes(3000), version=Version(1, 0, 0, 0), key=key))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from tools.cli import main; main()"),
                *line.format(image=image, folder=tmp_path / "report").split(),
            ],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert done.returncode == code, done.stderr
    for word in ("Broken", "Traceback", "Exception"):
        assert word not in done.stderr


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("run", [*MODULES, *(one.value for one in Misbehaviour)]),
        ("device", [*MODULES]),
        ("backend", [*TIMINGS, *DURABILITIES]),
    ],
)
def test_the_help_names_what_can_be_chosen(
    command: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call([command, "--help"]) == 0
    text = re.sub(r"(?<=-)\s+", "", capsys.readouterr().out)  # lines are broken at hyphens
    assert [name for name in names if name not in text] == []
