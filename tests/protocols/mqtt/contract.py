"""What every MQTT transport must do, as scenes for the one in memory and for a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from agent.runtime.clock import Clock
from agent.runtime.mqtt import MqttCause, MqttConnection, MqttSettings, MqttTransport, Will

PATIENCE = 10.0
"""Seconds that anything may take; in virtual time they cost nothing."""
STEP = 0.01


class Heard:
    """A listener that remembers, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.messages: list[tuple[str, bytes]] = []
        self.duplicates = 0
        self.present: bool | None = None
        self.granted = 0
        self.refused: tuple[str, ...] = ()
        self.over: MqttCause | None = None
        self.detail = ""
        self.on_message: Callable[[], None] | None = None

    def connected(self, session_present: bool) -> None:
        self.present = session_present
        self.events.append(("connected", session_present))

    def subscribed(self, refused: tuple[str, ...]) -> None:
        self.granted += 1
        self.refused = refused
        self.events.append(("subscribed", refused))

    def received(self, topic: str, payload: bytes, qos: int, duplicate: bool) -> None:
        self.messages.append((topic, payload))
        self.duplicates += duplicate
        self.events.append(("received", topic, payload, qos))
        if self.on_message is not None:
            self.on_message()

    def disconnected(self, cause: MqttCause, detail: str) -> None:
        self.over, self.detail = cause, detail
        self.events.append(("disconnected", cause))


@dataclass(slots=True)
class World:
    """A transport, a clock, and how to reach the broker."""

    transport: MqttTransport
    clock: Clock
    settings: MqttSettings
    """Of a client that the broker lets in; `client_id` is unique to this world."""

    async def until(self, condition: Callable[[], object], what: str) -> None:
        for _ in range(int(PATIENCE / STEP)):
            if condition():
                return
            await self.clock.sleep(STEP)
        raise AssertionError(f"never came: {what}")

    def named(self, name: str) -> MqttSettings:
        return replace(self.settings, client_id=f"{self.settings.client_id}-{name}")

    def topic(self, name: str) -> str:
        return f"{self.settings.client_id}/{name}"

    async def connect(self, settings: MqttSettings, *filters: str) -> tuple[MqttConnection, Heard]:
        heard = Heard()
        connection = self.transport.open(settings, heard)
        await self.until(lambda: heard.present is not None, f"CONNACK for {settings.client_id}")
        if filters:
            connection.subscribe(*filters)
            await self.until(lambda: heard.granted, "SUBACK")
        return connection, heard


Scene = Callable[[World], Awaitable[None]]


async def messages_arrive_in_order_and_are_acknowledged(world: World) -> None:
    receiver, heard = await world.connect(world.named("in"), world.topic("order/+"))
    sender, _ = await world.connect(world.named("out"))
    acknowledged: list[int] = []
    for number in range(30):
        sender.publish(
            world.topic(f"order/{number}"),
            b"%d" % number,
            acknowledged=lambda number=number: acknowledged.append(number),  # type: ignore[misc]
        )
    await world.until(lambda: len(heard.messages) == 30, "30 messages")
    await world.until(lambda: len(acknowledged) == 30, "30 acknowledgements")
    assert heard.messages == [(world.topic(f"order/{n}"), b"%d" % n) for n in range(30)]
    assert acknowledged == list(range(30))
    sender.close()
    receiver.close()


async def filters_select(world: World) -> None:
    one, heard_one = await world.connect(world.named("plus"), world.topic("a/+/c"))
    two, heard_two = await world.connect(world.named("hash"), world.topic("a/#"))
    three, heard_three = await world.connect(
        world.named("both"), world.topic("a/+/c"), world.topic("a/b/c")
    )
    sender, _ = await world.connect(world.named("sender"))
    for name in ("a", "a/b", "a/b/c", "a/b/c/d", "b/b/c"):
        sender.publish(world.topic(name), name.encode())
    sender.publish(world.topic("a/x/c"), b"last")
    await world.until(lambda: len(heard_two.messages) == 5, "what # sees")
    await world.until(lambda: len(heard_one.messages) == 2, "what + sees")
    await world.until(lambda: (world.topic("a/x/c"), b"last") in heard_three.messages, "the last")
    assert [payload for _, payload in heard_two.messages] == [
        b"a", b"a/b", b"a/b/c", b"a/b/c/d", b"last",
    ]  # fmt: skip
    assert [payload for _, payload in heard_one.messages] == [b"a/b/c", b"last"]
    # Two subscriptions of one client that overlap: 3.1.1 lets a broker send one copy or two.
    assert {payload for _, payload in heard_three.messages} == {b"a/b/c", b"last"}
    for connection in (one, two, three, sender):
        connection.close()


async def a_persistent_session_keeps_what_was_missed(world: World) -> None:
    settings = replace(world.named("sleeper"), clean_session=False)
    connection, heard = await world.connect(settings, world.topic("missed/#"))
    assert heard.present is False
    connection.close()
    await world.until(lambda: heard.over is not None, "the goodbye")
    assert heard.over is MqttCause.CLOSED
    sender, _ = await world.connect(world.named("sender"))
    acknowledged: list[bool] = []
    sender.publish(world.topic("missed/1"), b"1")
    sender.publish(world.topic("missed/0"), b"QoS 0 is not kept by right", qos=0)
    sender.publish(world.topic("missed/2"), b"2", acknowledged=lambda: acknowledged.append(True))
    await world.until(lambda: acknowledged, "the broker has them")
    again = Heard()
    connection = world.transport.open(settings, again)
    await world.until(lambda: len(again.messages) >= 2, "what was missed")
    assert again.present is True
    kept = [message for message in again.messages if message[0] != world.topic("missed/0")]
    assert kept == [(world.topic("missed/1"), b"1"), (world.topic("missed/2"), b"2")]
    connection.close()
    await world.until(lambda: again.over is not None, "the goodbye")
    clean = replace(settings, clean_session=True)
    connection, fresh = await world.connect(clean)
    assert fresh.present is False
    connection.close()
    sender.close()


