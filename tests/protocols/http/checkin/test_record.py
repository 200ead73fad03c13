"""What survives a reboot."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.nvm import Nvm, NvmFull
from protocols.http.checkin.record import (
    CampaignRecord,
    FileStore,
    decode,
    encode,
    load,
    save,
)
from protocols.http.checkin.tables import Stage, Word
from protocols.http.checkin.windows import ALL_DAY
from protocols.http.checkin.wire import Installed, Kind, Order, StatusReport
from tests.agent.parts import Board

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
RECORDS = st.builds(
    lambda stage, id, kind, seq, word, texts, told, defiant: CampaignRecord(
        stage, id, kind, seq, StatusReport(seq, word, *texts) if told else None, defiant
    ),
    st.sampled_from(Stage),
    TEXT,
    st.sampled_from(Kind),
    st.integers(0, 2**53),
    st.sampled_from(Word),
    st.tuples(TEXT, TEXT, TEXT),
    st.booleans(),
    st.booleans(),
)


@given(RECORDS)
def test_a_record_comes_back(record):
    assert decode(encode(record)) == record


@given(st.binary(max_size=100))
def test_any_bytes_decode_or_raise_value_error(data):
    with pytest.raises(ValueError):
        decode(data)


@given(RECORDS, st.integers(0, 200), st.integers(1, 255))
def test_a_flipped_byte_decodes_or_raises_value_error(record, at, flip):
    data = bytearray(encode(record))
    data[at % len(data)] ^= flip
    try:
        decode(bytes(data))
    except ValueError as error:
        assert str(error)


def test_what_was_saved_is_loaded():
    nvm = Nvm(Board().flash)
    assert load(nvm) == CampaignRecord()
    record = CampaignRecord(Stage.ENDED, "0f0d", Kind.FIRMWARE, 7, None)
    save(nvm, record)
    assert load(nvm) == record
    nvm.set("check-in", "campaign", b"[]")
    assert load(nvm) == CampaignRecord()


def order(name: str, version: str = "1", size: int = 10) -> Order:
    day = datetime.date(2030, 1, 1)
    return Order(
        "id", Kind.FILE, name, version, "/etc", "/x", size, "00" * 32, day, day, None, None,
        ALL_DAY, ALL_DAY,
    )  # fmt: skip


def test_files_are_listed_by_name_and_replaced():
    files = FileStore(Nvm(Board().flash))
    assert files.installed() == []
    for one in (order("b", "1"), order("a", "1"), order("b", "2")):
        files.store(one)
    assert files.installed() == [Installed("a", "1"), Installed("b", "2")]
    assert files.holds(order("b", "2")) and not files.holds(order("b", "1"))
    assert not files.holds(order("b", "2", size=11))


def test_files_never_take_the_room_of_the_engine():
    nvm = Nvm(Board().flash)
    files = FileStore(nvm)
    with pytest.raises(NvmFull):
        for number in range(100):
            files.store(order(f"configuration-{number}"))
    assert 3 <= len(files.installed()) < 20
    nvm.set("update", "attempt", bytes(1800))
    save(nvm, CampaignRecord(Stage.WAITING, "x" * 64))
    files.store(order("configuration-0", "2"))  # one that is there may still change
    assert Installed("configuration-0", "2") in files.installed()


def test_the_longest_name_is_kept_and_a_larger_entry_refused():
    files = FileStore(Nvm(Board().flash))
    files.store(order("x" * 300))
    assert files.installed() == [Installed("x" * 300, "1")]
    with pytest.raises(NvmFull):
        files.store(order("\N{GRINNING FACE}" * 300))
