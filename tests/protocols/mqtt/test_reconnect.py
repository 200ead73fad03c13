"""When a device comes back to its broker, and the rest of what all MQTT clients share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import LocalMisuse
from agent.errors import UnusableSettings
from agent.runtime.mqtt import MqttSettings
from agent.runtime.random import DeviceRandom
from protocols.mqtt.address import BrokerAddress, parse_broker
from protocols.mqtt.reconnect import (
    DEFAULT_TUNING,
    TRANSITIONS,
    Link,
    LinkEvent,
    Reconnect,
    ReconnectTuning,
)
from protocols.mqtt.topics import FilterTree, check_filter, check_topic, matches
from tests.protocols.mqtt.aws_world import World, play


def test_every_cell() -> None:
    for state in Link:
        for event in LinkEvent:
            link = Reconnect()
            link.state = state
            if event in TRANSITIONS[state]:
                link.move(event, 0.0, DeviceRandom(1))
                assert link.state is TRANSITIONS[state][event]
            else:
                with pytest.raises(LocalMisuse, match=state.name):
                    link.move(event, 0.0, DeviceRandom(1))
                assert link.state is state


def failures(link: Reconnect, count: int, random: DeviceRandom) -> list[float]:
    delays = []
    for _ in range(count):
        link.move(LinkEvent.DUE if link.state is Link.WAITING else LinkEvent.START, 0.0, random)
        delay = link.move(LinkEvent.ENDED, 0.0, random)
        assert delay is not None
        delays.append(delay)
    return delays


def test_the_back_off_doubles_with_full_jitter_up_to_its_limit() -> None:
    seen = [failures(Reconnect(), 12, DeviceRandom(seed)) for seed in range(400)]
    for number, column in enumerate(zip(*seen, strict=True)):
        ceiling = min(DEFAULT_TUNING.longest, DEFAULT_TUNING.first * 2**number)
        assert all(DEFAULT_TUNING.floor <= delay < ceiling for delay in column)
        assert min(column) < ceiling * 0.1 + DEFAULT_TUNING.floor
        assert max(column) > ceiling * 0.9
    assert DEFAULT_TUNING.ceiling(10_000) == DEFAULT_TUNING.longest


def test_a_connection_that_stood_starts_the_row_again_one_that_did_not_goes_on() -> None:
    random = DeviceRandom(1)
    for stood, row in ((DEFAULT_TUNING.stable_after, 1), (1.0, 6)):
        link = Reconnect()
        failures(link, 5, random)
        link.move(LinkEvent.DUE, 100.0, random)
        link.move(LinkEvent.ACCEPTED, 100.0, random)
        link.move(LinkEvent.ENDED, 100.0 + stood, random)
        assert link.failures == row


@given(st.floats(0.1, 10), st.floats(0.1, 1000), st.floats(0, 5), st.integers(1, 60))
def test_no_tuning_waits_outside_its_limits(
    first: float, longest: float, floor: float, count: int
) -> None:
    tuning = ReconnectTuning(first, longest, floor)
    link = Reconnect()
    random = DeviceRandom(3)
    for _ in range(count):
        link.state = Link.CONNECTING
        delay = link.move(LinkEvent.ENDED, 0.0, random, tuning)
        assert delay is not None
        assert 0 <= delay <= longest


def test_a_fleet_comes_back_spread_out() -> None:
    async def scene(world: World) -> None:
        devices = [world.device(f"thing-{number}") for number in range(100)]
        for device in devices:
            await world.registered(device)
        await world.runtime.clock.sleep(61.0)
        world.broker.down = True
        world.broker.cut_all()
        await world.runtime.clock.sleep(30.0)
        world.broker.down = False
        world.broker.connects = 0
        arrived: list[int] = []
        for _ in range(130):
            await world.runtime.clock.sleep(1.0)
            arrived.append(world.broker.connects)
        per_second = [b - a for a, b in zip([0, *arrived], arrived, strict=False)]
        assert arrived[-1] == 100
        assert max(per_second) < 25

    play(scene)


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("mqtt://h", BrokerAddress("h", 1883, False)),
        ("mqtts://h", BrokerAddress("h", 8883, True)),
        ("mqtts://h:443/", BrokerAddress("h", 443, True)),
        ("mqtt://[::1]:1", BrokerAddress("::1", 1, False)),
    ],
)
def test_servers(server: str, address: BrokerAddress) -> None:
    assert parse_broker(server) == address


@pytest.mark.parametrize(
    "server",
    ["h", "http://h", "mqtt://", "mqtt://h:x", "mqtt://h:0", "mqtt://h:70000", "mqtt://u:pw@h",
     "mqtt://h/path", "mqtt://h?x", "mqtt://[h"],
)  # fmt: skip
def test_servers_that_are_none(server: str) -> None:
    with pytest.raises(UnusableSettings) as caught:
        parse_broker(server)
    assert "pw" not in str(caught.value)


def test_settings_show_no_secret() -> None:
    settings = MqttSettings("h", 1, "c", username="u", password="pass-word")
    assert "pass-word" not in repr(settings)


# --- filters

LEVELS = st.lists(st.sampled_from(["", "a", "b", "$x"]), min_size=1, max_size=4)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(st.sampled_from(["", "a", "b", "$x", "+"]), min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
)


@given(st.lists(FILTERS, max_size=6), LEVELS.map("/".join))
def test_the_tree_finds_what_matches(filters: list[str], topic: str) -> None:
    tree = FilterTree()
    for number, topic_filter in enumerate(filters):
        tree.add(topic_filter, str(number), 1)
    expected = {str(n) for n, topic_filter in enumerate(filters) if matches(topic_filter, topic)}
    assert set(tree.find(topic)) == expected
    for number, topic_filter in enumerate(filters):
        tree.remove(topic_filter, str(number))
    assert tree.find(topic) == {}
    assert tree._root.below == {}


@pytest.mark.parametrize(
    ("topic_filter", "topic", "fits"),
    [
        # MQTT 3.1.1, 4.7.1.2, 4.7.1.3 and 4.7.2: the standard's own examples.
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/a", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/a", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
    ],
)
def test_the_standards_examples(topic_filter: str, topic: str, fits: bool) -> None:
    assert matches(topic_filter, topic) is fits
    tree = FilterTree()
    tree.add(topic_filter, "c", 0)
    assert bool(tree.find(topic)) is fits


@pytest.mark.parametrize("wrong", ["", "a\0b", "a" * 65_536, "sport/tennis#", "a/#/b", "a+", "+a"])
def test_filters_that_are_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="filter"):
        check_filter(wrong)


@pytest.mark.parametrize("wrong", ["", "a\0b", "a/+", "#"])
def test_topics_that_are_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        check_topic(wrong)
