"""`fotilla image`: build, sign, wrap, inspect and verify MCUboot images, and make keys for them.

Exit codes: 0 done, 2 the input cannot be used (which one and why is said), 3 an image is refused.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from firmware_images import ImageRefused, UnusableInput, as_source
from firmware_images.keys import KeyType, generate_key
from firmware_images.mcuboot import (
    Dependency,
    Version,
    build_image,
    check_policy,
    decode_image,
    resign_image,
    verify_image,
)
from firmware_images.mcuboot.format import DEFAULT_HEADER_SIZE, IMAGE_MAGIC
from firmware_images.swu import Hardware
from tools.image_files import (
    explained,
    parse_dependency,
    parse_number,
    parse_size,
    parse_version,
    read_file,
    read_signing_key,
    read_trusted_keys,
    refuse_existing,
    slot_capacity,
    write_file,
)
from tools.image_view import describe_image, render_image
from tools.package_cli import mender, parse_hardware, swu
from tools.package_files import Opened, Target, open_package
from tools.package_view import describe_package, render_package

__all__ = ["app"]

app = typer.Typer(
    name="image",
    help="Build, sign, wrap, inspect and verify MCUboot images; make signing keys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_MAGIC_BYTES = IMAGE_MAGIC.to_bytes(4, "little")

OutOption = Annotated[Path, typer.Option("--out", "-o", help="Where to write the image.")]
CounterOption = Annotated[
    int | None,
    typer.Option(
        "--security-counter", parser=parse_number, metavar="N", help="Anti-rollback counter."
    ),
]
DependencyOption = Annotated[
    list[Dependency] | None,
    typer.Option(
        "--dependency",
        parser=parse_dependency,
        metavar="[ID:]VERSION",
        help="Needs this image (default 0, the device's own) in this version or later; repeatable.",
    ),
]
HeaderOption = Annotated[
    int | None,
    typer.Option(
        "--header-size",
        parser=parse_number,
        metavar="N",
        help=f"Bytes before the payload (default 0x{DEFAULT_HEADER_SIZE:x}).",
    ),
]
SlotOption = Annotated[
    int | None,
    typer.Option(
        "--slot-size", parser=parse_size, metavar="SIZE", help="Refuse what would not fit."
    ),
]


@app.command()
def build(
    payload: Annotated[Path, typer.Argument(help="Raw binary to wrap.")],
    out: OutOption,
    version: Annotated[Version, typer.Option("--version", parser=parse_version, metavar="1.2.3+4")],
    key: Annotated[
        Path | None, typer.Option("--key", help="Private key, PEM; without it: unsigned.")
    ] = None,
    security_counter: CounterOption = None,
    dependency: DependencyOption = None,
    header_size: HeaderOption = None,
    slot_size: SlotOption = None,
) -> None:
    """Wrap a raw binary into an image, signed if a key is given."""
    with explained():
        data = _wrap(payload, key, version, security_counter, dependency, header_size, slot_size)
        write_file(out, data)
        _report_written(out, data)


@app.command()
def sign(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Raw binary, or an image.")],
    out: OutOption,
    key: Annotated[Path, typer.Option("--key", help="Private key, PEM.")],
    version: Annotated[
        Version | None,
        typer.Option(
            "--version", parser=parse_version, metavar="1.2.3+4", help="For a raw binary."
        ),
    ] = None,
    security_counter: CounterOption = None,
    dependency: DependencyOption = None,
    header_size: HeaderOption = None,
    slot_size: SlotOption = None,
) -> None:
    """Sign a raw binary, or sign an existing image again with another key.

    An existing image keeps header, payload and protected records; only hash, key and signature are
    replaced.
    """
    with explained():
        content = read_file(source)
        if content.startswith(_MAGIC_BYTES):
            given = {
                "--version": version,
                "--security-counter": security_counter,
                "--dependency": dependency or None,
                "--header-size": header_size,
            }
            for option, value in given.items():
                if value is not None:
                    raise UnusableInput(
                        f"{source}: is an image already and keeps what it says of itself; "
                        f"{option} is for raw binaries"
                    )
            data = resign_image(content, read_signing_key(key))
            if slot_size is not None and len(data) > slot_capacity(slot_size):
                raise UnusableInput(
                    f"{source}: signed it has {len(data)} bytes, "
                    f"the slot has room for {slot_capacity(slot_size)}"
                )
        elif version is None:
            raise UnusableInput(f"{source}: is a raw binary; give its --version")
        else:
            data = _wrap(source, key, version, security_counter, dependency, header_size, slot_size)
        write_file(out, data)
        _report_written(out, data)


@app.command()
def inspect(
    image: Annotated[Path, typer.Argument(help="Image, .swu or .mender to look at.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what an image, or a package and the image in it, says of itself.

    Trusts nothing and needs no key.
    """
    with explained():
        data = read_file(image)
        if (package := open_package(data, Target())) is not None:
            _inspect_package(image, package, as_json)
            return
        content = as_source(data)
        description = describe_image(content, decode_image(content))
        if as_json:
            typer.echo(json.dumps({"file": str(image), **description}, indent=2))
        else:
            _wide_console().print(render_image(str(image), description))


