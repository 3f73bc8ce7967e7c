"""The client's side of SMTP to `submit.sock`: one connection, one mail."""

import _socket

from mtactl.submit.base import (
    CHUNK,
    EX_DATAERR,
    EX_NOHOST,
    EX_NOPERM,
    EX_NOUSER,
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    Down,
    Failure,
    Voice,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mtactl.submit.mail import Mail

GROUP = 32 * 1024  # octets of commands in flight: less than a socket buffer, so that neither side can block the other
REPLY_MAX = 64 * 1024
COMMAND_S = 120.0
FINAL_S = 600.0  # RFC 5321 4.5.3.2.6
DOWN = (2, 11, 104, 110, 111, 32)  # ENOENT EAGAIN ECONNRESET ETIMEDOUT ECONNREFUSED EPIPE: nobody answers


class Link:
    """A connection to the daemon."""

    __slots__ = ("_buffer", "_socket", "_verbose", "_voice", "unsent")

    def __init__(self, path: str, voice: Voice, *, verbose: bool = False) -> None:
        """Down when nobody answers, Failure when it may not be asked."""
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(COMMAND_S)
        self._buffer = b""
        self._voice = voice
        self._verbose = verbose
        self.unsent = 0  # octets of the last `send` that did not leave
        try:
            self._socket.connect(path)
        except OSError as error:
            if error.errno in DOWN:
                raise Down(f"the daemon does not answer at {path} ({error.strerror})") from None
            code = EX_NOPERM if isinstance(error, PermissionError) else EX_TEMPFAIL
            raise Failure(code, f"{path}: {error.strerror or error}") from None

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
                self._voice.note(f"<<< {text}")
            words.append(text if not words else text[4:])
            if text[3:4] != "-" or len(words) > 100:
                code = text[:3]
                return (int(code) if code.isascii() and code.isdigit() else 0), " ".join(words)


def submit(mail: "Mail", path: str, voice: Voice, *, verbose: bool) -> str:
    """Give the mail to the daemon at `path`. The reply to its final dot: it is durable. Raises Down and Failure;
    `mail.refused` and `mail.accepted` say what became of each recipient."""
    link = Link(path, voice, verbose=verbose)
    try:
        _envelope(mail, link, voice)
        link.send(mail.first)
    except OSError as error:
        link.raise_verdict()
        raise Down(f"the daemon broke off ({error.strerror})") from None
    try:
        for chunk in mail.rest:
            link.send(chunk)
    except OSError as error:
        link.raise_verdict()
        raise Failure(EX_TEMPFAIL, f"the daemon broke off ({error.strerror}); nothing was stored") from None
    return _finish(mail, link)


def _envelope(mail: "Mail", link: Link, voice: Voice) -> None:
    """Everything up to the 354. One temporary refusal refuses all: 75 must mean that nothing is stored."""
    at = size = 0
    commands = [b"EHLO localhost\r\n", mail.mail]
    awaited = ["connect", "ehlo", "mail"]
    rcpts = [*mail.rcpts, b"DATA\r\n"]
    for n, command in enumerate(rcpts):
        commands.append(command)
        awaited.append("rcpt" if n < len(mail.rcpts) else "data")
        size += len(command)
        if size < GROUP and n < len(mail.rcpts):
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
                _recipient(mail, mail.recipients[at], code, text, voice)
                at += 1
            elif not mail.accepted:
                raise Failure(mail.refused or EX_UNAVAILABLE, "no recipient was accepted; nothing was stored")
            elif code != 354:
                raise Failure(exit_code(code, text), f"the mail was refused: {text}")
        commands, awaited, size = [], [], 0


def _recipient(mail: "Mail", recipient: str, code: int, text: str, voice: Voice) -> None:
    if code // 100 == 2:
        mail.accepted.append(recipient)
        return
    if code // 100 != 5:
        raise Failure(EX_TEMPFAIL, f"{recipient}: {text}; nothing was stored")
    voice.error(f"{recipient}: {text}")
    mail.refused = mail.refused or exit_code(code, text)


def _finish(mail: "Mail", link: Link) -> str:
    """The final dot. After it, only a reply tells what became of the mail, unless it has a key: the same mail a second
    time is not doubled."""
    try:
        try:
            link.send(b".\r\nQUIT\r\n")
        except OSError as error:
            if link.unsent <= len(b"QUIT\r\n"):
                raise
            link.raise_verdict()
            if mail.whole:
                raise Down(f"the daemon broke off ({error.strerror})") from None
            raise Failure(EX_TEMPFAIL, f"the daemon broke off ({error.strerror}); nothing was stored") from None
        link.patience(FINAL_S)
        code, text = link.reply()
    except OSError as error:
        if mail.key and mail.whole:
            raise Down(f"the daemon broke off after the final dot ({error.strerror})") from None
        more = "a retry with the same key is safe" if mail.key else "a retry may double the mail"
        raise Failure(EX_TEMPFAIL, f"the daemon broke off after the final dot ({error.strerror}): {more}") from None
    if code // 100 != 2:
        raise Failure(exit_code(code, text), f"the mail was refused: {text}")
    return text


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
