"""The `fotilla` command: flags in, exit code out.

Everything heavy is imported inside the command that needs it, so `fotilla --help` answers at once.
Whatever goes wrong ends as one line on standard error and an exit code, never as a trace back;
FOTILLA_TRACEBACK=1 brings it back for whoever debugs fotilla itself.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent.misbehaviour import Misbehaviour
from tools.fleet.spec import (
    DEFAULT_LIFETIME,
    DEFAULT_MAX_LAG,
    FAULTS,
    MAX_DEVICES,
    FaultShare,
    FleetSpec,
    SpecError,
    check_whole,
    parse_fault,
    parse_misbehaviour,
    parse_option,
    parse_rate,
    parse_seconds,
    parse_size,
)
from tools.output import reader_may_leave

BAD_INPUT = 2
INVALID_RUN = 4
INTERRUPTED = 130
LONGEST_CHECK_IN = 366 * 86_400  # seconds; a device that is heard of less often is a lost one

app = typer.Typer(
    name="fotilla",
    help="Fleets of virtual devices that update their firmware for real.",
    epilog="Exit codes: 0 all updated and the audit agrees; 1 it differs; 2 usage or bad input; "
    "3 failed or unfinished devices; 4 the run is invalid; 99 threshold missed; 130 interrupted.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# The flag of every field whose name is not the flag's.
_FLAGS = {
    "keys": "--key",
    "report_dir": "--report",
    "faults": "--fault",
    "name": "--endpoint",
    "options": "--option",
}

Protocol = Annotated[str, typer.Option("--protocol", metavar="NAME", help="What devices speak.")]
SlotSize = Annotated[
    str, typer.Option("--slot-size", metavar="SIZE", help="Flash slot; a larger image is refused.")
]
Lifetime = Annotated[
    int, typer.Option("--lifetime", metavar="SECONDS", help="How long a registration lasts.")
]
Ramp = Annotated[
    str | None, typer.Option("--ramp", metavar="N/s", help="Devices started per second.")
]
Duration = Annotated[
    str | None, typer.Option("--duration", metavar="TIME", help="End the run after 90s, 5m, 2h.")
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", help="The same seed draws the same random numbers.")
]
Bind = Annotated[
    str | None, typer.Option("--bind", metavar="ADDR", help="Local address of the devices.")
]
Fault = Annotated[
    list[str] | None,
    typer.Option(
        "--fault", metavar="NAME[=SHARE%]", help=f"Repeatable. Known: {', '.join(FAULTS)}."
    ),
]
Misbehave = Annotated[
    list[str] | None,
    typer.Option(
        "--misbehave",
        metavar="NAME[=SHARE%]",
        help="What devices do wrong on purpose; the answers are judged. Repeatable.",
    ),
]
Bandwidth = Annotated[
    str | None,
    typer.Option("--bandwidth", metavar="SIZE/s", help="Of each device's link; HTTP and MQTT."),
]
MaxLag = Annotated[
    str,
    typer.Option(
        "--max-lag",
        metavar="SECONDS",
        help="How late our own scheduler may be before the run is invalid (exit code 4).",
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="NAME=VALUE", help="Setting that only this protocol has. Repeatable."
    ),
]
Credentials = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE.csv",
        help="Columns name, token, username, password, certificate, key. "
        "FOTILLA_TOKEN is one token for all.",
    ),
]
Authorities = Annotated[
    Path | None,
    typer.Option("--ca", metavar="PEM", help="What devices trust to have signed the server."),
]
Report = Annotated[str, typer.Option("--report", metavar="DIR", help="Where the report goes.")]
JournalFile = Annotated[
    str | None,
    typer.Option("--journal", metavar="FILE", help="Write every state change as JSON Lines."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
Key = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="PEM", help="Public key that devices trust; repeatable."),
]
Running = Annotated[
    Path | None,
    typer.Option("--running", metavar="FILE", help="Factory image; default: one built as 0.0.0."),
]


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> int:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"fotilla {installed('fotilla')}")
        raise typer.Exit(0)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(BAD_INPUT)
    return 0


@app.command()
def demo(
    devices: Annotated[
        str,
        typer.Option(
            "--devices", metavar="N|PROTOCOL=N,...", help="How many, or how many of each protocol."
        ),
    ] = "lwm2m=1000,http=200,omadm=100",
    image_size: Annotated[
        str, typer.Option("--image-size", metavar="SIZE", help="Of the image signed on the spot.")
    ] = "256KiB",
    protocol: Protocol = "lwm2m",
    slot_size: SlotSize = "1MiB",
    lifetime: Lifetime = DEFAULT_LIFETIME,
    ramp: Ramp = None,
    duration: Duration = None,
    seed: Seed = 0,
    bind: Bind = None,
    fault: Fault = None,
    misbehave: Misbehave = None,
    bandwidth: Bandwidth = None,
    max_lag: MaxLag = f"{DEFAULT_MAX_LAG:g}s",
    report: Report = "report",
    journal: JournalFile = None,
    as_json: Json = False,
) -> int:
    """Embedded backend, 1,000 LwM2M, 200 HTTP and 100 OMA-DM devices, campaigns, and the audit."""
    from tools.fleet.groups import parse_groups
    from tools.options import DemoOptions

    options = DemoOptions(
        groups=parse_groups(devices, protocol),
        named_by="devices" if "=" in devices else "protocol",
        image_size=parse_size("image_size", image_size),
        slot_size=_slot_size(slot_size),
        lifetime=lifetime,
        ramp=_rate(ramp),
        duration=_seconds(duration),
        seed=seed,
        bind=_address(bind),
        faults=_faults(fault),
        misbehave=_misbehaviours(misbehave),
        bandwidth=_bandwidth(bandwidth),
        max_lag=parse_seconds("max_lag", max_lag),
        report_dir=report,
        journal=journal,
        as_json=as_json,
    )
    from tools.fleet import commands

    return commands.demo(options)


@app.command()
def run(
    image: Annotated[
        Path, typer.Option("--image", metavar="FILE", help="Signed image to end with.")
    ],
    server: Annotated[
        str, typer.Option("--server", metavar="URI", help="Such as coap://host:5683.")
    ],
    key: Key = None,
    drive: Annotated[
        str | None,
        typer.Option(
            "--drive",
            metavar="NAME",
            help="Make the server update the devices: hawkbit, goosebit, mender, thingsboard. "
            "Secrets from FOTILLA_<NAME>_USER, _PASSWORD, _TOKEN.",
        ),
    ] = None,
    drive_option: Annotated[
        list[str] | None,
        typer.Option(
            "--drive-option", metavar="NAME=VALUE", help="Setting of the driver. Repeatable."
        ),
    ] = None,
    devices: Annotated[int, typer.Option("--devices", metavar="N", help="How many.")] = 100,
    running: Running = None,
    names: Annotated[
        str | None,
        typer.Option(
            "--names",
            metavar="PATTERN|FILE.csv",
            help="Such as 'urn:imei:{index:015d}', or one name per line.",
        ),
    ] = None,
    protocol: Protocol = "lwm2m",
    slot_size: SlotSize = "1MiB",
    lifetime: Lifetime = DEFAULT_LIFETIME,
    ramp: Ramp = None,
    duration: Duration = None,
    seed: Seed = 0,
    bind: Bind = None,
    serve_image: Annotated[
        bool,
        typer.Option(
            "--serve-image", help="Serve the image and print the URL for the operator to use."
        ),
    ] = False,
    serve_port: Annotated[
        int, typer.Option("--serve-port", metavar="PORT", help="For --serve-image; 0: any.")
    ] = 0,
    fault: Fault = None,
    misbehave: Misbehave = None,
    bandwidth: Bandwidth = None,
    max_lag: MaxLag = f"{DEFAULT_MAX_LAG:g}s",
    option: Option = None,
    credentials: Credentials = None,
    authorities: Authorities = None,
    report: Report = "report",
    journal: JournalFile = None,
    as_json: Json = False,
) -> int:
    """Devices against any server; its operator starts the update."""
    from tools.fleet import credential_file
    from tools.fleet.names import DEFAULT_PATTERN, device_names

    check_whole("devices", devices, 1, MAX_DEVICES)
    device_list = device_names(names or DEFAULT_PATTERN, devices)
    spec = FleetSpec(
        server=server,
        devices=devices,
        names=device_list,
        image=_read("--image", image),
        keys=_keys(key),
        protocol=protocol,
        running=None if running is None else _read("--running", running),
        slot_size=_slot_size(slot_size),
        lifetime=lifetime,
        ramp=_rate(ramp),
        duration=_seconds(duration),
        seed=seed,
        bind=_address(bind),
        faults=_faults(fault),
        misbehave=_misbehaviours(misbehave),
        bandwidth=_bandwidth(bandwidth),
        max_lag=parse_seconds("max_lag", max_lag),
        options=_options(option),
        credentials=credential_file.credentials(credentials, device_list, authorities),
        report_dir=report,
        serve_image=serve_image,
        serve_port=serve_port,
        journal=journal,
    )
    from tools.fleet import commands

    if drive is not None:
        given = dict(parse_option(text, "drive_option") for text in drive_option or [])
        return commands.run_driven(spec, drive, given, as_json=as_json)
    if drive_option:
        raise SpecError("drive_option", "needs --drive")
    return commands.run(spec, as_json=as_json)


@app.command()
def device(
    server: Annotated[
        str, typer.Option("--server", metavar="URI", help="Such as coap://host:5683.")
    ],
    endpoint: Annotated[str, typer.Option("--endpoint", metavar="NAME", help="Its name.")],
    key: Key = None,
    running: Running = None,
    protocol: Protocol = "lwm2m",
    slot_size: SlotSize = "1MiB",
    lifetime: Lifetime = DEFAULT_LIFETIME,
    seed: Seed = 0,
    bind: Bind = None,
    fault: Fault = None,
    option: Option = None,
    credentials: Credentials = None,
    authorities: Authorities = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print a line for every message.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print journal lines.")] = False,
) -> int:
    """One device in the foreground, every state change printed."""
    from agent.credentials import NO_CREDENTIAL
    from tools.fleet import credential_file
    from tools.fleet.names import check_names
    from tools.options import DeviceOptions

    check_names((endpoint,), lambda _: repr(endpoint), field="name")
    given = credential_file.credentials(credentials, (endpoint,), authorities)
    options = DeviceOptions(
        server=server,
        name=endpoint,
        protocol=protocol,
        running=None if running is None else _read("--running", running),
        keys=_keys(key),
        slot_size=_slot_size(slot_size),
        lifetime=lifetime,
        seed=seed,
        bind=_address(bind),
        faults=_faults(fault),
        credential=given[0] if given else NO_CREDENTIAL,
        options=_options(option),
        trace=trace,
        as_json=as_json,
    )
    from tools.fleet.single import single

    return single(options)


@app.command()
def backend(
    coap: Annotated[
        str, typer.Option("--coap", metavar="HOST:PORT", help="Where devices come; port 0: any.")
    ] = "127.0.0.1:5683",
    rest: Annotated[
        str, typer.Option("--rest", metavar="HOST:PORT", help="Where people come; port 0: any.")
    ] = "127.0.0.1:8080",
    http: Annotated[
        str,
        typer.Option("--http", metavar="HOST:PORT", help="Where HTTP devices come; port 0: any."),
    ] = "127.0.0.1:8090",
    admin: Annotated[
        str,
        typer.Option("--admin", metavar="HOST:PORT", help="Where administrators come; 0: any."),
    ] = "127.0.0.1:8081",
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            "--admin-token-file",
            metavar="FILE",
            help="Holds the administrator's token; made when missing.",
        ),
    ] = None,
    omadm: Annotated[
        str,
        typer.Option(
            "--omadm", metavar="HOST:PORT", help="Where OMA-DM devices come; port 0: any."
        ),
    ] = "127.0.0.1:8091",
    omadm_cert: Annotated[
        Path | None,
        typer.Option("--omadm-cert", metavar="FILE", help="PEM certificate of that listener."),
    ] = None,
    omadm_key: Annotated[
        Path | None, typer.Option("--omadm-key", metavar="FILE", help="Its PEM key.")
    ] = None,
    http_cert: Annotated[
        Path | None,
        typer.Option("--http-cert", metavar="FILE", help="PEM certificate of that listener."),
    ] = None,
    http_key: Annotated[
        Path | None, typer.Option("--http-key", metavar="FILE", help="Its PEM key.")
    ] = None,
    http_client_ca: Annotated[
        Path | None,
        typer.Option(
            "--http-client-ca", metavar="FILE", help="PEM authority of device certificates."
        ),
    ] = None,
    check_in: Annotated[
        str | None,
        typer.Option("--check-in", metavar="TIME", help="From one check-in to the next."),
    ] = None,
    database: Annotated[
        str, typer.Option("--database", metavar="FILE|URL", help="SQLite file or database URL.")
    ] = "fotilla-backend.db",
    ready_file: Annotated[
        Path | None,
        typer.Option("--ready-file", metavar="PATH", help="Written once it serves, as JSON."),
    ] = None,
    timing: Annotated[
        str,
        typer.Option("--timing", metavar="NAME", help="How long campaigns take to start and end."),
    ] = "documented",
    pilot_waived: Annotated[
        bool, typer.Option("--pilot-waived", help="Let a campaign begin without a pilot.")
    ] = False,
    seed: Seed = 0,
) -> int:
    """The reference backend alone."""
    check_whole("seed", seed, 0, 2**64 - 1)
    from tools.backend.serve import ServeOptions, parse_bind, serve
    from tools.backend.timing import TIMINGS

    if timing not in TIMINGS:
        raise SpecError("timing", f"no timing {timing!r}; known: {', '.join(TIMINGS)}")
    for field, text in (
        ("coap", coap),
        ("rest", rest),
        ("http", http),
        ("omadm", omadm),
        ("admin", admin),
    ):
        try:
            parse_bind(text)
        except ValueError as error:
            raise SpecError(field, str(error)) from None
    return serve(
        ServeOptions(
            coap=coap,
            rest=rest,
            http=http,
            admin=admin,
            admin_token_file=admin_token_file,
            omadm=omadm,
            omadm_cert=omadm_cert,
            omadm_key=omadm_key,
            db=database,
            ready_file=ready_file,
            timing=timing,
            pilot_waived=pilot_waived,
            http_cert=http_cert,
            http_key=http_key,
            http_client_ca=http_client_ca,
            check_in=_check_in(check_in),
            seed=seed,
        )
    )


@app.command(
    add_help_option=False,
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
)
def image(ctx: typer.Context) -> int:
    """Build, sign, inspect and verify images; make signing keys."""
    from tools.image_cli import app as image_app

    # Handed on as typed: importing it for its help alone would slow down every command.
    return int(image_app(args=ctx.args, prog_name="fotilla image", standalone_mode=False) or 0)


def _read(flag: str, path: Path) -> bytes:
    from firmware_images import UnusableInput
    from tools.image_files import read_file

    try:
        return read_file(path)
    except OSError as error:
        raise UnusableInput(f"{flag} {path}: {error.strerror or error}") from None
    except UnusableInput as error:
        raise UnusableInput(f"{flag} {error}") from None


def _keys(paths: list[Path] | None) -> tuple[bytes, ...]:
    from firmware_images import UnusableInput
    from firmware_images.keys import PublicKey

    pems: list[bytes] = []
    for path in paths or []:
        pem = _read("--key", path)
        try:
            PublicKey.from_pem(pem, str(path))
        except UnusableInput as error:
            raise UnusableInput(f"--key {error}") from None
        pems.append(pem)
    return tuple(pems)


def _slot_size(text: str) -> int:
    from agent.trailer import capacity

    size = parse_size("slot_size", text)
    try:
        capacity(size)
    except ValueError as error:
        raise SpecError("slot_size", str(error)) from None
    return size


def _rate(text: str | None) -> float | None:
    return None if text is None else parse_rate("ramp", text)


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_seconds("duration", text)


def _faults(texts: list[str] | None) -> tuple[FaultShare, ...]:
    return tuple(parse_fault(text) for text in texts or [])


def _misbehaviours(texts: list[str] | None) -> tuple[tuple[Misbehaviour, float], ...]:
    return tuple(parse_misbehaviour(text) for text in texts or [])


def _options(texts: list[str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(parse_option(text) for text in texts or [])


def _bandwidth(text: str | None) -> float | None:
    if text is None:
        return None
    return float(parse_size("bandwidth", text.strip().removesuffix("/s")))


def _check_in(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = parse_seconds("check_in", text)
    if not 1 <= seconds <= LONGEST_CHECK_IN:
        raise SpecError("check_in", f"{seconds:g} s is not between 1 s and a year")
    return seconds


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise SpecError("bind", f"{text!r} is not an IP address") from None


def _flag(field: str) -> str:
    return _FLAGS.get(field, "--" + field.replace("_", "-"))


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and sentence of whatever a command raised."""
    from agent.errors import UnknownName, UnusableSettings
    from firmware_images import ImageRefused, UnusableInput
    from protocols.coap.errors import CoapUriError
    from tools.backend.errors import BackendError
    from tools.drivers.errors import DriverError, ServerLost
    from tools.fleet.limits import TooFewDescriptors

    if isinstance(error, SpecError):
        return BAD_INPUT, f"{_flag(error.field)}: {error.problem}"
    if isinstance(error, ServerLost):
        return INVALID_RUN, str(error)
    if isinstance(error, CoapUriError):
        return BAD_INPUT, f"--server: {error}"
    if isinstance(error, typer.exceptions.TyperException):
        return BAD_INPUT, error.format_message()
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return BAD_INPUT, f"{name}{error.strerror or error}"
    if isinstance(error, UnusableSettings) and error.what:
        return BAD_INPUT, f"{_flag(error.what)}: {error}"
    told = ImageRefused | UnusableInput | UnusableSettings | UnknownName | TooFewDescriptors
    if isinstance(error, told | BackendError | DriverError):
        return BAD_INPUT, str(error)
    hint = "(a fault of fotilla itself; FOTILLA_TRACEBACK=1 shows where)"
    return INVALID_RUN, f"{type(error).__name__}: {error} {hint}"


def _fail(argv: list[str], code: int, text: str) -> int:
    """One line on standard error; the JSON object as well, for who asked for it."""
    line = " ".join(text.split())
    if line:  # typer has already printed the help of a command that was given nothing
        print(f"fotilla: error: {line}", file=sys.stderr)
    if "--json" in argv and argv[0] in ("demo", "run"):
        from tools.fleet.result import failure_object

        with reader_may_leave():
            print(json.dumps(failure_object(line)))
    return code


def call(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    code = INVALID_RUN if argv and argv[0] in ("demo", "run") and "--help" not in argv else 0
    with reader_may_leave():
        # A run that lost its reader on the way proves nothing; it tells its result for itself.
        code = _call(argv)
    return code


def _call(argv: list[str]) -> int:
    try:
        # Not `app(...)`: that turns Ctrl-C into an exit code which a command may also return.
        command = typer.main.get_command(app)
        with command.make_context("fotilla", list(argv)) as context:
            code = command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _fail(argv, INTERRUPTED, "interrupted")
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("FOTILLA_TRACEBACK"):
            raise
        return _fail(argv, *_explain(error))
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    sys.exit(call(sys.argv[1:]))
