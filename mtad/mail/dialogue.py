"""The client's side of SMTP (RFC 5321) and LMTP (RFC 2033) as a state machine without any input or output.

The driver writes what `take()` gives, hands every octet from the peer to `feed()`, and does what `want` says.
All that goes wrong ends in replies, never in an exception: one Reply per recipient, or `failure` when the
connection ended before it could be used. After CLOSED the connection must be dropped.
"""

from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Literal, NamedTuple, NoReturn

from mtad.mail import commands
from mtad.mail.envelope import Envelope
from mtad.mail.replies import Malformed, ReplyReader, peer_reply
from mtad.mail.reply import Reply

TlsPolicy = Literal["no", "may", "must", "on"]
"""no: never ask for it. may: ask when offered, go on in clear when refused. must: end without it. on: it is there."""


class Want(Enum):
    """What the dialogue needs from its driver."""

    READ = auto()  # octets from the peer
    STARTTLS = auto()  # a TLS handshake, then `secured()`
    BODY = auto()  # the octets of the mail, as one BDAT or as DATA with dots stuffed and ended, then `sent()`
    IDLE = auto()  # nothing: `begin()` or `quit()`
    CLOSED = auto()  # the end of the connection


@dataclass(frozen=True, slots=True)
class Credentials:
    """For AUTH to a smarthost."""

    user: str
    password: str = field(repr=False)
    clear: bool = False  # may they go over a connection without TLS


