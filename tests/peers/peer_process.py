"""Programs of the system as peers: own processes, own directories, loopback, high ports; stopped by their id."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

READY_S = 20.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SEARCH_PATH = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"


def program(name: str) -> str:
    """The path of an installed program, "" where there is none. Looks into sbin too."""
    return (
        shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}:/usr/lib/dovecot:/usr/lib/postfix/sbin")
        or ""
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_parents(path: Path) -> None:
    """Let other users pass through our directories down to `path`."""
    for directory in (path, *path.parents):
        if directory.stat().st_uid == os.getuid() and str(directory) not in ("/", "/tmp", "/var", "/var/tmp", "/root"):
            directory.chmod(directory.stat().st_mode | 0o011)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_for(what: str, check: Callable[[], object], timeout_s: float = READY_S) -> None:
    """Until `check` is true. AssertionError with `what` when it never is."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s: {what}"
        time.sleep(0.02)


class Process:
    """A program in the foreground, with its output in a file."""

    def __init__(
        self, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, new_group: bool = True
    ) -> None:
        self.command = list(command)
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=new_group,
                env=None if env is None else {"PATH": SYSTEM_PATH, **env},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def ready(self, what: str, check: Callable[[], object], timeout_s: float = READY_S) -> None:
        """Until it is; AssertionError with its output when it ended before."""

        def check_alive() -> object:
            assert self.returncode is None, f"{self.command[0]} ended with {self.returncode}:\n{self.output()}"
            return check()

        try:
            wait_for(what, check_alive, timeout_s)
        except AssertionError:
            self.stop()
            print(self.output())
            raise

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """As a crash would: SIGKILL, no last words."""
        self._process.kill()
        self._process.wait(10)

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM, then SIGKILL. Its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait(10)
