"""Password hashing in PHC string forms: "$scrypt$ln=15,r=8,p=3$salt$hash" (RFC 7914), and argon2id (RFC 9106) where
argon2-cffi is installed (the extra `argon2`)."""

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

LENGTH_MIN = 8
LENGTH_MAX_BYTES = 1024
SALT_BYTES = 16
HASH_BYTES = 32
MEMORY_MAX_BYTES = 256 * 1024 * 1024

_SECRET = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{1,100})\$([A-Za-z0-9+/]{20,200})\Z"
)

_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=\d{1,3}\$m=(\d{1,8}),t=(\d{1,4}),p=(\d{1,3})\$[A-Za-z0-9+/]{8,100}\$[A-Za-z0-9+/]{16,200}\Z"
)
_ARGON2_PASSES_MAX = 20
_ARGON2_LANES_MAX = 64


class PasswordError(ValueError):
    """The password cannot be taken. The text is for the person who chose it and never holds the password."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a new password is hashed with. Scrypt's work: 2**ln blocks of 128*r octets, p times over. Argon2id's: RFC
    9106 4, the second recommendation. `iterations` is for the keys of SCRAM, where the client has to do the same."""

    ln: int = 15
    r: int = 8
    p: int = 3
    scheme: Literal["scrypt", "argon2id"] = "scrypt"
    passes: int = 3
    memory_kib: int = 65536
    lanes: int = 4
    iterations: int = 65_536  # Cyrus SASL, and with it Postfix as a client, refuses to compute more

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
    if len(octets(password)) > LENGTH_MAX_BYTES:
        raise PasswordError(f"the password is longer than {LENGTH_MAX_BYTES} octets")


def best() -> Cost:
    """The cost for real accounts: argon2id where it is installed, else scrypt."""
    return Cost(scheme="argon2id" if _argon2() is not None else "scrypt")


def hash_password(password: str, salt: bytes, cost: Cost) -> str:
    """The stored form of a password. `salt` must be fresh and random (SALT_BYTES octets)."""
    argon2 = _argon2() if cost.scheme == "argon2id" else None
    if argon2 is not None:
        form: bytes = argon2.hash_secret(
            octets(password), salt, cost.passes, cost.memory_kib, cost.lanes, HASH_BYTES, argon2.Type.ID
        )
        return form.decode("ascii")
    digest = _scrypt(password, salt, cost, HASH_BYTES)
    return f"{_prefix(cost)}{_encode(salt)}${_encode(digest)}"


def nobodys(salt: bytes, digest: bytes, cost: Cost) -> str:
    """The stored form of no password: checking one against it is as much work as against a real one. `salt` and
    `digest` are random, SALT_BYTES and HASH_BYTES."""
    return f"{_prefix(cost)}{_encode(salt)}${_encode(digest)}"


def known(secret: str) -> bool:
    """Is it a form that `verify` can check here, complete, and not too much work?"""
    if _ARGON2.fullmatch(secret):
        return _argon2() is not None and _argon2_bearable(secret)
    return _scrypt_parts(secret) is not None


def outdated(secret: str, cost: Cost) -> bool:
    """Was it made with another scheme or cost than new ones?"""
    return not secret.startswith(_prefix(cost))


def verify(password: str, secret: str) -> bool:
    """Is this the password of the stored form? Constant time in the digest; a damaged form is never right. Nor is a
    password with NUL: no user has one, and scrypt takes "x" and "x\\0" for the same (RFC 2104 2 pads with zeros)."""
    if "\0" in password:
        return False
    if secret.startswith("$argon2"):
        return _verify_argon2(password, secret)
    parts = _scrypt_parts(secret)
    if parts is None:
        return False
    cost, salt, digest = parts
    return hmac.compare_digest(_scrypt(password, salt, cost, len(digest)), digest)


def _prefix(cost: Cost) -> str:
    if cost.scheme == "argon2id" and _argon2() is not None:
        return f"$argon2id$v=19$m={cost.memory_kib},t={cost.passes},p={cost.lanes}$"
    return f"$scrypt$ln={cost.ln},r={cost.r},p={cost.p}$"


def _scrypt_parts(secret: str) -> tuple[Cost, bytes, bytes] | None:
    match = _SECRET.fullmatch(secret)
    if match is None:
        return None
    cost = Cost(int(match[1]), int(match[2]), int(match[3]))
    if not (cost.ln >= 1 and cost.r and cost.p and cost.memory_bytes <= MEMORY_MAX_BYTES):
        return None
    try:
        return cost, _decode(match[4]), _decode(match[5])
    except binascii.Error:
        return None


@cache
def _argon2() -> Any:
    """The module, or None."""
    try:
        from argon2 import low_level
    except ImportError:
        return None
    return low_level


def _argon2_bearable(secret: str) -> bool:
    found = _ARGON2.fullmatch(secret)
    if found is None:
        return False
    memory_kib, passes, lanes = int(found[1]), int(found[2]), int(found[3])
    return memory_kib * 1024 <= MEMORY_MAX_BYTES and passes <= _ARGON2_PASSES_MAX and lanes <= _ARGON2_LANES_MAX


def _verify_argon2(password: str, secret: str) -> bool:
    argon2 = _argon2()
    if argon2 is None or not _argon2_bearable(secret):
        return False
    kind = {"$argon2id": argon2.Type.ID, "$argon2i": argon2.Type.I, "$argon2d": argon2.Type.D}
    from argon2.exceptions import Argon2Error  # the module is there

    try:
        return bool(argon2.verify_secret(secret.encode("ascii"), octets(password), kind["$" + secret.split("$")[1]]))
    except Argon2Error:
        return False


def _scrypt(password: str, salt: bytes, cost: Cost, size: int) -> bytes:
    # OpenSSL compares maxmem with its own estimate; one block of room keeps the exact boundary allowed.
    maxmem = cost.memory_bytes + 128 * cost.r * cost.p + 4096
    return hashlib.scrypt(octets(password), salt=salt, n=2**cost.ln, r=cost.r, p=cost.p, maxmem=maxmem, dklen=size)


def octets(password: str) -> bytes:
    """One password, one octet string, whichever way a client composes its characters (RFC 8265 uses NFC)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
