"""The server's side of one SMTP dialogue, without a socket: octets in, octets out.

RFC 5321 (SMTP), 2920 (PIPELINING), 3207 (STARTTLS); what else is offered is in `mail.extensions`.

The owner gives `receive` what came and writes what it returns. When `work` is set the dialogue waits for something
that takes time (a password check, the durable accept): the owner awaits it, in a task that the peer cannot cancel, and
passes its result to `resume`. Replies are held until then, so that each chunk is answered by one write. When `starttls`
is set the owner upgrades the connection and says `secured`; when `closing` is set it closes.

Here octets become lines and content; what each verb does is in `verbs`, `signin` and `transaction`.
"""

from collections.abc import Callable
from dataclasses import replace

from mtad.inbound import policy, words
from mtad.inbound.auth import Channel
from mtad.inbound.guard import ENDED
from mtad.inbound.signin import SignIn
from mtad.inbound.transaction import Transaction
from mtad.tls.binding import bindings

LINE_MAX = 2048  # octets of a command line; RFC 5321 4.5.3.1.4 asks for 512, and parameters need more
AUTH_LINE_MAX = 12288  # RFC 4954 4
ENDLESS_LINE = 1 << 20  # a line of this length is no mistake: the connection ends

_NOT_OFFERED = ("ETRN", "EXPN", "LHLO", "SAML", "SEND", "SOML", "TURN")
_HTTP = ("CONNECT", "GET", "HEAD", "OPTIONS", "POST", "PUT")


