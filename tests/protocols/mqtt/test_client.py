"""What every MQTT protocol client does with its connection, seen on AWS devices."""

from __future__ import annotations

import pytest

from agent import Device, LocalMisuse, State
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings
from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from protocols.http.memory_transport import MemoryHttp
from protocols.mqtt.aws import AwsClient
from tests.agent.parts import SLOT, new_image, old_image, trusted
from tests.protocols.mqtt.aws_world import World, client_of, play, updated


def moves(world: World, device: Device, machine: str = "connection") -> list[tuple[str, str, str]]:
    history = world.runtime.journal.history(device.ring)
    return [(one.old, one.new, one.cause) for one in history if one.machine == machine]


def test_the_journal_tells_of_the_connection() -> None:
    async def scene(world: World) -> None:
        world.broker.down = True
        device = world.device()
        await world.runtime.clock.sleep(1.0)
        assert not client_of(device).registered
        world.broker.down = False
        await world.registered(device)
        world.broker.cut("thing-1")
        await world.runtime.clock.sleep(0.1)
        assert not client_of(device).registered
        await world.registered(device)
        device.power_off()
        told = moves(world, device)
        assert told[0] == ("STOPPED", "CONNECTING", "start")
        assert told[1] == ("CONNECTING", "WAITING", "unreachable: nobody listens")
        assert ("CONNECTED", "WAITING", "lost: closed by the broker") in told
        assert told[-1] == ("CONNECTED", "STOPPED", "stop")
        await world.runtime.clock.sleep(1.0)
        assert not world.broker.connected("thing-1")
        world.devices.clear()

    play(scene)


def test_a_device_without_power_is_silent_and_its_session_waits() -> None:
    async def scene(world: World) -> None:
        device = world.device()
        await world.registered(device)
        device.cut_power()
        await world.runtime.clock.sleep(1.0)
        assert not world.broker.connected("thing-1")
        requests = len(world.stub.requests)
        # The notification waits in the persistent session, and is not needed: $next/get tells.
        world.offer(new_image())
        await world.runtime.clock.sleep(300.0)
        assert len(world.stub.requests) == requests
        device.power_on()
        await world.ended("SUCCEEDED")
        assert updated(device)

    play(scene)


def test_a_refused_subscription_keeps_a_device_away() -> None:
    async def scene(world: World) -> None:
        world.broker.allows = lambda client, verb, topic: not topic.endswith("/rejected/+")
        device = world.device()
        await world.runtime.clock.sleep(60.0)
        assert not client_of(device).registered
        assert ("CONNECTED", "CONNECTED", "subscription refused") in moves(world, device)
        tries = world.broker.connects
        assert 3 < tries < 30, "it comes back, and ever more slowly"
        world.broker.allows = lambda client, verb, topic: True
        await world.registered(device)

    play(scene)


def test_an_unanswered_request_is_repeated_ever_more_slowly() -> None:
    async def scene(world: World) -> None:
        world.stub.mute = True
        device = world.device()
        await world.registered(device)
        await world.runtime.clock.sleep(3600.0)
        asked = world.stub.requests.count(("thing-1", "$next/get"))
        assert 10 < asked < 25
        world.stub.mute = False
        world.offer(new_image())
        await world.ended("SUCCEEDED")

    play(scene)


def test_a_trace_line_has_the_topic_and_no_payload() -> None:
    async def scene(world: World) -> None:
        world.runtime.http = MemoryHttp(world.runtime)
        device = world.device()
        await world.registered(device)
        world.offer(new_image(), update_data_url="https://bucket/fw?X-Amz-Signature=secret")
        await world.runtime.clock.sleep(2.0)
        assert any(line.startswith("> $aws/things/thing-1/jobs/start-next") for line in world.lines)
        assert any(
            line.startswith("< $aws/things/thing-1/jobs/notify-next") for line in world.lines
        )
        assert "secret" not in "".join(world.lines)
        world.stub.cancel("AFR_OTA-1", "thing-1")
        await world.until(lambda: device.engine.state is State.IDLE)

    play(scene)


def test_a_herd_comes_back_at_one_instant() -> None:
    async def scene(world: World) -> None:
        herd = frozenset({Misbehaviour.HERD})
        devices = [world.device(f"thing-{number}", misbehave=herd) for number in range(50)]
        for device in devices:
            await world.registered(device)
        for device in devices:
            world.broker.cut(device.name)
        world.broker.connects = 0
        await world.runtime.clock.sleep(0.9)
        assert world.broker.connects == 0
        await world.runtime.clock.sleep(0.3)
        assert world.broker.connects == 50

    play(scene)


def test_virtual_time_needs_a_broker_in_memory() -> None:
    async def main() -> None:
        async with Runtime.in_memory() as runtime:
            device = Device(
                runtime, "thing-1", image=old_image(), trusted=trusted(), slot_size=SLOT
            )
            settings = ClientSettings(server="mqtt://broker")
            device.attach(lambda device: AwsClient(device, settings))
            with pytest.raises(LocalMisuse, match="MemoryBroker"):
                device.power_on()

    run_virtual(main())


def test_a_run_is_measured() -> None:
    async def scene(world: World) -> None:
        device = world.device(block="1024", window="4")
        world.offer(new_image())
        await world.ended("SUCCEEDED")
        metrics = world.runtime.metrics
        assert metrics.registration.count == device.boots == 2
        # CONNECT and SUBSCRIBE, a round trip of 40 ms each.
        assert metrics.registration.percentile(50) == pytest.approx(0.08, abs=0.05)
        assert metrics.request.count >= 8
        assert metrics.block.count == -(-len(new_image()) // 4096)
        assert metrics.counters["bytes_in"] > len(new_image())
        assert metrics.counters["bytes_out"] > 1000

    play(scene)
