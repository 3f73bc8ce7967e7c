"""The senders: SMTP, the submission socket, the sendmail program, files in the maildrop. They outlive the daemon."""

import asyncio
import os
import random
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from fault_host import BIN, REPOSITORY, Host
from fault_ledger import Ledger, Mail

BACKLOG_MAX = 300
"""So many promised mails under way, and the senders wait."""

SIZES = (300, 300, 2_000, 2_000, 20_000, 300_000)  # the last one is a file in the queue


class Load:
    """`async with`: they send; at the end each finishes its mail."""

    def __init__(
        self, host: Host, rng: random.Random, *, smtp: int = 4, submit: int = 2, programs: int = 1, drops: int = 1,
        pause_s: float = 0.01, sizes: tuple[int, ...] = SIZES, backlog: int = BACKLOG_MAX,
    ) -> None:  # fmt: skip
        self._host = host
        self._ledger: Ledger = host.ledger
        self._rng = rng
        self._pause_s = pause_s
        self._sizes = sizes
        self._backlog = backlog
        self._stopping = False
        self._senders = [
            *[(self.smtp, 1.0)] * smtp,
            *[(self.socket, 1.0)] * submit,
            *[(self.program, 10.0)] * programs,
            *[(self.drop, 10.0)] * drops,
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._sender(way, slower)) for way, slower in self._senders]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _sender(self, way: Any, slower: float) -> None:
        while not self._stopping:
            if self._ledger.waiting() < self._backlog:
                await way(*self.mail())
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * self._pause_s * slower)

    def mail(self, recipients: tuple[str, ...] = ()) -> tuple[Mail, bytes]:
        kinds = ("a@sink.test", "b@sink.test", "c@other.test", "u@box.test", "bad@sink.test")
        weights = (5, 3, 3, 3, 1)
        to = recipients or tuple(dict.fromkeys(self._rng.choices(kinds, weights, k=self._rng.choice((1, 1, 1, 2, 3)))))
        return self._ledger.new(to, self._rng.choice(self._sizes))

    async def smtp(self, mail: Mail, octets: bytes) -> None:
        await self._talk(mail, octets, asyncio.open_connection("127.0.0.1", self._host.front, limit=1 << 20))

    async def socket(self, mail: Mail, octets: bytes) -> None:
        await self._talk(mail, octets, asyncio.open_unix_connection(self._host.submit, limit=1 << 20))

    async def _talk(self, mail: Mail, octets: bytes, opening: Coroutine[Any, Any, Any]) -> None:
        try:
            reader, writer = await asyncio.wait_for(opening, 10)
        except (OSError, TimeoutError):
            await asyncio.sleep(0.05)  # it is down
            return
        try:
            async with asyncio.timeout(60):
                await self._transaction(mail, octets, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            with suppress(OSError):
                writer.close()

    async def _transaction(self, mail: Mail, octets: bytes, reader: Any, writer: Any) -> None:
        if not (await _reply(reader)).startswith(b"2"):
            return
        to = "".join(f"RCPT TO:<{one}>\r\n" for one in mail.recipients)
        writer.write(f"EHLO client.test\r\nMAIL FROM:<s@sink.test>\r\n{to}DATA\r\n".encode())
        await _reply(reader)
        replies = [await _reply(reader) for _ in range(len(mail.recipients) + 2)]
        if not replies[-1].startswith(b"354"):
            return
        wire = octets.replace(b"\n", b"\r\n")
        writer.write((b"\r\n" + wire).replace(b"\r\n.", b"\r\n..")[2:])
        await writer.drain()
        mail.word = "unsure"
        mail.at = time.time()
        writer.write(b".\r\n")
        final = await _reply(reader)
        if not all(reply.startswith(b"25") for reply in replies[:-1]):
            mail.word = "unsure"  # some of its recipients were refused: not for this ledger
        elif final[:1] in (b"2", b"4", b"5"):
            self._ledger.word(mail, "yes" if final.startswith(b"2") else "no", time.time())
        writer.write(b"QUIT\r\n")

    async def program(self, mail: Mail, octets: bytes) -> None:
        """`sendmail`, which writes to the maildrop where no daemon answers."""
        mail.word = "unsure"
        done = await asyncio.create_subprocess_exec(
            str(BIN / "python"), "-IS", str(REPOSITORY / "deploy" / "bin" / "mtad-sendmail"), "-i", "-fs@sink.test",
            *mail.recipients, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, env={"MTA_ROOT": str(self._host.root), "PATH": os.environ["PATH"]},
        )  # fmt: skip
        await done.communicate(octets)
        self._ledger.word(mail, "yes" if done.returncode == 0 else "unsure", time.time())

    async def drop(self, mail: Mail, octets: bytes) -> None:
        """What sendmail does while the daemon is down, also while it is not."""
        from mtactl.submit import maildrop

        to = "".join(f"RCPT TO:<{one}>\r\n" for one in mail.recipients).encode()
        wire = (b"\r\n" + octets.replace(b"\n", b"\r\n")).replace(b"\r\n.", b"\r\n..")[2:]
        chunks = (b"MAIL FROM:<s@sink.test>\r\n", to, b"DATA\r\n", wire, b".\r\n")
        mail.word = "unsure"
        try:
            maildrop.store(str(self._host.root / "data" / "maildrop"), chunks)
        except OSError:
            return
        self._ledger.word(mail, "yes", time.time())
        await asyncio.to_thread(maildrop.nudge, str(self._host.root / "run" / "control.sock"))


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while True:
        line: bytes = await reader.readuntil(b"\n")
        if line[3:4] != b"-":
            return line
