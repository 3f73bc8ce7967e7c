"""`mtactl backup create`, `verify` and `restore`. Each function builds its command.

The one who types writes the file, not the daemon: it compresses and encrypts, and no passphrase travels.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from mtactl.backupfile import EX_CANTCREAT, Out, asked, damage, new, opened, secret_of
from mtactl.backupfolder import named
from mtactl.base import Options, say
from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_DATAERR, EX_NOTHING, EX_OK, EX_TEMPFAIL, CallError
from mtactl.progress import Progress
from mtactl.words import age, facts, moment, pairs, plain, size

if TYPE_CHECKING:
    from mtad.backup.sealed import Secret

EX_NOPERM = 77

_SECRETS: list[click.Parameter] = [
    click.Option(["--key-file"], metavar="FILE", help="The key is the content of this file: 16 octets or more."),
    click.Option(["--passphrase-fd"], type=click.INT, metavar="FD", help="Read the passphrase from there, one line."),
]


def create() -> click.Command:
    def callback(file: str, certificates: bool, encrypt: bool, **given: Any) -> int:
        secret = secret_of(given, wanted=encrypt, again=True)
        options = remember(**given)
        began = time.monotonic()
        path = named(file, sealed=secret is not None)
        with new(path) as out:
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

        secret = secret_of(given)
        options = remember(**given)
        try:
            with opened(file) as source, tempfile.TemporaryDirectory(prefix="mtad-verify-") as folder, damage(file):
                progress = Progress("read", 0, size)
                found = judge(source, asked(source, secret), folder, keep_bodies=False, progress=progress.add)
                progress.end()
        except OSError as error:
            place = error.filename or os.environ.get("TMPDIR", "/tmp")  # noqa: S108  (named, not used)
            raise CallError(f"{place}: {error.strerror or error}", EX_TEMPFAIL) from None
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


def restore() -> click.Command:
    def callback(file: str, journal: tuple[str, ...], release: bool, **given: Any) -> int:
        from mtad import service
        from mtad.backup.restore import NotEmptyError, Wish
        from mtad.backup.restore import restore as bring_back
        from mtad.config.places import locate
        from mtad.control.login import login
        from mtad.queue.audit import Entry
        from mtad.queue.store import StoreError, StoreLocked

        secret = secret_of(given)
        options = remember(**given)
        place = locate(options.root)
        data = place.paths.data
        for path in journal:  # before a long work, not after it
            try:
                os.stat(f"{path}/mta.db" if os.path.isdir(path) else path)
            except OSError as error:
                raise CallError(f"{error.filename}: {error.strerror}", EX_DATAERR) from None

        def owner() -> tuple[int, int]:
            if os.geteuid() != 0:
                return -1, -1
            service.make_directories(place.paths)
            found = os.stat(data)
            return found.st_uid, found.st_gid

        entry = Entry(os.getuid(), login(os.getuid(), os.getpid()), "backup.restore", os.path.abspath(file))
        try:
            with opened(file) as source, damage(file):
                progress = Progress("read", 0, size)
                done = bring_back(
                    source, asked(source, secret), place, Wish(journal, release, entry), time.time, owner=owner,
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
        except OSError as error:
            raise CallError(f"{error.filename or data}: {error.strerror or error}", EX_TEMPFAIL) from None
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
            "mtactl backup restore today.sealed --key-file /root/backup.key",
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
            *_SECRETS,
            *common_options(hidden=True),
        ],
        help="Makes a backup the data of a stopped, empty server again: of the one in --root, else of this system's."
        " The mail waits, held, until `queue release`; what a journal knows to be delivered is done. Mail that left"
        " after the backup was made and that no journal tells of would be sent again. (docs/recovery.md)",
        callback=callback,
    )


def _pack(options: Options, certificates: bool, secret: "Secret | None", out: Out) -> dict[str, Any]:
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
