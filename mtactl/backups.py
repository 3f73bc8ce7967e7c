"""`mtactl backup create`, `verify`, `list`, `prune` and `restore`. Each function builds its command.

The one who types writes the file, not the daemon: it compresses and encrypts, and no passphrase travels.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import click

from mtactl.base import Options, read_password, say
from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_DATAERR, EX_NOTHING, EX_OK, EX_TEMPFAIL, EX_USAGE, CallError
from mtactl.progress import Progress
from mtactl.words import age, facts, moment, pairs, plain, size

if TYPE_CHECKING:
    from mtad.backup.sealed import Secret

EX_CANTCREAT, EX_NOPERM = 73, 77
OUR_NAME = re.compile(r"mtad-(\d{8}T\d{6}Z)(?:-\d+)?\.tar\.gz(?:\.sealed)?")

_SECRETS: list[click.Parameter] = [
    click.Option(["--key-file"], metavar="FILE", help="The key is the content of this file: 16 octets or more."),
    click.Option(["--passphrase-fd"], type=click.INT, metavar="FD", help="Read the passphrase from there, one line."),
]


def create() -> click.Command:
    def callback(file: str, certificates: bool, encrypt: bool, **given: Any) -> int:
        secret = _secret(given, wanted=encrypt, again=True)
        options = remember(**given)
        began = time.monotonic()
        path = _named(file, sealed=secret is not None)
        with _new(path) as out:
            done = _pack(options, certificates, secret, out)
        done = {
            "path": path,
            "size_bytes": out.size_bytes,
            **done,
            "encrypted": secret is not None,
            "took_s": round(time.monotonic() - began, 2),
        }
        if path != "-":
            _print(options, done)
        return EX_OK

    return Verb(
        "create",
        (("FILE", 'The file to write, which must not exist; in a directory it gets a name; "-" is standard output.'),),
        (
            "mtactl backup create /var/backups/mtad",
            "mtactl backup create today.tar.gz --certificates",
            "mtactl backup create today.sealed --key-file /root/backup.key",
            "mtactl backup create - | ssh vault.example.test 'cat > mail.tar.gz'",
        ),
        params=[
            click.Argument(["file"], metavar="FILE"),
            click.Option(["--certificates"], is_flag=True, help="With the TLS certificates in use, and their keys."),
            click.Option(["--encrypt"], is_flag=True, help="Ask for a passphrase to encrypt to."),
            *_SECRETS,
            *common_options(hidden=True),
        ],
        help="Writes one file with the queue and its messages, users, DKIM keys and the settings with the files"
        " they name, all of one moment, while mtad works. It is a gzipped tar archive; with a key it is encrypted too.",
        callback=callback,
    )


def verify() -> click.Command:
    def callback(file: str, **given: Any) -> int:
        import tempfile

        from mtad.backup.judge import judge

        secret = _secret(given)
        options = remember(**given)
        with _opened(file) as source, tempfile.TemporaryDirectory(prefix="mtad-verify-") as folder, _damage(file):
            progress = Progress("read", 0, size)
            found = judge(source, _asked(source, secret), folder, keep_bodies=False, progress=progress.add)
            progress.end()
        row = {
            "path": os.path.abspath(file),
            "good": not found.problems,
            "hostname": found.about["hostname"],
            "created": int(found.created_at),
            "mtad": found.about["mtad"],
            "schema": found.about["schema"],
            "files": found.files,
            "keys": found.keys,
            **found.counts,
            "problems": found.problems,
        }
        _print(options, row)
        return EX_NOTHING if found.problems else EX_OK

    return Verb(
        "verify",
        (("FILE", "The backup."),),
        ("mtactl backup verify today.tar.gz", "mtactl backup verify today.sealed --key-file /root/backup.key"),
        params=[click.Argument(["file"], metavar="FILE"), *_SECRETS, *common_options(hidden=True)],
        help="Reads a backup to its end: the digest of each file, the database's integrity, each message against its"
        " own digest, the counts, the keys. Needs no daemon, and room for the database in $TMPDIR. Exit 65: it is"
        " damaged, unfinished, or the key is wrong; 1: it is whole, and something in it was wrong when it was made.",
        callback=callback,
    )


def list_() -> click.Command:
    def callback(folder: str, **given: Any) -> int:
        options = remember(**given)
        rows = [_looked_at(path) for path in _ours(folder)]
        if options.json:
            sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            from mtactl.table import Column, table

            columns = (
                Column("FILE", lambda row, now: row["file"]),
                Column("MADE", lambda row, now: moment(row["created"])),
                Column("AGE", lambda row, now: age(now - row["created"])),
                Column("SIZE", lambda row, now: size(row["size_bytes"])),
                Column("HOST", lambda row, now: row["hostname"] or "-"),
                Column("OPEN", lambda row, now: "-" if row["open_recipients"] is None else row["open_recipients"]),
                Column("STATE", lambda row, now: row["state"]),
            )
            table(columns, rows, sys.stdout, time.time())
        if not rows and sys.stdout.isatty():
            say(f"there is none in {folder}")
        return EX_OK

    return Verb(
        "list",
        (("DIR", "The directory."),),
        ("mtactl backup list /var/backups/mtad",),
        params=[click.Argument(["folder"], metavar="DIR"), *common_options(hidden=True)],
        help="Lists the backups of a directory by the names that `backup create DIR` gives, with what they say of"
        " themselves; whether they are whole tells `backup verify`. What an encrypted one holds cannot be told.",
        callback=callback,
    )


def prune() -> click.Command:
    def callback(folder: str, keep: int | None, days: int | None, dry_run: bool, **given: Any) -> int:
        options = remember(**given)
        if keep is None and days is None:
            raise CallError("say what stays: --keep N, --days N, or both", EX_USAGE)
        if (keep is not None and keep < 1) or (days is not None and days < 0):
            raise CallError("--keep is 1 or more, --days 0 or more", EX_USAGE)
        there = _ours(folder)
        for path in spent(there, time.time(), keep, days):
            if not dry_run:
                _unlink(path)
            print(json.dumps({"removed": path, "dry_run": dry_run}) if options.json else path)
        return EX_OK

    return Verb(
        "prune",
        (("DIR", "The directory."),),
        ("mtactl backup prune /var/backups/mtad --days 30", "mtactl backup prune /var/backups/mtad --keep 7 --dry-run"),
        params=[
            click.Argument(["folder"], metavar="DIR"),
            click.Option(["--keep"], type=click.INT, metavar="N", help="The newest so many stay."),
            click.Option(["--days"], type=click.INT, metavar="N", help="Those that are not older stay."),
            click.Option(["--dry-run"], is_flag=True, help="Only print what would go."),
            *common_options(hidden=True),
        ],
        help="Removes old backups of a directory, and prints their names: files that are called as `backup create DIR`"
        " calls them, and no others. The newest one always stays.",
        callback=callback,
    )


def restore() -> click.Command:
    def callback(file: str, journal: tuple[str, ...], release: bool, **given: Any) -> int:
        from mtad import service
        from mtad.backup.restore import NotEmptyError, Wish
        from mtad.backup.restore import restore as bring_back
        from mtad.config.places import locate
        from mtad.control.login import login
        from mtad.queue.audit import Entry
        from mtad.queue.store import StoreError, StoreLocked

        secret = _secret(given)
        options = remember(**given)
        place = locate(options.root)
        data = place.paths.data

        def owner() -> tuple[int, int]:
            if os.geteuid() != 0:
                return -1, -1
            service.make_directories(place.paths)
            found = os.stat(data)
            return found.st_uid, found.st_gid

        entry = Entry(os.getuid(), login(os.getuid(), os.getpid()), "backup.restore", os.path.abspath(file))
        try:
            with _opened(file) as source, _damage(file):
                progress = Progress("read", 0, size)
                done = bring_back(
                    source, _asked(source, secret), place, Wish(journal, release, entry), time.time, owner=owner,
                    progress=progress.add,
                )  # fmt: skip
                progress.end()
            service.make_directories(place.paths)
        except NotEmptyError as error:
            raise CallError(str(error), EX_CANTCREAT) from None
        except StoreLocked as error:
            raise CallError(f"{error}: stop it first", EX_TEMPFAIL) from None
        except StoreError as error:
            raise CallError(str(error), EX_DATAERR) from None
        except PermissionError as error:
            raise CallError(f"{error.filename or data}: {error.strerror}", EX_NOPERM) from None
        judged = done.judged
        _print(
            options,
            {
                "data": data,
                "created": int(judged.created_at),
                **judged.counts,
                "delivered_since": done.marked.delivered,
                "purged_since": done.marked.purged,
                "held": done.held,
                "audit": done.audit,
                "problems": judged.problems,
                "notes": done.notes,
            },
        )
        if not options.json:
            sys.stdout.flush()
            root = f" --root {options.root}" if options.root else ""
            if not journal and judged.counts["open_recipients"]:
                say("no --journal: mail that was delivered after the backup was made is among what is held")
            if done.held:
                say(f"once mtad runs, after review: mtactl{root} queue release --audit {done.audit}")
        return EX_OK

    return Verb(
        "restore",
        (("FILE", "The backup."),),
        (
            "mtactl backup restore today.tar.gz --root /srv/mail",
            "mtactl backup restore today.tar.gz --journal /var/lib/mtad.broken",
            "mtactl backup restore today.tar.gz --journal /var/log/mail.log --journal /var/log/mail.log.1",
        ),
        params=[
            click.Argument(["file"], metavar="FILE"),
            click.Option(
                ["--journal"],
                multiple=True,
                metavar="PATH",
                help="What is known of deliveries after the backup: the old data directory, or a log of mtad's.",
            ),
            click.Option(["--release"], is_flag=True, help="Hold nothing: send what is still to be sent at once."),
            *common_options(hidden=True),
        ],
        help="Makes a backup the data of a stopped, empty server again: of the one in --root, else of this system's."
        " The mail waits, held, until `queue release`; what a journal knows to be delivered is done. Mail that left"
        " after the backup was made and that no journal tells of would be sent again. (docs/recovery.md)",
        callback=callback,
    )


# --- writing


class _Out:
    """Counts what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size_bytes = 0

    def write(self, octets: bytes) -> int:
        self.size_bytes += len(octets)
        return self._file.write(octets)


