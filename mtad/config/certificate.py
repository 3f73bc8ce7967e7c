"""Is this certificate and key a pair that a server can use? Only loaded where a certificate is configured."""

import os
import ssl
import stat
from typing import TYPE_CHECKING

from mtad.config.errors import Findings

if TYPE_CHECKING:
    from cryptography import x509

EXPIRY_WARNING_S = 7 * 86400.0
DAY_S = 86400.0


def examine(cert: str, key: str, hostname: str, findings: Findings, now: float, *, section: str = "tls") -> None:
    """Note what is wrong: unreadable, no PEM, no pair (errors); expiry, names, an open key file (warnings).
    `hostname` must be among its names, any name will do where it is ""."""
    cert_key, key_key = f"{section}.cert", f"{section}.key"
    before = len(findings.errors)
    octets = [_read(path, name, findings) for name, path in ((cert_key, cert), (key_key, key))]
    if not all(octets):
        return
    _examine_certificate(octets[0] or b"", cert, cert_key, hostname, findings, now)
    if len(findings.errors) > before:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, _no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            findings.error(key_key, f"{key} does not belong to the certificate {cert}")
        elif _is_key(octets[1] or b""):
            why = (error.reason or "unknown format").replace("_", " ").lower()
            findings.error(cert_key, f"{cert} with {key} cannot be used: {why}")
        else:
            findings.error(
                key_key, f"{key} cannot be used: {(error.reason or 'unknown format').lower()}", "PEM, no passphrase"
            )
    except OSError as error:
        findings.error(key_key, f"{key} cannot be used: {error.strerror}")
    except ValueError:
        findings.error(key_key, f"{key} has a passphrase", "a service needs a key without one")


def examine_authorities(path: str, key: str, findings: Findings) -> None:
    """Note when a file holds no certificates to trust."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        findings.error(key, f"{path} holds no PEM certificate")
    except OSError as error:
        findings.error(key, f"{path} cannot be read: {error.strerror}")


def expires_at(cert: str) -> float | None:
    """When the certificate that is in use ends to be valid. None when the file cannot be read any more."""
    try:
        with open(cert, "rb") as file:
            return ends_at(from_pem(file.read(1 << 20))[0])
    except (OSError, ValueError):
        return None


def _is_key(octets: bytes) -> bool:
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(octets, None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        return False
    return True


def _no_password() -> str:
    # Else OpenSSL asks on the terminal.
    raise ValueError("the key has a passphrase")


def _read(path: str, name: str, findings: Findings) -> bytes | None:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read(1 << 20)
    except OSError as error:
        findings.error(name, f"{path} cannot be read: {error.strerror}")
        return None
    if name.endswith(".key") and stat.S_IMODE(mode) & 0o007:
        findings.warn(name, f"{path} is open to everybody", f"chmod 640 {path}")
    if not octets.strip():
        findings.error(name, f"{path} is empty")
        return None
    return octets


def _examine_certificate(octets: bytes, path: str, key: str, hostname: str, findings: Findings, now: float) -> None:
    try:
        leaf = from_pem(octets)[0]
        names = names_of(leaf)
    except ValueError:
        findings.error(key, f"{path} holds no PEM certificate")
        return
    left_s = ends_at(leaf) - now
    if left_s <= 0:
        findings.warn(key, f"{path} has expired", "renew it; users and strict senders cannot connect")
    elif left_s < EXPIRY_WARNING_S:
        findings.warn(key, f"{path} expires in {left_s / DAY_S:.1f} days", "renew it")
    if hostname and not any(_matches(name, hostname) for name in names):
        shown = ", ".join(names[:5]) or "no name"
        findings.warn(key, f"{path} is not for {hostname} but for {shown}", "users would see a warning")
    elif not names:
        findings.warn(key, f"{path} has no name in it", "no client would ask for it")


def from_pem(octets: bytes) -> "list[x509.Certificate]":
    """All certificates of a PEM file. ValueError, and nothing else, when there is none or one cannot be read."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(octets)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from None


def from_der(octets: bytes) -> "x509.Certificate":
    """ValueError, and nothing else, when it cannot be read."""
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(octets)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from None


def names_of(leaf: "x509.Certificate") -> tuple[str, ...]:
    """The DNS names in subjectAltName, lower case. ValueError when the certificate is malformed there."""
    from cryptography import x509

    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from None
    return tuple(name.lower() for name in san.get_values_for_type(x509.DNSName))


def ends_at(leaf: "x509.Certificate") -> float:
    """End of validity, unix seconds. The aware property is newer than the oldest `cryptography` we take."""
    from datetime import UTC

    end = getattr(leaf, "not_valid_after_utc", None) or leaf.not_valid_after.replace(tzinfo=UTC)
    return float(end.timestamp())


def _matches(name: str, hostname: str) -> bool:
    return name == hostname or (name.startswith("*.") and name[1:] == hostname[hostname.find(".") :])
