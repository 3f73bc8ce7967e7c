"""DKIM keys on disk: data/dkim/<domain>/<selector>.pem, PKCS#8, 0600 in directories of 0700.

A key is checked once, when it is read; what signs is the object in memory.
"""

import base64
import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import Literal, assert_never

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from mtad.mail import address as addresses
from mtad.mail.text import clean

Algorithm = Literal["rsa", "ed25519", "both"]
ALGORITHMS: tuple[Algorithm, ...] = ("rsa", "ed25519", "both")

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
    private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = field(repr=False)
    tag: bytes = b""  # a=

    def sign(self, octets: bytes) -> bytes:
        """The raw signature over the octets (RFC 8463 3: Ed25519 signs their SHA-256)."""
        private = self.private
        if isinstance(private, rsa.RSAPrivateKey):
            return private.sign(octets, _PKCS1V15, _SHA256)
        return private.sign(hashlib.sha256(octets).digest())


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What an operator sees of a key. `name` is where its record belongs, `record` the TXT value."""

    domain: str
    selector: str
    algorithm: str
    bits: int
    path: str
    name: str
    record: str
    created_at: float


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


class Keys:
    """All signing keys of a directory. `load` replaces them at once; everything else only reads or adds files."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._keys: dict[str, tuple[SigningKey, ...]] = {}
        self._read: dict[str, tuple[tuple[int, int, int], SigningKey]] = {}  # by path: what it was when it was read

    def load(self) -> list[str]:
        """Read all keys; the problems, worst first, one line each. A bad key is left out, the others sign.

        Takes about 40 ms for each new or changed RSA key: not for an event loop that has other work.
        """
        errors: list[str] = []
        warnings: list[str] = []
        keys: dict[str, tuple[SigningKey, ...]] = {}
        read: dict[str, tuple[tuple[int, int, int], SigningKey]] = {}
        for domain in _folders(self._folder, errors):
            found: list[SigningKey] = []
            for name in _names(f"{self._folder}/{domain}", errors):
                path = f"{self._folder}/{domain}/{name}"
                try:
                    stamp, key = self._one(domain, name.removesuffix(".pem"), path, warnings)
                except DkimKeyError as error:
                    errors.append(f"{path}: {error}")
                    continue
                read[path] = stamp, key
                found.append(key)
            # RSA first: it is what every receiver can verify.
            keys[domain] = tuple(sorted(found, key=lambda key: (key.algorithm != "rsa", key.selector)))
        self._keys, self._read = keys, read
        return errors + warnings

    def keys(self, domain: str) -> tuple[SigningKey, ...]:
        """The keys that sign for exactly this domain (A-label, lower case), RSA first."""
        return self._keys.get(domain, ())

    def any(self) -> bool:
        """Whether there is anything to sign with."""
        return bool(self._keys)

    def generate(
        self, domain: str, selector: str = "", algorithm: Algorithm = "rsa", now: float = 0.0
    ) -> list[KeyFile]:
        """Make one key, or for "both" an RSA key at the selector and an Ed25519 key at "<selector>-ed". Durable.

        Without a selector: sYYYYMMDD of `now`, with a letter behind it when taken. The keys sign from the next `load`
        on. DkimKeyError when a selector is taken or a name is bad, OSError when it cannot be written. RSA takes 0.1 s.
        """
        domain = _domain(domain)
        wanted: tuple[tuple[str, Literal["rsa", "ed25519"]], ...]
        selector = selector.lower() or self._free_selector(domain, algorithm, now)
        match algorithm:
            case "rsa":
                wanted = ((selector, "rsa"),)
            case "ed25519":
                wanted = ((selector, "ed25519"),)
            case "both":
                wanted = ((selector, "rsa"), (f"{selector}-ed", "ed25519"))
            case _:
                assert_never(algorithm)
        for name, _ in wanted:
            if not _SELECTOR.fullmatch(name):
                raise DkimKeyError(f"{clean(name, 80)!r} is no selector: letters, digits and hyphens")
            if self._taken(domain, name):
                raise DkimKeyError(f"{domain} has a key at selector {name} already")
        made = [self._make(domain, name, kind) for name, kind in wanted]
        return [_described(key) for key in made]

    def _make(self, domain: str, selector: str, algorithm: Literal["rsa", "ed25519"]) -> SigningKey:
        private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
        if algorithm == "rsa":
            private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        else:
            private = ed25519.Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self._path(domain, selector)
        for folder in (self._folder, os.path.dirname(path)):
            if not os.path.isdir(folder):
                os.makedirs(folder, 0o700)
                _sync_folder(os.path.dirname(folder))
        _write(path, pem)
        return _signing_key(domain, selector, path, private)

    def _one(
        self, domain: str, selector: str, path: str, warnings: list[str]
    ) -> tuple[tuple[int, int, int], SigningKey]:
        """The key of a file, from memory when the file is still the same."""
        if not _SELECTOR.fullmatch(selector):
            raise DkimKeyError("the file name is no selector")
        try:
            with open(path, "rb") as file:
                found = os.fstat(file.fileno())
                octets = file.read(FILE_MAX_BYTES + 1)
        except OSError as error:
            raise DkimKeyError(f"cannot be read: {error.strerror}") from None
        if found.st_mode & 0o077:
            warnings.append(f"{path}: is open to others than its owner (chmod 600)")
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        kept = self._read.get(path)
        key = kept[1] if kept is not None and kept[0] == stamp else parse(domain, selector, path, octets)
        if key.algorithm == "rsa" and key.bits < RSA_BITS_GOOD:
            warnings.append(f"{path}: {key.bits} bits are few; make a new key of {RSA_BITS_GOOD}")
        return stamp, key

    def _free_selector(self, domain: str, algorithm: Algorithm, now: float) -> str:
        day = time.strftime("s%Y%m%d", time.gmtime(now))
        for suffix in "", *ascii_lowercase[1:]:
            selector = f"{day}{suffix}"
            needed = (selector, f"{selector}-ed") if algorithm == "both" else (selector,)
            if not any(self._taken(domain, name) for name in needed):
                return selector
        raise DkimKeyError(f"{domain} has a key at every selector of the day; name one")

    def _taken(self, domain: str, selector: str) -> bool:
        return os.path.lexists(self._path(domain, selector))

    def _path(self, domain: str, selector: str) -> str:
        return f"{self._folder}/{domain}/{selector}.pem"

    def list(self) -> Sequence[KeyFile]:
        """All loaded keys by domain and selector."""
        return [_described(key) for domain in sorted(self._keys) for key in self._keys[domain]]


