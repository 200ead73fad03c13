"""Memory of a device that speaks HTTP: connected, connected with TLS, and between two polls.

2,000 devices in one process, nginx in another. What counts for a connected device is the growth of
resident memory between the process with a few devices and the process with all of them connected,
so device, client, connection and the library's share are in it. Between polls it is what the HTTP
side adds to a device: the growth with it less the growth of a process whose devices run no client.
The figures are interleaved and medians of several processes each.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import statistics
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tools.bench.control import Measured
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.http_nginx import Nginx
from tools.bench.images import make_images
from tools.bench.setting import KIB, Setting

__all__ = ["NAMES", "make_certificates", "measure"]

NAMES = (
    "http_device_memory",
    "http_device_memory_tls",
    "http_device_memory_certificate",
    "http_idle_memory",
)

DEVICES, QUICK_DEVICES = 2_000, 200
RUNS, QUICK_RUNS = 5, 1
FIRST = 50
"""Devices before anything counts: with them the libraries have what they allocate only once."""
LIMITS = {
    "http_device_memory": 24 * KIB,
    "http_device_memory_tls": 72 * KIB,
    "http_device_memory_certificate": 96 * KIB,
    "http_idle_memory": 2 * KIB,
}


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    devices = QUICK_DEVICES if setting.quick else DEVICES
    make_images(setting.folder, 16 << 10)
    takes: dict[str, Callable[[], float]] = {
        "http_device_memory": lambda: connected(setting, devices, "", certificates=False),
        "http_device_memory_tls": lambda: connected(setting, devices, "off", certificates=False),
        "http_device_memory_certificate": lambda: connected(
            setting, devices, "on", certificates=True
        ),
        "http_idle_memory": lambda: idle(setting, devices),
    }
    if wanted & {"http_device_memory_tls", "http_device_memory_certificate"}:
        with_own = "http_device_memory_certificate" in wanted
        make_certificates(setting.folder, devices if with_own else 0)
    taken: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(QUICK_RUNS if setting.quick else RUNS):
        for name, runs in sorted(taken.items()):
            runs.append(takes[name]())
    return [
        Figure(
            name,
            statistics.median(taken[name]),
            "bytes/device",
            "limit",
            LIMITS[name],
            1.0,
            details={"devices": devices, "runs": [round(value) for value in taken[name]]},
        )
        for name in NAMES
        if name in wanted
    ]


def connected(setting: Setting, devices: int, verify: str, *, certificates: bool) -> float:
    with Nginx(setting.folder, verify=verify) as nginx:
        return growth(
            setting, devices, nginx.origin, devices, tls=bool(verify), certificates=certificates
        )


def idle(setting: Setting, devices: int) -> float:
    with Nginx(setting.folder) as nginx:
        polled = growth(setting, devices, nginx.origin, 0, keep_alive=0.05)
        bare = growth(setting, devices, nginx.origin, 0, client=False)
    return polled - bare


def growth(
    setting: Setting, devices: int, server: str, connections: int, **options: object
) -> float:
    """Bytes a device."""
    told = {"server": server, "devices": devices, "folder": str(setting.folder), **options}
    with Measured("tools.bench.http_host", json.dumps(told)) as host:
        host.ask("start", count=FIRST)
        before = host.ask("sample")
        lost = host.ask("start", within=300.0)["lost"]
        after = host.ask("sample")
        if lost or after["connections"] != connections:
            raise BenchError(
                f"{lost} of {devices} devices were not answered, "
                f"{after['connections']} connections are open"
            )
    return float(after["resident"] - before["resident"]) / (devices - FIRST)


def make_certificates(folder: Path, devices: int) -> None:
    """Write `authority.pem`, `server.pem` (with its key) for 127.0.0.1, and for so many devices
    `device-N.pem` and `device-N.key`."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench authority")])

    def issue(
        name: x509.Name, owner: ec.EllipticCurvePrivateKey, *more: x509.ExtensionType
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(owner.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pem(owner: ec.EllipticCurvePrivateKey) -> bytes:
        return owner.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    own = x509.BasicConstraints(ca=True, path_length=None)
    (folder / "authority.pem").write_bytes(issue(issuer, key, own))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench server")])
    (folder / "server.pem").write_bytes(issue(subject, server, names) + pem(server))
    for number in range(devices):
        device = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"bench-{number:05d}")])
        (folder / f"device-{number}.pem").write_bytes(issue(subject, device))
        (folder / f"device-{number}.key").write_bytes(pem(device))
