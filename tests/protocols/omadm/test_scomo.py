"""SCOMO: components from download to deactivation, their reports, failures, power cuts."""

from __future__ import annotations

import hashlib

import pytest

from agent.faults import FaultPlan
from agent.files import files_of
from agent.outcome import Outcome
from protocols.omadm.descriptor import CONTENT_TYPE
from protocols.omadm.fumo_tables import Trouble
from protocols.omadm.model import Add, Command, Exec, Get, Item, Meta, Replace
from protocols.omadm.scomo import ScomoOrder
from protocols.omadm.scomo_tables import OPERATIONS, RESULTS, Kind, Operation, result_code
from tests.protocols.omadm.dm_world import FILES, World, run
from tests.protocols.omadm.musts import musts

DOWNLOAD = "./SCOMO/Download/app"
DELIVERED = "./SCOMO/Inventory/Delivered/app"
DEPLOYED = "./SCOMO/Inventory/Deployed/app"
CONFIG = b"interval = 5\n" * 100


def component(url: str = f"{FILES}/app.conf") -> list[Command]:
    """What makes the node of a download."""
    text = Meta(format="chr", type="text/plain")
    leaves = {"PkgID": "app-7", "Name": "An app", "PkgURL": url}
    return [
        Add("", (Item(target=DOWNLOAD, meta=Meta(format="node")),)),
        *(
            Add("", (Item(target=f"{DOWNLOAD}/{name}", meta=text, data=value),))
            for name, value in leaves.items()
        ),
    ]


def execute(base: str, operation: str, correlator: str | None = "s-1") -> Exec:
    return Exec("", (Item(target=f"{base}/Operations/{operation}"),), correlator=correlator)


def get(*uris: str) -> list[Command]:
    return [Get("", (Item(target=uri),)) for uri in uris]


def reports(world: World) -> list[tuple[str, str, str | None]]:
    """(Source, Data, Correlator) of each OperationComplete."""
    return [
        (str(alert.items[0].source), str(alert.items[0].data), alert.correlator)
        for session in world.server.sessions
        for alert in session.generic
        if alert.items[0].meta is not None
        and alert.items[0].meta.type == "urn:oma:at:scomo:1.0:OperationComplete"
    ]


def result(code: int) -> str:
    return f"<ResultCode>{code}</ResultCode><Identifier>app</Identifier>"


async def done(world: World, *packages: list[Command]) -> None:
    """A session, and the report of what it ordered."""
    before = len(reports(world))
    await world.session(*packages)
    await world.until(lambda: len(reports(world)) > before)
    await world.sleep(2.0)


async def shown(world: World, *uris: str) -> list[str]:
    await world.session(get(*uris))
    session = world.server.session
    found = {str(one.items[0].source): str(one.items[0].data) for one in session.results}
    return [found.get(uri, "") for uri in uris]


@musts("DM-159")
@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_result(outcome: Outcome) -> None:
    expected = {
        Outcome.SUCCESS: 1200,
        Outcome.CANCELLED: 1401,
        Outcome.DEFERRED: None,
        Outcome.NO_SPACE: 1404,
        Outcome.OUT_OF_MEMORY: 1406,
        Outcome.CONNECTION_LOST: 1402,
        Outcome.BAD_URI: 1402,
        Outcome.UNSUPPORTED_PROTOCOL: 1402,
        Outcome.INSTALL_FAILED: 1405,
        Outcome.REVERTED: 1405,
    }
    assert RESULTS[outcome] == expected.get(outcome, 1407)
    if outcome is not Outcome.DEFERRED:
        assert result_code(outcome) == RESULTS[outcome]
    assert result_code(Outcome.BAD_URI, Trouble.AUTHENTICATION) == 1403


def test_every_operation_has_a_plan() -> None:
    assert set(OPERATIONS) == set(Kind)
    assert {one for row in OPERATIONS.values() for one in row} == set(Operation)
    for row in OPERATIONS.values():
        for plan in row.values():
            assert plan.progressing != plan.failed != plan.done


def test_an_order_survives_its_record() -> None:
    told = (Kind.DOWNLOAD, "a", Operation.DOWNLOAD, None, "http://x")
    order = ScomoOrder(*told, result=1200, fetched=1200, size=7, sha256="ab")
    assert ScomoOrder.decode(order.encode()) == order
    for broken in (b"", b"{}", b"[1]", b'["x","a","Download",null,"",null,null]'):
        with pytest.raises(ValueError):
            ScomoOrder.decode(broken)


