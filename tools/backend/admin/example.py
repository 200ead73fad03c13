"""`fotilla backend --example`: something to look at and to try things on.

Two accounts, 200 devices of three protocols, three signed firmwares, five cells. It is put in once:
what is there already, from a former start, stays as it is. Next to the database's content there is
a folder with what devices need: the images, the public key of their signature, and what HTTP and
OMA-DM devices log in with, so that `fotilla run` can play the devices.
"""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.credentials import Credential
from firmware_images.keys import KeyType
from firmware_images.mcuboot import Version, build_image
from tools.backend.errors import StoreError
from tools.backend.faces.known import known_faces
from tools.backend.inventory import EVENT_BILLED, MONTHLY_BILLED, Account
from tools.backend.store import rows as store
from tools.fleet.factory import derived_key, payload

if TYPE_CHECKING:
    from tools.backend.backend import Backend

FOLDER = "fotilla-example"
READY = "ready.json"
PUBLIC_KEY = "firmware-key.pem"

SECOND = "0000000000-00002"
FIRST_IMEI = 990_000_100_000_000
"""No reporting body 99 hands out real IMEIs."""

IMAGE_SIZE = 48 << 10
"""Bytes: a download that can be watched, and is over soon."""

CELLS = {"north": 5, "east": 10, "south": 20, "west": 20, "harbour": 2}
"""Capacity by name."""

ATTACHED_EVERY = 2
"""Every other LwM2M device is known to the operator network from the start."""

LICENSED = 20
"""Devices of the second account that have a licence; it is billed by the month."""

LICENCES = 50

MODE = 0o600
FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of one protocol and account, with the firmware for them."""

    protocol: str
    second: bool
    """Whether they are the second account's."""
    count: int
    scheme: str
    make: str
    model: str
    firmware: str
    version: Version


GROUPS = (
    Group("LWM2M", False, 100, "urn:imei", "acme", "meter", "meter-fw", Version(2, 0, 0, 0)),
    Group("HTTP", True, 60, "urn:imei", "acme", "gateway", "gateway-fw", Version(3, 1, 0, 0)),
    Group("OMADM", True, 40, "IMEI", "acme", "tracker", "tracker-fw", Version(1, 4, 0, 0)),
)


async def load_example(backend: Backend, folder: Path, ready_file: Path | None) -> list[str]:
    """Put in what is missing of the example; returns lines that tell people what to do with it.
    Raises BackendError, and OSError for the folder."""
    folder.mkdir(FOLDER_MODE, exist_ok=True)
    await _accounts(backend)
    key = derived_key(KeyType.ECDSA_P256, 0, "example")
    _write(folder / PUBLIC_KEY, key.public.to_pem())
    first = FIRST_IMEI
    for number, group in enumerate(GROUPS):
        account = SECOND if group.second else backend.account.name
        names = [f"{group.scheme}:{first + index}" for index in range(group.count)]
        await _devices(backend, group, account, names, first)
        image = build_image(
            payload(IMAGE_SIZE, 0, number + 1), version=group.version, key=key, security_counter=1
        )
        if (account, group.firmware) not in backend.inventory.packages:
            await backend.add_package(
                image,
                name=group.firmware,
                version=str(group.version),
                account=account,
                make=group.make,
                model=group.model,
                protocol=group.protocol,
                release_note="Example",
            )
        _write(folder / f"{group.firmware}.bin", image)
        await _credentials(backend, group, names, folder)
        first += group.count
    await _network(backend)
    await _licences(backend)
    return list(_told(backend, folder, ready_file))


async def _accounts(backend: Backend) -> None:
    if SECOND in backend.inventory.accounts:
        return
    account = Account(
        SECOND,
        secrets.token_urlsafe(24),
        pilot_waived=True,
        purchase_type=MONTHLY_BILLED,
        licence_count=LICENCES,
        subscribed=backend.time.now(),
    )
    row = store.row_of(account)
    await backend.writer.submit(lambda connection: connection.execute(store.PUT_ACCOUNT, row))
    backend.inventory.accounts[SECOND] = account


