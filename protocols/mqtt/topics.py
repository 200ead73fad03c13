"""Topic names and topic filters (MQTT 3.1.1 section 4.7)."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["FilterTree", "check_filter", "check_topic", "matches"]

MAX_TOPIC = 65_535  # bytes of UTF-8: the length is sent in 16 bits (section 1.5.3)


def check_topic(topic: str) -> None:
    """Raises :class:`ValueError` when no message can be published under `topic`."""
    _check_text(topic, "topic")
    if "+" in topic or "#" in topic:
        raise ValueError(f"topic {topic!r}: a wildcard belongs into a filter")


def check_filter(topic_filter: str) -> None:
    """Raises :class:`ValueError` for what is no topic filter."""
    _check_text(topic_filter, "topic filter")
    levels = topic_filter.split("/")
    for position, level in enumerate(levels):
        if "#" in level and (level != "#" or position + 1 < len(levels)):
            raise ValueError(f"topic filter {topic_filter!r}: # stands alone, in the last level")
        if "+" in level and level != "+":
            raise ValueError(f"topic filter {topic_filter!r}: + stands alone in its level")


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a message under `topic` is for a subscription to `topic_filter`."""
    filters = topic_filter.split("/")
    levels = topic.split("/")
    if topic.startswith("$") and filters[0] in ("#", "+"):
        return False  # section 4.7.2: a leading wildcard does not see the server's own topics
    for position, level in enumerate(filters):
        if level == "#":
            return True
        if position == len(levels) or level not in ("+", levels[position]):
            return False
    return len(filters) == len(levels)


def _check_text(text: str, what: str) -> None:
    if not text:
        raise ValueError(f"an empty {what}")
    if "\0" in text:
        raise ValueError(f"{what} {text!r}: has a NUL character")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TOPIC:
        raise ValueError(f"a {what} of more than {MAX_TOPIC} bytes")


class _Node:
    __slots__ = ("below", "members")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.members: dict[str, int] = {}


class FilterTree:
    """The subscriptions of all clients of a broker: (filter, client) -> QoS.

    Finding who gets a message costs as much as its topic has levels, however many clients there
    are. Members come in the order of their subscription, so that one seed gives one run."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, topic_filter: str, client: str, qos: int) -> None:
        """`topic_filter` must be one (:func:`check_filter`)."""
        node = self._root
        for level in topic_filter.split("/"):
            node = node.below.setdefault(level, _Node())
        node.members[client] = qos

    def remove(self, topic_filter: str, client: str) -> None:
        path = [self._root]
        levels = topic_filter.split("/")
        for level in levels:
            below = path[-1].below.get(level)
            if below is None:
                return
            path.append(below)
        path[-1].members.pop(client, None)
        for node, level in zip(reversed(path[:-1]), reversed(levels), strict=True):
            child = node.below[level]
            if child.below or child.members:
                return
            del node.below[level]

    def find(self, topic: str) -> dict[str, int]:
        """The clients that get a message under `topic`, once each, at the highest QoS that one of
        their filters asked for (section 3.3.5)."""
        found: dict[str, int] = {}
        levels = topic.split("/")
        for node in self._walk(self._root, levels, 0, wild=not topic.startswith("$")):
            for client, qos in node.members.items():
                found[client] = max(qos, found.get(client, 0))
        return found

    def _walk(self, node: _Node, levels: list[str], depth: int, *, wild: bool) -> Iterator[_Node]:
        if wild and "#" in node.below:
            yield node.below["#"]
        if depth == len(levels):
            yield node
            return
        exact = node.below.get(levels[depth])
        if exact is not None:
            yield from self._walk(exact, levels, depth + 1, wild=True)
        if wild and "+" in node.below:
            yield from self._walk(node.below["+"], levels, depth + 1, wild=True)
