"""The daemon under test: its settings, its lives and deaths, and when it has nothing left to do."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fault_ledger import Ledger
from fault_switch import Switch
from peer_process import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
WORKERS = 10
READY_S = 60.0


class Host:
    """A root directory and the process that serves it. `data`: the root itself may lie elsewhere than the rest."""

    def __init__(self, root: Path, ledger: Ledger, sink_port: int, *, switch: Switch | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.ledger = ledger
        self.switch = switch
        self.port = self.front = free_port()  # where it listens, and where clients find it
        self.config = root / "mtad.toml"
        self.unsafe = ""  # as in fault_nursery
        self.lives = 0
        self.started: list[float] = []  # how long each start took, until it answered
        self.logs = root / "log"
        self._adopted = False
        self._nursery: asyncio.subprocess.Process | None = None
        self._pid = 0
        self._ended: asyncio.Task[int] | None = None
        self.write_config(sink_port)

    def write_config(self, sink_port: int, *, sink: str = "127.0.0.1") -> None:
        self.config.write_text(
            f'hostname = "mail.example.test"\ndomains = ["example.test"]\n'
            f'[listen]\nsmtp = ["127.0.0.1:{self.port}"]\nsubmission = []\nsubmissions = []\n'
            f'[dns]\nservers = ["127.0.0.1:9"]\ntimeout = "1s"\n'
            f"[delivery]\nworkers = {WORKERS}\nmax_per_domain = {WORKERS}\n"
            f'allow_private_addresses = true\nretry = ["1s", "1s", "2s"]\n'
            f'[[delivery.route]]\nmatch = "box.test"\nto = "maildir://{self.root}/mail/%u"\n'
            f'[[delivery.route]]\nmatch = "*"\nto = "smtp://{sink}:{sink_port}"\n'
        )

    @property
    def submit(self) -> str:
        return str(self.root / "run" / "submit.sock")

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def alive(self) -> bool:
        return self._ended is not None and not self._ended.done()

    async def launch(self, before: Sequence[str] = ()) -> None:
        """Start it, in a process group of its own; it may not answer yet. `before`: a program that runs it, and then
        it is loaded anew."""
        self.lives += 1
        arguments = ["run", "--root", str(self.root), "--config", str(self.config)]
        if before:
            with self.logs.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *before, str(BIN / "python"), "-m", "mtad", *arguments, cwd=REPOSITORY, stdout=log, stderr=log,
                    stdin=asyncio.subprocess.DEVNULL, start_new_session=True, env=self._environ(),
                )  # fmt: skip
            self._pid = process.pid
            self._ended = asyncio.create_task(process.wait())
            return
        if self._nursery is None:
            with self.logs.open("ab") as log:
                self._nursery = await asyncio.create_subprocess_exec(
                    str(BIN / "python"), str(Path(__file__).with_name("fault_nursery.py")), self.unsafe,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, env=self._environ(),
                )  # fmt: skip
        assert self._nursery.stdin is not None
        order = {"argv": arguments, "log": str(self.logs)}
        self._nursery.stdin.write(json.dumps(order).encode() + b"\n")
        self._pid = await self._said("started")
        self._ended = asyncio.create_task(self._said("ended"))

    def _environ(self) -> Mapping[str, str]:
        return {"PATH": os.environ["PATH"], **(self.switch.environ() if self.switch else {})}

    async def _said(self, word: str) -> int:
        assert self._nursery is not None
        assert self._nursery.stdout is not None
        said, _, number = (await self._nursery.stdout.readline()).decode().partition(" ")
        assert said == word, f"{said!r} in place of {word}\n{self.log[-2000:]}"
        return int(number)

    async def ready(self) -> bool:
        """Until it answers; False when it ended instead."""
        begun = time.monotonic()
        while self.alive and time.monotonic() < begun + READY_S:
            if _answers(self.port) and _answers(self.submit):
                self.started.append(time.monotonic() - begun)
                return True
            await asyncio.sleep(0.01)
        assert not self.alive, f"it does not answer for {READY_S:g} s\n{self.log[-2000:]}"
        return False

    async def up(self, before: Sequence[str] = ()) -> "Host":
        await self.launch(before)
        assert await self.ready(), self.log[-3000:]
        return self

    async def kill(self, in_flight: int = 0) -> None:
        """SIGKILL for the whole group. The bound of duplicates grows by who was in flight."""
        self.signal(signal.SIGSTOP)  # nothing is answered between the count and the end
        self.ledger.died(time.time(), in_flight + self.ledger.recent(time.time()))
        self.signal(signal.SIGKILL)
        await self.ended()

    async def crashed(self, timeout_s: float = 30.0) -> bool:
        """Until it killed itself at the point that the switch chose; False when it lives on."""
        try:
            async with asyncio.timeout(timeout_s):
                code = await self.ended()
        except TimeoutError:
            return False
        self.ledger.died(time.time(), self.ledger.recent(time.time()))
        return code in (-signal.SIGKILL, 128 + signal.SIGKILL)

    async def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM; its exit code."""
        if not self.alive:
            return 0
        self.signal(signal.SIGTERM)
        async with asyncio.timeout(timeout_s):
            return await self.ended()

    async def end(self) -> None:
        """Whatever it takes; no life after this one."""
        if self.alive:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            await self.ended()
        if self._nursery is not None and not self._adopted:
            assert self._nursery.stdin is not None
            self._nursery.stdin.close()
            await self._nursery.wait()
            self._nursery = None

    async def ended(self) -> int:
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    def signal(self, number: int) -> None:
        if self.alive:
            os.killpg(self._pid, number)

    @property
    def log(self) -> str:
        return self.logs.read_text(errors="replace")

    async def mtactl(self, *words: str) -> tuple[int, str]:
        done = await asyncio.create_subprocess_exec(
            str(BIN / "python"), "-m", "mtactl", "--root", str(self.root), *words, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MTA_CONFIG": str(self.config)},
        )  # fmt: skip
        output, _ = await done.communicate()
        return done.returncode or 0, output.decode(errors="replace")

    def adopt(self, other: "Host") -> None:
        """Live in the other's nursery, which goes with the other."""
        self._nursery, self._adopted = other._nursery, True

    async def call(self, method: str) -> dict[str, Any] | None:
        """What the control socket says, None where nobody answers."""
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_unix_connection(str(self.root / "run" / "control.sock"))
                writer.write(json.dumps({"method": f"io.mtad.{method}"}).encode() + b"\0")
                answer = await reader.readuntil(b"\0")
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return None
        found: dict[str, Any] | None = json.loads(answer[:-1]).get("parameters")
        return found

    async def drained(self, timeout_s: float = 60.0) -> float:
        """Until nothing waits any more, maildrop included: how long that took. AssertionError: it is stuck."""
        begun = time.monotonic()
        while True:
            facts = await self.call("Status") or {}
            if facts.get("messages") == 0 and not list((self.root / "data" / "maildrop").glob("*.mail")):
                return time.monotonic() - begun
            assert time.monotonic() < begun + timeout_s, f"stuck: {facts}\n{self.log[-1500:]}"
            if facts:
                await self.call("MaildropDrain")
            await asyncio.sleep(0.05)


def _answers(place: int | str) -> bool:
    family = socket.AF_INET if isinstance(place, int) else socket.AF_UNIX
    with socket.socket(family) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(("127.0.0.1", place) if isinstance(place, int) else place)
        except OSError:
            return False
        return True
