"""A scripted DNS server in a thread of its own, for commands that run within the test's process."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dns"))

from dns_server import DnsServer, serving

__all__ = ["DnsServer", "dns_thread"]
HEAD = "$ORIGIN .\n$TTL 60\n. SOA a. b. 1 1 1 1 60\n"


@contextmanager
def dns_thread(lines: str) -> Iterator[DnsServer]:
    """Serves the lines, whatever zones they are of, with authority."""
    servers: list[DnsServer] = []
    started, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(HEAD + lines) as server:
            server.authoritative = True
            servers.append(server)
            started.set()
            await asyncio.to_thread(done.wait, 100)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(30)
    try:
        yield servers[0]
    finally:
        done.set()
        thread.join(30)
