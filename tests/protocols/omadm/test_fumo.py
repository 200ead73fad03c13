"""Firmware updates: the tables, every outcome over the wire, and power cuts at every message."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent.credentials import Credential
from agent.faults import FaultPlan
from agent.outcome import Outcome
from agent.runtime.wheel import Timer
from agent.update import TRANSITIONS as ENGINE
from agent.update import State
from firmware_images.mcuboot import KeyType, Version, build_image, generate_key
from protocols.omadm.fumo_tables import (
    ALERT_TYPES,
    OPERATIONS,
    RESULTS,
    STATES,
    TRANSFER_OUTCOMES,
    TROUBLES,
    UNDER_WAY,
    Action,
    FumoState,
    Operation,
    Trouble,
    result_code,
)
from protocols.omadm.model import Alert, Get, Item
from protocols.omadm.order import Order
from tests.agent.parts import image
from tests.protocols.omadm.dm_server import BASIC, MAC, MD5, Large
from tests.protocols.omadm.dm_world import FILES, FUMO, NEW, SLOT, World, order, run
from tests.protocols.omadm.musts import musts

STATE = [Get("", (Item(target=f"{FUMO}/State"),))]


def states(world: World) -> list[str]:
    return [
        str(item.data)
        for session in world.server.sessions
        for one in session.results
        for item in one.items
        if item.source == f"{FUMO}/State"
    ]


# -- tables -------------------------------------------------------------------------------------


@musts("DM-149")
@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_result(outcome: Outcome) -> None:
    expected = {
        Outcome.SUCCESS: 200,
        Outcome.CANCELLED: 401,
        Outcome.DEFERRED: None,
        Outcome.NO_SPACE: 501,
        Outcome.OUT_OF_MEMORY: 502,
        Outcome.CONNECTION_LOST: 503,
        Outcome.INTEGRITY: 402,
        Outcome.SIGNATURE: 404,
        Outcome.WRONG_DEVICE: 403,
        Outcome.DOWNGRADE: 405,
        Outcome.DEPENDENCY: 405,
        Outcome.UNSUPPORTED_PACKAGE: 405,
        Outcome.BAD_URI: 411,
        Outcome.UNSUPPORTED_PROTOCOL: 411,
        Outcome.INSTALL_FAILED: 410,
        Outcome.REVERTED: 410,
    }
    assert RESULTS[outcome] == expected[outcome]
    for trouble in Trouble:
        finer = TROUBLES[trouble] if outcome in TRANSFER_OUTCOMES else None
        assert result_code(outcome, trouble) == (finer or expected[outcome])


@musts("DM-141")
def test_every_state_of_the_engine_shows() -> None:
    """Each (state, outcome) that the engine's table can reach has its number."""
    assert {state for state, _ in STATES} == set(State)
    running = {State.DOWNLOADING, State.INSTALLING, State.TRIAL}
    for state in State:
        outcomes: set[Outcome | None] = {None}
        if state is State.IDLE:
            outcomes |= set(Outcome) - {Outcome.DEFERRED}
        elif state is State.DOWNLOADED:
            outcomes |= {Outcome.DEFERRED, Outcome.INSTALL_FAILED, Outcome.REVERTED}
        assert {outcome for at, outcome in STATES if at is state} == outcomes
        assert (len(outcomes) == 1) == (state in running)
    assert set(ENGINE) == set(State)
    assert {one for one in STATES.values()} == set(FumoState) - {
        FumoState.READY_TO_UPDATE,
        FumoState.UPDATE_SUCCESSFUL_HAVE_DATA,
    }


@musts("DM-142")
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("operation", Operation)
def test_every_operation_has_an_answer(state: State, operation: Operation) -> None:
    status, action = OPERATIONS[state][operation]
    if operation in ALERT_TYPES:
        assert (status, action is Action.NONE) in ((202, False), (405, True))
        assert UNDER_WAY[operation].status == 405
    else:
        assert (status, action is Action.NONE) in ((200, False), (403, True))
    assert UNDER_WAY[operation].action is Action.NONE
    if state in (State.INSTALLING, State.TRIAL):
        assert action is Action.NONE


def test_an_order_survives_its_record() -> None:
    full = Order(
        Operation.DOWNLOAD,
        "./x/Download",
        "c\u00e4",
        "http://a/b",
        Trouble.TIMEOUT,
        12.5,
        "http://n",
    )
    assert Order.decode(full.encode()) == full
    plain = Order(Operation.UPDATE, "./x/Update")
    assert Order.decode(plain.encode()) == plain
    for broken in (b"", b"[]", b"{}", b"\xff", b'{"op":"Nothing"}'):
        with pytest.raises(ValueError):
            Order.decode(broken)


# -- outcomes over the wire ---------------------------------------------------------------------


