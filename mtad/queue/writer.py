"""The writer: one thread that owns the connection, all its transactions and its checkpoints.

What callers ask for meanwhile is done together: many operations, one transaction, one fsync, then all their answers.
The thread is woken at the end of a turn of the loop, and again when the loop has seen what it did.
An operation that fails takes none of the others with it: the transaction is undone and each is done by itself.
"""

import asyncio
import errno
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from mtad import faults
from mtad.queue import damage
from mtad.queue.store import StoreError, Unsound

BATCH_MAX = 512
WAL_MAX_BYTES = 16 * 1024 * 1024
IDLE_S = 2.0
"""After this long without work the write-ahead log is emptied."""

# What goes to the log, roughly: the exact number costs more than the error.
_BYTES_PER_COMMIT = 64 * 1024  # the leaves that every commit rewrites, however little it does
_BYTES_PER_OPERATION = 4 * 1024

A = TypeVar("A")
R = TypeVar("R")


class Phase(IntEnum):
    """When an operation runs within a batch. Reads come after the commit, so they never see what was then undone."""

    WRITE = 0
    READ = 1
    LONG = 2  # alone, when all others have their answers; may call Writer.breathe


@dataclass(frozen=True, slots=True, eq=False)
class Work(Generic[A, R]):
    """A kind of operation. `run` does it for many arguments at once and is undone as a whole when it raises."""

    name: str
    run: Callable[[Sequence[A]], Sequence[R]]
    phase: Phase = Phase.WRITE


def one_by_one(function: Callable[[A], R]) -> Callable[[Sequence[A]], Sequence[R]]:
    """`run` of a work that gains nothing from company."""
    return lambda arguments: [function(argument) for argument in arguments]


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    work: Work[Any, Any]
    argument: Any
    size_bytes: int
    future: asyncio.Future[Any]


_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


