"""`fotilla device`, and what Ctrl-C does to whatever runs in the foreground."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from agent.runtime.runtime import Runtime
from firmware_images import UnusableInput
from tools.backend.backend import Backend, BackendConfig
from tools.fleet import single
from tools.fleet.signals import stop_signals
from tools.options import DeviceOptions

HANGS = 60.0  # a test that waits so long for what takes milliseconds will wait for ever


def options(server: str, **fields: object) -> DeviceOptions:
    return DeviceOptions(server=server, name="meter-1", slot_size=64 << 10, **fields)  # type: ignore[arg-type]


async def run_until_registered(monkeypatch: pytest.MonkeyPatch, **fields: object) -> int:
    """The device against our backend; Ctrl-C as soon as it says that it is registered."""
    said = asyncio.Event()
    printed = single._line

    def line(text: str) -> None:
        printed(text)
        if "REGISTERED  (registered)" in text or '"new":"REGISTERED"' in text:
            said.set()

    monkeypatch.setattr(single, "_line", line)
    async with Runtime.real() as runtime:
        backend = Backend(runtime, BackendConfig())
        await backend.start()
        try:
            host, port = backend.coap_address
            given = options(f"coap://{host}:{port}", **fields)
            image, trusted = single._equipment(given)
            running = asyncio.create_task(single._single(given, given.server, image, trusted))
            async with asyncio.timeout(HANGS):
                await said.wait()
            assert backend.unknown_identities() == ["meter-1"]
            os.kill(os.getpid(), signal.SIGINT)
            code = await running
            assert backend.unknown_identities() == []
            return code
        finally:
            await backend.stop()


async def test_every_change_is_printed_and_every_message_decoded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await run_until_registered(monkeypatch, trace=True) == 130
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert "BOOTING -> RUNNING  (started)  running 0.0.0" in text
    assert "REGISTERING -> REGISTERED" in text
    assert "POST /rd?ep=meter-1&lt=300" in text
    assert "2.01 Created Location: /rd/" in text
    assert "2.02 Deleted" in text
    assert "DEREGISTERING -> UNREGISTERED  (deregistered)" in lines[-1]


async def test_with_json_standard_output_holds_journal_lines_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await run_until_registered(monkeypatch, trace=True, as_json=True) == 130
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert {line["device"] for line in lines} == {"meter-1"}
    assert "2.01 Created" in said.err


def test_a_factory_image_needs_a_key_and_has_to_boot() -> None:
    with pytest.raises(UnusableInput, match="--key"):
        single._equipment(options("coap://127.0.0.1", running=b"x"))
    key = single.derived_key(single.KeyType.ED25519, 1, "test").public.to_pem()
    with pytest.raises(UnusableInput, match="--running: the device would not boot it"):
        single._equipment(options("coap://127.0.0.1", running=b"x", keys=(key,)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_in_order_and_only_once(number: signal.Signals) -> None:
    with stop_signals() as stop:
        os.kill(os.getpid(), number)
        await stop.wait()
        # Nobody listens any more: a second one acts as it does on any program.
        expected = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        assert signal.getsignal(number) is expected
