"""Mail that programs left in `maildrop/` while no daemon answered.

A file is a recorded SMTP client: "MAIL FROM:<a>", "RCPT TO:<b>" ..., "DATA", the dot-stuffed mail, ".", lines ending in
CRLF. It was written under a name beginning with "." and renamed to "<time>.<pid>.<random>.mail" when it was complete
and durable. It is replayed as its owner, and deleted once the store has the mail. A crash between the two does not
double it: the message id follows from the file, and the accepted message names the file. What cannot become a mail is
moved to `bad/`, never deleted; its sender, who was told that all is well, gets a report.
"""

import asyncio
import errno
import os
import random
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from mtad import faults
from mtad.inbound import returned
from mtad.inbound.conversation import LINE_MAX, Conversation
from mtad.inbound.server import Inbound
from mtad.mail.data import TOO_BIG
from mtad.mail.envelope import Clock, Peer
from mtad.mail.ident import Ids, file_seed
from mtad.mail.replies import peer_reply
from mtad.mail.reply import Reply
from mtad.mail.text import encodable
from mtad.queue.files import sync_directory
from mtad.queue.store import StoreError

SUFFIX = ".mail"
UNFINISHED = ".tmp"
BAD = "bad"
UNFINISHED_S = 86400.0  # a file that was never renamed is forgotten after this long
CHUNK_BYTES = 1 << 16
ENVELOPE_BYTES = 1 << 22  # beside the mail, which dot-stuffing makes larger by a third at most
ID_TRIES = 3


class BadFile(Exception):  # noqa: N818  (it is what the file is)
    """The file is not, and will never be, a mail that we take. The text is for the log; `reply` is what the sender is
    to be told, where the file can be trusted to name one."""

    def __init__(self, text: str, reply: Reply | None = None) -> None:
        super().__init__(text)
        self.reply = reply


class Later(Exception):  # noqa: N818
    """Not now: the file stays."""


