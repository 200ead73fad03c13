"""`fotilla backend`: flags in, exit code out. It is imported only by who asks for a backend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tools.backend.serve import ServeOptions, parse_bind, serve
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
    open_metrics: Annotated[
        bool, typer.Option("--open-metrics", help="Let /metrics be read without the token.")
    ] = False,
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
        typer.Option("--timing", metavar="NAME", help="How long campaigns take to start and end."),
    ] = "documented",
    pilot_waived: Annotated[
        bool, typer.Option("--pilot-waived", help="Let a campaign begin without a pilot.")
    ] = False,
    seed: Seed = 0,
) -> int:
    """The reference backend alone."""
    check_whole("seed", seed, 0, 2**64 - 1)
    if timing not in TIMINGS:
        raise SpecError("timing", f"no timing {timing!r}; known: {', '.join(TIMINGS)}")
    if durable not in DURABILITIES:
        raise SpecError("durable", f"{durable!r} is none of {', '.join(DURABILITIES)}")
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
            open_metrics=open_metrics,
            omadm=omadm,
            omadm_cert=omadm_cert,
            omadm_key=omadm_key,
            db=database,
            durable=durable,
            ready_file=ready_file,
            timing=timing,
            pilot_waived=pilot_waived,
            callback_ca=callback_ca,
            http_cert=http_cert,
            http_key=http_key,
            http_client_ca=http_client_ca,
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
