"""What lies in `maildrop/`, as far as whoever looks may read it: for people, and for nothing that is decided. Blocking.

What a file says of itself is hostile until it was replayed (`mtad.inbound.maildrop`): nothing of it is a mail yet.
"""

import os
import random
import re
import stat
from contextlib import suppress
from dataclasses import dataclass

from mtad.mail.ident import Ids, file_seed
from mtad.mail.text import clean, encodable

SUFFIX = ".mail"
ENVELOPE_BYTES = 1 << 18  # as much of a file is read; what is said of recipients behind it is nothing
ADDRESS_MAX = 320

_MAIL = re.compile(rb'MAIL FROM:<((?:"[^"]*"|[^">])*)>', re.IGNORECASE)
_RCPT = re.compile(rb'RCPT TO:<((?:"[^"]*"|[^">])*)>', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file. `id` is what its mail will have; `sender` is None where the envelope may not be read."""

    id: str
    uid: int
    at: float
    size_bytes: int
    sender: str | None
    recipients: tuple[str, ...]


def names(folder: str) -> list[str] | None:
    """Those of all files, the oldest first; None: who asks may not know."""
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError:
        return None
    return sorted(name for name in found if name.endswith(SUFFIX) and not name.startswith(".") and encodable(name))


def oldest(folder: str, found: list[str]) -> float:
    """When the oldest of them was written, 0 when they are gone."""
    for name in found:
        with suppress(OSError):
            return os.lstat(f"{folder}/{name}").st_mtime
    return 0.0


def look(folder: str, found: list[str], uid: int | None, now: float) -> list[Dropped]:
    """These files, with `uid` only those of that user. What is no plain file of one user is none of anybody's mail."""
    seen = []
    for name in found:
        with suppress(OSError):
            one = _look(f"{folder}/{name}", name, uid, now)
            if one is not None:
                seen.append(one)
    return seen


def _look(path: str, name: str, uid: int | None, now: float) -> Dropped | None:
    head = b""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        state = os.lstat(path)
    else:
        with os.fdopen(fd, "rb", buffering=0) as file:
            state = os.fstat(fd)
            if stat.S_ISREG(state.st_mode):
                head = file.read(ENVELOPE_BYTES) or b""
    if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1 or uid not in (None, state.st_uid):
        return None
    envelope = head.partition(b"\r\nDATA\r\n")[0].split(b"\r\n")
    mail = _MAIL.match(envelope[0])
    seed = file_seed(name, state.st_uid, state.st_ino, state.st_mtime_ns, "0")
    return Dropped(
        Ids(lambda: min(state.st_mtime, now), random.Random(seed)).new(),
        state.st_uid,
        min(max(state.st_mtime, 0.0), now),  # it is whatever its owner wants
        state.st_size,
        None if mail is None else _text(mail[1]),
        tuple(_text(to[1]) for line in envelope[1:] if (to := _RCPT.match(line))),
    )


def _text(octets: bytes) -> str:
    return clean(octets.decode("utf-8", "replace"), ADDRESS_MAX)
