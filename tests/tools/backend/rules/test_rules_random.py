"""Campaigns of four kinds, and everything that can happen to them, in a random order drawn from a
seed: after each step the counts agree with the devices, and in the end everything is over."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.tools.backend.campaigns.test_campaign_edits import dates, ids
from tests.tools.backend.campaigns.test_campaign_v1_plans import DmFace
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, engine, request, turn
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FILE_V2_OMADM, FIRMWARE_V1, FIRMWARE_V1_LWM2M, FIRMWARE_V3
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Ending, FaceEvent, FaceKind, Position
from tools.backend.timing import DAY, HOUR, date_text

STEPS = 120
CELLS = ("a", "b", "")
WINDOWS = ((), ((0, 6),), ((3, 5), (20, 24)))


class Scene:
    """A backend, its devices, and what may happen next."""

    def __init__(self, backend: Backend, face: FakeFace, names: list[str], seed: int) -> None:
        self.backend, self.draw = backend, random.Random(seed)
        self.file = ""
        self.meters, self.modems = names[:7], names[7:]
        self.faces = {"LWM2M": face, "OMADM": DmFace(backend)}
        self.where = {one: self.draw.choice(CELLS) for one in ids(names)}
        backend.engine.attach("OMADM", self.faces["OMADM"])
        backend.engine.cell_of = lambda device_id: self.where.get(device_id, "")
        backend.engine.cell_limit = lambda _cell: 2

    def some(self, names: list[str]) -> list[str]:
        return self.draw.sample(names, self.draw.randint(1, len(names)))

    def campaign(self) -> Campaign | None:
        campaigns = list(self.backend.engine.book.campaigns.values())
        return self.draw.choice(campaigns) if campaigns else None

    def asked(self) -> CampaignRequest:
        now = self.backend.time.now()
        start = self.draw.randint(0, 2)
        kind = self.draw.choice(
            [FIRMWARE_V1, FIRMWARE_V1_LWM2M, FIRMWARE_V3, FIRMWARE_V3, FILE_V2_OMADM]
        )
        omadm = "OMADM" in kind.protocols
        what: dict[str, object] = {}
        if kind is FIRMWARE_V1:
            what = {"package": "dm", "protocol": "OMADM"}
        elif kind is FILE_V2_OMADM:
            what = {"package": self.file, "version_to": "7", "protocol": "OMADM"}
        asked = replace(
            request(self.some(self.modems if omadm else self.meters)),
            kind=kind,
            start_date=date_text(now + start * DAY),
            end_date=date_text(now + (start + self.draw.randint(0, 3)) * DAY),
            windows=self.draw.choice(WINDOWS) if kind.version > 1 else (),
            concurrency=self.draw.choice([None, 1, 2]),
            auto_add=kind is FIRMWARE_V3 and self.draw.random() < 0.3,
        )
        return replace(asked, **what)  # type: ignore[arg-type]

    async def step(self) -> None:
        name = self.draw.choice(
            ["create", "append", "remove", "cancel", "stop", "redate", "release", "unqueue"]
            + ["attach", "detach", "version"] * 2
            + ["speak"] * 6
            + ["wait"] * 4
        )
        with contextlib.suppress(RequestRefused):
            await getattr(self, name)()
        await turn(self.backend, 1)
        self.check()

    # -- what can happen ---

    async def create(self) -> None:
        await self.backend.engine.create(self.asked())

    async def append(self) -> None:
        if campaign := self.campaign():
            await self.backend.engine.append(campaign, ids(self.some(self.meters + self.modems)))

    async def remove(self) -> None:
        if campaign := self.campaign():
            await self.backend.engine.remove(campaign, ids(self.some(self.meters + self.modems)))

    async def cancel(self) -> None:
        if campaign := self.campaign():
            await self.backend.engine.cancel(campaign)

    async def stop(self) -> None:
        if campaign := self.campaign():
            await self.backend.engine.cancel(campaign, customer=False)

    async def redate(self) -> None:
        if campaign := self.campaign():
            now = self.backend.time.now()
            end = date_text(now + self.draw.randint(0, 4) * DAY)
            start = self.draw.choice([campaign.start_date, date_text(now)])
            await self.backend.engine.redate(
                campaign, dates(campaign, start_date=start, end_date=end)
            )

    async def release(self) -> None:
        self.backend.engine.release(self.some(self.meters + self.modems)[:2])

    async def unqueue(self) -> None:
        await self.backend.engine.unqueue(self.draw.choice(self.modems))

    async def attach(self) -> None:
        name = self.draw.choice(self.meters + self.modems)
        self.faces["LWM2M"].here.add(name)
        [one] = ids([name])
        self.where[one] = self.draw.choice(CELLS)
        self.backend.engine.attached(one)

    async def detach(self) -> None:
        name = self.draw.choice(self.meters)
        self.faces["LWM2M"].here.discard(name)
        [one] = ids([name])
        self.where[one] = ""
        self.backend.engine.detached(one)

    async def version(self) -> None:
        name = self.draw.choice(self.meters + self.modems)
        event = FaceEvent(name, FaceKind.VERSION, version=self.draw.choice(["1.0.0", "2.0.0"]))
        self.backend.engine.face_event(event)

    async def speak(self) -> None:
        face = self.faces[self.draw.choice(["LWM2M", "OMADM"])]
        face.refuse = self.draw.random() < 0.05
        for name in list(face.orders)[:2]:
            kind = self.draw.choice(
                [FaceKind.PROGRESS, FaceKind.DOWNLOADED, FaceKind.INSTALLING, FaceKind.FINAL]
            )
            ending = self.draw.choice([Ending.SUCCESS, Ending.INTEGRITY, Ending.TIMEOUT])
            face.tell(name, kind, ending if kind is FaceKind.FINAL else None)
            await turn(self.backend, 1)

    async def wait(self) -> None:
        await turn(self.backend, self.draw.choice([60, HOUR, 5 * HOUR, 11 * HOUR, DAY]))

    # -- what holds ---

    def check(self) -> None:
        book, places = self.backend.engine.book, self.backend.engine.cells
        busy: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for campaign in book.campaigns.values():
            members = list(campaign.members.values())
            busy.update(member.device for member in members if member.active)
            held.update(member.cell for member in members if member.cell)
            unfinished = [m for m in members if not (m.final or m.queued)]
            assert campaign.unfinished == len(unfinished), (campaign, members)
            assert campaign.active == sum(member.active for member in members), campaign
            for member in members:
                assert member.queued == (book.queued.get(member.device) is member), member
                assert not (member.final and member.active) or member.status == states.ABORTED
                assert (member.position is Position.DONE) or not (
                    member.final and not member.active
                ), member
                assert book.holds(member) == (not member.final or member.active), member
            over = self.backend.time.now() > campaign.ends + HOUR
            assert campaign.final or not over, campaign
        assert all(count == 1 for count in busy.values()), busy
        for cell in CELLS[:2]:
            assert places.active(cell) == held[cell] <= 2, cell


@rules("BR-044", "BR-063", "BR-078", "BR-080", "BR-090")
@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_counts_agree_and_everything_ends(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    illegal: list[str] = []
    lookup = states.next_state

    def watched(table: object, state: object, event: object) -> object:
        try:
            return lookup(table, state, event)  # type: ignore[arg-type]
        except states.IllegalTransition as error:
            illegal.append(str(error))
            raise

    monkeypatch.setattr(states, "next_state", watched)

    @virtual
    async def scene() -> None:
        async with engine(devices=11, timing="documented") as (backend, face, _fw, names):
            await backend.add_package(b"x" * 100, name="dm", version="2.0.0", protocol="OMADM")
            await backend.load_devices([{"name": n, "protocol": "OMADM"} for n in names[7:]])
            play = Scene(backend, face, names, seed)
            file = await backend.add_file(b"a=1", filename="f", version="7", protocol="OMADM")
            play.file = file.name
            for _ in range(STEPS):
                await play.step()
                assert illegal == []
            await turn(backend, 12 * DAY)
            play.check()
            engine_of = backend.engine
            assert all(campaign.final for campaign in engine_of.book.campaigns.values())
            assert not any(
                m.active for c in engine_of.book.campaigns.values() for m in c.members.values()
            )
            assert backend.finished.is_set()

    scene()
