"""Is the queue what it was written as? Reads a database that nobody writes to, and the body files. Changes nothing.

A daemon's own database is looked at in a copy, so that mail goes on. Blocking: not for an event loop.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from mtad.config import Paths
from mtad.mail import ident
from mtad.mail.envelope import State
from mtad.queue import database, files
from mtad.queue.sqlite import ORPHAN_AGE_S, digest_of
from mtad.queue.store import StoreError

FOUND_MAX = 20  # of one kind within the database itself
LOST = "lost+found"

Cure = Literal["", "hold", "lose", "close"]
"""What `--repair` does: hold the message, move the file to `data/lost+found/`, close the file to others."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be. `subject`: the message id or the path that `cure` is about."""

    level: Literal["error", "warning"]
    what: str
    fix: str
    cure: Cure = ""
    subject: str = ""


@dataclass(slots=True)
class Seen:
    """How much was looked at."""

    messages: int = 0
    files: int = 0


def queue(path: str, paths: Paths, seen: Seen, now: float = 0.0) -> Iterator[Finding]:
    """What is wrong with the database at `path` and the body files that belong to it. `now`: files that were written
    to within the last hour may belong to mail that came in after the copy; 0: nothing comes in."""
    try:
        connection = database.open_copy(path)
    except StoreError as error:
        yield Finding("error", str(error), "stop mtad and restore a backup: docs/recovery.md")
        return
    with closing(connection):
        try:
            broken = list(_inside(connection))
            yield from broken
            named: set[str] = set()
            yield from _messages(connection, paths, named, seen)
        except sqlite3.DatabaseError as error:
            yield Finding("error", f"{paths.database}: {error}", "stop mtad and restore a backup: docs/recovery.md")
            return
    if not broken:  # else nobody knows which files are needed
        yield from _spool(paths, named, now)


def _inside(connection: sqlite3.Connection) -> Iterator[Finding]:
    fix = "stop mtad and restore a backup: docs/recovery.md"
    for (problem,) in connection.execute(f"PRAGMA integrity_check({FOUND_MAX})"):
        if problem != "ok":
            yield Finding("error", f"the database is damaged: {problem}", fix)
    strays = connection.execute("PRAGMA foreign_key_check").fetchmany(FOUND_MAX)
    for table, row, *_ in strays:
        yield Finding("error", f"the database is damaged: row {row} of {table} belongs to no message", fix)


_BODIES = """
SELECT m.id, m.size_bytes, m.digest, b.id IS NOT NULL, b.head, b.data,
    (SELECT count(*) FROM recipient r WHERE r.message = m.id AND r.state = ?)
FROM message m LEFT JOIN body b ON b.id = m.id
WHERE m.finished_at IS NULL OR m.id IN (SELECT message FROM parked) ORDER BY m.id
"""


def _messages(connection: sqlite3.Connection, paths: Paths, named: set[str], seen: Seen) -> Iterator[Finding]:
    """Every message that is still to be delivered, here or where it is on its way to, octet by octet."""
    for number, size_bytes, digest, there, head, data, ready in connection.execute(_BODIES, (State.READY,)):
        message_id = ident.from_int(number)
        seen.messages += 1
        if there and data is None:
            named.add(message_id)
            seen.files += 1
            wrong = _file(f"{paths.spool}/{message_id}", head, size_bytes, digest)
        elif not there:
            wrong = "its octets are gone"
        else:
            good = len(head) + len(data) == size_bytes and (not digest or digest_of(head, data) == digest)
            wrong = "" if good else "its octets are not those that were accepted"
        if wrong and ready:
            yield Finding("error", f"message {message_id}: {wrong}", "hold it: --repair", "hold", message_id)
        elif wrong:
            yield Finding("warning", f"message {message_id} is held: {wrong}", f"mtactl queue purge {message_id}")
    (empty,) = connection.execute(
        "SELECT count(*) FROM message m WHERE finished_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id)"
    ).fetchone()
    if empty:
        yield Finding("error", f"{empty} messages have no recipients", "restore a backup: docs/recovery.md")


def _file(path: str, head: bytes, size_bytes: int, digest: bytes) -> str:
    """What is wrong with a body file, "" for nothing."""
    try:
        have = os.stat(path, follow_symlinks=False).st_size
        if have != size_bytes - len(head):
            return f"{path} has {have} octets in place of {size_bytes - len(head)}"
        if digest and files.digest(path, head) != digest:
            return f"{path} is not what was accepted"
    except FileNotFoundError:
        return f"there is no {path}"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return ""


def _spool(paths: Paths, named: set[str], now: float) -> Iterator[Finding]:
    """Files that no message needs."""
    before = now - ORPHAN_AGE_S if now else float("inf")
    try:
        entries = sorted(os.scandir(paths.spool), key=lambda entry: entry.name)
    except OSError as error:
        yield Finding("error", f"{paths.spool}: {error.strerror}", "make it the directory of the user that runs mtad")
        return
    for entry in entries:
        try:
            young = entry.stat(follow_symlinks=False).st_mtime >= before
        except FileNotFoundError:
            continue
        if entry.name not in named and not young:
            yield Finding(
                "warning", f"{entry.path} belongs to no message", f"move it to {LOST}: --repair", "lose", entry.path
            )


def places(paths: Paths) -> Iterator[Finding]:
    """Owners and modes of what mtad keeps: all of it is private, and its own."""
    try:
        owner = os.stat(paths.data).st_uid
    except OSError as error:
        yield Finding("error", f"{paths.data}: {error.strerror}", "mtactl init, or restore a backup")
        return
    names = [f"{paths.data}/{name}" for name in ("mta.db", "mta.db-wal", "mta.db-shm", ".lock")]
    names += [paths.spool, paths.dkim, paths.maildrop]
    for top in (paths.spool, paths.dkim):
        for folder, folders, entries in os.walk(top):
            names += [f"{folder}/{entry}" for entry in (*folders, *entries)]
    for path in names:
        try:
            found = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if found.st_uid != owner:
            yield Finding("error", f"{path} belongs to user {found.st_uid}", f"as root: chown {owner} {path}")
        elif found.st_mode & 0o077 and path != paths.maildrop:
            yield Finding("warning", f"{path} is open to others", f"chmod go-rwx {path}: --repair", "close", path)
