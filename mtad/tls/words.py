"""What an operator is told of a connection that failed: the errors of OpenSSL and of the network, in words.

Neither the names of Python's errors nor the event loop's own texts are among them.
"""

import os
import ssl

_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def of_tls(error: ssl.SSLError) -> str:
    """OpenSSL's words, without its file and line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    return (error.reason or "TLS failed").replace("_", " ").lower()


def of_certificate(error: ssl.SSLCertVerificationError, name: str) -> str:
    """Why the certificate of a server that was asked for as `name` is not taken."""
    if error.verify_code in _NAME:
        return f"its certificate is not for {name}"
    if error.verify_code == _EXPIRED:
        return "its certificate has expired"
    return f"its certificate cannot be verified: {of_tls(error)}"


def of_network(error: OSError) -> str:
    """The system's words in lower case; an error of the event loop's own has no number, and is a broken connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified: {of_tls(error)}"
    if isinstance(error, ssl.SSLError):
        return f"the TLS connection failed: {of_tls(error)}"
    return os.strerror(error.errno).lower() if error.errno else "the connection broke"
