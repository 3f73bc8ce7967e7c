"""One connection: octets between a transport and a Conversation, under deadlines.

`Session` is aiosmtpd's protocol with the command loop taken out. The stock loop runs in a task which the peer's EOF
cancels, awaits once per line, shares one timer over all of DATA and answers an internal error with its text and a 500.
Here each chunk is one call of `Conversation.receive` and one write, and what must survive the peer runs in a task that
the server owns.
"""

import asyncio
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from aiosmtpd.smtp import SMTP

from mtad.inbound.conversation import Conversation
from mtad.inbound.host import Host
from mtad.mail.envelope import Peer, Source
from mtad.mail.reply import LOCAL_ERROR, Reply

TLS_HANDSHAKE_S = 30
LINGER_S = 10.0  # how long a peer may take to read our last words
GRACE_S = 3600.0  # a mail that takes longer must come at RATE_MIN or faster
RATE_MIN = 100.0  # octets per second

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
        self._deadline = 0.0  # loop time
        self._timer: asyncio.TimerHandle | None = None
        self._lines = 0  # commands, when the deadline was last moved
        self._data_at = 0.0  # when DATA began, loop time
        self._data_bytes = 0
        self._blocked = False  # the peer does not read what we write
        self._paused = False
        self._eof = False
        self._handshaking = False
        self._stopping = False

    # The transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._handshaking:
            self._secured(cast("asyncio.Transport", transport))
            return
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self.since_at = self.loop.time()
        self.conversation = Conversation(self._peer(self.transport), self.owner.host)
        self._deadline = self.since_at + self._limits.command_timeout_s
        self._tick()
        refusal = self.owner.opened(self)
        if refusal is not None:
            if self.source != "submissions":  # who waits for TLS could not read it
                self.transport.write(refusal.wire())
            self._close()
        elif self.source == "submissions":
            self._begin_tls()
        else:
            self.transport.write(self.conversation.greeting())

    def data_received(self, data: bytes) -> None:
        conversation = self.conversation
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
        self._pause()

    def resume_writing(self) -> None:
        self._blocked = False
        self._resume()

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is None:
            return
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
        self.conversation.abandon()
        self.owner.closed(self)

    # The server calls

    def stop(self) -> None:
        """Say goodbye now if nothing would be lost, else after the mail that is on its way."""
        self._stopping = True
        if self._handshaking:
            self.abort()
        elif self.transport is not None and self.conversation.idle and not self.conversation.closing:
            self.transport.write(SHUTTING_DOWN.wire())
            self._close()

    def abort(self) -> None:
        """End it now. What is in work goes on without a listener."""
        if self.transport is not None:
            self.transport.abort()

    # Inner steps

    def _peer(self, transport: asyncio.Transport) -> Peer:
        if self.source == "local":
            sock = transport.get_extra_info("socket")
            _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return Peer("local", uid=uid)
        name = transport.get_extra_info("peername") or ("", 0)
        return Peer(self.source, ip=name[0], port=name[1])

    def _answer(self, replies: bytes, octets: int) -> None:
        """Say it, and see what the conversation wants next."""
        conversation, transport = self.conversation, self.transport
        if transport is None:
            return
        if replies:
            transport.write(replies)
        if conversation.work is not None:
            self._deadline = float("inf")  # the peer waits for us
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
            self._deadline = self.loop.time() + self._limits.command_timeout_s
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
        slow = now - self._data_at > GRACE_S and self._data_bytes < RATE_MIN * (now - self._data_at)
        self._deadline = now if slow else now + self._limits.data_timeout_s

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
        self._deadline = self.loop.time() + LINGER_S
        if self.transport is not None:
            self.transport.close()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = self.loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        """The one timer of a session: it fires rarely and looks at the deadline, which moves often and for free."""
        if self.transport is None:
            return
        now = self.loop.time()
        if now < self._deadline:
            # No deadline is nearer than this when it is set, so none is missed.
            step = min(self._limits.command_timeout_s, self._limits.data_timeout_s, TLS_HANDSHAKE_S)
            self._timer = self.loop.call_at(min(self._deadline, now + step), self._tick)
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

    def _begin_tls(self) -> None:
        """STARTTLS, or TLS from the first octet. From here on every octet is the TLS layer's: done at once and not by
        `loop.start_tls`, which leaves a moment in which clear text, or the client's first words, come to us."""
        assert self.transport is not None
        assert self.tls_context is not None
        ended: asyncio.Future[None] = self.loop.create_future()
        ended.add_done_callback(self._handshake_ended)
        layer = SSLProtocol(
            self.loop, self, self.tls_context, ended, server_side=True, ssl_handshake_timeout=TLS_HANDSHAKE_S
        )
        self._handshaking = True
        self._deadline = self.loop.time() + TLS_HANDSHAKE_S
        self.transport.set_protocol(layer)
        layer.connection_made(self.transport)

    def _secured(self, transport: asyncio.Transport) -> None:
        self._handshaking = False
        self.transport = transport
        self.conversation.secured(tls_words(transport.get_extra_info("ssl_object")))
        self._lines = self.conversation.lines
        self._deadline = self.loop.time() + self._limits.command_timeout_s
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


def tls_words(ssl_object: Any) -> str:
    """ "TLSv1.3 TLS_AES_256_GCM_SHA384" """
    cipher = ssl_object.cipher()
    return f"{ssl_object.version()} {cipher[0] if cipher else ''}"
