"""A small authority for tests."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START = datetime.datetime(2020, 1, 1)


class Authority:
    """Signs certificates of servers and devices."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        extensions: list[x509.ExtensionType] = [x509.BasicConstraints(ca=True, path_length=None)]
        certificate = self._sign(self._name, self._key.public_key(), extensions, 2120)
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, *, address: str = "", until: int = 2120) -> tuple[bytes, bytes]:
        """Certificate and key, PEM; with `address` it is a server's."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = []
        if address:
            san = x509.IPAddress(ipaddress.ip_address(address))
            extensions.append(x509.SubjectAlternativeName([san]))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), extensions, until)
        return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def server(
        self, folder: Path, *, address: str = "127.0.0.1", until: int = 2120, mutual: bool = False
    ) -> ssl.SSLContext:
        """The context of a server, which asks for a certificate of ours when `mutual`."""
        certificate, key = self.issue("server", address=address, until=until)
        path = folder / "server.pem"
        path.write_bytes(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.pem.decode())
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        extensions: list[x509.ExtensionType],
        until: int,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(START)
            .not_valid_after(START.replace(year=until))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


@functools.cache
def authority(name: str = "test authority") -> Authority:
    return Authority(name)
