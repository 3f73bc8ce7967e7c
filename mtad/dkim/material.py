"""Key material: private keys made, read, checked and described. Pure but for chance.

A key is checked once, when it is read; what signs is the object in memory.
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Literal

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from mtad.mail.text import clean

Kind = Literal["rsa", "ed25519"]
Private = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

RSA_BITS = 2048
RSA_BITS_MIN = 1024  # RFC 8301 3.2: signers MUST NOT use less
RSA_BITS_MAX = 4096
RSA_BITS_GOOD = 2048
FILE_MAX_BYTES = 32 * 1024
TXT_STRING_MAX = 255  # octets of one character-string, RFC 1035 3.3

_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?){0,3}")
_PKCS1V15 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()


class DkimKeyError(ValueError):
    """A key cannot be made or used. The text is for the operator; it never holds key material."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs for a domain. `bits` is the RSA modulus length, 256 for Ed25519."""

    domain: str
    selector: str
    algorithm: Literal["rsa", "ed25519"]
    bits: int
    path: str
    private: Private = field(repr=False)
    tag: bytes = b""  # a=

    def sign(self, octets: bytes) -> bytes:
        """The raw signature over the octets (RFC 8463 3: Ed25519 signs their SHA-256)."""
        private = self.private
        if isinstance(private, rsa.RSAPrivateKey):
            return private.sign(octets, _PKCS1V15, _SHA256)
        return private.sign(hashlib.sha256(octets).digest())


def record(key: SigningKey) -> str:
    """The value of the TXT record at <selector>._domainkey.<domain> (RFC 6376 3.6.1)."""
    public = key.private.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    else:
        octets = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)  # RFC 8463 4
    return f"v=DKIM1; k={key.algorithm}; p={base64.b64encode(octets).decode('ascii')}"


def strings(value: str) -> list[str]:
    """A TXT value cut into character-strings of at most 255 octets."""
    return [value[at : at + TXT_STRING_MAX] for at in range(0, len(value), TXT_STRING_MAX)] or [""]


def parse(domain: str, selector: str, path: str, octets: bytes) -> SigningKey:
    """A key from PEM (PKCS#8 or PKCS#1), fully checked. Raises DkimKeyError."""
    if len(octets) > FILE_MAX_BYTES:
        raise DkimKeyError("is too large for a key")
    try:
        private = serialization.load_pem_private_key(octets, password=None)
    except TypeError:
        raise DkimKeyError("has a passphrase; a service needs a key without one") from None
    except (ValueError, UnsupportedAlgorithm, InternalError):
        raise DkimKeyError("holds no private key in PEM form") from None
    if isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < RSA_BITS_MIN:
            raise DkimKeyError(f"{private.key_size} bits are too few; at least {RSA_BITS_MIN}, better {RSA_BITS_GOOD}")
        if private.key_size > RSA_BITS_MAX:
            raise DkimKeyError(f"{private.key_size} bits are more than receivers verify; at most {RSA_BITS_MAX}")
    elif not isinstance(private, ed25519.Ed25519PrivateKey):
        raise DkimKeyError("is neither RSA nor Ed25519")
    return signing_key(domain, selector, path, private)


def signing_key(domain: str, selector: str, path: str, private: Private) -> SigningKey:
    """The key as it signs."""
    if isinstance(private, rsa.RSAPrivateKey):
        return SigningKey(domain, selector, "rsa", private.key_size, path, private, b"rsa-sha256")
    return SigningKey(domain, selector, "ed25519", 256, path, private, b"ed25519-sha256")


def make(algorithm: Kind) -> Private:
    """A new private key. RSA takes 0.1 s."""
    if algorithm == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return ed25519.Ed25519PrivateKey.generate()


def pem(private: Private) -> bytes:
    """PKCS#8, as every tool reads it."""
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def check_selector(selector: str) -> None:
    """DkimKeyError unless it is one; what passes is fit for a file name too."""
    if not _SELECTOR.fullmatch(selector):
        raise DkimKeyError(f"{clean(selector, 80)!r} is no selector: letters, digits and hyphens")
