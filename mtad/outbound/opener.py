"""A connection to one host, opened and secured as its Requirement says: ready for a transaction, or why not."""

import asyncio
import os
import secrets
import ssl
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

from mtad.accounts.scram import prepared
from mtad.config import Config
from mtad.mail.dialogue import Dialogue
from mtad.mail.envelope import Clock
from mtad.mail.opening import TlsPolicy, Want
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply
from mtad.mail.sasl import Credentials
from mtad.outbound.connection import Connection, Timeouts
from mtad.outbound.dial import SourceError, dial
from mtad.outbound.route import Host, Remote, listens, loopback
from mtad.tls.contexts import Mode, TlsError
from mtad.tls.dane import peer_chain
from mtad.tls.requirement import Step
from mtad.tls.sessions import ResumingContext
from mtad.tls.tlsrpt import HANDSHAKE_FAILED, Fault, fault_of

SECRET_MAX = 4096
NONCE_BYTES = 18

OnEnd = Callable[[Connection], None]

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
_ENDED_AFTER = "The connection ended right after the TLS handshake"
_NOT_OFFERED = Fault("starttls-not-supported", "The host offers no TLS")


class NoWay(Refused):
    """There was no way to begin. `address` is the one that answered and yet would not do; "": none answered."""

    def __init__(self, reply: Reply, address: str = "") -> None:
        super().__init__(reply)
        self.address = address


class Opener:
    """Opens connections; what they have in common, the contexts of TLS and their sessions, is kept here."""

    def __init__(
        self,
        config: Config,
        executor: Executor,
        tls_context: Callable[[Mode], ssl.SSLContext],
        timeouts: Timeouts,
        tls_seen: TlsSeen,
        clock: Clock,
    ) -> None:
        self._config = config
        self._executor = executor
        self._tls_context = tls_context
        self._timeouts = timeouts
        self._tls_seen = tls_seen
        self._clock = clock
        self._contexts: dict[Step, ssl.SSLContext] = {}

    def reload(self, config: Config) -> None:
        """New settings; the next connections read certificates and authorities anew."""
        self._config = config
        self._contexts.clear()

    async def open(self, remote: Remote, host: Host, on_end: OnEnd) -> Connection:
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
                on_end,
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
                connection, ready = await self._try(on_end, remote, host, step, credentials, faults, last=last)
            if ready:
                return connection
            host = host.at(connection.address)
        raise NoWay(LOCAL_ERROR)

    async def _try(
        self,
        on_end: OnEnd,
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
        connection = Connection(dialogue, self._timeouts, self._executor, on_end)
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
            raise Refused(no_answer("Connection timed out", "")) from None
        except (ssl.SSLError, ValueError) as error:
            fault = fault_of(error)
            self._tls_seen(host, "", fault)
            raise Refused(_unverified(fault)) from None
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else "Connection failed"
            raise Refused(no_answer(words, "" if error.errno else repr(error))) from None
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
        if host.tls.level == "may":
            # With TLS 1.3 a host says only now that it will not go on (it wants a certificate of ours, for example).
            await connection.wait()
            failure = connection.dialogue.failure
            if failure is not None and failure.status == "4.4.2" and not failure.host:
                return Fault("validation-failure", _ENDED_AFTER, failure.cause)
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


def remember(connection: Connection) -> None:
    """The TLS session of a connection that served its first mail."""
    if connection.transactions != 1 or not connection.tls or connection.ended:
        return
    tls = connection.transport.get_extra_info("ssl_object")
    if tls is not None and isinstance(tls.context, ResumingContext):
        tls.context.remember(tls)


def _server_name(host: Host) -> str:
    return host.tls.names[0] if host.tls.names else host.name or host.address


def no_answer(words: str, cause: str) -> Reply:
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
