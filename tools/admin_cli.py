"""`fotilla admin`: administration of a running backend from the command line.

Whom to ask and with what token stands in the ready file of the backend (`--ready-file`), or in
`--url` and `--token-file`, or in the environment. The token is never an argument, because every
user of the machine can read those.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tools.admin_client import CA_VARIABLE, AdminClient, AdminRefused, Where, find, segment
from tools.fleet.spec import SpecError, parse_seconds
from tools.image_files import write_file

app = typer.Typer(
    name="admin",
    help="Administer a running backend: accounts, devices, firmware, cells, clock, callbacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _group(name: str, text: str) -> typer.Typer:
    group = typer.Typer(name=name, help=text, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group)
    return group


accounts = _group("accounts", "Customers of the backend.")
devices = _group("devices", "The inventory.")
firmware = _group("firmware", "The firmware catalogue.")
files = _group("files", "Configuration files that accounts have uploaded.")
cells = _group("cells", "Cells of the operator network.")
clock = _group("clock", "The clock of the backend.")

AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Default: the backend's own.")
]


@dataclass(frozen=True, slots=True)
class _Asked:
    where: Where
    as_json: bool


@app.callback()
def options(
    ctx: typer.Context,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            "--ready-file",
            metavar="PATH",
            envvar="FOTILLA_READY_FILE",
            help="What `fotilla backend --ready-file` has written.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Default: FOTILLA_ADMIN_URL, or the usual port."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="PATH", help="Default: the token in FOTILLA_ADMIN_TOKEN."
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            metavar="PEM",
            envvar=CA_VARIABLE,
            help="Who may have signed the backend's certificate; default: whom the system trusts.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what the backend answers.")
    ] = False,
) -> None:
    """Say whom to ask."""
    if ctx.resilient_parsing or ctx.invoked_subcommand is None:
        return
    ctx.obj = lambda: _Asked(find(ready_file, url, token_file, ca), as_json)


def _ask(ctx: typer.Context, method: str, path: str, **more: Any) -> Any:
    """Ask, and print the answer when JSON is wanted: None then."""
    asked: _Asked = ctx.obj()
    with AdminClient(asked.where) as client:
        answer = client.ask(method, path, **more)
    if asked.as_json:
        print(json.dumps(answer, indent=2))
        return None
    return answer


def plain(value: object) -> str:
    """A value for a terminal: what a device has said must not steer it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value)
    )


