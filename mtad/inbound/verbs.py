"""The verbs without a mail: EHLO, HELO, NOOP, RSET, QUIT, HELP, VRFY, STARTTLS, and those we do not offer."""

from mtad.inbound import words
from mtad.inbound.talk import Talk
from mtad.mail.envelope import Peer


class Verbs(Talk):
    """Each `smtp_` method takes what follows the verb and gives the whole reply."""

    def smtp_EHLO(self, name: str) -> bytes:  # noqa: N802
        return self._hello(name, esmtp=True)

    def smtp_HELO(self, name: str) -> bytes:  # noqa: N802
        return self._hello(name, esmtp=False)

    def _hello(self, name: str, *, esmtp: bool) -> bytes:
        if not name:
            return self._fault(words.NEEDS_NAME)
        self._reset()
        self._greeted = not self.peer.helo and self._who == "stranger" and self._host.strict
        was = self.peer
        # Not `replace`: it takes four times as long, and every connection comes here.
        self.peer = Peer(was.source, was.ip, was.port, name[:255], esmtp, was.tls, was.user, was.uid)
        if not esmtp:
            return self._junk_command(self._host.helo)
        return self._junk_command(self._host.ehlo(self.peer, self._host.clock(), self.channel.mechanisms))

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

    def for_proxies(self, _argument: str) -> bytes:
        """A client that says who it is: nobody here believes it (XCLIENT and XFORWARD of Postfix)."""
        return self._fault(words.NOT_A_PROXY)

    def proxy(self, _argument: str) -> bytes:
        """The PROXY protocol, from where none is expected: what follows may be somebody else's."""
        return self._end(words.PROXY_UNEXPECTED)

    def not_mail(self, _argument: str) -> bytes:
        """A browser was sent here (cross-protocol attack): say no more than needed."""
        return self._end(words.NOT_MAIL)

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
