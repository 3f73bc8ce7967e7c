"""The HTTP listener, off unless configured: /metrics, /health and /api/queue/stats, for reading only; and the MTA-STS
policy of our domains, for a web server that has the certificate of mta-sts.DOMAIN and asks here."""

import asyncio
import contextlib
import hmac
import os
import socket

from mtad.config import Address
from mtad.control.admin import Admin
from mtad.control.handlers.queue import queue_stats
from mtad.control.httpwire import HEAD_MAX_BYTES, Refused, Reply, Request, json_body, parse, read_head
from mtad.control.metrics import certificates_end_at, exposition, gauges, queue_gauges
from mtad.publish.host import certified
from mtad.publish.records import STS_PATH, sts_policy_for
from mtad.queue.store import StoreError

CONNECTIONS_MAX = 100
DEADLINE_S = 10.0  # for a request and its answer, and again for sending it
STORE_S = 2.0
LINGER_S = 1.0  # closing on unread octets would reset the connection, and the reply with it (RFC 9112 9.6)
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
CROWDED = Refused(503, "too many connections at this moment").reply


class HttpServer:
    """Listens on `address`. `admin` is what answers are made from; a reload replaces it."""

    def __init__(self, admin: Admin, address: Address, *, deadline_s: float = DEADLINE_S) -> None:
        self._address = address
        self._deadline_s = deadline_s
        self._started_at = admin.clock()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._token = admin.config.access.admin_token.encode()
        self.update(admin)

    def update(self, admin: Admin) -> None:
        """The settings changed, the token and the certificate among them. The address stays, and where the settings
        have another one, none of them says that this one needs no token: the old token stays too."""
        self._admin = admin
        token = admin.config.access.admin_token.encode()
        if token or admin.config.listen.http == self._address:
            self._token = token
        self._certificate_ends_at = certificates_end_at(admin)
        self._host = certified(admin.config, admin.app.certificates())

    async def start(self) -> None:
        """Bind and listen. OSError names the address."""
        host, port = self._address.host, self._address.port
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=HEAD_MAX_BYTES)
        except OSError as error:  # in the event loop's words
            cause = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            raise OSError(error.errno, f"{_shown(host, port)}: {cause}") from None
        for address in self.addresses():
            self._admin.events.listening("http", _shown(*address))

    def addresses(self) -> list[tuple[str, int]]:
        """Where it can be reached: nowhere when it is stopped."""
        return [] if self._server is None else [sock.getsockname()[:2] for sock in self._server.sockets]

    async def stop(self, grace_s: float = 2.0) -> None:
        """Let nobody in any more, let who is in end within `grace_s`. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(
            self._serve(reader, writer, crowded=len(self._tasks) >= CONNECTIONS_MAX)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, crowded: bool) -> None:
        """One connection, from its first octet to its last."""
        try:
            writer.transport.set_write_buffer_limits(0)  # drain() waits until all is sent
            writer.write(CROWDED.octets(self._admin.clock()) if crowded else await self._converse(reader))
            async with asyncio.timeout(self._deadline_s):
                await writer.drain()
            async with asyncio.timeout(0 if crowded else LINGER_S):
                writer.write_eof()
                while await reader.read(HEAD_MAX_BYTES):
                    pass
        except OSError:  # TimeoutError too: the peer is gone, or neither reads nor goes
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader) -> bytes:
        """Read the request; the octets that answer it, none where nothing was asked."""
        lines: list[bytes] = []
        try:
            async with asyncio.timeout(self._deadline_s):
                lines = await read_head(reader)
                if not lines:
                    return b""
                reply = await self._answer(parse(lines))
        except Refused as refused:
            reply = refused.reply
        except TimeoutError:
            reply = (Refused(503, "no answer in time") if lines else Refused(408, "no request in time")).reply
        except StoreError as error:
            self._admin.events.store_trouble(str(error))
            reply = Refused(503, "the queue does not answer").reply
        except ConnectionError:
            return b""
        except Exception as error:  # noqa: BLE001  (no request may end the daemon)
            number = self._admin.events.internal_error("http", error)
            reply = Refused(500, f"internal error; the daemon's log has the details under {number}").reply
        return reply.octets(self._admin.clock(), with_body=not (lines and lines[0].startswith(b"HEAD ")))

    async def _answer(self, request: Request) -> Reply:
        if request.path == "/health":
            return await self._health()
        if request.path == STS_PATH:  # for all the world, so without the token
            policy = sts_policy_for(request.host, self._host)
            if not policy:
                raise Refused(404, "no such policy: the Host is mta-sts. and one of our domains")
            return Reply(200, policy.encode("ascii"), "text/plain")
        if request.path not in {"/metrics", "/api/queue/stats"}:
            raise Refused(404, "there are /metrics, /health and /api/queue/stats")
        scheme, _, given = request.authorization.partition(b" ")
        known = scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(b" "), self._token)
        if self._token and not known:
            raise Refused(401, "a bearer token is needed", 'WWW-Authenticate: Bearer realm="mtad"')
        if request.path == "/metrics":
            return Reply(200, (await self._metrics()).encode(), EXPOSITION)
        (row,) = [row async for row in queue_stats(self._admin, {})]
        return Reply(200, json_body(row))

    async def _health(self) -> Reply:
        """Whether mail can come in: the queue's writer answers, and a listener is open."""
        reasons = []
        try:
            async with asyncio.timeout(STORE_S):
                await self._admin.store.next_due(self._admin.clock())
        except (StoreError, TimeoutError):
            reasons.append("the queue does not answer")
        if not self._admin.app.status().get("listeners"):
            reasons.append("no listener is open")
        if reasons:
            return Reply(503, json_body({"status": "unavailable", "reasons": reasons}))
        return Reply(200, json_body({"status": "ok"}))

    async def _metrics(self) -> str:
        """The counters come in any case: they matter most when the queue is in trouble (mtad_store_up is 0 then)."""
        now = self._admin.clock()
        found = {**gauges(self._admin, self._certificate_ends_at), "mtad_store_up": 0}
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(STORE_S):
                found |= {**queue_gauges(await self._admin.store.stats(now), now), "mtad_store_up": 1}
        return exposition(self._admin.events.counters.copy(), found)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
