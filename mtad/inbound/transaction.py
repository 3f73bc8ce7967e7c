"""One mail: MAIL, RCPT, DATA or BDAT, its octets, and the durable step."""

import re
from collections.abc import Callable

from mtad.inbound import policy, words
from mtad.inbound.host import RECIPIENTS_MAX_HERE
from mtad.inbound.quota import Ticket
from mtad.inbound.spool import Spool
from mtad.inbound.talk import Drain
from mtad.inbound.verbs import Verbs
from mtad.mail import address as mail_address
from mtad.mail.data import TOO_BIG, ChunkDecoder, DataDecoder
from mtad.mail.envelope import Envelope, Rcpt
from mtad.mail.params import mail_params, rcpt_params
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply

_BARE = re.compile(r'<(?:[^"@>]+|"(?:[^"\\]|\\.)*")>')  # a path without a domain
_CHUNK = re.compile(r"([0-9]{1,18})(?: +(LAST))?", re.IGNORECASE | re.ASCII)


class Transaction(Verbs):
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
            mail = mail_params(parameters, self._host.offers(self.peer), self._host.clock())
        except mail_address.AddressError as error:
            return self._bad_address("mail", error, argument[5:])
        except Refused as refused:
            return self._refuse("mail", refused.reply, argument[5:])
        if not mail.smtputf8 and not sender.isascii():
            return self._refuse("mail", words.NEEDS_UTF8, sender)
        try:
            refusal = policy.judge_mail(self._who, self.peer, sender, self._host.directory.may_send)
        except Refused as refused:  # an alias that cannot be followed
            refusal = refused.reply
        if refusal is not None:
            return self._refuse("mail", refusal, sender)
        refusal = self._host.guard.message(self.peer, sender)
        if refusal is not None:
            return self._refuse("mail", refusal, sender)
        self._mail = mail
        self._sender = sender
        self._priority = mail.priority
        if mail.priority > 0 and self._who not in ("local", "user"):
            self._priority = 0  # RFC 6710 5.1: it is not for everybody to overtake
            return words.priority_changed(0)
        return words.SENDER_OK

    def smtp_RCPT(self, argument: str) -> bytes:  # noqa: N802
        mail = self._mail
        if mail is None:
            return self._fault(words.MAIL_FIRST)
        if self._decoder is not None:
            return self._fault(words.MAIL_BEGUN)
        if argument[:3].upper() != "TO:":
            return self._fault(words.RCPT_SYNTAX)
        try:
            address, parameters = self._path(argument[3:])
            if not address:
                return self._fault(words.RCPT_SYNTAX)
            params = rcpt_params(parameters, self._host.offers(self.peer))
        except mail_address.AddressError as error:
            return self._bad_address("rcpt", error, argument[3:])
        except Refused as refused:
            return self._refuse("rcpt", refused.reply, argument[3:])
        if not mail.smtputf8 and not address.isascii():
            return self._refuse("rcpt", words.NEEDS_UTF8, address)
        limit = RECIPIENTS_MAX_HERE if self._who == "local" else self._host.limits.recipients
        if len(self._rcpts) >= limit:
            return self._refuse("rcpt", words.TOO_MANY_RECIPIENTS, address)
        resolution = self._host.directory.resolve(address)
        refusal = policy.judge_rcpt(self._who, self.peer, self._sender, address, resolution)
        if refusal is not None:
            return self._refuse("rcpt", refusal, address)
        refusal = self._host.guard.recipient(self.peer, self._sender)
        if refusal is not None:
            return self._refuse("rcpt", refusal, address)
        rcpt = Rcpt(address, params.notify, params.orcpt)
        if self._who == "user" and not self._admits(address):
            self.work = self._admit(rcpt, self._ticket)
            return b""
        self._rcpts.append(rcpt)
        return words.RECIPIENT_OK

    def _admits(self, address: str) -> bool:
        """Whether the user's allowance has room for certain."""
        if self._ticket is None:
            user = self._host.users.get(self.peer.user)
            self._ticket = self._host.acceptor.quotas.ticket(user) if user is not None else None
        return self._ticket is None or self._ticket.admits(address)

    async def _admit(self, rcpt: Rcpt, ticket: Ticket | None) -> bytes:
        """What is left of the user's allowance, by what the store knows."""
        try:
            refusal = await ticket.admit(rcpt.address) if ticket is not None else None
        except Exception as exc:  # noqa: BLE001  (unknown failure is temporary, and the cause is for the log)
            self._host.events.internal_error("quota", exc)
            refusal = LOCAL_ERROR
        if refusal is not None:
            return self._refuse("rcpt", refusal, rcpt.address)
        self._rcpts.append(rcpt)
        return words.RECIPIENT_OK

    def _path(self, text: str) -> tuple[str, str]:
        """The address and the parameters. Local programs may leave the domain away, everyone may say <postmaster>."""
        text = text.lstrip(" ")
        if self._who == "local" and (bare := _BARE.match(text)) is not None:
            text = f"{text[: bare.end() - 1]}@{self._host.domain}{text[bare.end() - 1 :]}"
        address, parameters = mail_address.parse_path(text, utf8=True)
        return (f"postmaster@{self._host.domain}" if address == "postmaster" else address), parameters

    def _bad_address(self, stage: str, error: mail_address.AddressError, said: str) -> bytes:
        reply = Reply(501 if error.status == "5.1.3" else 553, error.status, str(error), stage=stage)
        self._host.events.refused(self.peer, stage, reply, said)
        return self._fault(reply.wire())

    def smtp_DATA(self, argument: str) -> bytes:  # noqa: N802
        if argument:
            return self._fault(words.NO_ARGUMENT)
        mail = self._mail
        if mail is None:
            return self._fault(words.MAIL_FIRST)
        if self._decoder is not None:
            return self._fault(words.MAIL_BEGUN)
        if not self._rcpts:
            return self._fault(words.NO_RECIPIENTS)
        if mail.body == "BINARYMIME":
            return self._fault(words.NEEDS_BDAT)
        self._spool = self._host.acceptor.spool(self.peer, self._sender)
        limits = self._host.limits
        self._decoder = DataDecoder(
            limits.message_size_bytes,
            limits.line_length_bytes,
            normalize=self._host.normalize,
        )
        return words.GO_AHEAD

    def smtp_BDAT(self, argument: str) -> bytes:  # noqa: N802
        """RFC 3030. The octets that follow are taken whatever the answer, which comes after them."""
        found = _CHUNK.fullmatch(argument)
        if found is None:
            return self._end(words.BDAT_SYNTAX)  # nobody knows where its octets end
        octets, last = int(found[1]), bool(found[2])
        mail, decoder, limits = self._mail, self._decoder, self._host.limits
        if mail is None:
            return self._drain(octets, lambda: self._fault(words.MAIL_FIRST))
        if not self._rcpts:
            return self._drain(octets, lambda: self._fault(words.NO_RECIPIENTS))
        if not isinstance(decoder, ChunkDecoder):
            self._spool = self._host.acceptor.spool(self.peer, self._sender)
            decoder = self._decoder = ChunkDecoder(
                limits.message_size_bytes,
                limits.line_length_bytes,
                binary=mail.body == "BINARYMIME",
                normalize=self._host.normalize,
            )
        if not octets and not last:
            return self._junk_command(words.chunk_taken(0))
        if 0 < limits.message_size_bytes < decoder.size_bytes + octets:
            sender = self._sender
            self._reset()
            return self._drain(octets, lambda: self._refuse("final", TOO_BIG, sender))
        decoder.expect(octets, last=last)
        self._chunk = octets
        if octets:
            return b""
        replies: list[bytes] = []
        self._take_content(b"", replies)
        return b"".join(replies)

    def _drain(self, octets: int, answer: Callable[[], bytes]) -> bytes:
        if not octets:
            return answer()
        self._decoder = Drain(octets, answer)
        return b""

    def _take_content(self, octets: bytes, replies: list[bytes]) -> bytes | None:
        """Octets of the mail. What follows its end or that of its chunk, or None while it goes on."""
        decoder, spool = self._decoder, self._spool
        assert decoder is not None
        content = decoder.feed(octets)
        if content and spool is not None:
            spool.write(content)
        if not decoder.done:
            return None
        if isinstance(decoder, Drain):
            self._decoder = None
            replies.append(decoder.answer())
            return decoder.rest
        assert spool is not None
        refusal = decoder.refused or spool.refused
        if refusal is not None:
            replies.append(self._refuse("final", refusal, self._sender))
        elif self._account_closed():
            replies.append(self._end(words.ACCOUNT_CLOSED))
        elif isinstance(decoder, ChunkDecoder) and not decoder.last:
            replies.append(words.chunk_taken(self._chunk))
            return decoder.rest
        else:
            self._spool = None  # from here on they belong to the work
            ticket, self._ticket = self._ticket, None
            self.work = self._commit(self._envelope(), spool, ticket)
        self._reset()
        return decoder.rest

    def _envelope(self) -> Envelope:
        mail = self._mail
        assert mail is not None
        return Envelope(
            self._sender,
            tuple(self._rcpts),
            mail.body,
            mail.smtputf8,
            mail.ret,
            mail.envid,
            mail.requiretls,
            self._priority,
            mail.hold_until,
            mail.by_at,
            mail.by_mode,
            mail.by_trace,
            mail.key,
        )

    async def _commit(self, envelope: Envelope, spool: Spool, ticket: Ticket | None) -> bytes:
        """The durable step. Its reply is the truth: 250 only after the store has it."""
        reply = LOCAL_ERROR
        try:
            reply = await self._host.acceptor.accept(envelope, self.peer, await spool.finish())
        except Refused as refused:
            reply = refused.reply
        except Exception as exc:  # noqa: BLE001  (unknown failure is temporary, and the cause is for the log)
            self._host.events.internal_error("accept", exc)
            reply = LOCAL_ERROR
        finally:
            spool.discard()  # nothing happens when the store has taken the file
            if ticket is not None:
                ticket.end(stored=reply.ok)
        if not reply.ok:
            return self._refuse("final", reply, envelope.sender)
        self.accepted += 1
        self._junk = 0
        return reply.wire()
