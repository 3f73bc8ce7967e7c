"""One connection to a peer: octets between the socket and a Dialogue, and one deadline at a time.

The protocol drives the dialogue as the octets come in: no task wakes before the whole transaction is decided.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import cast

from mtad.mail.data import DotStuffer, dot_stuff, end_of_data
from mtad.mail.dialogue import Dialogue
from mtad.mail.envelope import Content
from mtad.mail.opening import Want
from mtad.mail.reply import LOCAL_ERROR, Reply
from mtad.tls.binding import bindings, exporter

CHUNK = 65536
BUFFER = 4096


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each stage may take, in seconds (RFC 5321 4.5.3.2)."""

    connect_s: float = 30.0
    command_s: float = 300.0  # greeting, EHLO, STARTTLS, AUTH, MAIL, RCPT
    data_s: float = 120.0
    block_s: float = 180.0  # no room for the next octets of the mail
    final_s: float = 600.0
    idle_s: float = 5.0

    @property
    def tick_s(self) -> float:
        """How late a deadline may be seen."""
        return min(1.0, min(self.connect_s, self.command_s, self.data_s, self.block_s, self.final_s, self.idle_s) / 2)

    def by_stage(self) -> dict[str, float]:
        """The limits that are not `command_s`."""
        return {"data": self.data_s, "body": self.block_s, "final": self.final_s, "": self.idle_s}