@contextmanager
def _new(path: str) -> Iterator[_Out]:
    """A file that has its name only when it is whole and durable; an existing one is never replaced."""
    if path == "-":
        out = _Out(sys.stdout.buffer)
        yield out
        sys.stdout.buffer.flush()
        return
    if os.path.lexists(path):
        raise CallError(f"{path} exists already", EX_CANTCREAT)
    folder = os.path.dirname(path)
    part = f"{folder}/.{os.path.basename(path)}.{os.getpid()}.part"
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "wb") as file:
                yield (out := _Out(file))
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # unlike rename, never replaces a file that came meanwhile
        finally:
            os.unlink(part)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(handle)
        os.close(handle)
    except OSError as error:
        shown = path if error.filename in (None, part) else error.filename
        raise CallError(f"{shown}: {error.strerror or error}", EX_CANTCREAT) from None


def _named(file: str, *, sealed: bool) -> str:
    """Where it goes. In a directory it gets a name that no file has."""
    if file == "-":
        if sys.stdout.isatty():
            raise CallError("a backup is not for a terminal: name a file", EX_USAGE)
        return file
    path = os.path.abspath(file)
    if not os.path.isdir(path):
        return path
    stamp, end = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), ".tar.gz" + ".sealed" * sealed
    named, number = f"{path}/mtad-{stamp}{end}", 1
    while os.path.lexists(named):
        number += 1
        named = f"{path}/mtad-{stamp}-{number}{end}"
    return named