@musts("DM-157", "DM-158", "DM-159")
def test_the_life_of_a_component() -> None:
    async def story(world: World) -> None:
        world.files.files["/app.conf"] = ("text/plain", CONFIG)
        await world.until(lambda: world.client.registered)
        await done(world, [*component(), execute(DOWNLOAD, "Download")])
        assert await shown(
            world, f"{DOWNLOAD}/Status", f"{DELIVERED}/PkgID", f"{DELIVERED}/State", DEPLOYED
        ) == ["40", "app-7", "10", ""]
        await done(world, [execute(DELIVERED, "InstallInactive")])
        states = (f"{DEPLOYED}/State", f"{DELIVERED}/State", f"{DEPLOYED}/PkgIDRef")
        assert await shown(world, *states) == ["10", "20", "app-7"]
        await done(world, [execute(DEPLOYED, "Activate", None)])
        assert await shown(world, f"{DEPLOYED}/State", f"{DEPLOYED}/Name") == ["20", "An app"]
        await done(world, [execute(DEPLOYED, "Deactivate")])
        assert await shown(world, f"{DEPLOYED}/State") == ["10"]
        await done(world, [execute(DEPLOYED, "Remove")])
        await done(world, [execute(DELIVERED, "Remove")])
        assert await shown(world, "./SCOMO/Inventory/Deployed", DELIVERED) == ["", ""]

    world = run(story)
    told = reports(world)
    assert told[0] == (f"{DOWNLOAD}/Operations/Download", result(1200), "s-1")
    assert {data for _, data, _ in told} == {result(1200)}
    assert [correlator for _, _, correlator in told] == ["s-1", "s-1", None, "s-1", "s-1", "s-1"]


@musts("DM-158")
@pytest.mark.parametrize(
    ("operation", "state"), [("DownloadInstall", "20"), ("DownloadInstallInactive", "10")]
)
def test_all_at_once(operation: str, state: str) -> None:
    async def story(world: World) -> None:
        world.files.files["/app.conf"] = ("text/plain", CONFIG)
        await world.until(lambda: world.client.registered)
        await done(world, [*component(), execute(DOWNLOAD, operation)])
        assert await shown(world, f"{DEPLOYED}/State", f"{DELIVERED}/State") == [state, "20"]

    assert reports(run(story))[0][1] == result(1200)


def test_by_descriptor() -> None:
    dd = (
        '<media xmlns="http://www.openmobilealliance.org/xmlns/dd"><type>text/plain</type>'
        f"<size>{len(CONFIG)}</size><objectURI>app.conf</objectURI>"
        "<installNotifyURI>/notify</installNotifyURI></media>"
    )

    async def story(world: World) -> None:
        world.files.files["/app.conf"] = ("text/plain", CONFIG)
        world.files.files["/app.dd"] = (CONTENT_TYPE, dd.encode())
        await world.until(lambda: world.client.registered)
        await done(world, [*component(f"{FILES}/app.dd"), execute(DOWNLOAD, "Download")])

    world = run(story)
    assert reports(world)[0][1] == result(1200)
    assert world.files.notified == ["900 Success"]


@musts("DM-158", "DM-159")
@pytest.mark.parametrize(
    ("url", "size", "status", "code"),
    [
        (f"{FILES}/missing", 0, 0, 1402),
        ("ftp://files.test/x", 0, 0, 1402),
        ("http://gone.test/x", 0, 0, 1402),
        (f"{FILES}/app.conf", 5 << 20, 0, 1404),
        (f"{FILES}/app.conf", 10, 403, 1403),
    ],
)
def test_what_goes_wrong(url: str, size: int, status: int, code: int) -> None:
    async def story(world: World) -> None:
        world.files.files["/app.conf"] = ("text/plain", b"x" * size)
        if status:
            world.files.on_get = lambda method, path, headers: (status, {})
        await world.until(lambda: world.client.registered)
        await done(world, [*component(url), execute(DOWNLOAD, "Download")])
        assert await shown(world, f"{DOWNLOAD}/Status", DELIVERED) == ["20", ""]

    assert reports(run(story))[0][1] == result(code)


def test_while_busy_and_without_a_url() -> None:
    async def story(world: World) -> None:
        world.files.files["/app.conf"] = ("text/plain", CONFIG)
        await world.until(lambda: world.client.registered)
        await world.session(
            [
                *component(""),
                execute(DOWNLOAD, "Download"),
            ]
        )
        assert world.server.session.code("Exec") == [405]
        meta = Meta(format="chr", type="text/plain")
        url = Item(target=f"{DOWNLOAD}/PkgURL", meta=meta, data=f"{FILES}/app.conf")
        await world.session(
            [Replace("", (url,)), execute(DOWNLOAD, "Download"), execute(DOWNLOAD, "Download")],
            get(f"{DOWNLOAD}/Status"),
        )
        busy = next(one for one in world.server.sessions if one.code("Replace"))
        assert busy.code("Exec") == [202, 405]
        assert str(busy.results[0].items[0].data) == "30"
        await world.until(lambda: bool(reports(world)))

    run(story)


@pytest.mark.parametrize("at", range(1, 40))
def test_power_cuts_at_flash_operations(at: int) -> None:
    async def story(world: World) -> None:
        world.files.files["/app.conf"] = ("text/plain", CONFIG)
        for _ in range(6):
            client = world.client_or_none()
            if client is not None and not reports(world):
                world.server.packages = [
                    [*component(), execute(DOWNLOAD, "DownloadInstall", "s-9")]
                ]
                client.check_now()
            await world.sleep(120.0)
        assert reports(world)
        assert await shown(world, f"{DEPLOYED}/State", f"{DELIVERED}/State") == ["20", "20"]
        digests = [file.sha256 for file in files_of(world.device.nvm)]
        assert digests == [hashlib.sha256(CONFIG).hexdigest()]

    world = run(story, faults=FaultPlan(cut_power_at=at, outage_seconds=5.0), strict=False)
    assert {data for _, data, _ in reports(world)} == {result(1200)}
    # A cut before it is noted that the report got through: it comes again, at least once it does.
    assert 1 <= len(reports(world)) <= 2
