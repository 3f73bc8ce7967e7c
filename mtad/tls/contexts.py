"""TLS settings of both directions. A context is made once and shared by all connections; making one reads files."""

import ssl
from typing import Any, Literal

from mtad.config import Tls
from mtad.tls.certificates import Certificate, choose, index, read
from mtad.tls.sessions import ResumingContext

Mode = Literal["may", "encrypt", "verify"]

# Forward secrecy and authenticated encryption only; TLS 1.3 has its own list.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# Towards any server of the world the alternative to an old cipher is no encryption at all.
CIPHERS_OPPORTUNISTIC = "DEFAULT:!aNULL:!eNULL:!MD5:!3DES:!RC4:@SECLEVEL=0"


class TlsError(Exception):
    """A certificate or key cannot be used. The text names the file and is for the operator."""


class ServerContext(ssl.SSLContext):
    """A context of the listeners, and what is known of its certificate.

    `users` is the one for the submission listeners: it asks for a client certificate where tls.client_ca is set. Other
    servers are never asked: one that shows a certificate of another authority could not deliver.
    """

    certificate: Certificate
    certificates: tuple[Certificate, ...]  # all that a client may get; the default first
    users: "ServerContext"

    @property
    def leaf(self) -> bytes:
        """The certificate in DER, for channel binding (RFC 5929 4)."""
        return self.certificate.leaf


def server_context(tls: Tls) -> ServerContext | None:
    """The context of the listeners: TLS 1.2 at least, the certificate by the name that the client asks for; None
    without a certificate. Raises TlsError when one of the files cannot be used."""
    if not tls.cert and not tls.key:
        return None
    context = _by_name(tls)
    context.users = _by_name(tls, tls.client_ca) if tls.client_ca else context
    return context


def _by_name(tls: Tls, client_ca: str = "") -> ServerContext:
    """The default context, which hands a connection over to another one when its client asks for such a name."""
    pairs = [(tls.cert, tls.key), *((one.cert, one.key) for one in tls.certificates)]
    contexts = [_context(cert, key, client_ca) for cert, key in pairs]
    default = contexts[0]
    default.certificates = tuple(context.certificate for context in contexts)
    if len(contexts) > 1:
        by_name = index(default.certificates)

        def by_server_name(connection: Any, asked: str | None, _context: ssl.SSLContext) -> None:
            number = choose(by_name, asked)
            if number:
                connection.context = contexts[number]

        default.sni_callback = by_server_name
    return default


def _context(cert: str, key: str, client_ca: str) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # Renegotiation is a way to keep a server busy, compression one to read what it sends.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load(context, cert, key)
    try:
        context.certificate = read(cert, key)
    except (OSError, ValueError) as error:
        raise TlsError(f"{cert} {error.strerror if isinstance(error, OSError) else error}") from None
    if client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL
        _trust(context, client_ca)
    return context


def server_context_of(cert: str, key: str) -> ServerContext:
    """The context of a listener with this pair alone. Raises TlsError."""
    return _context(cert, key, "")


def client_context(mode: Mode, *, ca_file: str = "") -> ssl.SSLContext:
    """The context towards a server. "verify": the chain and the name must be right (`ca_file` beside the system's
    authorities); "may" and "encrypt": any certificate will do, for without DANE or MTA-STS none could be expected
    (RFC 7435). Raises TlsError when `ca_file` cannot be used."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if mode == "verify":
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.hostname_checks_common_name = False  # RFC 8461 3.3, 4.1 and RFC 9525 2: the subject names nobody
        _trust(context, "")
        if ca_file:
            _trust(context, ca_file)
        return context
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode == "may":
        context.set_ciphers(CIPHERS_OPPORTUNISTIC)
    return context


def _trust(context: ssl.SSLContext, ca_file: str) -> None:
    """Accept what these authorities signed; "" is the system's."""
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"{ca_file or 'the system authorities'} cannot be used: {_why(error)}") from None


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    def no_passphrase() -> str:
        # Else OpenSSL asks the terminal.
        raise TlsError(f"{key} has a passphrase; a service needs a key without one")

    for path, kind in ((cert, "certificate"), (key, "key")):
        if not path:
            raise TlsError(f"there is no {kind}: tls.cert and tls.key go together")
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise TlsError(f"{path} cannot be read: {error.strerror}") from None
    try:
        context.load_cert_chain(cert, key, no_passphrase)
    except (OSError, ssl.SSLError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise TlsError(f"{key} does not belong to the certificate {cert}") from None
        raise TlsError(f"{cert} with {key} cannot be used: {_why(error)}") from None


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else error.strerror or "not in PEM form"
