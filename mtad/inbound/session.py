"""One connection: octets between a transport and a Conversation, under deadlines.

`Session` is aiosmtpd's protocol with the command loop taken out. The stock loop runs in a task which the peer's EOF
cancels, awaits once per line, shares one timer over all of DATA and answers an internal error with its text and a 500.
Here each chunk is one call of `Conversation.receive` and one write, and what must survive the peer runs in a task that
the server owns.
"""

import asyncio
import ssl
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Protocol, cast

from aiosmtpd.smtp import SMTP

from mtad.inbound import carrier, proxy, words
from mtad.inbound.conversation import Conversation
from mtad.inbound.deadline import Deadline
from mtad.inbound.host import Host
from mtad.inbound.limits import patience_s
from mtad.mail.envelope import Source
from mtad.mail.reply import LOCAL_ERROR, Reply

TLS_HANDSHAKE_S = 30
LINGER_S = 10.0  # how long a peer may take to read our last words
BLOCKED_S = 60.0  # how long a peer may leave unread what we wrote, once it is more than the buffers hold

SHUTTING_DOWN = Reply(421, "4.3.2", "Server is shutting down", stage="connect")
_TIMEOUT = Reply(421, "4.4.2", "Timeout, closing").wire()
_FAILED = Reply(421, LOCAL_ERROR.status, LOCAL_ERROR.text).wire()


class Owner(Protocol):
    """The server, as a session sees it."""

    @property
    def host(self) -> Host: ...

    def opened(self, session: "Session") -> Reply | None:
        """Count it in, or say why not."""

    def closed(self, session: "Session") -> None: ...

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """In a task that no peer can cancel."""


