"""Large bodies as files: `data/queue/<message id>`. All calls block; run those that fsync in a thread.

A file gets its name only when it is complete and on stable storage, and it is never changed after that. The row that
refers to it comes later, so a crash between the two leaves an orphan for the sweep and never a row without octets.
"""

import hashlib
import os
from collections.abc import Sequence, Set
from contextlib import suppress

from mtad.mail import ident

INLINE_MAX_BYTES = 128 * 1024
"""Bodies up to this size go into the row; measured: above it a file is faster."""

_UNFINISHED = ".new"

LOST = "lost+found"
"""The directory in data/ for what no message needs and nobody throws away."""

TRANSFER = ".transfer-"
"""How the file begins in which a transfer from another host comes together."""


class BodyWriter:
    """Writes one body. `finish` makes it durable, `discard` forgets it; exactly one of them ends the writer.

    OSError from any of them means that nothing is kept under the id. What a crash left unfinished under it is replaced:
    the id of a mail from the maildrop follows from its file, so that the next try has the same one.
    """

    def __init__(self, spool: str, message_id: str) -> None:
        ident.to_int(message_id)  # nothing else may become a path
        self._spool = spool
        self._path = f"{spool}/{message_id}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path + _UNFINISHED, flags, 0o600)
        except FileExistsError:
            os.unlink(self._path + _UNFINISHED)
            self._fd = os.open(self._path + _UNFINISHED, flags, 0o600)
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size_bytes += len(chunk)

    def finish(self) -> str:
        """Make the file durable under its name, and the name too. Returns the path, for NewMessage.body."""
        try:
            os.fsync(self._fd)
            os.close(self._take())
            os.rename(self._path + _UNFINISHED, self._path)
            sync_directory(self._spool)
        except OSError:
            self.discard()
            _unlink(self._path)
            raise
        return self._path

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._take())
        _unlink(self._path + _UNFINISHED)

    def _take(self) -> int:
        fd, self._fd = self._fd, -1
        return fd


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def digest(path: str, head: bytes) -> bytes:
    """SHA-256 over the octets of a file and then the head, as in Message.digest. Blocking."""
    with open(path, "rb", buffering=0) as file:
        found = hashlib.file_digest(file, "sha256")
    found.update(head)
    return found.digest()


def delete(spool: str, message_ids: Sequence[str]) -> None:
    """Remove body files. What is not there is fine; what cannot be removed stays for the sweep."""
    for message_id in message_ids:
        _unlink(f"{spool}/{message_id}")


def link_all(spool: str, folder: str) -> None:
    """Link the complete bodies of the spool into a directory of the same file system. What goes meanwhile is fine."""
    for name in _bodies(spool):
        with suppress(FileNotFoundError):
            os.link(f"{spool}/{name}", f"{folder}/{name}", follow_symlinks=False)


def link_only(spool: str, folder: str, message_ids: Set[str]) -> None:
    """Make the links those of these messages, no more and no less. One that has no file has no link."""
    there = set(_bodies(folder))
    for name in there - message_ids:
        os.unlink(f"{folder}/{name}")
    for name in message_ids - there:
        with suppress(FileNotFoundError):
            os.link(f"{spool}/{name}", f"{folder}/{name}", follow_symlinks=False)


def _bodies(folder: str) -> list[str]:
    found = []
    for name in os.listdir(folder):
        with suppress(ValueError):
            ident.to_int(name)
            found.append(name)
    return found


def old_files(spool: str, before: float) -> tuple[list[str], list[str]]:
    """(message ids that have a file, names of unfinished files), none written to since `before`. No others' files."""
    complete: list[str] = []
    unfinished: list[str] = []
    with os.scandir(spool) as entries:
        for entry in entries:
            message_id = entry.name.removesuffix(_UNFINISHED)
            transfer = entry.name.startswith(TRANSFER)
            try:
                if not transfer:
                    ident.to_int(message_id)
                if not entry.is_file(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_mtime >= before:
                    continue
            except (ValueError, OSError):
                continue
            (complete if message_id == entry.name and not transfer else unfinished).append(entry.name)
    return complete, unfinished


def lost(data: str, name: str) -> str:
    """A free path in data/lost+found for what has that name."""
    folder = f"{data}/{LOST}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path, number = f"{folder}/{name}", 0
    while os.path.lexists(path):
        number += 1
        path = f"{folder}/{name}.{number}"
    return path


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