def _pack(options: Options, certificates: bool, secret: "Secret | None", out: _Out) -> dict[str, Any]:
    from mtactl import apart
    from mtad.backup.archive import BackupError, Member, Packer

    packer = Packer(out, secret)
    rows = apart.rows(options, "backup.stream", {"certificates": certificates})
    progress: Progress | None = None
    source = _Octets(rows)
    try:
        while (head := source.head()) is not None:
            progress = progress or Progress("packed", int(head["total_bytes"]), size)
            source.progress = progress
            member = Member(head["member"], int(head["size_bytes"]), int(head["mode"]), int(head["mtime"]))
            packer.add(member, source)  # type: ignore[arg-type]
        if not packer.sizes:
            raise BackupError("mtad sent nothing")
        packer.finish(time.time())
    except (BackupError, KeyError, ValueError) as error:
        raise CallError(f"no backup was made: {error}", EX_TEMPFAIL) from None
    if progress is not None:
        progress.end()
    return {"files": len(packer.sizes), "unpacked_bytes": sum(packer.sizes.values())}


class _Octets:
    """The rows of `backup stream` as files, one after the other."""

    def __init__(self, rows: Iterator[Mapping[str, Any]]) -> None:
        self._rows = rows
        self._next: Mapping[str, Any] | None = next(rows, None)
        self._pending = b""
        self.progress: Progress | None = None

    def head(self) -> Mapping[str, Any] | None:
        head = self._next
        if head is not None:
            self._next = next(self._rows, None)
        return head

    def read(self, count: int = -1) -> bytes:
        from base64 import b64decode

        parts, have = [self._pending], len(self._pending)
        while have < count and self._next is not None and "octets" in self._next:
            parts.append(b64decode(self._next["octets"]))
            have += len(parts[-1])
            self._next = next(self._rows, None)
        octets = b"".join(parts)
        octets, self._pending = octets[:count], octets[count:]
        if self.progress is not None:
            self.progress.add(len(octets))
        return octets


# --- reading


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    try:
        source = open(file, "rb")  # noqa: SIM115
    except OSError as error:
        raise CallError(f"{file}: {error.strerror}", EX_DATAERR) from None
    with source:
        yield source


