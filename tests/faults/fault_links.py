"""Bad links: connections that are cut anywhere, final replies that never arrive, an interface that goes down."""

import asyncio
import contextlib
import ctypes
import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from fault_host import Host
from fault_ledger import Ledger
from fault_load import Load
from fault_power import run
from fault_result import Result, Skipped
from fault_sink import Sink

CLONE_NEWNET = 0x40000000
FINAL = b"250 2.0.0 taken\r\n"


class Proxy:
    """A TCP link to `port`. `cut_at`: the share of connections that are reset after a random number of octets;
    `drop_final`: the share of final replies that are lost, with their connection."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self._to = port
        self._rng = rng
        self.port = 0
        self.cut_at = 0.0  # the share of connections that are cut
        self.drop_final = 0.0
        self.dropped = 0
        self.cuts = 0
        self.on_drop = lambda: None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        left = [self._rng.randrange(1, 3000) if self._rng.random() < self.cut_at else 1 << 60]

        def cut() -> None:
            for one in (writer, there_writer):
                one.transport.abort()

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool) -> None:
            try:
                while chunk := await source.read(4096):
                    left[0] -= len(chunk)
                    if left[0] <= 0:
                        self.cuts += 1
                        target.write(chunk[: left[0]])
                        await target.drain()
                        cut()
                        return
                    if replies and chunk.endswith(FINAL) and self._rng.random() < self.drop_final:
                        self.dropped += 1
                        self.on_drop()
                        cut()
                        return
                    target.write(chunk)
                    await target.drain()
                target.close()
            except OSError:
                cut()

        await asyncio.gather(carry(reader, there_writer, replies=False), carry(there_reader, writer, replies=True))


async def cut_connections(root: Path, count: int, rng: random.Random) -> Result:
    """Both links are cut after a random number of octets: from the clients to the daemon, and from it to the peer."""
    ledger = Ledger()
    async with Sink(ledger, rng, later=0.0) as sink, Proxy(sink.port, rng).open() as out:
        host = Host(root, ledger, out.port)
        async with Proxy(host.port, rng).open() as into:
            out.cut_at = into.cut_at = 0.4
            out.drop_final = 0.05
            out.on_drop = lambda: ledger.died(time.time(), 3)
            host.front = into.port
            try:
                await host.up()
                async with Load(host, rng, sizes=(300, 2_000), programs=0):
                    while out.cuts + into.cuts < count:
                        cuts = out.cuts
                        await asyncio.sleep(0.02)
                        if out.cuts > cuts:
                            ledger.died(time.time(), 3 * (out.cuts - cuts))  # where the final reply was on its way
                out.cut_at = into.cut_at = out.drop_final = 0.0
                await host.drained(120)
                assert await host.stop() == 0
            finally:
                await host.end()
        ledger.mailbox(root / "mail", "box.test")
        assert "Traceback" not in host.log, host.log[-3000:]
    return Result("connections cut", out.cuts + into.cuts, ledger.verdict(), {"final replies lost": out.dropped})


async def link_down(root: Path, count: int, rng: random.Random) -> Result:
    """The peer is behind an interface that goes down for a second, again and again, in the middle of mails; or there is
    no way to it, or a very slow one."""
    if os.geteuid() != 0 or not Path("/sbin/ip").exists():
        raise Skipped("needs root and ip(8) for a network of its own")
    ledger = Ledger()
    with _network() as (address, device, listener):
        async with Sink(ledger, rng, later=0.0, delay_s=0.3, listener=listener) as sink:
            host = Host(root, ledger, sink.port)
            host.write_config(sink.port, sink=address)
            try:
                await host.up()
                async with Load(host, rng, sizes=(2_000, 20_000, 300_000), programs=0):
                    for _ in range(count):
                        await asyncio.sleep(rng.uniform(0.2, 1.0))
                        harm, cure = rng.choice(ways(address, device))
                        run(*harm)
                        await asyncio.sleep(rng.uniform(0.2, 1.0))
                        run(*cure)
                await host.drained(180)
                assert await host.stop() == 0
            finally:
                await host.end()
            ledger.mailbox(root / "mail", "box.test")
            assert "Traceback" not in host.log, host.log[-3000:]
    return Result("the link goes down", count, ledger.verdict())


def ways(address: str, device: str) -> list[tuple[list[str], list[str]]]:
    """How a link fails, and how it is made good."""
    found = [(["ip", "link", "set", device, "down"], ["ip", "link", "set", device, "up"])] * 3
    for kind in ("unreachable", "prohibit", "blackhole"):
        route = [kind, f"{address}/32"]
        found.append((["ip", "route", "add", *route], ["ip", "route", "del", *route]))
    if Path("/sbin/tc").exists():
        slow = ["tbf", "rate", "16kbit", "burst", "2kb", "latency", "100ms"]
        found.append(
            (["tc", "qdisc", "add", "dev", device, "root", *slow], ["tc", "qdisc", "del", "dev", device, "root"])
        )
    return found


@contextlib.contextmanager
def _network() -> Iterator[tuple[str, str, socket.socket]]:
    """A network namespace at the end of a link: its address there, the device here, a listening socket there."""
    name = f"mtad{os.getpid() % 100000}"
    net = f"10.{os.getpid() % 200 + 20}.77"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        run("ip", "addr", "add", f"{net}.1/24", "dev", f"{name}a")
        run("ip", "link", "set", f"{name}a", "up")
        run("ip", "-n", name, "addr", "add", f"{net}.2/24", "dev", f"{name}b")
        run("ip", "-n", name, "link", "set", f"{name}b", "up")
        yield f"{net}.2", f"{name}a", _listen_in(name)
    finally:
        run("ip", "netns", "del", name)


def _listen_in(name: str) -> socket.socket:
    """A socket belongs to the namespace of the thread that made it."""
    made: list[socket.socket] = []

    def enter() -> None:
        with open(f"/run/netns/{name}", "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                return
        listener = socket.socket()
        listener.bind(("0.0.0.0", 0))
        listener.listen(64)
        made.append(listener)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not made:
        raise Skipped("may not enter a network namespace")
    return made[0]
