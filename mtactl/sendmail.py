"""sendmail(1), mailq(1) and newaliases(1) by the name they are called.

A mail goes to the daemon as SMTP over `submit.sock`; who submits is what the kernel says. While the daemon is down it
waits as a file in `maildrop/`. Exit 0: it is on stable storage. Exit 75: nothing is stored and a retry is safe; with
one exception: a daemon that died between the final dot and its reply may hold the mail, and standard error says so.

This is the start-up path of every program that mails: it imports nothing of the standard library but C modules that
the bare interpreter has, and everything rare late.
"""

import _socket
import posix
import sys

from mtactl.submit.options import EX_USAGE, Options, UsageError, parse
from mtactl.submit.text import Lines, Wire, field_name, head_and_body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

EX_DATAERR, EX_NOUSER, EX_NOHOST, EX_UNAVAILABLE, EX_SOFTWARE = 65, 67, 68, 69, 70
EX_TEMPFAIL, EX_NOPERM = 75, 77

CHUNK = 64 * 1024
HELD = 1024 * 1024  # octets read before the daemon is asked: what fits can be replayed. Also the limit of a header
RECIPIENTS_MAX = 10_000  # what the daemon takes from a program of its host (inbound.host)
GROUP = 32 * 1024  # octets of commands in flight: less than a socket buffer, so that neither side can block the other
REPLY_MAX = 64 * 1024
COMMAND_S = 120.0
FINAL_S = 600.0  # RFC 5321 4.5.3.2.6
DOWN = (2, 11, 104, 110, 111, 32)  # ENOENT EAGAIN ECONNRESET ETIMEDOUT ECONNREFUSED EPIPE: nobody answers


