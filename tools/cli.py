"""The `fotilla` command: flags in, exit code out.

Everything heavy is imported inside the command that needs it, so `fotilla --help` answers at once.
Whatever goes wrong ends as one line on standard error and an exit code, never as a trace back;
FOTILLA_TRACEBACK=1 brings it back for whoever debugs fotilla itself.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tools.cli_options import (
    Authorities,
    Bandwidth,
    Bind,
    Credentials,
    Duration,
    Fault,
    JournalFile,
    Json,
    Key,
    Lifetime,
    MaxLag,
    Misbehave,
    Option,
    Protocol,
    Ramp,
    Report,
    Running,
    Seed,
    SlotSize,
    fault_shares,
    ip_address,
    link_rate,
    misbehaviours,
    name_values,
    ramp_rate,
    read,
    run_seconds,
    slot_bytes,
    trusted_keys,
)
from tools.fleet.spec import (
    DEFAULT_LIFETIME,
    DEFAULT_MAX_LAG,
    MAX_DEVICES,
    FleetSpec,
    SpecError,
    check_whole,
    parse_option,
    parse_seconds,
    parse_size,
)
from tools.output import reader_may_leave

BAD_INPUT = 2
INVALID_RUN = 4
INTERRUPTED = 130

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
        slot_size=slot_bytes(slot_size),
        lifetime=lifetime,
        ramp=ramp_rate(ramp),
        duration=run_seconds(duration),
        seed=seed,
        bind=ip_address(bind),
        faults=fault_shares(fault),
        misbehave=misbehaviours(misbehave),
        bandwidth=link_rate(bandwidth),
        max_lag=parse_seconds("max_lag", max_lag),
        report_dir=report,
        journal=journal,
        as_json=as_json,
    )
    from tools.fleet import demo as embedded

    return embedded.demo(options)


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
    operator: Annotated[
        Path | None,
        typer.Option(
            "--operator",
            metavar="FILE",
            help="Attach the devices to the operator network of a `fotilla backend`, whose "
            "--ready-file this is.",
        ),
    ] = None,
    cells: Annotated[
        int, typer.Option("--cells", metavar="N", help="For --operator: spread over so many.")
    ] = 1,
    account: Annotated[
        str | None,
        typer.Option(
            "--account",
            metavar="NAME",
            help="For --operator: whose devices these are, if not the backend's own account's.",
        ),
    ] = None,
    report: Report = "report",
    journal: JournalFile = None,
    as_json: Json = False,
) -> int:
    """Devices against any server; its operator starts the update."""
    from tools.fleet import credential_file
    from tools.fleet.attachments import read_access
    from tools.fleet.names import DEFAULT_PATTERN, device_names

    check_whole("devices", devices, 1, MAX_DEVICES)
    if account is not None and operator is None:
        raise SpecError("account", "needs --operator")
    device_list = device_names(names or DEFAULT_PATTERN, devices)
    spec = FleetSpec(
        server=server,
        devices=devices,
        names=device_list,
        image=read("--image", image),
        keys=trusted_keys(key),
        protocol=protocol,
        running=None if running is None else read("--running", running),
        slot_size=slot_bytes(slot_size),
        lifetime=lifetime,
        ramp=ramp_rate(ramp),
        duration=run_seconds(duration),
        seed=seed,
        bind=ip_address(bind),
        faults=fault_shares(fault),
        misbehave=misbehaviours(misbehave),
        bandwidth=link_rate(bandwidth),
        max_lag=parse_seconds("max_lag", max_lag),
        options=name_values(option),
        credentials=credential_file.credentials(credentials, device_list, authorities),
        report_dir=report,
        serve_image=serve_image,
        serve_port=serve_port,
        journal=journal,
        operator=None if operator is None else read_access(operator, cells, account),
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
        running=None if running is None else read("--running", running),
        keys=trusted_keys(key),
        slot_size=slot_bytes(slot_size),
        lifetime=lifetime,
        seed=seed,
        bind=ip_address(bind),
        faults=fault_shares(fault),
        credential=given[0] if given else NO_CREDENTIAL,
        options=name_values(option),
        trace=trace,
        as_json=as_json,
    )
    from tools.fleet.single import single

    return single(options)


# These are handed on as typed: importing them for their help alone would slow down every
# command.
_handed_on = app.command(
    add_help_option=False,
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
)


@_handed_on
def backend(ctx: typer.Context) -> int:
    """The reference backend alone."""
    from tools.backend.cli import app as backend_app

    return int(backend_app(args=ctx.args, prog_name="fotilla backend", standalone_mode=False) or 0)


@_handed_on
def admin(ctx: typer.Context) -> int:
    """Administer a running backend: accounts, devices, firmware, cells, clock."""
    from tools.admin_cli import app as admin_app

    return int(admin_app(args=ctx.args, prog_name="fotilla admin", standalone_mode=False) or 0)


@_handed_on
def image(ctx: typer.Context) -> int:
    """Build, sign, inspect and verify images; make signing keys."""
    from tools.image_cli import app as image_app

    return int(image_app(args=ctx.args, prog_name="fotilla image", standalone_mode=False) or 0)


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
