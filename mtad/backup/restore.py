"""A backup becomes the data of a server again. Nothing is replaced, and nothing of it is sent unasked.

All of it is read, compared and prepared beside its place first. Then directories and settings move in, and last the
database: without that there is no queue, and what an interrupted restore left is cleared away by the next one.
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
from mtad.queue.database import Lock, open_writable

_MARK = ".restoring"  # in the data directory, as long as what lies there is a part of a restore
_STAGE = ".restore"


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
    """Raises NotEmptyError, BackupError, StoreLocked, StoreError (it cannot be brought up to date) and OSError."""
    data = place.paths.data
    os.makedirs(data, 0o711, exist_ok=True)
    lock = Lock(place.paths, create=True)
    try:
        if os.path.lexists(f"{data}/{_MARK}"):
            _clear(place)
        elif there := next(_content(data), ""):
            raise NotEmptyError(f"{there} exists: a backup is restored to an empty place only")
        stage = f"{data}/{_STAGE}"
        shutil.rmtree(stage, ignore_errors=True)
        os.mkdir(stage, 0o700)
        try:
            return _restore(file, secret, place, wish, clock, owner, progress)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    finally:
        lock.release()


def _restore(
    file: IO[bytes],
    secret: Secret | None,
    place: Place,
    wish: Wish,
    clock: Clock,
    owner: Callable[[], tuple[int, int]],
    progress: Callable[[int], None],
) -> Restored:
    stage = f"{place.paths.data}/{_STAGE}"
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
    uid, gid = owner()
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
    with open(f"{data}/{_MARK}", "wb"):
        pass
    files.sync_directory(data)
    for folder in ("queue", "dkim"):
        with suppress(FileNotFoundError):
            os.rmdir(f"{data}/{folder}")
        os.rename(f"{stage}/{folder}", f"{data}/{folder}")
    _settings(place, stage, restored, gid)
    os.rename(f"{stage}/mta.db", f"{data}/mta.db")
    files.sync_directory(data)
    os.unlink(f"{data}/{_MARK}")
    files.sync_directory(data)


def _settings(place: Place, stage: str, restored: Restored, gid: int) -> None:
    """mtad.toml and the files it names; what exists already stays, and what has no place here lies beside."""
    config = place.paths.config
    folder, old_folder = os.path.dirname(config), os.path.dirname(str(restored.judged.about["config"]))
    wanted = [(f"{stage}/{SETTINGS}", config)] if os.path.exists(f"{stage}/{SETTINGS}") else []
    for path in _files(f"{stage}/files"):
        was = path.removeprefix(f"{stage}/files")
        near = was.startswith(f"{old_folder}/")
        if near:
            to = f"{folder}/{was.removeprefix(f'{old_folder}/')}"
        else:
            to = was if place.role == "system" else f"{folder}/restored{was}"
        if not near and place.role != "system":
            restored.notes.append(f"{was} is in {to}")
        wanted.append((path, to))
    for path, to in wanted:
        if os.path.lexists(to):
            if _same(path, to):
                continue
            restored.notes.append(f"{to} was there and stays; that of the backup is {to}.restored")
            to += ".restored"
        os.makedirs(os.path.dirname(to), 0o755, exist_ok=True)
        shutil.copyfile(path, to + ".part")
        os.chmod(to + ".part", os.stat(path).st_mode & 0o777)
        if gid >= 0:
            os.chown(to + ".part", 0, gid)
        with open(to + ".part", "rb") as file:
            os.fsync(file.fileno())
        os.rename(to + ".part", to)
        files.sync_directory(os.path.dirname(to))


def _same(path: str, to: str) -> bool:
    with open(path, "rb") as one, open(to, "rb") as other:
        return one.read() == other.read()


def _content(data: str) -> Iterator[str]:
    """The files of a data directory, but for its lock and what a restore left."""
    for path in _files(data):
        if path != f"{data}/.lock" and not path.startswith(f"{data}/{_STAGE}/"):
            yield path


def _clear(place: Place) -> None:
    """What a restore that was interrupted had moved in."""
    data = place.paths.data
    for folder in ("queue", "dkim"):
        shutil.rmtree(f"{data}/{folder}", ignore_errors=True)
    for name in ("mta.db", "mta.db-wal", "mta.db-shm", _MARK):
        with suppress(FileNotFoundError):
            os.unlink(f"{data}/{name}")


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
