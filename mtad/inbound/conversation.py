"""The server's side of one SMTP dialogue, without a socket: octets in, octets out.

RFC 5321 (SMTP), 2920 (PIPELINING), 3207 (STARTTLS), 4954 (AUTH), 6531 (SMTPUTF8), 3461 (DSN), 1870 (SIZE), 2034.

The owner gives `receive` what came and writes what it returns. When `work` is set the dialogue waits for something
that takes time (a password check, the durable accept): the owner awaits it, in a task that the peer cannot cancel, and
passes its result to `resume`. Replies are held until then, so that each chunk is answered by one write. When `starttls`
is set the owner upgrades the connection and says `secured`; when `closing` is set it closes.
"""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from mtad.accounts.users import StoredUser
from mtad.inbound import policy, words
from mtad.inbound.auth import AUTH_FAILED, Credentials, Exchange, Step
from mtad.inbound.host import Host
from mtad.inbound.spool import Spool
from mtad.mail import address as mail_address
from mtad.mail.data import DataDecoder
from mtad.mail.envelope import Envelope, Peer, Rcpt
from mtad.mail.params import MailParams, mail_params, rcpt_params
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply

LINE_MAX = 2048  # octets of a command line; RFC 5321 4.5.3.1.4 asks for 512, and parameters need more
AUTH_LINE_MAX = 12288  # RFC 4954 4
ENDLESS_LINE = 1 << 20  # a line of this length is no mistake: the connection ends
JUNK_MAX = 100  # commands that bring no mail forward, between two mails (RSET, NOOP, VRFY ...)
AUTH_FAILURES_MAX = 3
RECIPIENTS_MAX_HERE = 10_000  # of one mail from a program of this host; sendmail knows the number too

_NOT_OFFERED = ("BDAT", "ETRN", "EXPN", "LHLO", "SAML", "SEND", "SOML", "TURN", "XCLIENT", "XFORWARD")
_HTTP = ("CONNECT", "GET", "HEAD", "OPTIONS", "POST", "PUT")

Work = Coroutine[Any, Any, bytes]


