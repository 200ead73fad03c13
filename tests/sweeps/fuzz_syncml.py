"""Damage to SyncML, in both representations: seeded mutations of the vectors and of what we write.

usage: python -m tests.sweeps.fuzz_syncml [--seconds N | --count N] [--seed N]

Each mutant is either read, or refused with SyncmlError; what is read is written, read and written
again, and both writings agree. A failure prints the mutant as hex. `make sweeps` runs it too.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from protocols.omadm import wbxml, xml
from protocols.omadm.errors import SyncmlError, SyncmlMisuse
from protocols.omadm.model import Atomic, Chal, Exec, Get, Item, Meta, Replace, Sequence, Status
from tests.protocols.omadm.messages import PACKAGE_1, TREE, WBXML_VECTORS, around, read

PIECES = (
    *(bytes((octet,)) for octet in (0, 1, 2, 3, 4, 0x3F, 0x40, 0x43, 0x44, 0x7F, 0x83, 0xC3, 0xFF)),
    *(b"\x00\x01", b"\x00\x02", b"\x00\x03", b"\x8f\xff\xff\xff\x7f", b"\xff\xff\xff\xff\xff"),
    *(b"\xc3\x7f", b"\x83\x00", b"\x02\x83\xb0\x00", b"\x64\x66\x03a\x00\x01", b"\x5a\x00\x01"),
    *(b"<", b">", b"&", b"&x;", b"&#0;", b"&#xd800;", b"]]>", b"<![CDATA[", b"<!--", b"<?x?>"),
    *(b"<Item>", b"</Item>", b"<Node>", b"<Sequence>", b" xmlns='a'", b"<!DOCTYPE SyncML []>"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"99999999999999999999", b"-1"),
)
"""What the representations give a meaning to."""


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder, what undoes it, and where its mutants come from."""

    name: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    seeds: tuple[bytes, ...]


@dataclass(slots=True)
class Tally:
    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(
            f"{name}: {self.read[name]:,} read, {self.refused[name]:,} refused"
            for name in sorted(self.read | self.refused)
        )


def targets() -> tuple[Target, ...]:
    session = around(
        Status(
            "1", 1, "0", "SyncHdr", 401, ("a",), ("b",), chal=Chal("syncml:auth-md5", "b64", "x")
        ),
        Sequence("2", (Atomic("3", (Get("4", (Item(target="./DevInfo?list=TNDS"),)),)),)),
        Exec("5", (Item(target="./FwUpdate/x/Download", data="a"),), correlator="c"),
        Replace("6", (Item(target="./Inbox", meta=Meta("xml"), data=TREE),)),
        Replace(
            "7", (Item(target="./x", meta=Meta("bin", size=9), data=b"\0\xff", more_data=True),)
        ),
    )
    return (
        Target(
            "WBXML",
            wbxml.decode,
            wbxml.encode,
            (
                *(read(name) for name in WBXML_VECTORS),
                wbxml.encode(session),
                wbxml.encode(session, string_table=True),
            ),
        ),
        Target(
            "XML",
            xml.decode,
            xml.encode,
            (read("pkg1.xml"), xml.encode(PACKAGE_1), xml.encode(session)),
        ),
        Target(
            "WBXML tree",
            wbxml.decode_tree,
            wbxml.encode_tree,
            (wbxml.encode_tree(TREE), wbxml.encode_tree(TREE, string_table=True)),
        ),
        Target("XML tree", xml.decode_tree, xml.encode_tree, (xml.encode_tree(TREE),)),
    )


def mutant(generator: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    data = bytearray(generator.choice(seeds))
    for _ in range(generator.choice((1, 1, 1, 2, 3, 8))):
        start = generator.randrange(len(data) + 1)
        end = min(len(data), start + generator.choice((1, 2, 4, 16, 64)))
        match generator.randrange(7):
            case 0 if start < len(data):
                data[start] ^= 1 << generator.randrange(8)
            case 1:
                data[start:end] = generator.randbytes(end - start)
            case 2:
                del data[start:end]
            case 3:
                data[start:start] = generator.choice(PIECES)
            case 4:
                data[start:start] = data[start:end] * generator.choice((1, 2, 50))
            case 5:
                other = generator.choice(seeds)
                place = generator.randrange(len(other) + 1)
                data[start:] = other[place:]
            case _:
                data[start:end] = generator.choice(PIECES)
    return bytes(data)


def check(target: Target, data: bytes, tally: Tally) -> None:
    try:
        found = target.decode(data)
    except SyncmlError:
        tally.refused[target.name] += 1
        return
    tally.read[target.name] += 1
    try:
        written = target.encode(found)
    except SyncmlMisuse:  # a NUL that came as OPAQUE or as an entity where no such thing is written
        return
    assert target.encode(target.decode(written)) == written


def fuzz(seed: int, more: Iterator[int]) -> Tally:
    """One mutant of each kind for every number that `more` gives."""
    tally = Tally()
    generator = random.Random(seed)
    kinds = targets()
    for _ in more:
        for target in kinds:
            data = mutant(generator, target.seeds)
            try:
                check(target, data, tally)
            except Exception as error:
                raise AssertionError(f"{target.name}, seed {seed}: {data.hex()}") from error
    return tally


def until(seconds: float) -> Iterator[int]:
    end = time.monotonic() + seconds
    for number in count():
        if time.monotonic() >= end:
            return
        yield number


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sweeps.fuzz_syncml")
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--seconds", type=float, default=60.0)
    bound.add_argument("--count", type=int, help="mutants of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    more = iter(range(options.count)) if options.count else until(options.seconds)
    print(fuzz(options.seed, more))
    return 0


if __name__ == "__main__":
    sys.exit(main())