@contextmanager
def _damage(file: str) -> Iterator[None]:
    from mtad.backup.archive import BackupError

    try:
        yield
    except BackupError as error:
        raise CallError(f"{file}: {error}", EX_DATAERR) from None


def _secret(given: dict[str, Any], *, wanted: bool = False, again: bool = False) -> "Secret | None":
    """What was said on the command line; with `wanted` it is asked for."""
    from mtad.backup.sealed import KEY_FILE_MAX_BYTES, KEY_FILE_MIN_BYTES, PASSPHRASE_MIN, Secret

    key_file, fd = given.pop("key_file", None), given.pop("passphrase_fd", None)
    if key_file and (fd is not None or wanted):
        raise CallError("say --key-file or a passphrase, not both", EX_USAGE)
    if key_file:
        with _opened(key_file) as file:
            octets = file.read(KEY_FILE_MAX_BYTES + 1)
        if not KEY_FILE_MIN_BYTES <= len(octets) <= KEY_FILE_MAX_BYTES:
            bounds = f"{KEY_FILE_MIN_BYTES} to {KEY_FILE_MAX_BYTES}"
            raise CallError(f"{key_file} has {len(octets)} octets; a key file has {bounds}", EX_DATAERR)
        return Secret(octets, file=True)
    if fd is None and not wanted:
        return None
    passphrase = read_password(fd, again=again)
    if again and len(passphrase) < PASSPHRASE_MIN:
        raise CallError(f"a passphrase has at least {PASSPHRASE_MIN} characters", EX_DATAERR)
    return Secret(passphrase.encode(), file=False)


def _asked(source: IO[bytes], secret: "Secret | None") -> "Secret | None":
    """On a terminal, a backup that needs a passphrase asks for it."""
    from mtad.backup.sealed import MAGIC, Secret

    start = source.read(len(MAGIC) + 2)
    source.seek(0)
    if secret is None and start[: len(MAGIC)] == MAGIC and start[-1:] == b"\x01" and sys.stdin.isatty():
        return Secret(read_password(None, again=False).encode(), file=False)
    return secret


def _ours(folder: str) -> list[str]:
    """The backups of a directory by their names, the oldest first."""
    try:
        names = [entry.name for entry in os.scandir(folder) if OUR_NAME.fullmatch(entry.name) and entry.is_file()]
    except OSError as error:
        raise CallError(f"{folder}: {error.strerror}", EX_DATAERR) from None
    return [f"{folder.rstrip('/') or ''}/{name}" for name in sorted(names)]


def spent(paths: list[str], now: float, keep: int | None, days: int | None) -> list[str]:
    """Which of them go, of names that sort by time: what neither `keep` nor `days` wants, and never the newest."""
    wanted = max(keep or 0, 1)
    return [
        path
        for path in paths[:-wanted]
        if days is None or now - os.stat(path, follow_symlinks=False).st_mtime > days * 86400
    ]


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        raise CallError(f"{path}: {error.strerror}", EX_CANTCREAT) from None


def _looked_at(path: str) -> dict[str, Any]:
    from mtad.backup.archive import BackupError
    from mtad.backup.judge import peek
    from mtad.backup.sealed import MAGIC

    found = os.stat(path)
    row: dict[str, Any] = {
        "file": os.path.basename(path), "created": int(found.st_mtime), "size_bytes": found.st_size, "hostname": "",
        "open_recipients": None, "state": "readable",
    }  # fmt: skip
    try:
        with open(path, "rb") as file:
            start = file.read(len(MAGIC))
            file.seek(0)
            if start == MAGIC:
                return row | {"state": "encrypted"}
            about = peek(file)
    except (BackupError, OSError):
        return row | {"state": "damaged"}
    counts = about["counts"]
    return row | {
        "created": int(about["created_at"]), "hostname": about["hostname"],
        "open_recipients": counts.get("open_recipients"),
    }  # fmt: skip


def _print(options: Options, row: Mapping[str, Any]) -> None:
    if options.json:
        print(json.dumps(row))
        return
    shown = [
        pair
        for name, value in row.items()
        if value not in ([], "")
        for pair in (
            facts(name, value, time.time())
            if isinstance(value, list)
            else [(name.removesuffix("_bytes").removesuffix("_s").replace("_", " "), _word(name, value))]
        )
    ]
    with suppress(BrokenPipeError):
        sys.stdout.writelines(f"{line}\n" for line in pairs(shown))


def _word(name: str, value: object) -> str:
    match name, value:
        case "created", int() as at:
            return f"{moment(at)} ({age(time.time() - at)} ago)"
        case (("size_bytes" | "unpacked_bytes"), int() as octets):
            return size(octets)
        case "took_s", float() as seconds:
            return f"{seconds:.1f} s"
        case _:
            return plain(value)
