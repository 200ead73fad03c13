"""TLS contexts for MQTT: one minimal context for each set of credentials.

A default context carries the system's 140 root certificates (800 KiB each time it is made); one
with the fleet's own authority weighs 24 KiB, so it matters who shares it. Contexts live as long as
a connection uses them: a device with a certificate of its own has one of its own.

paho reads and writes the socket itself, through OpenSSL with SSL_MODE_RELEASE_BUFFERS (Python sets
it): an idle connection holds no record buffers, and asyncio's 256 KiB for each TLS connection do
not exist here at all.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import weakref
from pathlib import Path

from agent.credentials import Credential

__all__ = ["CredentialError", "TlsContexts"]


class CredentialError(ValueError):
    """A credential that TLS cannot use; the text names the part and shows nothing of it."""


class TlsContexts:
    """The contexts of one transport."""

    __slots__ = ("_contexts",)

    def __init__(self) -> None:
        self._contexts: weakref.WeakValueDictionary[
            tuple[bytes, bytes, bytes, bool], ssl.SSLContext
        ] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._contexts)

    def of(self, credential: Credential, *, verify: bool = True) -> ssl.SSLContext:
        """The context for `credential`; raises :class:`CredentialError`."""
        key = (credential.certificate, credential.private_key, credential.authorities, verify)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = _make(credential, verify)
        return context


class _Socket(ssl.SSLSocket):
    """A TLS socket that is closed when its handshake fails: paho leaves that to the collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _make(credential: Credential, verify: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _Socket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif credential.authorities:
        try:
            context.load_verify_locations(cadata=credential.authorities.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise CredentialError(f"the authorities are no PEM certificates: {error}") from None
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if credential.certificate:
        _load_chain(context, credential)
    return context


def _load_chain(context: ssl.SSLContext, credential: Credential) -> None:
    # OpenSSL's binding reads a chain from a file and from nowhere else.
    with tempfile.TemporaryDirectory(prefix="fotilla-tls-") as folder:
        path = Path(folder, "chain.pem")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(credential.certificate + b"\n" + credential.private_key)
        try:
            # A password is asked for on the terminal unless there is one: an encrypted key is
            # refused instead.
            context.load_cert_chain(path, password=b"")
        except (ssl.SSLError, ValueError) as error:
            raise CredentialError(
                f"the certificate and private key cannot be used: {error}"
            ) from None
