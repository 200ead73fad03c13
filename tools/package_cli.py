"""`fotilla image swu` and `fotilla image mender`: wrap a signed image for the servers that take
nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_images import ImageRefused, UnusableInput, as_source
from firmware_images.mcuboot import decode_image
from firmware_images.mender import ROOTFS_IMAGE, Compression, build_artifact
from firmware_images.swu import (
    Hardware,
    SignatureForm,
    build_swu,
    load_certificate,
    self_signed,
)
from tools.image_files import (
    KEY_FILE_LIMIT,
    explained,
    read_file,
    read_signing_key,
    write_file,
)

__all__ = ["mender", "parse_hardware", "swu"]

_COMPRESSIONS = {"none": Compression.NONE, "gzip": Compression.GZIP, "lzma": Compression.LZMA}

ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="MCUboot image to wrap.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Where to write the package.")]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key", help="Private key for the package, PEM, RSA or ECDSA; without it: unsigned."
    ),
]
FilenameOption = Annotated[
    str, typer.Option("--filename", metavar="NAME", help="Of the image inside the package.")
]


def parse_hardware(text: str | Hardware) -> Hardware:
    if isinstance(text, Hardware):
        return text
    try:
        return Hardware.parse(text)
    except UnusableInput as error:
        raise typer.BadParameter(str(error)) from None


def parse_compression(text: str | Compression) -> Compression:
    if isinstance(text, Compression):
        return text
    if text not in _COMPRESSIONS:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(_COMPRESSIONS)}")
    return _COMPRESSIONS[text]


def swu(
    image: ImageArgument,
    out: OutOption,
    hardware: Annotated[
        list[Hardware],
        typer.Option(
            "--hardware",
            parser=parse_hardware,
            metavar="BOARD:REVISION",
            help="Whom it is for; repeatable.",
        ),
    ],
    version: Annotated[
        str, typer.Option("--version", metavar="TEXT", help="Default: the image's.")
    ] = "",
    name: Annotated[str, typer.Option("--name", metavar="TEXT")] = "firmware",
    filename: FilenameOption = "firmware.bin",
    software_set: Annotated[
        str,
        typer.Option(
            "--software-set", metavar="SET,MODE", help="Also under this name, as in stable,main."
        ),
    ] = "",
    path: Annotated[
        str,
        typer.Option("--path", metavar="PATH", help="File that SWUpdate is to write it to."),
    ] = "",
    key: KeyOption = None,
    form: Annotated[
        SignatureForm,
        typer.Option("--signature", help="What the device's SWUpdate was built for."),
    ] = SignatureForm.CMS,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="Of the key, PEM, for CMS; default: made for it."),
    ] = None,
    write_certificate: Annotated[
        Path | None,
        typer.Option("--write-certificate", help="Write the one made, for `swupdate -k`."),
    ] = None,
) -> None:
    """Wrap an image into a .swu for SWUpdate, hawkBit and gooseBit."""
    with explained():
        if key is None and (certificate is not None or write_certificate is not None):
            raise UnusableInput("a certificate is of no use without --key")
        if certificate is not None and write_certificate is not None:
            raise UnusableInput("give --certificate or have one made, not both")
        content, own_version = _read_image(image)
        signer = read_signing_key(key) if key is not None else None
        given = (
            load_certificate(read_file(certificate, KEY_FILE_LIMIT), str(certificate))
            if certificate is not None
            else None
        )
        package = build_swu(
            content,
            version=version or own_version,
            hardware=hardware,
            name=name,
            filename=filename,
            software_set=software_set,
            path=path,
            key=signer,
            form=form,
            certificate=given,
        )
        write_file(out, package)
        if signer is not None and write_certificate is not None:
            write_file(write_certificate, self_signed(signer).public_bytes(Encoding.PEM))
        _report(out, version or own_version, package, signed=signer is not None)


def mender(
    image: ImageArgument,
    out: OutOption,
    name: Annotated[str, typer.Option("--name", metavar="ARTIFACT", help="Name of the artifact.")],
    device_type: Annotated[
        list[str],
        typer.Option("--device-type", metavar="TYPE", help="Whom it is for; repeatable."),
    ],
    payload_type: Annotated[
        str, typer.Option("--payload-type", metavar="TYPE", help="Or an update module's name.")
    ] = ROOTFS_IMAGE,
    software_version: Annotated[
        str, typer.Option("--software-version", metavar="TEXT", help="Default: the image's.")
    ] = "",
    filename: FilenameOption = "firmware.bin",
    depends_name: Annotated[
        list[str] | None,
        typer.Option("--depends-name", metavar="ARTIFACT", help="Only onto this; repeatable."),
    ] = None,
    compression: Annotated[
        Compression,
        typer.Option("--compression", parser=parse_compression, metavar="none|gzip|lzma"),
    ] = Compression.GZIP,
    key: KeyOption = None,
) -> None:
    """Wrap an image into a Mender artifact, version 3."""
    with explained():
        content, own_version = _read_image(image)
        signer = read_signing_key(key) if key is not None else None
        package = build_artifact(
            content,
            name=name,
            device_types=device_type,
            payload_type=payload_type,
            filename=filename,
            software_version=software_version or own_version,
            depends_names=depends_name or (),
            compression=compression,
            key=signer,
        )
        write_file(out, package)
        _report(out, name, package, signed=signer is not None)


def _read_image(path: Path) -> tuple[bytes, str]:
    """The image and its version. A package around anything else would be refused by each device."""
    content = read_file(path)
    try:
        return content, str(decode_image(as_source(content)).header.version)
    except ImageRefused as refused:
        raise UnusableInput(f"{path}: is no MCUboot image ({refused})") from None


def _report(path: Path, what: str, package: bytes, *, signed: bool) -> None:
    kind = "signed" if signed else "not signed"
    typer.echo(f"{path}: {what}, {len(package):,} bytes, {kind}")
