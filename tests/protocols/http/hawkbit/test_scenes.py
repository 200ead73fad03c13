"""The recorded scenes in virtual time, against the state model of hawkBit."""

from __future__ import annotations

import pytest

from agent.runtime import run_virtual
from tests.protocols.http.hawkbit import scenes
from tests.protocols.http.hawkbit.world import world


@pytest.mark.parametrize("scene", scenes.SCENES, ids=lambda scene: scene.__name__)
def test_scene(scene: scenes.Scene) -> None:
    async def play() -> None:
        async with world(poll=1.0) as built:
            await scene(built)

    run_virtual(play())


@pytest.mark.parametrize("scene", scenes.CONFIRMATION, ids=lambda scene: scene.__name__)
def test_confirmation(scene: scenes.Scene) -> None:
    async def play() -> None:
        async with (
            world(poll=1.0) as built,
            built.setting("user.confirmation.flow.enabled", True),
        ):
            await scene(built)

    run_virtual(play())
