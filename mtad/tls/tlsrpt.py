"""TLS reports (RFC 8460) without a socket: what is counted, the record of who wants to read it, and the report."""

import ssl
from dataclasses import dataclass
from typing import Literal

PolicyType = Literal["sts", "tlsa", "no-policy-found"]

Result = Literal[
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]
"""What a session can fail by (RFC 8460 4.3)."""

HANDSHAKE_FAILED = "The TLS handshake failed"

# OpenSSL's X509_V_ERR_*, as SSLCertVerificationError.verify_code has them.
_EXPIRED = 10
_NAME = frozenset({62, 63, 64})  # host, mail address, IP address
_UNTRUSTED = frozenset({2, 7, 18, 19, 20, 21, 24, 25, 26, 27, 28, 79})


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of a recipient domain that a session was held to (RFC 8460 4.4)."""

    domain: str
    type: PolicyType = "no-policy-found"
    lines: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a host's TLS will not do: the kind, words that may be shown to anyone, and the cause for the log."""

    result: Result
    words: str
    cause: str = ""


def fault_of(error: Exception) -> Fault:
    """What a failed handshake comes to."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Fault("validation-failure", HANDSHAKE_FAILED, repr(error))
    result: Result = "validation-failure"
    if error.verify_code == _EXPIRED:
        result = "certificate-expired"
    elif error.verify_code in _NAME:
        result = "certificate-host-mismatch"
    elif error.verify_code in _UNTRUSTED:
        result = "certificate-not-trusted"
    return Fault(result, "The host's certificate cannot be verified", repr(error))
