"""The client as a whole: sessions, firmware updates, schedules, in virtual time."""

from __future__ import annotations

from tests.protocols.omadm.dm_world import DEVICE, FUMO, World, order, run


def test_download_and_update_by_a_strict_server() -> None:
    async def story(world: World) -> None:
        world.server.packages.append(order())
        await world.until(lambda: bool(world.reports()))
        await world.sleep(5.0)
        assert world.client.registered

    world = run(story)
    first, *_, last = world.server.sessions
    assert first.codes == [1201]
    assert first.devinfo["DevId"] == DEVICE
    assert first.code("Replace") == [200]
    assert first.code("Exec") == [202]
    (report,) = world.reports()
    assert last.generic == [report]
    assert report.correlator == "c-1"
    assert report.items[0].source == FUMO
    assert report.items[0].data == "200"
    assert report.items[0].meta is not None
    assert report.items[0].meta.format == "int"
    assert world.version == "2.0.0"
    assert world.told == [
        ("urn:imei:490154203237518", "updated", "result 200, answered 200", "2.0.0")
    ]
