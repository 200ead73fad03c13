"""A hundred devices over sockets against the reference backend, as `fotilla run` would run them."""

from __future__ import annotations

import asyncio

from agent.credentials import Credential
from agent.misbehaviour import Misbehaviour
from agent.runtime.runtime import Runtime
from firmware_images.mcuboot import KeyType, Version, build_image, generate_key
from tools.backend.backend import Backend, BackendConfig
from tools.fleet.audit import audit
from tools.fleet.shard import open_shard
from tools.fleet.spec import FaultShare, FleetSpec

DEVICES = 100
NAMES = tuple(f"meter-{number}" for number in range(DEVICES))
BOUND = 120.0
"""Seconds after which a run has failed; it takes a tenth of it."""


async def test_a_hundred_devices_and_the_audit():
    key = generate_key(KeyType.ED25519)
    image = build_image(bytes(40_000), version=Version(2, 0, 0, 0), key=key, security_counter=2)
    config = BackendConfig(timing="immediate", pilot_waived=True, contact=1)
    async with Runtime.real(seed=1) as ground:
        backend = Backend(ground, config)
        await backend.start()
        try:
            await backend.load_devices({"name": name, "protocol": "HTTP"} for name in NAMES)
            tokens = await backend.mint_tokens(NAMES)
            spec = FleetSpec(
                server=backend.http_url,
                devices=DEVICES,
                names=NAMES,
                image=image,
                keys=(key.public.to_pem(),),
                protocol="http",
                slot_size=128 << 10,
                seed=3,
                faults=(FaultShare("corrupt-download", 0.1), FaultShare("cut-download", 0.3)),
                misbehave=(
                    (Misbehaviour.DUPLICATE_REPORT, 0.2),
                    (Misbehaviour.FOREIGN_REPORT, 0.2),
                    (Misbehaviour.OVERSIZED_REPORT, 0.2),
                    (Misbehaviour.STALE_CREDENTIAL, 0.2),
                    (Misbehaviour.LATE_REPORT, 0.2),
                ),
                credentials=tuple(Credential(token=tokens[name]) for name in NAMES),
                options=(("interval", "1"),),
            )
            async with asyncio.timeout(BOUND), open_shard(spec) as shard:
                await shard.start()
                assert await shard.until_registered(30.0)
                package = await backend.add_package(
                    image, name="app", version="2.0.0", protocol="HTTP"
                )
                await backend.create_campaign(NAMES, package, concurrency=DEVICES)
                assert await shard.wait(backend.finished.is_set)
                snapshot = shard.snapshot()
                beliefs = backend.beliefs()
                await shard.power_off()
        finally:
            await backend.stop()
    result = audit(snapshot.truths, beliefs, snapshot.target)
    assert (result.agree, result.differ, result.unknown) == (DEVICES, 0, 0)
    # What the devices were told agrees with what the backend believes of each of them.
    assert {name: one.verdict for name, one in snapshot.beliefs.items()} == {
        name: beliefs[name].verdict for name in NAMES
    }
    outcomes = [truth.outcome for truth in snapshot.truths]
    assert 0 < outcomes.count("integrity") < 30
    assert outcomes.count("success") + outcomes.count("integrity") == DEVICES
    judged = snapshot.misbehaviours
    assert len(judged) == 5
    assert all(one.kept and not one.broken for one in judged.values()), judged
