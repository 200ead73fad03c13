"""Every rule of licences, on a store, in virtual time; campaigns are scripted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.tools.backend.licence_office import (
    ACCOUNT,
    IMEI,
    OTHER,
    Office,
    device,
    ids,
    office,
)
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual
from tools.backend.errors import RequestRefused, StoreError
from tools.backend.inventory import EVENT_BILLED, MONTHLY_BILLED, Device
from tools.backend.licences import rows
from tools.backend.licences.service import MAX_LICENCES, Licences

BOTH = f"{EVENT_BILLED},{MONTHLY_BILLED}"


class Member:
    """As much of a campaign's device as an observer looks at."""

    class campaign:
        account = ACCOUNT


def upgrade_ended(licences: Licences) -> None:
    licences.member_changed(Member(), "UpgradePending")  # type: ignore[arg-type]


# -- assignment ---


@rules("BR-118")
@virtual
async def test_an_empty_pool_fails_its_device_and_no_other() -> None:
    async with office(total=3) as place:
        assert await place.assigned(0, 99, 1, 2, 3, 0) == [
            "assigned",
            "unknown device",
            "assigned",
            "assigned",
            "pool empty",
        ]
        assert place.holders() == place.stored() == [0, 1, 2]


@rules("BR-118")
@virtual
async def test_a_device_that_has_a_licence_is_counted_once() -> None:
    async with office(total=2) as place:
        await place.assigned(0)
        before = next(place.licences.from_index(ACCOUNT, 0))
        assert await place.assigned(0, 1, 0) == ["preexisting", "assigned"]
        assert next(place.licences.from_index(ACCOUNT, 0)) == before
        assert place.licences.used(ACCOUNT) == place.count() == 2


@virtual
async def test_a_device_of_somebody_else_is_unknown() -> None:
    async with office(devices=2) as place:
        assert await place.assigned(1002) == ["unknown device"]
        assert place.licences.used(OTHER) == 0


@virtual
async def test_two_calls_at_once_never_share_a_place() -> None:
    async with office(total=5) as place:
        first, second = await asyncio.gather(place.assigned(0, 1, 2, 3), place.assigned(4, 5, 6, 7))
        assert first == ["assigned"] * 4
        assert second == ["assigned"] + ["pool empty"] * 3
        assert place.stored() == [0, 1, 2, 3, 4]


@virtual
async def test_a_place_is_taken_again_when_its_removal_is_stored() -> None:
    async with office(total=1) as place:
        await place.assigned(0)
        gone, early = await asyncio.gather(place.removed(0), place.assigned(1))
        assert (gone, early) == (["removed"], ["pool empty"])
        assert await place.assigned(1) == ["assigned"]
        assert place.stored() == [1]


@pytest.mark.parametrize(
    ("device_ids", "words"),
    [
        ([], "Device list is empty"),
        (["12"], "Invalid device id format"),
        ([str(IMEI), "35000000000000x"], "Invalid device id format"),
    ],
)
@virtual
async def test_a_list_that_is_refused_changes_nothing(device_ids: list[str], words: str) -> None:
    async with office() as place:
        for call in (
            place.licences.assign(place.account, device_ids),
            place.licences.remove(place.account, device_ids),
            place.licences.list_candidates(place.account, device_ids, append=True),
        ):
            with pytest.raises(RequestRefused, match=words):
                await call
        assert place.count() == 0
        assert place.listed() == []


# -- removal ---


@rules("BR-121")
@virtual
async def test_only_an_unused_licence_is_removed() -> None:
    async with office(total=5) as place:
        await place.assigned(0, 1, 2)
        await place.runtime.clock.sleep(60)
        place.inventory.devices[device(0).name].upgraded = place.time.now()
        place.campaigns.running.add(device(1).name)
        await place.runtime.clock.sleep(60)
        assert await place.removed(0, 1, 2, 3, 99) == [
            "upgraded since the assignment",
            "upgrade in progress",
            "removed",
            "not licensed",
            "unknown device",
        ]
        assert place.holders() == place.stored() == [0, 1]
        # The upgrade that was scheduled for it and had not begun is cancelled.
        assert place.campaigns.released == [device(2).name]


