"""A signed mail, its key record and a certificate, made once."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from mtad.dkim.canonical import BodyHash
from mtad.dkim.material import SigningKey, record
from mtad.dkim.sign import sign

NOW = 1_800_000_000
HEAD = b"From: alice@example.test\r\nTo: bob@example.net\r\nSubject: hi\r\n\r\n"
BODY = b"hello\r\n"
PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
KEY = SigningKey("example.test", "s", "ed25519", 256, "", PRIVATE, b"ed25519-sha256")
RECORD = record(KEY)


def _signed() -> bytes:
    made = BodyHash()
    made.update(BODY)
    return sign(KEY, HEAD, made.digest(), NOW - 100) + HEAD + BODY


def lookup(_name: str) -> list[str]:
    return [RECORD]


SIGNED = _signed()

_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.test")])
_DAY = datetime.fromtimestamp(NOW, UTC)
_CERTIFICATE = (
    x509.CertificateBuilder()
    .subject_name(_NAME)
    .issuer_name(_NAME)
    .public_key(PRIVATE.public_key())
    .serial_number(1)
    .not_valid_before(_DAY - timedelta(days=1))
    .not_valid_after(_DAY + timedelta(days=1))
    .sign(PRIVATE, None)
)
CERTIFICATE = _CERTIFICATE.public_bytes(serialization.Encoding.DER)
CERTIFICATE_PEM = _CERTIFICATE.public_bytes(serialization.Encoding.PEM)
