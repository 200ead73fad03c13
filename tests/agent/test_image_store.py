from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent.image_store as module
from agent.image_store import PAGE_SIZE, ImageStore, PageView, Rope
from agent.trailer import capacity
from firmware_images import ImageRefused
from tests.agent.parts import SLOT, Board, new_image, old_image, trusted


def rope_of(store: ImageStore, data: bytes, step: int) -> Rope:
    rope = Rope(store)
    for start in range(0, len(data), step):
        rope.append(data[start : start + step])
    return rope


@pytest.mark.parametrize("step", [1, 16, 64, 512, 1000, 1024, 1460, 5000])
def test_equal_bytes_are_one_pointer_whatever_sizes_they_came_in(step: int) -> None:
    store = ImageStore()
    data = new_image()
    reference = rope_of(store, data, 1024)
    rope = rope_of(store, data, step)
    assert rope.node is reference.node
    assert rope.length == len(data)
    assert b"".join(rope.view().chunks(0, len(data))) == data


def test_a_different_page_diverges_and_the_rest_is_private() -> None:
    store = ImageStore()
    data = bytes(range(256)) * 32
    flipped = data[:3000] + b"\x00\x01" + data[3002:]
    good, bad = rope_of(store, data, 1024), rope_of(store, flipped, 1024)
    assert good.node is not bad.node
    assert good.node.back_to(2) is bad.node.back_to(2)
    assert good.node.back_to(3) is not bad.node.back_to(3)
    assert rope_of(store, flipped, 700).node is bad.node
    assert rope_of(store, data, 700).node is good.node


def test_a_rope_that_nobody_holds_is_gone() -> None:
    store = ImageStore()
    rope = rope_of(store, new_image(), 1024)
    page = rope.node.back_to(1)
    del rope
    gc.collect()
    assert page._child is not None
    assert page._child() is None


def test_without_sharing_every_device_has_its_own() -> None:
    store = ImageStore(share=False)
    data = new_image()
    one, two = rope_of(store, data, 1024), rope_of(store, data, 1024)
    assert one.node is not two.node
    assert one.view().read(0, len(data)) == two.view().read(0, len(data)) == data
    assert store.layout(one.node.pages()) is not store.layout(two.node.pages())


def test_layouts_with_the_same_content_are_one_object() -> None:
    store = ImageStore()
    pages = [bytes([i]) * PAGE_SIZE for i in range(8)]
    assert store.layout(pages) is store.layout([bytes(bytearray(page)) for page in pages])
    assert store.factory(old_image(), SLOT) is store.factory(old_image(), SLOT)


@pytest.mark.parametrize("share", [True, False])
def test_a_verdict_is_computed_once_per_content(
    monkeypatch: pytest.MonkeyPatch, share: bool
) -> None:
    calls = []

    def counted(*args: object) -> object:
        calls.append(args)
        return original(*args)  # type: ignore[arg-type]

    original = module.verify_image
    monkeypatch.setattr(module, "verify_image", counted)
    store = ImageStore(share)
    data, room = new_image(), capacity(SLOT)
    for _ in range(3):
        rope = rope_of(store, data, 1024)
        node = rope.node.append(rope.tail)
        assert store.verify(node, len(data), trusted(), room).version.major == 2
        store.keep(node)
    broken = bytearray(data)
    broken[2000] ^= 1
    for _ in range(2):
        rope = rope_of(store, bytes(broken), 1024)
        node = rope.node.append(rope.tail)
        store.keep(node)
        with pytest.raises(ImageRefused, match="bad hash"):
            store.verify(node, len(data), trusted(), room)
    assert len(calls) == (2 if share else 5)


def test_updated_devices_share_their_slots() -> None:
    images = ImageStore()
    boards = [Board(images=images) for _ in range(2)]
    for board in boards:
        assert board.download(bytes(bytearray(new_image())))
        board.engine.install()
        board.boot()
        board.engine.confirm()
    for region in (0, 1):
        assert boards[0].flash.content(region) is boards[1].flash.content(region)


@given(st.binary(max_size=5000), st.integers(0, 6000), st.integers(0, 6000))
def test_a_view_reads_like_bytes(data: bytes, offset: int, size: int) -> None:
    pages = [data[i : i + PAGE_SIZE] for i in range(0, len(data), PAGE_SIZE)]
    view = PageView(pages, len(data))
    assert len(view) == len(data)
    assert view.read(offset, size) == data[offset : offset + size]
    assert b"".join(view.chunks(offset, offset + size)) == data[offset : offset + size]
