"""What an operator puts into a backend: packages, files, devices and what they log in with."""

from __future__ import annotations

import abc
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from agent.credentials import Credential
from tools.backend.callbacks.service import Callbacks
from tools.backend.campaigns.engine import CampaignEngine
from tools.backend.config import BackendConfig
from tools.backend.errors import RequestRefused
from tools.backend.faces.omadm import OmadmFace
from tools.backend.faces.omadm_accounts import AUTH_TYPES
from tools.backend.inventory import ConfigFile, Device, Firmware, Inventory
from tools.backend.loading import DEFAULT_MAKE, DEFAULT_MODEL, DeviceLoader
from tools.backend.refusals import Refusal
from tools.backend.store import rows as store
from tools.backend.store.writer import Writer
from tools.backend.timing import BackendTime

MAX_PACKAGE = 64 << 20
"""Bytes of one firmware package; the limit of the files API, taken over."""

MAX_NAME = 128
"""Characters of a firmware name; likewise."""

MAX_VERSION = 255
"""Characters of a version, as the object model of LwM2M and the device wire have them."""

_NO_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")
"""What the name of a file never has, wherever a device or a user may put it."""


class Administration(abc.ABC):
    """The calls that change inventory and catalogue; part of `Backend`. What they take in is
    durable when they return."""

    config: BackendConfig
    inventory: Inventory
    time: BackendTime
    loader: DeviceLoader

    @property
    @abc.abstractmethod
    def writer(self) -> Writer: ...

    @property
    @abc.abstractmethod
    def engine(self) -> CampaignEngine: ...

    @property
    @abc.abstractmethod
    def omadm(self) -> OmadmFace: ...

    @property
    @abc.abstractmethod
    def callbacks(self) -> Callbacks: ...

    async def add_package(
        self,
        content: bytes,
        *,
        name: str,
        version: str,
        version_from: str = "",
        account: str | None = None,
        make: str = DEFAULT_MAKE,
        model: str = DEFAULT_MODEL,
        protocol: str = "LWM2M",
        release_note: str = "",
    ) -> Firmware:
        """Put a firmware package into the catalogue, durably. Raises RequestRefused."""
        if not content:
            raise RequestRefused("The firmware is empty")
        if len(content) > MAX_PACKAGE:
            raise RequestRefused(f"The firmware is larger than {MAX_PACKAGE} bytes", status=413)
        if not 0 < len(name) <= MAX_NAME:
            raise RequestRefused(f"A firmware name has 1 to {MAX_NAME} characters")
        if not 0 < len(version) <= MAX_VERSION or len(version_from) > MAX_VERSION:
            raise RequestRefused(f"A firmware version has 1 to {MAX_VERSION} characters")
        firmware = Firmware(
            account=account or self.config.account,
            name=name,
            version_from=version_from,
            version_to=version,
            make=make,
            model=model,
            protocol=protocol,
            release_note=release_note,
            launched=self.time.now(),
            digest=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )

        def write(connection: Connection) -> None:
            row = {"digest": firmware.digest, "body": content}
            connection.execute(store.PUT_CONTENT, row)
            connection.execute(store.PUT_PACKAGE, store.row_of(firmware))

        known = self.inventory.packages.get((firmware.account, name))
        if known is None or replace(known, launched=firmware.launched) != firmware:
            self.callbacks.announce(firmware)
        await self.writer.submit(write)
        self.inventory.packages[firmware.account, firmware.name] = firmware
        return firmware

    async def add_file(
        self,
        content: bytes,
        *,
        filename: str,
        version: str,
        account: str | None = None,
        make: str = DEFAULT_MAKE,
        model: str = DEFAULT_MODEL,
        path: str = "",
        name: str | None = None,
        protocol: str = "HTTP",
    ) -> ConfigFile:
        """Take in a configuration file for devices that speak `protocol`, durably. `name`
        identifies it, and is made from make, model and `filename` for a new one; the same name
        again replaces content and version. Raises RequestRefused."""
        if len(content) > MAX_PACKAGE:
            raise Refusal.BODY_TOO_LARGE(limit=MAX_PACKAGE)
        if not 0 < len(filename) <= MAX_NAME:
            raise Refusal.FILE_NAME(limit=MAX_NAME)
        file = ConfigFile(
            account=account or self.config.account,
            name=name or _NO_NAME.sub("_", f"configfile-{make}_{model}_{filename}"),
            version_to=version,
            make=make,
            model=model,
            protocol=protocol,
            path=path,
            launched=self.time.now(),
            digest=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )

        def write(connection: Connection) -> None:
            connection.execute(store.PUT_CONTENT, {"digest": file.digest, "body": content})
            connection.execute(store.PUT_FILE, store.row_of(file))

        await self.writer.submit(write)
        self.inventory.files[file.account, file.name] = file
        return file

    async def mint_tokens(self, names: Iterable[str]) -> dict[str, str]:
        """A fresh bearer token for each of these devices, which speak HTTP from now on. Only a hash
        is kept, so this is the one time that a token can be read. Raises RequestRefused."""
        tokens = {name: secrets.token_urlsafe(24) for name in dict.fromkeys(names)}
        for name in tokens:
            if name not in self.inventory.devices:
                raise RequestRefused(f"Device {name[:64]!r} does not exist.")
        await self.load_devices(
            {**self._record_of(name), "token": token} for name, token in tokens.items()
        )
        return tokens

    async def mint_dm_accounts(
        self, names: Iterable[str], auth: str = "md5"
    ) -> dict[str, Credential]:
        """A fresh DM account for each of these devices, which speak OMA-DM from now on: what a
        bootstrap would bring them, with the server's password as `token`. The server's id is
        `fotilla`; `auth` is how both sides show who they are: none, basic, md5 or hmac. This is the
        one time that the secrets can be read. Raises RequestRefused."""
        wanted = list(dict.fromkeys(names))
        if auth not in AUTH_TYPES:
            raise RequestRefused(f"auth is one of {', '.join(AUTH_TYPES)}, not {auth[:64]!r}")
        for name in wanted:
            if name not in self.inventory.devices:
                raise RequestRefused(f"Device {name[:64]!r} does not exist.")
        await self.load_devices({**self._record_of(name), "protocol": "OMADM"} for name in wanted)
        return await self.omadm.mint(wanted, auth)

    def _record_of(self, name: str) -> dict[str, Any]:
        """A device as `load_devices` takes it."""
        device = self.inventory.devices[name]
        return {
            "name": name,
            "deviceId": device.device_id,
            "account": device.account,
            "make": device.make,
            "model": device.model,
            "delivery": device.delivery,
        }

    async def load_devices(self, records: Iterable[Mapping[str, Any]]) -> list[Device]:
        """Load the inventory, durably: mappings with `name`, `deviceId` or both, and optionally
        `make`, `model`, `firmware`, `delivery`, `account`, `protocol` (one of
        `known_protocols`), `token` (the bearer token of an HTTP device, kept as a hash), `mdn`,
        `line` (active or suspend).
        What is absent stays as it was. Raises RequestRefused with nothing loaded."""
        return await self.loader.load(records)