@app.command()
def verify(
    image: Annotated[Path, typer.Argument(help="Image, .swu or .mender to judge.")],
    key: Annotated[
        list[Path], typer.Option("--key", help="Trusted key, PEM; a private one will do.")
    ],
    slot_size: Annotated[int, typer.Option("--slot-size", parser=parse_size, metavar="SIZE")] = 1
    << 20,
    security_counter: Annotated[
        int,
        typer.Option(
            "--security-counter",
            parser=parse_number,
            metavar="N",
            help="What the device has stored.",
        ),
    ] = 0,
    running: Annotated[
        Version | None,
        typer.Option(
            "--running", parser=parse_version, metavar="1.2.3+4", help="What the device runs."
        ),
    ] = None,
    prevent_downgrade: Annotated[
        bool, typer.Option("--prevent-downgrade", help="Refuse what is older than --running.")
    ] = False,
    package_key: Annotated[
        list[Path] | None,
        typer.Option("--package-key", help="Trusted key of the package around the image, PEM."),
    ] = None,
    hardware: Annotated[
        Hardware | None,
        typer.Option(
            "--hardware", parser=parse_hardware, metavar="BOARD:REVISION", help="For a .swu."
        ),
    ] = None,
    software_set: Annotated[
        str, typer.Option("--software-set", metavar="SET,MODE", help="For a .swu.")
    ] = "",
    device_type: Annotated[
        str, typer.Option("--device-type", metavar="TYPE", help="For a .mender.")
    ] = "",
    artifact_name: Annotated[
        str, typer.Option("--artifact-name", metavar="NAME", help="What the device runs.")
    ] = "",
) -> None:
    """Judge an image as a device would before it installs it.

    Of a .swu or .mender the package is judged first: its signature by --package-key, its checksums
    always, whom it is for by --hardware or --device-type. Then the image inside.
    """
    with explained():
        keys = read_trusted_keys(key)
        data = read_file(image)
        package_keys = read_trusted_keys(package_key).keys if package_key else ()
        target = Target(package_keys, hardware, software_set, device_type, artifact_name)
        if (package := open_package(data, target)) is not None:
            data = package.image
        info = verify_image(as_source(data), keys, slot_capacity(slot_size))
        # Without the running version nobody can say whether a dependency is met.
        judged = info if running is not None else dataclasses.replace(info, dependencies=())
        check_policy(
            judged,
            security_counter=security_counter,
            running=running,
            prevent_downgrade=prevent_downgrade,
        )
        signer = next(k for k in keys.keys if k.key_hash == info.key_hash)
        typer.echo(
            f"ok: {image}: version {info.version}, {info.total_size:,} bytes, "
            f"digest {info.digest.hex()}, signed with {signer.kind.value} {info.key_hash.hex()}"
        )
        if running is None and info.dependencies:
            needs = ", ".join(map(str, info.dependencies))
            typer.echo(f"note: needs {needs}, which only --running lets me judge", err=True)
        if package is not None:
            for note in _not_judged(package, target):
                typer.echo(f"note: {note}", err=True)


@app.command()
def keygen(
    out: Annotated[Path, typer.Argument(help="Private key file to make (PEM, mode 0600).")],
    kind: Annotated[KeyType, typer.Option("--type")] = KeyType.ECDSA_P256,
    public: Annotated[
        Path | None, typer.Option("--public", help="Also write the public key here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Make a signing key."""
    with explained():
        if public is not None and public.absolute() == out.absolute():
            raise UnusableInput(f"{out}: private and public key cannot be the same file")
        if not force:
            # Both before either is written: half a pair would be in the way of the next try.
            refuse_existing(out, public)
        made = generate_key(kind)
        write_file(out, made.to_pem(), 0o600)
        if public is not None:
            write_file(public, made.public.to_pem())
        typer.echo(f"{out}: {kind.value} key {made.public.key_hash.hex()}")


app.command()(swu)
app.command()(mender)


def _inspect_package(path: Path, package: Opened, as_json: bool) -> None:
    around = describe_package(package)
    content = as_source(package.image)
    try:
        inside = describe_image(content, decode_image(content))
        refused = None
    except ImageRefused as error:
        # A package of somebody else's: what it wraps may be anything.
        inside, refused = None, str(error)
    if as_json:
        shown = {"file": str(path), "package": around, "image": inside, "image_refused": refused}
        typer.echo(json.dumps(shown, indent=2))
        return
    console = _wide_console()
    console.print(Text(str(path), style="bold underline"), render_package(around), Text())
    if inside is None:
        console.print(Text(f"inside is no MCUboot image: {refused}"))
    else:
        console.print(render_image(f"inside: {around['filename']}", inside))


def _not_judged(package: Opened, target: Target) -> list[str]:
    notes = []
    if not target.keys:
        state = "signed, and only --package-key lets me judge by whom"
        notes.append(f"the package is {state if package.facts.signed else 'not signed'}")
    if package.kind == "swu" and target.hardware is None:
        notes.append("whom the package is for is judged only with --hardware")
    if package.kind == "mender" and not target.device_type:
        notes.append("whom the package is for is judged only with --device-type")
    return notes


def _wide_console() -> Console:
    """Never narrower than a digest: piped output must not lose half of what it says."""
    console = Console()
    return Console(width=max(console.width, 108))


def _wrap(
    payload: Path,
    key: Path | None,
    version: Version,
    security_counter: int | None,
    dependencies: list[Dependency] | None,
    header_size: int | None,
    slot_size: int | None,
) -> bytes:
    signer = read_signing_key(key) if key is not None else None
    content = read_file(payload)
    if not content:
        raise UnusableInput(f"{payload}: is empty")
    return build_image(
        content,
        version=version,
        key=signer,
        security_counter=security_counter,
        dependencies=dependencies or (),
        header_size=DEFAULT_HEADER_SIZE if header_size is None else header_size,
        capacity=None if slot_size is None else slot_capacity(slot_size),
    )


def _report_written(path: Path, data: bytes) -> None:
    layout = decode_image(as_source(data))
    typer.echo(f"{path}: version {layout.header.version}, {len(data):,} bytes")