def parse(domain: str, selector: str, path: str, octets: bytes) -> SigningKey:
    """A key from PEM (PKCS#8 or PKCS#1), fully checked. Raises DkimKeyError."""
    if len(octets) > FILE_MAX_BYTES:
        raise DkimKeyError("is too large for a key")
    try:
        private = serialization.load_pem_private_key(octets, password=None)
    except TypeError:
        raise DkimKeyError("has a passphrase; a service needs a key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise DkimKeyError("holds no private key in PEM form") from None
    if isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < RSA_BITS_MIN:
            raise DkimKeyError(f"{private.key_size} bits are too few; at least {RSA_BITS_MIN}, better {RSA_BITS_GOOD}")
        if private.key_size > RSA_BITS_MAX:
            raise DkimKeyError(f"{private.key_size} bits are more than receivers verify; at most {RSA_BITS_MAX}")
    elif not isinstance(private, ed25519.Ed25519PrivateKey):
        raise DkimKeyError("is neither RSA nor Ed25519")
    return _signing_key(domain, selector, path, private)


def _signing_key(
    domain: str, selector: str, path: str, private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
) -> SigningKey:
    if isinstance(private, rsa.RSAPrivateKey):
        return SigningKey(domain, selector, "rsa", private.key_size, path, private, b"rsa-sha256")
    return SigningKey(domain, selector, "ed25519", 256, path, private, b"ed25519-sha256")


def _described(key: SigningKey) -> KeyFile:
    try:
        created_at = os.stat(key.path).st_mtime
    except OSError:
        created_at = 0.0
    name = f"{key.selector}._domainkey.{key.domain}"
    return KeyFile(key.domain, key.selector, key.algorithm, key.bits, key.path, name, record(key), created_at)


def _domain(domain: str) -> str:
    try:
        name = addresses.to_ascii(domain.removesuffix("."))
    except addresses.AddressError as error:
        raise DkimKeyError(f"{clean(domain, 80)!r}: {error}") from None
    if name.startswith("["):
        raise DkimKeyError(f"{name} is no domain")
    return name


def _folders(folder: str, errors: list[str]) -> list[str]:
    """The domains that have a directory; none where there is no directory at all."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        errors.append(f"{folder}: cannot be read: {error.strerror}")
        return []


def _names(folder: str, errors: list[str]) -> list[str]:
    """The key files of a domain."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".pem") and not name.startswith("."))
    except OSError as error:
        errors.append(f"{folder}: cannot be read: {error.strerror}")
        return []


def _write(path: str, octets: bytes) -> None:
    """Write, fsync, and link into place: a name that exists is never replaced. Durable on return."""
    folder = os.path.dirname(path)
    temporary = f"{folder}/.{os.path.basename(path)}.{os.getpid()}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise DkimKeyError(f"{path} exists already") from None
    finally:
        os.unlink(temporary)
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