class Conversation(SignIn, Transaction):
    """One dialogue. Not thread-safe."""

    @property
    def receiving(self) -> bool:
        """Between DATA and its final dot, or the first BDAT and the last octet."""
        return self._decoder is not None

    @property
    def idle(self) -> bool:
        """Nothing of a mail would be lost if the connection ended now."""
        return self._mail is None and self.work is None

    @property
    def stranger(self) -> bool:
        return self._who == "stranger"

    @property
    def state(self) -> str:
        """Where it is, for the operator."""
        if self.work is not None:
            return "working"
        if self._decoder is not None:
            return "data"
        if self._auth is not None:
            return "auth"
        if self._mail is not None:
            return "rcpt" if self._rcpts else "mail"
        return "idle" if self.peer.helo else "new"

    def greeting(self) -> bytes:
        return self._host.greeting

    def receive(self, data: bytes) -> bytes:
        """Take octets from the peer. The replies so far, or b"" when they wait for `work`."""
        if self.closing or self.starttls:
            return b""  # nothing said before TLS counts after it (RFC 3207 4.2)
        self._input = self._input + data if self._input else data
        return b"" if self.work is not None else self._advance()

    def resume(self, reply: bytes) -> bytes:
        """`work` is done and gave `reply`: go on with what came meanwhile."""
        self.work = None
        if self._owed_s:
            self.work, self._owed_s = self._later(reply, self._owed_s), 0.0
            return b""
        self._held.append(reply)
        return self._advance()

    async def feed(self, data: bytes) -> bytes:
        """`receive` with all its work done: all replies to `data`."""
        replies = self.receive(data)
        while self.work is not None:
            replies += self.resume(await self.work)
        return replies

    def secured(self, tls: str, *, ours: bytes = b"", theirs: bytes = b"", exported: bytes = b"") -> None:
        """TLS is active: forget everything, authentication included (RFC 3207 4.2). `ours` and `theirs` are the
        certificates in DER; the peer's has been verified, and is b"" where it showed none. `exported` is the
        tls-exporter binding, b"" where there is none."""
        self.channel = Channel(bindings(ours, exported), theirs)
        self.starttls = False
        self._input = b""
        self._auth = None
        self._reset()
        self.peer = replace(self.peer, tls=tls, helo="", user="")
        self._who = policy.standing(self.peer, self._host.trusted)

    def abandon(self) -> None:
        """The connection is gone. What was not yet acknowledged and is not in `work` is forgotten."""
        self.closing = True
        self._input = b""
        self._reset()

    # Octets to lines

    def _advance(self) -> bytes:
        data, at, replies = self._input, 0, self._held
        self._input = b""
        while self.work is None and not self.closing and not self.starttls:
            if self._decoder is not None and not self._decoder.done:
                rest = self._take_content(data[at:] if at else data, replies)
                if rest is None:
                    data = b""
                    at = 0
                    break
                data, at = rest, 0
                continue
            end = data.find(b"\n", at) + 1
            if not end:
                if at < len(data) and len(data) - at + self._skipped > self._line_max(data, at):
                    self._skip(data[at : at + 5], len(data) - at, replies)
                    self._hasty = max(self._hasty - (len(data) - at), 0)
                    at = len(data)
                break
            self.lines += self._decoder is None
            if (self._skipped or end - at > LINE_MAX) and end - at + self._skipped > self._line_max(data, at):
                self._skip(data[at : at + 5], end - at, replies)
                self._skipped = 0
            elif self._hasty:
                replies.append(self._fault(words.TOO_HASTY))
            else:
                replies.append(self._line(data[at:end]))
            if self._hasty:
                self._hasty = max(self._hasty - (end - at), 0)
            at = end
            if self._greeted:
                self._greeted = False
                self._hasty = len(data) - at
        if at < len(data) and not self.closing and not self.starttls:
            self._input = data[at:]
        if self.work is not None:
            return b""
        answer = replies[0] if len(replies) == 1 else b"".join(replies)
        replies.clear()
        return answer

    def _line_max(self, data: bytes, at: int) -> int:
        if self._skipped:
            return 0  # whatever comes belongs to the overlong line
        return AUTH_LINE_MAX if self._auth is not None or data[at : at + 5].upper() == b"AUTH " else LINE_MAX

    def _skip(self, verb: bytes, octets: int, replies: list[bytes]) -> None:
        """Part of an overlong line: answered once, never kept."""
        if not self._skipped:
            if self._frames(verb):
                replies.append(self._end(words.BDAT_SYNTAX))
            elif self._auth is not None:
                self._auth = None
                replies.append(self._fault(words.AUTH_LINE_TOO_LONG))
            else:
                replies.append(self._fault(words.TOO_LONG))
        self._skipped += octets
        if self._skipped > ENDLESS_LINE and not self.closing:
            replies.append(self._end(words.TOO_MANY_ERRORS))

    def _line(self, line: bytes) -> bytes:
        if self._blocks_seen != self._host.guard.blocks.version:
            self._blocks_seen = self._host.guard.blocks.version
            if self._host.guard.blocked(self.peer) is not None:
                return self._end(ENDED)
        if self.peer.user and self._account_closed():
            return self._end(words.ACCOUNT_CLOSED)
        if line[-2:] != b"\r\n":
            return self._unreadable(line, words.NO_CRLF)
        try:
            text = line[:-2].decode()
        except UnicodeDecodeError:
            return self._unreadable(line, words.CONTROLS)
        if self._auth is not None:
            return self._auth_step(self._auth, self._auth.answer(text))
        if not text.isprintable() and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
            return self._unreadable(line, words.CONTROLS)
        verb, _, argument = text.partition(" ")
        method = self._VERBS.get(verb) or self._VERBS.get(verb.upper())
        if method is None:
            return self._fault(words.UNKNOWN)
        try:
            return method(self, argument.strip(" ") if argument else "")
        except Exception as exc:  # noqa: BLE001  (a bug costs this command, not the connection; the peer may try again)
            self._host.events.internal_error(f"smtp {method.__name__}", exc)
            return self._fault(words.FAILED)

    def _unreadable(self, line: bytes, reply: bytes) -> bytes:
        return self._end(words.BDAT_SYNTAX) if self._frames(line[:5]) else self._fault(reply)

    def _frames(self, verb: bytes) -> bool:
        """Nobody knows where the octets of a BDAT end whose number cannot be read: they must not become commands."""
        return self._auth is None and verb[:4].upper() == b"BDAT"

    _VERBS: dict[str, Callable[["Conversation", str], bytes]] = {
        "EHLO": Transaction.smtp_EHLO,
        "HELO": Transaction.smtp_HELO,
        "MAIL": Transaction.smtp_MAIL,
        "RCPT": Transaction.smtp_RCPT,
        "DATA": Transaction.smtp_DATA,
        "BDAT": Transaction.smtp_BDAT,
        "RSET": Transaction.smtp_RSET,
        "NOOP": Transaction.smtp_NOOP,
        "QUIT": Transaction.smtp_QUIT,
        "HELP": Transaction.smtp_HELP,
        "VRFY": Transaction.smtp_VRFY,
        "STARTTLS": Transaction.smtp_STARTTLS,
        "AUTH": SignIn.smtp_AUTH,
        **dict.fromkeys(_NOT_OFFERED, Transaction.unsupported),
        **dict.fromkeys(("XCLIENT", "XFORWARD"), Transaction.for_proxies),
        "PROXY": Transaction.proxy,
        **dict.fromkeys(_HTTP, Transaction.not_mail),
    }