def table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> Iterator[str]:
    """Lines of a table: `columns` are the titles by key."""
    cells = [list(columns.values()), *([plain(row[key]) for key in columns] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    for row in cells:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield line.rstrip()


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


# -- accounts ---

_ACCOUNT = {
    "name": "ACCOUNT",
    "deviceCount": "DEVICES",
    "purchaseType": "SUBSCRIPTION",
    "licenseCount": "LICENCES",
    "licensesUsed": "USED",
    "pilotWaived": "PILOT WAIVED",
    "omadmMode": "OMA-DM",
    "v3Abort": "V3 ABORT",
}


@accounts.command("list")
def list_accounts(ctx: typer.Context) -> None:
    """Who the customers are."""
    answer = _ask(ctx, "GET", "/admin/accounts")
    if answer is not None:
        _print(table(answer["accounts"], _ACCOUNT))


@accounts.command("add")
def add_account(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Ten digits, a dash, five digits.")],
    pilot_waived: Annotated[
        bool, typer.Option("--pilot-waived", help="Its campaigns need no pilot.")
    ] = False,
    omadm_mode: Annotated[
        str, typer.Option("--omadm-mode", help="network_aware or one_attempt.")
    ] = "network_aware",
    v3_abort: Annotated[
        bool, typer.Option(help="Whether v3 campaigns that run can be aborted.")
    ] = True,
) -> None:
    """Make an account; its secret is shown this once."""
    body = {
        "name": name,
        "pilotWaived": pilot_waived,
        "omadmMode": omadm_mode,
        "v3Abort": v3_abort,
    }
    answer = _ask(ctx, "POST", "/admin/accounts", json=body)
    if answer is not None:
        print(f"{answer['name']}: secret {answer['secret']}")


@accounts.command("secret")
def rotate_secret(ctx: typer.Context, name: str) -> None:
    """Give an account a new secret, which is shown this once."""
    answer = _ask(ctx, "POST", f"/admin/accounts/{segment(name)}/secret")
    if answer is not None:
        print(f"{answer['name']}: secret {answer['secret']}")


@accounts.command("subscription")
def subscribe(
    ctx: typer.Context,
    name: str,
    purchase_type: Annotated[
        str, typer.Option("--type", help="TS-HFOTA-EVNT, TS-HFOTA-MRC, or both with a comma.")
    ],
    licences: Annotated[int, typer.Option("--licences", help="How many devices may have one.")],
) -> None:
    """Change what an account has subscribed to."""
    body = {"purchaseType": purchase_type, "licenseCount": licences}
    answer = _ask(ctx, "PUT", f"/admin/accounts/{segment(name)}/subscription", json=body)
    if answer is not None:
        _print(table([answer], _ACCOUNT))


@accounts.command("unsubscribe")
def unsubscribe(ctx: typer.Context, name: str) -> None:
    """End what an account has subscribed to: its licences go."""
    answer = _ask(ctx, "DELETE", f"/admin/accounts/{segment(name)}/subscription")
    if answer is not None:
        _print(table([answer], _ACCOUNT))


@accounts.command("remove")
def remove_account(
    ctx: typer.Context,
    name: str,
    everything: Annotated[
        bool, typer.Option("--everything", help="With its devices, campaigns and packages.")
    ] = False,
) -> None:
    """Remove an account whose campaigns have ended."""
    params = {"everything": "true"} if everything else {}
    answer = _ask(ctx, "DELETE", f"/admin/accounts/{segment(name)}", params=params)
    if answer is not None:
        print(f"{answer['name']} removed")


# -- devices ---


@devices.command("load")
def load_devices(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV with a header, or a JSON array.")],
    account: AccountOption = None,
) -> None:
    """Load the inventory. What the file does not say of a known device stays as it was."""
    content = file.read_bytes()
    is_csv = file.suffix.lower() == ".csv"
    if not is_csv and not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise AdminRefused(f"{file}: neither a .csv file nor a JSON array")
    answer = _ask(
        ctx,
        "PUT",
        "/admin/devices",
        params=_account(account),
        content=content,
        headers={"Content-Type": "text/csv" if is_csv else "application/json"},
    )
    if answer is not None:
        print(f"{answer['deviceCount']} devices loaded")


@devices.command("save")
def save_devices(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to write; .csv or .json.")],
    account: AccountOption = None,
) -> None:
    """Write the inventory to a file, which can be loaded again."""
    kind = file.suffix.lower().removeprefix(".")
    if kind not in ("csv", "json"):
        raise AdminRefused(f"{file}: the name has to end with .csv or .json")
    with AdminClient(ctx.obj().where) as client:
        content = client.fetch("GET", f"/admin/devices.{kind}", params=_account(account))
    write_file(file, content)


@devices.command("show")
def show_device(ctx: typer.Context, name: str) -> None:
    """One device, by identity or device id."""
    answer = _ask(ctx, "GET", f"/admin/devices/{segment(name)}")
    if answer is not None:
        _print(f"{key}: {plain(value)}" for key, value in answer.items())


@devices.command("line")
def set_line(
    ctx: typer.Context,
    name: str,
    status: Annotated[str, typer.Argument(help="active or suspend.")],
    mdn: Annotated[str | None, typer.Option("--mdn", help="Number of the line.")] = None,
) -> None:
    """Set the line of service of a device."""
    body = {"status": status} if mdn is None else {"status": status, "mdn": mdn}
    answer = _ask(ctx, "PUT", f"/admin/devices/{segment(name)}/line", json=body)
    if answer is not None:
        print(f"{plain(answer['name'])}: {answer['line']} {answer['mdn']}".rstrip())


@devices.command("remove")
def remove_devices(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Identities or device ids.")],
) -> None:
    """Remove devices that no campaign wants, one after the other."""
    for name in names:
        answer = _ask(ctx, "DELETE", f"/admin/devices/{segment(name)}")
        if answer is not None:
            print(f"{plain(answer['name'])} removed")


@devices.command("unknown")
def unknown_devices(ctx: typer.Context) -> None:
    """Identities that came and that no account has."""
    answer = _ask(ctx, "GET", "/admin/devices/unknown")
    if answer is not None:
        _print(plain(name) for name in answer["identities"])


# -- firmware ---

_FIRMWARE = {
    "firmwareName": "FIRMWARE",
    "firmwareFrom": "FROM",
    "firmwareTo": "TO",
    "protocol": "PROTOCOL",
    "make": "MAKE",
    "model": "MODEL",
    "size": "BYTES",
}


@firmware.command("list")
def list_firmware(ctx: typer.Context, account: AccountOption = None) -> None:
    """What is in the catalogue."""
    answer = _ask(ctx, "GET", "/admin/firmware", params=_account(account))
    if answer is not None:
        _print(table(answer["firmware"], _FIRMWARE))


@firmware.command("add")
def add_firmware(
    ctx: typer.Context,
    file: Path,
    name: Annotated[str, typer.Option("--name", help="What campaigns call it.")],
    version: Annotated[str, typer.Option("--version", help="What devices run afterwards.")],
    version_from: Annotated[
        str, typer.Option("--from", help="What they have to run before; empty: anything.")
    ] = "",
    protocol: Annotated[str, typer.Option("--protocol", help="LWM2M, HTTP or OMADM.")] = "LWM2M",
    make: Annotated[str | None, typer.Option("--make", help="Of the devices.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Of the devices.")] = None,
    note: Annotated[str, typer.Option("--note", help="Release note.")] = "",
    account: AccountOption = None,
) -> None:
    """Put a package into the catalogue."""
    given = {
        "name": name,
        "version": version,
        "versionFrom": version_from,
        "protocol": protocol,
        "make": make,
        "model": model,
        "releaseNote": note,
        **_account(account),
    }
    params = {key: text for key, text in given.items() if text is not None}
    answer = _ask(ctx, "PUT", "/admin/firmware", params=params, content=file.read_bytes())
    if answer is not None:
        _print(table([answer], _FIRMWARE))


@firmware.command("remove")
def remove_firmware(ctx: typer.Context, name: str, account: AccountOption = None) -> None:
    """Take a package out of the catalogue, unless a campaign needs it."""
    params = _account(account)
    answer = _ask(ctx, "DELETE", f"/admin/firmware/{segment(name)}", params=params)
    if answer is not None:
        print(f"{plain(answer['firmwareName'])} removed")


# -- files ---

_FILE = {
    "fileName": "FILE",
    "fileVersion": "VERSION",
    "protocol": "PROTOCOL",
    "make": "MAKE",
    "model": "MODEL",
    "size": "BYTES",
}


@files.command("list")
def list_files(ctx: typer.Context, account: AccountOption = None) -> None:
    """The configuration files that an account has uploaded."""
    answer = _ask(ctx, "GET", "/admin/files", params=_account(account))
    if answer is not None:
        _print(table(answer["files"], _FILE))


@files.command("remove")
def remove_file(ctx: typer.Context, name: str, account: AccountOption = None) -> None:
    """Remove a configuration file, unless a campaign needs it."""
    answer = _ask(ctx, "DELETE", f"/admin/files/{segment(name)}", params=_account(account))
    if answer is not None:
        print(f"{plain(answer['fileName'])} removed")


# -- cells ---

_CELL = {
    "name": "CELL",
    "capacity": "CAPACITY",
    "attached": "ATTACHED",
    "active": "ACTIVE",
    "waiting": "WAITING",
}


@cells.command("list")
def list_cells(ctx: typer.Context) -> None:
    """Cells that serve somebody or have a capacity of their own."""
    answer = _ask(ctx, "GET", "/admin/cells")
    if answer is not None:
        _print(table(answer["cells"], _CELL))


@cells.command("set")
def set_cell(ctx: typer.Context, name: str, capacity: int) -> None:
    """How many devices of a cell may be upgraded at once."""
    answer = _ask(ctx, "PUT", f"/admin/cells/{segment(name)}", json={"capacity": capacity})
    if answer is not None:
        _print(table([answer], _CELL))


@cells.command("reset")
def reset_cell(ctx: typer.Context, name: str) -> None:
    """Give a cell the default capacity again."""
    answer = _ask(ctx, "DELETE", f"/admin/cells/{segment(name)}")
    if answer is not None:
        _print(table([answer], _CELL))


# -- clock ---


def _clock(ctx: typer.Context, method: str, **more: Any) -> None:
    answer = _ask(ctx, method, "/admin/clock", **more)
    if answer is not None:
        print(f"{answer['now']}, {answer['rate']:g} times as fast as the machine's")


@clock.command("show")
def show_clock(ctx: typer.Context) -> None:
    """What time it is for the backend."""
    _clock(ctx, "GET")


@clock.command("advance")
def advance_clock(
    ctx: typer.Context,
    by: Annotated[str, typer.Argument(help="90s, 5m, 12h, 3d; or to an instant in RFC 3339.")],
) -> None:
    """Jump ahead. Time never goes back."""
    if "T" in by:
        _clock(ctx, "POST", json={"advanceTo": by})
        return
    try:
        seconds = parse_seconds("by", by)
    except SpecError as error:
        raise AdminRefused(error.problem) from None
    _clock(ctx, "POST", json={"advanceBy": seconds})


@clock.command("rate")
def set_rate(ctx: typer.Context, rate: float) -> None:
    """Let time pass so many times as fast as the machine's."""
    _clock(ctx, "POST", json={"rate": rate})


# -- callbacks ---

_CALLBACK = {
    "number": "NUMBER",
    "account": "ACCOUNT",
    "version": "API",
    "type": "TYPE",
    "state": "STATE",
    "tries": "TRIES",
    "created": "CREATED",
    "error": "ERROR",
}


@app.command("callbacks")
def list_callbacks(ctx: typer.Context, account: AccountOption = None, limit: int = 25) -> None:
    """The newest callback messages."""
    params = {**_account(account), "limit": limit}
    answer = _ask(ctx, "GET", "/admin/callbacks", params=params)
    if answer is not None:
        _print(table(answer["callbacks"], _CALLBACK))


def _account(name: str | None) -> dict[str, str]:
    return {} if name is None else {"account": name}