class Connection(asyncio.BufferedProtocol):
    """Owned by one task at a time. `wait()` returns when the dialogue wants something of the owner."""

    def __init__(
        self,
        dialogue: Dialogue,
        timeouts: Timeouts,
        executor: Executor,
        on_end: Callable[["Connection"], None] = lambda _: None,
    ) -> None:
        self.dialogue = dialogue
        self.tls = ""
        self.address = ""  # of the peer, once there is a connection
        self.transactions = 0
        self.ended = False  # of no more use; the socket may still be closing
        self._timeouts = timeouts
        self._executor = executor
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._content: Content | None = None
        self._sender: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None  # set while the peer reads too slowly
        self._buffer = memoryview(bytearray(BUFFER))  # a view: asyncio's TLS slices it to read into its rest
        self._answers = 0
        self._limits = timeouts.by_stage()
        self._deadline = self._loop.time() + timeouts.command_s
        self._timer = self._loop.call_later(timeouts.tick_s, self._tick)

    # --- the owner's side

    @property
    def usable(self) -> bool:
        return not self.ended and self.dialogue.want is Want.IDLE

    async def wait(self) -> None:
        """Until the dialogue is IDLE, CLOSED or wants STARTTLS."""
        if self.dialogue.want in (Want.READ, Want.BODY):
            self._waiter = self._loop.create_future()
            await self._waiter

    async def transact(self, content: Content) -> None:
        """Carry out the transaction that was begun in the dialogue; its replies are there afterwards."""
        self.transactions += 1
        self._content = content
        self._work()
        await self.wait()
        self._content = None

    def secured(self, transport: asyncio.Transport, step: str) -> None:
        """The TLS transport took over; `step` is what it was checked by."""
        self._transport = transport
        self._describe_tls(step)
        self.dialogue.secured()
        self._work()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def local_address(self) -> str:
        """Ours, towards the peer."""
        here = self.transport.get_extra_info("sockname")
        return str(here[0]) if isinstance(here, tuple) else ""

    def local_peer(self) -> bool:
        """Is the other end an address of this very machine?"""
        here, there = (self.transport.get_extra_info(name) for name in ("sockname", "peername"))
        return bool(here and there) and here[0] == there[0]

    def quit(self) -> None:
        """Say QUIT where that is in order, and close."""
        transport = self._transport
        if transport is not None and self.usable:
            self.dialogue.quit()
            transport.write(self.dialogue.take())
            transport.close()
            self._loop.call_later(self._timeouts.idle_s, transport.abort)
        self.abort()

    def abort(self, why: Reply | None = None) -> None:
        """Close now. What is undecided stays temporary."""
        self._lost(why or self._ending("4.4.2", "Connection given up"))
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._transport.get_extra_info("sslcontext") is not None:
            self._describe_tls()
        self._deadline = self._loop.time() + self._timeouts.command_s

    def get_buffer(self, sizehint: int) -> memoryview:
        return (
            self._buffer
        )  # replies are short: reading into one small buffer is ten times cheaper than a new large one

    def buffer_updated(self, nbytes: int) -> None:
        self.dialogue.feed(bytes(self._buffer[:nbytes]))
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self._ending("4.4.2", "Connection lost", cause=repr(exc) if exc else ""))
        self._has_room()

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        self._has_room()
        self._extend()

    # --- inside

    def _work(self) -> None:
        """Do what the dialogue wants now."""
        dialogue = self.dialogue
        transport = self._transport
        assert transport is not None
        octets = dialogue.take()
        if octets:
            transport.write(octets)
        if dialogue.want is Want.BODY and self._sender is None and self._content is not None:
            head, body = self._content.head, self._content.body
            if isinstance(body, bytes):
                if dialogue.chunk:
                    transport.writelines((_bdat(len(head) + len(body)), head, body))
                else:
                    transport.writelines((dot_stuff(head), dot_stuff(body), end_of_data(body or head)))
                dialogue.sent()
            else:
                self._sender = self._loop.create_task(self._send_file(head, body))
        # Octets that complete no reply buy no time.
        if octets or dialogue.answers != self._answers:
            self._answers = dialogue.answers
            self._extend()
        if dialogue.want in (Want.IDLE, Want.STARTTLS, Want.CLOSED):
            self._wake()
            if dialogue.closed:
                self.abort()

    async def _send_file(self, head: bytes, path: str) -> None:
        """A large body, block by block, as fast as the peer reads it."""
        announced = self.dialogue.chunk
        stuffer = None if announced else DotStuffer()
        try:
            chunk = stuffer.feed(head) if stuffer else _bdat(announced) + head
            offset = 0
            while self.dialogue.want is Want.BODY and (stuffer or len(head) + offset < announced):
                self.transport.write(chunk)
                self._extend()
                if self._room is not None:
                    await self._room
                octets = await self._loop.run_in_executor(self._executor, read_chunk, path, offset)
                if not octets:
                    break
                offset += len(octets)
                chunk = stuffer.feed(octets) if stuffer else octets
            if self.dialogue.want is Want.BODY:
                if stuffer is None and len(head) + offset != announced:
                    raise OSError(f"{offset} octets in place of {announced - len(head)}")
                # The end goes out in the same step as we begin to expect the answer.
                self.transport.write(stuffer.finish() if stuffer else chunk)
                self.dialogue.sent()
                self._extend()
        except Exception as error:  # noqa: BLE001  (whatever it was, nobody sends on: the owner must not wait for it)
            self.abort(LOCAL_ERROR.because(f"{path}: {error}"))
        finally:
            self._sender = None

    def _tick(self) -> None:
        now = self._loop.time()
        if now < self._deadline:
            self._timer = self._loop.call_later(self._timeouts.tick_s, self._tick)
        elif self.dialogue.want is Want.IDLE:
            self.quit()
        else:
            self.abort(self._ending("4.4.2", "Conversation timed out"))

    def _extend(self) -> None:
        limit_s = self._limits.get(self.dialogue.stage, self._timeouts.command_s)
        self._deadline = self._loop.time() + limit_s

    def _lost(self, reply: Reply) -> None:
        if self.ended:
            return
        self.ended = True
        self._timer.cancel()
        self.dialogue.lost(reply)
        if self._sender is not None:
            self._sender.cancel()
        self._wake()
        self._on_end(self)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _has_room(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    def _ending(self, status: str, what: str, cause: str = "") -> Reply:
        stage = self.dialogue.stage
        words = f"{what} while the host answered {_WORDS.get(stage, stage)}" if stage else what
        return Reply(451, status, words, stage=stage or "connect", cause=cause)

    def _describe_tls(self, step: str = "") -> None:
        from ssl import CERT_REQUIRED

        tls = self.transport.get_extra_info("ssl_object")
        if self.dialogue.authenticates:
            self.dialogue.bindings = bindings(tls.getpeercert(binary_form=True) or b"", exporter(tls))
        cipher = tls.cipher() or ("",)
        verified = "verified" if tls.context.verify_mode == CERT_REQUIRED or step in _CHECKED else "unverified"
        self.tls = f"{tls.version()} {cipher[0]} {verified}"


_CHECKED = ("dane", "pinned")  # after the handshake

_WORDS = {
    "connect": "the connection",
    "body": "the message",
    "final": "the end of the message",
}


def _bdat(octets: int) -> bytes:
    return b"BDAT %d LAST\r\n" % octets


def read_chunk(path: str, offset: int) -> bytes:
    """A block of a file. It opens the file each time: nothing is left open when the reader is cancelled."""
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        return file.read(CHUNK)
