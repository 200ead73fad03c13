"""Lists of the management side: RSQL filters, sorting, paging."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from tests.stubs.hawkbit.errors import Refused, invalid
from tests.stubs.hawkbit.http import Request
from tests.stubs.hawkbit.model import Target

Item = TypeVar("Item")
Fields = dict[str, Callable[[Item], Any]]

TARGET_FIELDS: Fields[Target] = {
    "id": lambda target: target.controller_id,
    "controllerid": lambda target: target.controller_id,
    "name": lambda target: target.name,
    "description": lambda target: target.description,
    "updatestatus": lambda target: target.update_status.value,
    "createdat": lambda target: target.created_at,
    "lastcontrollerrequestat": lambda target: target.last_poll or 0,
}

MAX_LIMIT = 500
DEFAULT_LIMIT = 50

_COMPARISON = re.compile(
    r"""\s*([\w.]+)\s*(==|!=|=in=|=out=)\s*(\([^()]*\)|"[^"]*"|'[^']*'|[^\s;,()"']+)\s*"""
)


def _syntax(query: str) -> Refused:
    return Refused(
        400,
        "org.eclipse.hawkbit.repository.exception.RSQLParameterSyntaxException",
        "rest.param.rsqlParamSyntax",
        f"The given search parameter is not well formed: {query}",
    )


def _pattern(value: str) -> re.Pattern[str]:
    """`*` stands for anything; hawkBit compares without regard to case."""
    parts = (re.escape(part) for part in value.strip().strip("\"'").split("*"))
    return re.compile(".*".join(parts), re.IGNORECASE | re.DOTALL)


def rsql(query: str, fields: Fields[Item]) -> Callable[[Item], bool]:
    """`;` or `and` binds tighter than `,` or `or`; no parentheses around terms.

    Raises Refused(400) for syntax, and for a field that the list does not have.
    """
    position, terms = 0, [[]]  # type: tuple[int, list[list[Callable[[Item], bool]]]]
    while True:
        match = _COMPARISON.match(query, position)
        if match is None:
            raise _syntax(query)
        name, operator, value = match.groups()
        getter = fields.get(name.lower())
        if getter is None:
            raise Refused(
                400,
                "org.eclipse.hawkbit.repository.exception.RSQLParameterUnsupportedFieldException",
                "rest.param.rsqlInvalidField",
                f"The given search parameter field {{{name}}} does not exist",
            )
        words = value[1:-1].split(",") if value.startswith("(") else [value]
        patterns = [_pattern(word) for word in words]
        wanted = operator in ("==", "=in=")

        def holds(
            item: Item,
            getter: Callable[[Item], Any] = getter,
            patterns: list[re.Pattern[str]] = patterns,
            wanted: bool = wanted,
        ) -> bool:
            text = str(getter(item))
            return any(pattern.fullmatch(text) for pattern in patterns) is wanted

        terms[-1].append(holds)
        position = match.end()
        if position == len(query):
            return lambda item: any(all(test(item) for test in term) for term in terms)
        joint = re.compile(r";|,|and\s|or\s").match(query, position)
        if joint is None:
            raise _syntax(query)
        if joint[0] in (",",) or joint[0].startswith("or"):
            terms.append([])
        position = joint.end()


def page(
    request: Request,
    items: Iterable[Item],
    fields: Fields[Item],
    view: Callable[[Item], dict[str, Any]],
    default_sort: str = "id",
) -> dict[str, Any]:
    """`content`, `total`, `size` after `q`, `sort`, `offset` and `limit` of the request."""
    found: Sequence[Item] = list(items)
    query = request.query.get("q")
    if query is not None:
        test = rsql(query, fields)
        found = [item for item in found if test(item)]
    for part in reversed(request.query.get("sort", f"{default_sort}:ASC").split(",")):
        name, _, direction = part.partition(":")
        getter = fields.get(name.lower())
        if getter is None or direction.upper() not in ("ASC", "DESC"):
            raise Refused(
                400,
                "org.eclipse.hawkbit.rest.exception.SortParameterSyntaxErrorException",
                "rest.param.sortParamSyntax",
                "The given sort parameter is not well formed",
            )
        found = sorted(found, key=getter, reverse=direction.upper() == "DESC")
    offset = max(request.number("offset", 0), 0)
    limit = request.number("limit", DEFAULT_LIMIT)
    if limit < 1:
        raise invalid("limit must be positive")
    content = found[offset : offset + min(limit, MAX_LIMIT)]
    return {"content": [view(item) for item in content], "total": len(found), "size": len(content)}
