"""One file of a backup, as the one who types has it: opened to be read, made durable when written, and its secret."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from mtactl.base import read_password
from mtactl.errors import EX_DATAERR, EX_USAGE, CallError

if TYPE_CHECKING:
    from mtad.backup.sealed import Secret

EX_CANTCREAT = 73


class Out:
    """Counts what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size_bytes = 0

    def write(self, octets: bytes) -> int:
        self.size_bytes += len(octets)
        return self._file.write(octets)


@contextmanager
def new(path: str) -> Iterator[Out]:
    """A file that has its name only when it is whole and durable; an existing one is never replaced."""
    if path == "-":
        out = Out(sys.stdout.buffer)
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
                yield (out := Out(file))
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


@contextmanager
def opened(file: str) -> Iterator[IO[bytes]]:
    try:
        source = open(file, "rb")  # noqa: SIM115
    except OSError as error:
        raise CallError(f"{file}: {error.strerror}", EX_DATAERR) from None
    with source:
        yield source


@contextmanager
def damage(file: str) -> Iterator[None]:
    from mtad.backup.archive import BackupError

    try:
        yield
    except BackupError as error:
        raise CallError(f"{file}: {error}", EX_DATAERR) from None


def secret_of(given: dict[str, Any], *, wanted: bool = False, again: bool = False) -> "Secret | None":
    """What was said on the command line; with `wanted` it is asked for."""
    from mtad.backup.sealed import KEY_FILE_MAX_BYTES, KEY_FILE_MIN_BYTES, PASSPHRASE_MIN, Secret

    key_file, fd = given.pop("key_file", None), given.pop("passphrase_fd", None)
    if key_file and (fd is not None or wanted):
        raise CallError("say --key-file or a passphrase, not both", EX_USAGE)
    if key_file:
        with opened(key_file) as file:
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


def asked(source: IO[bytes], secret: "Secret | None") -> "Secret | None":
    """On a terminal, a backup that needs a passphrase asks for it. CallError for what is no file."""
    from mtad.backup.sealed import MAGIC, Secret

    if not source.seekable():
        raise CallError(
            f"{source.name}: a backup is read from a file: write what comes through a pipe to one", EX_DATAERR
        )
    start = source.read(len(MAGIC) + 2)
    source.seek(0)
    if secret is None and start[: len(MAGIC)] == MAGIC and start[-1:] == b"\x01" and sys.stdin.isatty():
        return Secret(read_password(None, again=False).encode(), file=False)
    return secret
