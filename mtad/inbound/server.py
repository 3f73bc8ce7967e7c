"""The way in: listeners, and the connections they let in."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtad.accounts.directory import Directory
from mtad.accounts.users import Users
from mtad.config import Address, Config
from mtad.events import Events
from mtad.inbound.accept import Acceptor
from mtad.inbound.guard import Guard, Usage
from mtad.inbound.host import Host
from mtad.inbound.limits import Connections, client_key
from mtad.inbound.session import SHUTTING_DOWN, Session
from mtad.mail.envelope import Clock, Peer, Source
from mtad.mail.reply import Reply
from mtad.tls.contexts import ServerContext

BACKLOG = 1024
WORK_S = 60.0  # for durable steps at the end; the store answers much sooner
SUBMIT_MODE_MASK = 0o111  # -> 0666: anyone on this host may submit; who it was, SO_PEERCRED says


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One open connection, for the operator."""

    number: int
    peer: Peer
    listener: str  # where it came in
    since_at: float
    state: str  # new, idle, auth, mail, rcpt, data, working, tls
    mails: int  # accepted
    commands: int
    errors: int


class Inbound:
    """All listeners and their sessions. `host` is replaced on reload: open sessions keep the old one."""

    def __init__(
        self,
        config: Config,
        acceptor: Acceptor,
        directory: Directory,
        users: Users,
        tls_context: ServerContext | None,
        events: Events,
        clock: Clock,
        guard: Guard,
    ) -> None:
        self.host = Host(config, acceptor, directory, users, events, guard, tls=tls_context is not None)
        self._tls = tls_context
        self._clock = clock
        self._connections = Connections(config.limits.connections, config.limits.connections_per_ip)
        self._servers: list[asyncio.Server] = []
        self._listening: list[tuple[Source, Any]] = []
        self._sessions: dict[int, tuple[Session, float]] = {}
        self._next_number = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._empty = asyncio.Event()
        self._empty.set()

    def reload(
        self, config: Config, acceptor: Acceptor, directory: Directory, users: Users, tls_context: ServerContext | None
    ) -> None:
        """New connections get the new settings; the listeners stay as they are."""
        guard = self.host.guard
        guard.reload(config)
        self.host = Host(config, acceptor, directory, users, self.host.events, guard, tls=tls_context is not None)
        self._tls = tls_context
        self._connections.resize(config.limits.connections, config.limits.connections_per_ip)

    def renew_tls(self, tls_context: ServerContext) -> None:
        """Other certificates for new connections."""
        self._tls = tls_context

    async def start(self, sockets: Mapping[str, Sequence[socket.socket]] | None = None) -> None:
        """Listen. `sockets` by listener name (smtp, submission, submissions, submit), where a service manager made
        them; the others are made here. OSError names the address."""
        config, given = self.host.config, sockets or {}
        listeners: tuple[tuple[str, Source, Sequence[Address]], ...] = (
            ("smtp", "smtp", config.listen.smtp),
            ("submission", "submission", config.listen.submission),
            ("submissions", "submissions", config.listen.submissions if self._tls is not None else ()),
        )
        try:
            for name, source, addresses in listeners:
                for sock in given.get(name) or bind(addresses):
                    await self._listen(source, sock)
            for sock in given.get("submit") or [_submit(config.paths.submit)]:
                await self._listen("local", sock)
        except BaseException:
            self._close_listeners()
            raise

    def addresses(self, source: Source) -> list[Any]:
        """Where a listener can be reached: (host, port ...) or the path of the socket."""
        return [name for listener, name in self._listening if listener == source]

    def listening(self) -> list[str]:
        """All listeners, as people write them: "smtp 127.0.0.1:2525"."""
        return [f"{listener} {_shown(name)}" for listener, name in self._listening]

    def sessions(self) -> list[SessionInfo]:
        """Who is connected, oldest first."""
        return [
            SessionInfo(
                number, talk.peer, session.listener, since, session.state, talk.accepted, talk.lines, talk.errors
            )
            for number, session, talk, since in (
                (number, session, session.conversation, since) for number, (session, since) in self._sessions.items()
            )
        ]

    def close(self, number: int) -> bool:
        """End a session: now, or after the durable step it is in. False: there is none of that number."""
        if number not in self._sessions:
            return False
        self._sessions[number][0].dismiss()
        return True

    def usage(self, who: str) -> list[Usage]:
        """What counts for an IP address, a user or a @domain; "" = the limits, and how many they are counted for."""
        limits, found = self.host.limits, []
        if not who:
            total = self._connections.total
            found.append(Usage("all", "open connections", total, str(limits.connections), "limits.connections"))
        elif "@" not in who:
            count, most = self._connections.count(client_key(who)), str(limits.connections_per_ip)
            found.append(Usage("client", "open connections", count, most, "limits.connections_per_ip"))
        return [*found, *self.host.guard.usage(who)]

    def stop_listening(self) -> None:
        """Let nobody in any more. Idempotent."""
        self._stopping = True
        self.host.guard.stop()
        self._close_listeners()

    async def drain(self, timeout_s: float) -> int:
        """Send everybody away; who is in the middle of a mail may finish it until the time is up. A durable step that
        has begun is finished in any case. How many connections were cut."""
        self.stop_listening()
        for session, _ in list(self._sessions.values()):
            session.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        cut = list(self._sessions.values())
        for session, _ in cut:
            session.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=WORK_S)
        await self.host.guard.drain()
        return len(cut)

    # What a session calls (session.Owner)

    def opened(self, session: Session) -> Reply | None:
        if self._stopping:
            return SHUTTING_DOWN
        peer = session.conversation.peer
        key = client_key(peer.ip, peer.uid)
        refusal = self.host.guard.connect(peer) or self._connections.enter(key)
        if refusal is not None:
            self.host.events.refused(peer, "connect", refusal, "")
            return refusal
        session.key = key
        session.number = self._next_number
        self._next_number += 1
        self._sessions[session.number] = session, self._clock()
        self._empty.clear()
        self.host.events.connected(peer)
        return None

    def closed(self, session: Session) -> None:
        if not session.key:
            return
        self._connections.leave(session.key)
        del self._sessions[session.number]
        if not self._sessions:
            self._empty.set()
        self.host.events.disconnected(session.conversation.peer)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Listeners

    async def _listen(self, source: Source, sock: socket.socket) -> None:
        def factory() -> Session:
            tls = self._tls
            return Session(self, source, tls if tls is None or source == "smtp" else tls.users)

        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            server: asyncio.Server = await loop.create_unix_server(factory, sock=sock, backlog=BACKLOG)
        else:
            server = await loop.create_server(factory, sock=sock, backlog=BACKLOG)
        self._servers.append(server)
        self._listening.append((source, sock.getsockname()))
        self.host.events.listening(source, _shown(sock.getsockname()))

    def _close_listeners(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._listening.clear()


def bind(addresses: Sequence[Address]) -> list[socket.socket]:
    """A bound socket for each address; a name stands for all its addresses. OSError names the address."""
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            host, flags = address.host or None, socket.AI_PASSIVE
            for family, kind, protocol, _, name in socket.getaddrinfo(
                host, address.port, 0, socket.SOCK_STREAM, 0, flags
            ):
                sock = socket.socket(family, kind, protocol)
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    sock.bind(name)
                except OSError as error:
                    raise OSError(error.errno, f"{_shown(name)}: {error.strerror}") from None
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _submit(path: str) -> socket.socket:
    """The local socket, open to all. The store's lock says that no other daemon is behind an old one."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(SUBMIT_MODE_MASK)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{path}: {error.strerror}") from None
    finally:
        os.umask(old)
    return sock


def _shown(name: Any) -> str:
    if isinstance(name, str):
        return name
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