class PeerError(Exception):
    """The peer broke the protocol. The reply is temporary; the connection is of no further use."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class _Command(NamedTuple):
    stage: str
    octets: bytes
    recipient: int = -1  # its place in the envelope


_OURS = {Want.BODY: "body", Want.STARTTLS: "starttls"}


class Dialogue:
    """One connection: greeting, EHLO, STARTTLS, AUTH, then any number of transactions."""

    def __init__(
        self,
        helo: str,
        host: str,
        *,
        lmtp: bool = False,
        tls: TlsPolicy = "no",
        credentials: Credentials | None = None,
    ) -> None:
        self.want = Want.READ
        self.extensions: dict[str, str] = {}
        self.failure: Reply | None = None  # why the connection ended before the first transaction
        self.error: PeerError | None = None
        self.replies: list[Reply | None] = []  # of the current transaction, in the order of its recipients
        self.answers = 0  # how many replies the peer gave, ever
        self.chunk = 0  # while BODY is wanted: the octets that one BDAT announces; 0: they go as DATA
        self._helo = helo
        self._host = host
        self._lmtp = lmtp
        self._tls: TlsPolicy = tls
        self._credentials = credentials
        self._out: list[bytes] = []
        self._reader = ReplyReader()
        self._expected: deque[_Command] = deque([_Command("connect", b"")])
        self._todo: deque[_Command] = deque()
        self._accepted: list[int] = []
        self._mail_refused = False
        self._dirty = False  # the peer may still hold a half-made transaction
        self._now = "connect"  # the stage of the last reply
        self._steps: list[bytes] = []  # what AUTH has left to say

    # --- the driver's side

    @property
    def stage(self) -> str:
        """What is under way ("" when nothing): names the deadline and the place of an error."""
        if self._expected:
            return self._expected[0].stage
        return _OURS.get(self.want, "")

    @property
    def closed(self) -> bool:
        return self.want is Want.CLOSED

    def take(self) -> bytes:
        """The octets to write now."""
        if not self._out:
            return b""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def feed(self, octets: bytes) -> None:
        """Octets from the peer, cut anywhere. Their cut never changes the outcome."""
        try:
            for code, lines in self._reader.feed(octets):
                self._answer(code, lines)
            if self._reader.partial and self.want in (Want.STARTTLS, Want.IDLE):
                self._broken("unsolicited data")
        except Malformed as error:
            self._end(PeerError(self._ours(451, "4.5.0", f"Protocol error: {error}", self.stage)))
        except PeerError as error:
            self._end(error)

    def secured(self) -> None:
        """TLS is up: all that was known before is forgotten (RFC 3207 4.2)."""
        self._tls = "on"
        self.extensions = {}
        self._hello()

    def begin(
        self,
        envelope: Envelope,
        size_bytes: int,
        *,
        eight_bit: bool = False,
        utf8_head: bool = False,
        text: bool = True,
        exact: bool = False,
        now: float = 0.0,
    ) -> None:
        """Start a transaction. `eight_bit`: the octets are not all ASCII; `utf8_head`: those of the header block;
        `text`: DATA can carry them; `exact`: DATA would change them or cost more than BDAT, where that is offered."""
        self._accepted = []
        self._mail_refused = False
        self.replies = [None] * len(envelope.recipients)
        offers = self.extensions
        refusal = commands.refusal(
            envelope,
            size_bytes,
            offers,
            tls=self._tls == "on",
            eight_bit=eight_bit,
            utf8_head=utf8_head,
            text=text,
            now=now,
        )
        if refusal is not None:
            self._settle(replace(refusal, cause=self._host))
            return
        todo = self._todo
        if self._dirty:
            todo.append(_Command("rset", b"RSET\r\n"))
        self._dirty = True
        todo.append(_Command("mail", commands.mail(envelope, size_bytes, offers, now)))
        room = commands.limit(offers, "RCPTMAX") or len(envelope.recipients)
        for index, rcpt in enumerate(envelope.recipients):
            command = commands.rcpt(rcpt, envelope.smtputf8, offers)
            if index >= room:
                self.replies[index] = replace(commands.NO_ROOM, cause=self._host)
            elif command:
                todo.append(_Command("rcpt", command, index))
            else:
                self.replies[index] = replace(commands.UNSPEAKABLE, cause=self._host)
        if todo[-1].stage != "rcpt":
            todo.clear()
            self._dirty = False
            return
        binary = envelope.body == "BINARYMIME" and commands.takes_binary(offers)
        self.chunk = size_bytes if binary or (exact and "CHUNKING" in offers) else 0
        if not self.chunk:
            todo.append(_Command("data", b"DATA\r\n"))
        self.want = Want.READ
        self._send()

    def sent(self) -> None:
        """The octets of the mail and their end are on their way."""
        if self.want is not Want.BODY:
            return
        self.want = Want.READ
        self.chunk = 0
        if self._lmtp:
            self._expected.extend(_Command("final", b"", index) for index in self._accepted)
        else:
            self._expected.append(_Command("final", b""))

    def quit(self) -> None:
        """Say goodbye; nobody waits for the answer."""
        if self.want is Want.IDLE:
            self._out.append(b"QUIT\r\n")
        self.want = Want.CLOSED

    def lost(self, reply: Reply) -> None:
        """The connection ended (cut, timed out, given up): `reply`, which must be temporary, for all undecided."""
        if self.want is not Want.CLOSED:
            self._close(reply)

    # --- replies

    def _answer(self, code: int, lines: list[bytes]) -> None:
        if self.want is Want.CLOSED:
            return
        if not self._expected:
            self._unasked(code, lines)
            return
        command = self._expected.popleft()
        self._now = command.stage
        self.answers += 1
        if code == 421:
            self._close(self._reply(code, lines, command.stage))
            return
        match command.stage:
            case "rcpt":
                self._on_rcpt(code, lines, command.recipient)
            case "mail":
                self._on_mail(code, lines)
            case "data":
                self._on_data(code, lines)
            case "final":
                self._on_final(code, lines, command.recipient)
            case "abort":
                pass  # whatever it says, no recipient of it was accepted
            case "rset":
                if code >= 300:
                    self._broken("RSET refused")
            case "connect":
                self._on_banner(code, lines)
            case "ehlo" | "helo":
                self._on_hello(code, lines, command.stage)
            case "starttls":
                self._on_starttls(code, lines)
            case _:
                self._on_auth(code, lines)
        if self._expected or self.want is not Want.READ:
            return
        if self._todo:
            self._send()
        elif self.chunk and self._accepted:
            self.want = Want.BODY
        else:
            self.want = Want.IDLE

    def _unasked(self, code: int, lines: list[bytes]) -> None:
        if self.want is Want.BODY and code >= 400:
            # It says no before it has heard all (too large, policy). The rest of the octets would be read as commands.
            self._close(self._reply(code, lines, "final"))
        elif self.want is Want.IDLE and code == 421:
            self._close(self._reply(code, lines, ""))
        else:
            self._broken("unsolicited reply")

    def _on_banner(self, code: int, lines: list[bytes]) -> None:
        if code == 220:
            self._hello()
        elif code >= 400:
            self._close(self._reply(code, lines, "connect"))
        else:
            self._broken("unexpected greeting")

    def _hello(self) -> None:
        self.want = Want.READ
        word = "LHLO" if self._lmtp else "EHLO"
        self._say(_Command("ehlo", f"{word} {self._helo}\r\n".encode()))

    def _on_hello(self, code: int, lines: list[bytes], stage: str) -> None:
        if 300 <= code < 400:
            self._broken("unexpected reply to EHLO")
        if code >= 400:
            needs_ehlo = self._lmtp or self._tls in ("must", "on") or self._credentials
            if stage == "ehlo" and code >= 500 and not needs_ehlo:
                self._say(_Command("helo", f"HELO {self._helo}\r\n".encode()))
            else:
                self._close(self._reply(code, lines, "ehlo"))
            return
        if stage == "ehlo":
            for line in lines[1:]:
                text = line.decode("ascii", "replace").strip()
                if text[:5].upper() == "AUTH=":  # as it was before RFC 2554
                    text = text.replace("=", " ", 1)
                keyword, _, value = text.partition(" ")
                self.extensions.setdefault(keyword.upper(), value.strip())
        if self._tls in ("may", "must"):
            if "STARTTLS" in self.extensions:
                self._say(_Command("starttls", b"STARTTLS\r\n"))
                return
            if self._tls == "must":
                self._close(self._ours(454, "4.7.4", "TLS is required, but the host does not offer it", "starttls"))
                return
        self._auth()

    def _on_starttls(self, code: int, lines: list[bytes]) -> None:
        if code == 220:
            self.want = Want.STARTTLS
        elif self._tls == "must":
            reply = self._reply(code, lines, "starttls")
            status = "4.7.4" if code >= 500 else "4.7.0"  # the second may be different tomorrow
            self._close(self._ours(454, status, f"TLS is required, but was refused: {reply.text}", "starttls"))
        elif code < 400:
            self._broken("unexpected reply to STARTTLS")
        else:
            self._tls = "no"
            self._auth()

    def _auth(self) -> None:
        if self._credentials is None:
            return
        offered = self.extensions.get("AUTH", "").upper().replace("=", " ").split()
        user, password = self._credentials.user.encode(), self._credentials.password.encode()
        if self._tls != "on" and not self._credentials.clear:
            self._close(self._ours(454, "4.7.0", "No TLS: the password is not sent", "auth"))
        elif "PLAIN" in offered:
            self._say(_Command("auth", b"AUTH PLAIN " + b64encode(b"\0" + user + b"\0" + password) + b"\r\n"))
        elif "LOGIN" in offered:
            self._steps = [b64encode(user) + b"\r\n", b64encode(password) + b"\r\n"]
            self._say(_Command("auth", b"AUTH LOGIN\r\n"))
        else:
            self._close(self._ours(454, "4.7.0", "The host offers no AUTH mechanism that we know", "auth"))

    def _on_auth(self, code: int, lines: list[bytes]) -> None:
        if code == 334 and self._steps:
            self._say(_Command("auth", self._steps.pop(0)))
        elif code != 235:
            # Ours to mend, so never the end of a mail, whatever the peer's code.
            reply = self._reply(code, lines, "auth")
            self._close(self._ours(454, "4.7.8", f"AUTH failed: {code} {reply.text}", "auth"))

    # --- a transaction

    def _on_mail(self, code: int, lines: list[bytes]) -> None:
        if code < 300:
            return
        if code < 400:
            self._broken("unexpected reply to MAIL")
        self._mail_refused = True
        self._settle(self._reply(code, lines, "mail"))
        self._todo.clear()

    def _on_rcpt(self, code: int, lines: list[bytes], index: int) -> None:
        if code < 300:
            if not self._mail_refused:
                self._accepted.append(index)
        elif code < 400:
            self._broken("unexpected reply to RCPT")
        elif self.replies[index] is None:
            self.replies[index] = self._reply(code, lines, "rcpt")
        if self._todo and self._todo[0].stage == "data" and not self._accepted:
            self._todo.clear()

    def _on_data(self, code: int, lines: list[bytes]) -> None:
        if code < 300:
            self._broken("unexpected reply to DATA")
        if code >= 400:
            self._settle(self._reply(code, lines, "data"))
        elif self._accepted:
            self.want = Want.BODY
        elif self._lmtp:
            self._broken("DATA taken without a recipient")  # and no reply would ever follow the dot
        else:
            self._say(_Command("abort", b".\r\n"))  # RFC 2920 3.1: pipelined, all refused, and yet 354

    def _on_final(self, code: int, lines: list[bytes], index: int) -> None:
        if 300 <= code < 400:
            self._broken("unexpected reply to the message")
        reply = self._reply(code, lines, "final")
        if index < 0:
            self._settle(reply)
        else:
            self.replies[index] = reply
        self._dirty = code >= 300

    def _settle(self, reply: Reply) -> None:
        self.replies = [reply if old is None else old for old in self.replies]

    def _end(self, error: PeerError) -> None:
        if not self.closed:
            self.error = error
            self._close(error.reply)

    def _close(self, reply: Reply) -> None:
        if self.failure is None and not self.replies:
            self.failure = reply
        self._settle(reply)
        self.want = Want.CLOSED
        self._expected.clear()
        self._todo.clear()

    # --- what we say

    def _say(self, command: _Command) -> None:
        self._out.append(command.octets)
        self._expected.append(command)

    def _send(self) -> None:
        if "PIPELINING" not in self.extensions:
            self._say(self._todo.popleft())
            return
        self._out.extend([command.octets for command in self._todo])
        self._expected.extend(self._todo)
        self._todo.clear()

    # --- making replies

    def _reply(self, code: int, lines: Sequence[bytes], stage: str) -> Reply:
        return peer_reply(code, lines, self._host, stage)

    def _ours(self, code: int, status: str, text: str, stage: str) -> Reply:
        """What we conclude ourselves about this host."""
        return Reply(code, status, text, "", stage, cause=self._host)

    def _broken(self, what: str) -> NoReturn:
        raise PeerError(self._ours(451, "4.5.0", f"Protocol error: {what}", self._now))
