"""What a dialogue remembers, and how it ends: the base of its verbs."""

from collections.abc import Callable, Coroutine
from typing import Any

from mtad.inbound import policy, words
from mtad.inbound.auth import Channel, Exchange
from mtad.inbound.host import Host
from mtad.inbound.quota import Ticket
from mtad.inbound.spool import Spool
from mtad.mail.data import ChunkDecoder, DataDecoder
from mtad.mail.envelope import Peer, Rcpt
from mtad.mail.params import MailParams
from mtad.mail.reply import Reply

JUNK_MAX = 100  # commands that bring no mail forward, between two mails (RSET, NOOP, VRFY ...)

Work = Coroutine[Any, Any, bytes]


class Drain:
    """The octets of a chunk that came in vain; `answer` says why, when they are gone."""

    __slots__ = ("_left", "answer", "rest")

    def __init__(self, octets: int, answer: Callable[[], bytes]) -> None:
        self.rest = b""
        self.answer = answer
        self._left = octets

    @property
    def done(self) -> bool:
        return self._left == 0

    def feed(self, chunk: bytes) -> bytes:
        self.rest = chunk[self._left :]
        self._left -= min(len(chunk), self._left)
        return b""


Decoder = DataDecoder | ChunkDecoder | Drain


class Talk:
    """The state of one dialogue. Everything it holds is bounded: one line, one chunk, one spool."""

    def __init__(self, peer: Peer, host: Host) -> None:
        self.peer = peer
        self.closing = False
        self.starttls = False
        self.work: Work | None = None
        self.lines = 0  # commands heard outside of a mail's octets; the owner's clock runs per command, not per octet
        self.accepted = 0  # mails
        self.channel = Channel()  # once TLS is active
        self._host = host
        self._who = policy.standing(peer, host.trusted)
        self._input = b""  # octets not yet understood
        self._held: list[bytes] = []  # replies that wait for `work`
        self._skipped = 0  # octets of an overlong line that are gone already
        self.errors = 0
        self._blocks_seen = host.guard.blocks.version
        self._owed_s = 0.0  # how long the reply of `work` is held back
        self._hasty = 0  # octets that came behind a stranger's first EHLO: not to be obeyed
        self._greeted = False  # and the next ones may be such
        self._junk = 0
        self._auth_failures = 0
        self._auth: Exchange | None = None
        self._users_seen = 0  # how many changes of accounts there were when our user was last looked at
        self._mail: MailParams | None = None
        self._sender = ""
        self._priority = 0
        self._chunk = 0  # octets of the BDAT that is coming in
        self._rcpts: list[Rcpt] = []
        self._decoder: Decoder | None = None  # from DATA to its dot, from the first BDAT to the last octet
        self._spool: Spool | None = None
        self._ticket: Ticket | None = None

    # Endings and errors

    def _fault(self, reply: bytes) -> bytes:
        """The peer's mistake: too many of them end the connection."""
        self.errors += 1
        if self.errors >= self._host.limits.errors:
            return self._end(words.TOO_MANY_ERRORS)
        self._host.guard.error(self.peer)
        return self._slowly(reply)

    def _slowly(self, reply: bytes) -> bytes:
        """The reply, after the time that this peer's mistakes have earned it."""
        delay_s = self._host.guard.delay_s(self.peer)
        if not delay_s:
            return reply
        if self.work is not None:  # it is what finds fault: `resume` sees to the rest
            self._owed_s = delay_s
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
        return self._slowly(reply.wire()) if self.work is not None else reply.wire()

    def _refuse(self, stage: str, reply: Reply, subject: str) -> bytes:
        """A decision against the peer, worth a line in the log."""
        self._host.events.refused(self.peer, stage, reply, subject)
        if reply.permanent and self._who == "stranger":
            return self._fault(reply.wire())
        return reply.wire()

    def _account_closed(self) -> bool:
        """Whether the user who signed in may not send any more."""
        if not self.peer.user or self._users_seen == self._host.users.changes:
            return False
        self._users_seen = self._host.users.changes
        user = self._host.users.get(self.peer.user)
        return user is None or bool(user.disabled) or user.profile.receive_only

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
        if self._ticket is not None:
            self._ticket.end()
            self._ticket = None
