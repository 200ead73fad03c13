"""Secrets, options, and what a server's words mean to the audit."""

from __future__ import annotations

import pytest

from tools.drivers.base import (
    Campaign,
    DriverBelief,
    Package,
    Secrets,
    Tally,
    believed_by,
    check_options,
    tally_differences,
)
from tools.drivers.errors import BadOption, MissingSecret
from tools.drivers.known import known_drivers, make_driver
from tools.fleet.audit import Belief

ENVIRONMENT = {
    "FOTILLA_HAWKBIT_USER": "admin",
    "FOTILLA_HAWKBIT_PASSWORD": "pa55word",
    "FOTILLA_HAWKBIT_TOKEN": "t0ken",
    "FOTILLA_MENDER_USER": "someone else",
}
CAMPAIGN = Campaign("1", Package("2", "2.0.0"), ("a",))


def test_secrets_come_from_the_drivers_own_variables_and_are_not_shown() -> None:
    secrets = Secrets.from_environment("hawkbit", ENVIRONMENT)
    assert secrets.login() == ("admin", "pa55word")
    assert secrets.token == "t0ken"
    assert set(secrets.values()) == {"pa55word", "t0ken"}
    shown = repr(secrets)
    assert "pa55word" not in shown
    assert "t0ken" not in shown


def test_a_secret_that_is_missing_is_named() -> None:
    with pytest.raises(MissingSecret, match="FOTILLA_MENDER_PASSWORD"):
        Secrets.from_environment("mender", ENVIRONMENT).login()
    with pytest.raises(MissingSecret, match="FOTILLA_HAWKBIT_USER"):
        Secrets("hawkbit").login()


def test_the_table_decides_and_what_it_does_not_know_is_unknown() -> None:
    table = {"done": "updated", "broken": "failed", "busy": "unfinished"}
    for word, verdict in (*table.items(), ("strange", "unknown")):
        belief = believed_by(table, DriverBelief(word), CAMPAIGN)  # type: ignore[arg-type]
        assert belief == Belief(verdict, word, None)  # type: ignore[arg-type]


def test_updated_means_updated_to_this_version() -> None:
    ours = believed_by({"done": "updated"}, DriverBelief("done", "2.0.0"), CAMPAIGN)
    assert ours == Belief("updated", "done", "2.0.0")
    other = believed_by({"done": "updated"}, DriverBelief("done", "1.0.0"), CAMPAIGN)
    assert other == Belief("unfinished", "done, with version 1.0.0", "1.0.0")


def test_totals_that_contradict_the_list_are_told() -> None:
    beliefs = {
        "a": Belief("updated"),
        "b": Belief("updated"),
        "c": Belief("failed"),
        "d": Belief("unfinished"),
    }
    assert tally_differences(Tally(2, 1), beliefs) == ()
    assert tally_differences(Tally(3, 0), beliefs) == (
        "the server counts 3 updated devices and lists 2",
        "the server counts 0 failed devices and lists 1",
    )


def test_options_have_defaults_and_no_strangers() -> None:
    known = {"tenant": "DEFAULT", "groups": "0"}
    assert check_options("x", {"groups": "5"}, known) == {"tenant": "DEFAULT", "groups": "5"}
    with pytest.raises(BadOption, match="x: no option 'group'; known: groups, tenant"):
        check_options("x", {"group": "5"}, known)


async def test_drivers_are_made_by_name() -> None:
    assert {"goosebit", "hawkbit"} <= set(known_drivers())
    driver = make_driver(
        "hawkbit", "http://127.0.0.1:1", suffix="ab", environment=ENVIRONMENT, options={}
    )
    assert (driver.name, driver.protocol) == ("hawkbit", "hawkbit")
    assert driver.device_options == {"tenant": "DEFAULT"}
    await driver.close()
    with pytest.raises(BadOption, match="no driver 'leshan'; known: .*goosebit, hawkbit"):
        make_driver("leshan", "http://x", suffix="ab", environment={}, options={})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "hard"}, "type='hard' is none of forced, soft, downloadonly"),
        ({"credentials": "none"}, "none of target, gateway"),
        ({"confirmation": "yes"}, "none of on, off"),
        ({"groups": "-1"}, "groups='-1'"),
        ({"groups": "501"}, "between 0 and 500"),
        ({"sleep": "1"}, "no option 'sleep'"),
        ({"polling": "foo"}, "polling='foo' is not HH:MM:SS"),
        ({"polling": "30"}, "not HH:MM:SS"),
        ({"polling": "24:00:00"}, "not HH:MM:SS"),
        ({"polling": "00:60:00"}, "not HH:MM:SS"),
        ({"polling": "00:00:30s"}, "not HH:MM:SS"),
    ],
)
def test_hawkbit_says_what_is_wrong_with_an_option(options: dict[str, str], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        make_driver("hawkbit", "http://x", suffix="ab", environment=ENVIRONMENT, options=options)
