"""The daemon's footing: its log, its directories, its privileges, and the service manager.

sd_listen_fds(3), sd_notify(3). Without a service manager the calls that talk to one do nothing.
"""

import asyncio
import contextlib
import os
import pwd
import resource
import socket
import stat
import threading
import time
from collections.abc import Mapping

from mtad.config import Paths
from mtad.config.places import SERVICE_USER
from mtad.mail.envelope import Clock

LISTEN_FDS_START = 3
FILES_MAX = 65536
MAILDROP_MODE = (
    0o3733  # anyone may put a mail in, nobody else may list it or take one out; setgid, so that we may read it
)


class LogWriter:
    """Lines to a file descriptor: one write per turn of the loop, however many lines came up in it.

    Each begins with the local time, but for the journal, which notes it itself.
    """

    def __init__(self, fd: int, clock: Clock, environ: Mapping[str, str] | None = None) -> None:
        self._fd = fd
        self._clock = None if (os.environ if environ is None else environ).get("JOURNAL_STREAM") else clock
        self._second = (-1, "")  # the current one, and how its lines begin
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0  # that of the loop

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Gather lines for this loop, which runs in this thread; None: write each at once."""
        self._loop = loop
        self._thread = threading.get_ident()

    def __call__(self, line: str) -> None:
        self._lines.append(self._lead() + line)
        if self._loop is None:
            self.flush()
        elif len(self._lines) == 1:
            here = threading.get_ident() == self._thread
            (self._loop.call_soon if here else self._loop.call_soon_threadsafe)(self.flush)

    def _lead(self) -> str:
        if self._clock is None:
            return ""
        second = int(self._clock())
        if second != self._second[0]:
            self._second = second, time.strftime("%Y-%m-%dT%H:%M:%S%z ", time.localtime(second))
        return self._second[1]

    def flush(self) -> None:
        octets = "".join([f"{line}\n" for line in self._lines]).encode("utf-8", "backslashreplace")
        self._lines.clear()
        with contextlib.suppress(OSError):  # a log that cannot be written must not stop the mail
            while octets:
                octets = octets[os.write(self._fd, octets) :]


def make_directories(paths: Paths) -> None:
    """Make what is missing. Refuses, with an OSError, a data directory that others could change."""
    uid, gid = _service_ids(paths)
    for path, mode in (
        (paths.data, 0o711),
        (paths.spool, 0o700),
        (paths.dkim, 0o700),
        (paths.maildrop, MAILDROP_MODE),
        (paths.run, 0o755),
    ):
        made = not os.path.isdir(path)
        if made:
            os.makedirs(path, exist_ok=True)
        if uid >= 0 and os.stat(path).st_uid == 0:
            os.chown(path, uid, gid)
        if made:
            try:
                os.chmod(path, mode)
            except PermissionError:  # RestrictSUIDSGID= of the unit, where tmpfiles.d did not make it
                os.chmod(path, mode & ~stat.S_ISGID)
    found = os.stat(paths.data)
    if found.st_mode & stat.S_IWOTH:
        raise PermissionError(0, f"{paths.data} can be written by everyone: chmod o-w {paths.data}")
    if found.st_uid not in {os.geteuid(), uid, 0}:
        raise PermissionError(0, f"{paths.data} belongs to another user: chown it to the user that runs mtad")


def raise_limits() -> None:
    """As many open files as we may have: each connection is one, and the usual first limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def drops_privileges(paths: Paths) -> bool:
    """Whether `drop_privileges` will do anything: started as root, for the system's places, and there is the user."""
    return _service_ids(paths)[0] >= 0


def drop_privileges(paths: Paths) -> None:
    """Become the service user, if need be. Before anything is written: what lies in `data` must be the user's own."""
    uid, gid = _service_ids(paths)
    if uid < 0:
        return
    os.initgroups(SERVICE_USER, gid)
    os.setgid(gid)
    os.setuid(uid)


def _service_ids(paths: Paths) -> tuple[int, int]:
    """Whom to become, (-1, -1) for nobody: not root, another root directory, or no such user."""
    if os.geteuid() != 0 or not paths.data.startswith("/var/lib/"):
        return -1, -1
    try:
        entry = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return -1, -1
    return entry.pw_uid, entry.pw_gid


def take_sockets(environ: Mapping[str, str] | None = None) -> dict[str, list[socket.socket]]:
    """The sockets passed to this process, by FileDescriptorName=. Empty when they are meant for another process."""
    env = os.environ if environ is None else environ
    if env.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(env.get("LISTEN_FDS", "0"))
    names = env.get("LISTEN_FDNAMES", "").split(":")
    passed: dict[str, list[socket.socket]] = {}
    for index in range(count):
        fd = LISTEN_FDS_START + index
        os.set_inheritable(fd, False)
        name = names[index] if index < len(names) else "unknown"
        passed.setdefault(name, []).append(socket.socket(fileno=fd))
    return passed


def notify(state: str, environ: Mapping[str, str] | None = None) -> None:
    """Tell the service manager, e.g. "READY=1". Best effort: a manager that is gone must not stop the mail."""
    env = os.environ if environ is None else environ
    path = env.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        s.sendto(state.encode(), address)


def notify_reloading() -> None:
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval_s(environ: Mapping[str, str] | None = None) -> float:
    """How often to ping, half of what the manager allows; 0 = it does not watch."""
    env = os.environ if environ is None else environ
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(env.get("WATCHDOG_USEC", "0")) / 2e6
