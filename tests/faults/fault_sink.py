"""The receiver: an SMTP server that writes into the ledger before it says 250, late, and now and then "not now"."""

import asyncio
import random
import socket

from fault_ledger import Ledger

RECIPIENTS_PER_JOB = 3


class Sink:
    """`delay_s`: up to how long a final reply takes. `later`: the share of mails that are told 451 first. `hold`: all
    are. Addresses that begin with "bad" are refused for good."""

    def __init__(
        self,
        ledger: Ledger,
        rng: random.Random,
        delay_s: float = 0.05,
        later: float = 0.05,
        listener: socket.socket | None = None,
    ) -> None:
        self._listener = listener
        self.ledger = ledger
        self.hold = False
        self.port = 0
        self.copies = 0
        self.busy = 0  # recipients of mails that are being answered now
        self._rng = rng
        self._delay_s = delay_s
        self._later = later
        self._told_later: set[bytes] = set()
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Sink":
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            await self._session(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._sessions.discard(task)
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink.test ESMTP\r\n")
        recipients: list[str] = []
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"MAIL":
                recipients = []
                writer.write(b"250 2.1.0 ok\r\n")
            elif verb == b"RCPT":
                to = line[8:].split(b">")[0].strip(b"< ").decode()
                if to.startswith("bad"):
                    writer.write(b"550 5.1.1 nobody\r\n")
                else:
                    recipients.append(to)
                    writer.write(b"250 2.1.5 ok\r\n")
            elif verb == b"DATA" and not recipients:
                writer.write(b"503 5.5.1 nobody\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                await self._data(reader, writer, recipients)
                recipients = []
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 ok\r\n")

    async def _data(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recipients: list[str]) -> None:
        octets = await reader.readuntil(b"\r\n.\r\n")
        mail = (b"\r\n" + octets[:-3]).replace(b"\r\n..", b"\r\n.")[2:]
        key = mail[mail.find(b"X-Token:") :][:24]
        if self.hold or (key not in self._told_later and self._rng.random() < self._later):
            self._told_later.add(key)
            writer.write(b"451 4.3.0 not now\r\n")
            return
        self.busy += len(recipients)
        try:
            await asyncio.sleep(self._rng.uniform(0, self._delay_s))
            for to in recipients:
                self.copies += 1
                self.ledger.arrived(to, mail, self.ledger.now())
            writer.write(b"250 2.0.0 taken\r\n")
        finally:
            self.busy -= len(recipients)
