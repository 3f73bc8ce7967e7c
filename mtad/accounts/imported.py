"""Password hashes of other mail servers, as their dumps have them: what is understood, and the check of each.

A hash is `{SCHEME}text`, or bare where "$" tells the scheme. They are kept as they came until their owner signs in
once; then ours takes their place. Dovecot's manual names the schemes and their forms.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from mtad.accounts import passwords, scram, sha_crypt

HASH_MAX = 1000  # characters
LINE_MAX = 4096

_PLAIN = frozenset({"PLAIN", "CLEAR", "CLEARTEXT"})
_DIGESTS = {  # scheme -> (algorithm, salted)
    "SHA": ("sha1", False),
    "SHA1": ("sha1", False),
    "SHA256": ("sha256", False),
    "SHA512": ("sha512", False),
    "SSHA": ("sha1", True),
    "SSHA256": ("sha256", True),
    "SSHA512": ("sha512", True),
}
_BY_SIGN = ("CRYPT", "SHA256-CRYPT", "SHA512-CRYPT", "BLF-CRYPT", "ARGON2I", "ARGON2ID", "SCRYPT")
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")
_BCRYPT_COST_MAX = 15
_PBKDF2 = re.compile(r"\$1\$([!-#%-~]{1,64})\$(\d{1,7})\$([0-9a-f]{40})\Z")
_PBKDF2_ROUNDS_MAX = 1_000_000
_SCHEME = re.compile(r"\{([A-Za-z0-9-]{1,30})(?:\.(B64|BASE64|HEX))?\}(.*)\Z", re.IGNORECASE)
_UNKNOWN = "this scheme is not known here"


class HashError(ValueError):
    """The hash cannot be taken. Says why, and nothing of the hash."""


@dataclass(frozen=True, slots=True, repr=False)
class Plain:
    """No hash at all, but the password. Not printable on purpose."""

    password: str


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """A line of a password file. `problem` in place of `secret` when it cannot be used."""

    line: int
    name: str
    secret: str | Plain = ""
    problem: str = ""


def entries(lines: Iterable[tuple[int, str]]) -> Iterator[Entry]:
    """The users of a password file, by the numbers of its lines: "user:hash", further fields are ignored (Dovecot's
    passwd-file). Empty lines and comments are left out."""
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, colon, rest = text.partition(":")
        if not colon or not name:
            yield Entry(number, name if colon else "", problem='is not "user:hash"')
            continue
        try:
            if len(text) > LINE_MAX:
                raise HashError("the line is too long")
            yield Entry(number, name, read(rest.split(":", 1)[0]))
        except HashError as error:
            yield Entry(number, name, problem=str(error))


def read(given: str) -> str | Plain:
    """A hash in the form in which it is stored, or the password itself. Raises HashError."""
    if len(given) > HASH_MAX or not given.isprintable():
        raise HashError("this is no password hash")
    if not given or given[0] in "*!" or given == "x":
        raise HashError("there is no password")
    scheme, coding, text = "CRYPT", "", given
    if given.startswith("{"):
        found = _SCHEME.fullmatch(given)
        if found is None:
            raise HashError("this is no password hash")
        scheme, coding, text = found[1].upper(), (found[2] or "").upper(), found[3]
    if scheme in _PLAIN and not coding:
        return Plain(text)
    if scheme in _BY_SIGN and not coding:
        return _by_sign(text, named=given.startswith("{"))
    if scheme in _DIGESTS:
        return f"{{{scheme}}}{base64.b64encode(_raw(scheme, coding, text)).decode('ascii')}"
    if scheme == "PBKDF2" and not coding:
        pbkdf2 = _PBKDF2.fullmatch(text)
        if pbkdf2 is None or not 1 <= int(pbkdf2[2]) <= _PBKDF2_ROUNDS_MAX:
            raise HashError("this is no PBKDF2 hash of Dovecot's form, or too many rounds")
        return f"{{PBKDF2}}{text}"
    if scheme == "SCRAM-SHA-256" and not coding:
        scram_parts(text)
        return f"{{SCRAM-SHA-256}}{text}"
    raise HashError(f"{scheme}: {_UNKNOWN}")


def _by_sign(text: str, *, named: bool) -> str:
    sign = text.split("$")[1] if text.startswith("$") and text.count("$") > 1 else ""
    if sign in ("5", "6"):
        if sha_crypt.known(text):
            return text
        raise HashError(f"this SHA-crypt hash is damaged, or has more than {sha_crypt.ROUNDS_MAX} rounds")
    if sign in ("2a", "2b", "2y"):
        if _bcrypt() is None:
            raise HashError("BLF-CRYPT (bcrypt) hashes need the Python package bcrypt, which is not installed")
        found = _BCRYPT.fullmatch(text)
        if found is None or int(found[1]) > _BCRYPT_COST_MAX:
            raise HashError(f"this bcrypt hash is damaged, or of a cost above {_BCRYPT_COST_MAX}")
        return text
    if sign in ("argon2id", "argon2i", "scrypt"):
        if passwords.known(text):
            return text
        if sign != "scrypt" and passwords.best().scheme != "argon2id":
            raise HashError("argon2 hashes need the Python package argon2-cffi, which is not installed")
        raise HashError(f"this {sign} hash is damaged, or asks for too much work")
    if sign:
        raise HashError(f"${sign}$: {_UNKNOWN}")
    raise HashError("crypt without a $ sign is too weak to keep" if named else "it names no scheme, as in {SSHA256}")


def ours(secret: str) -> bool:
    """Is it a form that new passwords have?"""
    return secret.startswith(("$scrypt$", "$argon2id$"))


def scheme_of(secret: str) -> str:
    """The scheme's name, for people."""
    if secret.startswith("{"):
        return secret[1:].partition("}")[0].lower()
    sign = secret.split("$")[1] if secret.startswith("$") else ""
    return {"5": "sha256-crypt", "6": "sha512-crypt"}.get(sign, "bcrypt" if sign.startswith("2") else sign)