def update(
    world: World, url: str = f"{FILES}/new.bin", operation: str = "DownloadAndUpdate"
) -> None:
    world.server.packages.append(order(url, operation))


def reported(
    url: str = f"{FILES}/new.bin",
    *,
    prepare: object = None,
    operation: str = "DownloadAndUpdate",
    **arguments: object,
) -> tuple[World, str]:
    """The result code of an update, and the world after it."""

    async def story(world: World) -> None:
        if callable(prepare):
            prepare(world)
        update(world, url, operation)
        await world.until(lambda: bool(world.reports()), 200_000.0)
        await world.sleep(30.0)
        await world.session(STATE)

    world = run(story, **arguments)  # type: ignore[arg-type]
    (report,) = world.reports()
    return world, str(report.items[0].data)


def put(name: str, data: bytes) -> object:
    def prepare(world: World) -> None:
        world.files.files[name] = ("application/octet-stream", data)

    return prepare


def refuse(status: int) -> object:
    def prepare(world: World) -> None:
        world.files.on_get = lambda method, path, headers: (status, {})

    return prepare


def gone(world: World) -> None:
    world.web.refuse(FILES)


CORRUPT = bytes([*NEW[:5000], NEW[5000] ^ 1, *NEW[5001:]])


@musts("DM-069", "DM-141", "DM-144", "DM-145")
@pytest.mark.parametrize(
    ("code", "state", "url", "prepare"),
    [
        ("402", "20", "/x", put("/x", CORRUPT)),
        ("405", "20", "/x", put("/x", image(1, 9000, 0))),
        ("405", "20", "/x", put("/x", b"no image at all" * 100)),
        ("501", "20", "/x", put("/x", b"x" * (SLOT + 1))),
        ("411", "20", "/missing", None),
        ("406", "20", "/x", refuse(401)),
        ("406", "20", "/x", refuse(403)),
        ("500", "20", "/x", refuse(503)),
        ("412", "20", "/x", gone),
    ],
)
def test_downloads_that_fail(code: str, state: str, url: str, prepare: object) -> None:
    world, result = reported(FILES + url, prepare=prepare)
    assert result == code
    assert states(world) == [state]
    assert world.version == "1.0.0"
    assert world.told == [
        ("urn:imei:490154203237518", "failed", f"result {code}, answered 200", "1.0.0")
    ]
    (report,) = world.reports()
    assert report.items[0].meta is not None
    assert report.items[0].meta.mark == "critical"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://files.test/x", "411"),
        ("no url", "411"),
        ("http://user@files.test/x", "411"),
        ("http://[", "411"),
    ],
)
def test_urls_that_cannot_be(url: str, code: str) -> None:
    assert reported(url)[1] == code


def test_a_stranger_signed_it() -> None:
    other = build_image(
        random.Random(3).randbytes(5000),
        version=Version(3, 0, 0, 0),
        key=generate_key(KeyType.ED25519),
        security_counter=3,
    )
    assert reported(f"{FILES}/x", prepare=put("/x", other))[1] == "404"


def test_a_server_that_never_answers_is_a_timeout() -> None:
    async def silent(scope: object, receive: object, send: object) -> None:
        await asyncio.get_running_loop().create_future()

    def prepare(world: World) -> None:
        world.web.serve(FILES, silent)  # type: ignore[arg-type]

    assert reported(prepare=prepare)[1] == "407"


@musts("DM-141")
@pytest.mark.parametrize(("keep", "state"), [(True, "70"), (False, "80")])
def test_a_reverted_image(keep: bool, state: str) -> None:
    world, result = reported(faults=FaultPlan(bad_boots=1), keep=keep)
    assert result == "410"
    assert states(world) == [state]
    assert world.version == "1.0.0"


def test_a_package_that_rots_in_the_slot() -> None:
    world, result = reported(faults=FaultPlan(corrupt_slot_page=20))
    assert result == "410"
    assert world.version == "1.0.0"


@musts("DM-141")
def test_success_and_the_personas_state() -> None:
    assert states(reported()[0]) == ["100"]


@musts("DM-140", "DM-146", "DM-147")
def test_download_then_update() -> None:
    async def story(world: World) -> None:
        update(world, operation="Download")
        await world.until(lambda: len(world.reports()) == 1)
        await world.session(STATE)
        await world.session(order(operation="Update", correlator=None))
        await world.until(lambda: len(world.reports()) == 2)

    world = run(story)
    first, second = world.reports()
    assert str(first.items[0].meta and first.items[0].meta.type).endswith("firmwareupdate.download")
    assert str(second.items[0].meta and second.items[0].meta.type).endswith("firmwareupdate.update")
    assert (first.correlator, second.correlator) == ("c-1", None)
    assert states(world) == ["40"]
    assert [one.items[0].data for one in world.reports()] == ["200", "200"]
    assert [verdict for _, verdict, _, _ in world.told] == ["updated"]
    assert world.version == "2.0.0"


