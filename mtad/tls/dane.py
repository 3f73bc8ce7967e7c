"""DANE for SMTP (RFC 7672, 7671) without a socket: TLSA records against the certificates that a host showed."""

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mtad.config.certificate import from_der
from mtad.tls.tlsrpt import Fault

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

CHAIN_MAX = 10  # certificates of a host that are looked at
RECORDS_MAX = 40
DANE_TA, DANE_EE = 2, 3

_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}
_SIZES = {1: 32, 2: 64}


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One record. Usage 2 names an authority, 3 the host's own certificate; selector 0 the whole certificate, 1 its
    public key; matching 0 all of it, 1 its SHA-256, 2 its SHA-512."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        """Usages 0 and 1 mean nothing for SMTP (RFC 7672 3.1.3); what is unknown or broken cannot match."""
        return (
            self.usage in (DANE_TA, DANE_EE)
            and self.selector in (0, 1)
            and (bool(self.data) if self.matching == 0 else len(self.data) == _SIZES.get(self.matching))
        )

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


def usable(records: Sequence[Tlsa]) -> tuple[Tlsa, ...]:
    """The records that count, in a fixed order. Of digests over one thing all that we know are equally good
    (RFC 7671 9: SHA-256 and SHA-512)."""
    found = {record for record in records[:RECORDS_MAX] if record.usable}
    return tuple(sorted(found, key=lambda record: (-record.usage, record.selector, record.matching, record.data)))


def peer_chain(tls: Any) -> tuple[bytes, ...]:
    """The certificates that the peer sent, its own first, in DER. The public way to them came with Python 3.13."""
    get = getattr(tls, "get_unverified_chain", None)
    if get is not None:
        return tuple(get() or ())
    inner = getattr(tls, "_sslobj", tls)
    found = inner.get_unverified_chain() or ()
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in found)


def key_digest(certificate: bytes) -> bytes:
    """SHA-256 of a certificate's public key: what a pin is. ValueError when it cannot be read."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return hashlib.sha256(_spki(from_der(certificate))).digest()
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None


def verify(chain: Sequence[bytes], records: Sequence[Tlsa], names: Sequence[str], now: float) -> Fault | None:
    """None when one usable record matches, else why not.

    Usage 3 asks for nothing but the match: neither name nor dates (RFC 7672 3.1.1). Usage 2 asks for a valid path from
    the host's certificate to the one that the record names, and for one of `names` in the host's (3.1.2).
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        certificates = [from_der(octets) for octets in chain[:CHAIN_MAX]]
        if not certificates:
            return Fault("validation-failure", "The host showed no certificate")
        if any(record.usage == DANE_EE and _matches(record, certificates[0]) for record in records):
            return None
        anchors = [record for record in records if record.usage == DANE_TA]
        if not anchors:
            return Fault("validation-failure", "The host's certificate matches none of its TLSA records")
        return _by_anchor(certificates, anchors, names, datetime.fromtimestamp(now, UTC))
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType, x509.DuplicateExtension):
        return Fault("validation-failure", "A certificate of the host cannot be read")


def _by_anchor(
    certificates: Sequence["Certificate"], anchors: Sequence[Tlsa], names: Sequence[str], now: datetime
) -> Fault | None:
    leaf = certificates[0]
    pool = [*certificates[1:], *_whole(anchors)]
    path = [leaf]
    while len(path) <= CHAIN_MAX:
        issuer = next((one for one in pool if one not in path and _issued(one, path[-1], len(path) - 1)), None)
        if issuer is None:
            if any(_signed_by_key(record, path[-1]) for record in anchors):
                break
            return Fault("certificate-not-trusted", "No TLSA record names an authority of the host's certificate")
        path.append(issuer)
        if any(_matches(record, issuer) for record in anchors):
            break
    if not all(_valid_at(one, now) for one in path):
        return Fault("certificate-expired", "A certificate of the host has expired, or is not valid yet")
    if not _covers(leaf, names):
        return Fault("certificate-host-mismatch", "The host's certificate is for another name")
    return None


def _valid_at(certificate: "Certificate", now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _issued(issuer: "Certificate", subject: "Certificate", below: int) -> bool:
    """Whether `issuer` signed `subject`, and may: `below` authorities lie between it and the host (RFC 5280 4.2.1)."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    if issuer.version is x509.Version.v1:
        return True  # it has no extensions; the TLSA record alone makes it an authority
    try:
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    if not basic.ca or (basic.path_length is not None and below > basic.path_length):
        return False
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _whole(anchors: Sequence[Tlsa]) -> list["Certificate"]:
    """Authorities that the records hold in full: the host need not send them (RFC 7672 3.1.2)."""
    found = []
    for record in anchors:
        if record.selector == 0 and record.matching == 0:
            try:
                found.append(from_der(record.data))
            except ValueError:
                continue
    return found


def _signed_by_key(record: Tlsa, certificate: "Certificate") -> bool:
    """Whether a record that holds a whole public key names who signed this."""
    if record.selector != 1 or record.matching != 0:
        return False
    from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(record.data)
        signed, digest = certificate.tbs_certificate_bytes, certificate.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey) and digest is not None:
            pad = certificate.signature_algorithm_parameters
            pad = pad if isinstance(pad, padding.PSS) else padding.PKCS1v15()
            key.verify(certificate.signature, signed, pad, digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(certificate.signature, signed, ec.ECDSA(digest))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(certificate.signature, signed)
        else:
            return False
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, InternalError):
        return False
    return True


def _covers(leaf: "Certificate", names: Sequence[str]) -> bool:
    from cryptography import x509

    try:
        listed = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        patterns = [name.lower() for name in listed.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        patterns = []
    if not patterns:  # RFC 7672 3.2.3 keeps the subject for those who have nothing else
        common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        patterns = [str(common[-1].value).lower()] if common else []
    return any(name in patterns or f"*.{name.partition('.')[2]}" in patterns for name in names)


def _matches(record: Tlsa, certificate: "Certificate") -> bool:
    from cryptography.hazmat.primitives.serialization import Encoding

    octets = _spki(certificate) if record.selector == 1 else certificate.public_bytes(Encoding.DER)
    digest = _DIGESTS.get(record.matching)
    return (digest(octets).digest() if digest else octets) == record.data


def _spki(certificate: "Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
