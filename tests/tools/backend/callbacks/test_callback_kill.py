"""kill -9 while callbacks are delivered, on real sockets: every change is told in the end."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from pathlib import Path

from agent.runtime.runtime import Runtime
from tests.tools.backend.callbacks.callback_raw import OK, RawListener, raw
from tests.tools.backend.callbacks.test_callback_campaigns import AUDIT
from tests.tools.backend.process import BackendProcess, ok
from tests.tools.backend.test_kill import Striking, keep_up, make_campaign

DEVICES = 2
UNANSWERED, ANSWERED = 2, 3
"""Numbers of the messages at which the backend is killed, once each."""
LIMIT = 240.0  # seconds; only a backend that is stuck takes them


def database(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "b.db", timeout=10)


async def test_killed_by_its_listener(tmp_path: Path) -> None:
    """The listener kills the backend before it answers a message, and after it has answered one.
    The devices of the campaign are off, and it is aborted in the end."""
    backend = BackendProcess(tmp_path)
    await backend.start()
    with database(tmp_path) as connection:
        connection.executescript(";".join(AUDIT))
    connection.close()
    struck = asyncio.Event()
    accepted: list[tuple[int, dict[str, object]]] = []
    seen: Counter[int] = Counter()

    def strike() -> None:
        backend.kill()
        struck.set()

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, body = listener.requests[-1].partition(b"\r\n\r\n")
        number = int(head.lower().split(b"x-message-id: ")[1].split(b"\r\n")[0])
        seen[number] += 1
        if number == UNANSWERED and seen[number] == 1:
            strike()
            return
        accepted.append((number, json.loads(body)))
        writer.write(OK)
        await writer.drain()
        if number == ANSWERED and seen[number] == 1:
            await asyncio.sleep(0.004)  # about when the row is marked
            strike()

    listener: RawListener
    async with raw(behave) as listener, Runtime.real(seed=11) as runtime:
        async with backend.login() as client:
            account = backend.ready["account"]["name"]
            await ok(
                await client.post(f"/api/fota/v3/callbacks/{account}", json={"url": listener.url})
            )
        meters = [
            Striking(runtime, backend.coap, f"urn:imei:{350000000000000 + number}", number, "")
            for number in range(DEVICES)
        ]
        campaign = await make_campaign(backend, meters)
        restarts = asyncio.create_task(keep_up(backend, struck))
        try:
            async with asyncio.timeout(LIMIT):
                while backend.starts < 3 or not backend.alive:
                    await asyncio.sleep(0.05)
                async with backend.login() as client:
                    path = f"/api/fota/v3/campaigns/{account}/{campaign}"
                    await ok(await client.delete(path))
                while not told_all(tmp_path, accepted):
                    await asyncio.sleep(0.1)
        finally:
            restarts.cancel()
        assert backend.starts == 3
        assert seen[UNANSWERED] > 1
        # What was sent again is the same message.
        by_number: dict[int, object] = {}
        for number, body in accepted:
            assert by_number.setdefault(number, body) == body
        assert backend.interrupt() == 0
        for meter in meters:
            meter.close()


def told_all(folder: Path, accepted: list[tuple[int, dict[str, object]]]) -> bool:
    """Whether every change that became durable was accepted, and no message waits."""
    connection = database(folder)
    durable = connection.execute("SELECT campaign, device_id, status FROM audit").fetchall()
    changes = connection.execute("SELECT count(*) FROM outbox_changes").fetchone()[0]
    waiting = connection.execute("SELECT count(*) FROM outbox WHERE state = 'waiting'").fetchone()[
        0
    ]
    connection.close()
    told = set()
    for _number, body in accepted:
        told.add((body["campaignId"], "", body["status"]))
        items = body["deviceList"]
        assert isinstance(items, list)
        told |= {(body["campaignId"], item["deviceId"], item["status"]) for item in items}
    assert durable
    return not changes and not waiting and not set(durable) - told
