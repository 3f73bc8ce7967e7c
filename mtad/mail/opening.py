"""How a connection to a peer begins: greeting, EHLO, STARTTLS, AUTH; and what a dialogue needs all along.

The base of `mtad.mail.dialogue.Dialogue`, which adds the transactions.
"""

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Literal, NamedTuple, NoReturn

from mtad.mail.replies import ReplyReader, peer_reply
from mtad.mail.reply import Reply
from mtad.mail.sasl import Credentials, Distrusted, Mechanism, choose

TlsPolicy = Literal["no", "may", "must", "on"]
"""no: never ask for it. may: ask when offered, go on in clear when refused. must: end without it. on: it is there."""


class Want(Enum):
    """What the dialogue needs from its driver."""

    READ = auto()  # octets from the peer
    STARTTLS = auto()  # a TLS handshake, then `secured()`
    BODY = auto()  # the octets of the mail, as one BDAT or as DATA with dots stuffed and ended, then `sent()`
    IDLE = auto()  # nothing: `begin()` or `quit()`
    CLOSED = auto()  # the end of the connection


class PeerError(Exception):
    """The peer broke the protocol. The reply is temporary; the connection is of no further use."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Command(NamedTuple):
    stage: str
    octets: bytes
    recipient: int = -1  # its place in the envelope


OURS = {Want.BODY: "body", Want.STARTTLS: "starttls"}


class Opening:
    """The state of one connection, and its first steps."""

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
        self._expected: deque[Command] = deque([Command("connect", b"")])
        self._todo: deque[Command] = deque()
        self._accepted: list[int] = []
        self._mail_refused = False
        self._dirty = False  # the peer may still hold a half-made transaction
        self._now = "connect"  # the stage of the last reply
        self.bindings: Mapping[str, bytes] = {}  # channel bindings of the connection, by name (RFC 5929)
        self._mechanism: Mechanism | None = None  # of AUTH
        self._challenged = False  # it went beyond its first message
        self._binding = True  # -PLUS was not refused

    # --- first steps

    def secured(self) -> None:
        """TLS is up: all that was known before is forgotten (RFC 3207 4.2)."""
        self._tls = "on"
        self.extensions = {}
        self._hello()

    def _on_banner(self, code: int, lines: list[bytes]) -> None:
        if code == 220:
            self._hello()
        elif code >= 400:
            self._close(self._turned_away(code, lines, "connect"))
        else:
            self._broken("unexpected greeting")

    def _hello(self) -> None:
        self.want = Want.READ
        word = "LHLO" if self._lmtp else "EHLO"
        self._say(Command("ehlo", f"{word} {self._helo}\r\n".encode()))

    def _on_hello(self, code: int, lines: list[bytes], stage: str) -> None:
        if 300 <= code < 400:
            self._broken("unexpected reply to EHLO")
        if code >= 400:
            needs_ehlo = self._lmtp or self._tls in ("must", "on") or self._credentials
            if stage == "ehlo" and code >= 500 and not needs_ehlo:
                self._say(Command("helo", f"HELO {self._helo}\r\n".encode()))
            else:
                self._close(self._turned_away(code, lines, "ehlo"))
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
                self._say(Command("starttls", b"STARTTLS\r\n"))
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
        if self._tls != "on" and not self._credentials.clear:
            self._close(self._ours(454, "4.7.0", "No TLS: the password is not sent", "auth"))
            return
        offered = self.extensions.get("AUTH", "").upper().replace("=", " ").split()
        mechanism = choose(offered, self._credentials, self.bindings, binding=self._binding)
        if mechanism is None:
            self._close(self._ours(454, "4.7.0", "The host offers no AUTH mechanism that we know", "auth"))
            return
        self._mechanism = mechanism
        self._challenged = False
        first = mechanism.first()
        initial = b"" if first is None else b" " + b64encode(first)
        self._say(Command("auth", b"AUTH " + mechanism.name.encode() + initial + b"\r\n"))

    def _on_auth(self, code: int, lines: list[bytes]) -> None:
        mechanism = self._mechanism
        assert mechanism is not None
        if code == 334:
            self._challenged = True
            try:
                answer = mechanism.step(_challenge(lines[0]))
            except Distrusted as error:
                self._close(self._ours(454, "4.7.0", f"The host is not trusted with the password: {error}", "auth"))
                return
            self._say(Command("auth", b64encode(answer) + b"\r\n"))
        elif code == 235 and not mechanism.complete:
            words = "The host did not prove that it knows the password"
            self._close(self._ours(454, "4.7.0", words, "auth"))
        elif code >= 500 and mechanism.name.endswith("-PLUS") and not self._challenged:
            self._binding = False  # a kind of channel binding that it does not know
            self._auth()
        elif code != 235:
            # Ours to mend, so never the end of a mail, whatever the peer's code.
            reply = self._reply(code, lines, "auth")
            self._close(self._ours(454, "4.7.8", f"AUTH failed: {code} {reply.text}", "auth"))

    @property
    def authenticates(self) -> bool:
        return self._credentials is not None

    # --- endings

    @property
    def closed(self) -> bool:
        return self.want is Want.CLOSED

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

    def _say(self, command: Command) -> None:
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

    def _turned_away(self, code: int, lines: Sequence[bytes], stage: str) -> Reply:
        """Before it heard of a mail. That ends none where TLS must show first who says so, nor where the host is the
        one that we have a password for: then it is ours to mend."""
        reply = self._reply(code, lines, stage)
        if reply.permanent and (self._tls == "must" or self.authenticates):
            return self._ours(451, "4.4.0", f"The host turned us away: {reply}", stage)
        return reply

    def _ours(self, code: int, status: str, text: str, stage: str) -> Reply:
        """What we conclude ourselves about this host."""
        return Reply(code, status, text, "", stage, cause=self._host)

    def _broken(self, what: str) -> NoReturn:
        raise PeerError(self._ours(451, "4.5.0", f"Protocol error: {what}", self._now))


def _challenge(line: bytes) -> bytes:
    """What a 334 holds; as it is where it is no base64, for LOGIN does not look at it."""
    try:
        return b64decode(line.strip(), validate=True)
    except ValueError:
        return line
