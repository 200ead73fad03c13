"""What several commands of `fotilla` take: their options, and the texts of these as values.

Whatever is wrong with a text is a SpecError that names the field, or UnusableInput that names the
file."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from agent.misbehaviour import Misbehaviour
from tools.fleet.spec import (
    FAULTS,
    FaultShare,
    SpecError,
    parse_fault,
    parse_misbehaviour,
    parse_option,
    parse_rate,
    parse_seconds,
    parse_size,
)

Protocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="What devices speak: lwm2m, omadm, http, hawkbit, mender, thingsboard or aws.",
    ),
]
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
        help="What devices do wrong on purpose; the answers are judged. Repeatable. Known: "
        f"{', '.join(one.value for one in Misbehaviour)}; which of them depends on the "
        "protocol, none of lwm2m.",
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


def read(flag: str, path: Path) -> bytes:
    """The content of the file that a flag names."""
    from firmware_images import UnusableInput
    from tools.image_files import read_file

    try:
        return read_file(path)
    except OSError as error:
        raise UnusableInput(f"{flag} {path}: {error.strerror or error}") from None
    except UnusableInput as error:
        raise UnusableInput(f"{flag} {error}") from None


def trusted_keys(paths: list[Path] | None) -> tuple[bytes, ...]:
    """PEM of the public keys in these files."""
    from firmware_images import UnusableInput
    from firmware_images.keys import PublicKey

    pems: list[bytes] = []
    for path in paths or []:
        pem = read("--key", path)
        try:
            PublicKey.from_pem(pem, str(path))
        except UnusableInput as error:
            raise UnusableInput(f"--key {error}") from None
        pems.append(pem)
    return tuple(pems)


def slot_bytes(text: str) -> int:
    """Bytes of a slot that can hold an image at all."""
    from agent.trailer import capacity

    size = parse_size("slot_size", text)
    try:
        capacity(size)
    except ValueError as error:
        raise SpecError("slot_size", str(error)) from None
    return size


def ramp_rate(text: str | None) -> float | None:
    """Devices per second."""
    return None if text is None else parse_rate("ramp", text)


def run_seconds(text: str | None) -> float | None:
    """Seconds that a run may take."""
    return None if text is None else parse_seconds("duration", text)


def fault_shares(texts: list[str] | None) -> tuple[FaultShare, ...]:
    """Faults, each with the share of the devices that has it."""
    return tuple(parse_fault(text) for text in texts or [])


def misbehaviours(texts: list[str] | None) -> tuple[tuple[Misbehaviour, float], ...]:
    """Misbehaviours, each with the share of the devices that does it."""
    return tuple(parse_misbehaviour(text) for text in texts or [])


def name_values(texts: list[str] | None) -> tuple[tuple[str, str], ...]:
    """Settings of a protocol."""
    return tuple(parse_option(text) for text in texts or [])


def link_rate(text: str | None) -> float | None:
    """Bytes per second."""
    if text is None:
        return None
    return float(parse_size("bandwidth", text.strip().removesuffix("/s")))


def ip_address(text: str | None) -> str | None:
    """A local address, in the address' canonical form."""
    if text is None:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise SpecError("bind", f"{text!r} is not an IP address") from None
