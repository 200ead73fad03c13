"""Writes docs/backend-errors.md from the table of refusals: `python -m tools.docs.errors FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.backend.refusals import Refusal

HEAD = """\
# What the backend refuses

Made from `tools/backend/refusals.py` by `python -m tools.docs.errors`.

Every error of API v1, v2 and v3 is `{"errorCode": "...", "errorMessage": "..."}`. Rows marked
*documented* stand in the public documentation word by word; it says that more exist, and all others
are this project's. `{name}` stands for what the request said. Licences, lines of service and
failed upgrades are no errors: they are reasons in the answers and reports.

| Rule | Status | errorCode | errorMessage | |
|---|---|---|---|---|
"""

TAIL = """
Beside the table:

| When | Status | Body |
|---|---|---|
| no bearer token, or no Basic credentials | 401 | `fault.code` and `errorCode` 900902 |
| an unknown or expired bearer token | 401 | `fault.code` and `errorCode` 900901 |
| an unknown or expired session token | 401 | `FOTA.REQUEST_FAILED.SessionToken.Expired` |
| a path that is none | 404 | `RESOURCE_NOT_FOUND` |
| a method that the path does not have | 405 | `METHOD_NOT_ALLOWED` |
| a fault of the backend, of which the caller learns no more | 500 | `INTERNAL_ERROR` |
| the database cannot be reached | 503 | `SERVICE_UNAVAILABLE` |

An account, campaign, device or file of somebody else answers exactly as one that does not exist.
"""


def document() -> str:
    """The whole page."""
    rows = []
    for rule in Refusal:
        status, code, message, known = rule.value
        text = message.replace("!r}", "}").replace("|", "\\|")
        mark = "documented" if known else ""
        rows.append(f"| {rule.name} | {status} | `{code}` | `{text}` | {mark} |\n")
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
