"""Row 35 as a whole: a crowd of idle and of slow clients leaves a normal one served, and costs little memory."""

import asyncio
import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from inbound_house import House
from security_rows import withstand
from security_target import Ours, Target, Wire, hold, trusting

IDLE, SLOW = 500, 100
PER_CONNECTION_MAX_BYTES = 32 * 1024
PER_TLS_CONNECTION_MAX_BYTES = 64 * 1024  # what OpenSSL holds is beyond what is measured here


@asynccontextmanager
async def crowd(target: Target, count: int) -> AsyncIterator[list[Wire]]:
    """So many connections from several addresses, greeted."""
    async with AsyncExitStack() as stack:
        wires = []
        for number in range(count):
            ip = f"127.0.{1 + number // 40}.1"
            wires.append(await stack.enter_async_context(target.greeted(ip=ip)))
        yield wires


async def test_row_35_a_crowd_does_not_shut_others_out(house: House) -> None:
    async def besiege(target: Target) -> None:
        async with crowd(target, IDLE), crowd(target, SLOW) as slow:
            stop = asyncio.Event()

            async def dribble() -> None:
                while not stop.is_set():
                    for wire in slow:
                        wire.writer.write(b"N")
                    await asyncio.sleep(0.2)

            work = asyncio.ensure_future(dribble())
            try:
                for _ in range(20):
                    hold((await target.mail(b"Subject: x\r\n\r\nx")).code == 250, "a normal client is not served")
            finally:
                stop.set()
                await work

    await withstand(besiege, house, connections=1000, connections_per_ip=200)


async def test_memory_of_a_connection_is_bounded_and_comes_back(house: House) -> None:
    """What our side and the event loop hold."""
    figures = {}

    async def idle(target: Target) -> None:
        for source, count, bound in (
            ("smtp", 200, PER_CONNECTION_MAX_BYTES),
            ("submissions", 50, PER_TLS_CONNECTION_MAX_BYTES),
        ):
            for wire in await asyncio.to_thread(quiet, target, source, 5):
                wire.close()  # what is loaded once is there now
            before = held()
            wires = await asyncio.to_thread(quiet, target, source, count)
            each = figures[source] = (held() - before) // count
            for wire in wires:
                wire.close()
            hold(each < bound, f"{each} octets for an idle connection ({source})")
            assert isinstance(target, Ours)
            while target.inbound.sessions():
                await asyncio.sleep(0)
            left = held() - before
            hold(left < count * bound // 4, f"{left} octets stay after {count} connections ({source})")

    tracemalloc.start()
    try:
        await withstand(idle, house, connections=1000, connections_per_ip=200)
    finally:
        tracemalloc.stop()
    print(f"octets held for an idle connection: {figures}")


def quiet(target: Target, source: str, count: int) -> list[socket.socket]:
    """Connections that have said EHLO and nothing since. Plain sockets: the client's side costs next to nothing."""
    wires: list[socket.socket] = []
    for _ in range(count):
        wire = socket.create_connection(target.place(source), timeout=30)  # type: ignore[arg-type]
        if source == "submissions":
            wire = trusting().wrap_socket(wire)
        wire.recv(1000)
        wire.sendall(b"EHLO client.test\r\n")
        wire.recv(1000)
        wires.append(wire)
    return wires


async def test_memory_stays_flat_whatever_is_said(house: House) -> None:
    """A session that talks for long, and one that never ends its line, hold no more than one that is silent."""

    async def talk(target: Target) -> None:
        async with crowd(target, 20) as wires:
            before = held()
            for wire in wires:
                for _ in range(3):
                    await wire.send(b"x" * 60_000)
                await wire.send(b"\r\n")
                hold((await wire.answer()).code == 500, "a long line")
                await wire.say("MAIL FROM:<x@far.test>")
                for _ in range(50):
                    await wire.say("RCPT TO:<alice@example.test>")
                await wire.say("RSET")
            hold(held() - before < 20 * 16_384, f"{held() - before} octets more")

    tracemalloc.start()
    try:
        await withstand(talk, house, connections_per_ip=200)
    finally:
        tracemalloc.stop()


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
