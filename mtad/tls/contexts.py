"""TLS settings of both directions. A context is made once and shared by all connections; making one reads files."""

import ssl
from typing import Literal

from mtad.config import Tls

Mode = Literal["may", "encrypt", "verify"]

# Forward secrecy and authenticated encryption only; TLS 1.3 has its own list.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# Towards any server of the world the alternative to an old cipher is no encryption at all.
CIPHERS_OPPORTUNISTIC = "DEFAULT:!aNULL:!eNULL:!MD5:!3DES:!RC4:@SECLEVEL=0"


class TlsError(Exception):
    """A certificate or key cannot be used. The text names the file and is for the operator."""


def server_context(tls: Tls) -> ssl.SSLContext | None:
    """The context of the listeners: TLS 1.2 at least; None without a certificate. Raises TlsError."""
    if not tls.cert and not tls.key:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # Renegotiation is a way to keep a server busy, compression one to read what it sends.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load(context, tls)
    return context


def client_context(mode: Mode, *, ca_file: str = "") -> ssl.SSLContext:
    """The context towards a server. "verify": the chain and the name must be right (`ca_file` in place of the system's
    authorities); "may" and "encrypt": any certificate will do, for without DANE or MTA-STS none could be expected
    (RFC 7435). Raises TlsError when `ca_file` cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if mode == "verify":
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if ca_file:
                context.load_verify_locations(ca_file)
            else:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"{ca_file or 'the system authorities'} cannot be used: {_why(error)}") from None
        return context
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode == "may":
        context.set_ciphers(CIPHERS_OPPORTUNISTIC)
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    def no_passphrase() -> str:
        raise TlsError(
            f"{tls.key} has a passphrase; a service needs a key without one"
        )  # else OpenSSL asks the terminal

    for path, kind in ((tls.cert, "certificate"), (tls.key, "key")):
        if not path:
            raise TlsError(f"there is no {kind}: tls.cert and tls.key go together")
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise TlsError(f"{path} cannot be read: {error.strerror}") from None
    try:
        context.load_cert_chain(tls.cert, tls.key, no_passphrase)
    except (OSError, ssl.SSLError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise TlsError(f"{tls.key} does not belong to the certificate {tls.cert}") from None
        raise TlsError(f"{tls.cert} with {tls.key} cannot be used: {_why(error)}") from None


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else error.strerror or "not in PEM form"