class Maildrop:
    """Drains one directory. One drain at a time; whoever asks meanwhile waits for the next."""

    def __init__(self, inbound: Inbound, clock: Clock) -> None:
        self._inbound = inbound
        self._clock = clock
        self._lock = asyncio.Lock()

    @property
    def _path(self) -> str:
        return self._inbound.host.config.paths.maildrop

    async def drain(self) -> int:
        """Take in what lies there, oldest name first. How many mails became ours. Raises nothing but bugs."""
        async with self._lock:
            accepted = 0
            try:
                names = await asyncio.to_thread(self._names)  # anyone may have put a million of them there
            except (OSError, RuntimeError) as error:  # no descriptor left, or no thread: it is looked at again soon
                cause = error.strerror if isinstance(error, OSError) else error
                self._inbound.host.events.store_trouble(f"{self._path}: {cause}")
                return 0
            for name in names:
                try:
                    accepted += await self._whole(name)
                except BadFile as bad:
                    self._set_aside(name, str(bad))
                except (Later, FileNotFoundError):
                    continue  # the second: its writer took it back
                except StoreError as error:
                    self._inbound.host.events.store_trouble(str(error))
                    break
                except OSError as error:
                    self._inbound.host.events.maildrop_bad(name, f"stays: {error.strerror}")
                except Exception as error:  # noqa: BLE001  (a bug costs this file its turn, and no other)
                    self._inbound.host.events.internal_error("maildrop", error)
            if accepted:
                with suppress(OSError):  # a file that comes back after a crash is known by its mail
                    sync_directory(self._path)
            return accepted

    async def _whole(self, name: str) -> bool:
        """What was begun is brought to its end, also by who is told to stop: nothing goes on behind its back."""
        task = asyncio.create_task(self._take(name))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()  # the file is still there, and nobody here any more to hear why
            raise

    def _names(self) -> list[str]:
        try:
            names = sorted(os.listdir(self._path))
        except FileNotFoundError:
            return []
        if BAD not in names:
            with suppress(OSError):  # before someone else has made it
                os.mkdir(f"{self._path}/{BAD}", 0o700)
        for name in names:
            if name.startswith(".") and name.endswith(UNFINISHED):
                self._forget_unfinished(name)
        return [name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]

    def _forget_unfinished(self, name: str) -> None:
        path = f"{self._path}/{name}"
        try:
            if os.lstat(path).st_mtime < self._clock() - UNFINISHED_S:
                os.unlink(path)
        except OSError:
            pass  # gone, or not ours to remove

    async def _take(self, name: str) -> bool:
        """True: accepted and deleted. Raises BadFile, Later, StoreError, OSError."""
        if not encodable(name):
            raise BadFile("its name is no text")
        path = f"{self._path}/{name}"
        with _opened(path) as file:
            found = os.fstat(file.fileno())
            _check(found)
            ids = await self._ids(name, found)
            if ids is not None:
                try:
                    if found.st_size > self._inbound.host.limits.message_size_bytes * 4 // 3 + ENVELOPE_BYTES:
                        raise BadFile("larger than the limit", TOO_BIG)
                    await self._replay(file, name, found.st_uid, ids, self._written_at(found))
                except BadFile as bad:
                    if bad.reply is not None:
                        await self._report(file, name, found, bad.reply)
                    raise
        faults.point("maildrop.accepted")
        os.unlink(path)
        return ids is not None

    async def _ids(self, name: str, found: os.stat_result) -> Ids | None:
        """Where the id of this file's message comes from; None when that message was accepted already."""
        for attempt in range(ID_TRIES):
            ids, same = (self._seeded(name, found, str(attempt)) for _ in range(2))
            owner = await self._inbound.host.acceptor.accepted_from(same.new())
            if owner is None:
                return ids
            if owner.source == "maildrop" and owner.helo == name and owner.uid == found.st_uid:
                return None
        raise Later  # another mail has each of them; one in a million, and nothing is lost

    def _seeded(self, name: str, found: os.stat_result, what: str) -> Ids:
        """Ids that are the same each time this file is looked at."""
        seed = file_seed(name, found.st_uid, found.st_ino, found.st_mtime_ns, what)
        return Ids(lambda: self._written_at(found), random.Random(seed))

    async def _report(self, file: BinaryIO, name: str, found: os.stat_result, reply: Reply) -> None:
        """Tell the sender, once. Raises StoreError."""
        host = self._inbound.host
        new_id = self._seeded(name, found, "report").new()
        if await host.acceptor.accepted_from(new_id) is not None:
            return
        file.seek(0)
        recorded = file.read(ENVELOPE_BYTES)
        written_at, now = self._written_at(found), self._clock()
        made = returned.report(recorded, reply, name, written_at, host.config, now, new_id, host.directory.expand)
        if made is None:
            host.events.double_bounce(name, "it has no sender who could be told")
        else:
            await host.acceptor.keep_report(made, name)

    def _written_at(self, found: os.stat_result) -> float:
        return min(found.st_mtime, self._clock())

    async def _replay(self, file: BinaryIO, name: str, uid: int, ids: Ids, written_at: float) -> None:
        """Until the store has it. The whole envelope must be good before the mail itself is offered."""
        host = self._inbound.host
        host = host.with_acceptor(host.acceptor.for_drop(ids, written_at))
        conversation = Conversation(Peer("maildrop", helo=name, uid=uid), host)
        try:
            while not conversation.receiving:
                line = file.readline(LINE_MAX + 1)
                if not line:
                    raise BadFile("no mail in it")
                _judge(conversation.receive(line))
            while not conversation.accepted:
                chunk = file.read(CHUNK_BYTES)
                if not chunk:
                    raise BadFile("the mail has no end")
                replies = await conversation.feed(chunk)
                if not conversation.accepted:  # what may follow a mail is not heard
                    _judge(replies)
                await asyncio.sleep(0)  # a large file is not alone in the house
        finally:
            conversation.abandon()

    def _set_aside(self, name: str, cause: str) -> None:
        self._inbound.host.events.maildrop_bad(name, cause)
        try:
            with _own_directory(f"{self._path}/{BAD}") as bad:
                os.rename(f"{self._path}/{name}", _free(name, bad), dst_dir_fd=bad)
        except OSError as error:
            self._inbound.host.events.maildrop_bad(name, f"cannot be set aside: {error.strerror}")


@contextmanager
def _own_directory(path: str) -> Iterator[int]:
    """A directory of ours, opened. Anyone may have put a link or a directory of their own in its place: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid not in {0, os.geteuid()}:
            raise PermissionError(errno.EPERM, f"{path} belongs to another user")
        yield fd
    finally:
        os.close(fd)


def _free(name: str, folder: int) -> str:
    """A name that no file of the folder has: none takes the place of another."""
    free, number = name, 0
    with suppress(FileNotFoundError):
        while os.stat(free, dir_fd=folder, follow_symlinks=False):
            number += 1
            free = f"{name}.{number}"
    return free


def _opened(path: str) -> BinaryIO:
    """The file itself: no link is followed and no pipe waited for."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        raise BadFile("a directory")
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadFile("a symbolic link") from None
        raise


def _check(found: os.stat_result) -> None:
    """Only what one user wrote as a plain file of its own, and nobody else can change, speaks for that user."""
    if not stat.S_ISREG(found.st_mode):
        raise BadFile("not a regular file")
    if found.st_nlink != 1:
        raise BadFile("has other names")
    if found.st_mode & 0o022:
        raise BadFile("can be written by others than its owner")


def _judge(replies: bytes) -> None:
    """All replies must be good: a recipient that is refused here would be lost without a report."""
    for line in replies.splitlines():
        if line.startswith(b"5"):
            raise BadFile(line.decode("utf-8", "replace"), peer_reply(int(line[:3]), [line[4:]], "", "final"))
        if line.startswith(b"4"):
            raise Later
