"""One mail from standard input and the options: read, completed, with its envelope, ready for the wire."""

import posix

from mtactl.submit.base import CHUNK, EX_DATAERR, EX_USAGE, Failure, Voice, passwd, text
from mtactl.submit.options import Options, UsageError
from mtactl.submit.text import Lines, Wire, field_name, head_and_body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HELD = 1024 * 1024  # octets read before the daemon is asked: what fits can be replayed. Also the limit of a header
RECIPIENTS_MAX = 10_000  # what the daemon takes from a program of its host (inbound.host)


class Mail:
    """One mail with its envelope. `first` is the beginning of its wire form, all of it when `whole`; `rest` follows."""

    __slots__ = ("accepted", "first", "key", "mail", "rcpts", "recipients", "refused", "rest", "sender", "whole")

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
        self.sender = sender
        self.recipients = recipients
        self.first = first
        self.rest = rest
        self.whole = whole
        self.key = options.key
        self.accepted: list[str] = []  # those recipients that the daemon took
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
        if options.key:
            params += f" XKEY={_xtext(options.key)}"
        notify = f" NOTIFY={options.notify}" if options.notify else ""
        self.mail = f"MAIL FROM:<{sender}>{params}\r\n".encode("utf-8", "surrogateescape")
        self.rcpts = [f"RCPT TO:<{word}>{notify}\r\n".encode("utf-8", "surrogateescape") for word in recipients]

    def recorded(self) -> "Iterator[bytes]":
        """As a client would say it: a file of the maildrop."""
        yield self.mail + b"".join(self.rcpts) + b"DATA\r\n" + self.first
        yield from self.rest
        yield b".\r\n"


def compose(options: Options, voice: Voice) -> "tuple[Mail, int]":
    """The mail on standard input; and the exit code for arguments that are no addresses, else 0. Raises Failure and
    UsageError."""
    if not options.recipients and not options.scan_headers:
        raise Failure(EX_USAGE, "no recipients: name them as arguments, or say -t to take them from the header")
    lines = Lines(dots=not options.ignore_dots)
    start = read(lines, HELD)
    fields, body, ended = head_and_body(start)
    ended = ended or lines.done
    if not ended:
        if options.scan_headers:
            raise Failure(EX_DATAERR, f"the header is larger than {HELD} octets")
        fields, body = [start], b""  # no header of any mail program: the daemon judges it
    names = [field_name(field) for field in fields]
    good, bad = asked(options, zip(names, fields, strict=True), voice)
    sender = envelope_sender(options)
    start = b"".join(fields)
    if ended:
        if not options.gateway and b"from" not in names:
            start = _from(options, sender) + start
        start += b"\n" + body
    wire = Wire()
    return Mail(options, sender, good, wire.feed(start), _rest(lines, wire), whole=lines.done), bad


def asked(options: Options, fields: "Iterable[tuple[bytes, bytes]]", voice: Voice) -> "tuple[list[str], int]":
    """The recipients of the arguments and, with -t, of the header; and the exit code for those that are none."""
    words: list[str] = []
    if options.scan_headers:
        from mtactl.submit.header import recipients

        words += recipients(fields)
    for word in options.recipients:
        words += _listed(word) if word.isprintable() else [word]
    good: list[str] = []
    bad = 0
    for word in dict.fromkeys(words):
        if word and word.isprintable():
            good.append(word)
        else:
            voice.error(f"no address: {word!r}")
            bad = EX_DATAERR
    if not good:
        raise Failure(bad, "no recipients are left") if bad else Failure(EX_USAGE, "no recipients in the header")
    if len(good) > RECIPIENTS_MAX:
        raise Failure(EX_USAGE, f"{len(good)} recipients: one mail takes {RECIPIENTS_MAX} at most")
    return good, bad


def read(lines: Lines, limit: int) -> bytes:
    """Standard input as LF lines, until its end or at least `limit` octets. Failure when it cannot be read."""
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
        yield wire.feed(read(lines, CHUNK))


def _let_writer_finish() -> None:
    """After the lone dot: take what is already in the pipe, so that the writer is not killed by SIGPIPE. Never wait."""
    import select

    for _ in range(64):
        try:
            if not select.select([0], [], [], 0)[0] or not posix.read(0, CHUNK):
                return
        except OSError:
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


def envelope_sender(options: Options) -> str:
    """The envelope sender; "" is the null sender. Without -f: the login, which the daemon completes."""
    if options.sender is None:
        return passwd()[0]
    if not options.sender.isprintable():
        raise UsageError("-f holds control characters")
    if options.sender in ("", "<>"):
        return ""
    found = _listed(options.sender)
    if len(found) != 1:
        raise UsageError(f"-f {options.sender!r} is no single address")
    return found[0]


def _from(options: Options, sender: str) -> bytes:
    from mtactl.submit.header import from_field, full_name

    login, gecos = passwd()
    name = options.full_name or text(posix.environ.get(b"NAME", b"")) or full_name(gecos, login)
    return from_field(name, sender or login)


def _xtext(value: str) -> str:
    """RFC 3461 4: "+", "=" and what is not visible ASCII as +HH."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in value)
