"""`mtactl backup list` and `prune`: a directory of backups, known by the names that `create` gives them."""

import json
import os
import re
import sys
import time
from typing import Any

import click

from mtactl.backupfile import EX_CANTCREAT
from mtactl.base import say
from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_DATAERR, EX_OK, EX_USAGE, CallError
from mtactl.words import age, moment, size

OUR_NAME = re.compile(r"mtad-(\d{8}T\d{6}Z)(?:-\d+)?\.tar\.gz(?:\.sealed)?")


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


def named(file: str, *, sealed: bool) -> str:
    """Where it goes. In a directory it gets a name that no file has."""
    if file == "-":
        if sys.stdout.isatty():
            raise CallError("a backup is not for a terminal: name a file", EX_USAGE)
        return file
    path = os.path.abspath(file)
    if not os.path.isdir(path):
        if "." not in os.path.basename(path) and not os.path.lexists(path):  # it is where backups are to be, rather
            raise CallError(f"{path} is no directory: make it, or name a file as {path}.tar.gz", EX_CANTCREAT)
        return path
    stamp, end = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), ".tar.gz" + ".sealed" * sealed
    named, number = f"{path}/mtad-{stamp}{end}", 1
    while os.path.lexists(named):
        number += 1
        named = f"{path}/mtad-{stamp}-{number}{end}"
    return named


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
    except BackupError:
        return row | {"state": "damaged"}
    except OSError:
        return row | {"state": "unreadable"}
    counts = about["counts"]
    return row | {
        "created": int(about["created_at"]), "hostname": about["hostname"],
        "open_recipients": counts.get("open_recipients"),
    }  # fmt: skip
