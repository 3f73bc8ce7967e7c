"""What a TLS connection proves beyond its encryption: which channel it is, and who the client's certificate names."""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mtad.config.certificate import from_der


def bindings(ours: bytes, exported: bytes = b"") -> Mapping[str, bytes]:
    """Channel bindings by name (RFC 5929, RFC 9266). `ours` is our certificate in DER, `exported` what `exporter` gave;
    empty ones are left out."""
    known = {"tls-exporter": exported, "tls-server-end-point": end_point(ours) if ours else b""}
    return {name: octets for name, octets in known.items() if octets}


def exporter(ssl_object: Any) -> bytes:
    """tls-exporter where this Python offers it, else b""."""
    if "tls-exporter" not in ssl.CHANNEL_BINDING_TYPES:
        return b""
    return ssl_object.get_channel_binding("tls-exporter") or b""


@lru_cache(maxsize=64)
def end_point(certificate: bytes) -> bytes:
    """RFC 5929 4.1: the certificate's digest by the hash of its signature, SHA-256 in place of MD5 and SHA-1; b"" for a
    signature without a hash of its own (Ed25519), for which nothing is defined."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes

    try:
        algorithm = from_der(certificate).signature_hash_algorithm
    except UnsupportedAlgorithm:
        return b""
    if algorithm is None:
        return b""
    digest = hashes.Hash(hashes.SHA256() if algorithm.name in ("md5", "sha1") else algorithm)
    digest.update(certificate)
    return digest.finalize()


def mailboxes(certificate: bytes) -> tuple[str, ...]:
    """The mail addresses that a certificate in DER is for (subjectAltName, rfc822Name)."""
    from cryptography import x509

    try:
        names = from_der(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(names.value.get_values_for_type(x509.RFC822Name))
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
