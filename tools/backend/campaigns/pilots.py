"""Pilots: what has not been proven on a few devices does not go to many.

A campaign of v2 or v3 has at most `PILOT_SIZE` devices until, in one campaign of the same key, 5 to
20 devices have a result and at least half of them are updated [documented]. That lifts the limit
for good: also when later devices of that campaign fail, or when more join it than a pilot may have.
So it is asked whether there *was* such a moment, by the instants of the results, which a restart
knows as well as we do.

Rejected, cancelled and never-tried devices do not count; ours, as is the key: account, name,
version before and version after, over all versions of the API. A file and a firmware of one name
are two things.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from tools.backend.campaigns.kinds import Lock
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.campaigns.states import FAILED, REJECTED, SUCCESS
from tools.backend.refusals import Refusal
from tools.backend.timing import PILOT_SIZE

__all__ = ["PILOT_MIN", "Pilots", "check_pilot", "was_good_pilot"]

PILOT_MIN = 5
"""Devices with a result that a pilot needs to count [documented]."""

Key = tuple[Lock, str, str, str, str]


def _key(wanted: CampaignRequest | Campaign) -> Key:
    return (
        wanted.kind.lock,
        wanted.account,
        wanted.package,
        wanted.version_from,
        wanted.version_to,
    )


def _results(campaign: Campaign) -> Iterator[tuple[float, bool]]:
    """(instant, whether it was updated) of every device that has a result."""
    for member in campaign.members.values():
        if member.attempts and member.status in (SUCCESS, FAILED):
            yield member.updated, member.status == SUCCESS


def was_good_pilot(campaign: Campaign) -> bool:
    """Whether there was a moment at which the campaign was a pilot that succeeded."""
    first = heapq.nsmallest(PILOT_SIZE + 1, _results(campaign))
    count = good = 0
    for _instant, results in groupby(first, key=itemgetter(0)):
        for _at, updated in results:
            count += 1
            good += updated
        if PILOT_MIN <= count <= PILOT_SIZE and 2 * good >= count:
            return True
    return False


class Pilots:
    """What has been proven."""

    __slots__ = ("_proven",)

    def __init__(self) -> None:
        self._proven: set[Key] = set()

    def needed(self, wanted: CampaignRequest | Campaign, earlier: Iterable[Campaign]) -> bool:
        """Whether a campaign may not be large yet. v1 knows no pilots."""
        if wanted.kind.version == 1:
            return False
        key = _key(wanted)
        if key not in self._proven and any(
            _key(campaign) == key and was_good_pilot(campaign) for campaign in earlier
        ):
            self._proven.add(key)
        return key not in self._proven

    def look_again(self, campaign: Campaign) -> None:
        """A device of a campaign is gone, perhaps with a result: a restart would not know it."""
        self._proven.discard(_key(campaign))


def check_pilot(accepted: int) -> None:
    """Refuse a large campaign of a firmware that no pilot has proven yet."""
    if accepted > PILOT_SIZE:
        raise Refusal.PILOT_FIRST(least=PILOT_MIN, most=PILOT_SIZE)


def taken(campaign: Campaign) -> int:
    """How many devices a campaign has that it did not reject."""
    return sum(member.status != REJECTED for member in campaign.members.values())