class Writer:
    """Belongs to one event loop: that of the first `do`."""

    def __init__(self, connection: sqlite3.Connection, *, checkpoints: bool = True) -> None:
        self._connection = connection
        self._checkpoints = checkpoints
        self._asked: deque[_Item] = deque()
        self._bell: SimpleQueue[bool] = SimpleQueue()  # True: there is something to do; False: and then the end
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: asyncio.Future[None] | None = None
        self._rung = False  # the thread works, or is about to; only the loop touches it
        self._wal_bytes = 0  # only the thread touches it

    async def do(self, work: Work[A, R], argument: A, size_bytes: int = 0) -> R:
        """Have it done, durably where it writes. `size_bytes` is about what it adds to the log. StoreError, or what
        `run` itself raises for a bad argument (ValueError). A caller that is cancelled does not undo it."""
        if self._closed is not None:
            raise StoreError("the queue is closed")
        loop = self._started()
        future: asyncio.Future[R] = loop.create_future()
        self._asked.append(_Item(work, argument, size_bytes, future))
        if not self._rung:
            self._ring()
        return await future

    async def close(self) -> None:
        """Do what was asked, empty the log, close the connection. Idempotent."""
        if self._closed is None:
            self._closed = self._started().create_future()
            self._bell.put(False)
        await asyncio.shield(self._closed)

    def breathe(self) -> None:
        """For a LONG work, between its steps: do what others wait for."""
        if batch := self._take():
            self._do_batch(batch)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="queue-writer", daemon=True)
            self._thread.start()
        return self._loop

    def _ring(self) -> None:
        """Wake the thread, when this turn of the loop is over: what else comes up in it goes the same way. Nobody
        rings while it works. Else it would begin anew for each mail or two, and fight for the interpreter lock."""
        assert self._loop is not None
        self._rung = True
        self._loop.call_soon(self._bell.put, True)

    def _worked(self) -> None:
        self._rung = False
        if self._asked:
            self._ring()

    # From here on: in the thread.

    def _run(self) -> None:
        while self._rings():
            if batch := self._take():
                self._do_batch(batch)
            self._call(self._worked)
        while batch := self._take():
            self._do_batch(batch)
        self._checkpoint("TRUNCATE")
        self._connection.close()
        self._call(self._set_closed)

    def _rings(self) -> bool:
        """Sleep until there is something to do. False: it is the end."""
        while True:
            try:
                return self._bell.get(timeout=IDLE_S if self._wal_bytes else None)
            except Empty:
                self._checkpoint("TRUNCATE")

    def _take(self) -> list[_Item]:
        batch: list[_Item] = []
        with suppress(IndexError):
            while len(batch) < BATCH_MAX:
                batch.append(self._asked.popleft())
        return batch

    def _do_batch(self, batch: list[_Item]) -> None:
        phases: tuple[list[_Item], ...] = ([], [], [])
        for item in batch:
            phases[item.work.phase].append(item)
        writes, reads, longs = phases
        if writes:
            self._resolve(self._write(writes))
            self._wal_bytes += _BYTES_PER_COMMIT + sum(_BYTES_PER_OPERATION + item.size_bytes for item in writes)
        if reads:
            self._resolve([self._attempt(item) for item in reads])
        for item in longs:
            self._resolve([self._attempt(item)])
        if self._wal_bytes >= WAL_MAX_BYTES:
            self._checkpoint("PASSIVE")

    def _write(self, items: list[_Item]) -> list[_Outcome]:
        kinds: dict[Work[Any, Any], list[_Item]] = {}
        for item in items:
            kinds.setdefault(item.work, []).append(item)
        outcomes: list[_Outcome] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, group in kinds.items():
                results = work.run([item.argument for item in group])
                outcomes += [(item.future, result, None) for item, result in zip(group, results, strict=True)]
        except Exception as error:  # noqa: BLE001  (goes to whoever asked)
            self._rollback()
            self._make_room(error)
            if damage.forgive(self._connection, error):
                return self._write(items)
            if len(items) == 1:
                return [(items[0].future, None, _public(error))]
            return [outcome for item in items for outcome in self._write([item])]
        try:
            _points(kinds, "before_commit")
            self._connection.execute("COMMIT")
            _points(kinds, "after_commit")
        except sqlite3.Error as error:
            # Perhaps it is on the disk: doing it again could do it twice, and a crash could bring it to life.
            self._rollback()
            self._overwrite()
            self._make_room(error)
            return [(item.future, None, _doubtful(error)) for item in items]
        return outcomes

    def _attempt(self, item: _Item) -> _Outcome:
        try:
            return item.future, item.work.run([item.argument])[0], None
        except Exception as error:  # noqa: BLE001  (goes to whoever asked)
            if damage.forgive(self._connection, error):
                return self._attempt(item)
            return item.future, None, _public(error)

    def _make_room(self, error: Exception) -> None:
        """On a full disk the log gives back what it takes, if the database has room for it."""
        if getattr(error, "full", False) or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            self._checkpoint("TRUNCATE")

    def _rollback(self) -> None:
        with suppress(sqlite3.Error):  # the next BEGIN says so to whoever asks
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _overwrite(self) -> None:
        """Undo for good what a COMMIT that failed left behind. Its pages may be whole in the log, behind its end for us
        but not for who reads the log after a crash; a transaction that changes nothing takes their place."""
        try:
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(f"PRAGMA user_version = {version}")
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._rollback()

    def _checkpoint(self, mode: str) -> None:
        """A failure keeps the log, where everything still is; when nobody asks for anything it is tried again."""
        if self._wal_bytes == 0 or not self._checkpoints:
            return
        self._wal_bytes = 0
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error:
            self._wal_bytes = 1

    def _resolve(self, outcomes: list[_Outcome]) -> None:
        self._call(_set_results, outcomes)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is gone, and with it all who waited
            self._loop.call_soon_threadsafe(function, *args)

    def _set_closed(self) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)


def _set_results(outcomes: Iterable[_Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():  # cancelled meanwhile
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _points(kinds: Iterable[Work[Any, Any]], moment: str) -> None:
    for work in kinds:
        faults.point(f"{work.name}.{moment}")


def _public(error: Exception) -> Exception:
    """Nothing of the driver leaves the room."""
    if isinstance(error, sqlite3.Error):
        return store_error(error)
    if isinstance(error, OSError):
        return StoreError(str(error), full=error.errno in (errno.ENOSPC, errno.EDQUOT))
    if isinstance(error, (OverflowError, UnicodeError)):
        return StoreError(f"{type(error).__name__}: {error}")
    return error


def _doubtful(error: sqlite3.Error) -> StoreError:
    """Of a COMMIT."""
    failure = store_error(error)
    failure.doubtful = True
    return failure


def store_error(error: sqlite3.Error | UnicodeError) -> StoreError:
    """A UnicodeError: SQLite complained of a text that is none."""
    if isinstance(error, UnicodeError):
        return Unsound("the database is damaged (a text in it is none): see `mtactl check` and docs/recovery.md")
    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if damage.is_damage(error):
        return Unsound(f"the database is damaged ({name}: {error}): see `mtactl check` and docs/recovery.md")
    return StoreError(f"{name}: {error}", full=code == sqlite3.SQLITE_FULL)
