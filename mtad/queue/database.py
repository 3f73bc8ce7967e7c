"""Opening the database file: the lock, the settings, the migrations. Blocking; nothing here is on a hot path."""

import errno
import fcntl
import os
import re
import shutil
import sqlite3
from contextlib import suppress

from mtad.config import Paths
from mtad.queue import files
from mtad.queue.store import StoreError, StoreLocked
from mtad.queue.writer import store_error

APPLICATION_ID = 0x6D746164  # "mtad"

KEPT_COPIES = 3
"""Of the database as it was before upgrades."""

RESTORING = ".restore"
"""In the data directory, where a backup is made ready. Its database moves in last: without, there is but a part."""

_COPY = re.compile(r"backup-schema-\d+\.db")
_MIGRATIONS = os.path.join(os.path.dirname(__file__), "migrations")

# A lease is the daemon's promise to itself: it ends with the process, so it is never written to the disk.
_LEASES = """
CREATE TEMP TABLE lease (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    until REAL NOT NULL,
    lease INTEGER NOT NULL,
    changed INTEGER NOT NULL DEFAULT 0, -- an operator changed the recipient meanwhile
    PRIMARY KEY (message, n)
) WITHOUT ROWID
"""

# What an operator's change is about, within its transaction: the recipients as they were.
_PICKED = """
CREATE TEMP TABLE picked (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    state INTEGER NOT NULL,
    next_at REAL NOT NULL,
    address TEXT NOT NULL,
    domain TEXT NOT NULL,
    leased INTEGER NOT NULL,
    PRIMARY KEY (message, n)
) WITHOUT ROWID
"""


class Lock:
    """The right to use a data directory, held until `release` or the end of the process."""

    def __init__(self, paths: Paths, *, create: bool) -> None:
        path = f"{paths.data}/.lock"
        flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
        try:
            self._fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            raise StoreError(f"there is no queue in {paths.data}") from None
        except OSError as error:
            raise StoreError(f"cannot open {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._fd, 32).decode("ascii", "replace").strip()
            os.close(self._fd)
            if error.errno != errno.EWOULDBLOCK:
                raise StoreError(f"cannot lock {path}: {error.strerror}") from None
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise StoreLocked(f"{who} uses the queue in {paths.data}") from None
        if create:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_writable(paths: Paths) -> sqlite3.Connection:
    """Create the database where there is none, bring it up to date, and open it. The caller holds the lock."""
    try:
        if os.path.lexists(f"{paths.data}/{RESTORING}"):
            if not os.path.lexists(paths.database):
                raise StoreError(f"a restore into {paths.data} was interrupted: `mtactl backup restore` it once more")
            shutil.rmtree(f"{paths.data}/{RESTORING}", ignore_errors=True)
        os.makedirs(paths.spool, mode=0o700, exist_ok=True)
        os.close(os.open(paths.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        files.sync_directory(paths.data)
    except OSError as error:
        raise StoreError(f"cannot open {error.filename or paths.database}: {error.strerror}") from None
    if not os.access(paths.spool, os.R_OK | os.W_OK | os.X_OK):
        raise StoreError(f"cannot use {paths.spool}: Permission denied; see `mtactl check`")
    return _open(paths, f"file:{_quoted(paths.database)}?mode=rw", write=True)


def open_reading(paths: Paths) -> sqlite3.Connection:
    """Open the database for reading only. The caller holds the lock."""
    return _open(paths, f"file:{_quoted(paths.database)}?mode=ro", write=False)


def open_copy(path: str) -> sqlite3.Connection:
    """Open a database that nobody writes to, to look at it. StoreError when it is none of ours or of another schema."""
    try:
        with open(path, "rb"):
            pass
        connection = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True, isolation_level=None)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    try:
        _check_owner(connection, path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except (sqlite3.Error, UnicodeError) as error:
        connection.close()
        raise StoreError(f"cannot use {path}: {store_error(error)}") from None
    except StoreError:
        connection.close()
        raise
    if version != max(migrations()):
        connection.close()
        raise StoreError(f"{path} is of another mtad (schema {version} in place of {max(migrations())})")
    return connection


def _open(paths: Paths, uri: str, *, write: bool) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=5.0
        )
        _check_owner(connection, paths.database)
        if write:
            connection.execute("PRAGMA page_size = 8192")  # of a new file; three small mails to a page
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # this connection and no other, by any tool
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = OFF")  # some systems' default; it doubles the cost of a removal
        connection.execute("PRAGMA mmap_size = 0")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA temp_store = MEMORY")
        _migrate(connection, paths, write=write)
        connection.execute(_LEASES)
        connection.execute(_PICKED)
        if not write:
            connection.execute("PRAGMA query_only = ON")
    except (sqlite3.Error, UnicodeError) as error:
        if connection is not None:
            connection.close()
        cause = store_error(error)
        raise StoreError(f"cannot use {paths.database}: {cause}", full=cause.full) from None
    except StoreError:
        if connection is not None:
            connection.close()
        raise
    return connection


def _check_owner(connection: sqlite3.Connection, path: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and tables:
        raise StoreError(f"{path} is not a queue of mtad")


def _migrate(connection: sqlite3.Connection, paths: Paths, *, write: bool) -> None:
    """Bring the schema up to date, one transaction a step. A schema from the future is refused."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    steps = migrations()
    known = max(steps)
    if version > known:
        raise StoreError(
            f"{paths.database} was written by a newer mtad (schema {version}, this one knows {known}): upgrade mtad"
        )
    if version < known and not write:
        raise StoreError(f"{paths.database} is of an older mtad (schema {version} of {known}): start mtad once")
    if 0 < version < known:
        _keep_copy(connection, paths, version)
    for number, path in sorted(steps.items()):
        if number <= version:
            continue
        with open(path, encoding="utf-8") as file:
            script = file.read()
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};\n{script}\n"
                f"PRAGMA user_version = {number}; COMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _keep_copy(connection: sqlite3.Connection, paths: Paths, version: int) -> None:
    """What the database was before it is brought up to date: data/backup-schema-N.db, complete and durable under its
    name. The newest KEPT_COPIES stay. Without room for it nothing is changed."""
    path = f"{paths.data}/backup-schema-{version}.db"
    part = f"{path}.part"
    try:
        with suppress(FileNotFoundError):
            os.unlink(part)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        copy = sqlite3.connect(part, isolation_level=None)
        try:
            copy.execute("PRAGMA synchronous = OFF")  # synced as a whole below
            connection.backup(copy)
        finally:
            copy.close()
        fd = os.open(part, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(part, path)
        files.sync_directory(paths.data)
        kept = [name for name in os.listdir(paths.data) if _COPY.fullmatch(name)]
        for name in sorted(kept, key=lambda name: os.stat(f"{paths.data}/{name}").st_mtime)[:-KEPT_COPIES]:
            os.unlink(f"{paths.data}/{name}")
    except (OSError, sqlite3.Error) as error:
        cause = store_error(error) if isinstance(error, sqlite3.Error) else error.strerror
        with suppress(OSError):
            os.unlink(part)
        raise StoreError(
            f"{paths.database} is of an older mtad (schema {version}) and cannot be copied to {path} before it is"
            f" brought up to date: {cause}"
        ) from None


def migrations() -> dict[int, str]:
    """Number -> path of each migration: 0001_words.sql."""
    names = sorted(name for name in os.listdir(_MIGRATIONS) if name.endswith(".sql"))
    return {int(name.partition("_")[0]): os.path.join(_MIGRATIONS, name) for name in names}


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
