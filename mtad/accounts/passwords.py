"""Password hashing: scrypt in the PHC string form "$scrypt$ln=15,r=8,p=3$salt$hash" (RFC 7914)."""

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass

LENGTH_MIN = 8
LENGTH_MAX_BYTES = 1024
SALT_BYTES = 16
HASH_BYTES = 32
MEMORY_MAX_BYTES = 256 * 1024 * 1024

_SECRET = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{1,100})\$([A-Za-z0-9+/]{20,200})\Z"
)


class PasswordError(ValueError):
    """The password cannot be taken. The text is for the person who chose it and never holds the password."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Scrypt's work: 2**ln blocks of 128*r octets, p times over."""

    ln: int = 15
    r: int = 8
    p: int = 3

    @property
    def memory_bytes(self) -> int:
        return 128 * self.r * ((1 << self.ln) + self.p + 2)


def check(password: str) -> None:
    """Raise PasswordError for a password that is empty, short, oversized or not one line."""
    if not password:
        raise PasswordError("the password is empty")
    if len(password) < LENGTH_MIN:
        raise PasswordError(f"the password is shorter than {LENGTH_MIN} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in password):
        raise PasswordError("the password holds control characters")
    if len(_octets(password)) > LENGTH_MAX_BYTES:
        raise PasswordError(f"the password is longer than {LENGTH_MAX_BYTES} octets")


def hash_password(password: str, salt: bytes, cost: Cost) -> str:
    """The stored form of a password. `salt` must be fresh and random (SALT_BYTES octets)."""
    digest = _scrypt(password, salt, cost, HASH_BYTES)
    return f"$scrypt$ln={cost.ln},r={cost.r},p={cost.p}${_encode(salt)}${_encode(digest)}"


def verify(password: str, secret: str) -> bool:
    """Is this the password of the stored form? Constant time in the digest; a damaged form is never right."""
    match = _SECRET.fullmatch(secret)
    if match is None:
        return False
    cost = Cost(int(match[1]), int(match[2]), int(match[3]))
    if not (cost.ln >= 1 and cost.r and cost.p and cost.memory_bytes <= MEMORY_MAX_BYTES):
        return False
    try:
        salt, digest = _decode(match[4]), _decode(match[5])
    except binascii.Error:
        return False
    return hmac.compare_digest(_scrypt(password, salt, cost, len(digest)), digest)


def _scrypt(password: str, salt: bytes, cost: Cost, size: int) -> bytes:
    # OpenSSL compares maxmem with its own estimate; one block of room keeps the exact boundary allowed.
    maxmem = cost.memory_bytes + 128 * cost.r * cost.p + 4096
    return hashlib.scrypt(_octets(password), salt=salt, n=2**cost.ln, r=cost.r, p=cost.p, maxmem=maxmem, dklen=size)


def _octets(password: str) -> bytes:
    """One password, one octet string, whichever way a client composes its characters (RFC 8265 uses NFC)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