class Failure(Exception):  # noqa: N818  (an outcome, with its exit code)
    """The mail was not taken, or not for everyone."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Down(Exception):  # noqa: N818
    """The daemon did not take responsibility: nothing is stored there, and the mail may go elsewhere."""


def main(argv: list[str]) -> int:
    """Run one command. Returns the exit code; never raises."""
    try:
        options = parse(argv)
        for warning in options.warnings:
            say(warning)
        if options.mode == "send":
            return send(options)
        if options.mode == "nothing":
            return 0
        from mtactl.submit import queue

        return queue.run(options, Places())
    except UsageError as error:
        say(str(error))
        return EX_USAGE
    except Failure as failure:
        say(failure.text)
        return failure.code
    except KeyboardInterrupt:
        say("interrupted: nothing was stored")
        return EX_TEMPFAIL
    except BaseException as error:  # noqa: BLE001  (a traceback would exit 1, which callers take for "lost")
        say(f"internal error, nothing was stored: {type(error).__name__}: {error}")
        return EX_TEMPFAIL


def say(text: str, name: str = "sendmail") -> None:
    """One line on standard error, without controls; nowhere when it was closed (a socket may have its number)."""
    if sys.__stderr__ is not None:
        line = "".join(c if c.isprintable() else "?" for c in text[:500])
        try:
            posix.write(2, f"{name}: {line}\n".encode("utf-8", "replace"))
        except OSError:
            return


class Places:
    """Where the daemon is: `submit`, `control` sockets and `maildrop`; "" = unknown."""

    __slots__ = ("control", "maildrop", "root", "submit")

    def __init__(self) -> None:
        environ = posix.environ
        self.root = _text(environ.get(b"MTA_ROOT", b""))
        if self.root:
            run, data = f"{self.root}/run", f"{self.root}/data"
        else:
            run, data = "/run/mtad", "/var/lib/mtad"
            if posix.getuid() and not _exists(run) and not _exists(data):  # no system-wide daemon: the user's own
                state = _text(environ.get(b"XDG_STATE_HOME", b"")) or f"{_text(environ.get(b'HOME', b''))}/.local/state"
                runtime = _text(environ.get(b"XDG_RUNTIME_DIR", b""))
                data = f"{state}/mtad"
                run = f"{runtime}/mtad" if runtime else f"{data}/run"
        self.submit = f"{run}/submit.sock"
        self.control = f"{run}/control.sock"
        self.maildrop = f"{data}/maildrop"
        socket = _text(environ.get(b"MTA_SOCKET", b""))
        if socket:
            self.submit = socket
            if not self.root:  # whose maildrop it would be is unknown
                self.maildrop = ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


# -- one mail ----------------------------------------------------------------------------------------------------------


def send(options: Options) -> int:
    """Submit the mail on standard input."""
    if not options.recipients and not options.scan_headers:
        raise Failure(EX_USAGE, "no recipients: name them as arguments, or say -t to take them from the header")
    lines = Lines(dots=not options.ignore_dots)
    text = _read(lines, HELD)
    fields, body, ended = head_and_body(text)
    ended = ended or lines.done
    if not ended:
        if options.scan_headers:
            raise Failure(EX_DATAERR, f"the header is larger than {HELD} octets")
        fields, body = [text], b""  # no header of any mail program: the daemon judges it
    named = [(field_name(field), field) for field in fields]

    asked: list[str] = []
    if options.scan_headers:
        from mtactl.submit.header import recipients

        asked += recipients(named)
    for word in options.recipients:
        asked += _listed(word) if word.isprintable() else [word]
    good: list[str] = []
    bad = 0
    for word in dict.fromkeys(asked):
        if word and word.isprintable():
            good.append(word)
        else:
            say(f"no address: {word!r}")
            bad = EX_DATAERR
    if not good:
        if bad:
            return bad
        raise Failure(EX_USAGE, "no recipients in the header")
    if len(good) > RECIPIENTS_MAX:
        raise Failure(EX_USAGE, f"{len(good)} recipients: one mail takes {RECIPIENTS_MAX} at most")

    sender = _sender(options)
    start = b"".join(fields)
    if ended:
        if not options.gateway and all(name != b"from" for name, _ in named):
            start = _from(options, sender) + start
        start += b"\n" + body
    wire = Wire()
    mail = Mail(options, sender, good, wire.feed(start), _rest(lines, wire), whole=lines.done)
    code = mail.submit(Places())
    return code or bad


def _read(lines: Lines, limit: int) -> bytes:
    """Standard input as LF lines, until its end or at least `limit` octets."""
    parts: list[bytes] = []
    size = 0
    while size < limit and not lines.done:
        try:
            chunk = posix.read(0, CHUNK)
        except OSError as error:
            raise Failure(EX_DATAERR, f"cannot read the mail: {error.strerror}") from None
        part = lines.feed(chunk) if chunk else lines.end()
        if lines.lone_dot:
            _let_writer_finish()
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _rest(lines: Lines, wire: Wire) -> "Iterator[bytes]":
    """What follows the part that was read, for the wire."""
    while not lines.done:
        yield wire.feed(_read(lines, CHUNK))


def _let_writer_finish() -> None:
    """After the lone dot: take what is already in the pipe, so that the writer is not killed by SIGPIPE. Never wait."""
    import select

    for _ in range(64):
        if not select.select([0], [], [], 0)[0] or not posix.read(0, CHUNK):
            return


def _plain(word: str) -> bool:
    """An argument that is one bare address, as nearly all are."""
    return not any(c in word for c in ' \t,<>()":;\\')


def _listed(word: str) -> "list[str]":
    """The addresses of an argument, which may be a list."""
    if _plain(word):
        return [word]
    from mtactl.submit.header import listed

    return listed(word)


def _sender(options: Options) -> str:
    """The envelope sender; "" is the null sender. Without -f: the login, which the daemon completes."""
    if options.sender is None:
        return _passwd()[0]
    if not options.sender.isprintable():
        raise UsageError("-f holds control characters")
    if options.sender in ("", "<>"):
        return ""
    found = _listed(options.sender)
    if len(found) != 1:
        raise UsageError(f"-f {options.sender!r} is no single address")
    return found[0]


def _passwd() -> "list[str]":
    """Login and full name of the caller; a uid without an entry (containers) has a made-up login."""
    import pwd

    try:
        entry = pwd.getpwuid(posix.getuid())
    except KeyError:
        return [f"uid{posix.getuid()}", ""]
    return [entry.pw_name, entry.pw_gecos]


def _from(options: Options, sender: str) -> bytes:
    from mtactl.submit.header import from_field, full_name

    login, gecos = _passwd()
    name = options.full_name or _text(posix.environ.get(b"NAME", b"")) or full_name(gecos, login)
    return from_field(name, sender or login)


class Mail:
    """One mail with its envelope, ready to go."""

    __slots__ = ("first", "mail", "options", "rcpts", "recipients", "refused", "rest", "whole")

    def __init__(
        self,
        options: Options,
        sender: str,
        recipients: "list[str]",
        first: bytes,
        rest: "Iterator[bytes]",
        *,
        whole: bool,
    ) -> None:
        self.options = options
        self.recipients = recipients
        self.first = first  # the wire form, all of it when `whole`
        self.rest = rest
        self.whole = whole
        self.refused = 0  # exit code of the first recipient that was refused for good
        params = ""
        if whole:
            params += f" SIZE={len(first)}"
        body = options.body or ("" if whole and first.isascii() else "8BITMIME")
        if body:
            params += f" BODY={body}"
        if options.smtputf8 or not sender.isascii() or not all(word.isascii() for word in recipients):
            params += " SMTPUTF8"
        if options.ret:
            params += f" RET={options.ret}"
        if options.envid:
            params += f" ENVID={_xtext(options.envid)}"
        if options.requiretls:
            params += " REQUIRETLS"
        notify = f" NOTIFY={options.notify}" if options.notify else ""
        self.mail = f"MAIL FROM:<{sender}>{params}\r\n".encode("utf-8", "surrogateescape")
        self.rcpts = [f"RCPT TO:<{word}>{notify}\r\n".encode("utf-8", "surrogateescape") for word in recipients]

    def submit(self, places: Places) -> int:
        """To the daemon, or into the maildrop. The exit code."""
        try:
            return self._to_daemon(places.submit)
        except Down as down:
            if posix.environ.get(b"MTA_SENDMAIL_STRICT", b"") == b"1":
                raise Failure(EX_TEMPFAIL, f"{down}; nothing was stored (MTA_SENDMAIL_STRICT)") from None
            if not places.maildrop:
                raise Failure(
                    EX_TEMPFAIL, f"{down}; no maildrop is known for this socket, nothing was stored"
                ) from None
            from mtactl.submit import maildrop

            if places.root:
                maildrop.prepare(places.root)
            try:
                maildrop.store(places.maildrop, self._recorded())
            except OSError as error:
                raise Failure(
                    EX_TEMPFAIL, f"{down}; nor can it wait in {places.maildrop}: {error.strerror}; nothing was stored"
                ) from None
            maildrop.nudge(places.control)
            return 0

    def _recorded(self) -> "Iterator[bytes]":
        yield self.mail + b"".join(self.rcpts) + b"DATA\r\n" + self.first
        yield from self.rest
        yield b".\r\n"

    def _to_daemon(self, path: str) -> int:
        try:
            link = Link(path, self.options.verbose)
        except OSError as error:
            if error.errno in DOWN:
                raise Down(f"the daemon does not answer at {path} ({error.strerror})") from None
            code = EX_NOPERM if isinstance(error, PermissionError) else EX_TEMPFAIL
            raise Failure(code, f"{path}: {error.strerror}") from None
        try:
            self._envelope(link)
            link.send(self.first)
        except OSError as error:
            link.raise_verdict()
            raise Down(f"the daemon broke off ({error.strerror})") from None
        try:
            for chunk in self.rest:
                link.send(chunk)
        except OSError as error:
            link.raise_verdict()
            raise Failure(EX_TEMPFAIL, f"the daemon broke off ({error.strerror}); nothing was stored") from None
        return self._finish(link)

    def _envelope(self, link: "Link") -> None:
        """Everything up to the 354. One temporary refusal refuses all: 75 must mean that nothing is stored."""
        at = size = 0
        commands = [b"EHLO localhost\r\n", self.mail]
        awaited = ["connect", "ehlo", "mail"]
        rcpts = [*self.rcpts, b"DATA\r\n"]
        accepted = 0
        for n, command in enumerate(rcpts):
            commands.append(command)
            awaited.append("rcpt" if n < len(self.rcpts) else "data")
            size += len(command)
            if size < GROUP and n < len(self.rcpts):
                continue
            link.send(b"".join(commands))
            for stage in awaited:
                code, text = link.reply()
                if stage in ("connect", "ehlo"):
                    if code // 100 != 2:
                        raise Down(f"the daemon said {text}")
                elif stage == "mail":
                    if code // 100 != 2:
                        raise Failure(exit_code(code, text), f"sender refused: {text}")
                elif stage == "rcpt":
                    accepted += self._recipient(self.recipients[at], code, text)
                    at += 1
                elif not accepted:
                    raise Failure(self.refused or EX_UNAVAILABLE, "no recipient was accepted; nothing was stored")
                elif code != 354:
                    raise Failure(exit_code(code, text), f"the mail was refused: {text}")
            commands, awaited, size = [], [], 0

    def _recipient(self, recipient: str, code: int, text: str) -> int:
        if code // 100 == 2:
            return 1
        if code // 100 != 5:
            raise Failure(EX_TEMPFAIL, f"{recipient}: {text}; nothing was stored")
        say(f"{recipient}: {text}")
        self.refused = self.refused or exit_code(code, text)
        return 0

    def _finish(self, link: "Link") -> int:
        """The final dot. After it, only a reply tells what became of the mail."""
        try:
            try:
                link.send(b".\r\nQUIT\r\n")
            except OSError as error:
                if link.unsent <= len(b"QUIT\r\n"):
                    raise
                link.raise_verdict()
                if self.whole:
                    raise Down(f"the daemon broke off ({error.strerror})") from None
                raise Failure(EX_TEMPFAIL, f"the daemon broke off ({error.strerror}); nothing was stored") from None
            link.patience(FINAL_S)
            code, text = link.reply()
        except OSError as error:
            raise Failure(
                EX_TEMPFAIL,
                f"the daemon broke off after the final dot ({error.strerror}): a retry may double the mail",
            ) from None
        if code // 100 != 2:
            raise Failure(exit_code(code, text), f"the mail was refused: {text}")
        return self.refused


class Link:
    """A connection to the daemon."""

    __slots__ = ("_buffer", "_socket", "_verbose", "unsent")

    def __init__(self, path: str, verbose: bool) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(COMMAND_S)
        self._socket.connect(path)
        self._buffer = b""
        self._verbose = verbose
        self.unsent = 0  # octets of the last `send` that did not leave

    def patience(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def send(self, data: bytes) -> int:
        """Everything, or OSError, and then `unsent` says how much did not go."""
        view = memoryview(data)
        self.unsent = len(view)
        while view:
            view = view[self._socket.send(view) :]
            self.unsent = len(view)
        return len(data)

    def raise_verdict(self) -> None:
        """The peer is gone. If its last words were a refusal for good, that is the outcome."""
        try:
            code, text = self.reply()
        except OSError:
            return
        if code // 100 == 5:
            raise Failure(exit_code(code, text), f"the mail was refused: {text}")

    def reply(self) -> tuple[int, str]:
        """The next reply: its code, and its whole text in one line. ConnectionResetError when there is none."""
        words: list[str] = []
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if not found:
                chunk = self._socket.recv(CHUNK)
                if not chunk or len(self._buffer) > REPLY_MAX:
                    raise ConnectionResetError(104, "connection closed")
                self._buffer += chunk
                continue
            self._buffer = rest
            text = line.rstrip(b"\r").decode("utf-8", "replace")
            if self._verbose:
                say(f"<<< {text}")
            words.append(text if not words else text[4:])
            if text[3:4] != "-" or len(words) > 100:
                code = text[:3]
                return (int(code) if code.isascii() and code.isdigit() else 0), " ".join(words)


def exit_code(code: int, text: str) -> int:
    """sysexits for a reply: temporary and unknown 75; for good by its enhanced status."""
    if code // 100 != 5:
        return EX_TEMPFAIL
    status = text[4:].partition(" ")[0]
    if status in ("5.1.2", "5.1.10"):
        return EX_NOHOST
    if status in ("5.1.1", "5.1.6", "5.2.1"):
        return EX_NOUSER
    if status.startswith("5.7."):
        return EX_NOPERM
    if status.startswith(("5.1.", "5.5.", "5.6.", "5.3.4")):
        return EX_DATAERR
    return EX_UNAVAILABLE


def _xtext(value: str) -> str:
    """RFC 3461 4: "+", "=" and what is not visible ASCII as +HH."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in value)
