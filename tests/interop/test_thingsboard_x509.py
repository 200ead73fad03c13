"""ThingsBoard devices with a certificate each: over MQTT it is who they are (mosquitto looks at it
and lets in whom it knows by name), over HTTP what a proxy in front wants to see (nginx).

The ThingsBoard side is the stub; what is real is TLS, the broker, the proxy, and the sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import Device
from agent.credentials import Credential
from agent.device import DeviceTiming
from agent.protocol import ClientSettings
from agent.runtime.mqtt import MqttCause, MqttConnection, MqttSettings
from agent.runtime.runtime import Runtime
from protocols.mqtt import transport_of
from protocols.thingsboard import _client
from tests.agent.parts import SLOT, new_image, old_image, trusted
from tests.protocols.http.transport.certificates import authority
from tests.stubs.hawkbit.listener import listening
from tests.stubs.thingsboard import Package, ThingsBoardStub
from tools.bench.http_nginx import Nginx
from tools.bench.mqtt_broker import Authority, Mosquitto, mosquitto

SECONDS = 120.0
SERVER = "thingsboard"
KNOWN = ("meter-1", "meter-2")

# Whoever is not named here may neither publish nor subscribe.
ACCESS = "".join(
    f"user {name}\ntopic readwrite {topics}\n"
    for name in KNOWN
    for topics in ("v1/devices/me/#", "v2/#")
)


class Quick(DeviceTiming):
    boot_seconds = 0.2
    reboot_delay = 0.1
    watchdog_seconds = 0.5


class Bridge:
    """The broker that the stub wants, made of a client of a real one. All devices of mosquitto
    share the topics that ThingsBoard keeps for each of them, so one is switched on at a time."""

    def __init__(self) -> None:
        self.connection: MqttConnection
        self.refuses: Callable[[MqttSettings], str] = lambda settings: ""
        self.intercept: Callable[[str, str, bytes], bool] = lambda client, topic, payload: True
        self.ready = asyncio.Event()
        self.device = ""

    def admit(self, name: str) -> None:
        self.device = name
        assert not self.refuses(MqttSettings("", 0, name, username=name))

    def deliver(self, client: str, topic: str, payload: bytes) -> None:
        self.connection.publish(topic, payload)

    # What the client of the broker hears.

    def connected(self, session_present: bool) -> None:
        self.connection.subscribe(
            *("v1/devices/me/telemetry", "v1/devices/me/attributes/request/+"),
            *("v2/fw/request/+/chunk/+", "v2/sw/request/+/chunk/+"),
        )

    def subscribed(self, refused: tuple[str, ...]) -> None:
        assert refused == ()
        self.ready.set()

    def received(self, topic: str, payload: bytes, qos: int, duplicate: bool) -> None:
        self.intercept(self.device, topic, payload)

    def disconnected(self, cause: MqttCause, detail: str) -> None:
        pass


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not done():
            await asyncio.sleep(0.05)


def spawn(runtime: Runtime, name: str, index: int, settings: ClientSettings) -> Device:
    device = Device(
        runtime, name, image=old_image(), trusted=trusted(), slot_size=SLOT, index=index,
        timing=Quick(),
    )  # fmt: skip
    device.attach(lambda device: _client(device, settings))
    device.power_on()
    return device


def connections(log: Path) -> list[str]:
    """The user names that mosquitto has made of certificates, in order."""
    lines = [line for line in log.read_text().splitlines() if " u'" in line]
    return [line.partition(" u'")[2].partition("'")[0] for line in lines]


async def test_over_mqtt_a_device_is_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "access").write_text(f"user {SERVER}\ntopic readwrite #\n{ACCESS}")
    access = f"use_identity_as_username true\nacl_file {tmp_path / 'access'}\nlog_type all\n"
    with mosquitto(tmp_path, access) as broker:
        async with Runtime.real() as runtime:
            stub, bridge = ThingsBoardStub(), Bridge()
            stub.serve(bridge)  # type: ignore[arg-type]
            bridge.connection = transport_of(runtime).open(
                MqttSettings(
                    "127.0.0.1",
                    broker.tls_port,
                    SERVER,
                    tls=True,
                    credential=broker.authority.issue(SERVER),
                ),
                bridge,
            )
            await asyncio.wait_for(bridge.ready.wait(), SECONDS)
            for index, name in enumerate(KNOWN):
                server = stub.add(name)
                stub.assign(name, Package("meter", "2.0.0", new_image()))
                bridge.admit(name)
                device = spawn(runtime, name, index, over_mqtt(broker, lambda device: device.name))
                await until(lambda server=server: "UPDATED" in server.states())  # type: ignore[misc]
                device.power_off()
                assert server.states()[-1] == "UPDATED" and "FAILED" not in server.states()
                assert str(device.running.version) == "2.0.0"  # type: ignore[union-attr]
            # The name in the certificate counts, not the one that the device gives itself.
            stranger = spawn(runtime, KNOWN[0], 7, over_mqtt(broker, lambda device: "stranger"))
            told = len(stub.devices[KNOWN[0]].telemetry)
            await until(lambda: connections(tmp_path / "mosquitto.log")[-1] == "stranger")
            await asyncio.sleep(1.0)
            stranger.power_off()
            assert len(stub.devices[KNOWN[0]].telemetry) == told
            assert str(stranger.running.version) == "1.0.0"  # type: ignore[union-attr]
            bridge.connection.close()
    assert stub.violations == []
    assert set(connections(tmp_path / "mosquitto.log")) == {SERVER, "stranger", *KNOWN}


def over_mqtt(broker: Mosquitto, common_name: Callable[[Device], str]) -> ClientSettings:
    issued: dict[str, Credential] = {}

    def credential(device: Device) -> Credential:
        name = common_name(device)
        if name not in issued:
            issued[name] = broker.authority.issue(name)
        return issued[name]

    return ClientSettings(
        server=f"mqtts://127.0.0.1:{broker.tls_port}",
        credential=credential,
        options={"title": "meter"},
    )


@pytest.mark.parametrize("missing", [False, True], ids=["foreign", "missing"])
async def test_over_mqtt_no_other_certificate_opens_the_door(tmp_path: Path, missing: bool) -> None:
    with mosquitto(tmp_path) as broker:
        own = Authority("somebody else's").issue("meter-1")
        own = replace(own, authorities=broker.authority.pem)
        if missing:
            own = replace(own, certificate=b"", private_key=b"")
        events: list[tuple[str, ...]] = []
        settings = replace(over_mqtt(broker, lambda device: "x"), credential=lambda device: own)
        async with Runtime.real() as runtime:
            device = Device(
                runtime, "meter-1", image=old_image(), trusted=trusted(), slot_size=SLOT
            )
            device.on_event = lambda *event: events.append(event)
            device.attach(lambda device: _client(device, settings))
            device.power_on()
            await until(lambda: any(event[1] == "CONNECTING" for event in events))
            device.power_off()
        assert not any(event[2] == "CONNECTED" for event in events)


async def test_over_http_the_certificate_is_shown_to_the_proxy(tmp_path: Path) -> None:
    certificate, key = authority().issue("server", address="127.0.0.1")
    (tmp_path / "server.pem").write_bytes(certificate + key)
    (tmp_path / "authority.pem").write_bytes(authority().pem)
    stub = ThingsBoardStub()
    seen: set[tuple[str, str]] = set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        shown = dict(scope["headers"])[b"x-client"].decode()
        seen.add((shown, scope["path"].split("/")[3]))
        await stub.app(scope, receive, send)

    def credential(device: Device) -> Credential:
        certificate, key = authority().issue(device.name)
        return Credential(
            token=f"token-of-{device.name}",
            certificate=certificate,
            private_key=key,
            authorities=authority().pem,
        )

    async with listening(app, "127.0.0.1") as port:
        forward = (
            f"location /api/ {{ proxy_set_header X-Client $ssl_client_s_dn; "
            f"proxy_pass http://127.0.0.1:{port}; }}"
        )
        with Nginx(tmp_path, verify="on", more=forward) as server:
            settings = ClientSettings(
                server=server.origin,
                credential=credential,
                options={"title": "meter", "interval": "0.2"},
            )
            names = [f"meter-{number}" for number in range(10)]
            async with Runtime.real() as runtime:
                for name in names:
                    stub.add(f"token-of-{name}")
                    stub.assign(f"token-of-{name}", Package("meter", "2.0.0", new_image()))
                devices = [spawn(runtime, name, at, settings) for at, name in enumerate(names)]
                # One without a certificate has a token, and gets no further than the proxy.
                stub.add("token-only")
                bare = Credential(token="token-only", authorities=authority().pem)
                outside = spawn(
                    runtime, "outside", 20, replace(settings, credential=lambda device: bare)
                )
                await until(
                    lambda: all(
                        "UPDATED" in stub.devices[f"token-of-{name}"].states() for name in names
                    )
                )
                for device in (*devices, outside):
                    device.power_off()
    assert seen == {(f"CN={name}", f"token-of-{name}") for name in names}
    assert stub.devices["token-only"].telemetry == []
    assert stub.violations == []