async def a_message_that_was_not_acknowledged_comes_again(world: World) -> None:
    """The power goes away inside `received`: no PUBACK leaves, and the broker sends it again."""
    settings = replace(world.named("cut"), clean_session=False)
    connection, heard = await world.connect(settings, world.topic("again"))
    heard.on_message = connection.abort
    sender, _ = await world.connect(world.named("sender"))
    sender.publish(world.topic("again"), b"once")
    await world.until(lambda: heard.messages, "the message")
    # The broker may still be busy with the old connection.
    again = Heard()
    second = world.transport.open(settings, again)
    await world.until(lambda: again.messages, "the message again")
    assert again.present is True
    assert again.messages == [(world.topic("again"), b"once")]
    assert again.duplicates == 1
    assert heard.over is None, "who aborted hears nothing"
    second.close()
    sender.close()


async def the_last_will_speaks_for_who_vanishes(world: World) -> None:
    witness, heard = await world.connect(world.named("witness"), world.topic("will/+"))
    for name in ("polite", "gone"):
        settings = replace(world.named(name), will=Will(world.topic(f"will/{name}"), b"dead"))
        connection, mine = await world.connect(settings)
        if name == "gone":
            connection.abort()
        else:
            connection.close()
            await world.until(lambda mine=mine: mine.over, "the goodbye")  # type: ignore[misc]
    await world.until(lambda: heard.messages, "the will")
    assert heard.messages == [(world.topic("will/gone"), b"dead")]
    witness.close()


async def a_second_connection_takes_over(world: World) -> None:
    first, heard = await world.connect(world.named("twin"))
    second, other = await world.connect(world.named("twin"))
    await world.until(lambda: heard.over is not None, "the end of the first")
    assert heard.over is MqttCause.LOST
    assert other.over is None
    first.close()  # of no effect: it is over
    first.publish(world.topic("x"), b"dropped")
    second.close()
    await world.until(lambda: other.over is not None, "the end of the second")
    assert other.over is MqttCause.CLOSED


async def retained_messages_wait_for_subscribers(world: World) -> None:
    sender, _ = await world.connect(world.named("sender"))
    acknowledged: list[bool] = []

    def done() -> None:
        acknowledged.append(True)

    sender.publish(world.topic("kept"), b"old", retain=True, acknowledged=done)
    sender.publish(world.topic("kept"), b"new", retain=True, acknowledged=done)
    sender.publish(world.topic("gone"), b"x", retain=True, acknowledged=done)
    sender.publish(world.topic("gone"), b"", retain=True, acknowledged=done)
    sender.publish(world.topic("plain"), b"x", acknowledged=done)
    await world.until(lambda: len(acknowledged) == 5, "the acknowledgements")
    late, heard = await world.connect(world.named("late"), world.topic("#"))
    await world.until(lambda: heard.messages, "the retained message")
    assert heard.messages == [(world.topic("kept"), b"new")]
    sender.publish(world.topic("kept"), b"", retain=True)
    sender.close()
    late.close()


async def what_is_published_before_the_goodbye_leaves(world: World) -> None:
    witness, heard = await world.connect(world.named("witness"), world.topic("bye"))
    sender, mine = await world.connect(world.named("sender"))
    for number in range(5):
        sender.publish(world.topic("bye"), b"%d" % number)
    sender.close()
    sender.publish(world.topic("bye"), b"too late")
    await world.until(lambda: mine.over is not None, "the goodbye")
    await world.until(lambda: len(heard.messages) == 5, "five messages")
    assert [payload for _, payload in heard.messages] == [b"%d" % n for n in range(5)]
    assert mine.events[-1] == ("disconnected", MqttCause.CLOSED)
    witness.close()


async def misuse_is_refused_at_once(world: World) -> None:
    connection, heard = await world.connect(world.named("misuse"))
    wrong: list[Callable[[], None]] = [
        lambda: connection.publish("a/+/b", b""),
        lambda: connection.publish("", b""),
        lambda: connection.publish("a", b"", qos=2),
        lambda: connection.subscribe("a/#/b"),
        lambda: connection.subscribe("a+"),
        lambda: connection.subscribe("ok", ""),
    ]
    for call in wrong:
        try:
            call()
        except ValueError as error:
            assert str(error)
        else:
            raise AssertionError("accepted")
    connection.subscribe(world.topic("still"))
    await world.until(lambda: heard.granted == 1, "SUBACK")
    connection.close()


async def closing_the_transport_ends_every_connection(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.connect(world.named(name), world.topic(name))
    world.transport.open(world.named("d"), Heard())  # still connecting
    await asyncio.wait_for(world.transport.close(), None if world.clock.virtual else PATIENCE)


SCENES: tuple[Scene, ...] = (
    messages_arrive_in_order_and_are_acknowledged,
    filters_select,
    a_persistent_session_keeps_what_was_missed,
    a_message_that_was_not_acknowledged_comes_again,
    the_last_will_speaks_for_who_vanishes,
    a_second_connection_takes_over,
    retained_messages_wait_for_subscribers,
    what_is_published_before_the_goodbye_leaves,
    misuse_is_refused_at_once,
    closing_the_transport_ends_every_connection,
)