class Conversation:
    """One dialogue. Not thread-safe; everything it holds is bounded: one line, one chunk, one spool."""

    def __init__(self, peer: Peer, host: Host) -> None:
        self.peer = peer
        self.closing = False
        self.starttls = False
        self.work: Work | None = None
        self.lines = 0  # commands heard; the owner's clock runs per command, not per octet
        self.accepted = 0  # mails
        self._host = host
        self._who = policy.standing(peer, host.trusted)
        self._input = b""  # octets not yet understood
        self._held: list[bytes] = []  # replies that wait for `work`
        self._skipped = 0  # octets of an overlong line that are gone already
        self._errors = 0
        self._junk = 0
        self._auth_failures = 0
        self._auth: Exchange | None = None
        self._mail: MailParams | None = None
        self._sender = ""
        self._rcpts: list[Rcpt] = []
        self._decoder: DataDecoder | None = None
        self._spool: Spool | None = None

    # The owner's side

    @property
    def receiving(self) -> bool:
        """Between DATA and its final dot."""
        return self._decoder is not None

    @property
    def idle(self) -> bool:
        """Nothing of a mail would be lost if the connection ended now."""
        return self._mail is None and self.work is None

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
        self._held.append(reply)
        return self._advance()

    async def feed(self, data: bytes) -> bytes:
        """`receive` with all its work done: all replies to `data`."""
        replies = self.receive(data)
        while self.work is not None:
            replies += self.resume(await self.work)
        return replies

    def secured(self, tls: str) -> None:
        """TLS is active: forget everything, authentication included (RFC 3207 4.2)."""
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
            if self._decoder is not None:
                rest = self._take_content(data[at:] if at else data, replies)
                if rest is None:
                    data = b""
                    at = 0
                    break
                data, at = rest, 0
                continue
            end = data.find(b"\n", at) + 1
            if not end:
                if len(data) - at + self._skipped > self._line_max(data, at):
                    self._skip(len(data) - at, replies)
                    at = len(data)
                break
            self.lines += 1
            if end - at + self._skipped > self._line_max(data, at):
                self._skip(end - at, replies)
                self._skipped = 0
            else:
                replies.append(self._line(data[at:end]))
            at = end
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

    def _skip(self, octets: int, replies: list[bytes]) -> None:
        """Part of an overlong line: answered once, never kept."""
        if not self._skipped:
            if self._auth is not None:
                self._auth = None
                replies.append(self._fault(words.AUTH_LINE_TOO_LONG))
            else:
                replies.append(self._fault(words.TOO_LONG))
        self._skipped += octets
        if self._skipped > ENDLESS_LINE and not self.closing:
            replies.append(self._end(words.TOO_MANY_ERRORS))

    def _line(self, line: bytes) -> bytes:
        if line[-2:] != b"\r\n":
            return self._fault(words.NO_CRLF)
        try:
            text = line[:-2].decode()
        except UnicodeDecodeError:
            return self._fault(words.CONTROLS)
        if self._auth is not None:
            return self._auth_step(self._auth.answer(text))
        if not text.isprintable() and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
            return self._fault(words.CONTROLS)
        verb, _, argument = text.partition(" ")
        method = self._VERBS.get(verb) or self._VERBS.get(verb.upper())
        if method is None:
            return self._fault(words.UNKNOWN)
        try:
            return method(self, argument.strip(" ") if argument else "")
        except Exception as exc:  # noqa: BLE001  (a bug costs this command, not the connection; the peer may try again)
            self._host.events.internal_error(f"smtp {method.__name__}", exc)
            return self._fault(words.FAILED)

    # Endings and errors

    def _fault(self, reply: bytes) -> bytes:
        """The peer's mistake: too many of them end the connection."""
        self._errors += 1
        if self._errors >= self._host.limits.errors:
            return self._end(words.TOO_MANY_ERRORS)
        return reply

    def _end(self, reply: Reply) -> bytes:
        self.closing = True
        self._host.events.refused(self.peer, reply.stage, reply, "")
        self._reset()
        return reply.wire()

    def _refuse(self, stage: str, reply: Reply, subject: str) -> bytes:
        """A decision against the peer, worth a line in the log."""
        self._host.events.refused(self.peer, stage, reply, subject)
        if reply.permanent and self._who == "stranger":
            return self._fault(reply.wire())
        return reply.wire()

    def _junk_command(self, reply: bytes) -> bytes:
        self._junk += 1
        return reply if self._junk <= JUNK_MAX else self._end(words.TOO_MUCH_JUNK)

    def _reset(self) -> None:
        self._mail = None
        self._sender = ""
        self._rcpts = []
        self._decoder = None
        if self._spool is not None:
            self._spool.discard()
            self._spool = None

    # Verbs without a mail

    def smtp_EHLO(self, name: str) -> bytes:  # noqa: N802
        return self._hello(name, esmtp=True)

    def smtp_HELO(self, name: str) -> bytes:  # noqa: N802
        return self._hello(name, esmtp=False)

    def _hello(self, name: str, *, esmtp: bool) -> bytes:
        if not name:
            return self._fault(words.NEEDS_NAME)
        self._reset()
        self.peer = replace(self.peer, helo=name[:255], esmtp=esmtp)
        return self._junk_command(self._host.ehlo(self.peer) if esmtp else self._host.helo)

    def smtp_NOOP(self, _argument: str) -> bytes:  # noqa: N802
        return self._junk_command(words.OK)

    def smtp_RSET(self, argument: str) -> bytes:  # noqa: N802
        if argument:
            return self._fault(words.NO_ARGUMENT)
        self._reset()
        return self._junk_command(words.OK)

    def smtp_QUIT(self, argument: str) -> bytes:  # noqa: N802
        if argument:
            return self._fault(words.NO_ARGUMENT)
        self._reset()
        self.closing = True
        return words.BYE

    def smtp_HELP(self, _argument: str) -> bytes:  # noqa: N802
        return self._junk_command(words.HELP)

    def smtp_VRFY(self, _argument: str) -> bytes:  # noqa: N802
        return self._junk_command(words.TLS_FIRST if self._gate() is words.TLS_FIRST else words.VRFY)

    def smtp_STARTTLS(self, argument: str) -> bytes:  # noqa: N802
        if argument:
            return self._fault(words.NO_ARGUMENT)
        if self.peer.tls:
            return self._fault(words.TLS_TWICE)
        if not self._host.offers_tls(self.peer):
            return self._fault(words.UNSUPPORTED)
        self.starttls = True
        return words.READY_FOR_TLS

    def unsupported(self, _argument: str) -> bytes:
        """A verb that RFCs define and we do not offer."""
        return self._fault(words.UNSUPPORTED)

    def not_mail(self, _argument: str) -> bytes:
        """A browser was sent here (cross-protocol attack): say no more than needed."""
        return self._end(words.NOT_MAIL)

    # AUTH

    def smtp_AUTH(self, arguments: str) -> bytes:  # noqa: N802
        if self.peer.source not in ("submission", "submissions"):
            return self._fault(words.UNSUPPORTED)
        if not self.peer.tls:
            return self._fault(words.AUTH_NEEDS_TLS)
        if not self.peer.helo or not self.peer.esmtp:
            return self._fault(words.EHLO_FIRST)
        if self.peer.user:
            return self._fault(words.AUTH_TWICE)
        if self._mail is not None:
            return self._fault(words.AUTH_IN_MAIL)
        exchange = Exchange()
        self._auth = exchange
        return self._auth_step(exchange.start(arguments))

    def _auth_step(self, step: Step) -> bytes:
        match step:
            case bytes():
                return step
            case Credentials():
                self._auth = None
                self.work = self._verify(step)
                return b""
            case Reply():
                self._auth = None
                if step is AUTH_FAILED:
                    return self._auth_failed("", "PLAIN")
                return self._fault(step.wire())

    async def _verify(self, claim: Credentials) -> bytes:
        user: StoredUser | None = None
        try:
            user = await self._host.users.verify(claim.name, claim.password)
        except Refused as refused:
            return refused.reply.wire()
        except mail_address.AddressError:
            pass  # such a name cannot exist
        except Exception as exc:  # noqa: BLE001  (unknown failure is temporary)
            self._host.events.internal_error("auth", exc)
            return words.AUTH_UNAVAILABLE.wire()
        if user is None:
            return self._auth_failed(claim.name, claim.mechanism)
        self.peer = replace(self.peer, user=user.name)
        self._who = policy.standing(self.peer, self._host.trusted)
        self._host.events.auth_ok(self.peer, user.name)
        return words.AUTHENTICATED

    def _auth_failed(self, name: str, mechanism: str) -> bytes:
        self._host.events.auth_failed(self.peer, name, mechanism)
        self._auth_failures += 1
        if self._auth_failures >= AUTH_FAILURES_MAX:
            return self._end(words.TOO_MANY_ERRORS)
        return self._fault(AUTH_FAILED.wire())

    # One mail

    def _gate(self) -> bytes | None:
        """What must come before MAIL on this listener."""
        match self.peer.source:
            case "submission" | "submissions":
                if not self.peer.tls:
                    return words.TLS_FIRST
                if not self.peer.helo:
                    return words.EHLO_FIRST
                return None if self.peer.user else words.AUTH_FIRST
            case "smtp":
                return None if self.peer.helo else words.EHLO_FIRST
            case _:
                return None  # programs of this host, whom the socket or the file names

    def smtp_MAIL(self, argument: str) -> bytes:  # noqa: N802
        closed = self._gate()
        if closed is not None:
            return self._fault(closed)
        if self._mail is not None:
            return self._fault(words.SECOND_MAIL)
        if argument[:5].upper() != "FROM:":
            return self._fault(words.MAIL_SYNTAX)
        try:
            sender, parameters = self._path(argument[5:])
            mail = mail_params(parameters, size_max=self._host.limits.message_size_bytes)
        except mail_address.AddressError as error:
            return self._bad_address("mail", error, argument[5:])
        except Refused as refused:
            return self._refuse("mail", refused.reply, argument[5:])
        if not mail.smtputf8 and not sender.isascii():
            return self._refuse("mail", words.NEEDS_UTF8, sender)
        try:
            refusal = policy.judge_mail(self._who, self.peer, sender, self._host.directory.expand)
        except Refused as refused:  # an alias that cannot be followed
            refusal = refused.reply
        if refusal is not None:
            return self._refuse("mail", refusal, sender)
        self._mail = mail
        self._sender = sender
        return words.SENDER_OK

    def smtp_RCPT(self, argument: str) -> bytes:  # noqa: N802
        mail = self._mail
        if mail is None:
            return self._fault(words.MAIL_FIRST)
        if argument[:3].upper() != "TO:":
            return self._fault(words.RCPT_SYNTAX)
        try:
            address, parameters = self._path(argument[3:])
            if not address:
                return self._fault(words.RCPT_SYNTAX)
            params = rcpt_params(parameters)
        except mail_address.AddressError as error:
            return self._bad_address("rcpt", error, argument[3:])
        except Refused as refused:
            return self._refuse("rcpt", refused.reply, argument[3:])
        if not mail.smtputf8 and not address.isascii():
            return self._refuse("rcpt", words.NEEDS_UTF8, address)
        limit = RECIPIENTS_MAX_HERE if self._who == "local" else self._host.limits.recipients
        if len(self._rcpts) >= limit:
            return self._refuse("rcpt", words.TOO_MANY_RECIPIENTS, address)
        refusal = policy.judge_rcpt(self._who, self.peer, address, self._host.directory.resolve(address))
        if refusal is not None:
            return self._refuse("rcpt", refusal, address)
        self._rcpts.append(Rcpt(address, params.notify, params.orcpt))
        return words.RECIPIENT_OK

    def _path(self, text: str) -> tuple[str, str]:
        """The address and the parameters. Local programs may leave the domain away, everyone may say <postmaster>."""
        text = text.lstrip(" ")
        if self._who == "local" and text.find("@", 0, text.find(">")) < 0 and text[:2] != "<>":
            text = text.replace(">", f"@{self._host.domain}>", 1)
        address, parameters = mail_address.parse_path(text, utf8=True)
        return (f"postmaster@{self._host.domain}" if address == "postmaster" else address), parameters

    def _bad_address(self, stage: str, error: mail_address.AddressError, said: str) -> bytes:
        reply = Reply(501 if error.status == "5.1.3" else 553, error.status, str(error), stage=stage)
        self._host.events.refused(self.peer, stage, reply, said)
        return self._fault(reply.wire())

    def smtp_DATA(self, argument: str) -> bytes:  # noqa: N802
        if argument:
            return self._fault(words.NO_ARGUMENT)
        if self._mail is None:
            return self._fault(words.MAIL_FIRST)
        if not self._rcpts:
            return self._fault(words.NO_RECIPIENTS)
        self._spool = self._host.acceptor.spool(self.peer, self._sender)
        self._decoder = DataDecoder(self._host.limits.message_size_bytes)
        return words.GO_AHEAD

    def _take_content(self, chunk: bytes, replies: list[bytes]) -> bytes | None:
        """Octets of the mail. What follows its end, or None while it goes on."""
        decoder, spool = self._decoder, self._spool
        assert decoder is not None
        assert spool is not None
        content = decoder.feed(chunk)
        if content:
            spool.write(content)
        if not decoder.done:
            return None
        refusal = decoder.refused or spool.refused
        if refusal is not None:
            replies.append(self._refuse("final", refusal, self._sender))
        else:
            self._spool = None  # from here on it belongs to the work
            self.work = self._commit(self._envelope(), spool)
        self._reset()
        return decoder.rest

    def _envelope(self) -> Envelope:
        mail = self._mail
        assert mail is not None
        return Envelope(self._sender, tuple(self._rcpts), mail.body, mail.smtputf8, mail.ret, mail.envid)

    async def _commit(self, envelope: Envelope, spool: Spool) -> bytes:
        """The durable step. Its reply is the truth: 250 only after the store has it."""
        try:
            reply = await self._host.acceptor.accept(envelope, self.peer, await spool.finish())
        except Refused as refused:
            reply = refused.reply
        except Exception as exc:  # noqa: BLE001  (unknown failure is temporary, and the cause is for the log)
            self._host.events.internal_error("accept", exc)
            reply = LOCAL_ERROR
        finally:
            spool.discard()  # nothing happens when the store has taken the file
        if not reply.ok:
            return self._refuse("final", reply, envelope.sender)
        self.accepted += 1
        self._junk = 0
        return reply.wire()

    _VERBS: dict[str, Callable[["Conversation", str], bytes]] = {
        "EHLO": smtp_EHLO,
        "HELO": smtp_HELO,
        "MAIL": smtp_MAIL,
        "RCPT": smtp_RCPT,
        "DATA": smtp_DATA,
        "RSET": smtp_RSET,
        "NOOP": smtp_NOOP,
        "QUIT": smtp_QUIT,
        "HELP": smtp_HELP,
        "VRFY": smtp_VRFY,
        "STARTTLS": smtp_STARTTLS,
        "AUTH": smtp_AUTH,
        **dict.fromkeys(_NOT_OFFERED, unsupported),
        **dict.fromkeys(_HTTP, not_mail),
    }
