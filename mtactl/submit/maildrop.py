"""Mail that waits as a file while the daemon is down. Durable when `store` returned; the daemon picks it up.

A file is what an SMTP client would send: MAIL, RCPT lines, DATA, the dot-stuffed text, the final dot. It appears under
its name (`<unix seconds>.<pid>.<random>.mail`) only when it is complete and on stable storage.
"""

import _socket
import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

S_ISGID = 0o2000


def prepare(root: str) -> None:
    """Make the maildrop below a root of one's own that no daemon has run in yet. Never for the system's."""
    for path, mode in ((f"{root}/data", 0o750), (f"{root}/data/maildrop", 0o700)):
        try:
            posix.mkdir(path, mode)
        except OSError:
            continue  # it is there, or `store` will say why it cannot be


class File:
    """A file as it lies there: what the id of its message follows from."""

    __slots__ = ("inode", "mtime", "mtime_ns", "name")

    def __init__(self, name: str, found: posix.stat_result) -> None:
        self.name = name
        self.inode = found.st_ino
        self.mtime = found.st_mtime
        self.mtime_ns = found.st_mtime_ns


def store(directory: str, chunks: "Iterable[bytes]") -> File:
    """Write one file, fsync it, name it, fsync the directory. OSError: nothing is left behind."""
    pid, token = posix.getpid(), posix.urandom(8).hex()
    hidden = f"{directory}/.{pid}.{token}.tmp"
    name = f"{directory}/{int(time.time())}.{pid}.{token}.mail"
    fd = posix.open(hidden, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC, 0o600)
    try:
        try:
            for chunk in chunks:
                _write(fd, chunk)
            place = posix.stat(directory)
            if place.st_mode & S_ISGID and posix.fstat(fd).st_gid == place.st_gid:
                posix.fchmod(fd, 0o640)  # the directory's group is the daemon's: how it may read another user's file
            posix.fsync(fd)
            file = File(name.rpartition("/")[2], posix.fstat(fd))
        finally:
            posix.close(fd)
        posix.rename(hidden, name)
    except BaseException:
        posix.unlink(hidden)
        raise
    try:
        _sync_directory(directory)
    except OSError:
        # Never both stored and failed: take it back, unless the daemon was faster, and then it is stored.
        try:
            posix.unlink(name)
        except FileNotFoundError:
            return file
        raise
    return file


def nudge(control: str) -> None:
    """Tell a daemon that came up in between to look now. Nobody there: it looks when it starts."""
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        link.settimeout(1.0)
        link.connect(control)
        link.sendall(b'{"method":"io.mtad.MaildropDrain","oneway":true}\0')
    except OSError:
        return
    finally:
        link.close()


def _sync_directory(directory: str) -> None:
    """fsync the directory; in one that others may only write to and enter (1733), which cannot be opened, sync all."""
    try:
        fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except PermissionError:
        posix.sync()
        return
    try:
        posix.fsync(fd)
    finally:
        posix.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[posix.write(fd, view) :]