def verify(password: str, secret: str) -> bool:
    """Is this the password of an imported hash? Constant time in the digest; an unknown or damaged form is never
    right."""
    if problem(secret):
        return False
    octets = password.encode("utf-8", "surrogatepass")
    if secret.startswith(("$5$", "$6$")):
        return sha_crypt.verify(octets, secret)
    if secret.startswith("$2"):
        return _verify_bcrypt(octets, secret)
    found = _SCHEME.fullmatch(secret)
    if found is None:
        return passwords.verify(password, secret)
    name, text = found[1], found[3]
    if name in _DIGESTS:
        algorithm, _ = _DIGESTS[name]
        raw = base64.b64decode(text)
        size = hashlib.new(algorithm).digest_size
        return hmac.compare_digest(hashlib.new(algorithm, octets + raw[size:]).digest(), raw[:size])
    if name == "PBKDF2":
        salt, rounds, digest = text.split("$")[2:5]
        return hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", octets, salt.encode(), int(rounds)).hex(), digest)
    if name == "SCRAM-SHA-256":
        parts = scram_parts(text)
        return hmac.compare_digest(
            scram.derive(password, parts.salt, parts.iterations).stored_key, parts.keys[0][1].stored_key
        )
    return False


def problem(secret: str) -> str:
    """Why no password can be right for this stored form, "" when one can: each is read as itself."""
    try:
        return "" if read(secret) == secret else "this password hash is damaged"
    except HashError as error:
        return str(error)


def scram_parts(text: str) -> scram.Challenge:
    """Dovecot's "iterations,salt,stored key,server key". Raises HashError."""
    fields = text.split(",")
    try:
        iterations = int(fields[0])
        salt, stored_key, server_key = (base64.b64decode(field, validate=True) for field in fields[1:])
    except ValueError:
        raise HashError("this is no SCRAM-SHA-256 entry") from None
    if not 1 <= iterations <= scram.ITERATIONS_MAX or len(stored_key) != 32 or len(server_key) != 32 or not salt:
        raise HashError("this is no SCRAM-SHA-256 entry")
    return scram.Challenge(salt, iterations, (("", scram.Keys(stored_key, server_key)),))


def _raw(scheme: str, coding: str, text: str) -> bytes:
    """Digest and salt. Dovecot writes base64, or hex where the scheme's name says so or the length does."""
    algorithm, salted = _DIGESTS[scheme]
    size = hashlib.new(algorithm).digest_size
    try:
        if coding == "HEX" or (not coding and not salted and len(text) == 2 * size):
            raw = bytes.fromhex(text)
        else:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise HashError(f"this is no {scheme} hash") from None
    if len(raw) <= size if salted else len(raw) != size:
        raise HashError(f"this is no {scheme} hash: it has {len(raw)} octets")
    return raw


@cache
def _bcrypt() -> Any:
    try:
        import bcrypt
    except ImportError:
        return None
    return bcrypt


def _verify_bcrypt(octets: bytes, secret: str) -> bool:
    module = _bcrypt()
    if module is None or b"\0" in octets:
        return False
    form = "$2b$" + secret[4:]  # three names for the same; only 72 octets count
    return hmac.compare_digest(bytes(module.hashpw(octets[:72], form.encode("ascii"))), form.encode("ascii"))
