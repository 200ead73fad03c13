"""Devices over sockets against the reference backend, as `fotilla run` would run them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.credentials import Credential
from agent.misbehaviour import Misbehaviour
from agent.runtime.runtime import Runtime
from firmware_images.mcuboot import KeyType, Version, build_image, generate_key
from tests.busy import ANY_LAG
from tests.protocols.http.transport.certificates import authority
from tools.backend.backend import Backend, BackendConfig
from tools.backend.config import Listen
from tools.backend.faces.base import TlsFiles
from tools.fleet.audit import AuditResult, Belief, audit
from tools.fleet.shard import ShardSnapshot, open_shard
from tools.fleet.spec import FaultShare, FleetSpec

CONFIG = BackendConfig(timing="immediate", pilot_waived=True, contact=1)
BOUND = 120.0
"""Seconds after which a run has failed; it takes a tenth of it."""

Credentials = Callable[[Backend, tuple[str, ...]], Any]


async def tokens(backend: Backend, names: tuple[str, ...]) -> list[Credential]:
    minted = await backend.mint_tokens(names)
    return [Credential(token=minted[name]) for name in names]


async def updated(
    count: int, config: BackendConfig, credentials: Credentials, **more: Any
) -> tuple[ShardSnapshot, dict[str, Belief], AuditResult]:
    """A campaign over `count` devices to its end on both sides."""
    key = generate_key(KeyType.ED25519)
    image = build_image(bytes(40_000), version=Version(2, 0, 0, 0), key=key, security_counter=2)
    names = tuple(f"meter-{number}" for number in range(count))
    async with Runtime.real(seed=1) as ground:
        backend = Backend(ground, config)
        await backend.start()
        try:
            await backend.load_devices({"name": name, "protocol": "HTTP"} for name in names)
            spec = FleetSpec(
                server=backend.http_url,
                devices=count,
                names=names,
                image=image,
                keys=(key.public.to_pem(),),
                protocol="http",
                slot_size=128 << 10,
                seed=3,
                credentials=tuple(await credentials(backend, names)),
                options=(("interval", "1"),),
                max_lag=ANY_LAG,
                **more,
            )
            async with asyncio.timeout(BOUND), open_shard(spec) as shard:
                await shard.start()
                assert await shard.until_registered(30.0)
                package = await backend.add_package(
                    image, name="app", version="2.0.0", protocol="HTTP"
                )
                await backend.create_campaign(names, package, concurrency=count)
                assert await shard.wait(backend.finished.is_set)
                snapshot = shard.snapshot()
                beliefs = backend.beliefs()
                await shard.power_off()
        finally:
            await backend.stop()
    return snapshot, beliefs, audit(snapshot.truths, beliefs, snapshot.target)


async def test_a_hundred_devices_and_the_audit():
    snapshot, beliefs, result = await updated(
        100,
        CONFIG,
        tokens,
        faults=(FaultShare("corrupt-download", 0.1), FaultShare("cut-download", 0.3)),
        misbehave=(
            (Misbehaviour.DUPLICATE_REPORT, 0.2),
            (Misbehaviour.FOREIGN_REPORT, 0.2),
            (Misbehaviour.OVERSIZED_REPORT, 0.2),
            (Misbehaviour.STALE_CREDENTIAL, 0.2),
            (Misbehaviour.LATE_REPORT, 0.2),
        ),
    )
    assert (result.agree, result.differ, result.unknown) == (100, 0, 0)
    # What the devices told agrees with what the backend believes of each of them.
    assert {name: one.verdict for name, one in snapshot.beliefs.items()} == {
        name: one.verdict for name, one in beliefs.items()
    }
    outcomes = [truth.outcome for truth in snapshot.truths]
    assert 0 < outcomes.count("integrity") < 30
    assert outcomes.count("success") + outcomes.count("integrity") == 100
    judged = snapshot.misbehaviours
    assert len(judged) == 5
    assert all(one.kept and not one.broken for one in judged.values()), judged


async def test_devices_with_certificates_of_their_own(tmp_path: Path):
    house = authority()
    certificate, key = house.issue("backend", address="127.0.0.1")
    files = {"cert": certificate, "key": key, "ca": house.pem}
    for name, pem in files.items():
        (tmp_path / name).write_bytes(pem)
    tls = TlsFiles(tmp_path / "cert", tmp_path / "key", tmp_path / "ca")

    async def certificates(backend: Backend, names: tuple[str, ...]) -> list[Credential]:
        issued = [house.issue(name) for name in names]
        return [
            Credential(certificate=chain, private_key=private, authorities=house.pem)
            for chain, private in issued
        ]

    snapshot, _, result = await updated(
        5,
        replace(CONFIG, listen={"http": Listen(tls=tls)}),
        certificates,
        misbehave=((Misbehaviour.CLONED_IDENTITY, 1.0), (Misbehaviour.STALE_CREDENTIAL, 1.0)),
    )
    assert (result.agree, result.differ) == (5, 0)
    assert {truth.outcome for truth in snapshot.truths} == {"success"}
    assert len(snapshot.misbehaviours) == 2
    assert all(one.kept and not one.broken for one in snapshot.misbehaviours.values())
