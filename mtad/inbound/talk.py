"""What a dialogue remembers, and how it ends: the base of its verbs."""

from collections.abc import Coroutine
from typing import Any

from mtad.inbound import policy, words
from mtad.inbound.auth import Exchange
from mtad.inbound.host import Host
from mtad.inbound.spool import Spool
from mtad.mail.data import DataDecoder
from mtad.mail.envelope import Peer, Rcpt
from mtad.mail.params import MailParams
from mtad.mail.reply import Reply

JUNK_MAX = 100  # commands that bring no mail forward, between two mails (RSET, NOOP, VRFY ...)

Work = Coroutine[Any, Any, bytes]


class Talk:
    """The state of one dialogue. Everything it holds is bounded: one line, one chunk, one spool."""

    def __init__(self, peer: Peer, host: Host) -> None:
        self.peer = peer
        self.closing = False
        self.starttls = False
        self.work: Work | None = None
        self.lines = 0  # commands heard; the owner's clock runs per command, not per octet
        self.accepted = 0  # mails
        self.our_certificate = b""  # DER; once TLS is active
        self.their_certificate = b""  # DER, verified; where users are asked for one
        self._host = host
        self._who = policy.standing(peer, host.trusted)
        self._input = b""  # octets not yet understood
        self._held: list[bytes] = []  # replies that wait for `work`
        self._skipped = 0  # octets of an overlong line that are gone already
        self.errors = 0
        self._blocks_seen = host.guard.blocks.version
        self._hasty = 0  # octets that came behind a stranger's first EHLO: not to be obeyed
        self._greeted = False  # and the next ones may be such
        self._junk = 0
        self._auth_failures = 0
        self._auth: Exchange | None = None
        self._mail: MailParams | None = None
        self._sender = ""
        self._rcpts: list[Rcpt] = []
        self._decoder: DataDecoder | None = None
        self._spool: Spool | None = None

    # Endings and errors

    def _fault(self, reply: bytes) -> bytes:
        """The peer's mistake: too many of them end the connection."""
        self.errors += 1
        if self.errors >= self._host.limits.errors:
            return self._end(words.TOO_MANY_ERRORS)
        self._host.guard.error(self.peer)
        delay_s = self._host.guard.delay_s(self.peer)
        if not delay_s or self.work is not None:
            return reply
        self.work = self._later(reply, delay_s)
        return b""

    async def _later(self, reply: bytes, delay_s: float) -> bytes:
        await self._host.guard.pause(delay_s)
        return reply

    def _end(self, reply: Reply) -> bytes:
        self._host.guard.error(self.peer)
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