@virtual
async def test_an_upgrade_before_the_assignment_does_not_hold_a_licence() -> None:
    async with office() as place:
        place.inventory.devices[device(0).name].upgraded = place.time.now()
        await place.runtime.clock.sleep(1)
        await place.assigned(0)
        assert await place.removed(0) == ["removed"]


@virtual
async def test_the_licence_of_a_device_that_got_another_id_can_be_removed() -> None:
    async with office() as place:
        await place.assigned(0)
        place.inventory.add_device(replace(device(0), device_id=str(IMEI + 50)))
        assert await place.removed(0) == ["removed"]


@virtual
async def test_who_needs_no_licence_keeps_what_is_scheduled() -> None:
    async with office(purchase_type=BOTH) as place:
        await place.assigned(0)
        await place.removed(0)
        assert place.campaigns.released == []


# -- who may take part ---


@pytest.mark.parametrize(
    ("purchase_type", "licensed", "reason"),
    [
        (MONTHLY_BILLED, False, "No license attached to device"),
        (MONTHLY_BILLED, True, ""),
        (EVENT_BILLED, False, ""),
        (BOTH, False, ""),
    ],
)
@virtual
async def test_only_purely_monthly_accounts_need_licences(
    purchase_type: str, licensed: bool, reason: str
) -> None:
    async with office(purchase_type=purchase_type) as place:
        if licensed:
            await place.assigned(0)
        found = place.inventory.devices[device(0).name]
        assert place.licences.barred(found) == reason
        assert place.licences.holds(found.device_id) is licensed
        found.line = "suspend"
        assert "not in active state" in place.licences.barred(found)


# -- assignment by a campaign ---


@virtual
async def test_a_campaign_assigns_to_all_of_its_devices_or_to_none() -> None:
    async with office(total=3) as place:
        await place.assigned(0)
        devices = list(place.inventory.devices.values())
        assert not place.granted(devices[:4])
        assert place.holders() == [0]
        assert place.granted([*devices[:3], devices[2]])
        assert place.holders() == [0, 1, 2]
        assert place.stored() == [0]  # and what is submitted now is stored afterwards:
        assert await place.writer.read(lambda _connection: place.licences.used(ACCOUNT)) == 3
        assert place.stored() == [0, 1, 2]
        assert place.granted(devices[:3])  # all of them have one
        assert place.stored() == [0, 1, 2]


@virtual
async def test_an_event_billed_account_has_nothing_to_assign() -> None:
    async with office(total=0, purchase_type=EVENT_BILLED) as place:
        assert place.granted([device(0)])
        await place.writer.flushed()
        assert place.count() == 0


# -- subscription and release ---


@rules("BR-122")
@virtual
async def test_a_smaller_subscription_releases_the_list_first_then_the_oldest() -> None:
    async with office(total=6) as place:
        await place.assigned(0, 1, 2, 3, 4, 5)
        await place.licences.list_candidates(place.account, ids(4, 9, 2), append=False)
        await place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 3)
        assert place.holders() == place.stored() == [1, 3, 5]
        assert place.campaigns.released == [device(number).name for number in (4, 2, 0)]
        # An entry stays on the list until that is replaced or deleted.
        assert list(place.licences.candidates(place.account)) == ids(4, 9, 2)


@rules("BR-124")
@virtual
async def test_a_running_upgrade_finishes_with_its_licence() -> None:
    async with office(total=4) as place:
        await place.assigned(0, 1, 2, 3)
        place.campaigns.running.add(device(0).name)
        await place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 2)
        assert place.holders() == [0, 2, 3]
        assert await place.assigned(5) == ["pool empty"]
        upgrade_ended(place.licences)  # another one's
        await place.runtime.clock.sleep(1)
        assert place.holders() == [0, 2, 3]
        place.campaigns.running.clear()
        upgrade_ended(place.licences)
        assert place.holders() == [0, 2, 3]  # the engine has not finished yet
        await place.runtime.clock.sleep(1)
        assert place.holders() == place.stored() == [2, 3]


