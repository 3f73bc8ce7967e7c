"""Delivery into a Maildir: the mail is on stable storage, under its final name, when the reply is a success.

The name of a file comes from the recipient's id alone. So a mail that was delivered twice because a crash fell between
the rename and our record of it replaces itself, as long as no reader moved it.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from functools import partial

from mtad.mail import headers
from mtad.mail.envelope import Content, Message, Recipient
from mtad.mail.reply import LOCAL_ERROR, Reply
from mtad.outbound import quota
from mtad.outbound.connection import read_chunk
from mtad.outbound.quota import Full
from mtad.outbound.route import mailbox

DELIVERED = Reply(250, "2.0.0", "Delivered to the mailbox", stage="final")
_NO_ROOM = Reply(452, "4.3.1", "No room to store the message", stage="final")
_QUOTA = Reply(452, "4.2.2", "The mailbox is full", stage="final")
_NOT_USABLE = Reply(451, "4.2.0", "The mailbox cannot be used now", stage="final")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Mailboxes:
    """Maildir delivery in the threads of `executor`."""

    def __init__(self, executor: Executor, hostname: str) -> None:
        self._executor = executor
        self._hostname = hostname

    async def deliver(
        self, pattern: str, recipient: Recipient, message: Message, content: Content, quota_bytes: int = 0
    ) -> Reply:
        """Success, or a temporary reply with its cause. Cancelled, it returns all the same, when the thread has ended:
        what that did must be recorded. `quota_bytes`: what the mailbox may hold; 0 = any size."""
        path = mailbox(pattern, recipient.address)
        if isinstance(path, Reply):
            return path
        name = f"{int(message.accepted_at)}.{recipient.id}.{_plain(self._hostname)}"
        loop = asyncio.get_running_loop()
        octets = partial(octets_of, message, recipient, content)
        writing = loop.run_in_executor(self._executor, store, path, name, octets, quota_bytes)
        try:
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait([writing])
                writing.result()
        except Full as full:
            return _QUOTA.because(f"{path}: {full}")
        except OSError as error:
            return _why(error).because(f"{path}: {error}")
        return DELIVERED


def store(path: str, name: str, octets: Callable[[], Iterable[bytes]], quota_bytes: int = 0) -> None:
    """Blocking: write tmp/name, fsync, rename to new/name, fsync new. Raises OSError or Full, and then nothing is in
    new. With a quota the size stands in the name (",S=") and in maildirsize, for us and for every IMAP server."""
    with ExitStack() as opened:

        def keep(directory: int) -> int:
            opened.callback(os.close, directory)
            return directory

        box = keep(_open_mailbox(path))
        tmp, new, _ = (keep(_open_inside(box, part)) for part in ("tmp", "new", "cur"))
        size_bytes = _write(tmp, name, octets())
        final = f"{name},S={size_bytes}" if quota_bytes else name
        try:
            again = bool(quota_bytes) and _exists(new, final)
            if quota_bytes and not again:
                quota.check(box, size_bytes, quota_bytes)
            os.rename(name, final, src_dir_fd=tmp, dst_dir_fd=new)
        except (OSError, Full):
            os.unlink(name, dir_fd=tmp)
            raise
        os.fsync(new)
        if quota_bytes and not again:
            quota.note(box, size_bytes)


def octets_of(message: Message, recipient: Recipient, content: Content) -> Iterator[bytes]:
    """The mail as a mailbox or a program of this host gets it: with Return-Path and Delivered-To, LF at line ends."""
    return _lines(_top(message, recipient), content, message.body == "BINARYMIME")


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write(tmp: int, name: str, octets: Iterable[bytes]) -> int:
    """The size of what is now, synced, in the file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(name, flags, 0o600, dir_fd=tmp)
    except FileExistsError:  # a crash of ours left it
        os.unlink(name, dir_fd=tmp)
        file = os.open(name, flags, 0o600, dir_fd=tmp)
    try:
        with open(file, "wb", closefd=False) as out:
            out.writelines(octets)
        os.fsync(file)
        return os.fstat(file).st_size
    except OSError:
        os.unlink(name, dir_fd=tmp)
        raise
    finally:
        os.close(file)


def _lines(top: bytes, content: Content, binary: bool) -> Iterator[bytes]:
    """The mail with LF at the line ends, as every reader of a Maildir expects; a binary body as it is."""
    yield (top + headers.remove(content.head, frozenset({b"return-path"}))).replace(b"\r\n", b"\n")
    if isinstance(content.body, bytes):
        yield content.body if binary else content.body.replace(b"\r\n", b"\n")
        return
    offset, held = 0, b""
    while chunk := read_chunk(content.body, offset):
        offset += len(chunk)
        if binary:
            yield chunk
            continue
        chunk = held + chunk
        held = b"\r" if chunk.endswith(b"\r") else b""
        yield chunk.removesuffix(b"\r").replace(b"\r\n", b"\n")
    yield held


def _top(message: Message, recipient: Recipient) -> bytes:
    """RFC 5321 4.4: the final delivery records the sender."""
    fields = f"Return-Path: <{message.sender}>\r\nDelivered-To: {recipient.address}\r\n"
    return fields.encode("utf-8", "surrogateescape")


def _open_mailbox(path: str) -> int:
    """The mailbox as a directory, made (0700) with its parents and sub-directories where missing."""
    try:
        return os.open(path, _DIRECTORY)
    except FileNotFoundError:
        pass
    parent = os.path.dirname(path)
    above = _open_mailbox(parent) if parent != path else -1
    try:
        return _open_inside(above, os.path.basename(path))
    finally:
        os.close(above)


def _open_inside(parent: int, name: str) -> int:
    """A directory within an open one, made durably where missing."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another thread was faster
            os.mkdir(name, 0o700, dir_fd=parent)
        os.fsync(parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _plain(hostname: str) -> str:
    return hostname.replace("/", "\\057").replace(":", "\\072")


def _why(error: OSError) -> Reply:
    match error.errno:
        case errno.ENOSPC:
            return _NO_ROOM
        case errno.EDQUOT:
            return _QUOTA
        case errno.EACCES | errno.EPERM | errno.ENOTDIR | errno.ELOOP | errno.EROFS | errno.EISDIR:
            return _NOT_USABLE
        case _:
            return Reply(LOCAL_ERROR.code, LOCAL_ERROR.status, LOCAL_ERROR.text, stage="final")
