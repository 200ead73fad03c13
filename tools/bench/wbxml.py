"""WBXML to the model and back, against libwbxml through ctypes in the same process.

Four messages of 1 to 2 KiB as sessions have them, each as we write it and as libwbxml does (Data
as OPAQUE). libwbxml converts between WBXML and XML text, which is all that it can do: to encode, it
parses the XML first. Only CPU counts; the two take turns, and medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from protocols.omadm import wbxml, xml
from protocols.omadm.model import (
    Add,
    Alert,
    Cred,
    Get,
    Header,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Status,
)
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.libwbxml import LibWbxml
from tools.bench.setting import Setting

__all__ = ["NAMES", "measure"]

NAMES = ("wbxml_decode", "wbxml_encode")

ROUNDS, QUICK_ROUNDS = 15, 5
REPEATS, QUICK_REPEATS = 200, 50
DECODE_BOUND, ENCODE_BOUND = 2.5, 0.75


@dataclass(frozen=True, slots=True)
class Task:
    """One conversion, ours and theirs."""

    name: str
    size: int
    """Octets of WBXML."""
    ours: Callable[[], object]
    theirs: Callable[[], object]


def messages() -> dict[str, Message]:
    """Of a session about a device's settings."""
    device, server = "IMEI:493005100592800", "https://dm.example.com/dm"
    to_server = Header(
        "1F",
        1,
        server,
        device,
        source_name="dev1",
        cred=Cred("syncml:auth-md5", "b64", "Zz6EivR3yeaaENcRN6lpAQ=="),
        max_msg_size=16384,
        max_obj_size=1 << 20,
    )
    to_device = Header("1F", 2, device, server, resp_uri=f"{server}?s=5f2a", max_msg_size=16384)
    text = Meta(format="chr", type="text/plain")

    def setting(name: str, value: object) -> Item:
        return Item(source=f"./Vendor/Settings/{name}", meta=text, data=f"{value}")

    def place(number: int) -> Item:
        return Item(f"./Vendor/Settings/Node{number}", meta=text, data=f"{number}")

    names = ("DevId", "Man", "Mod", "DmV", "Lang")
    devinfo = (Item(source=f"./DevInfo/{name}", data=f"value of {name}") for name in names)
    extension = (setting(f"Ext{number}", number * 1000) for number in range(10))
    header_status = Status("1", 1, "0", "SyncHdr", 212, (server,), (device,))
    return {
        "package 1": Message(
            to_server, (Alert("1", 1201), Replace("2", (*devinfo, *extension))), final=True
        ),
        "results": Message(
            to_server,
            (
                header_status,
                Status("2", 1, "4", "Get", 200),
                Results("3", 1, "4", tuple(setting(f"Node{n}", n) for n in range(18))),
            ),
            final=True,
        ),
        "statuses": Message(
            to_server,
            (
                header_status,
                *(
                    Status(f"{n}", 1, f"{n}", "Replace", 200, (f"./Vendor/Settings/Node{n}",))
                    for n in range(2, 24)
                ),
            ),
            final=True,
        ),
        "commands": Message(
            to_device,
            (
                header_status,
                *(Replace(f"{n}", (place(n),)) for n in range(2, 11)),
                *(Add(f"{n}", (place(n),)) for n in range(11, 20)),
                Get("40", (Item("./DevDetail/FwV"), Item("./DevDetail/SwV"))),
            ),
            final=True,
        ),
    }


def _agreed(name: str, written: bytes, message: Message) -> None:
    """Two that do different work are not compared."""
    if wbxml.decode(written) != message:
        raise BenchError(f"{name}: the two do not agree on what the message says")


def decoding(library: LibWbxml) -> list[Task]:
    tasks = []
    for name, message in messages().items():
        ours = wbxml.encode(message)
        theirs = library.to_wbxml(xml.encode(message))
        for written, by in ((ours, ""), (theirs, " by libwbxml")):
            _agreed(name + by, written, message)
            tasks.append(
                Task(
                    name + by,
                    len(written),
                    partial(wbxml.decode, written),
                    partial(library.to_xml, written),
                )
            )
    return tasks


def encoding(library: LibWbxml) -> list[Task]:
    tasks = []
    for name, message in messages().items():
        document = xml.encode(message)
        _agreed(name, library.to_wbxml(document), message)
        tasks.append(
            Task(
                name,
                len(wbxml.encode(message)),
                partial(wbxml.encode, message),
                partial(library.to_wbxml, document),
            )
        )
    return tasks


def microseconds(work: Callable[[], object], repeats: int) -> float:
    began = time.process_time_ns()
    for _ in range(repeats):
        work()
    return (time.process_time_ns() - began) / repeats / 1000


def figure(name: str, tasks: list[Task], bound: float, quick: bool) -> Figure:
    rounds, repeats = (QUICK_ROUNDS, QUICK_REPEATS) if quick else (ROUNDS, REPEATS)
    ours: dict[str, list[float]] = {task.name: [] for task in tasks}
    theirs: dict[str, list[float]] = {task.name: [] for task in tasks}
    for _ in range(rounds):
        for task in tasks:
            ours[task.name].append(microseconds(task.ours, repeats))
            theirs[task.name].append(microseconds(task.theirs, repeats))
    value = {task.name: statistics.median(ours[task.name]) for task in tasks}
    yardstick = {task.name: statistics.median(theirs[task.name]) for task in tasks}
    return Figure(
        name,
        statistics.mean(value.values()),
        "us CPU/message",
        "libwbxml, ctypes",
        statistics.mean(yardstick.values()),
        bound,
        details={
            "messages": {
                task.name: {
                    "octets": task.size,
                    "value": round(value[task.name], 2),
                    "yardstick_value": round(yardstick[task.name], 2),
                    "ratio": round(value[task.name] / yardstick[task.name], 3),
                }
                for task in tasks
            }
        },
    )


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    """The figures of :data:`NAMES` that are `wanted`."""
    library = LibWbxml()
    found = []
    if "wbxml_decode" in wanted:
        found.append(figure("wbxml_decode", decoding(library), DECODE_BOUND, setting.quick))
    if "wbxml_encode" in wanted:
        found.append(figure("wbxml_encode", encoding(library), ENCODE_BOUND, setting.quick))
    return found
