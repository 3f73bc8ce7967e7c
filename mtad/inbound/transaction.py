"""One mail: MAIL, RCPT, DATA, its octets, and the durable step."""

from mtad.inbound import policy, words
from mtad.inbound.spool import Spool
from mtad.inbound.verbs import Verbs
from mtad.mail import address as mail_address
from mtad.mail.data import DataDecoder
from mtad.mail.envelope import Envelope, Rcpt
from mtad.mail.params import mail_params, rcpt_params
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply

RECIPIENTS_MAX_HERE = 10_000  # of one mail from a program of this host; sendmail knows the number too


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
