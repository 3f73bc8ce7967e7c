"""The store on SQLite, for one host: opened, put together of its parts, swept, copied, closed.

Thin: each part turns calls into work of the one writer. Every mail goes through `Passage`; `Looking`, `Handling` and
`Keeping` are what is asked, done by hand and kept besides. They are one object, for the store is one interface and one
connection, and share no more than what is handed to them here.
"""

import asyncio
import os
import sqlite3

from mtad.config import Paths
from mtad.mail import ident
from mtad.mail.envelope import Clock
from mtad.queue import database, files
from mtad.queue.bodies import Bodies
from mtad.queue.cycle import Cycle
from mtad.queue.handling import Handling
from mtad.queue.holdrules import HoldRules
from mtad.queue.keeping import Keeping
from mtad.queue.looking import Looking
from mtad.queue.operate import Operate, Sweep
from mtad.queue.passage import Doubt, Passage
from mtad.queue.people import People
from mtad.queue.store import AUDIT_S, StoreError
from mtad.queue.writer import Phase, Work, Writer, one_by_one

ORPHAN_AGE_S = 3600.0
"""A file that no row names may belong to a mail that is still coming in; after this long it does not. The clock may
jump, so two sweeps must agree."""

_BACKUP_PAGES = 256  # copied at a time; the mail that waits meanwhile is served in between


def open_store(paths: Paths, clock: Clock) -> "SqliteStore":
    """Open the queue for the daemon, alone. StoreLocked when somebody else has it; StoreError, in one line, when it
    cannot be used. Blocking."""
    try:
        os.makedirs(paths.data, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {paths.data}: {error.strerror}") from None
    return _opened(paths, clock, write=True)


def open_read_only(paths: Paths, clock: Clock) -> "SqliteStore":
    """Open a stopped daemon's queue to look at it; every change is a StoreError. StoreLocked while a daemon runs."""
    return _opened(paths, clock, write=False)


def _opened(paths: Paths, clock: Clock, *, write: bool) -> "SqliteStore":
    lock = database.Lock(paths, create=write)
    try:
        connection = database.open_writable(paths) if write else database.open_reading(paths)
    except StoreError:
        lock.release()
        raise
    return SqliteStore(paths, clock, connection, lock, write=write)


class SqliteStore(Passage, Looking, Handling, Keeping):
    """Every store of the house. All calls come from one event loop."""

    def __init__(
        self, paths: Paths, clock: Clock, connection: sqlite3.Connection, lock: database.Lock, *, write: bool
    ) -> None:
        self._spool = paths.spool
        self._lock = lock
        self._connection = connection
        self._unnamed: frozenset[str] = frozenset()  # old files without a row, when the last sweep looked
        writer = Writer(connection, checkpoints=write)
        rules = HoldRules(connection)
        cycle = Cycle(connection, clock, rules)
        operate = Operate(connection)
        people = People(connection)
        bodies = Bodies(paths.spool)
        doubt = Doubt(cycle)
        Passage.__init__(self, connection, writer, cycle, operate, bodies, doubt, paths.data)
        Looking.__init__(self, connection, writer, operate)
        Handling.__init__(self, connection, writer, cycle, operate, rules, people, bodies, doubt)
        Keeping.__init__(self, connection, writer, people)
        self._sweep = Work("sweep", one_by_one(operate.sweep))
        self._sweep_people = Work("sweep_people", one_by_one(people.sweep))
        self._without_row = Work("without_row", one_by_one(operate.without_row), Phase.READ)
        self._backup = Work("backup", one_by_one(self._copy_database), Phase.LONG)

    async def sweep(
        self, now: float, history_s: float, trash_s: float, limit: int = 1000, audit_s: float = AUDIT_S
    ) -> int:
        await self._writer.do(self._sweep_people, now)
        await self.sweep_trail(now, now - audit_s)
        swept, closed = await self._writer.do(self._sweep, Sweep(now, history_s, trash_s, limit))
        for message_id in closed:
            self._bodies.forget(message_id)
        try:
            complete, unfinished = await asyncio.to_thread(files.old_files, self._spool, now - ORPHAN_AGE_S)
        except OSError as error:
            raise StoreError(f"{self._spool}: {error.strerror}") from None
        found = await self._writer.do(self._without_row, complete) if complete else ()
        unnamed = frozenset(found)
        orphans = unnamed & self._unnamed
        self._unnamed = unnamed
        await asyncio.to_thread(
            files.delete, self._spool, [*(one for one, is_file in closed.items() if is_file), *orphans, *unfinished]
        )
        return swept

    async def backup(self, path: str, bodies: str = "") -> None:
        if bodies:
            await asyncio.to_thread(files.link_all, self._spool, bodies)  # most of them; the rest at the moment itself
        await self._writer.do(self._backup, (path, bodies))
        try:
            await asyncio.to_thread(_sync, path)  # seconds, for a large one: nobody waits for the writer meanwhile
        except OSError as error:
            os.unlink(path)
            raise StoreError(f"{path}: {error.strerror}") from None

    async def close(self) -> None:
        await self._writer.close()
        self._lock.release()

    def _copy_database(self, where: tuple[str, str]) -> None:
        path, bodies = where
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        copy = sqlite3.connect(path, isolation_level=None)
        try:
            copy.execute("PRAGMA synchronous = OFF")  # synced as a whole, by who asked for it
            self._connection.backup(copy, pages=_BACKUP_PAGES, progress=self._between)
            if bodies:  # nothing changed since the last step: each of them is there
                named = copy.execute("SELECT id FROM body WHERE data IS NULL")
                files.link_only(self._spool, bodies, {ident.from_int(number) for (number,) in named})
            copy.close()
        except BaseException:
            copy.close()
            os.unlink(path)
            raise

    def _between(self, status: int, remaining: int, total: int) -> None:
        if remaining:  # after the last step nothing may change before the bodies are linked
            self._writer.breathe()


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    files.sync_directory(os.path.dirname(path) or ".")