@virtual
async def test_a_subscription_that_grows_again_keeps_the_licence_of_a_running_upgrade() -> None:
    async with office(total=2) as place:
        await place.assigned(0, 1)
        place.campaigns.running.add(device(0).name)
        await place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 1)
        await place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 2)
        place.campaigns.running.clear()
        upgrade_ended(place.licences)
        await place.runtime.clock.sleep(1)
        assert place.holders() == [0, 1]


@virtual
async def test_a_release_goes_on_after_a_restart() -> None:
    async with office(total=4) as place:
        await place.assigned(0, 1, 2, 3)
        place.campaigns.running.update({device(0).name, device(1).name})
        await place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 2)
        assert place.holders() == [0, 1, 2, 3]
        place.campaigns.running.clear()
        place.open()
        await place.runtime.clock.sleep(1)
        assert place.holders() == place.stored() == [2, 3]


@virtual
async def test_nobody_is_assigned_what_a_subscription_is_about_to_lose_or_to_get() -> None:
    async with office(total=2) as place:
        shrunk, results = await asyncio.gather(
            place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 1), place.assigned(0, 1)
        )
        assert (shrunk.licence_count, results) == (1, ["assigned", "pool empty"])
        grown, results = await asyncio.gather(
            place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 9), place.assigned(1)
        )
        assert (grown.licence_count, results) == (9, ["pool empty"])


@virtual
async def test_a_subscription_is_kept_and_dated() -> None:
    async with office(total=2) as place:
        await place.runtime.clock.sleep(5)
        now = place.time.now()
        await place.licences.set_subscription(ACCOUNT, f"{MONTHLY_BILLED}, {EVENT_BILLED}", 7)
        place.open()
        account = place.account
        assert (account.purchase_type, account.licence_count, account.subscribed) == (BOTH, 7, now)
        assert account.secret == "secret"


@pytest.mark.parametrize(
    ("name", "purchase_type", "count"),
    [
        ("nobody", MONTHLY_BILLED, 1),
        (ACCOUNT, "TS-HFOTA-YEARLY", 1),
        (ACCOUNT, MONTHLY_BILLED, -1),
        (ACCOUNT, MONTHLY_BILLED, MAX_LICENCES + 1),
    ],
)
@virtual
async def test_a_subscription_that_is_refused(name: str, purchase_type: str, count: int) -> None:
    async with office(total=2) as place:
        with pytest.raises(RequestRefused):
            await place.licences.set_subscription(name, purchase_type, count)
        assert place.account.licence_count == 2


# -- cancellation list ---


@virtual
async def test_the_cancellation_list_is_appended_to_replaced_and_deleted() -> None:
    async with office() as place:
        change, account = place.licences.list_candidates, place.account
        assert list(await change(account, ids(3, 1, 3), append=True)) == ids(3, 1)
        assert list(await change(account, ids(1, 2), append=True)) == ids(3, 1, 2)
        assert place.listed() == [3, 1, 2]
        assert list(await change(account, ids(2, 5), append=False)) == ids(2, 5)
        assert place.listed() == [2, 5]
        place.open()
        assert list(place.licences.candidates(account)) == ids(2, 5)
        with pytest.raises(RequestRefused, match="does not exist"):
            await change(account, ids(7, 99), append=False)
        await place.licences.clear_candidates(account)
        assert (place.listed(), dict(place.licences.candidates(account))) == ([], {})
        await place.licences.clear_candidates(account)


