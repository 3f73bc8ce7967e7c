"""Connections: reused, and never more than the cap to one destination; what is said on them is the dialogue's.

Which TLS a host must show is a part of the Host (`Requirement`), and so of what a connection may be reused for.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import chain

from mtad.config import Config
from mtad.mail.commands import limit, takes_binary
from mtad.mail.data import is_text
from mtad.mail.envelope import Clock, Content, Envelope
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply
from mtad.mail.sevenbit import Impossible
from mtad.outbound.connection import Connection, Timeouts, read_chunk
from mtad.outbound.converted import Convert
from mtad.outbound.opener import Opener, TlsSeen, no_answer, remember
from mtad.outbound.route import Host, Remote
from mtad.tls.contexts import Mode
from mtad.tls.requirement import Requirement

TRANSACTIONS_MAX = 100  # on one connection
STALE_MAX = 3  # reused connections that one mail may find dead

Key = tuple[str, int, Requirement, str, str, tuple[str, ...]]
"""What a connection may be reused for: server, port, the TLS that it needs, scheme, user, where we come from."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one host said to one transaction: a reply per recipient, in order."""

    replies: Sequence[Reply]
    host: Host  # at the address that answered
    tls: str = ""
    offers_dsn: bool = False
    offers_by: bool = False  # DELIVERBY


@dataclass(slots=True)
class _Slots:
    """The connections of one key. `open` counts also those that are being made."""

    open: int = 0
    idle: list[Connection] = field(default_factory=list)
    waiting: deque[asyncio.Future[Connection | None]] = field(default_factory=deque)


