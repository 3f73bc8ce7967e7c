"""Each call of a mail's way in turn is the daemon's last, is torn, or fails: the sweeps."""

import asyncio
import errno
import random
from pathlib import Path

import fault_switch
from fault_host import Host
from fault_ledger import Ledger
from fault_load import Load
from fault_result import Result, Skipped
from fault_sink import Sink
from fault_switch import EVERY, Switch

IDLE_S = 2.6  # after that long without work the log of the database was emptied, too
BRIEF_S = 0.5
DEATH_S = 8.0
WAYS = (("smtp", 300_000), ("smtp", 300), ("socket", 2_000), ("drop", 2_000))
BRIEF = 50  # fewer points than this are taken on the first way, and without the idle end
TO = ("a@sink.test", "u@box.test", "bad@sink.test")  # a peer, a Maildir, and a report
DISK = EVERY - {"send"}


class _Sweep:
    """One daemon after the other on the same data; `switch` says what befalls each."""

    def __init__(self, root: Path, rng: random.Random, sink: Sink, ledger: Ledger, count: int) -> None:
        self.ways = WAYS if count >= BRIEF else WAYS[:1]
        self._idle_s = IDLE_S if count >= BRIEF else BRIEF_S
        self.switch = Switch(root)
        self.host = Host(root, ledger, sink.port, switch=self.switch)
        self.rng = rng
        self.sink = sink

    async def send(self, way: str, size: int) -> None:
        load = Load(self.host, self.rng, sizes=(size,))
        await getattr(load, way)(*load.mail(TO))

    async def length(self, way: str, size: int, kinds: frozenset[str]) -> int:
        """How many calls one mail takes on this way, until everything is at rest."""
        await self.send(way, size)  # the first one makes directories
        await self.host.drained()
        await asyncio.sleep(self._idle_s)
        self.switch.count(kinds)
        await self.send(way, size)
        await asyncio.sleep(self._idle_s)
        counted = self.switch.counted
        self.switch.off()
        await self.host.drained()
        return counted

    async def settle(self) -> None:
        """Whatever happened, the queue runs empty, by a new daemon where there is none."""
        self.switch.off()
        if not self.host.alive:
            await self.host.up()
        await self.host.drained()


async def crash_points(root: Path, count: int, rng: random.Random, *, tear: bool = False) -> Result:
    """SIGKILL in place of (or in the middle of) each call; `count`: at most so many points, spread evenly."""
    if reason := fault_switch.missing():
        raise Skipped(reason)
    ledger = Ledger()
    reached: dict[str, float] = {}
    points = 0
    async with Sink(ledger, rng, delay_s=0.01, later=0.0) as sink:
        sweep = _Sweep(root, rng, sink, ledger, count)
        try:
            for way, size in sweep.ways:
                await sweep.settle()
                length = await sweep.length(way, size, EVERY)
                step = max(1, length * len(sweep.ways) // count)
                for at in range(rng.randrange(1, step + 1), length + 1, step):
                    (sweep.switch.tear if tear else sweep.switch.kill)(at)
                    await sweep.send(way, size)
                    if await sweep.host.crashed(DEATH_S):
                        points += 1
                        reached[sweep.switch.hit] = reached.get(sweep.switch.hit, 0) + 1
                    await sweep.settle()
            assert await sweep.host.stop() == 0
        finally:
            await sweep.host.end()
        ledger.mailbox(root / "mail", "box.test")
        assert "Traceback" not in sweep.host.log, sweep.host.log[-3000:]
    what = "kill -9 in the middle of a write" if tear else "kill -9 at each call"
    return Result(what, points, ledger.verdict(), dict(sorted(reached.items())))


async def torn_writes(root: Path, count: int, rng: random.Random) -> Result:
    return await crash_points(root, count, rng, tear=True)


async def failed_calls(root: Path, count: int, rng: random.Random) -> Result:
    """Each flush fails with EIO, each write with ENOSPC, each rename with EIO. After every second one the daemon is
    killed too: what it refused must not come to life."""
    if reason := fault_switch.missing():
        raise Skipped(reason)
    ledger = Ledger()
    faults = 0
    kinds = {
        "flush": (frozenset({"fsync"}), errno.EIO),
        "write": (frozenset({"pwrite", "write"}), errno.ENOSPC),
        "rename": (frozenset({"rename", "link", "truncate"}), errno.EIO),
    }
    deaths = 0
    async with Sink(ledger, rng, delay_s=0.01, later=0.0) as sink:
        sweep = _Sweep(root, rng, sink, ledger, count)
        try:
            for way, size in sweep.ways:
                for chosen, error in kinds.values():
                    await sweep.settle()
                    length = await sweep.length(way, size, chosen)
                    step = max(1, length * len(sweep.ways) * len(kinds) // count)
                    for at in range(rng.randrange(1, step + 1), length + 1, step):
                        sweep.switch.fail(at, error, chosen)
                        await sweep.send(way, size)
                        for _ in range(100):
                            if sweep.switch.hit:
                                break
                            await asyncio.sleep(0.05)
                        faults += bool(sweep.switch.hit)
                        deaths += not sweep.host.alive
                        if at % 2 and sweep.host.alive:
                            await sweep.host.kill(sink.busy)
                        await sweep.settle()
            assert await sweep.host.stop() == 0
        finally:
            await sweep.host.end()
        ledger.mailbox(root / "mail", "box.test")
        assert "Traceback" not in sweep.host.log, sweep.host.log[-3000:]
    return Result("a flush, write or rename fails", faults, ledger.verdict(), {"daemons that ended by it": deaths})
