"""Known clients: what each one does otherwise than the specification, to try a server's patience.

Nothing of their code is here; what they do was read or seen from outside.
"""

from __future__ import annotations

from protocols.omadm.interaction import User, UserAnswer
from protocols.omadm.personas.profile import Fumo, Profile, Quirks

__all__ = ["CLIENTS"]

CLIENTS = (
    Profile("default", "does everything right"),
    Profile(
        "automotive",
        "keeps the nonce as text, so that its digest is wrong for octets from 0x80 on",
        quirks=Quirks(nonce_as_text=True),
    ),
    Profile(
        "libdmclient",
        "no Sequence, no ?list, no Copy, and a Content-Type of data synchronisation",
        wbxml=False,
        quirks=Quirks(
            sequence_unsupported=True,
            copy_unsupported=True,
            list_unsupported=True,
            content_type="application/vnd.syncml+xml",
        ),
    ),
    Profile(
        "final-always",
        "says Final in every message",
        quirks=Quirks(wrong_final=True),
    ),
    Profile(
        "small-buffer",
        "fails an Atomic whose answers would go in several messages (517)",
        quirks=Quirks(atomic_in_one_message=True),
    ),
    Profile(
        "samsung",
        "alerts of format chr that name the executed node",
        man="Samsung",
        mod="SM-G900",
        user_agent="Samsung SM-G900 SyncML_DM Client",
        fumo=Fumo(root="./FUMO", alert_from_operation=True, alert_format="chr"),
    ),
    Profile(
        "webview",
        "an install-notify with a blank, LF and CR behind its line, after the update",
        fumo=Fumo(notify_after_update=True, notify_tail=" \n\r"),
    ),
    Profile(
        "absent-user",
        "nobody looks at its screen",
        user=User(otherwise=UserAnswer.ABSENT),
    ),
    Profile(
        "headless",
        "has no screen: whatever should be shown is answered with 416",
        user=User(otherwise=UserAnswer.NO_DISPLAY),
    ),
)
