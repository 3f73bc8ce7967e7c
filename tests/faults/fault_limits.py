"""No room: disks and inodes that are full, descriptors and memory that run out; a disk that takes nothing any more, a
database that somebody else holds, and a second daemon at the door."""

import asyncio
import errno
import os
import random
import resource
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from fault_host import BIN, REPOSITORY, Host
from fault_ledger import Ledger
from fault_load import Load
from fault_power import run
from fault_result import Result, Skipped
from fault_sink import Sink
from fault_switch import EVERY, Switch, missing

PLACES = {
    "database": "data", "spool": "data/queue", "maildrop": "data/maildrop", "mailboxes": "mail", "log": "log",
}  # fmt: skip
SIZES = (300, 2_000, 20_000, 200_000)
FULL_S, FREE_S = 1.5, 1.0


@asynccontextmanager
async def _loaded(
    root: Path, rng: random.Random, *, told: bool = False, switch: Switch | None = None, **load: object
) -> AsyncIterator[tuple[Host, Ledger]]:
    """A daemon under load, that runs empty at the end and is stopped. Nothing in its log may be a traceback, but for
    `told`: where things fail that should never."""
    ledger = Ledger()
    async with Sink(ledger, rng, later=0.0) as sink:
        host = Host(root, ledger, sink.port, switch=switch)
        host.logs = root / "log" / "mtad" if (root / "log").exists() else root.with_name(f"{root.name}.log")
        try:
            await host.up()
            async with Load(host, rng, **{"sizes": SIZES, "programs": 0, **load}):
                yield host, ledger
            await host.drained(120)
            assert await host.stop() == 0
        finally:
            await host.end()
        ledger.mailbox(root / "mail", "box.test")
        assert told or "Traceback" not in host.log, host.log[-3000:]


async def disk_full(root: Path, count: int, rng: random.Random, places: Mapping[str, str] = PLACES) -> Result:
    return await _full("no room on the disk", root, count, rng, "size=96m", places)


async def inodes_full(root: Path, count: int, rng: random.Random) -> Result:
    return await _full("no inodes", root, count, rng, "size=64m,nr_inodes=4000", PLACES)


async def _full(
    what: str, root: Path, count: int, rng: random.Random, options: str, places: Mapping[str, str]
) -> Result:
    """`count` times full and free again, with no restart, in each of the places in turn."""
    if os.geteuid() != 0:
        raise Skipped("needs root to mount a small disk")
    total = Result(what, 0, Ledger().verdict())
    for name, place in places.items():
        with ExitStack() as opened:
            home = root / name
            (home / place).mkdir(parents=True, mode=0o700)
            run("mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", home / place)
            opened.callback(run, "umount", home / place)
            filler = home / place / (".filler" if name == "maildrop" else "filler")
            async with _loaded(home, rng) as (_, ledger):
                for _ in range(count):
                    _fill(filler, inodes="inodes" in options)
                    await asyncio.sleep(FULL_S)
                    _clear(filler)
                    await asyncio.sleep(FREE_S)
            total.add(Result(what, count, ledger.verdict()))
    return total


def _fill(filler: Path, *, inodes: bool) -> None:
    filler.mkdir()
    with suppress(OSError):
        if inodes:
            for n in range(100_000):
                (filler / str(n)).touch()
        else:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError), (filler / str(size)).open("wb", buffering=0) as file:
                    while file.write(bytes(size)) == size:
                        pass


def _clear(filler: Path) -> None:
    for file in filler.iterdir():
        file.unlink()
    filler.rmdir()


async def no_descriptors(root: Path, count: int, rng: random.Random) -> Result:
    """The limit of open files falls to what is open now, while a hundred clients want in."""
    async with _loaded(root / "m", rng) as (host, ledger):
        for _ in range(count):
            before = resource.prlimit(host.pid, resource.RLIMIT_NOFILE)
            idle = [socket.create_connection(("127.0.0.1", host.port)) for _ in range(40)]
            await asyncio.sleep(0.5)
            resource.prlimit(host.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{host.pid}/fd")), before[1]))
            idle += [socket.create_connection(("127.0.0.1", host.port)) for _ in range(60)]
            await asyncio.sleep(2.0)
            for client in idle:
                client.close()
            resource.prlimit(host.pid, resource.RLIMIT_NOFILE, before)
            await asyncio.sleep(FREE_S)
    return Result("no file descriptors", count, ledger.verdict())


async def no_memory(root: Path, count: int, rng: random.Random) -> Result:
    """The address space may grow by a megabyte, and no more."""
    async with _loaded(root / "m", rng, told=True, sizes=(2_000, 20_000, 200_000, 2_000_000)) as (host, ledger):
        deaths = 0
        for _ in range(count):
            if not host.alive:
                await host.up()
            used = int(Path(f"/proc/{host.pid}/statm").read_text().split()[0]) * resource.getpagesize()
            before = resource.prlimit(host.pid, resource.RLIMIT_AS)
            resource.prlimit(host.pid, resource.RLIMIT_AS, (used + (1 << 20), before[1]))
            await asyncio.sleep(2.0)
            if host.alive:
                resource.prlimit(host.pid, resource.RLIMIT_AS, before)
            else:
                deaths += 1
                host.ledger.died(time.time(), 0)
            await asyncio.sleep(FREE_S)
        if not host.alive:
            await host.up()
    return Result("no memory", count, ledger.verdict(), {"daemons that ended by it": deaths})


async def read_only(root: Path, count: int, rng: random.Random) -> Result:
    """Nothing can be written, flushed, renamed or removed any more, as after a disk's errors; and then again it can."""
    if reason := missing():
        raise Skipped(reason)
    switch = Switch(root)
    async with _loaded(root / "m", rng, switch=switch) as (_, ledger):
        for _ in range(count):
            switch.fail(1, errno.EROFS, EVERY - {"send"}, on=True)
            await asyncio.sleep(FULL_S)
            switch.off()
            await asyncio.sleep(FREE_S)
    return Result("a disk that is read-only", count, ledger.verdict())


async def held_database(root: Path, count: int, rng: random.Random) -> Result:
    """Another program, an operator's sqlite3 say, holds the database for a while. It may also find that it cannot."""
    held = 0
    async with _loaded(root / "m", rng) as (host, ledger):
        for _ in range(count):
            other = sqlite3.connect(host.root / "data" / "mta.db", isolation_level=None, timeout=0.2)
            try:
                with suppress(sqlite3.OperationalError):
                    other.execute("BEGIN IMMEDIATE")
                    held += 1
                    await asyncio.sleep(2 * FULL_S)
            finally:
                other.close()
            await asyncio.sleep(FREE_S)
    return Result("the database held by somebody else", count, ledger.verdict(), {"times that it could be": held})


async def second_daemon(root: Path, count: int, rng: random.Random) -> Result:
    """Another one is started on the same data, under load. It must go with one line."""
    async with _loaded(root / "m", rng) as (host, ledger):
        for _ in range(count):
            other = await asyncio.create_subprocess_exec(
                str(BIN / "python"), "-m", "mtad", "run", "--root", str(host.root), cwd=REPOSITORY,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                env={"PATH": os.environ["PATH"]},
            )  # fmt: skip
            said, _ = await other.communicate()
            assert other.returncode not in (0, 1, None), said
            assert len(said.decode().splitlines()) == 1, said
    return Result("a second daemon on the same data", count, ledger.verdict())
