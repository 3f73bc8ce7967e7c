"""A TCP connection to one of the addresses of a host: raced, so that a dead way costs a quarter of a second (RFC 8305).

Only the addresses that are given are connected to: they are the ones that were checked. No name is looked up here.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

STAGGER_S = 0.25  # between one address and the next (RFC 8305 5)

_BIND_ADDRESS_NO_PORT = 24  # Linux: the port is chosen at connect, so that one address serves any number of peers


class SourceError(OSError):
    """We cannot connect from the address that the settings name."""


async def dial(
    addresses: Sequence[str], port: int, source: Sequence[str] = (), stagger_s: float = STAGGER_S
) -> tuple[socket.socket, str]:
    """The first connection that comes about, and its address; the others are cut. `source`: our own addresses, one of
    a kind. Raises the OSError of the first address when there is none. The caller sets the deadline."""
    if len(addresses) == 1:
        return await _connected(addresses[0], port, source), addresses[0]
    todo = list(addresses)
    running: dict[asyncio.Task[socket.socket], str] = {}
    failures: dict[str, BaseException] = {}
    try:
        while todo or running:
            if todo:
                address = todo.pop(0)
                running[asyncio.create_task(_connected(address, port, source))] = address
            done, _ = await asyncio.wait(
                running, timeout=stagger_s if todo else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                failure = task.exception()
                if failure is None:
                    won = running.pop(task)
                    return task.result(), won
                failures[running.pop(task)] = failure
        raise failures[addresses[0]]
    finally:
        for task in running:
            task.cancel()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(outcome, socket.socket):
                outcome.close()


async def _connected(address: str, port: int, source: Sequence[str]) -> socket.socket:
    wide = ":" in address
    sock = socket.socket(socket.AF_INET6 if wide else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        ours = next((one for one in source if (":" in one) is wide), "")
        if ours:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            try:
                sock.bind((ours, 0))
            except OSError as error:
                raise SourceError(error.errno, f"source {ours}: {error.strerror}") from None
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