@musts("DM-100")
def test_while_busy_everything_is_refused() -> None:
    async def story(world: World) -> None:
        update(world)
        await world.until(lambda: world.device.engine.state is State.DOWNLOADING)
        await world.session(
            [*order(), *order(operation="Download"), *order(operation="Update")],
            Large(f"{FUMO}/Update/PkgData", NEW, 5000),
            STATE,
        )
        await world.until(lambda: bool(world.reports()))

    world = run(story, bandwidth=1000.0)  # a minute
    busy = next(one for one in world.server.sessions if one.results)
    assert busy.code("Exec") == [405, 405, 405]
    assert busy.code("Replace", f"{FUMO}/Update/PkgData") == [403] * 13
    assert states(world) == ["30"]
    assert [one.items[0].data for one in world.reports()] == ["200"]


def test_nothing_to_do_is_refused() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session(order(url=""), order(operation="Update"))

    world = run(story)
    assert world.server.session.code("Exec") == [405, 405]
    assert world.device.engine.state is State.IDLE


@musts("DM-065")
def test_a_push_that_breaks_off_and_one_that_replaces() -> None:
    broken = Large(f"{FUMO}/Update/PkgData", NEW, 5000, broken_after=3)

    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session(broken, STATE)
        await world.session(Large(f"{FUMO}/Update/PkgData", NEW, 5000), STATE)
        await world.session(Large(f"{FUMO}/Update/PkgData", CORRUPT, 5000), STATE)
        await world.session(Large(f"{FUMO}/Update/PkgData", b"x" * (SLOT + 9), 9000), STATE)
        await world.session(Large(f"{FUMO}/Update/PkgData", NEW, 5000), order(operation="Update"))
        await world.until(lambda: bool(world.reports()))

    world = run(story, strict=False)
    assert states(world) == ["20", "50", "20", "20"]
    assert world.version == "2.0.0"
    pushes = [one.code("Replace") for one in world.server.sessions if one.code("Replace")]
    assert [one[-1] for one in pushes[1:]] == [200, 500, 420, 200]


# -- power cuts, loss ---------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("cut", range(1, 7))
def test_power_cuts_at_every_message(cut: int, before: bool) -> None:
    """The plug is pulled as message `cut` reaches the server, or as its answer reaches the
    device."""

    async def story(world: World) -> None:
        done: list[int] = []

        def on_request(count: int) -> None:
            if count == cut and not done:
                done.append(count)
                world.runtime.arm(timer, 0.0 if before else 0.021)

        timer = Timer(lambda now: world.device.cut_power(5.0))
        world.server.on_request = on_request
        update(world)
        await world.sleep(400.0)
        # An order whose message was cut off never reached the device, and an image on trial is
        # reverted by a power cut: the server gives the order again.
        if world.version != "2.0.0":
            world.client.check_now()
            update(world)
            await world.until(lambda: world.version == "2.0.0")
        await world.sleep(60.0)
        assert world.device.engine.state is State.IDLE
        assert not world.device.engine.report_pending
        assert world.client._fumo.book.order is None

    world = run(story, strict=False)
    codes = [str(one.items[0].data) for one in world.reports()]
    # Nothing is told twice but what the cut kept from being acknowledged.
    assert codes in (["200"], ["410", "200"], ["200", "200"])
    problems = [one for one in world.server.violations if "statuses" not in one]
    assert problems == []


@pytest.mark.parametrize("at", range(1, 260, 7))
def test_power_cuts_at_flash_operations(at: int) -> None:
    async def story(world: World) -> None:
        update(world)
        await world.until(lambda: bool(world.reports()) or (world.client_or_none() is None), 3000.0)
        for _ in range(3):
            await world.sleep(900.0)
            if world.version == "2.0.0" and world.reports():
                return
            if not world.server.packages:
                update(world)
            if world.client_or_none() is not None:
                world.client.check_now()
        await world.until(lambda: world.version == "2.0.0" and bool(world.reports()))

    world = run(story, faults=FaultPlan(cut_power_at=at, outage_seconds=5.0), strict=False)
    assert world.version == "2.0.0"
    assert world.reports()[-1].items[0].data == "200"


@musts("DM-154")
@pytest.mark.parametrize("offsets", [(1,), (30_000,), (65_000,), (10_000, 20_000, 59_999)])
def test_cut_downloads_go_on(offsets: tuple[int, ...]) -> None:
    world, result = reported(faults=FaultPlan(cut_downloads=offsets))
    assert result == "200"
    ranges = [headers.get("range") for method, _, headers in world.files.asked if method == "GET"]
    reached = [one for one in offsets if one < len(NEW)]
    assert [one for one in ranges if one] == [f"bytes={one}-" for one in reached]