class Transport:
    """All SMTP and LMTP connections of the daemon. `tls_context` gives the context of a mode (may, encrypt, verify);
    `tls_seen` is told of every handshake, also of one that failed and was done without. `convert` makes a mail 7-bit
    for hosts that take no other."""

    def __init__(
        self,
        config: Config,
        executor: Executor,
        tls_context: Callable[[Mode], ssl.SSLContext],
        timeouts: Timeouts | None = None,
        tls_seen: TlsSeen = lambda host, ip, fault: None,
        clock: Clock = time.time,
        convert: Convert | None = None,
    ) -> None:
        self._config = config
        self._most = _most(config)
        self._executor = executor
        self._opener = Opener(config, executor, tls_context, timeouts or Timeouts(), tls_seen, clock)
        self._convert = convert
        self._slots: dict[Key, _Slots] = {}
        self._idle = 0
        self._closing = False

    def reload(self, config: Config) -> None:
        """New settings; what is open serves on, what is idle goes."""
        self._config = config
        self._most = _most(config)
        self._opener.reload(config)
        self._quit_idle()

    async def deliver(
        self, remote: Remote, host: Host, envelope: Envelope, content: Content, size_bytes: int, now: float = 0.0
    ) -> Outcome:
        """One transaction with one host. Cancelled, the connection is cut; it returns then only when a recipient had
        been accepted for good, for that must be recorded.

        Raises Refused when there was no way to begin it, NoWay when another address may do; the stage of its reply says
        how far it came.
        """
        key = (host.name or host.address, host.port, host.tls, remote.scheme, remote.user, remote.source)
        for _ in range(STALE_MAX):
            connection = await self._acquire(key, remote, host)
            try:
                dialogue = connection.dialogue
                offers = dialogue.extensions
                reused, answers = connection.transactions > 0, dialogue.answers
                eight_bit = envelope.body != "7BIT" and "8BITMIME" not in offers
                if eight_bit:
                    eight_bit = await self._look(content, _eight_bit)
                text = envelope.body != "BINARYMIME" or (
                    not takes_binary(offers) and await self._look(content, is_text)
                )
                if eight_bit and text and self._convert is not None and connection.usable:
                    envelope, content, size_bytes = await self._seven_bit(envelope, content)
                    eight_bit = False
                if connection.usable:
                    dialogue.begin(
                        envelope,
                        size_bytes,
                        eight_bit=eight_bit,
                        utf8_head=not content.head.isascii(),
                        text=text,
                        exact=isinstance(content.body, str) or not (content.body or content.head).endswith(b"\r\n"),
                        now=now,
                    )
                    try:
                        await connection.transact(content)
                    except asyncio.CancelledError:
                        connection.abort()
                        if not any(reply is not None and reply.ok for reply in dialogue.replies):
                            raise
                    if not (reused and dialogue.closed and dialogue.answers - answers <= 1):
                        replies = [reply or LOCAL_ERROR for reply in dialogue.replies]
                        at = host.at(connection.address)
                        return Outcome(replies, at, connection.tls, "DSN" in offers, "DELIVERBY" in offers)
                # Open too long for the peer's taste: it never took this mail, and may on a new connection.
            finally:
                self._release(key, connection)
            self._quit_idle(key)
        raise Refused(no_answer("The host drops its connections", ""))

    def close(self) -> None:
        """QUIT where idle. Connections in use end with their transactions."""
        self._closing = True
        self._quit_idle()

    # --- the pool

    async def _acquire(self, key: Key, remote: Remote, host: Host) -> Connection:
        while True:
            slots = self._slots.get(key) or self._slots.setdefault(key, _Slots())
            addresses = host.addresses
            while connection := next((one for one in reversed(slots.idle) if one.address in addresses), None):
                slots.idle.remove(connection)
                self._idle -= 1
                if connection.usable:
                    return connection
                slots.open -= 1
            if slots.open >= self._most and slots.idle:
                slots.idle[0].quit()  # to an address that this mail does not go to; it makes room
                continue
            if slots.open < self._most:
                slots.open += 1
                try:
                    return await self._opener.open(remote, host, lambda ended: self._ended(key, ended))
                except BaseException:
                    self._vacate(key)
                    raise
            turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
            slots.waiting.append(turn)
            try:
                handed = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled() and (handed := turn.result()) is not None:
                    self._release(key, handed)
                elif turn.done() and not turn.cancelled():
                    self._pass_on(key, slots)
                else:
                    slots.waiting.remove(turn)
                raise
            if handed is not None:
                return handed

    def _release(self, key: Key, connection: Connection) -> None:
        """Hand it to who waits, keep it, or end it."""
        slots = self._slots[key]
        remember(connection)
        most = limit(connection.dialogue.extensions, "MAILMAX") or TRANSACTIONS_MAX
        if connection.usable and connection.transactions < min(most, TRANSACTIONS_MAX) and not self._closing:
            while slots.waiting:
                turn = slots.waiting.popleft()
                if not turn.done():
                    turn.set_result(connection)
                    return
            if self._idle < self._config.delivery.workers:
                slots.idle.append(connection)
                self._idle += 1
                return
        connection.quit()
        self._vacate(key)

    def _vacate(self, key: Key) -> None:
        """One connection less; whoever waits first may open one."""
        slots = self._slots[key]
        slots.open -= 1
        self._pass_on(key, slots)

    def _pass_on(self, key: Key, slots: _Slots) -> None:
        while slots.waiting:
            turn = slots.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        if slots.open == 0:
            self._slots.pop(key, None)

    def _ended(self, key: Key, connection: Connection) -> None:
        """A connection ended by itself. In use, its owner finds out; idle, it is forgotten here."""
        slots = self._slots.get(key)
        if slots is not None and connection in slots.idle:
            slots.idle.remove(connection)
            self._idle -= 1
            self._vacate(key)

    def _quit_idle(self, *keys: Key) -> None:
        for key in keys or tuple(self._slots):
            slots = self._slots.get(key)
            for connection in tuple(slots.idle) if slots else ():
                connection.quit()

    # --- octets

    async def _seven_bit(self, envelope: Envelope, content: Content) -> tuple[Envelope, Content, int]:
        """The same mail for a host that takes no 8-bit content."""
        assert self._convert is not None
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(self._executor, self._convert, content, envelope.signed)
        except Impossible as why:
            words = f"The host takes no 8-bit content, and the mail cannot be converted: {why}"
            raise Refused(Reply(554, "5.6.3", words, stage="mail")) from None
        except OSError as error:
            raise Refused(LOCAL_ERROR.because(str(error))) from None
        return replace(envelope, body="7BIT"), made, len(made.head) + len(made.body)

    async def _look(self, content: Content, ask: Callable[[Iterable[bytes]], bool]) -> bool:
        """Ask something of the octets, a large body's in a thread."""
        if isinstance(content.body, bytes):
            return ask((content.head, content.body))
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, ask, chain((content.head,), _blocks(content.body)))
        except OSError as error:
            raise Refused(LOCAL_ERROR.because(str(error))) from None


def _most(config: Config) -> int:
    """Connections to one host; who may have how many at work is decided before."""
    delivery = config.delivery
    return max(delivery.max_per_domain, *(site.connections for site in delivery.sites), 1)


def _eight_bit(chunks: Iterable[bytes]) -> bool:
    return not all(chunk.isascii() for chunk in chunks)


def _blocks(path: str) -> Iterator[bytes]:
    offset = 0
    while chunk := read_chunk(path, offset):
        yield chunk
        offset += len(chunk)
