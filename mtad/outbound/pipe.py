"""Delivery into a program: an argv of the operator's, no shell, the mail on its standard input.

What a stranger wrote reaches the program in its arguments and in the mail, never in its environment.
"""

import asyncio
import grp
import os
import pwd
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import IO, Any

from mtad.mail.address import split
from mtad.mail.envelope import Content, Message, Recipient
from mtad.mail.reply import LOCAL_ERROR, Reply
from mtad.mail.text import clean
from mtad.outbound.local import octets_of
from mtad.outbound.route import Pipe

PROGRAMS_MAX = 8  # at the same time
OUTPUT_MAX = 4096  # octets that are kept of what it says
SHOWN_MAX = 200  # characters of it in a reply
PATH = "/usr/local/bin:/usr/bin:/bin"

DELIVERED = Reply(250, "2.0.0", "Delivered to the program", stage="final")
_NOT_SET_UP = Reply(451, "4.3.5", "The program cannot be run now", stage="final")
_BAD_NAME = Reply(550, "5.1.3", "No such mailbox", stage="final")

# What sysexits(3) says of the mail or its recipient. Everything else may be different tomorrow.
_FINAL = {
    65: (554, "5.6.0", "The program does not take this mail"),  # EX_DATAERR
    67: (550, "5.1.1", "The program knows no such recipient"),  # EX_NOUSER
    68: (550, "5.1.2", "The program knows no such host"),  # EX_NOHOST
    69: (554, "5.3.0", "The program refuses the mail"),  # EX_UNAVAILABLE
    76: (554, "5.5.0", "The program refuses the mail"),  # EX_PROTOCOL
    77: (550, "5.7.1", "The program does not permit it"),  # EX_NOPERM
}


@dataclass(frozen=True, slots=True)
class Account:
    """Who a program runs as."""

    name: str
    uid: int
    gid: int
    home: str


class Programs:
    """Runs programs in threads of its own, a bounded number at a time."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(PROGRAMS_MAX, "pipe")

    async def deliver(self, plan: Pipe, recipient: Recipient, message: Message, content: Content) -> Reply:
        """The program's verdict. Cancelled, the program is killed and what it said until then is the outcome."""
        argv = words(plan.command, recipient.address)
        if argv is None:
            return _BAD_NAME
        run = _Run(argv, plan.run_as, plan.timeout_s)
        running = asyncio.get_running_loop().run_in_executor(
            self._executor, run, octets_of(message, recipient, content)
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            run.kill()
            await asyncio.wait([running])
            return running.result()

    def close(self) -> None:
        self._executor.shutdown(wait=False)


def words(command: Sequence[str], address: str) -> list[str] | None:
    """The argv for a recipient: %u its local part, %d its domain. None when a word that begins with its name would be
    read as an option."""
    local, domain = split(address)
    parts = {"%u": local, "%d": domain, "%%": "%"}
    argv = [command[0]]
    for word in command[1:]:
        made, rest = "", word
        while rest:
            before, percent, rest = rest.partition("%")
            made += before
            if percent:
                made += parts.get("%" + rest[:1], "")
                rest = rest[1:]
        if made.startswith("-") and not word.startswith("-"):
            return None
        argv.append(made)
    return argv


def verdict(code: int, said: str, program: str) -> Reply:
    """The reply for an exit code (sysexits(3)), or minus the signal that ended it."""
    if code == 0:
        return DELIVERED
    cause = f"{program}: {f'signal {-code}' if code < 0 else f'exit {code}'}{f': {said}' if said else ''}"
    final = _FINAL.get(code)
    if final is None:
        return LOCAL_ERROR.because(cause)
    number, status, text = final
    return Reply(number, status, f"{text}: {said}" if said else text, "", "final", cause)


def account(run_as: str) -> Account | None:
    """The account of "user" or "user:group"; None for "", the daemon's own. Raises KeyError."""
    if not run_as:
        return None
    name, _, group = run_as.partition(":")
    found = pwd.getpwnam(name)
    return Account(name, found.pw_uid, grp.getgrnam(group).gr_gid if group else found.pw_gid, found.pw_dir)


class _Run:
    """One run, in a thread; `kill` may come from another.

    The id of a process that was waited for may be another's a moment later. So nobody signals a group but with the
    lock held and its leader not yet waited for, and nobody waits for the leader without the lock.
    """

    def __init__(self, argv: Sequence[str], run_as: str, timeout_s: float) -> None:
        self._argv = argv
        self._run_as = run_as
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # held briefly: for a signal, or to wait for what has ended
        self._killed = False

    def __call__(self, octets: Iterator[bytes]) -> Reply:
        program = self._argv[0]
        try:
            # A file, so that a program may leave it unread without anybody waiting for it.
            with tempfile.TemporaryFile(prefix="mtad-pipe-") as mail:
                mail.writelines(octets)
                mail.seek(0)
                self._start(mail)
                said = self._listen()
        except KeyError as error:
            return _NOT_SET_UP.because(f"run_as: {error.args[0] if error.args else self._run_as}")
        except PermissionError as error:
            return _NOT_SET_UP.because(f"{program}: {error.strerror} (run_as {self._run_as or 'nobody'})")
        except (OSError, ValueError) as error:
            return _NOT_SET_UP.because(f"{program}: {error}")
        code = self._ended()
        if self._killed and code < 0:
            return LOCAL_ERROR.because(f"{program}: killed after {self._timeout_s:g} s, or at the end of the daemon")
        return verdict(code, said, program)

    def kill(self) -> None:
        """End it with all that it started; as soon as it is there, if it is only about to begin."""
        with self._lock:
            self._killed = True
            self._end()

    def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _ended(self) -> int:
        """Its exit code, when it has ended."""
        process = self._process
        assert process is not None
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its id stays its own
        with self._lock:
            return process.wait()

    def _start(self, mail: IO[bytes]) -> None:
        who = account(self._run_as)
        options: dict[str, Any] = {}
        if who is not None and who.uid != os.geteuid():
            options = {"user": who.uid, "group": who.gid, "extra_groups": ()}
        elif who is None and os.geteuid() == 0:
            raise PermissionError(1, "no program is run as root: set run_as")
        environment = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": who.home if who else "/"}
        if who is not None:
            environment |= {"USER": who.name, "LOGNAME": who.name}
        if self._killed:
            raise OSError("given up before it began")
        process = subprocess.Popen(
            [os.fsencode(word) for word in self._argv],
            stdin=mail,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
            start_new_session=True,
            umask=0o077,
            **options,
        )
        self._begun(process)

    def _begun(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._process = process
            if self._killed:
                self._end()

    def _listen(self) -> str:
        """The beginning of what it says, until it ended or its time is over. A child that it left behind with our pipe
        is not waited for."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        deadline = time.monotonic() + self._timeout_s
        kept = b""
        with closing(process.stdout) as out, selectors.DefaultSelector() as selector:
            ended = os.pidfd_open(process.pid)
            try:
                os.set_blocking(out.fileno(), False)
                selector.register(out, selectors.EVENT_READ)
                selector.register(ended, selectors.EVENT_READ)
                over = False
                while not over:
                    left_s = deadline - time.monotonic()
                    ready = {key.fd for key, _ in selector.select(max(left_s, 0))}
                    if not ready:
                        self.kill()
                        break
                    over = ended in ready
                    if out.fileno() in ready:
                        octets = out.read(65536)
                        if octets == b"":
                            selector.unregister(out)
                        kept += (octets or b"")[: OUTPUT_MAX - len(kept)]
            finally:
                os.close(ended)
        return clean(" ".join(kept.decode("utf-8", "replace").split()), SHOWN_MAX)
