"""`fotilla backend`: the reference backend alone, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.runtime.runtime import Runtime
from tools.backend.admin.example import FOLDER, FOLDER_MODE, READY, SECOND, load_example
from tools.backend.admin.token import token_from_file
from tools.backend.backend import Backend, BackendConfig, authority
from tools.backend.config import Listen
from tools.backend.errors import BackendError
from tools.backend.faces.base import TlsFiles
from tools.backend.faces.known import known_faces
from tools.backend.store.database import MEMORY, parse_database

__all__ = [
    "Backend",
    "BackendConfig",
    "ListenOptions",
    "ServeOptions",
    "parse_bind",
    "serve",
    "write_ready_file",
]

EXIT_OK = 0
EXIT_USAGE = 2

READY_MODE = 0o600
"""The ready file holds the account's secret."""


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What can be said of the listener of a face."""

    bind: str
    """HOST:PORT."""
    cert: Path | None = None
    """PEM files; with both it speaks TLS."""
    key: Path | None = None
    client_ca: Path | None = None
    """Authority of client certificates; with it devices may come with one."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `fotilla backend` is asked."""

    listen: Mapping[str, ListenOptions] = field(default_factory=lambda: MappingProxyType({}))
    """Where devices come, by the name of the listener; the others are where they are by default."""
    rest: str = "127.0.0.1:8080"
    db: str = field(default="fotilla-backend.db", repr=False)
    """An SQLite file or the URL of a database, as `parse_database` takes it."""
    durable: str = "normal"
    ready_file: Path | None = None
    timing: str = "documented"
    pilot_waived: bool = False
    callback_ca: Path | None = None
    """PEM file of authorities that callback listeners' certificates may come from, beside those of
    the system."""
    check_in: float | None = None
    """Seconds between two check-ins of an HTTP device; None takes the timing's."""
    seed: int = 0
    """Of message ids and tokens, together with the number of the start."""
    admin: str = "127.0.0.1:8081"
    """Where administrators come: loopback, unless somebody says otherwise."""
    admin_cert: Path | None = None
    """PEM files; with both it speaks TLS."""
    admin_key: Path | None = None
    example: bool = False
    """Put in accounts, devices, firmwares and cells to try things on."""
    open_metrics: bool = False
    """Whether `/metrics` asks for no token."""
    admin_token_file: Path | None = None
    """Holds the administrator's token; it is made when it is not there. None: a fresh token at
    each start, which the ready file names."""


