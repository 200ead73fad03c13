"""Nonces of a device: kept apart, over reboots, through power cuts."""

from __future__ import annotations

import pytest

from agent.flash import CutMode, PowerCut, PowerLoss
from agent.nvm import MAX_LIVE, Nvm
from protocols.omadm.auth import MAX_NONCE
from protocols.omadm.nonces import NonceBook, Side
from tests.protocols.omadm.device_parts import OTHER, SERVER, make_nvm
from tests.protocols.omadm.musts import musts


@musts("DM-094")
def test_each_side_and_each_server_has_its_own() -> None:
    nvm = make_nvm()
    book = NonceBook(nvm)
    kept = {
        (Side.CLIENT, SERVER): b"1",
        (Side.SERVER, SERVER): b"2",
        (Side.CLIENT, OTHER): b"3",
    }
    for (side, server), nonce in kept.items():
        assert book.get(side, server) == b""
        assert book.set(side, server, nonce)
    again = NonceBook(Nvm(nvm._flash))
    for (side, server), nonce in kept.items():
        assert again.get(side, server) == nonce
    again.forget(SERVER)
    assert again.get(Side.CLIENT, SERVER) == again.get(Side.SERVER, SERVER) == b""
    assert again.get(Side.CLIENT, OTHER) == b"3"


@musts("DM-093")
def test_the_account_gives_the_first_one() -> None:
    book = NonceBook(make_nvm(), lambda side, server: f"{side.value} {server}".encode())
    assert book.get(Side.CLIENT, SERVER) == b"c srv.example"
    book.set(Side.CLIENT, SERVER, b"")
    assert book.get(Side.CLIENT, SERVER) == b"", "an empty nonce was given, and is one"


def test_a_server_that_writes_aauthdata_gives_a_nonce() -> None:
    data = b"factory"
    book = NonceBook(make_nvm(), lambda side, server: data)
    book.set(Side.CLIENT, SERVER, b"of a session")
    assert book.get(Side.CLIENT, SERVER) == b"of a session"
    data = b"written"
    assert book.get(Side.CLIENT, SERVER) == b"written"
    book.set(Side.CLIENT, SERVER, b"of the next session")
    assert book.get(Side.CLIENT, SERVER) == b"of the next session"


def test_the_same_nonce_again_costs_no_flash() -> None:
    nvm = make_nvm()
    book = NonceBook(nvm)
    book.set(Side.CLIENT, SERVER, b"x" * 16)
    before = nvm._flash.operations
    assert book.set(Side.CLIENT, SERVER, b"x" * 16)
    assert nvm._flash.operations == before


def test_what_does_not_fit_leaves_the_old_one() -> None:
    nvm = make_nvm()
    book = NonceBook(nvm)
    assert book.set(Side.CLIENT, SERVER, b"old")
    assert not book.set(Side.CLIENT, SERVER, b"x" * (MAX_NONCE + 1))
    nvm.set("filler", "f", b"x" * (MAX_LIVE - 120))
    assert not book.set(Side.CLIENT, SERVER, b"x" * MAX_NONCE)
    assert book.get(Side.CLIENT, SERVER) == b"old"


@pytest.mark.parametrize("server", ["s" * 300, "a\0b", "ü" * 60])
def test_server_ids_that_are_no_key(server: str) -> None:
    nvm = make_nvm()
    assert NonceBook(nvm).set(Side.SERVER, server, b"n")
    assert NonceBook(nvm).get(Side.SERVER, server) == b"n"
    assert NonceBook(nvm).get(Side.SERVER, server + "x") == b""


@pytest.mark.parametrize("mode", list(CutMode))
def test_a_power_cut_loses_the_newest_at_most(mode: CutMode) -> None:
    nonces = [bytes([i]) * 16 for i in range(120)]  # more than a sector's worth
    probe = make_nvm()
    for nonce in nonces:
        NonceBook(probe).set(Side.CLIENT, SERVER, nonce)
    for operation in range(1, probe._flash.operations + 1, 3):
        nvm = make_nvm()
        nvm.set("engine", "state", b"kept")
        nvm._flash.arm(operation, PowerCut(mode, operation))
        last = b""
        newest = nonces[0]
        try:
            for newest in nonces:
                NonceBook(nvm).set(Side.CLIENT, SERVER, newest)
                last = newest
        except PowerLoss:
            pass
        found = NonceBook(Nvm(nvm._flash)).get(Side.CLIENT, SERVER)
        assert found in (last, newest), (operation, mode)
        assert Nvm(nvm._flash).get("engine", "state") == b"kept"
