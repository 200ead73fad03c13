"""The operator network: attach, detach, and a short-message centre that loses nothing."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.runtime.network import Address
from agent.runtime.runtime import Runtime
from tests.tools.backend.process import BackendProcess, ok
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, started, virtual, world
from tools.backend.backend import Backend
from tools.backend.errors import RequestRefused
from tools.backend.operator_network.network import (
    MAX_PDU,
    MAX_VALIDITY,
    MAX_WAITING,
    SHORT_MESSAGE_TABLE,
    MessageRefused,
    MessageReport,
)

ONE = "350000000000001"
TWO = "350000000000002"


class Phone:
    """Somebody who takes datagrams."""

    def __init__(self, runtime: Runtime, host: str = "10.0.0.1") -> None:
        self.got: list[bytes] = []
        self.socket = runtime.network.open((host, 0), self.receive)

    def receive(self, data: bytes, _source: Address) -> None:
        self.got.append(data)

    @property
    def push(self) -> Address:
        return self.socket.local


def kill(backend: Backend) -> None:
    """Everything in memory is gone; nothing that is still queued gets committed."""
    backend.engine.stop()
    backend.operator.stop()
    backend.lwm2m.endpoint.abandon()
    backend.writer._queue.clear()
    backend.writer._push = lambda _change: None  # type: ignore[method-assign]
    backend.writer._runner._engine.dispose()


@virtual
async def test_a_message_to_an_attached_device_leaves_at_once() -> None:
    async with world() as backend:
        phone = Phone(backend.runtime)
        await backend.operator.attach(ONE, "c1", phone.push)
        number = await backend.operator.submit(ONE, b"one", 60.0)
        await backend.runtime.clock.sleep(1)
        assert phone.got == [b"one"]
        assert backend.operator.state_of(number) == "sent"
        assert backend.operator.waiting(ONE) == 0
        assert backend.operator.cell_of(ONE) == "c1"
        assert backend.operator.cell_of(TWO) == ""


@virtual
async def test_a_message_waits_for_the_device_in_order() -> None:
    async with world() as backend:
        phone = Phone(backend.runtime)
        numbers = [await backend.operator.submit(ONE, bytes([n]), 60.0) for n in range(3)]
        await backend.operator.submit(TWO, b"other", 60.0)
        await backend.runtime.clock.sleep(59)
        assert [backend.operator.state_of(n) for n in numbers] == ["accepted"] * 3
        assert backend.operator.waiting(ONE) == 3
        await backend.operator.attach(ONE, "c1", phone.push)
        await backend.runtime.clock.sleep(1)
        assert phone.got == [b"\0", b"\1", b"\2"]


@rules("BR-065")
@virtual
async def test_nobody_attached_in_time_is_reported() -> None:
    async with world() as backend:
        operator = backend.operator
        reports: list[MessageReport] = []
        operator.on_report.append(reports.append)
        began = backend.time.now()
        first = await operator.submit(ONE, b"one", 60.0)
        second = await operator.submit(ONE, b"two", 30.0)
        await backend.runtime.clock.sleep(61)
        assert [(item.number, item.state) for item in reports] == [
            (second, "expired"),
            (first, "expired"),
        ]
        assert began + 60 <= reports[1].when < began + 60.1
        assert operator.state_of(first) == "expired"
        assert operator.waiting(ONE) == 0
        phone = Phone(backend.runtime)
        await operator.attach(ONE, "c1", phone.push)
        await backend.runtime.clock.sleep(1)
        assert phone.got == []


@virtual
async def test_detach_and_move() -> None:
    async with world() as backend:
        operator = backend.operator
        here, there = Phone(backend.runtime), Phone(backend.runtime, "10.0.0.2")
        seen: list[str] = []
        operator.on_attach.append(lambda attachment: seen.append(attachment.cell))
        await operator.attach(ONE, "c1", here.push)
        assert await operator.detach(ONE)
        assert not await operator.detach(ONE)
        await operator.submit(ONE, b"late", 60.0)
        await operator.attach(ONE, "c2", there.push)
        await operator.submit(ONE, b"later", 60.0)
        await backend.runtime.clock.sleep(1)
        assert (here.got, there.got, seen) == ([], [b"late", b"later"], ["c1", "c2"])


@virtual
async def test_what_is_not_taken() -> None:
    async with world() as backend:
        operator = backend.operator
        for pdu, validity in (
            (b"", 1.0),
            (bytes(MAX_PDU + 1), 1.0),
            (b"x", 0.0),
            (b"x", MAX_VALIDITY + 1),
            (b"x", float("nan")),
        ):
            with pytest.raises(MessageRefused):
                await operator.submit(ONE, pdu, validity)
        for _ in range(MAX_WAITING):
            await operator.submit(ONE, b"x", 1.0)
        with pytest.raises(MessageRefused, match="wait for"):
            await operator.submit(ONE, b"x", 1.0)
        await operator.submit(TWO, b"x", 1.0)
        for cell, push in (
            ("", ("10.0.0.1", 1)),
            ("x" * 65, ("10.0.0.1", 1)),
            ("a\nb", ("10.0.0.1", 1)),
            ("c", ("nowhere.example", 1)),
            ("c", ("10.0.0.1", 0)),
            ("c", ("10.0.0.1", 65536)),
        ):
            with pytest.raises(RequestRefused):
                await operator.attach(ONE, cell, push)
        assert operator.attachment(ONE) is None


@virtual
async def test_nothing_accepted_is_lost_by_a_kill(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory(seed=7) as runtime:
        phone, other = Phone(runtime), Phone(runtime, "10.0.0.2")
        first = Backend(runtime, config)
        await first.start()
        await first.operator.attach(TWO, "c2", other.push)
        number = await first.operator.submit(ONE, b"kept", 600.0)
        await first.operator.submit(ONE, b"short", 5.0)
        await first.operator.submit(TWO, b"sent", 600.0)
        await runtime.clock.sleep(1)
        kill(first)
        await runtime.clock.sleep(10)
        async with started(runtime, config) as second:
            assert second.operator.cell_of(TWO) == "c2"
            assert second.operator.waiting(ONE) == 2
            await runtime.clock.sleep(1)
            assert second.operator.waiting(ONE) == 1  # one of them ran out while we were down
            await second.operator.attach(ONE, "c1", phone.push)
            await runtime.clock.sleep(1)
            assert second.operator.state_of(number) == "sent"
            fresh = await second.operator.submit(ONE, b"new", 5.0)
            assert fresh > number
            await runtime.clock.sleep(1)
        assert phone.got == [b"kept", b"new"]
        assert other.got == [b"sent"]


@virtual
async def test_a_kill_between_commit_and_send_sends_after_the_start(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory(seed=7) as runtime:
        phone = Phone(runtime)
        first = Backend(runtime, config)
        await first.start()
        await first.operator.attach(ONE, "c1", phone.push)
        first.operator.stop()  # the commit comes, the datagram does not
        await first.operator.submit(ONE, b"kept", 600.0)
        kill(first)
        assert phone.got == []
        async with started(runtime, config):
            await runtime.clock.sleep(1)
        assert phone.got == [b"kept"]


def test_the_table() -> None:
    assert set(SHORT_MESSAGE_TABLE) == {"accepted", "sent", "expired"}
    targets = {state for cells in SHORT_MESSAGE_TABLE.values() for state in cells.values()}
    assert targets == {"sent", "expired"}


# -- the routes ---


@virtual
async def test_attach_show_and_detach_over_rest() -> None:
    async with world() as backend, logged_in(backend) as client:
        path = f"/operator/devices/{ONE}"
        assert await ok(await client.get(path)) == {
            "deviceId": ONE,
            "attached": False,
            "monitored": False,
            "waitingMessages": 0,
        }
        shown = await ok(await client.put(path, json={"cell": "c1", "push": "10.0.0.1:2948"}))
        assert shown == {
            "deviceId": ONE,
            "attached": True,
            "monitored": False,
            "waitingMessages": 0,
            "cell": "c1",
            "push": "10.0.0.1:2948",
            "since": "2030-01-01T00:00:00.000Z",
        }
        assert await ok(await client.get(path)) == shown
        moved = await ok(await client.put(path, json={"cell": "c2", "push": "[::1]:5"}))
        assert (moved["cell"], moved["push"]) == ("c2", "[::1]:5")
        assert (await ok(await client.delete(path)))["attached"] is False
        assert (await client.delete(path)).status_code == 400


@virtual
async def test_a_device_goes_by_its_name_too() -> None:
    async with world() as backend, logged_in(backend) as client:
        [device] = await backend.load_devices([{"name": "meter-1"}])
        body = {"cell": "c1", "push": "10.0.0.1:1"}
        shown = await ok(await client.put("/operator/devices/meter-1", json=body))
        assert shown["deviceId"] == device.device_id
        assert backend.operator.cell_of(device.device_id) == "c1"
        assert backend.operator.cell_of("meter-1") == "c1"
        assert await backend.operator.detach("meter-1")
        phone = Phone(backend.runtime)
        await backend.operator.attach("meter-1", "c2", phone.push)
        await backend.operator.submit("meter-1", b"x", 60.0)
        await backend.runtime.clock.sleep(1)
        assert phone.got == [b"x"]


@virtual
async def test_messages_over_rest() -> None:
    async with world() as backend, logged_in(backend) as client:
        phone = Phone(backend.runtime)
        pdu = base64.b64encode(b"hello").decode()
        path = f"/operator/devices/{ONE}"
        taken = await ok(await client.post(f"{path}/messages", json={"pdu": pdu, "validity": 60}))
        assert taken["state"] == "accepted"
        assert (await ok(await client.get(path)))["waitingMessages"] == 1
        host, port = phone.push
        await client.put(path, json={"cell": "c1", "push": f"{host}:{port}"})
        await backend.runtime.clock.sleep(1)
        assert phone.got == [b"hello"]
        done = await ok(await client.get(f"/operator/messages/{taken['messageId']}"))
        assert done == {"messageId": taken["messageId"], "state": "sent"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"push": "10.0.0.1:5"},
        {"cell": "c", "push": "nowhere"},
        {"cell": "c", "push": "example.com:5"},
        {"cell": "c", "push": "10.0.0.1:0"},
        {"cell": "c", "push": "10.0.0.1:70000"},
        {"cell": "", "push": "10.0.0.1:5"},
        {"cell": 5, "push": "10.0.0.1:5"},
        [],
    ],
)
@virtual
async def test_bad_attachments_are_named(body: object) -> None:
    async with world() as backend, logged_in(backend) as client:
        answer = await client.put(f"/operator/devices/{ONE}", json=body)
        assert answer.status_code == 400
        assert answer.json()["errorCode"] == "INVALID_PARAMETER"


@virtual
async def test_other_bad_requests() -> None:
    async with world() as backend, logged_in(backend) as client:
        assert (await client.get("/operator/devices/12")).status_code == 400
        for body in ({"pdu": "?", "validity": 5}, {"pdu": "eA==", "validity": 0}, {"pdu": ""}):
            answer = await client.post(f"/operator/devices/{ONE}/messages", json=body)
            assert answer.status_code == 400, body
        for number in ("1", "x", "9" * 30):
            assert (await client.get(f"/operator/messages/{number}")).status_code == 400


@virtual
async def test_only_with_a_token_and_only_the_own_devices() -> None:
    async with world() as backend:
        transport = httpx.ASGITransport(app=backend.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get(f"/operator/devices/{ONE}")).status_code == 401
        other = replace(backend.account, name="0000000000-00002")
        backend.inventory.accounts[other.name] = other
        await backend.load_devices([{"deviceId": ONE, "account": other.name}])
        async with logged_in(backend) as client:
            for method in ("GET", "DELETE"):
                answer = await client.request(method, f"/operator/devices/{ONE}")
                assert answer.json()["errorMessage"] == "Device does not exist."


async def test_attachments_survive_kill_9(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path)
    await backend.start()
    pdu = base64.b64encode(b"x").decode()
    path = f"/operator/devices/{ONE}"
    async with backend.login() as client:
        await ok(await client.post(f"{path}/messages", json={"pdu": pdu, "validity": 600}))
        await ok(
            await client.put(f"/operator/devices/{TWO}", json={"cell": "c", "push": "127.0.0.1:9"})
        )
    backend.kill()
    await backend.start()
    async with backend.login() as client:
        assert (await ok(await client.get(path)))["waitingMessages"] == 1
        assert (await ok(await client.get(f"/operator/devices/{TWO}")))["cell"] == "c"
    assert backend.interrupt() == 0