@virtual
async def test_changes_of_a_list_come_one_after_the_other() -> None:
    async with office() as place:
        change = place.licences.list_candidates
        await asyncio.gather(
            *(change(place.account, ids(number), append=True) for number in range(5))
        )
        assert place.listed() == [0, 1, 2, 3, 4]


@virtual
async def test_only_a_monthly_subscription_has_a_cancellation_list() -> None:
    async with office(purchase_type=EVENT_BILLED) as place:
        with pytest.raises(RequestRefused, match="no monthly subscription"):
            await place.licences.list_candidates(place.account, ids(1), append=True)
        with pytest.raises(RequestRefused, match="no monthly subscription"):
            await place.licences.clear_candidates(place.account)
        with pytest.raises(RequestRefused, match="no monthly subscription"):
            place.licences.candidates(place.account)
        await place.licences.set_subscription(ACCOUNT, BOTH, 3)
        await place.licences.list_candidates(place.account, ids(1), append=True)
        await place.licences.set_subscription(ACCOUNT, EVENT_BILLED, 3)
        assert place.listed() == []


# -- what cannot be stored ---


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make one kind of change fail in the store."""

    def spoil(name: str) -> None:
        def fail(*_arguments: object, **_named: object) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(rows, name, fail)

    return spoil


@virtual
async def test_an_assignment_that_is_not_stored_is_undone(broken: Any) -> None:
    async with office(total=2) as place:
        await place.assigned(0)
        broken("put_licences")
        with pytest.raises(StoreError, match="disk is full"):
            await place.assigned(1, 2)
        assert place.holders() == place.stored() == [0]
        assert place.granted([device(3)])
        await place.writer.flushed()
        assert place.holders() == [0]


@virtual
async def test_a_removal_that_is_not_stored_is_undone(broken: Any) -> None:
    async with office(total=3) as place:
        await place.assigned(0, 1, 2)
        broken("drop_licences")
        with pytest.raises(StoreError):
            await place.removed(0)
        assert place.holders() == place.stored() == [0, 1, 2]
        with pytest.raises(StoreError):
            await place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 1)
        assert place.account.licence_count == 1
        assert place.holders() == [0, 1, 2]
        upgrade_ended(place.licences)
        await place.runtime.clock.sleep(1)
        assert place.holders() == [0, 1, 2]


@virtual
async def test_a_subscription_and_a_list_that_are_not_stored_stay_as_they_were(broken: Any) -> None:
    async with office(total=3) as place:
        await place.licences.list_candidates(place.account, ids(1), append=True)
        broken("write_subscription")
        broken("write_list")
        with pytest.raises(StoreError):
            await place.licences.set_subscription(ACCOUNT, EVENT_BILLED, 1)
        with pytest.raises(StoreError):
            await place.licences.list_candidates(place.account, ids(2), append=True)
        with pytest.raises(StoreError):
            await place.licences.clear_candidates(place.account)
        assert place.account.licence_count == 3
        assert list(place.licences.candidates(place.account)) == ids(1)
        assert await place.assigned(0, 1, 2) == ["assigned"] * 3


# -- monitoring ---


class Watching:
    """Writes down what it is told, and whether the store knew it by then."""

    def __init__(self, place: Office) -> None:
        self.place = place
        self.seen: list[tuple[str, str, int]] = []

    def licence_assigned(self, device: Device) -> None:
        self.seen.append(("assigned", device.device_id, self.place.count()))

    def licence_released(self, device: Device) -> None:
        self.seen.append(("released", device.device_id, self.place.count()))


@virtual
async def test_who_monitors_is_told_after_the_commit() -> None:
    async with office(total=2) as place:
        watching = Watching(place)
        place.licences.watchers.append(watching)
        await place.assigned(0)
        place.granted([device(1)])
        await place.writer.flushed()
        await place.removed(0)
        await place.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 0)
        first, second = ids(0, 1)
        assert watching.seen == [
            ("assigned", first, 1),
            ("assigned", second, 2),
            ("released", first, 1),
            ("released", second, 0),
        ]
