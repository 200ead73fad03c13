"""A mosquitto of our own, for figures and for tests: plain on one port, mutual TLS on another."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.credentials import Credential
from tools.bench.errors import BenchError
from tools.bench.ports import free_port

__all__ = ["Authority", "Mosquitto", "mosquitto"]

START_SECONDS = 10.0


def program() -> str:
    """Debian puts it into /usr/sbin, which is not on every user's path."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchError("mosquitto is not installed (Debian: mosquitto)")
    return found


class Authority:
    """A small certificate authority, for one run."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key, ca=True)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, *, addresses: tuple[str, ...] = (), expired: bool = False
    ) -> Credential:
        """A certificate for `name`, with its key and this authority as the one to trust."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, addresses=addresses, expired=expired)
        return Credential(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            private_key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            authorities=self.pem,
        )

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        addresses: tuple[str, ...] = (),
        expired: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        end = now + datetime.timedelta(minutes=-1 if expired else 24 * 60)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Mosquitto:
    port: int
    tls_port: int
    authority: Authority


@contextmanager
def mosquitto(folder: Path, more: str = "") -> Iterator[Mosquitto]:
    """A broker on 127.0.0.1: anybody on `port`, only holders of a certificate on `tls_port`, to
    whose settings `more` is added.
    Raises :class:`~tools.bench.errors.BenchError` when there is none to be had."""
    authority = Authority("fotilla test authority")
    server = authority.issue("127.0.0.1", addresses=("127.0.0.1",))
    files = {
        "ca.pem": authority.pem,
        "server.pem": server.certificate,
        "server.key": server.private_key,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    broker = Mosquitto(free_port(), free_port(), authority)
    config = folder / "mosquitto.conf"
    # `user root`: started by root it would become a user who may not read this folder; for anybody
    # else the line has no effect (mosquitto.conf(5)).
    config.write_text(
        f"""
        per_listener_settings false
        allow_anonymous true
        user root
        max_connections -1
        log_dest file {folder / "mosquitto.log"}
        listener {broker.port} 127.0.0.1
        listener {broker.tls_port} 127.0.0.1
        cafile {folder / "ca.pem"}
        certfile {folder / "server.pem"}
        keyfile {folder / "server.key"}
        require_certificate true
        """.replace("        ", "")
        + more
    )
    process = subprocess.Popen(
        [program(), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _wait(process, broker)
        yield broker
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _wait(process: subprocess.Popen[bytes], broker: Mosquitto) -> None:
    deadline = time.monotonic() + START_SECONDS
    for port in (broker.port, broker.tls_port):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise BenchError(f"mosquitto: {process.communicate()[1].decode()}") from None
                if time.monotonic() > deadline:
                    raise BenchError("mosquitto did not open its ports") from None
                time.sleep(0.05)
