"""The TLS contexts of clients: what they trust, what they share, and how little they keep."""

import asyncio
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.credentials import Credential
from protocols.http.tls import TLS_BUFFER, BadCredential, SslContexts


def pem_pair(name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2020, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start.replace(year=2120))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def test_a_context_verifies_and_trusts_only_what_it_was_given() -> None:
    authority, _ = pem_pair("authority")
    context = SslContexts().client(Credential(authorities=authority))
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1


def test_devices_with_the_same_trust_share_a_context_while_one_is_used() -> None:
    authority, _ = pem_pair("authority")
    contexts = SslContexts()
    one = contexts.client(Credential(token="a", authorities=authority))
    assert contexts.client(Credential(token="b", authorities=authority)) is one
    assert contexts.client(Credential(authorities=authority), verify=False) is not one
    del one
    assert len(contexts._contexts) == 0


def test_a_device_with_its_own_certificate_has_its_own_context() -> None:
    authority, _ = pem_pair("authority")
    first, second = pem_pair("first"), pem_pair("second")
    contexts = SslContexts()
    one, two = (
        contexts.client(Credential(certificate=cert, private_key=key, authorities=authority))
        for cert, key in (first, second)
    )
    assert one is not two


def test_verification_is_switched_off_only_when_asked() -> None:
    context = SslContexts().client(Credential(), verify=False)
    assert context.verify_mode is ssl.CERT_NONE and not context.check_hostname


@pytest.mark.parametrize(
    "credential",
    [
        Credential(authorities=b"not a certificate"),
        Credential(authorities=b"\xff\xfe"),
        Credential(certificate=b"no", private_key=b"secret-key", authorities=pem_pair("a")[0]),
        Credential(certificate=pem_pair("a")[0], private_key=pem_pair("b")[1]),
    ],
)
def test_what_cannot_be_loaded_is_named_and_not_shown(credential: Credential) -> None:
    with pytest.raises(BadCredential) as caught:
        SslContexts().client(credential)
    assert "secret" not in str(caught.value)


async def test_asyncio_keeps_one_record_for_each_connection() -> None:
    """`bound_tls_buffers` reaches the buffer that asyncio really allocates."""
    context = SslContexts().client(Credential(), verify=False)
    loop = asyncio.get_running_loop()
    protocol = asyncio.sslproto.SSLProtocol(
        loop, asyncio.Protocol(), context, loop.create_future(), False, "example.test"
    )
    assert len(protocol._ssl_buffer) == TLS_BUFFER
    assert len(protocol.get_buffer(1 << 20)) == TLS_BUFFER
    protocol._app_transport._closed = True  # it was never opened
