"""Real peers or nothing: a peer that is missing fails these tests, it never skips them."""

from __future__ import annotations

import os
import shutil

import pytest

# Programs and the Debian package that brings each.
PEERS = {
    "java": "openjdk-17-jdk-headless",
    "javac": "openjdk-17-jdk-headless",
    "mvn": "maven",
    "coap-server-notls": "libcoap3-bin",
    "coap-client-notls": "libcoap3-bin",
    "mosquitto": "mosquitto",
    "nginx": "nginx-light",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "swupdate": "swupdate",
    "openssl": "openssl",
    "mender-artifact": "mender-artifact",
    "unshare": "util-linux",
    "tshark": "tshark",
    "text2pcap": "tshark",
}
# Debian's servers are in folders that are not on every user's path.
SYSTEM = ("/usr/sbin", "/usr/local/sbin")


@pytest.fixture(scope="session", autouse=True)
def peers() -> None:
    path = os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM))
    absent = (name for name in PEERS if not shutil.which(name, path=path))
    missing = [f"{name} ({PEERS[name]})" for name in absent]
    if missing:
        pytest.fail(
            f"not installed: {', '.join(missing)}; tests/interop/setup.sh installs them",
            pytrace=False,
        )
