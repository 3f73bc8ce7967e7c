"""A control server over a real store and a real socket, in a thread of its own."""

import asyncio
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mtad.accounts.blocks import Blocks
from mtad.accounts.passwords import Cost
from mtad.accounts.suppressions import Suppressions
from mtad.accounts.users import Users
from mtad.config import Config, ConfigError, ConfigErrors, Local, Paths
from mtad.control.admin import Admin
from mtad.control.server import ControlServer
from mtad.dkim.keys import Keys
from mtad.events import Events
from mtad.inbound.guard import Usage
from mtad.inbound.server import SessionInfo
from mtad.mail.envelope import Attempt, Job, Message, NewMessage, Peer, Recipient, State
from mtad.mail.ident import Ids
from mtad.mail.reply import Refused, Reply
from mtad.outbound.sites import Sites
from mtad.outbound.suspensions import Suspensions
from mtad.queue.sqlite import SqliteStore, open_store
from mtad.queue.store import Settlement
from mtad.tls.certificates import Certificate

Result = TypeVar("Result")


class App:
    """What a running daemon would do, written down."""

    def __init__(self) -> None:
        self.wakes = 0
        self.reloads = 0
        self.problem = ""
        self._ids = Ids(time.time, random.Random(3))

    def status(self) -> Mapping[str, Any]:
        return {"version": "0", "pid": 1, "uptime_s": 7200}

    def wake(self) -> None:
        self.wakes += 1

    async def reload(self) -> Sequence[str]:
        if self.problem:
            raise ConfigErrors([ConfigError("hostname", self.problem)])
        self.reloads += 1
        return ["nothing changed"]

    def certificates(self) -> Sequence[Certificate]:
        return [Certificate("/tls/a.pem", "/tls/a.key", ("a.test", "*.a.test"), 1_900_000_000.5, b"")]

    async def reload_tls(self) -> Sequence[Certificate]:
        if self.problem:
            raise ConfigErrors([ConfigError("tls", self.problem)])
        return self.certificates()

    async def drain_maildrop(self) -> int:
        return 2

    def sessions(self) -> Sequence[SessionInfo]:
        peer = Peer("smtp", ip="192.0.2.7", port=4242, helo="client.test")
        return [SessionInfo(17, peer, "127.0.0.1:25", 1_800_000_000.5, "data", 2, 30, 4)]

    def close_session(self, number: int) -> bool:
        return number == 17

    def expand(self, address: str) -> tuple[str, ...]:
        if address == "all@example.test":
            raise Refused(Reply(451, "4.2.4", "Alias expansion is too large"))
        return () if address == "nobody@example.test" else (address,)

    def ids(self) -> Ids:
        return self._ids

    def usage(self, who: str) -> Sequence[Usage]:
        return [Usage("client" if who else "all", "errors", 3, "100/10m", "limits.error_rate")]


def make_config(root: Path) -> Config:
    (root / "run").mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    (root / "mtad.toml").write_text('hostname = "mail.example.test"\ndomains = ["example.test"]\n[listen]\nsmtp = []\n')
    paths = Paths(f"{root}/mtad.toml", f"{root}/data", f"{root}/run")
    return Config("mail.example.test", ("example.test",), paths, local=Local(aliases=(f"{root}/aliases",)))


class Bench:
    """The rooms that control works on. Everything that has a loop runs in the loop that made it."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.clock = clock
        self.lines: list[str] = []
        self.app = App()
        self.store: SqliteStore = open_store(config.paths, clock)
        self.users = Users(self.store, clock, random.Random(1), domain=config.domains[0], cost=Cost(ln=1, r=1, p=1))
        self.keys = Keys(config.paths.dkim)
        self.blocks = Blocks(self.store, clock)
        self.suppressions = Suppressions(self.store, clock)
        events = Events(clock, self.lines.append)
        self.sites = Sites(config, self.store, Suspensions(self.store, clock), events, clock, random.Random(3))
        self.admin = Admin(
            config,
            self.store,
            self.users,
            self.keys,
            events,
            clock,
            self.app,
            self.blocks,
            self.suppressions,
            self.sites,
        )
        self.ids = Ids(clock, random.Random(2))

    async def close(self) -> None:
        self.users.close()
        await self.store.close()

    async def accept(
        self,
        *recipients: str,
        sender: str = "alice@example.test",
        size: int = 1000,
        user: str = "",
        uid: int = -1,
        ago_s: float = 0.0,
        reply: Reply | None = None,
        state: State = State.READY,
        subject: str = "Hi",
    ) -> str:
        """Put a message into the queue; with `reply` its recipients were tried once, and wait an hour."""
        now = self.clock() - ago_s
        message_id = self.ids.new()
        peer = Peer("local", ip="192.0.2.7", helo="client.test", user=user, uid=uid)
        message = Message(
            message_id, sender, size, now, now + 5 * 86400, peer, subject=subject, header_id="<1@example.test>"
        )
        rows = tuple(
            Recipient(message_id, n, address, address, address.rpartition("@")[2], state, next_at=now)
            for n, address in enumerate(recipients, 1)
        )
        await self.store.accept(NewMessage(message, rows, b"Subject: Hi\r\n\r\n", b"x" * (size - 15)))
        if reply is not None:
            for job in await self.lease():
                await self._settle(job, reply)
        return message_id

    async def lease(self) -> Sequence[Job]:
        now = self.clock()
        return await self.store.lease(now, now + 600, 1000)

    async def _settle(self, job: Job, reply: Reply) -> None:
        now = self.clock()
        tries = [Attempt(r.n, now, 0.25, reply, "mx.test[192.0.2.1]:25") for r in job.recipients]
        changes = [
            Recipient(
                r.message_id, r.n, r.address, r.original, r.domain,
                State.READY if reply.temporary else State.DONE if reply.ok else State.FAILED,
                r.tries + 1, now + 3600, last=reply,
            )
            for r in job.recipients
        ]  # fmt: skip
        assert await self.store.settle(Settlement(job, tries, changes))


class Daemon:
    """A bench and its control server behind a socket, in a thread. `do` runs a coroutine there."""

    def __init__(self, root: Path, **server: Any) -> None:
        self.root = root
        self.path = str(root / "run" / "control.sock")
        self._runner = asyncio.Runner()
        self._stopping = asyncio.Event()
        self._server_options = server
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.bench = Bench(make_config(self.root))
        self.server = ControlServer(self.bench.admin, self.path, "no-such-group", **self._server_options)
        await self.bench.users.load()
        await self.server.start()
        self._ready.set()
        await self._stopping.wait()
        await self.server.stop()
        await self.bench.close()

    def __enter__(self) -> "Daemon":
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)
        self._runner.close()

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def accept(self, *recipients: str, **more: Any) -> str:
        return self.do(self.bench.accept(*recipients, **more))


def varlink(path: str, method: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> list[dict[str, Any]]:
    """All replies to one call: a varlink client in a few lines, written from its specification alone."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(path)  # before there is a timeout: with one, a full backlog is an error instead of a wait
        link.settimeout(10)
        link.sendall(json.dumps({"method": method, "parameters": parameters or {}, **more}).encode() + b"\0")
        replies, pending = [], b""
        while True:
            octets = link.recv(65536)
            if not octets:
                return replies
            *frames, pending = (pending + octets).split(b"\0")
            replies += [json.loads(frame) for frame in frames]
            if replies and not replies[-1].get("continues"):
                return replies
