"""`fotilla backend`: flags in, exit code out. It is imported only by who asks for a backend."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tools.backend.faces.known import known_faces
from tools.backend.serve import ListenOptions, ServeOptions, parse_bind, serve
from tools.backend.store.database import DURABILITIES
from tools.backend.timing import TIMINGS
from tools.cli_options import Seed
from tools.fleet.spec import SpecError, check_whole, parse_seconds

LONGEST_CHECK_IN = 366 * 86_400  # seconds; a device that is heard of less often is a lost one

app = typer.Typer(
    name="backend",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def with_listeners(command: Callable[..., int]) -> Callable[..., int]:
    """The command with the options of every face's listener, given to it as keywords: `NAME` for
    where it is, `NAME_cert`, `NAME_key` and `NAME_client_ca` for its TLS."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    added: list[inspect.Parameter] = []

    def add(name: str, default: object, kind: object, metavar: str, text: str) -> None:
        option = typer.Option(f"--{name.replace('_', '-')}", metavar=metavar, help=text)
        added.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, option],
            )
        )

    for maker in known_faces().values():
        spec, file = maker.listener, Path | None
        place = f"Where {spec.title} devices come; port 0: any."
        add(spec.name, spec.bind, str, "HOST:PORT", place)
        if spec.tls:
            add(f"{spec.name}_cert", None, file, "FILE", "PEM certificate of that listener.")
            add(f"{spec.name}_key", None, file, "FILE", "Its PEM key.")
        if spec.client_ca:
            text = "PEM authority of device certificates."
            add(f"{spec.name}_client_ca", None, file, "FILE", text)
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*added, *(one.replace(kind=one.KEYWORD_ONLY) for one in own)]
    )
    return command


def listen_options(given: Mapping[str, Any]) -> dict[str, ListenOptions]:
    """What was said of every listener."""
    return {
        name: ListenOptions(
            given[name],
            given.get(f"{name}_cert"),
            given.get(f"{name}_key"),
            given.get(f"{name}_client_ca"),
        )
        for name in (maker.listener.name for maker in known_faces().values())
    }


@app.command()
@with_listeners
def backend(
    rest: Annotated[
        str, typer.Option("--rest", metavar="HOST:PORT", help="Where people come; port 0: any.")
    ] = "127.0.0.1:8080",
    admin: Annotated[
        str,
        typer.Option("--admin", metavar="HOST:PORT", help="Where administrators come; 0: any."),
    ] = "127.0.0.1:8081",
    admin_cert: Annotated[
        Path | None,
        typer.Option("--admin-cert", metavar="FILE", help="PEM certificate of that listener."),
    ] = None,
    admin_key: Annotated[
        Path | None, typer.Option("--admin-key", metavar="FILE", help="Its PEM key.")
    ] = None,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            "--admin-token-file",
            metavar="FILE",
            help="Holds the administrator's token; made when missing.",
        ),
    ] = None,
    example: Annotated[
        bool,
        typer.Option("--example", help="With two accounts, 200 devices, firmwares and cells."),
    ] = False,
    open_metrics: Annotated[
        bool, typer.Option("--open-metrics", help="Let /metrics be read without the token.")
    ] = False,
    callback_ca: Annotated[
        Path | None,
        typer.Option(
            "--callback-ca",
            metavar="FILE",
            help="PEM authorities of callback listeners, beside the system's.",
        ),
    ] = None,
    check_in: Annotated[
        str | None,
        typer.Option("--check-in", metavar="TIME", help="From one check-in to the next."),
    ] = None,
    database: Annotated[
        str,
        typer.Option(
            "--database",
            "--db",
            metavar="FILE|URL",
            help="An SQLite file, or postgresql+asyncpg://USER:PASSWORD@HOST/NAME.",
        ),
    ] = "fotilla-backend.db",
    durable: Annotated[
        str,
        typer.Option(
            "--durable", metavar="|".join(DURABILITIES), help="full: outlasts a power cut as well."
        ),
    ] = DURABILITIES[0],
    ready_file: Annotated[
        Path | None,
        typer.Option("--ready-file", metavar="PATH", help="Written once it serves, as JSON."),
    ] = None,
    timing: Annotated[
        str,
        typer.Option(
            "--timing",
            metavar="|".join(TIMINGS),
            help="When campaigns begin and are published: as the public API's documentation says, "
            "or at once.",
        ),
    ] = "documented",
    pilot_waived: Annotated[
        bool, typer.Option("--pilot-waived", help="Let a campaign begin without a pilot.")
    ] = False,
    seed: Seed = 0,
    **listeners: Any,
) -> int:
    """The reference backend alone."""
    check_whole("seed", seed, 0, 2**64 - 1)
    if timing not in TIMINGS:
        raise SpecError("timing", f"no timing {timing!r}; known: {', '.join(TIMINGS)}")
    if durable not in DURABILITIES:
        raise SpecError("durable", f"{durable!r} is none of {', '.join(DURABILITIES)}")
    listen = listen_options(listeners)
    binds = {name: options.bind for name, options in listen.items()}
    for field, text in {**binds, "rest": rest, "admin": admin}.items():
        try:
            parse_bind(text)
        except ValueError as error:
            raise SpecError(field, str(error)) from None
    return serve(
        ServeOptions(
            listen=listen,
            rest=rest,
            admin=admin,
            admin_cert=admin_cert,
            admin_key=admin_key,
            admin_token_file=admin_token_file,
            open_metrics=open_metrics,
            example=example,
            db=database,
            durable=durable,
            ready_file=ready_file,
            timing=timing,
            pilot_waived=pilot_waived,
            callback_ca=callback_ca,
            check_in=check_in_seconds(check_in),
            seed=seed,
        )
    )


def check_in_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = parse_seconds("check_in", text)
    if not 1 <= seconds <= LONGEST_CHECK_IN:
        raise SpecError("check_in", f"{seconds:g} s is not between 1 s and a year")
    return seconds
