"""Connections: opened, secured, reused, and never more than the cap to one destination.

Which TLS a host must show is a part of the Host (`Requirement`), and so of what a connection may be reused for.
"""

import asyncio
import os
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import chain

from mtad.accounts.scram import prepared
from mtad.config import Config
from mtad.mail.commands import limit, takes_binary
from mtad.mail.data import is_text
from mtad.mail.dialogue import Dialogue
from mtad.mail.envelope import Clock, Content, Envelope
from mtad.mail.opening import TlsPolicy, Want
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply
from mtad.mail.sasl import Credentials
from mtad.mail.sevenbit import Impossible
from mtad.outbound.connection import Connection, Timeouts, read_chunk
from mtad.outbound.converted import Convert
from mtad.outbound.dial import SourceError, dial
from mtad.outbound.route import Host, Remote, listens, loopback
from mtad.tls.contexts import Mode, TlsError
from mtad.tls.dane import peer_chain
from mtad.tls.requirement import Requirement, Step
from mtad.tls.sessions import ResumingContext
from mtad.tls.tlsrpt import HANDSHAKE_FAILED, Fault, fault_of

TRANSACTIONS_MAX = 100  # on one connection
STALE_MAX = 3  # reused connections that one mail may find dead
SECRET_MAX = 4096
NONCE_BYTES = 18

Key = tuple[str, int, Requirement, str, str, tuple[str, ...]]
"""What a connection may be reused for: server, port, the TLS that it needs, scheme, user, where we come from."""

TlsSeen = Callable[[Host, str, Fault | None], None]
"""Told of what TLS came to on each new connection: with whom, from which address of ours, and what was wrong."""

