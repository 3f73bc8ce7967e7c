"""Is the queue what it was written as? Reads a database that nobody writes to, and the body files. Changes nothing.

A daemon's own database is looked at in a copy, so that mail goes on. Blocking: not for an event loop.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from mtad.config import Paths
from mtad.mail import ident
from mtad.mail.envelope import State
from mtad.mail.text import clean
from mtad.queue import database, files, indexes
from mtad.queue.bodies import digest_of
from mtad.queue.damage import Damage, Texts
from mtad.queue.files import LOST
from mtad.queue.sqlite import ORPHAN_AGE_S
from mtad.queue.store import StoreError
from mtad.queue.writer import store_error

_RESTORE = "stop mtad and restore a backup: docs/recovery.md"
_OPEN = (State.READY, State.HELD, State.TRASHED)

FOUND_MAX = 20  # of one kind within the database itself

Cure = Literal["", "hold", "lose", "close", "index"]
"""What `--repair` does: hold the message, move the file to `data/lost+found/`, close the file to others, make the
indexes of the database anew where no daemon uses it."""


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
        broken = _broken(path)
        if not broken:
            yield from _content(path, paths, seen, now, whole=True)
            return
        with tempfile.TemporaryDirectory(prefix=".check-", dir=paths.data) as scratch:
            mended = f"{scratch}/mta.db"
            try:
                indexes.rebuild(path, mended)
            except StoreError as error:
                fix = f"make room and check again ({error})" if error.full else _RESTORE
                yield from [Finding("error", f"the database is damaged: {problem}", fix) for problem in broken]
                yield from _content(path, paths, seen, now, whole=False)
            else:
                yield _of_indexes(broken)
                yield from _content(mended, paths, seen, now, whole=True)
    except StoreError as error:
        yield Finding("error", str(error), _RESTORE)
    except OSError as error:
        yield Finding("error", f"no copy of the database for the check: {error.strerror}", "make room, and check again")


def _broken(path: str) -> list[str]:
    """What SQLite finds wrong with the database itself."""
    with closing(database.open_copy(path)) as connection:
        try:
            return indexes.complaints(connection, FOUND_MAX)[:FOUND_MAX]
        except sqlite3.DatabaseError as error:
            return [clean(str(error))]


def _of_indexes(broken: Sequence[str]) -> Finding:
    more = f" and more ({len(broken)})" if len(broken) > 1 else ""
    what = f"the database is damaged in its indexes, and nowhere else: {broken[0]}{more}"
    return Finding("error", what, "with mtad stopped, make them anew: mtactl check --repair", "index")


def _content(path: str, paths: Paths, seen: Seen, now: float, *, whole: bool) -> Iterator[Finding]:
    with closing(database.open_copy(path)) as connection:
        connection.text_factory = Texts()
        try:
            strays = list(_strays(connection))
            yield from strays
            named: set[str] = set()
            yield from _messages(connection, paths, named, seen)
            yield from _rows(connection)
            yield from _users(connection)
        except (sqlite3.DatabaseError, UnicodeError) as error:
            yield Finding("error", f"{paths.database}: {store_error(error)}", _RESTORE)
            return
    if whole and not strays:  # else nobody knows which files are needed
        yield from _spool(paths, named, now)


def _strays(connection: sqlite3.Connection) -> Iterator[Finding]:
    strays = connection.execute("PRAGMA foreign_key_check").fetchmany(FOUND_MAX)
    for table, row, *_ in strays:
        yield Finding("error", f"the database is damaged: row {row} of {table} belongs to no message", _RESTORE)


# "+": by the message and not by the state, of which there are as many as the queue is long.
_BODIES = """
SELECT m.id, m.size_bytes, m.digest, b.id IS NOT NULL, CAST(b.head AS BLOB), CAST(b.data AS BLOB),
    (SELECT count(*) FROM recipient r WHERE r.message = m.id AND +r.state = ?)
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


def _rows(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Rows that hold what is never written. Of what is open the message is named; of the rest, how many."""
    damage, texts = Damage(connection), connection.text_factory
    assert isinstance(texts, Texts)
    told: set[int] = set()
    for number, n, state in connection.execute("SELECT message, n, state FROM recipient WHERE state NOT IN (3, 4)"):
        wrong = damage.wrong(number, n)
        if state not in _OPEN:
            wrong = f"recipient {n} has a state that there is not"
        if not wrong or number in told:
            continue
        told.add(number)
        try:
            message_id = ident.from_int(number)
        except ValueError:
            yield Finding("error", f"a mail without an id ({number}): {wrong}", "restore a backup: docs/recovery.md")
            continue
        if state == State.READY:
            yield Finding("error", f"message {message_id}: {wrong}", "hold it: --repair", "hold", message_id)
        else:
            yield Finding("warning", f"message {message_id} is held: {wrong}", f"mtactl queue purge {message_id}")
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    for (table,) in tables.fetchall():
        if table in ("message", "recipient", "body"):
            continue
        before = texts.spoiled
        for _ in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  (a name from the schema)
            pass
        if texts.spoiled != before:
            yield Finding("error", f"{texts.spoiled - before} texts in the table {table} are damaged", _RESTORE)


def _users(connection: sqlite3.Connection) -> Iterator[Finding]:
    from mtad.accounts.account import StoredUser, problem  # late: it needs more than a look at the queue does

    for row in connection.execute("SELECT name, secret, created_at, disabled, data FROM user ORDER BY name"):
        if wrong := problem(StoredUser(*row)):
            what, _, fix = wrong.partition(": `")
            yield Finding("error", f"user {clean(row[0])}: {what}", f"`{fix}" if fix else _RESTORE)
    if connection.execute("SELECT 1 FROM secret WHERE name = 'accounts'").fetchone() is None:
        yield Finding("error", "the secret of this installation is gone from the database", _RESTORE)


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
