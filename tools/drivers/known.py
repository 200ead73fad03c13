"""The drivers that come with the project, by name."""

from __future__ import annotations

from collections.abc import Mapping

from agent.errors import UnknownName
from tools.drivers import goosebit, hawkbit, mender, thingsboard
from tools.drivers.base import Driver, DriverSettings, Secrets, drivers
from tools.drivers.errors import BadOption

__all__ = ["known_drivers", "make_driver"]

_MODULES = (goosebit, hawkbit, mender, thingsboard)
"""Importing a module registers its driver."""


def known_drivers() -> list[str]:
    return drivers.names()


def make_driver(
    name: str,
    server: str,
    *,
    suffix: str,
    environment: Mapping[str, str],
    options: Mapping[str, str],
) -> Driver:
    """A driver of the server at `server`, with the secrets of the environment; nothing is sent.

    Raises BadOption for a name that is no driver, and what the driver itself objects to."""
    try:
        maker = drivers.get(name)
    except UnknownName as error:
        raise BadOption(str(error)) from None
    secrets = Secrets.from_environment(name, environment)
    return maker(DriverSettings(server, secrets, suffix, dict(options)))
