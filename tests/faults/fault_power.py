"""Power cuts: the daemon's disk is an ext4 image that writes nothing by itself, copied at random instants; another
daemon goes on from the copy. What a copy lacks was only in memory."""

import asyncio
import copy
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from fault_host import Host
from fault_ledger import Ledger, Verdict
from fault_load import Load
from fault_result import Result, Skipped
from fault_sink import Sink
from fault_switch import Switch, missing

IMAGE_BYTES = 256 << 20
SIZES = (300, 300, 2_000, 20_000, 200_000)


def impossible() -> str:
    """Why no image can be mounted here, "" when it can."""
    if os.geteuid() != 0:
        return "needs root to mount an image"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    return ""


class Disk:
    """An ext4 image and its mount point. Mounted until `close`."""

    def __init__(self, image: Path, place: Path, *, options: str = "commit=600") -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.image = image
        self.loop = run("losetup", "--find", "--show", image)
        try:
            run("mount", "-t", "ext4", "-o", options, self.loop, place)
        finally:
            run("losetup", "--detach", self.loop)  # when it is not mounted any more

    @classmethod
    def new(cls, image: Path, place: Path) -> "Disk":
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        return cls(image, place)

    def cut(self, target: Path) -> None:
        """The image as it would be found after a power cut now. The daemon stands still."""
        name = Path(self.loop).name
        while True:
            while Path(f"/sys/block/{name}/inflight").read_text().split() != ["0", "0"]:
                time.sleep(0.001)
            before = Path(f"/sys/block/{name}/stat").read_text()
            _copy_sparse(self.image, target)
            if Path(f"/sys/block/{name}/stat").read_text() == before:
                return

    def close(self) -> None:
        run("umount", self.place)


async def power_cuts(root: Path, count: int, rng: random.Random) -> Result:
    return await _cuts("power cut", root, count, rng)


async def control_normal(root: Path, count: int, rng: random.Random) -> Result:
    """PRAGMA synchronous = NORMAL, which many choose: a commit may be undone by a power cut."""
    return await _cuts("power cut, synchronous=NORMAL", root, count, rng, unsafe="normal")


async def control_no_sync(root: Path, count: int, rng: random.Random) -> Result:
    """An fsync that does nothing, as some disks have it."""
    return await _cuts("power cut, fsync does nothing", root, count, rng, no_sync=True)


async def _cuts(
    what: str, root: Path, count: int, rng: random.Random, *, unsafe: str = "", no_sync: bool = False
) -> Result:
    control = bool(unsafe) or no_sync
    if reason := impossible() or (missing() if no_sync else ""):
        raise Skipped(reason)
    total = Verdict()
    done = 0
    ledger = Ledger()
    with ExitStack() as opened:
        disk = Disk.new(root / "disk", root / "live")
        opened.callback(disk.close)
        switch = Switch(root) if no_sync else None
        if switch:
            switch.no_sync()
        async with Sink(ledger, rng, later=0.02) as sink, Sink(Ledger(), rng, delay_s=0.0, later=0.0) as after:
            host = Host(disk.place / "m", ledger, sink.port, switch=switch)
            host.unsafe = unsafe
            host.logs = root / "live.log"
            again = Host(root / "again" / "m", after.ledger, after.port)
            again.logs = root / "again.log"
            try:
                await host.up()
                os.sync()  # what a start makes is older than any mail
                async with (
                    Load(host, rng, smtp=2, submit=1, programs=0, sizes=SIZES, pause_s=0.02, backlog=40),
                    _going_on(host),
                ):
                    while done < count and not (control and total.lost):
                        await asyncio.sleep(rng.uniform(0.05, 0.8))
                        stood = time.monotonic()
                        await _stopped(host)
                        cut_at = ledger.now()  # the copy may take seconds
                        disk.cut(root / "copy")
                        then = copy.deepcopy(ledger)
                        then.died(cut_at, sink.busy + then.recent(cut_at))
                        total.add(await _after(root, again, after, then))
                        done += 1
                        ledger.stood_s += time.monotonic() - stood
                        host.signal(signal.SIGCONT)
                        assert "Traceback" not in again.log, again.log[-3000:]
                await host.drained()
            finally:
                await host.end()
                await again.end()
    return Result(what, done, total, must_lose=control)


@asynccontextmanager
async def _going_on(host: Host) -> AsyncIterator[None]:
    """The senders can finish, whatever happened."""
    try:
        yield
    finally:
        host.signal(signal.SIGCONT)


async def _stopped(host: Host) -> None:
    """All its threads stand still, and what the kernel does for them is over."""
    host.signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{host.pid}/task")
    while any(task.read_text().rpartition(")")[2].split()[0] not in "Tt" for task in tasks.glob("*/stat")):
        await asyncio.sleep(0.001)


async def _after(root: Path, again: Host, sink: Sink, then: Ledger) -> Verdict:
    """What the next daemon makes of the copy."""
    disk = Disk(root / "copy", root / "again")
    try:
        for stale in (disk.place / "m" / "run").glob("*.sock"):
            stale.unlink()
        again.ledger = sink.ledger = then
        again.write_config(sink.port)
        await again.up()
        await again.drained()
        assert await again.stop() == 0
        then.mailbox(disk.place / "m" / "mail", "box.test")
        return then.verdict()
    finally:
        if again.alive:
            again.signal(signal.SIGKILL)
            await again.ended()
        disk.close()


def _copy_sparse(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:
                break  # only holes to the end
            end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            os.lseek(new.fileno(), at, os.SEEK_SET)
            while at < end:
                at += os.sendfile(new.fileno(), old.fileno(), at, end - at)


def run(*command: str | Path) -> str:
    """A program of the system; Skipped when it cannot do it here."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