class Session(SMTP):
    """An SMTP connection. Made by a listener, ended by the peer, a deadline, or the server's stop."""

    # Not super().__init__(): it looks at every attribute of three objects (139 us), clears a table that all connections
    # share, and asks the DNS for our name.
    def __init__(self, owner: Owner, source: Source, tls_context: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.owner = owner
        self.source: Source = source
        self.tls_context = tls_context
        self.transport: asyncio.Transport | None = None
        self.conversation: Conversation
        self.key = ""  # for the connection counters; "" = not counted
        self.number = 0  # in the server's registry
        self.since_at = 0.0  # loop time
        self._limits = owner.host.limits
        self._deadline = Deadline(self.loop, self._expired)
        self._header: bytes | None = None  # of the PROXY protocol, as far as it came; None = none is expected
        self._greeting: asyncio.TimerHandle | None = None  # the greeting waits for it
        self._lines = 0  # commands, when the deadline was last moved
        self._data_at = 0.0  # when DATA began, loop time
        self._data_bytes = 0
        self._blocked = False  # the peer does not read what we write
        self._paused = False
        self._eof = False
        self._handshaking = False
        self._stopping = False
        self._farewell = SHUTTING_DOWN

    @property
    def listener(self) -> str:
        """The address where it came in; "" for programs of this host."""
        name = self.transport.get_extra_info("sockname") if self.transport is not None else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) and len(name) > 1 else ""

    @property
    def state(self) -> str:
        """What it does, for the operator."""
        if self._handshaking:
            return "tls"
        return "closing" if self.conversation.closing else self.conversation.state

    # The transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._handshaking:
            self._secured(cast("asyncio.Transport", transport))
            return
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self.since_at = self.loop.time()
        self._deadline.end(self._limits.session_timeout_s)
        peer, host = carrier.peer_of(self.transport, self.source), self.owner.host
        self.conversation = Conversation(peer, host)
        if peer.ip in host.proxies:
            self._header = b""
            self._allow(self._limits.proxy_timeout_s)
        else:
            self._begin(b"")

    def _begin(self, early: bytes) -> None:
        """It is known who it is: let it in. `early` is what it said already."""
        assert self.transport is not None
        self._allow(self._limits.command_timeout_s)
        refusal = self.owner.opened(self)
        if refusal is not None:
            if self.source != "submissions":  # who waits for TLS could not read it
                self.transport.write(refusal.wire())
            self._close()
        elif self.source == "submissions":
            self._begin_tls(early)
        elif self.source == "smtp" and self.conversation.stranger and self.owner.host.strict:
            self._greet_later(early)
        else:
            self._greet()
            if early:
                self.data_received(early)

    def _greet_later(self, early: bytes) -> None:
        """A stranger has to wait for the greeting (RFC 5321 3.1); software that sends junk mail often does not."""
        if early or (self.transport is not None and carrier.has_spoken(self.transport)):
            self._too_early()
        elif self._limits.greet_delay_s:
            self._greeting = self.loop.call_later(self._limits.greet_delay_s, self._greet)
        else:
            self._greet()

    def _greet(self) -> None:
        self._greeting = None
        if self.transport is not None and not self.conversation.closing:
            self.transport.write(self.conversation.greeting())

    def _too_early(self) -> None:
        host = self.owner.host
        host.guard.error(self.conversation.peer)
        self._refuse(words.TOO_EARLY)

    def _refuse(self, reply: Reply) -> None:
        """The last word of this connection, told to the log."""
        self.owner.host.events.refused(self.conversation.peer, reply.stage, reply, "")
        if self.transport is not None:
            self.transport.write(reply.wire())
        self._close()

    def _header_came(self, data: bytes) -> None:
        """A load balancer says for whom it stands (PROXY protocol)."""
        assert self._header is not None
        peer = self.conversation.peer
        self._header += data
        try:
            said = proxy.parse(self._header)
        except proxy.Malformed as error:
            self.owner.host.events.refused(peer, "connect", words.NO_PROXY_HEADER.because(str(error)), "")
            self.abort()
            return
        if said is None:
            return
        self._header = None
        if said.ip:
            peer = replace(peer, ip=said.ip, port=said.port)
            self.conversation = Conversation(peer, self.owner.host)
        self._begin(said.rest)

    def data_received(self, data: bytes) -> None:
        if self._header is not None:
            self._header_came(data)
            return
        conversation = self.conversation
        if self._greeting is not None:
            self._greeting.cancel()
            self._greeting = None
            self._too_early()
            return
        if conversation.work is not None:
            self._pause()
            conversation.receive(data)
            return
        try:
            replies = conversation.receive(data)
        except Exception as exc:  # noqa: BLE001  (a bug ends this connection, not the daemon; the peer may try again)
            self._failed(exc)
            return
        self._answer(replies, len(data))

    def eof_received(self) -> bool:
        """The peer has said its last word. It may still listen: what is in work is answered."""
        self._eof = True
        return self.conversation.work is not None and not self.conversation.peer.tls

    def pause_writing(self) -> None:
        self._blocked = True
        if not self.conversation.closing:
            self._allow(BLOCKED_S)
        self._pause()

    def resume_writing(self) -> None:
        self._blocked = False
        if not self.conversation.closing:
            self._allow(self._limits.command_timeout_s)
        self._resume()

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is None:
            return
        self.transport = None
        self._deadline.cancel()
        if self._greeting is not None:
            self._greeting.cancel()
        self.conversation.abandon()
        self.owner.closed(self)

    # The server calls

    def stop(self) -> None:
        """Say goodbye now if nothing would be lost, else after the mail that is on its way."""
        self._stopping = True
        if self._handshaking:
            self.abort()
        elif self.transport is not None and self.conversation.idle and not self.conversation.closing:
            self.transport.write(self._farewell.wire())
            self._close()

    def dismiss(self) -> None:
        """The operator wants it to end: now, or after the step that is in work."""
        self._farewell = words.CLOSED
        if self.conversation.work is not None or self._handshaking:
            self.stop()
        elif not self.conversation.closing:
            self._refuse(words.CLOSED)

    def abort(self) -> None:
        """End it now. What is in work goes on without a listener."""
        if self.transport is not None:
            self.transport.abort()

    # Inner steps

    def _answer(self, replies: bytes, octets: int) -> None:
        """Say it, and see what the conversation wants next."""
        conversation, transport = self.conversation, self.transport
        if transport is None:
            return
        if replies:
            transport.write(replies)
        if conversation.work is not None:
            self._deadline.lift()  # the peer waits for us
            self.owner.run(self._work())
        elif conversation.closing:
            self._close()
        elif conversation.starttls:
            self._begin_tls()
        elif self._eof:
            transport.close()
        elif conversation.receiving:
            self._data_came(octets)
        elif conversation.lines != self._lines:
            # Per command, not per octet: dribbling a command does not keep a connection.
            self._lines = conversation.lines
            self._allow(self._limits.command_timeout_s)
            if self._stopping:
                self.stop()

    def _data_came(self, octets: int) -> None:
        """A deadline per block (RFC 5321 4.5.3.2.5); but a trickle is an attack, however steady."""
        now = self.loop.time()
        if self.conversation.lines != self._lines:
            self._lines = self.conversation.lines
            self._data_at = now
            self._data_bytes = 0
        self._data_bytes += octets
        self._allow(patience_s(now - self._data_at, self._data_bytes, self._limits))

    async def _work(self) -> None:
        """Do what the conversation waits for, and say how it ended if anyone still listens."""
        conversation = self.conversation
        assert conversation.work is not None
        reply = await conversation.work
        if self.transport is None:
            conversation.work = None
            return
        try:
            replies = conversation.resume(reply)
        except Exception as exc:  # noqa: BLE001  (as above)
            self._failed(exc)
            return
        self._lines = -1  # the peer's time begins now
        self._answer(replies, 0)
        self._resume()

    def _failed(self, exc: Exception) -> None:
        self.owner.host.events.internal_error("session", exc)
        if self.transport is not None:
            self.transport.write(_FAILED)
        self._close()

    def _close(self) -> None:
        """Close once the peer has read what we wrote, or after LINGER_S."""
        self.conversation.closing = True
        if self.transport is not None:
            self.transport.close()
            self._deadline.end(LINGER_S)
            self._allow(LINGER_S)

    def _allow(self, seconds: float) -> None:
        """So long the peer has for its next step."""
        if self.transport is not None:
            self._deadline.allow(min(seconds, BLOCKED_S) if self._blocked else seconds)

    def _expired(self) -> None:
        if self.transport is None:
            return
        if self._header is not None:
            self.owner.host.events.refused(self.conversation.peer, "connect", words.NO_PROXY_HEADER, "")
            self.abort()
        elif self.conversation.closing or self._blocked or self._handshaking:
            self.transport.abort()
        else:
            self.transport.write(_TIMEOUT)
            self._close()

    def _pause(self) -> None:
        if not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._blocked and self.conversation.work is None and self.transport is not None:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # TLS

    def _begin_tls(self, early: bytes = b"") -> None:
        """STARTTLS, or TLS from the first octet. From here on every octet is the TLS layer's."""
        assert self.transport is not None
        assert self.tls_context is not None
        self._handshaking = True
        self._allow(TLS_HANDSHAKE_S)
        ended = carrier.put_tls(self.transport, self, self.tls_context, early, TLS_HANDSHAKE_S)
        ended.add_done_callback(self._handshake_ended)

    def _secured(self, transport: asyncio.Transport) -> None:
        self._handshaking = False
        self.transport = transport
        tls = carrier.secured(transport)
        self.conversation.secured(tls.words, ours=tls.ours, theirs=tls.theirs, exported=tls.exported)
        self._lines = self.conversation.lines
        self._allow(self._limits.command_timeout_s)
        if self.source == "submissions":
            transport.write(self.conversation.greeting())

    def _handshake_ended(self, ended: "asyncio.Future[None]") -> None:
        """The TLS layer tells only this future about a connection that it lost on the way."""
        exc = None if ended.cancelled() else ended.exception()
        if not self._handshaking or self.transport is None:
            return
        self.owner.host.events.tls_failed(self.conversation.peer, f"{type(exc).__name__}: {exc}" if exc else "lost")
        self.transport.abort()
        self.connection_lost(None)
