# ruff: noqa: S608  (the names in the statements are those of our own schema)
"""The indexes of the database made anew from its tables, where they alone are damaged: no octet of any mail is in them.

Done in a copy that takes the place of the database when it is whole; what was there before is kept. Blocking.
"""

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress

from mtad.config import Paths
from mtad.mail.text import clean
from mtad.queue import database, files
from mtad.queue.store import StoreError, Unsound
from mtad.queue.writer import store_error

_NEW = "mta.db.new"
_ALL = 2**31 - 1  # of what integrity_check may tell: a page of an index that is gone is one line
_NULL = re.compile(r"NULL value in (\w+)\.(\w+)")
_LEFT_OVER = re.compile(r"Page \d+: never used|Page \d+ is never used")

_INDEXES = "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"


def rebuild(path: str, target: str) -> None:
    """Write what is in the database at `path`, to which nobody writes, to a new one with new indexes; not durable.
    Unsound when its tables are damaged too, or an index knows of rows that are gone: nothing stays there then."""
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with closing(database.open_copy(path)) as old, closing(_connected(target)) as new:
            old.backup(new)
        with closing(_connected(target)) as new:
            indexes = new.execute(_INDEXES).fetchall()
            known = [_count(new, f"{table} INDEXED BY {name}", sql) for name, table, sql in indexes]
            new.execute("PRAGMA writable_schema = ON")
            new.execute("DELETE FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
        with closing(_connected(target)) as new:
            _judge([line for line in complaints(new, _ALL) if not _LEFT_OVER.fullmatch(line)])
            for (_, table, sql), most in zip(indexes, known, strict=True):
                if _count(new, table, sql) < most:  # a write that got lost leaves a table whole, but old
                    raise Unsound(f"rows of {table} are gone")
                new.execute(sql)
            new.execute("VACUUM")
            _judge(complaints(new, 1))
    except BaseException as error:
        for name in (target, f"{target}-journal"):
            with suppress(FileNotFoundError):
                os.unlink(name)
        if isinstance(error, sqlite3.Error):
            raise store_error(error) from None
        raise


def complaints(connection: sqlite3.Connection, most: int) -> list[str]:
    """What SQLite finds wrong with a database, a line each; about so many at most. May raise sqlite3.DatabaseError."""
    lines = _told(connection, most)
    if any(map(_NULL.fullmatch, lines)):  # each row is a line: what comes behind them must be seen too
        nulls: dict[str, bool] = {}
        lines = [line for line in _told(connection, _ALL) if not _false_alarm(connection, line, nulls)]
    return [clean(line) for line in lines[:most]]


def _told(connection: sqlite3.Connection, most: int) -> list[str]:
    told = connection.execute(f"PRAGMA integrity_check({most})").fetchall()
    lines = [line for (text,) in told for line in text.splitlines()]  # some come together, under a headline
    return [line for line in lines if line != "ok" and not line.startswith("*** in database ")]


def _false_alarm(connection: sqlite3.Connection, line: str, nulls: dict[str, bool]) -> bool:
    """SQLite 3.40 looks for the columns of a table without rowid where their order in it is, not where they are kept,
    and finds NULL in each row of hard_bounce. (typeof, for it believes that a NOT NULL column needs no look.)"""
    found = _NULL.fullmatch(line)
    if found is None:
        return False
    if line not in nulls:
        table, column = found[1], found[2]
        query = f"SELECT EXISTS (SELECT 1 FROM {table} WHERE typeof({column}) = 'null')"
        nulls[line] = bool(connection.execute(query).fetchone()[0])
    return not nulls[line]


def mend(paths: Paths) -> str:
    """Give the database new indexes. Where it is kept as it was. The caller holds the lock. StoreError, or OSError:
    nothing was changed."""
    with closing(database.open_writable(paths)) as connection:
        try:
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise store_error(error) from None
    log = f"{paths.database}-wal"
    if busy or (os.path.exists(log) and os.path.getsize(log)):
        raise StoreError(f"{log} cannot be emptied")
    new = f"{paths.data}/{_NEW}"
    with suppress(FileNotFoundError):
        os.unlink(new)  # of one that was interrupted
    rebuild(paths.database, new)
    fd = os.open(new, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    kept = files.lost(paths.data, os.path.basename(paths.database))
    os.link(paths.database, kept)
    files.sync_directory(os.path.dirname(kept))
    os.rename(new, paths.database)
    files.sync_directory(paths.data)
    return kept


def _connected(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = OFF")  # synced as a whole, or forgotten
    return connection


def _count(connection: sqlite3.Connection, table: str, sql: str) -> int:
    """How many rows an index knows, or is to know; 0 when it cannot be read."""
    where = sql.partition(" WHERE ")[2] or "true"
    try:
        (count,) = connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()
    except sqlite3.DatabaseError:
        return 0
    return int(count)


def _judge(found: Sequence[str]) -> None:
    if found:
        raise Unsound(f"a table of the database is damaged: {found[0]}")
