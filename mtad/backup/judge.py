"""Read a backup to its end, and say whether all of it can be relied on. What is needed of it lands in a folder."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from mtad.backup.archive import (
    ABOUT,
    ABOUT_MAX_BYTES,
    BLOCK_BYTES,
    DATABASE,
    MANIFEST,
    SETTINGS,
    BackupError,
    Member,
    digests_of,
    members,
    opened,
    read_json,
)
from mtad.backup.counts import counted
from mtad.backup.sealed import Secret
from mtad.dkim.keys import Keys
from mtad.mail import ident
from mtad.queue.database import APPLICATION_ID, migrations
from mtad.queue.indexes import complaints

_PROBLEMS_MAX = 20
_BODY = "SELECT CAST(b.head AS BLOB), m.digest, m.size_bytes FROM body b JOIN message m ON m.id = b.id WHERE b.id = ?"


@dataclass(slots=True)
class Judged:
    """What is in a backup. `problems` are what is wrong with a part; the rest is good."""

    about: Mapping[str, Any]
    files: int = 0
    size_bytes: int = 0  # unpacked
    keys: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def complain(self, text: str) -> None:
        if len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(text)

    @property
    def created_at(self) -> float:
        return float(self.about["created_at"])


def judge(
    file: IO[bytes],
    secret: Secret | None,
    folder: str,
    *,
    keep_bodies: bool,
    progress: Callable[[int], None] = lambda octets: None,
) -> Judged:
    """Everything is read and compared. Into `folder` go the database, keys and settings, and the bodies if wanted.

    BackupError: it is damaged, unfinished, of a newer version, or cannot be opened with this secret. OSError.
    """
    digests: dict[str, tuple[int, str]] = {}
    found: Judged | None = None
    manifest: dict[str, tuple[int, str]] = {}
    connection: sqlite3.Connection | None = None
    try:
        with opened(file, secret) as tar:
            for member, source in members(tar):
                if member.name == MANIFEST:
                    manifest = digests_of(read_json(member, source))
                    continue
                if member.name == ABOUT:
                    octets = _about(member, source)
                    found = Judged(octets[1])
                    digests[ABOUT] = member.size_bytes, hashlib.sha256(octets[0]).hexdigest()
                    continue
                assert found is not None
                path = f"{folder}/{member.name}" if keep_bodies or not member.name.startswith("queue/") else ""
                digest = _copy(member, source, path, progress)
                digests[member.name] = member.size_bytes, digest.hexdigest()
                if member.name == DATABASE:
                    connection = _open_copy(path)
                elif member.name.startswith("queue/"):
                    _check_file(connection, member, digest, found)
        if found is None:
            raise BackupError("it is empty")
        if digests != manifest:
            differing = sorted(name for name in digests.keys() | manifest if digests.get(name) != manifest.get(name))
            raise BackupError(f"{differing[0][:80]!a} is not what the manifest says")
        if connection is None:
            raise BackupError("it has no database")
        found.files, found.size_bytes = len(digests), sum(size for size, _ in digests.values())
        _check_database(connection, digests, found)
    finally:
        if connection is not None:
            connection.close()
    _check_keys(f"{folder}/dkim", digests, found)
    return found


def _about(member: Member, source: IO[bytes]) -> tuple[bytes, Mapping[str, Any]]:
    import io

    if member.size_bytes > ABOUT_MAX_BYTES:
        raise BackupError(f"{member.name} is too large")
    octets = source.read()
    about = read_json(member, io.BytesIO(octets))
    try:
        about["created_at"] = float(about["created_at"])
        schema = int(about["schema"])
        about["hostname"], about["mtad"], about["config"] = (
            str(about["hostname"]),
            str(about["mtad"]),
            str(about["config"]),
        )
        about["counts"] = {str(name): int(count) for name, count in about["counts"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BackupError(f"{ABOUT} is damaged") from None
    if schema > max(migrations()):
        raise BackupError(
            f"it was made by a newer mtad ({about['mtad'][:20]}, schema {schema}; this one knows {max(migrations())}):"
            " upgrade mtad"
        )
    return octets, about


def _copy(member: Member, source: IO[bytes], path: str, progress: Callable[[int], None]) -> Any:
    digest = hashlib.sha256()
    sink: IO[bytes] | None = None
    if path:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        mode = 0o644 if member.name == SETTINGS or member.name.startswith("files/") else 0o600
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        sink = open(os.open(path, flags, mode & (member.mode | 0o600)), "wb")  # noqa: SIM115
    try:
        while octets := source.read(BLOCK_BYTES):
            digest.update(octets)
            if sink is not None:
                sink.write(octets)
            progress(len(octets))
    finally:
        if sink is not None:
            sink.close()
    return digest


def _open_copy(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{_quoted(path)}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise BackupError("its database is not one of mtad")
    except (sqlite3.Error, UnicodeError, BackupError) as error:
        connection.close()
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"its database is damaged: {error}") from None
    return connection


def _check_file(connection: sqlite3.Connection | None, member: Member, digest: Any, found: Judged) -> None:
    """A large body against what the database says of it."""
    message_id = member.name.removeprefix("queue/")
    try:
        row = connection.execute(_BODY, (ident.to_int(message_id),)).fetchone() if connection is not None else None
    except (sqlite3.Error, ValueError, TypeError):
        row = None
    if row is None:
        found.complain(f"the body of {message_id} belongs to no message")
        return
    head, wanted, size_bytes = row
    digest = digest.copy()
    digest.update(head)
    if size_bytes != len(head) + member.size_bytes or (wanted and digest.digest() != wanted):
        found.complain(f"the body of {message_id} was damaged when the backup was made")


def _check_database(connection: sqlite3.Connection, digests: Mapping[str, tuple[int, str]], found: Judged) -> None:
    try:
        if wrong := complaints(connection, 1):
            raise BackupError(f"its database is damaged: {wrong[0][:200]}")
        found.counts = counted(connection)
        for (number,) in connection.execute("SELECT id FROM body WHERE data IS NULL"):
            if f"queue/{ident.from_int(number)}" not in digests:
                found.complain(f"the body of {ident.from_int(number)} is missing: it was when the backup was made")
        bodies = connection.execute(
            "SELECT b.id, b.head, b.data, m.digest, m.size_bytes FROM body b JOIN message m ON m.id = b.id"
            " WHERE b.data IS NOT NULL"
        )
        for number, head, data, wanted, size_bytes in bodies:
            digest = hashlib.sha256(data)
            digest.update(head)
            if len(head) + len(data) != size_bytes or (wanted and digest.digest() != wanted):
                found.complain(f"the body of {ident.from_int(number)} was damaged when the backup was made")
    except sqlite3.Error as error:
        raise BackupError(f"its database is damaged: {error}") from None
    except BackupError:
        raise
    except (TypeError, ValueError):  # columns of other types, ids and texts that are none
        raise BackupError("its database is damaged: its rows are not those of mtad") from None
    said = found.about["counts"]
    for name, count in found.counts.items():
        if name in said and said[name] != count:
            raise BackupError(f"it says it has {said[name]} {name.replace('_', ' ')}, and has {count}")


def _check_keys(folder: str, digests: Mapping[str, tuple[int, str]], found: Judged) -> None:
    with suppress(OSError):
        keys = Keys(folder)
        for problem in keys.load():
            found.complain(problem.removeprefix(f"{folder}/"))
    found.keys = sum(1 for name in digests if name.startswith("dkim/") and name.endswith(".pem"))


def peek(file: IO[bytes], secret: Secret | None = None) -> Mapping[str, Any]:
    """What a backup says of itself, without reading on. BackupError, OSError."""
    with closing(_first(file, secret)) as about:
        return next(about)


def _first(file: IO[bytes], secret: Secret | None) -> Any:
    with opened(file, secret) as tar:
        for member, source in members(tar):
            yield _about(member, source)[1]


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
