"""What became of the mail since a backup was made: from the database that the backup is to replace, or from the log.

The database says it exactly. The log is the journal that may survive a lost disk, where it goes to another host; it has
a line for each try, written when the outcome was durable (`Events.attempt`).
"""

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from mtad.backup.archive import BackupError
from mtad.config import Paths
from mtad.mail import ident
from mtad.mail.envelope import State
from mtad.mail.text import clean
from mtad.queue.database import APPLICATION_ID, Lock
from mtad.queue.store import StoreError

LINE_MAX_BYTES = 64 * 1024
_SENT = re.compile(r"(?:^|[\s:])([0-9a-hjkmnp-tv-z]{12}): to=<([^>]*)>, .*?\bstatus=sent[ ,]")

_OPEN = "SELECT r.message, r.n, r.address, r.state FROM recipient r WHERE r.state IN (0, 2, 5)"
_LAST = "last_code, last_status, last_text, last_host, last_stage, last_cause"
_DONE = (
    "UPDATE recipient SET state = ?3, last_code = ?4, last_status = ?5, last_text = ?6, last_host = ?7,"
    " last_stage = ?8, last_cause = ?9, next_at = ?10, error = '' WHERE message = ?1 AND n = ?2"
)


@dataclass(frozen=True, slots=True)
class Marked:
    """How many recipients of the backup a journal knows the end of."""

    delivered: int = 0
    purged: int = 0  # by an operator: they are in the trash


def mark(restored: sqlite3.Connection, journal: str, now: float) -> Marked:
    """Give the recipients that a journal knows the end of that end. `journal` is a data directory, its database, or a
    log of mtad's. BackupError when it is none, is not of this server, or a daemon uses it; OSError."""
    data = journal if os.path.isdir(journal) else os.path.dirname(journal)
    path = f"{journal}/mta.db" if os.path.isdir(journal) else journal
    with open(path, "rb") as file:
        if file.peek(16)[:16] != b"SQLite format 3\0":
            return _by_log(restored, file, path, now)  # the file that is open: it may be a pipe
    lock = None
    try:
        if os.path.exists(f"{data}/.lock"):
            lock = Lock(Paths("", data, ""), create=False)
        return _by_database(restored, path, now)
    except StoreError as error:
        raise BackupError(f"{error}: stop it first") from None
    except sqlite3.Error as error:
        raise BackupError(f"{path} is damaged ({error}): take the log for a journal") from None
    finally:
        if lock is not None:
            lock.release()


def _by_database(restored: sqlite3.Connection, path: str, now: float) -> Marked:
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    old = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, isolation_level=None)
    try:
        (application,) = old.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise BackupError(f"{path} is not a queue of mtad")
        mine, theirs = _secret(restored), _secret(old)
        if mine and theirs and mine != theirs:
            raise BackupError(f"{path} is the queue of another server")
        (newest,) = old.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()
        delivered = purged = 0
        outcomes = []
        for message, n, _, state in restored.execute(_OPEN).fetchall():
            row = old.execute(
                f"SELECT state, {_LAST} FROM recipient WHERE message = ? AND n = ?",  # noqa: S608  (a constant)
                (message, n),
            ).fetchone()
            if row is None and _parked(old, message, n):
                continue  # on its way to another host, which may not have it yet
            if row is None and message <= newest:
                # It ended so long ago that its history was forgotten, or was purged and the trash emptied.
                row = (int(State.DONE), 250, "", "ended after the backup, says the old queue", "", "", "")
            if row is None or row[0] == state or row[0] not in (State.DONE, State.TRASHED):
                continue
            delivered += row[0] == State.DONE
            purged += row[0] == State.TRASHED
            outcomes.append((message, n, *row, now))
        restored.executemany(_DONE, outcomes)
        return Marked(delivered, purged)
    finally:
        old.close()


def _parked(old: sqlite3.Connection, message: int, n: int) -> bool:
    try:
        found = old.execute("SELECT 1 FROM parked WHERE message = ? AND n = ?", (message, n)).fetchone()
    except sqlite3.OperationalError:  # an older schema
        return False
    return found is not None


def _secret(connection: sqlite3.Connection) -> bytes:
    try:
        row = connection.execute("SELECT value FROM secret WHERE name = 'accounts'").fetchone()
    except sqlite3.OperationalError:  # an older schema
        return b""
    return bytes(row[0]) if row is not None else b""


def _by_log(restored: sqlite3.Connection, file: IO[bytes], path: str, now: float) -> Marked:
    """Each line of a delivery ends one recipient of that mail with that address."""
    waiting: dict[tuple[int, str], list[int]] = {}
    for message, n, address, state in restored.execute(_OPEN):
        if state != State.TRASHED:
            waiting.setdefault((message, clean(address)), []).append(n)
    numbers = {message for message, _ in waiting}
    sent: Counter[tuple[int, str]] = Counter()
    attempts = 0
    for message_id, address in _deliveries(file):
        attempts += 1
        number = ident.to_int(message_id)
        if number in numbers:
            sent[number, address] += 1
    if not attempts:
        raise BackupError(f"{path} has no line of a delivery by mtad: it is no journal")
    ended = [
        (message, n, int(State.DONE), 250, "", "delivered after the backup, says the log", "", "", "", now)
        for (message, address), count in sent.items()
        for n in waiting.get((message, address), [])[:count]
    ]
    restored.executemany(_DONE, ended)
    return Marked(len(ended))


def _deliveries(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    while line := file.readline(LINE_MAX_BYTES):
        if b"status=sent" in line and (found := _SENT.search(line.decode("utf-8", "replace"))):
            yield found[1], found[2]
