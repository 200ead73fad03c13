"""The record of what a device has installed beside its image."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.files import INSTALLED, InstalledFile, files_of, key_of
from agent.flash import Flash
from agent.image_store import ImageStore
from agent.nvm import Nvm

texts = st.text(max_size=20)


@given(st.builds(InstalledFile, texts, texts, texts, st.integers(0, 1 << 40), texts, st.booleans()))
def test_a_file_survives_its_record(file: InstalledFile) -> None:
    assert InstalledFile.decode(file.encode()) == file


@pytest.mark.parametrize(
    "data", [b"", b"7", b"{}", b"[]", b'["a","1","",3]', b'["a","1","","3","x"]', b"[1,2,3,4,5]"]
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        InstalledFile.decode(data)


@given(st.binary(max_size=60))
def test_any_octets_are_a_record_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(InstalledFile.decode(data), InstalledFile)


def test_files_are_told_by_name_and_strangers_left_out() -> None:
    nvm = Nvm(Flash(ImageStore(), 64 << 10))
    assert files_of(nvm) == ()
    for name in ("b", "a"):
        nvm.set(INSTALLED, key_of(name), InstalledFile(name, "1", "/x", 3, "ab").encode())
    nvm.set(INSTALLED, "else", b"not ours")
    assert [one.name for one in files_of(nvm)] == ["a", "b"]
    assert len(key_of("n" * 300)) == 16
