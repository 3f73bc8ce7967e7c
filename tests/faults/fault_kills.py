"""Scenarios that end the daemon by force, or politely, at random instants under load."""

import asyncio
import random
import signal
import statistics
import time
from pathlib import Path

from fault_host import Host
from fault_ledger import Ledger
from fault_load import Load
from fault_result import Result
from fault_sink import Sink
from fault_switch import Switch


async def kills(root: Path, count: int, rng: random.Random, *, life_s: float = 0.8) -> Result:
    """kill -9 of the process group after a random while, again and again on the same data; also while it starts."""
    ledger = Ledger()
    first: list[float] = []
    async with Sink(ledger, rng) as sink:
        host = Host(root, ledger, sink.port)
        async with Load(host, rng):
            for _ in range(count):
                await host.launch()
                if rng.random() < 0.1:
                    await asyncio.sleep(rng.uniform(0, 0.6))
                elif await host.ready():
                    before, at = sink.copies, time.monotonic()
                    end = at + rng.uniform(0, life_s)
                    while time.monotonic() < end:
                        await asyncio.sleep(0.005)
                        if sink.copies > before and len(first) < host.lives:
                            first.append(time.monotonic() - at + host.started[-1])
                            before = 1 << 60
                else:
                    raise AssertionError(f"it ended by itself:\n{host.log[-3000:]}")
                await host.kill(sink.busy)
            await host.up()
        try:
            drained_s = await host.drained(300)
            assert await host.stop() == 0
        finally:
            await host.end()
        ledger.mailbox(root / "mail", "box.test")
        assert "Traceback" not in host.log, host.log[-3000:]
    notes = {"s to drain after the last, at most": drained_s}
    if first:
        notes["s from start to the first delivery: median"] = statistics.median(first)
        notes["at most"] = max(first)
    return Result("kill -9 under load", count, ledger.verdict(), notes)


async def terms(root: Path, count: int, rng: random.Random) -> Result:
    """SIGTERM at a random instant under load: it ends in order, and nothing is doubled."""
    ledger = Ledger()
    slowest_s = 0.0
    async with Sink(ledger, rng) as sink:
        host = Host(root, ledger, sink.port)
        async with Load(host, rng):
            for n in range(count):
                await host.up()
                await asyncio.sleep(rng.uniform(0, 1.0))
                at = time.monotonic()
                if n % 4 == 3:
                    host.signal(signal.SIGTERM)  # twice
                assert await host.stop() == 0, host.log[-2000:]
                slowest_s = max(slowest_s, time.monotonic() - at)
            await host.up()
        try:
            await host.drained(120)
            assert await host.stop() == 0
        finally:
            await host.end()
        ledger.mailbox(root / "mail", "box.test")
        assert "Traceback" not in host.log, host.log[-3000:]
    return Result("SIGTERM under load", count, ledger.verdict(), {"slowest stop, s": slowest_s})


async def reloads(root: Path, count: int, rng: random.Random) -> Result:
    """A storm of SIGHUP under load."""
    ledger = Ledger()
    async with Sink(ledger, rng) as sink:
        host = await Host(root, ledger, sink.port).up()
        async with Load(host, rng):
            for _ in range(count):
                host.signal(signal.SIGHUP)
                await asyncio.sleep(rng.uniform(0, 0.05))
        try:
            await host.drained(120)
            assert await host.stop() == 0
        finally:
            await host.end()
        ledger.mailbox(root / "mail", "box.test")
        assert "Traceback" not in host.log, host.log[-3000:]
    return Result("SIGHUP storm under load", count, ledger.verdict())


HOUR_S, MONTH_S, TEN_YEARS_S = 3600, 30 * 86400, 3652 * 86400
JUMPS_S = (HOUR_S, -HOUR_S, MONTH_S, -MONTH_S, 86400, -86400, TEN_YEARS_S, -TEN_YEARS_S)


async def clock_jumps(root: Path, count: int, rng: random.Random) -> Result:
    """The clock goes wrong while mail waits for its next try, and comes back."""
    ledger = Ledger()
    async with Sink(ledger, rng, later=0.0) as sink:
        switch = Switch(root)
        host = await Host(root, ledger, sink.port, switch=switch).up()
        try:
            for jump in JUMPS_S[:count]:
                sink.hold = True
                load = Load(host, rng, sizes=(300,))
                for _ in range(30):
                    await load.smtp(*load.mail(("a@sink.test",)))
                switch.clock(jump)
                await asyncio.sleep(0.5)
                sink.hold = False
                await host.drained(150)
                switch.clock(0)
                for _ in range(5):
                    await load.smtp(*load.mail(("a@sink.test", "u@box.test")))
                await host.drained(150)
            assert await host.stop() == 0
        finally:
            await host.end()
        ledger.mailbox(root / "mail", "box.test")
        assert "Traceback" not in host.log, host.log[-3000:]
    return Result("clock jumps", count, ledger.verdict())
