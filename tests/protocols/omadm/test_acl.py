"""Access control lists: their syntax, and what they allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm.acl import COMMANDS, MAX_ACL, Acl, AclError
from tests.protocols.omadm.musts import musts

_SERVERS = st.text("abcsrv.-_8765", min_size=1, max_size=8)


@musts("DM-121")
@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", ""),
        ("Get=*", "Get=*"),
        ("Add=*&Get=*&Replace=srvA+srvB", "Add=*&Get=*&Replace=srvA+srvB"),
        ("Replace=srvB+srvA&Get=*", "Get=*&Replace=srvA+srvB"),
        # "*" beside names: it overrides them (section 7.7.1.5).
        ("Get=*+srvA", "Get=*"),
        (
            "Add=www.sonera.fi-8765&Delete=www.sonera.fi-8765"
            "&Replace=www.sonera.fi-8765+321_ibm.com&Get=*",
            "Add=www.sonera.fi-8765&Delete=www.sonera.fi-8765&Get=*"
            "&Replace=321_ibm.com+www.sonera.fi-8765",
        ),
    ],
)
def test_what_is_an_acl(text: str, written: str) -> None:
    acl = Acl.parse(text)
    assert str(acl) == written
    assert Acl.parse(written) == acl


@musts("DM-121")
@pytest.mark.parametrize(
    "text",
    [
        "Get",
        "Get=",
        "Get=a+",
        "get=*",
        "Copy=*",
        "Get=*&",
        "&Get=*",
        "Get=*&Get=a",
        "Get=a b",
        "Get=a*",
        "Get=a\x07",
        "x" * (MAX_ACL + 1),
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(AclError):
        Acl.parse(text)


@pytest.mark.parametrize(
    ("text", "server", "may"),
    [
        ("", "a", ""),
        ("Get=*", "a", "Get"),
        ("Get=a&Replace=*", "a", "Get Replace"),
        ("Get=a&Replace=*", "b", "Replace"),
        ("Add=a+b&Delete=b&Exec=c", "b", "Add Delete"),
        ("Get=a", "A", ""),
    ],
)
def test_what_it_allows(text: str, server: str, may: str) -> None:
    acl = Acl.parse(text)
    assert [one for one in COMMANDS if acl.allows(one, server)] == may.split()


@pytest.mark.parametrize(
    ("text", "factory", "left"),
    [
        ("Get=a+b&Replace=a", "", "Get=b"),
        ("Get=a", "", ""),
        ("Add=b&Get=*", "", "Add=b&Get=*"),
        ("Add=a&Get=*", "Add=*&Get=*", "Add=*&Get=*"),
        ("Add=*&Replace=a", "Add=*&Get=*", "Add=*"),
        ("Add=*&Replace=a", "Add=*&Replace=a+b", "Add=*&Replace=b"),
    ],
)
def test_a_server_that_is_forgotten(text: str, factory: str, left: str) -> None:
    assert str(Acl.parse(text).without("a", Acl.parse(factory))) == left


@given(st.dictionaries(st.sampled_from(COMMANDS), st.sets(_SERVERS, min_size=1, max_size=3)))
def test_there_and_back(rights: dict[str, set[str]]) -> None:
    text = "&".join(f"{name}={'+'.join(sorted(servers))}" for name, servers in rights.items())
    acl = Acl.parse(text)
    assert Acl.parse(str(acl)) == acl
    for name, servers in rights.items():
        assert all(acl.allows(name, server) for server in servers)
        more = acl.granting("new.example", name)
        assert more.allows(name, "new.example")
        assert all(more.allows(name, server) for server in servers)


@given(st.text(max_size=60))
def test_any_text_is_an_acl_or_refused(text: str) -> None:
    try:
        acl = Acl.parse(text)
    except AclError as error:
        assert str(error)
    else:
        assert Acl.parse(str(acl)) == acl
