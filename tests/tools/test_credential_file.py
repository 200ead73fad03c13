"""What devices present: read from files and the environment, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.credentials import Credential, TokenKind
from tools.fleet.credential_file import credentials
from tools.fleet.spec import SpecError

PEM = b"-----BEGIN CERTIFICATE-----\nnot looked into here\n-----END CERTIFICATE-----\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "devices.csv"
    path.write_text(text)
    (folder / "a.pem").write_bytes(PEM)
    return path


def test_nothing_given_is_no_credential_at_all() -> None:
    assert credentials(None, ("a", "b"), None, {}) == ()


def test_one_token_for_all_comes_from_the_environment() -> None:
    environment = {"FOTILLA_TOKEN": "s3cret", "FOTILLA_TOKEN_KIND": "gateway"}
    one, two = credentials(None, ("a", "b"), None, environment)
    assert one == two == Credential(token="s3cret", token_kind=TokenKind.GATEWAY)
    assert "s3cret" not in repr(one)


def test_each_row_is_a_device(tmp_path: Path) -> None:
    path = write(tmp_path, "Name,token,certificate,key\nb,tb,,\na,,a.pem,a.pem\n")
    a, b = credentials(path, ("a", "b"), tmp_path / "a.pem", {"FOTILLA_TOKEN": "all"})
    assert (a.token, a.certificate, a.private_key, a.authorities) == ("all", PEM, PEM, PEM)
    assert (b.token, b.certificate) == ("tb", b"")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("token\nx\n", "no column 'name'"),
        ("", "no column 'name'"),
        ("name,colour\na,red\n", "unknown column 'colour'"),
        ("name,token\nb,x\n", "no row for 'a'"),
        ("name,token\na,x\na,y\n", "'a' is given twice"),
        ("name,token\n,x\n", "line 2 has no name"),
        ("name,certificate\na,a.pem\n", "needs certificate and key both"),
        ("name,certificate,key\na,a.pem,none.pem\n", "none.pem: No such file"),
        ("name,certificate,key\na,a.pem,devices.csv\n", "devices.csv is not a PEM file"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_repeated(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        credentials(path, ("a",), None, {})
    assert problem in str(caught.value)
    assert caught.value.field == "credentials"


def test_a_list_or_kind_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        credentials(tmp_path / "none.csv", ("a",), None, {})
    with pytest.raises(SpecError, match="known: device, gateway"):
        credentials(None, ("a",), None, {"FOTILLA_TOKEN": "x", "FOTILLA_TOKEN_KIND": "odd"})
