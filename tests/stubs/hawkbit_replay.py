"""Sends recorded exchanges to a server and says how its answers differ from the recorded ones.

What is compared: status, content type, the headers that mean something, and the body member by
member: key sets, types, and values. What is not, because it must differ: times, the length, the
entity tags of resources, the total of a list that other runs filled, and names of random things.

Ids may differ but have to be consistent: what was 6 in the recording is the same number in every
answer of one run, and no two recorded ids become one. The same holds for `c=` of one action, so a
`c=` that does not change where the recorded one did (or the other way round) is a difference.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

VECTORS = Path(__file__).parent / "vectors" / "hawkbit-exchanges-1.0.4.jsonl"

RECORDED_BASE = "http://127.0.0.1:PORT"

HEADERS = (
    "content-type",
    "content-disposition",
    "content-range",
    "accept-ranges",
    "last-modified",
    "etag",
)

TIMES = frozenset(
    {
        "createdAt",
        "lastModifiedAt",
        "lastControllerRequestAt",
        "installedAt",
        "lastRequestAt",
        "nextExpectedRequestAt",
        "activatedAt",
        "reportedAt",
        "timestamp",
        "nextStartAt",
    }
)
UNLIKE = frozenset({"total"})
"""Members whose value depends on what else is on the server."""

SEGMENTS = {
    "softwaremodules": "module",
    "artifacts": "artifact",
    "distributionsets": "set",
    "distributionsettypes": "settype",
    "actions": "action",
    "deploymentBase": "action",
    "cancelAction": "action",
    "installedBase": "action",
    "confirmationBase": "action",
    "rollouts": "rollout",
    "deploygroups": "group",
}
"""Path segment: the kind of the number that follows it."""

FILES = {
    "app-2.0.bin": b"x" * 5_000,
    "app-3.0.bin": b"y" * 70_000,
    "a.bin": b"a" * 100,
    "b.bin": b"b" * 100,
    "c.bin": b"c" * 100,
}


@dataclass(frozen=True, slots=True)
class Exchange:
    number: int
    scene: str
    who: str
    note: str
    method: str
    path: str
    request_headers: dict[str, str]
    request: Any
    status: int
    headers: dict[str, str]
    response: Any

    @property
    def title(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.number}: {self.method} {self.path}{note}"


def load(path: Path = VECTORS) -> list[Exchange]:
    with path.open(encoding="utf-8") as lines:
        return [Exchange(number, **json.loads(line)) for number, line in enumerate(lines, 1)]


def scenes(exchanges: list[Exchange]) -> list[str]:
    return list(dict.fromkeys(exchange.scene for exchange in exchanges))


@dataclass(slots=True)
class Names:
    """Recorded ids, `c=` values and entity tags, and what they are on the server at hand."""

    live: dict[tuple[str, str], str] = field(default_factory=dict)
    recorded: dict[tuple[str, str], str] = field(default_factory=dict)

    def learn(self, kind: str, recorded: str, live: str) -> str | None:
        """None, or what is inconsistent."""
        known = self.live.setdefault((kind, recorded), live)
        back = self.recorded.setdefault((kind, live), recorded)
        if known != live:
            return f"{kind} {recorded} was {known} and is now {live}"
        if back != recorded:
            return f"{kind} {live} stands for {back} and for {recorded}"
        return None

    def of(self, kind: str, recorded: str) -> str:
        """The live name; what was never met stays as it is (ids that nothing has)."""
        return self.live.get((kind, recorded), recorded)

    def path(self, recorded: str) -> str:
        """A recorded path and query as the live server knows them."""
        path, question, query = recorded.partition("?")
        parts = path.split("/")
        for before in range(len(parts) - 1):
            kind = SEGMENTS.get(parts[before])
            if kind is not None and parts[before + 1].isdecimal():
                action = parts[before + 1]
                parts[before + 1] = self.of(kind, action)
                c = re.fullmatch(r"c=(-?\d+)", query)
                if c is not None:
                    query = "c=" + self.of(f"c of {action}", c[1])
        return "/".join(parts) + question + query


class Comparison:
    """Collects the differences of one exchange."""

    def __init__(self, names: Names, base: str) -> None:
        self.names = names
        self.base = base.rstrip("/")
        self.differences: list[str] = []

    def _differ(self, where: str, text: str) -> None:
        self.differences.append(f"{where}: {text}")

    def _learn(self, where: str, kind: str, recorded: str, live: str) -> None:
        fault = self.names.learn(kind, recorded, live)
        if fault is not None:
            self._differ(where, fault)

    def headers(self, recorded: dict[str, str], live: httpx.Headers) -> None:
        for name in HEADERS:
            left, right = recorded.get(name), live.get(name)
            if (left is None) != (right is None):
                self._differ(name, f"recorded {left!r}, got {right!r}")
            elif left is None or right is None or name == "last-modified":
                continue
            elif name == "etag" and re.fullmatch(r'"0[0-9a-f]{32}"', left):
                self._learn(name, "etag", left, right)
            elif left.replace(" ", "").lower() != right.replace(" ", "").lower():
                self._differ(name, f"recorded {left!r}, got {right!r}")

    def href(self, where: str, recorded: str, live: str) -> None:
        if not live.startswith(self.base + "/"):
            self._differ(where, f"{live} does not begin with {self.base}")
            return
        left, right = urlsplit(recorded.replace(RECORDED_BASE, self.base)), urlsplit(live)
        ours, theirs = left.path.split("/"), right.path.split("/")
        if len(ours) != len(theirs):
            self._differ(where, f"recorded {recorded}, got {live}")
            return
        action = ""
        for place, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            kind = SEGMENTS.get(ours[place - 1]) if place else None
            if kind is not None and one.isdecimal() and two.isdecimal():
                action = one
                self._learn(where, kind, one, two)
            elif one != two:
                self._differ(where, f"recorded {recorded}, got {live}")
                return
        left_c, right_c = (re.fullmatch(r"c=(-?\d+)", part.query) for part in (left, right))
        if left_c and right_c:
            self._learn(where, f"c of {action}", left_c[1], right_c[1])
        elif left.query != right.query:
            self._differ(where, f"recorded {recorded}, got {live}")

    def body(self, recorded: Any, live: Any, where: str = "body") -> None:
        if type(recorded) is not type(live):
            self._differ(where, f"recorded {recorded!r}, got {live!r}")
        elif isinstance(recorded, dict):
            self._members(recorded, live, where)
        elif isinstance(recorded, list):
            if len(recorded) != len(live):
                self._differ(where, f"recorded {len(recorded)} elements, got {len(live)}")
            for place, (left, right) in enumerate(zip(recorded, live, strict=False)):
                self.body(left, right, f"{where}[{place}]")
        elif recorded != live:
            self._differ(where, f"recorded {recorded!r}, got {live!r}")

    def _members(self, recorded: dict[str, Any], live: dict[str, Any], where: str) -> None:
        for name in sorted(recorded.keys() ^ live.keys()):
            kind = "misses" if name in recorded else "adds"
            self._differ(where, f"{kind} {name}")
        for name in recorded.keys() & live.keys():
            self._member(name, recorded[name], live[name], recorded, f"{where}.{name}")

    def _member(self, name: str, left: Any, right: Any, parent: dict[str, Any], where: str) -> None:
        if name in TIMES or name in UNLIKE:
            if type(left) is not type(right):
                self._differ(where, f"recorded {left!r}, got {right!r}")
        elif name == "href":
            self.href(where, left, str(right))
        elif name in ("id", "stopId", "entityId", "distributionSetId"):
            self._id(name, left, right, parent, where)
        elif name in ("message", "messages"):
            # Words with ids in them: the words have to be the same.
            self.body(_numberless(left), _numberless(right), where)
        else:
            self.body(left, right, where)

    def _id(self, name: str, left: Any, right: Any, parent: dict[str, Any], where: str) -> None:
        if type(left) is not type(right):
            self._differ(where, f"recorded {left!r}, got {right!r}")
            return
        kind = _kind(name, parent)
        if kind is None or not str(left).lstrip("-").isdecimal():
            self.body(left, right, where)
        else:
            self._learn(where, kind, str(left), str(right))


def _kind(name: str, parent: dict[str, Any]) -> str | None:
    """What an id counts, from the company it keeps."""
    if name == "distributionSetId":
        return "set"
    if name == "stopId" or parent.keys() & {"deployment", "confirmation", "cancelAction"}:
        return "action"
    if "reportedAt" in parent:
        return "status"
    href = parent.get("_links", {}).get("self", {}).get("href", "")
    segments = href.split("/")
    return SEGMENTS.get(segments[-2]) if len(segments) > 1 else None


def _numberless(value: Any) -> Any:
    if isinstance(value, list):
        return [_numberless(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\b\d+\b", "#", re.sub(r"(controller/v1/)[^/]+", r"\1#", value))
    return value


def compare(exchange: Exchange, response: httpx.Response, names: Names, base: str) -> list[str]:
    """Every difference, in words; empty when the server answered as recorded."""
    comparison = Comparison(names, base)
    if response.status_code != exchange.status:
        comparison.differences.append(
            f"status: recorded {exchange.status}, got {response.status_code} {response.text[:200]}"
        )
        return comparison.differences
    comparison.headers(exchange.headers, response.headers)
    recorded = exchange.response
    if isinstance(recorded, str):
        size = re.fullmatch(r"<(\d+) bytes>", recorded)
        if size is not None:
            if len(response.content) != int(size[1]):
                comparison.body(recorded, f"<{len(response.content)} bytes>")
        elif recorded != response.text:
            comparison.body(recorded, response.text)
    else:
        try:
            live = response.json()
        except ValueError:
            comparison.differences.append(f"body: not JSON: {response.text[:200]!r}")
        else:
            comparison.body(recorded, live)
    return comparison.differences


def request_of(exchange: Exchange, names: Names, base: str) -> dict[str, Any]:
    """Arguments for `httpx.AsyncClient.request`."""
    headers = dict(exchange.request_headers)
    authorization = headers.get("authorization", "")
    auth = None
    if authorization.startswith("Basic "):
        del headers["authorization"]
        user, _, password = authorization.removeprefix("Basic ").partition(":")
        auth = (user, password)
    if "if-none-match" in headers:
        headers["if-none-match"] = names.of("etag", headers["if-none-match"])
    arguments: dict[str, Any] = {
        "method": exchange.method,
        "url": base.rstrip("/") + names.path(exchange.path),
        "auth": auth,
    }
    if exchange.request == "<multipart field file>":
        del headers["content-type"]
        filename = exchange.response["providedFilename"]
        arguments["files"] = {"file": (filename, FILES[filename], "application/octet-stream")}
    elif isinstance(exchange.request, str):
        arguments["content"] = exchange.request.encode()
    elif exchange.request is not None:
        body = json.loads(json.dumps(exchange.request))
        _translate(body, names)
        arguments["content"] = json.dumps(body).encode()
    arguments["headers"] = headers
    return arguments


def _translate(body: Any, names: Names) -> None:
    """Ids in a request body."""
    items = body if isinstance(body, list) else [body]
    for item in items:
        for module in item.get("modules", []):
            module["id"] = int(names.of("module", str(module["id"])))
        if "distributionSetId" in item:
            item["distributionSetId"] = int(names.of("set", str(item["distributionSetId"])))
        if "status" in item and "id" in item:
            item["id"] = names.of("action", str(item["id"]))
