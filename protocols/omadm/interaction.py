"""User interaction (OMA DM Protocol 1.2, section 10.3; alerts 1100 to 1104): a persona answers.

The first item of such an alert holds options (`MINDT=10&MAXDT=20&DR=1`), the second the text to
show, the others the choices. Options that are not known are skipped in silence. The answer goes in
the Status: 200 with what was chosen or typed, 304 for "No", 214 for a cancel, 408 when nobody
answers within MAXDT, 416 when there is nothing to show it on.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from protocols.omadm.model import Item

__all__ = ["ALERTS", "Options", "Reply", "User", "UserAnswer", "ask", "parse_options"]

DISPLAY = 1100
CONFIRM = 1101
INPUT = 1102
CHOICE = 1103
CHOICES = 1104

ALERTS = frozenset({DISPLAY, CONFIRM, INPUT, CHOICE, CHOICES})

MAX_OPTIONS = 1024
"""Characters of an options string that are read."""
MAX_CHOICES = 64
"""Of a menu; numbers beyond cannot be shown."""
DEFAULT_WAIT = 60.0
"""Seconds that a user is waited for when MAXDT says nothing [our choice]."""
MAX_WAIT = 600.0
"""Seconds of MAXDT that are obeyed: sessions do not last longer."""


class UserAnswer(enum.Enum):
    """What the person in front of a device does."""

    ACCEPT = "accept"
    """Reads, confirms, takes the default or the first choice, types the persona's text."""
    REJECT = "reject"
    """Says no where one can, cancels elsewhere."""
    CANCEL = "cancel"
    ABSENT = "absent"
    """Nobody is there; a default response, if the alert has one, is taken in the end."""
    NO_DISPLAY = "no display"


@dataclass(frozen=True, slots=True)
class User:
    """The person of a persona."""

    answers: Mapping[int, UserAnswer] = field(default_factory=lambda: MappingProxyType({}))
    """By alert code, where it differs from `otherwise`."""
    otherwise: UserAnswer = UserAnswer.ACCEPT
    text: str = "1234"
    """What is typed where no default is given."""
    thinks: float = 0.0
    """Seconds before an answer."""

    def answer_to(self, code: int) -> UserAnswer:
        return self.answers.get(code, self.otherwise)


@dataclass(frozen=True, slots=True)
class Options:
    """What an options string says. Times in seconds."""

    shortest: float = 0.0
    longest: float = DEFAULT_WAIT
    default: str | None = None
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The status of the alert, its items, and how long it took."""

    status: int
    data: tuple[str, ...] = field(default=(), repr=False)
    seconds: float = 0.0


def parse_options(text: str) -> Options:
    """Whatever cannot be read counts as not said (section 10.3.2)."""
    said: dict[str, str] = {}
    for part in text[:MAX_OPTIONS].split("&"):
        name, mark, value = part.partition("=")
        if mark:
            said.setdefault(name.strip().upper(), value)
    shortest = min(_number(said.get("MINDT")) or 0, MAX_WAIT)
    longest = _number(said.get("MAXDT"))
    return Options(
        shortest=float(shortest),
        longest=DEFAULT_WAIT if longest is None else float(min(longest, MAX_WAIT)),
        default=said.get("DR"),
        max_length=_number(said.get("MAXLEN")),
    )


def ask(code: int, items: Sequence[Item], user: User) -> Reply:
    """What becomes of an alert of `ALERTS`: its reply."""
    if len(items) < 2 or not isinstance(items[1].data, str):
        return Reply(412)  # incomplete: there is no text to show
    choices = items[2:]
    if code in (CHOICE, CHOICES) and not 0 < len(choices) <= MAX_CHOICES:
        return Reply(412)
    first = items[0].data
    options = parse_options(first if isinstance(first, str) else "")
    how = user.answer_to(code)
    if how is UserAnswer.NO_DISPLAY:
        return Reply(416)
    if how is UserAnswer.CANCEL:
        return Reply(214, seconds=user.thinks)
    if how is UserAnswer.REJECT:
        return Reply(304 if code == CONFIRM else 214, seconds=user.thinks)
    absent = how is UserAnswer.ABSENT or user.thinks > options.longest
    if code == DISPLAY:
        return Reply(200, seconds=max(options.shortest, 0.0 if absent else user.thinks))
    if absent:
        seconds = options.longest
        if options.default is None:
            return Reply(408, seconds=seconds)
    else:
        seconds = max(options.shortest, user.thinks)
    return _answered(code, options, len(choices), user, absent, seconds)


def _answered(
    code: int, options: Options, choices: int, user: User, absent: bool, seconds: float
) -> Reply:
    default = options.default
    if code == CONFIRM:
        # DR=0 is no, anything else yes; a person who accepts says yes whatever the default is.
        return Reply(304 if absent and default == "0" else 200, seconds=seconds)
    if code == INPUT:
        text = user.text if default is None else default
        return Reply(200, (text[: options.max_length],), seconds)
    numbers = [
        part.strip()
        for part in (default or "").split("-")
        if part.strip().isascii() and part.strip().isdigit() and 1 <= int(part) <= choices
    ]
    if code == CHOICE:
        return Reply(200, tuple(numbers[:1]) or ("1",), seconds)
    return Reply(200, tuple(numbers) or ("1",), seconds)


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text[:9]) if text.isascii() and text.isdigit() else None
