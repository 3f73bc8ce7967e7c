"""A house with its listeners in a thread of its own, for clients that block."""

import asyncio
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from inbound_house import House, end_house, make_certificate, make_house

from mtad.config import Limits
from mtad.inbound.server import Inbound

T = TypeVar("T")


@dataclass
class Served:
    house: House
    inbound: Inbound
    loop: asyncio.AbstractEventLoop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What it gives, done in the loop of the house."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def place(self, source: str) -> tuple[str, int]:
        ((host, port),) = self.inbound.addresses(source)  # type: ignore[arg-type]
        return host, port

    def mails(self) -> dict[str, bytes]:
        """All mails by id."""

        async def read() -> dict[str, bytes]:
            return {row.message.id: await self.house.content(row) for row in await self.house.rows()}

        return self.do(read())


@contextmanager
def served(**limits: Any) -> Iterator[Served]:
    started, stop = threading.Event(), asyncio.Event()
    found: list[Served] = []

    async def serve(root: Path) -> None:
        house = await make_house(root, tls=make_certificate(root))
        inbound = house.inbound(replace(house.config, limits=replace(Limits(), **limits)))
        await inbound.start()
        found.append(Served(house, inbound, asyncio.get_running_loop()))
        started.set()
        await stop.wait()
        await inbound.drain(1.0)
        await end_house(house)

    with tempfile.TemporaryDirectory(prefix="mtad-", dir="/tmp") as root:
        thread = threading.Thread(target=lambda: asyncio.run(serve(Path(root))))
        thread.start()
        try:
            assert started.wait(30)
            yield found[0]
        finally:
            found[0].loop.call_soon_threadsafe(stop.set)
            thread.join(30)
