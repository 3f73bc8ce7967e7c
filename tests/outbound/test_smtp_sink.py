"""Against Postfix's own test server, in its moods."""

import asyncio
import os
import shutil
import socket
from contextlib import asynccontextmanager

import pytest
from test_scheduler import house, running

from mtad.config import RouteRule, Target
from mtad.mail.envelope import State

SINK = shutil.which("smtp-sink") or shutil.which("smtp-sink", path="/usr/sbin:/usr/lib/postfix/sbin")

pytestmark = [pytest.mark.peer, pytest.mark.skipif(SINK is None, reason="needs smtp-sink (Debian: postfix)")]


@asynccontextmanager
async def sink(*options: str):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    process = await asyncio.create_subprocess_exec(SINK, *user, *options, f"127.0.0.1:{port}", "64")
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    break
        yield port
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    ("options", "scheme", "state", "status"),
    [
        ([], "smtp", State.DONE, "2.0.0"),
        (["-p"], "smtp", State.DONE, "2.0.0"),  # no PIPELINING
        (["-e"], "smtp", State.DONE, "2.0.0"),  # no EHLO
        (["-8"], "smtp", State.DONE, "2.0.0"),  # no 8BITMIME
        (["-L"], "lmtp", State.DONE, "2.2.0"),
        (["-r", "rcpt"], "smtp", State.READY, "4.3.0"),
        (["-f", "rcpt"], "smtp", State.FAILED, "5.3.0"),
        (["-f", "mail"], "smtp", State.FAILED, "5.3.0"),
        (["-f", "data"], "smtp", State.FAILED, "5.3.0"),
        (["-f", "."], "smtp", State.FAILED, "5.3.0"),
        (["-r", "."], "smtp", State.READY, "4.3.0"),
        (["-q", "data"], "smtp", State.READY, "4.4.2"),  # cuts the connection
        (["-q", "."], "smtp", State.READY, "4.4.2"),
        (["-q", "ehlo"], "smtp", State.READY, "4.4.2"),
        (["-f", "connect"], "smtp", State.FAILED, "5.3.0"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, list) else None,
)
async def test_moods(tmp_path, options, scheme, state, status):
    async with sink(*options) as port:
        routes = (RouteRule("*", Target(scheme, "127.0.0.1", port)),)
        async with house(tmp_path, routes=routes) as made, running(made):
            name = await made.put("b@y.test", "c@y.test", sender="")
            made.scheduler.wake()
            rows = await made.settled(name)
    assert {(row.state, row.last.status) for row in rows} == {(state, status)}