async def _devices(
    backend: Backend, group: Group, account: str, names: list[str], first: int
) -> None:
    known = backend.inventory.devices
    await backend.load_devices(
        {
            "name": name,
            "deviceId": str(first + index),
            "account": account,
            "make": group.make,
            "model": group.model,
            "protocol": group.protocol,
            "mdn": f"1555{first + index - FIRST_IMEI:07d}",
            "delivery": "pull" if index % 2 else "push",
        }
        for index, name in enumerate(names)
        if name not in known
    )


async def _credentials(backend: Backend, group: Group, names: list[str], folder: Path) -> None:
    """What these devices log in with; fresh only when the file of a former start is gone."""
    path = credentials_file(folder, group)
    if group.protocol == "LWM2M" or path.exists():
        return
    if group.protocol == "HTTP":
        tokens = await backend.mint_tokens(names)
        minted: Mapping[str, Credential] = {
            name: Credential(token=token) for name, token in tokens.items()
        }
    else:
        minted = await backend.mint_dm_accounts(names)
    with os.fdopen(_opened(path), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "token", "username", "password"))
        for name, one in minted.items():
            writer.writerow((name, one.token, one.username, one.password))


async def _network(backend: Backend) -> None:
    known = backend.operator.cells.own()
    for cell, capacity in CELLS.items():
        if cell not in known:
            await backend.operator.cells.set(cell, capacity)
    cells = list(CELLS)
    for index in range(0, GROUPS[0].count, ATTACHED_EVERY):
        device = str(FIRST_IMEI + index)
        if backend.operator.attachment(device) is None:
            cell = cells[index // ATTACHED_EVERY % len(cells)]
            # Nobody sends them short messages, so the address is one that goes nowhere.
            await backend.operator.attach(device, cell, ("192.0.2.1", 9))


async def _licences(backend: Backend) -> None:
    account = backend.inventory.accounts[SECOND]
    if backend.licences.used(SECOND) or account.purchase_type == EVENT_BILLED:
        return
    first = FIRST_IMEI + GROUPS[0].count
    ids = [str(first + index) for index in range(LICENSED)]
    await backend.licences.assign(account, ids)


def credentials_file(folder: Path, group: Group) -> Path:
    """Where `fotilla run --credentials` finds what a group logs in with."""
    return folder / f"{group.protocol.lower()}-credentials.csv"


def _opened(path: Path) -> int:
    """A new file, for its owner only."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _write(path: Path, content: bytes) -> None:
    if not path.exists():
        with os.fdopen(_opened(path), "wb") as file:
            file.write(content)


def _told(backend: Backend, folder: Path, ready_file: Path | None) -> Iterator[str]:
    count = sum(group.count for group in GROUPS)
    yield (
        f"example: accounts {backend.account.name} and {SECOND}, {count} devices, "
        f"{len(GROUPS)} firmwares, {len(CELLS)} cells"
    )
    if ready_file is not None:
        yield f"example: secrets of the accounts and the administrator's token: {ready_file}"
        yield (
            "example: to log in, POST /api/ts/v1/oauth2/token with an account and its secret; "
            f"or fotilla admin --ready-file {ready_file} accounts list"
        )
    yield "example: to play the devices, one command for those of each protocol:"
    for group in GROUPS:
        yield f"example:   {_run(backend, group, folder, ready_file)}"
    yield (
        "example: they wait for campaigns, which an account makes as docs/backend.md shows; "
        f"{LICENSED} of the devices of {SECOND} have the licence that they need"
    )


def _run(backend: Backend, group: Group, folder: Path, ready_file: Path | None) -> str:
    """The command that plays the devices of a group."""
    face = next(name for name, one in known_faces().items() if one.protocol == group.protocol)
    words = [f"fotilla run --protocol {face} --server {backend.url(face)} --devices {group.count}"]
    if group.protocol == "LWM2M":
        first, digits = str(FIRST_IMEI), len(str(group.count))
        words.append(f"--names '{group.scheme}:{first[:-digits]}{{index:0{digits}d}}'")
    else:
        known = credentials_file(folder, group)
        words.append(f"--names {known} --credentials {known}")
    if ready_file is not None and group.protocol == "OMADM":
        # Only these must be woken; the others come by themselves.
        words.append(f"--operator {ready_file} --account {SECOND}")
    words.append(f"--image {folder / group.firmware}.bin --key {folder / PUBLIC_KEY}")
    return " ".join(words)
