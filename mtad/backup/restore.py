"""A backup becomes the data of a server again. Nothing is replaced, and nothing of it is sent unasked.

All of it is read, compared and prepared beside its place first. Then directories and settings move in, and last the
database: without that there is no queue, no daemon starts, and what an interrupted restore left is cleared away by the
next one. With it all is there.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from mtad.backup.archive import SETTINGS, BackupError
from mtad.backup.journal import Marked, mark
from mtad.backup.judge import Judged, judge
from mtad.backup.sealed import Secret
from mtad.config.places import Place
from mtad.mail import ident
from mtad.mail.envelope import Clock
from mtad.queue import files, trail
from mtad.queue.audit import Entry
from mtad.queue.cycle import finish
from mtad.queue.database import RESTORING, Lock, open_writable


class NotEmptyError(Exception):
    """There is something already where the backup would go."""


@dataclass(slots=True)
class Restored:
    judged: Judged
    held: int = 0
    audit: int = 0  # the number of that in the audit trail
    marked: Marked = Marked()  # noqa: RUF009  (frozen)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to do with what is restored."""

    journals: Sequence[str] = ()
    release: bool = False  # hold nothing
    who: Entry = Entry()  # noqa: RUF009  (frozen)


def restore(
    file: IO[bytes],
    secret: Secret | None,
    place: Place,
    wish: Wish,
    clock: Clock,
    *,
    owner: Callable[[], tuple[int, int]],
    progress: Callable[[int], None] = lambda octets: None,
) -> Restored:
    """`owner` makes sure of the data directory, and says whose it is: (-1, -1) for the one who runs this. Raises
    NotEmptyError, BackupError, StoreLocked, StoreError (it cannot be brought up to date) and OSError."""
    data = place.paths.data
    os.makedirs(data, 0o711, exist_ok=True)
    uid, gid = owner()
    lock = Lock(place.paths, create=True)
    try:
        if uid >= 0:
            os.chown(f"{data}/.lock", uid, gid, follow_symlinks=False)  # the daemon's, whatever comes of this
        if os.path.lexists(f"{data}/{RESTORING}"):
            _clear(place)
        if there := next(_content(place), ""):
            raise NotEmptyError(f"{there} exists: a backup is restored to an empty place only")
        os.mkdir(f"{data}/{RESTORING}", 0o700)
        try:
            return _restore(file, secret, place, wish, clock, (uid, gid), progress)
        finally:
            _clear(place)
    finally:
        lock.release()


def _restore(
    file: IO[bytes],
    secret: Secret | None,
    place: Place,
    wish: Wish,
    clock: Clock,
    owner: tuple[int, int],
    progress: Callable[[int], None],
) -> Restored:
    stage = f"{place.paths.data}/{RESTORING}"
    restored = Restored(judge(file, secret, stage, keep_bodies=True, progress=progress))
    for folder in ("queue", "dkim"):
        os.makedirs(f"{stage}/{folder}", exist_ok=True)
        os.chmod(f"{stage}/{folder}", 0o700)
    connection = open_writable(type(place.paths)(place.paths.config, stage, ""))
    try:
        connection.execute("BEGIN IMMEDIATE")
        _prepare(connection, stage, wish, clock(), restored)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise BackupError(f"its database cannot be used: {error}") from None
    finally:
        connection.close()
    uid, gid = owner
    if uid >= 0:
        for path in _everything(stage):
            os.chown(path, uid, gid, follow_symlinks=False)
    os.sync()
    _move_in(place, stage, restored, gid)
    return restored


def _prepare(connection: sqlite3.Connection, stage: str, wish: Wish, now: float, restored: Restored) -> None:
    one = connection.execute
    delivered = purged = 0
    for journal in wish.journals:
        marked = mark(connection, journal, now)
        delivered, purged = delivered + marked.delivered, purged + marked.purged
    restored.marked = Marked(delivered, purged)
    if delivered:
        ended = [number for (number,) in one("SELECT id FROM message WHERE finished_at IS NULL")]
        gone = [ident.from_int(number) for number, is_file in finish(connection, ended, now).items() if is_file]
        files.delete(f"{stage}/queue", gone)
    if not wish.release:
        (restored.held,) = one("SELECT count(*) FROM recipient WHERE state = 0").fetchone()
        restored.audit = trail.record(connection, wish.who, restored.held, now)
        one(
            "INSERT INTO touched SELECT message, n, ?, state, next_at, '', '' FROM recipient WHERE state = 0",
            (restored.audit,),
        )
        one("UPDATE recipient SET state = 2 WHERE state = 0")


