"""What a device really has of its components, beside what its inventory says: the audit's truth."""

from __future__ import annotations

import hashlib

import pytest

from agent.files import InstalledFile, files_of
from protocols.omadm.model import Add, Command, Delete, Item, Meta, Replace
from tests.protocols.omadm.dm_world import FILES, World, run
from tests.protocols.omadm.musts import musts
from tests.protocols.omadm.session_parts import chr_item
from tests.protocols.omadm.test_scomo import (
    CONFIG,
    DELIVERED,
    DEPLOYED,
    DOWNLOAD,
    done,
    execute,
    reports,
    result,
    shown,
)

NEWER = b"interval = 9\n" * 120


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def truth(version: str, content: bytes, *, active: bool = True) -> InstalledFile:
    return InstalledFile("An app", version, "", len(content), sha256(content), active)


def ordered(content: bytes, version: str, *, again: bool = False) -> list[Command]:
    """The node of a download as the reference backend writes it."""
    leaves = {
        "PkgID": sha256(content),
        "Name": "An app",
        "Description": version,
        "PkgURL": f"{FILES}/app.conf",
    }
    write = Replace if again else Add
    commands = [write("", (chr_item(f"{DOWNLOAD}/{leaf}", text),)) for leaf, text in leaves.items()]
    node = Add("", (Item(target=DOWNLOAD, meta=Meta(format="node")),))
    return commands if again else [node, *commands]


def serve(world: World, content: bytes) -> None:
    world.files.files["/app.conf"] = ("text/plain", content)


def has(world: World) -> tuple[InstalledFile, ...]:
    return files_of(world.device.nvm)


@musts("DM-157")
def test_what_is_installed_is_what_arrived() -> None:
    async def story(world: World) -> None:
        serve(world, CONFIG)
        await world.until(lambda: world.client.registered)
        await done(world, [*ordered(CONFIG, "7"), execute(DOWNLOAD, "DownloadInstallInactive")])
        assert has(world) == (truth("7", CONFIG, active=False),)
        assert await shown(world, f"{DEPLOYED}/Version") == ["7"]
        await done(world, [execute(DEPLOYED, "Activate")])
        assert has(world) == (truth("7", CONFIG),)
        # A newer one is here, and the older one is what is installed.
        serve(world, NEWER)
        await done(world, [*ordered(NEWER, "8", again=True), execute(DOWNLOAD, "Download")])
        assert has(world) == (truth("7", CONFIG),)
        await done(world, [execute(DELIVERED, "Install")])
        assert has(world) == (truth("8", NEWER),)
        await done(world, [execute(DEPLOYED, "Deactivate")])
        assert has(world) == (truth("8", NEWER, active=False),)
        await done(world, [execute(DELIVERED, "Remove")])
        assert has(world) == (truth("8", NEWER, active=False),)
        await done(world, [execute(DEPLOYED, "Remove")])
        assert has(world) == ()

    assert {data for _, data, _ in reports(run(story))} == {result(1200)}


@musts("DM-159")
@pytest.mark.parametrize("operation", ["Download", "DownloadInstall"])
def test_bytes_that_are_not_those_of_the_digest_are_not_delivered(operation: str) -> None:
    """The right size, the right descriptor, and another content."""

    async def story(world: World) -> None:
        serve(world, CONFIG[:-1] + b"!")
        await world.until(lambda: world.client.registered)
        await done(world, [*ordered(CONFIG, "7"), execute(DOWNLOAD, operation)])
        assert has(world) == ()
        assert await shown(world, f"{DOWNLOAD}/Status", DELIVERED) == ["20", ""]

    assert [data for _, data, _ in reports(run(story))] == [result(1407)]


def test_an_install_keeps_the_digest_over_a_loss_of_power() -> None:
    async def story(world: World) -> None:
        serve(world, CONFIG)
        await world.until(lambda: world.client.registered)
        await done(world, [*ordered(CONFIG, "7"), execute(DOWNLOAD, "Download")])
        world.device.power_off()
        await world.sleep(5.0)
        world.device.power_on()
        await world.until(lambda: world.client_or_none() is not None and world.client.registered)
        await done(world, [execute(DELIVERED, "Install")])
        assert has(world) == (truth("7", CONFIG),)

    run(story)


def test_a_component_for_which_there_is_no_room_is_told() -> None:
    async def story(world: World) -> None:
        serve(world, CONFIG)
        await world.until(lambda: world.client.registered)
        codes = []
        for number in range(6):
            base = f"./SCOMO/Download/c{number}"
            url = f"{FILES}/app.conf"
            await done(
                world,
                [
                    Add("", (Item(target=base, meta=Meta(format="node")),)),
                    Add("", (chr_item(f"{base}/PkgURL", url),)),
                    execute(base, "DownloadInstall"),
                ],
                # What is on its way no more need not take room.
                [Delete("", (Item(target=base),))],
            )
            codes.append(reports(world)[-1][1])
        assert any("1404" in code for code in codes), codes
        installed = sum("1200" in code for code in codes)
        assert len(has(world)) == installed > 0

    run(story)