_CONTEXTS: dict[Step, Mode] = {
    "may": "may",
    "encrypt": "encrypt",
    "verify": "verify",
    "pinned": "encrypt",
    "dane": "encrypt",
}
_RESUMED = ("may", "encrypt", "verify")  # the others look at the certificates of each handshake
_NOT_OFFERED = Fault("starttls-not-supported", "The host offers no TLS")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one host said to one transaction: a reply per recipient, in order."""

    replies: Sequence[Reply]
    host: Host  # at the address that answered
    tls: str = ""
    offers_dsn: bool = False
    offers_by: bool = False  # DELIVERBY


class NoWay(Refused):
    """There was no way to begin. `address` is the one that answered and yet would not do; "": none answered."""

    def __init__(self, reply: Reply, address: str = "") -> None:
        super().__init__(reply)
        self.address = address


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
        self._tls_context = tls_context
        self._timeouts = timeouts or Timeouts()
        self._tls_seen = tls_seen
        self._clock = clock
        self._convert = convert
        self._contexts: dict[Step, ssl.SSLContext] = {}
        self._slots: dict[Key, _Slots] = {}
        self._idle = 0
        self._closing = False

    def reload(self, config: Config) -> None:
        """New settings; what is open serves on, what is idle goes."""
        self._config = config
        self._most = _most(config)
        self._contexts.clear()
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
        raise Refused(_no_answer("The host drops its connections", ""))

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
                    return await self._open(key, remote, host)
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
        _remember(connection)
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

    # --- opening

    async def _open(self, key: Key, remote: Remote, host: Host) -> Connection:
        """A connection that is ready for a transaction. Raises NoWay."""
        if host.tls.refusal is not None:
            self._tls_seen(host, "", host.tls.fault)
            raise NoWay(host.tls.refusal)
        credentials = await self._credentials(remote, host)
        steps = _steps(remote, host)
        faults: list[Fault] = []
        for step in steps:
            last = step == steps[-1]
            context = self._session(step, host)
            connection, ready = await self._try(
                key,
                remote,
                host,
                step,
                credentials,
                faults,
                last=last and context is None,
                resuming=context is not None,
            )
            if not ready and context is not None:  # that says nothing of what the host can do
                context.forget(_server_name(host))
                host = host.at(connection.address)
                connection, ready = await self._try(key, remote, host, step, credentials, faults, last=last)
            if ready:
                return connection
            host = host.at(connection.address)
        raise NoWay(LOCAL_ERROR)

    async def _try(
        self,
        key: Key,
        remote: Remote,
        host: Host,
        step: Step,
        credentials: Credentials | None,
        faults: list[Fault],
        *,
        last: bool,
        resuming: bool = False,
    ) -> tuple[Connection, bool]:
        """One step of those that the host's TLS allows; False: it failed, and there is another one."""
        dialogue = Dialogue(
            self._config.hostname,
            host.name or "localhost",
            lmtp=remote.scheme == "lmtp",
            tls=_policy(remote, host, step),
            credentials=credentials,
        )
        connection = Connection(dialogue, self._timeouts, self._executor, lambda ended: self._ended(key, ended))
        try:
            host = await self._connect(connection, remote, host, step)
            await connection.wait()
            if dialogue.want is Want.STARTTLS:
                fault = await self._start_tls(connection, host, step)
                if fault is not None and resuming:
                    connection.abort()
                    return connection, False
                if fault is not None:
                    self._tls_seen(host, connection.local_address(), fault)
                    faults.append(fault)
                    if last:
                        raise Refused(_unverified(fault))
                    connection.abort()
                    return connection, False
                if not faults:
                    self._tls_seen(host, connection.local_address(), host.tls.fault)
            elif not faults and _lacks_tls(dialogue, remote, host):
                self._tls_seen(host, connection.local_address(), _NOT_OFFERED)
                faults.append(_NOT_OFFERED)
            await connection.wait()
            if dialogue.want is not Want.IDLE:
                raise Refused(dialogue.failure or LOCAL_ERROR)
        except Refused as refused:
            connection.abort()
            raise NoWay(refused.reply, connection.address) from None
        except BaseException:
            connection.abort()
            raise
        return connection, True

    async def _connect(self, connection: Connection, remote: Remote, host: Host, step: Step) -> Host:
        """To the first of its addresses that answers: the host there."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                if host.port == 0:
                    await loop.create_unix_connection(lambda: connection, host.address)
                    connection.address = host.address
                    return host
                context = await self._context(step) if remote.scheme == "smtps" else None
                sock, address = await dial(host.addresses, host.port, remote.source)
                connection.address = address
                host = host.at(address)
                await loop.create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=context,
                    server_hostname=_server_name(host) if context else None,
                )
        except SourceError as error:
            raise Refused(replace(LOCAL_ERROR, status="4.3.5", stage="connect", cause=str(error))) from None
        except TimeoutError:
            raise Refused(_no_answer("Connection timed out", "")) from None
        except (ssl.SSLError, ValueError) as error:
            fault = fault_of(error)
            self._tls_seen(host, "", fault)
            raise Refused(_unverified(fault)) from None
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else "Connection failed"
            raise Refused(_no_answer(words, "" if error.errno else repr(error))) from None
        if connection.local_peer() and listens(self._config, host.address, host.port, anywhere=True):
            raise Refused(Reply(554, "5.4.6", "The mail loops back to this host", stage="connect"))
        return host

    async def _start_tls(self, connection: Connection, host: Host, step: Step) -> Fault | None:
        """The handshake, and the look at the certificates. What is wrong; Refused when the peer spoke instead."""
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                connection.transport,
                connection,
                await self._context(step),
                server_hostname=_server_name(host),
                ssl_handshake_timeout=self._timeouts.connect_s,
            )
        except (OSError, ValueError) as error:  # ssl.SSLError and TimeoutError are OSErrors
            return fault_of(error)
        if transport is None or connection.dialogue.want is not Want.STARTTLS:
            raise Refused(connection.dialogue.failure or LOCAL_ERROR)
        if step in ("pinned", "dane"):
            chain = peer_chain(transport.get_extra_info("ssl_object"))
            fault = host.tls.check(chain, host.name, self._clock())
            if fault is not None:
                transport.abort()
                return fault
        connection.secured(transport, step)
        return None

    async def _context(self, step: Step) -> ssl.SSLContext:
        context = self._contexts.get(step)
        if context is None:  # loading the system's CAs takes tens of milliseconds
            loop = asyncio.get_running_loop()
            try:
                context = await loop.run_in_executor(self._executor, self._tls_context, _CONTEXTS[step])
            except TlsError as error:
                raise Refused(Reply(451, "4.3.5", LOCAL_ERROR.text, cause=str(error))) from None
            if isinstance(context, ResumingContext):
                context.resumes = step in _RESUMED
            self._contexts[step] = context
        return context

    def _session(self, step: Step, host: Host) -> ResumingContext | None:
        """The context that knows a session of this host, which the host may have forgotten."""
        context = self._contexts.get(step)
        known = isinstance(context, ResumingContext) and context.knows(_server_name(host))
        return context if known else None  # type: ignore[return-value]

    async def _credentials(self, remote: Remote, host: Host) -> Credentials | None:
        if not remote.user:
            return None
        loop = asyncio.get_running_loop()
        try:
            secret = await loop.run_in_executor(self._executor, _read_secret, remote.password_file)
        except (OSError, ValueError) as error:
            cause = f"{remote.password_file}: {error}"
            raise Refused(Reply(451, "4.3.5", "Local error, please try again later", "", "auth", cause)) from None
        clear = host.port == 0 or loopback(host.address)
        return Credentials(remote.user, secret, clear, prepared(secret), secrets.token_urlsafe(NONCE_BYTES))

    async def _seven_bit(self, envelope: Envelope, content: Content) -> tuple[Envelope, Content, int]:
        """The same mail for a host that takes no 8-bit content."""
        assert self._convert is not None
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(self._executor, self._convert, content)
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


def _steps(remote: Remote, host: Host) -> tuple[Step, ...]:
    if host.port == 0:
        return ("clear",)
    if remote.scheme == "smtps":
        return host.tls.steps[:1]
    return host.tls.steps


def _policy(remote: Remote, host: Host, step: Step) -> TlsPolicy:
    if remote.scheme == "smtps":
        return "on"
    if step == "clear":
        return "no"
    return "may" if host.tls.level == "may" else "must"


def _lacks_tls(dialogue: Dialogue, remote: Remote, host: Host) -> bool:
    """Whether the peer greeted us well, but has no TLS, or would not begin it."""
    if host.port == 0 or remote.scheme == "smtps":
        return False
    return dialogue.want is Want.IDLE or (dialogue.failure is not None and dialogue.failure.stage == "starttls")


def _remember(connection: Connection) -> None:
    """The TLS session of a connection that served its first mail."""
    if connection.transactions != 1 or not connection.tls or connection.ended:
        return
    tls = connection.transport.get_extra_info("ssl_object")
    if tls is not None and isinstance(tls.context, ResumingContext):
        tls.context.remember(tls)


def _server_name(host: Host) -> str:
    return host.tls.names[0] if host.tls.names else host.name or host.address


def _most(config: Config) -> int:
    """Connections to one host; who may have how many at work is decided before."""
    delivery = config.delivery
    return max(delivery.max_per_domain, *(site.connections for site in delivery.sites), 1)


def _no_answer(words: str, cause: str) -> Reply:
    return Reply(451, "4.4.1", words, stage="connect", cause=cause)


def unsafe(reply: Reply) -> bool:
    """Whether it says that the host has no TLS that could be verified, rather than that something went wrong."""
    return reply.stage == "starttls" and reply.status in ("4.7.4", "4.7.5") and reply.text != HANDSHAKE_FAILED


def _unverified(fault: Fault) -> Reply:
    return Reply(454, "4.7.5", fault.words, stage="starttls", cause=fault.cause)


def _read_secret(path: str) -> str:
    """The first line of the file."""
    with open(path, encoding="utf-8") as file:
        secret = file.readline(SECRET_MAX).rstrip("\r\n")
    if not secret:
        raise ValueError("empty")
    return secret


def _eight_bit(chunks: Iterable[bytes]) -> bool:
    return not all(chunk.isascii() for chunk in chunks)


def _blocks(path: str) -> Iterator[bytes]:
    offset = 0
    while chunk := read_chunk(path, offset):
        yield chunk
        offset += len(chunk)
