"""What belongs into a backup, streamed to whoever writes it: the daemon may write nowhere but below its data."""

import asyncio
import io
import json
import os
import shutil
import sqlite3
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from mtad import __version__
from mtad.backup.archive import ABOUT, DATABASE, FORMAT, SETTINGS
from mtad.backup.counts import counted
from mtad.config import Config
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.queue.database import migrations

OCTETS_PER_ROW = 192 * 1024
SMALL_MAX_BYTES = 16 << 20  # of a file that may change while it is read
_SCRATCH = ".backup-"
_SCRATCH_MAX_AGE_S = 86400.0


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a backup, and where its octets are. What may change is read at once."""

    name: str
    path: str = ""
    octets: bytes | None = None
    mode: int = 0o600  # of what was read at once


async def backup_stream(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    """The copy and the links lie beside the large bodies: only there links are sure to be possible."""
    spool = admin.config.paths.spool
    try:
        await asyncio.to_thread(_forget_old, spool, admin.clock())
        scratch = await asyncio.to_thread(tempfile.mkdtemp, prefix=_SCRATCH, dir=spool)
    except OSError as error:
        raise Failed("CannotCreate", f"{error.filename or spool}: {error.strerror}") from None
    try:
        bodies, database = f"{scratch}/bodies", f"{scratch}/{DATABASE}"
        os.mkdir(bodies, 0o700)
        await admin.store.backup(database, bodies)
        sources = await asyncio.to_thread(_sources, admin, scratch, args["certificates"])
        total = sum(len(one.octets) if one.octets is not None else os.stat(one.path).st_size for one in sources)
        for source in sources:
            async for row in _rows(source):
                yield row | ({"total_bytes": total} if "member" in row else {})
    except OSError as error:
        raise Failed("CannotCreate", f"{error.filename or spool}: {error.strerror or error}") from None
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


async def _rows(source: Source) -> AsyncGenerator[Row, None]:
    file: IO[bytes]
    if source.octets is not None:
        file, size, mode, mtime = io.BytesIO(source.octets), len(source.octets), source.mode, int(time.time())
    else:
        file = await asyncio.to_thread(open, source.path, "rb")
        found = os.fstat(file.fileno())
        size, mode, mtime = found.st_size, found.st_mode & 0o777, int(found.st_mtime)
    with file:
        yield {"member": source.name, "size_bytes": size, "mode": mode, "mtime": mtime}
        while octets := await asyncio.to_thread(file.read, OCTETS_PER_ROW):
            yield {"octets": b64encode(octets).decode("ascii")}


def _sources(admin: Admin, scratch: str, certificates: bool) -> list[Source]:
    config = admin.config
    database, bodies = f"{scratch}/{DATABASE}", f"{scratch}/bodies"
    settings = [
        Source(SETTINGS if name == config.paths.config else f"files{name}", octets=found[0], mode=found[1])
        for name in _named(config, certificates)
        if (found := _read(name)) is not None
    ]
    connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
    try:
        counts = counted(connection)
    finally:
        connection.close()
    about: dict[str, Any] = {
        "format": FORMAT,
        "hostname": config.hostname,
        "created_at": int(admin.clock()),
        "mtad": __version__,
        "schema": max(migrations()),
        "config": config.paths.config,
        "certificates": certificates,
        "counts": {**counts, "body_files": len(os.listdir(bodies))},
    }
    keys = [Source(f"dkim/{name}", octets=octets) for name, octets in _keys(config.paths.dkim)]
    return [
        Source(ABOUT, octets=json.dumps(about, indent=1).encode() + b"\n"),
        Source(DATABASE, database),
        *settings,
        *keys,
        *(Source(f"queue/{name}", f"{bodies}/{name}") for name in sorted(os.listdir(bodies))),
    ]


def _named(config: Config, certificates: bool) -> Iterator[str]:
    """The files that the settings name, without their secrets' values being shown to anybody."""
    yield config.paths.config
    yield from config.local.aliases
    passwords = [rule.password_file for rule in config.delivery.routes] + [config.dns.update.secret_file]
    yield from dict.fromkeys(path for path in passwords if path)
    if certificates:
        tls = config.tls
        pairs = [(tls.cert, tls.key), *((pair.cert, pair.key) for pair in tls.certificates)]
        named = [tls.client_ca, tls.server_ca, *(path for pair in pairs for path in pair)]
        yield from dict.fromkeys(path for path in named if path)


def _keys(folder: str) -> Iterator[tuple[str, bytes]]:
    """Keys and their state. A domain that is in a rotation: its state is read first, for a key that it does not know
    yet is pending (mtad.dkim.keys)."""
    domains = [entry.name for entry in os.scandir(folder) if entry.is_dir()] if os.path.isdir(folder) else []
    for domain in sorted(domains):
        names = [name for name in os.listdir(f"{folder}/{domain}") if not name.startswith(".")]
        for name in sorted(names, key=lambda name: (name.endswith(".pem"), name)):
            found = _read(f"{folder}/{domain}/{name}")
            if found is not None:
                yield f"{domain}/{name}", found[0]


def _read(path: str) -> tuple[bytes, int] | None:
    """A file's octets and mode."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            octets = file.read(SMALL_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(octets) > SMALL_MAX_BYTES:
        raise Failed("BadData", f"{path} is larger than {SMALL_MAX_BYTES >> 20} MiB")
    return octets, mode


def _forget_old(spool: str, now: float) -> None:
    """What a daemon left that was killed while it did this."""
    for entry in os.scandir(spool):
        if entry.name.startswith(_SCRATCH) and now - entry.stat(follow_symlinks=False).st_mtime > _SCRATCH_MAX_AGE_S:
            shutil.rmtree(entry.path, ignore_errors=True)


HANDLERS: Mapping[str, Handler] = {
    "backup.stream": backup_stream,
}