def parse_bind(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[V6]:PORT`; a ValueError names the text."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address as [ADDRESS]:PORT")
    return host or "0.0.0.0", int(port)


def parse_listen(name: str, options: ListenOptions) -> Listen:
    """The same, checked; a ValueError names what is wrong with the listener of that name."""
    bind, given = parse_bind(options.bind), (options.cert, options.key, options.client_ca)
    if given == (None, None, None):
        return Listen(bind)
    if options.cert is None or options.key is None:
        raise ValueError(
            f"--{name}-cert and --{name}-key: a TLS listener needs both, a certificate and its key"
        )
    return Listen(bind, TlsFiles(options.cert, options.key, options.client_ca))


def listeners(options: ServeOptions) -> dict[str, Listen]:
    """Where the devices of every known face come. Raises ValueError."""
    specs = [maker.listener for maker in known_faces().values()]
    return {
        spec.name: parse_listen(
            spec.name, options.listen.get(spec.name) or ListenOptions(spec.bind)
        )
        for spec in specs
    }


def admin_token(options: ServeOptions) -> str:
    """The administrator's token, empty when there is no file for it. Raises TokenRefused."""
    path = options.admin_token_file
    return "" if path is None else token_from_file(path)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can come to an address; a name is not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def write_ready_file(path: Path, backend: Backend, also: Sequence[str] = ()) -> None:
    """Say where we listen and how to log in: complete at once, for the owner only. `also` names
    further accounts whose secrets are to be in it."""
    listeners = {face.listener.name: backend.url(name) for name, face in backend.faces.items()}
    if backend.rest_address is not None:
        listeners["rest"] = f"http://{authority(backend.rest_address)}"
    account = backend.account
    content: dict[str, Any] = {
        "listeners": listeners,
        "account": {"name": account.name, "secret": account.secret},
    }
    if also:
        found = [backend.inventory.accounts[name] for name in (account.name, *also)]
        content["accounts"] = [{"name": one.name, "secret": one.secret} for one in found]
    if backend.admin_url is not None:
        content["admin"] = {"url": backend.admin_url, "token": backend.admin_token}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    # Exclusive: a draft of that name that is not ours must not receive the secret.
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READY_MODE)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)
        file.write("\n")
    draft.replace(path)


def serve(options: ServeOptions) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    ready = options.ready_file
    if ready is not None and not os.access(ready.parent, os.W_OK):
        print(f"fotilla backend: --ready-file: cannot write into {ready.parent}", file=sys.stderr)
        return EXIT_USAGE
    try:
        admin = parse_listen(
            "admin", ListenOptions(options.admin, options.admin_cert, options.admin_key)
        )
        config = BackendConfig(
            db=options.db,
            durable=options.durable,
            listen=listeners(options),
            rest=parse_bind(options.rest),
            admin=admin.bind,
            admin_tls=admin.tls,
            admin_token=admin_token(options),
            open_metrics=options.open_metrics,
            contact=options.check_in,
            timing=options.timing,
            pilot_waived=options.pilot_waived or options.example,
            callback_ca=options.callback_ca,
        )
        folder = None
        if options.example:
            folder = (Path() if ready is None else ready.parent) / FOLDER
            folder.mkdir(FOLDER_MODE, exist_ok=True)
            ready = ready or folder / READY
        return asyncio.run(_serve(config, ready, options.seed, folder))
    except (BackendError, ValueError, OSError) as error:
        print(f"fotilla backend: {error}", file=sys.stderr)
        return EXIT_USAGE


async def _serve(
    config: BackendConfig, ready_file: Path | None, seed: int, example: Path | None
) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stopping.set)
    try:
        async with Runtime.real(seed=seed) as runtime:
            backend = Backend(runtime, config)
            await backend.start()
            # What was loaded lives as long as the process; the collector need not go through it
            # again and again, and hold up everybody meanwhile.
            gc.freeze()
            backend.engine.keep = gc.freeze
            try:
                devices = [
                    f"{face.listener.title} on {backend.url(name)}"
                    for name, face in backend.faces.items()
                ]
                rest = (
                    f"http://{authority(backend.rest_address)}" if backend.rest_address else "none"
                )
                print(
                    f"fotilla backend: {', '.join(devices)}, REST on {rest}",
                    file=sys.stderr,
                )
                if backend.admin_address is not None:
                    host = backend.admin_address[0]
                    print(
                        f"fotilla backend: administration on {backend.admin_url}",
                        file=sys.stderr,
                    )
                    if config.admin_tls is None and not is_loopback(host):
                        print(
                            f"fotilla backend: warning: --admin {host} is no loopback address: "
                            "whoever reaches it and knows the token can change everything, and "
                            "the token crosses the network in clear; with --admin-cert and "
                            "--admin-key it does not",
                            file=sys.stderr,
                        )
                if parse_database(config.db).path == MEMORY:
                    print(
                        "fotilla backend: warning: the database is in memory: nothing in it "
                        "outlives this process",
                        file=sys.stderr,
                    )
                if ready_file is None:
                    print(
                        "fotilla backend: to log in: --ready-file PATH writes the account's "
                        "secret and the administrator's token into a file",
                        file=sys.stderr,
                    )
                if example is not None:
                    for line in await load_example(backend, example, ready_file):
                        print(f"fotilla backend: {line}", file=sys.stderr)
                if ready_file is not None:
                    also = () if example is None else (SECOND,)
                    write_ready_file(ready_file, backend, also)
                await stopping.wait()
            finally:
                await backend.stop()
                if ready_file is not None:
                    ready_file.unlink(missing_ok=True)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    return EXIT_OK