def _move_in(place: Place, stage: str, restored: Restored, gid: int) -> None:
    data = place.paths.data
    for folder in ("queue", "dkim"):
        with suppress(FileNotFoundError):
            os.rmdir(f"{data}/{folder}")
        os.rename(f"{stage}/{folder}", f"{data}/{folder}")
    _settings(place, stage, restored, gid)
    files.sync_directory(data)
    os.rename(f"{stage}/mta.db", place.paths.database)
    files.sync_directory(data)


def _settings(place: Place, stage: str, restored: Restored, gid: int) -> None:
    """mtad.toml and the files it names; what exists already stays, and what has no place here lies beside.

    A path outside the settings' own directory is what the archive says: root must write to no place that it chooses.
    """
    config = place.paths.config
    folder, old_folder = os.path.dirname(config), os.path.dirname(str(restored.judged.about["config"]))
    wanted = [(f"{stage}/{SETTINGS}", config)] if os.path.exists(f"{stage}/{SETTINGS}") else []
    for path in _files(f"{stage}/files"):
        was = path.removeprefix(f"{stage}/files")
        if was.startswith(f"{old_folder}/"):
            to = f"{folder}/{was.removeprefix(f'{old_folder}/')}"
        elif was == place.aliases:
            to = was
        else:
            to = f"{folder}/restored{was}"
            restored.notes.append(f"{was} is in {to}: put it where the settings look for it")
        wanted.append((path, to))
    for path, to in wanted:
        if os.path.lexists(to):
            if _same(path, to):
                continue
            restored.notes.append(f"{to} was there and stays; that of the backup is {to}.restored")
            to += ".restored"
        os.makedirs(os.path.dirname(to), 0o755, exist_ok=True)
        _put(path, to, gid)


def _put(path: str, to: str, gid: int) -> None:
    """A copy with the mode of the original. Where root writes it for a service, the service can read it."""
    part = f"{to}.part"
    with suppress(FileNotFoundError):
        os.unlink(part)  # an interrupted restore's
    try:
        with (
            open(path, "rb") as source,
            open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as sink,
        ):
            shutil.copyfileobj(source, sink)
            mode = os.fstat(source.fileno()).st_mode & 0o644
            if gid > 0:
                os.fchown(sink.fileno(), 0, gid)
                mode |= 0o040
            os.fchmod(sink.fileno(), mode)
            sink.flush()
            os.fsync(sink.fileno())
        os.rename(part, to)
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise
    files.sync_directory(os.path.dirname(to))


def _same(path: str, to: str) -> bool:
    try:
        with open(path, "rb") as one, open(to, "rb") as other:
            return one.read() == other.read()
    except OSError:  # a directory, a link that leads nowhere
        return False


def _content(place: Place) -> Iterator[str]:
    """The files of a data directory, but for its lock, what a restore left, and what no restore touches: mailboxes, and
    what programs of the host sent meanwhile."""
    data = place.paths.data
    free = tuple(
        f"{folder}/" for folder in (f"{data}/{RESTORING}", f"{data}/mailboxes", place.paths.maildrop, place.paths.run)
    )
    for path in _files(data):
        if path != f"{data}/.lock" and not path.startswith(free):
            yield path


def _clear(place: Place) -> None:
    """What a restore has no more use for: where it did not come to its end, that is all it had moved in."""
    data = place.paths.data
    if not os.path.lexists(place.paths.database):
        for folder in ("queue", "dkim"):
            shutil.rmtree(f"{data}/{folder}", ignore_errors=True)
    shutil.rmtree(f"{data}/{RESTORING}", ignore_errors=True)


def _files(top: str) -> Iterator[str]:
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            yield f"{folder}/{name}"


def _everything(top: str) -> Iterator[str]:
    yield top
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            yield f"{folder}/{name}"
