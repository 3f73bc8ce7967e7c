"""A small client for the listeners, over real sockets."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from inbound_house import codes

from mtad.inbound.server import Inbound


@asynccontextmanager
async def serving(inbound: Inbound) -> AsyncIterator[Inbound]:
    """Its listeners, open for so long."""
    await inbound.start()
    try:
        yield inbound
    finally:
        await inbound.drain(0.0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; the test's timeout ends a wait in vain."""
    while not condition():
        await asyncio.sleep(0)


class Client:
    """What it says and hears. A reply is "250 2.0.0", or "" when the connection ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next whole reply."""
        octets = b""
        while True:
            line = await self.reader.readline()
            octets += line
            if not line or line[3:4] == b" ":
                return codes(octets)[-1] if octets else ""

    async def replies(self, count: int) -> list[str]:
        return [await self.reply() for _ in range(count)]

    async def say(self, octets: bytes) -> str:
        self.send(octets)
        return await self.reply()

    async def ended(self) -> bytes:
        """All that still comes until the server closes."""
        return await self.reader.read()

    async def read(self) -> list[str]:
        """The replies that still come, however it ends."""
        with contextlib.suppress(ConnectionError):
            return codes(await self.ended())
        return []

    async def tls(self) -> None:
        await self.writer.start_tls(trusting(), server_hostname="mx.example.test")


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def connected(inbound: Inbound, source: str = "smtp", **options: Any) -> AsyncIterator[Client]:
    """`options` as `asyncio.open_connection` has them."""
    (place,) = inbound.addresses(source)  # type: ignore[arg-type]
    if isinstance(place, str):
        reader, writer = await asyncio.open_unix_connection(place)
    else:
        reader, writer = await asyncio.open_connection(*place, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
