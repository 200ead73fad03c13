"""The drivers that come with the project, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.errors import UnknownName
from tools.drivers import goosebit, hawkbit, mender, thingsboard
from tools.drivers.api import ApiTuning
from tools.drivers.base import Driver, DriverSettings, Secrets, drivers
from tools.drivers.errors import BadOption

__all__ = ["known_drivers", "make_driver"]

_MODULES = (goosebit, hawkbit, mender, thingsboard)
"""Importing a module registers its driver."""


SHORTEST_ANSWER = 10.0
"""Seconds. However short the run, a server may take so long to store what it is sent."""


def known_drivers() -> list[str]:
    return drivers.names()


def make_driver(
    name: str,
    server: str,
    *,
    suffix: str,
    environment: Mapping[str, str],
    options: Mapping[str, str],
    duration: float | None = None,
) -> Driver:
    """A driver of the server at `server`, with the secrets of the environment; nothing is sent. A
    run of so many seconds waits no longer for one answer.

    Raises BadOption for a name that is no driver, and what the driver itself objects to."""
    try:
        maker = drivers.get(name)
    except UnknownName as error:
        raise BadOption(str(error)) from None
    secrets = Secrets.from_environment(name, environment)
    tuning = ApiTuning()
    if duration is not None:
        answer = min(tuning.answer, max(duration, SHORTEST_ANSWER))
        tuning = replace(tuning, answer=answer)
    return maker(DriverSettings(server, secrets, suffix, dict(options), tuning=tuning))
