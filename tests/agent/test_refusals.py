"""One wrong package per reason, from its first byte to the outcome that it ends with."""

from __future__ import annotations

import struct

import pytest

from agent.bootloader import Policy
from agent.outcome import Outcome
from agent.trailer import capacity
from agent.update import State
from agent.verification import OUTCOME_OF
from firmware_images import Reason
from firmware_images.mcuboot import Dependency, Version, build_image
from tests.agent.parts import SLOT, Board, image, key, new_image, old_image

HEADER = 512


def patched(offset: int, data: bytes, base: bytes | None = None) -> bytes:
    package = base or new_image()
    return package[:offset] + data + package[offset + len(data) :]


def flags(value: int) -> bytes:
    return patched(16, struct.pack("<I", value))


def trailing() -> int:
    """Where the unprotected records begin."""
    package = new_image()
    size, protected = struct.unpack_from("<I", package, 12)[0], package[10] + 256 * package[11]
    return HEADER + size + protected


def with_record(kind: int, value: bytes) -> bytes:
    start = trailing()
    package = new_image()
    _, total = struct.unpack_from("<HH", package, start)
    record = struct.pack("<HH", kind, len(value)) + value
    return patched(start + 2, struct.pack("<H", total + len(record))) + record


def unsigned() -> bytes:
    """Without the last record, which is the signature."""
    start = trailing()
    package = new_image()
    _, total = struct.unpack_from("<HH", package, start)
    return patched(start + 2, struct.pack("<H", total - 68))[:-68]


def built(**changes: object) -> bytes:
    fields: dict[str, object] = {"version": Version(2, 0, 0, 0), "key": key(0)}
    fields |= {"security_counter": 2} | changes
    return build_image(b"payload" * 900, **fields)  # type: ignore[arg-type]


PACKAGES: dict[Reason, bytes] = {
    Reason.TRUNCATED: new_image()[:-10],
    Reason.BAD_MAGIC: patched(0, b"\x00"),
    Reason.BAD_STRUCTURE: patched(8, struct.pack("<H", 8)),
    Reason.TOO_LARGE: patched(12, struct.pack("<I", SLOT)),
    Reason.UNSUPPORTED_FLAGS: flags(0x40000),
    Reason.ENCRYPTED: flags(0x4),
    Reason.COMPRESSED: flags(0x200),
    Reason.BAD_LOAD_ADDRESS: patched(4, struct.pack("<I", 0xFFFFFFF0), flags(0x20)),
    Reason.UNKNOWN_TLV: with_record(0xA1, bytes(4)),
    Reason.DUPLICATE_TLV: with_record(0x10, bytes(32)),
    Reason.BAD_HASH: patched(HEADER + 100, b"\x00\x01\x02\x03"),
    Reason.UNKNOWN_KEY: built(key=key(1)),
    Reason.UNSIGNED: unsigned(),
    Reason.BAD_SIGNATURE: patched(len(new_image()) - 1, bytes((new_image()[-1] ^ 1,))),
    Reason.MISSING_COUNTER: built(security_counter=None),
    Reason.LOW_COUNTER: built(security_counter=0),
    Reason.LOW_VERSION: built(version=Version(0, 9, 0, 0)),
    Reason.UNMET_DEPENDENCY: built(dependencies=[Dependency(0, Version(1, 5, 0, 0))]),
}


def test_every_reason_has_an_outcome_and_a_package() -> None:
    assert set(OUTCOME_OF) == set(Reason)
    assert set(PACKAGES) == set(Reason) - {Reason.WRONG_DEVICE}  # an image names no device
    assert Outcome.SUCCESS not in OUTCOME_OF.values()


@pytest.mark.parametrize("reason", list(PACKAGES), ids=lambda reason: reason.name)
def test_a_refused_package_ends_in_its_outcome_and_the_device_still_runs(reason: Reason) -> None:
    policy = Policy(prevent_downgrade=True, require_counter=True)
    board = Board(policy=policy)
    board.boot()
    assert not board.download(PACKAGES[reason])
    engine = board.engine
    assert (engine.state, engine.outcome) == (State.IDLE, OUTCOME_OF[reason])
    last = board.events[-1]
    assert last.cause == "refused" and last.detail.startswith(reason.value)
    report = board.boot()
    assert report.running is not None and report.running.version.major == 1
    assert (board.engine.state, board.engine.outcome) == (State.IDLE, OUTCOME_OF[reason])
    assert board.download(new_image())


@pytest.mark.parametrize("reason", [r for r in PACKAGES if OUTCOME_OF[r] is not Outcome.NO_SPACE])
def test_the_bootloader_finds_it_again_when_the_application_does_not_look(reason: Reason) -> None:
    """The same packages past an application that verifies nothing."""
    board = Board(policy=Policy(prevent_downgrade=True, require_counter=True))
    board.boot()
    board.store.erase()
    board.store.write(0, PACKAGES[reason], True)
    board.bootloader.mark_for_test()
    report = board.boot()
    assert report.refused is not None
    # In a slot there are always more bytes: what was cut off reads as erased flash.
    expected = Reason.BAD_STRUCTURE if reason is Reason.TRUNCATED else reason
    assert report.refused.reason in (expected, Reason.BAD_SIGNATURE)
    assert board.flash.is_blank(1)
    assert report.running is not None and report.running.version.major == 1
    assert board.boot().refused is None


def test_a_package_larger_than_the_slot_ends_at_once_or_when_it_is() -> None:
    room = capacity(SLOT)
    board = Board()
    assert not board.engine.begin(uri="coap://x", total_size=room + 1)
    assert (board.engine.state, board.engine.outcome) == (State.IDLE, Outcome.NO_SPACE)
    assert board.engine.begin(uri="coap://x", total_size=room)
    for _ in range(room // 1024):
        assert board.engine.receive(bytes(1024))
    assert not board.engine.receive(bytes(1))
    assert (board.engine.state, board.engine.outcome) == (State.IDLE, Outcome.NO_SPACE)
    assert board.engine.begin()
    assert not board.engine.describe(total_size=room + 1)
    assert board.engine.outcome is Outcome.NO_SPACE


def test_the_largest_image_fits_and_swaps() -> None:
    room = capacity(SLOT)
    overhead = len(image(3, 1000)) - 1000
    board = Board(factory=old_image())
    largest = image(3, room - overhead, 3)
    assert len(largest) == room
    assert board.download(largest)
    board.engine.install()
    assert board.boot().trial
    board.engine.confirm()
    assert board.engine.outcome is Outcome.SUCCESS
