"""Carrier profiles, after public traces of three US carriers' devices.

Each number stands in public documents or in the code of a client that shipped; where those are
silent the default persona's value stays. See `docs/omadm.md` for what each one does.
"""

from __future__ import annotations

from protocols.backoff import Backoff
from protocols.omadm.interaction import User, UserAnswer
from protocols.omadm.personas.profile import (
    DAY,
    HOUR,
    MINUTE,
    Fumo,
    Notifications,
    Profile,
    Schedule,
)

__all__ = ["CARRIERS"]

_USER_REQUEST = "org.openmobilealliance.dm.firmwareupdate.userrequest"
_DEVICE_REQUEST = "org.openmobilealliance.dm.firmwareupdate.devicerequest"


def _every(seconds: float) -> Backoff:
    """A fixed wait; the jitter of a `Backoff` takes at most half of it away."""
    return Backoff(first=seconds, limit=seconds)


CARRIERS = (
    Profile(
        "verizon",
        "Verizon's own client on a device without a screen",
        check_alert=(_USER_REQUEST, "b64", "Y2hlY2tDb25maWd1cmF0aW9u"),  # checkConfiguration
        # Builds without a user interface accept every confirmation.
        user=User(otherwise=UserAnswer.ACCEPT),
    ),
    Profile(
        "nexus",
        "Motorola's OMA-DM service on Nexus phones (Sprint and Verizon)",
        man="motorola",
        mod="Nexus 6",
        check_alert=(_USER_REQUEST, "chr", ""),
        schedule=Schedule(tries=3, retry=_every(30 * MINUTE)),
        # ui-mode 0 or 3 asks the user; a push is stored for a day and resumed at boot.
        notifications=Notifications(lifetime=DAY, asks_user=frozenset({0, 3})),
    ),
    Profile(
        "att",
        "NetComm's FUMO client for AT&T",
        man="NetComm",
        mod="NTC",
        check_alert=(_DEVICE_REQUEST, "int", "200"),
        schedule=Schedule(
            power_up=False,
            first_check=8 * HOUR,
            check_every=30 * DAY,
            check_retries=2,
            check_retry_after=DAY,
            tries=3,
            retry=_every(120.0),
        ),
        notifications=Notifications(deferred_while_updating=True),
        fumo=Fumo(
            root="./FwUpdate/Flash",
            success_state=90,
            tries=6,
            wait=_every(120.0),
            install_delay=12 * HOUR,
        ),
    ),
    Profile(
        "sprint",
        "u-blox LISA-C2 and MultiTech modules on Sprint",
        man="u-blox",
        mod="LISA-C200",
        check_alert=(_DEVICE_REQUEST, "chr", ""),
        # The host waits 15 s after power-on; then hands-free activation opens a session. Checks
        # come monthly or quarterly, we take the former.
        schedule=Schedule(power_up_spread=(15.0, 30.0), check_every=30 * DAY),
    ),
)
