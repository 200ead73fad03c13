"""What tests of single sessions share."""

from __future__ import annotations

from protocols.omadm.model import (
    Get,
    Item,
    Meta,
)
from tests.protocols.omadm.dm_server import Session
from tests.protocols.omadm.dm_world import World, run


def chr_item(uri: str, data: str) -> Item:
    return Item(target=uri, meta=Meta(format="chr", type="text/plain"), data=data)


def get(*uris: str) -> Get:
    return Get("", tuple(Item(target=uri) for uri in uris))


def ended(world: World) -> tuple[str, str]:
    """Phase and cause of the last session's end."""
    return [(new, cause) for machine, _, new, cause in world.events if machine == "session"][-1]


def one_session(*packages: object, **arguments: object) -> tuple[World, Session]:
    """What a session of these packages left behind."""

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session(*packages)

    world = run(story, **arguments)  # type: ignore[arg-type]
    return world, world.server.session
