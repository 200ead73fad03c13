"""The broker in memory: the contract of every transport, and what it does on demand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from agent.runtime.clock import run_virtual
from agent.runtime.mqtt import MqttCause, MqttSettings
from agent.runtime.runtime import Runtime
from protocols.mqtt import MemoryBroker
from tests.protocols.mqtt.contract import SCENES, Heard, Scene, World

SETTINGS = MqttSettings("broker", 1883, "client")


def in_virtual_time(
    scene: Callable[[World, MemoryBroker], Awaitable[None]], **options: float
) -> None:
    async def main() -> None:
        async with Runtime.in_memory(seed=3) as runtime:
            broker = MemoryBroker(runtime, **options)  # type: ignore[arg-type]
            runtime.mqtt = broker
            await scene(World(broker, runtime.clock, SETTINGS), broker)

    run_virtual(main())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_contract(scene: Scene) -> None:
    in_virtual_time(lambda world, broker: scene(world))


def test_a_broker_that_is_down_and_one_that_refuses() -> None:
    async def scene(world: World, broker: MemoryBroker) -> None:
        heard = Heard()
        broker.down = True
        world.transport.open(world.settings, heard)
        await world.until(lambda: heard.over is not None, "the end")
        assert heard.over is MqttCause.UNREACHABLE
        broker.down = False
        broker.refuses = lambda settings: "Not authorized" if settings.password != "pw" else ""
        heard = Heard()
        world.transport.open(world.settings, heard)
        await world.until(lambda: heard.over is not None, "the end")
        assert (heard.over, heard.detail) == (MqttCause.REFUSED, "Not authorized")

    in_virtual_time(scene)


def test_a_cut_publishes_the_will_and_keeps_the_session() -> None:
    async def scene(world: World, broker: MemoryBroker) -> None:
        _, heard = await world.connect(world.named("a"), "x")
        broker.cut(world.named("a").client_id)
        await world.until(lambda: heard.over is MqttCause.LOST, "the cut")
        assert not broker.connected(world.named("a").client_id)

    in_virtual_time(scene)


def test_duplicates_come_with_their_flag_and_losses_only_at_qos_0() -> None:
    async def scene(world: World, broker: MemoryBroker) -> None:
        connection, heard = await world.connect(world.named("a"), "x")
        for number in range(200):
            broker.publish("x", b"%d" % number)
            broker.publish("x", b"zero", qos=0)
        await world.clock.sleep(5.0)
        ones = [payload for _, payload in heard.messages if payload != b"zero"]
        assert list(dict.fromkeys(ones)) == [b"%d" % number for number in range(200)]
        assert 60 < heard.duplicates < 140
        assert len(ones) == 200 + heard.duplicates
        assert 60 < len(heard.messages) - len(ones) < 140
        connection.close()

    in_virtual_time(scene, duplication=0.5, loss=0.5)


def test_a_server_may_take_a_message_and_answer_one_client() -> None:
    async def scene(world: World, broker: MemoryBroker) -> None:
        taken: list[tuple[str, str, bytes]] = []

        def intercept(client_id: str, topic: str, payload: bytes) -> bool:
            if topic != "v1/devices/me/telemetry":
                return False
            taken.append((client_id, topic, payload))
            broker.deliver(client_id, "answer", b"yes")
            return True

        broker.intercept = intercept
        one, heard_one = await world.connect(world.named("one"))
        two, heard_two = await world.connect(world.named("two"), "#")
        one.publish("v1/devices/me/telemetry", b"{}")
        one.publish("other", b"1")
        await world.until(lambda: heard_two.messages and heard_one.messages, "both")
        assert taken == [(world.named("one").client_id, "v1/devices/me/telemetry", b"{}")]
        assert heard_one.messages == [("answer", b"yes")]
        assert heard_two.messages == [("other", b"1")]
        one.close()
        two.close()

    in_virtual_time(scene)


def test_who_publishes_what_it_may_not_is_disconnected() -> None:
    async def scene(world: World, broker: MemoryBroker) -> None:
        broker.allows = lambda client_id, verb, topic: topic != "secret"
        connection, heard = await world.connect(world.named("a"))
        connection.subscribe("ok", "secret")
        await world.until(lambda: heard.granted, "SUBACK")
        assert heard.refused == ("secret",)
        connection.publish("secret", b"")
        await world.until(lambda: heard.over is MqttCause.LOST, "the end")
        broker.max_payload = 10
        connection, heard = await world.connect(world.named("b"))
        connection.publish("ok", bytes(11))
        await world.until(lambda: heard.over is MqttCause.LOST, "the end")

    in_virtual_time(scene)
