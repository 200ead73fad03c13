"""CPU per CoAP exchange on the device's side, against a C loop and against aiocoap.

100 devices on sockets of their own, loaded by a C program with a window of 100, the complete path:
socket, endpoint, LwM2M dispatch, engine, image rope and its SHA-256. Only the CPU of the device
process counts: wall-clock rates on a shared machine say little. The variants are interleaved, so
that whatever else the machine does meets all of them, and medians are compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.bench.control import Measured
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.images import make_images
from tools.bench.setting import Setting

__all__ = ["NAMES", "measure"]

NAMES = ("coap_exchange_cpu", "coap_block_cpu", "coap_exchange_cpu_aiocoap")

DEVICES = 100
WINDOW = 100
RUNS, QUICK_RUNS = 5, 2
EXCHANGES, QUICK_EXCHANGES = 60_000, 10_000
AIOCOAP_EXCHANGES, QUICK_AIOCOAP_EXCHANGES = 5_000, 1_000
"""aiocoap keeps each served request for 247 s and becomes slower with them: few flatter it."""
LIFETIME = 86_400
"""No registration update falls into the measurement."""
BLOCK = 1024
BLOCKS = 600
"""Blocks of one push before the next begins at block 0: an image of 600 KiB, within the slot."""

EXCHANGE_BOUND, BLOCK_BOUND, AIOCOAP_BOUND = 4.5, 5.0, 12.0


@dataclass(slots=True)
class Samples:
    """Microseconds of CPU per exchange, one per run."""

    limit: list[float] = field(default_factory=list)
    exchange: list[float] = field(default_factory=list)
    block: list[float] = field(default_factory=list)
    first_block: list[float] = field(default_factory=list)
    aiocoap: list[float] = field(default_factory=list)


def cpu_per_exchange(process: Measured, load: Callable[[], int]) -> float:
    before = process.ask("cpu")
    done = load()
    after = process.ask("cpu")
    seconds = after["user"] + after["sys"] - before["user"] - before["sys"]
    return float(seconds) * 1e6 / done


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    """The figures of :data:`NAMES` that are `wanted`, from one interleaved run."""
    samples = Samples()
    make_images(setting.folder, 16 << 10)
    with setting.server() as server:
        where = server.ask("where")
        with setting.device_host(where["uri"], DEVICES, lifetime=LIFETIME) as host:
            lost = host.ask("register", within=300.0)["lost"]
            if lost:
                raise BenchError(f"{lost} of {DEVICES} devices did not register")
            # The load takes the server's place: a device answers to its server and nobody else.
            server.ask("close")
            if "coap_exchange_cpu_aiocoap" in wanted:
                with aiocoap_devices(setting) as devices:
                    run(setting, wanted, samples, host, where["port"], devices)
            else:
                run(setting, wanted, samples, host, where["port"], None)
    return [figure for figure in figures(samples) if figure.name in wanted]


def aiocoap_devices(setting: Setting) -> Measured:
    try:
        import aiocoap  # noqa: F401 - only to name what is missing before a process fails
    except ImportError:
        raise BenchError("aiocoap is not installed: pip install 'fotilla[dev]'") from None
    return Measured("tools.bench.aiocoap_devices", str(DEVICES), str(setting.base + 1))


def run(
    setting: Setting,
    wanted: frozenset[str],
    samples: Samples,
    host: Measured,
    source_port: int,
    aiocoap: Measured | None,
) -> None:
    yardsticks = setting.yardsticks
    count = QUICK_EXCHANGES if setting.quick else EXCHANGES
    few = QUICK_AIOCOAP_EXCHANGES if setting.quick else AIOCOAP_EXCHANGES

    def load(base: int, n: int, path: str = "5/0/3", payload: int = 0, blocks: int = 1) -> int:
        return yardsticks.load(
            base,
            DEVICES,
            n,
            window=WINDOW,
            source_port=source_port,
            path=path,
            payload=payload,
            blocks=blocks,
        )

    with yardsticks.server() as port:
        for _ in range(QUICK_RUNS if setting.quick else RUNS):
            samples.limit.append(yardsticks.limit(port, DEVICES))
            samples.exchange.append(cpu_per_exchange(host, lambda: load(setting.base, count)))
            if "coap_block_cpu" in wanted:
                samples.block.append(
                    cpu_per_exchange(
                        host, lambda: load(setting.base, count, "5/0/0", BLOCK, BLOCKS)
                    )
                )
                samples.first_block.append(
                    cpu_per_exchange(host, lambda: load(setting.base, count, "5/0/0", BLOCK, 1))
                )
            if aiocoap is not None:
                samples.aiocoap.append(
                    cpu_per_exchange(aiocoap, lambda: load(setting.base + 1, few))
                )


def figures(samples: Samples) -> list[Figure]:
    limit = statistics.median(samples.limit)
    exchange = statistics.median(samples.exchange)
    found = [
        Figure(
            "coap_exchange_cpu",
            exchange,
            "us CPU/exchange",
            "C loop, epoll",
            limit,
            EXCHANGE_BOUND,
            details={"runs": rounded(samples.exchange), "yardstick_runs": rounded(samples.limit)},
        )
    ]
    if samples.block:
        found.append(
            Figure(
                "coap_block_cpu",
                statistics.median(samples.block),
                "us CPU/block",
                "C loop, epoll",
                limit,
                BLOCK_BOUND,
                details={
                    "runs": rounded(samples.block),
                    "yardstick_runs": rounded(samples.limit),
                    # Every block is block 0: each begins the download again.
                    "first_block_value": round(statistics.median(samples.first_block), 3),
                    "first_block_ratio": round(statistics.median(samples.first_block) / limit, 3),
                },
            )
        )
    if samples.aiocoap:
        found.append(
            Figure(
                "coap_exchange_cpu_aiocoap",
                exchange,
                "us CPU/exchange",
                "aiocoap, bare",
                statistics.median(samples.aiocoap),
                AIOCOAP_BOUND,
                cheaper=True,
                details={
                    "runs": rounded(samples.exchange),
                    "yardstick_runs": rounded(samples.aiocoap),
                },
            )
        )
    return found


def rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]
