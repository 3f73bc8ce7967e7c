"""What all of the submit command shares: exit codes, its outcomes, where the daemon is, and what it says."""

import posix
import sys

EX_USAGE, EX_DATAERR, EX_NOUSER, EX_NOHOST, EX_UNAVAILABLE, EX_SOFTWARE = 64, 65, 67, 68, 69, 70
EX_TEMPFAIL, EX_NOPERM = 75, 77

CHUNK = 64 * 1024


class Failure(Exception):  # noqa: N818  (an outcome, with its exit code)
    """The mail was not taken, or not for everyone."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Down(Exception):  # noqa: N818
    """The daemon did not take responsibility: nothing is stored there, and the mail may go elsewhere."""


class Voice:
    """Standard error. `said` keeps what went wrong, for a report by mail; `quiet` is -oeq."""

    __slots__ = ("name", "quiet", "said")

    def __init__(self, name: str = "sendmail") -> None:
        self.name = name
        self.quiet = False
        self.said: list[str] = []

    def error(self, text: str) -> None:
        """Something that went wrong."""
        self.said.append(_shown(text))
        if not self.quiet:
            self.note(text)

    def note(self, text: str) -> None:
        """One line without controls; nowhere when standard error was closed (a socket may have its number)."""
        if sys.__stderr__ is not None:
            try:
                posix.write(2, f"{self.name}: {_shown(text)}\n".encode("utf-8", "replace"))
            except OSError:
                return


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:500])


class Places:
    """Where the daemon is: `submit`, `control` sockets and `maildrop`; "" = unknown."""

    __slots__ = ("control", "maildrop", "root", "submit")

    def __init__(self) -> None:
        environ = posix.environ
        self.root = text(environ.get(b"MTA_ROOT", b""))
        if self.root:
            run, data = f"{self.root}/run", f"{self.root}/data"
        else:
            run, data = "/run/mtad", "/var/lib/mtad"
            if posix.getuid() and not _exists(run) and not _exists(data):  # no system-wide daemon: the user's own
                state = text(environ.get(b"XDG_STATE_HOME", b"")) or f"{text(environ.get(b'HOME', b''))}/.local/state"
                runtime = text(environ.get(b"XDG_RUNTIME_DIR", b""))
                data = f"{state}/mtad"
                run = f"{runtime}/mtad" if runtime else f"{data}/run"
        self.submit = f"{run}/submit.sock"
        self.control = f"{run}/control.sock"
        self.maildrop = f"{data}/maildrop"
        socket = text(environ.get(b"MTA_SOCKET", b""))
        if socket:
            self.submit = socket
            if not self.root:  # whose maildrop it would be is unknown
                self.maildrop = ""


def text(value: bytes) -> str:
    """Octets of the system as text, whatever they are."""
    return value.decode("utf-8", "surrogateescape")


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def passwd() -> "list[str]":
    """Login and full name of the caller; a uid without an entry (containers) has a made-up login."""
    import pwd

    try:
        entry = pwd.getpwuid(posix.getuid())
    except KeyError:
        return [f"uid{posix.getuid()}", ""]
    return [entry.pw_name, entry.pw_gecos]
