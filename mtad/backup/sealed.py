"""A file that only its key opens: AES-256-GCM in chunks, as docs/recovery.md describes it octet by octet.

A header of 64 octets, then chunks of 64 KiB, each with its tag. The nonce of a chunk is its number and whether it is
the last one, and the header is authenticated with each: nothing can be changed, left out, moved, appended or cut off
unseen.
"""

import io
import os
import struct
from dataclasses import dataclass
from typing import IO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAGIC = b"MTADSEAL"
CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
KEY_FILE_MIN_BYTES = 16
KEY_FILE_MAX_BYTES = 64 * 1024
PASSPHRASE_MIN = 8

_HEADER = struct.Struct(">8s B B B B B 3x 32s 16s")
_VERSION, _SCRYPT, _KEY_FILE = 1, 1, 2
_LOG2_N, _R, _P = 17, 8, 1  # 128 MiB, about half a second
_LOG2_N_RANGE = range(14, 21)
_INFO = b"mtad backup 1"


class SealError(ValueError):
    """It cannot be opened; the words are for the operator."""


class WrongKeyError(SealError):
    """It was sealed with another key."""


class Sink(Protocol):
    """What takes octets in order."""

    def write(self, octets: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Secret:
    """A passphrase, or the content of a key file."""

    octets: bytes
    file: bool


class Sealer:
    """Writes a sealed file to `out`. `finish` ends it; without that nobody opens it."""

    def __init__(self, out: Sink, secret: Secret) -> None:
        salt = os.urandom(32)
        cost = (0, 0, 0) if secret.file else (_LOG2_N, _R, _P)
        key, check = _derive(secret, salt, *cost)
        kind = _KEY_FILE if secret.file else _SCRYPT
        self._header = _HEADER.pack(MAGIC, _VERSION, kind, *cost, salt, check)
        self._aead = AESGCM(key)
        self._out = out
        self._number = 0
        self._pending = bytearray()
        out.write(self._header)

    def write(self, octets: bytes) -> None:
        self._pending += octets
        while len(self._pending) > CHUNK_BYTES:  # the last one is written by `finish`
            self._put(bytes(self._pending[:CHUNK_BYTES]), last=False)
            del self._pending[:CHUNK_BYTES]

    def finish(self) -> None:
        self._put(bytes(self._pending), last=True)
        self._pending.clear()

    def _put(self, chunk: bytes, *, last: bool) -> None:
        self._out.write(self._aead.encrypt(_nonce(self._number, last=last), chunk, self._header))
        self._number += 1


class Opened(io.RawIOBase):
    """The octets that were sealed. Reading raises SealError when they were changed or cut off."""

    def __init__(self, file: IO[bytes], secret: Secret | None) -> None:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise SealError("it ends within its first 64 octets")
        magic, version, kind, log2_n, r, p, salt, check = _HEADER.unpack(header)
        if magic != MAGIC or version != _VERSION or header[13:16] != bytes(3):
            raise SealError("its head is damaged, or of a newer version")
        if secret is None:
            raise WrongKeyError("it is encrypted: say --passphrase-fd or --key-file")
        if kind not in (_SCRYPT, _KEY_FILE):
            raise SealError("its head is damaged")
        if secret.file != (kind == _KEY_FILE):
            raise WrongKeyError("it was encrypted " + ("with a key file" if kind == _KEY_FILE else "to a passphrase"))
        if kind == _SCRYPT and not (log2_n in _LOG2_N_RANGE and r == _R and 1 <= p <= 4):
            raise SealError("its head is damaged")
        key, known = _derive(secret, salt, log2_n, r, p)
        if known != check:
            raise WrongKeyError(
                f"the {'key file' if secret.file else 'passphrase'} is not the one it was encrypted with"
            )
        self._aead, self._header, self._file = AESGCM(key), header, file
        self._number = 0
        self._sealed = file.read(CHUNK_BYTES + TAG_BYTES)
        self._plain = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._plain and not self._ended:
            self._next()
        count = min(len(buffer), len(self._plain))
        buffer[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def _next(self) -> None:
        after = self._file.read(CHUNK_BYTES + TAG_BYTES)
        last = not after
        try:
            chunk = self._aead.decrypt(_nonce(self._number, last=last), self._sealed, self._header)
        except InvalidTag:
            at = _HEADER.size + self._number * (CHUNK_BYTES + TAG_BYTES)
            raise SealError(f"it is damaged or cut off, at or after octet {at}") from None
        self._plain, self._sealed, self._ended = memoryview(chunk), after, last
        self._number += 1


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _derive(secret: Secret, salt: bytes, log2_n: int, r: int, p: int) -> tuple[bytes, bytes]:
    """(the key, what tells that it is the right one). The salt is new for each file, so the nonces may begin at 0."""
    if secret.file:
        both = HKDF(SHA256(), 48, salt, _INFO).derive(secret.octets)
    else:
        both = Scrypt(salt, 48, 1 << log2_n, r, p).derive(secret.octets)
    return both[:32], both[32:]
