"""TLS contexts of device clients: small, shared per set of credentials, verified by default.

An `SSLContext` with the system's authorities weighs 800 KiB, one with a single authority and an own
certificate 24 KiB. So a context holds only the authorities that were given, devices that trust the
same ones and have no certificate of their own share one, and a context lives as long as somebody
uses it.
"""

from __future__ import annotations

import asyncio.sslproto
import hashlib
import os
import ssl
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from agent.credentials import Credential
from agent.errors import UnusableSettings

__all__ = ["TLS_BUFFER", "BadCredential", "SslContexts", "bound_tls_buffers"]

TLS_BUFFER = 16 * 1024
"""Bytes read from a TLS connection at once: one record (RFC 8446 section 5.1). asyncio keeps a
buffer of this size for each connection."""


class BadCredential(UnusableSettings):
    """Certificates or keys that cannot be loaded. Names the part, never shows it."""


def bound_tls_buffers() -> None:
    """Let asyncio keep 16 KiB for each TLS connection of this process instead of 256.

    `asyncio.sslproto.SSLProtocol` allocates `bytearray(self.max_size)` per connection and reads at
    most `max_size` at once; a smaller value costs more calls for large transfers and nothing else.
    There is no public setting. Read in CPython 3.11, where the class attribute is 256 KiB; a
    version without the attribute is left as it is, and `tests/protocols/http/test_tls.py` notices.
    """
    protocol = asyncio.sslproto.SSLProtocol
    if getattr(protocol, "max_size", 0) > TLS_BUFFER:
        protocol.max_size = TLS_BUFFER


class SslContexts:
    """The client contexts of one runtime."""

    __slots__ = ("_contexts",)

    def __init__(self) -> None:
        bound_tls_buffers()
        self._contexts: weakref.WeakValueDictionary[bytes, ssl.SSLContext] = (
            weakref.WeakValueDictionary()
        )

    def check(self, credential: Credential, *, verify: bool = True) -> ssl.SSLContext | None:
        """The context of a credential that has parts of its own, so that a person hears at once of
        those that do not load; None: it has none, and a context can wait until TLS is spoken.
        Raises BadCredential."""
        if credential.authorities or (credential.certificate and credential.private_key):
            return self.client(credential, verify=verify)
        return None

    def client(self, credential: Credential, *, verify: bool = True) -> ssl.SSLContext:
        """The context that presents and trusts what `credential` holds; whoever wants it shared
        keeps it. Without `verify` any server will do. Raises BadCredential."""
        digest = hashlib.sha256(b"verify" if verify else b"trust anybody")
        for part in (credential.authorities, credential.certificate, credential.private_key):
            digest.update(len(part).to_bytes(8, "big") + part)
        key = digest.digest()
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = _make(credential, verify)
        return context


def _make(credential: Credential, verify: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, host name included
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif credential.authorities:
        try:
            context.load_verify_locations(cadata=credential.authorities.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise BadCredential("the authorities are not PEM certificates") from None
    else:
        context.load_default_certs()
    # A certificate without a key is no identity: some protocols present one of the two elsewhere
    # (Mender signs its requests with a key that no certificate goes with).
    if credential.certificate and credential.private_key:
        with _file(credential.certificate + b"\n" + credential.private_key) as path:
            try:
                # The password is asked for nowhere: an encrypted key fails instead of prompting.
                context.load_cert_chain(path, password=_no_password)
            except (ssl.SSLError, ValueError):
                raise BadCredential("the certificate and its private key do not load") from None
    return context


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A path to read `content` from, which is all that OpenSSL's loader takes; in memory where the
    system can, so that keys stay off the disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("credential")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:  # readable by its owner alone
            file.write(content)
            file.flush()
            yield file.name
