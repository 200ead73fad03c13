"""Device management beside the campaigns."""

from __future__ import annotations

import pytest

from protocols.lwm2m.records import Record
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import virtual, world
from tools.backend.faces.lwm2m_operations import OperationFailed, Operations


@virtual
async def test_operations() -> None:
    async with world() as backend:
        meter = ScriptedDevice(backend.runtime, backend.coap_address, "meter-1")
        meter.register()
        await backend.runtime.clock.sleep(1)
        operations = Operations(backend.lwm2m)
        assert await operations.read("meter-1", (3, 0, 3)) == [Record((3, 0, 3), "1.0.0")]
        heard: list[object] = []
        handle = operations.observe("meter-1", (5, 0, 3), heard.append)
        await backend.runtime.clock.sleep(1)
        meter.set(1, 0)
        await backend.runtime.clock.sleep(1)
        assert heard == [[Record((5, 0, 3), 0)], [Record((5, 0, 3), 1)]]
        handle.cancel()
        with pytest.raises(OperationFailed, match=r"4\.05"):
            await operations.execute("meter-1", (5, 0, 2))
        with pytest.raises(OperationFailed, match=r"4\.04"):
            await operations.read("meter-1", (3, 0, 9))
        with pytest.raises(OperationFailed, match="not registered"):
            await operations.read("meter-2", (3, 0, 3))
        meter.close()
