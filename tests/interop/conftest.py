"""Real peers or nothing: a peer that is missing fails these tests, it never skips them."""

from __future__ import annotations

import shutil

import pytest

# Programs and the Debian package that brings each.
PEERS = {
    "java": "openjdk-17-jdk-headless",
    "javac": "openjdk-17-jdk-headless",
    "mvn": "maven",
    "coap-server-notls": "libcoap3-bin",
    "coap-client-notls": "libcoap3-bin",
}


@pytest.fixture(scope="session", autouse=True)
def peers() -> None:
    missing = [f"{name} ({package})" for name, package in PEERS.items() if not shutil.which(name)]
    if missing:
        pytest.fail(
            f"not installed: {', '.join(missing)}; tests/interop/setup.sh installs them",
            pytrace=False,
        )
