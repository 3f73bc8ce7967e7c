"""What the service manager gives and wants: sockets, readiness, the watchdog (sd_listen_fds(3), sd_notify(3)).

Without a service manager every call here does nothing.
"""

import os
import socket
import time
from collections.abc import Mapping

LISTEN_FDS_START = 3


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
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            s.sendto(state.encode(), address)
    except OSError:
        pass


def notify_reloading() -> None:
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval_s(environ: Mapping[str, str] | None = None) -> float:
    """How often to ping, half of what the manager allows; 0 = it does not watch."""
    env = os.environ if environ is None else environ
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(env.get("WATCHDOG_USEC", "0")) / 2e6
