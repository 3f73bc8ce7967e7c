"""Maildir++ quotas: what a mailbox holds, counted cheaply in its file `maildirsize`.

The first line is the quota ("1000000S"), each further one a change: octets and messages. Whoever adds a mail appends a
line; when the sum says full, or the file has grown, it is counted anew. All readers and writers of the format agree on
that file, so Dovecot's and ours share it.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress

FILE = "maildirsize"
FILE_MAX_BYTES = 5120  # then it is written anew
RECOUNT_S = 900.0  # a full mailbox is counted again when the file is older, or noted changes
ENTRIES_MAX = 1_000_000  # files that are counted

_SIZE = re.compile(r",S=(\d{1,15})(?=[,:]|$)")
_LINE = re.compile(rb"\s*(-?\d{1,15})\s+(-?\d{1,15})\s*")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Full(Exception):  # noqa: N818  (what it is)
    """The mailbox has no room for it."""


def check(box: int, size_bytes: int, quota_bytes: int) -> None:
    """Raises Full when the mailbox, an open directory, cannot take so much more. Raises OSError."""
    noted = _noted(box, quota_bytes)
    used, exact = noted if noted is not None else (_count(box, quota_bytes), True)
    if used + size_bytes > quota_bytes and not exact:
        used = _count(box, quota_bytes)
    if used + size_bytes > quota_bytes:
        raise Full(f"{used} of {quota_bytes} octets are used, {size_bytes} more do not fit")


def note(box: int, size_bytes: int) -> None:
    """One mail more. A failure is mended by the next count."""
    with suppress(OSError):
        file = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=box)
        try:
            os.write(file, b"%d 1\n" % size_bytes)
        finally:
            os.close(file)


def _noted(box: int, quota_bytes: int) -> tuple[int, bool] | None:
    """(octets, whether they were counted just now) by the file; None when it must be written anew."""
    try:
        file = os.open(FILE, _READ, dir_fd=box)
    except OSError:
        return None
    try:
        octets = os.read(file, FILE_MAX_BYTES + 1)
        made_at = os.fstat(file).st_mtime
    finally:
        os.close(file)
    first, *rest = octets.split(b"\n")
    if len(octets) > FILE_MAX_BYTES or first.strip() != b"%dS" % quota_bytes:
        return None
    total = 0
    changes = [line for line in rest if line.strip()]
    for line in changes:
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        total += int(found[1])
    exact = len(changes) <= 1 and time.time() - made_at < RECOUNT_S
    return (total, exact) if total >= 0 else None


def _count(box: int, quota_bytes: int) -> int:
    """Count all folders, and write the file anew."""
    octets = messages = 0
    for size in _sizes(box):
        octets, messages = octets + size, messages + 1
    name = f"tmp/{FILE}.{os.getpid()}.{time.monotonic_ns()}"
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=box)
    try:
        os.write(file, b"%dS\n%d %d\n" % (quota_bytes, octets, messages))
    finally:
        os.close(file)
    os.rename(name, FILE, src_dir_fd=box, dst_dir_fd=box)
    return octets


def _sizes(box: int) -> Iterator[int]:
    """The sizes of all mails but those in the trash folder, from their names where they say it."""
    seen = 0
    for folder in (".", *(name for name in os.listdir(box) if name.startswith(".") and name != ".Trash")):
        for part in ("new", "cur"):
            try:
                directory = os.open(f"{folder}/{part}", _DIRECTORY, dir_fd=box)
            except OSError:
                continue
            try:
                for name in os.listdir(directory):
                    seen += 1
                    if seen > ENTRIES_MAX:
                        return
                    found = _SIZE.search(name)
                    if found is not None:
                        yield int(found[1])
                        continue
                    with suppress(OSError):
                        yield os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
            finally:
                os.close(directory)
