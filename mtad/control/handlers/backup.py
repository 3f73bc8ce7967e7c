"""One file with everything that makes this server this server."""

import asyncio
import contextlib
import os
import tarfile
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping

from mtad.config import Paths
from mtad.control.admin import Admin, Args, Failed, Handler, Row


async def backup_create(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    path, paths = args["path"], admin.config.paths
    if os.path.lexists(path):
        raise Failed("CannotCreate", f"{path} exists already")
    try:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=paths.data) as scratch:
            database = f"{scratch}/mta.db"
            await admin.store.backup(database)
            files, size_bytes = await asyncio.to_thread(archive, path, database, paths)
    except OSError as error:
        where = error.filename or path
        if os.path.dirname(where) == os.path.dirname(path):  # the name it has while it is written tells nobody anything
            where = path
        raise Failed("CannotCreate", f"{where}: {error.strerror or error}") from None
    yield {"path": path, "size_bytes": size_bytes, "files": files}


def archive(path: str, database: str, paths: Paths) -> tuple[int, int]:
    """Write the tar file, 0600, and make it durable under its name. (files in it, octets). Raises OSError.

    The database was copied first: a body that is missing by now belongs to a message that was delivered since.
    """
    directory = os.path.dirname(path)
    handle, part = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        files = 0
        with os.fdopen(handle, "wb") as raw:
            with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as tar:
                for name, source in _members(database, paths):
                    with contextlib.suppress(FileNotFoundError):
                        tar.add(source, name, recursive=False)
                        files += 1
            raw.flush()
            os.fsync(raw.fileno())
            size_bytes = raw.tell()
        os.link(part, path)  # unlike rename, never replaces a file that came meanwhile
    finally:
        os.unlink(part)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return files, size_bytes


def _members(database: str, paths: Paths) -> Iterator[tuple[str, str]]:
    yield "mta.db", database
    yield "mtad.toml", paths.config
    for name, top in (("queue", paths.spool), ("dkim", paths.dkim)):
        for folder, folders, entries in os.walk(top):
            folders.sort()
            for entry in sorted(entries):
                source = f"{folder}/{entry}"
                yield f"{name}/{os.path.relpath(source, top)}", source


HANDLERS: Mapping[str, Handler] = {
    "backup.create": backup_create,
}