def test_a_lost_answer_is_asked_for_again() -> None:
    """The connection breaks after the server acted: it gets the same message once more."""

    async def story(world: World) -> None:
        lost: list[int] = []

        def intervene(session: object, message: object) -> tuple[int, dict[str, str], bytes] | None:
            if world.server.requests % 2 == 1 and len(lost) < 4:
                lost.append(world.server.requests)
                return 502, {}, b""
            return None

        world.server.intervene = intervene  # type: ignore[assignment]
        update(world)
        await world.until(lambda: bool(world.reports()))

    world = run(story)
    assert world.version == "2.0.0"


def test_the_report_waits_for_a_server_that_is_gone() -> None:
    async def story(world: World) -> None:
        update(world)
        await world.until(lambda: world.device.engine.state is State.INSTALLING)
        app = world.server.app
        world.web.refuse("http://dm.test")
        await world.sleep(300.0)
        world.web.serve("http://dm.test", app)
        await world.until(lambda: bool(world.reports()), 2000.0)

    world = run(story)
    assert [one.items[0].data for one in world.reports()] == ["200"]


def test_a_trial_that_reaches_no_server_is_reverted() -> None:
    async def story(world: World) -> None:
        update(world)
        await world.until(lambda: world.device.engine.state is State.INSTALLING)
        app = world.server.app
        world.web.refuse("http://dm.test")
        await world.sleep(700.0)
        world.web.serve("http://dm.test", app)
        await world.until(lambda: bool(world.reports()), 4000.0)

    world = run(story)
    assert [one.items[0].data for one in world.reports()] == ["410"]
    assert world.version == "1.0.0"


@musts("DM-144")
def test_a_report_is_told_once_whatever_the_status() -> None:
    async def story(world: World) -> None:
        world.server.alert_code = 412
        update(world)
        await world.until(lambda: bool(world.reports()))
        for _ in range(3):
            await world.session(STATE)

    world = run(story)
    assert len(world.reports()) == 1


@musts("DM-144")
def test_reboots_do_not_repeat_a_report() -> None:
    async def story(world: World) -> None:
        update(world)
        await world.until(lambda: bool(world.reports()))
        await world.sleep(5.0)
        for _ in range(3):
            world.device.reboot("test")
            await world.sleep(30.0)

    assert len(run(story).reports()) == 1


def test_samsung_names_the_operation() -> None:
    async def story(world: World) -> None:
        world.server.packages.append(order(root="./FUMO"))
        await world.until(lambda: bool(world.reports()))

    world = run(story, options={"persona": "samsung"})
    item = world.reports()[0].items[0]
    assert item.source == "./FUMO/DownloadAndUpdate"
    assert item.meta is not None and item.meta.format == "chr"


def test_att_installs_twelve_hours_later() -> None:
    times: dict[str, float] = {}

    async def story(world: World) -> None:
        world.client.check_now()
        world.server.packages.append(order(root="./FwUpdate/Flash"))
        await world.until(lambda: world.device.engine.state is State.DOWNLOADED)
        times["downloaded"] = world.runtime.clock.now()
        assert world.device.engine.outcome is Outcome.DEFERRED
        await world.sleep(3600.0)
        world.device.reboot("in between")
        await world.until(lambda: world.device.engine.state is State.INSTALLING, 50_000.0)
        times["installed"] = world.runtime.clock.now()
        await world.until(lambda: bool(world.reports()), 50_000.0)
        await world.session([Get("", (Item(target="./FwUpdate/Flash/State"),))])

    world = run(story, options={"persona": "att"})
    assert times["installed"] - times["downloaded"] == pytest.approx(12 * 3600, abs=60)
    assert str(world.server.session.results[0].items[0].data) == "90"


@pytest.mark.parametrize("server_auth", [MD5, MAC, BASIC])
def test_an_image_on_trial_and_a_server_that_must_show_who_it_is(server_auth: str) -> None:
    names = {MD5: "md5", MAC: "hmac", BASIC: "basic"}
    world, result = reported(
        options={"server-auth": names[server_auth]},
        server={"server_auth": server_auth},
        credential=Credential("server secret", username="user", password="client secret"),
    )
    assert result == "200"
    assert len(world.server.sessions) <= 5


def test_a_server_that_aborts_everything_is_not_beset() -> None:
    async def story(world: World) -> None:
        update(world)
        await world.until(lambda: world.device.engine.state is State.INSTALLING)
        world.server.packages += [[Alert("", 1223)] for _ in range(1000)]
        await world.sleep(60.0)
        assert len(world.server.sessions) < 10

    run(story)
