"""The client's side of SMTP (RFC 5321) and LMTP (RFC 2033) as a state machine without any input or output.

The driver writes what `take()` gives, hands every octet from the peer to `feed()`, and does what `want` says.
All that goes wrong ends in replies, never in an exception: one Reply per recipient, or `failure` when the
connection ended before it could be used. After CLOSED the connection must be dropped.
"""

from dataclasses import replace

from mtad.mail import commands
from mtad.mail.envelope import Envelope
from mtad.mail.opening import OURS, Command, Opening, PeerError, Want
from mtad.mail.replies import Malformed
from mtad.mail.reply import Reply


class Dialogue(Opening):
    """One connection: greeting, EHLO, STARTTLS, AUTH, then any number of transactions."""

    # --- the driver's side

    @property
    def stage(self) -> str:
        """What is under way ("" when nothing): names the deadline and the place of an error."""
        if self._expected:
            return self._expected[0].stage
        return OURS.get(self.want, "")

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
            if self.want in (Want.STARTTLS, Want.IDLE) and self._reader.unfinished:
                self._broken("unsolicited data")
        except Malformed as error:
            self._end(PeerError(self._ours(451, "4.5.0", f"Protocol error: {error}", self.stage)))
        except PeerError as error:
            self._end(error)

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
        dirty, self._dirty = self._dirty, True
        if dirty:
            todo.append(Command("rset", b"RSET\r\n"))
        todo.append(Command("mail", commands.mail(envelope, size_bytes, offers, now)))
        room = commands.limit(offers, "RCPTMAX") or len(envelope.recipients)
        for index, rcpt in enumerate(envelope.recipients):
            command = commands.rcpt(rcpt, envelope.smtputf8, offers)
            if index >= room:
                self.replies[index] = replace(commands.NO_ROOM, cause=self._host)
            elif command:
                todo.append(Command("rcpt", command, index))
            else:
                self.replies[index] = replace(commands.UNSPEAKABLE, cause=self._host)
        if todo[-1].stage != "rcpt":
            todo.clear()
            self._dirty = dirty
            return
        binary = envelope.body == "BINARYMIME" and commands.takes_binary(offers)
        self.chunk = size_bytes if binary or (exact and "CHUNKING" in offers) else 0
        if not self.chunk:
            todo.append(Command("data", b"DATA\r\n"))
        self.want = Want.READ
        self._send()

    def sent(self) -> None:
        """The octets of the mail and their end are on their way."""
        if self.want is not Want.BODY:
            return
        self.want = Want.READ
        self.chunk = 0
        if self._lmtp:
            self._expected.extend(Command("final", b"", index) for index in self._accepted)
        else:
            self._expected.append(Command("final", b""))

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
            reply = self._reply(code, lines, "rcpt")
            if code == 552 and self._accepted:
                # RFC 5321 4.5.3.1.10: too many at once. In a transaction of its own it would show that it means more.
                reply = replace(reply, code=452, status="4.5.3")
            self.replies[index] = reply
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
            self._say(Command("abort", b".\r\n"))  # RFC 2920 3.1: pipelined, all refused, and yet 354

    def _on_final(self, code: int, lines: list[bytes], index: int) -> None:
        if 300 <= code < 400:
            self._broken("unexpected reply to the message")
        reply = self._reply(code, lines, "final")
        if index < 0:
            self._settle(reply)
        else:
            self.replies[index] = reply
        self._dirty = code >= 300
