"""What the doctor learns over the network: from an open relay, from listeners of all kinds of trouble."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mtad.config import Access, Address, Config, Dns, Listen, Paths
from mtad.dns.resolver import Resolver
from mtad.doctor import gather_net, judge_access
from mtad.doctor.gather_net import STRANGER_TO, vantages

CONFIG = Config(
    "mail.example.test",
    ("example.test",),
    Paths("/none/mtad.toml", "/none/data", "/none/run"),
    access=Access(("::1",)),
    dns=Dns((Address("127.0.0.1", 9),), timeout_s=0.2),
)

Answers = Callable[[bytes], bytes]


@asynccontextmanager
async def server(answers: Answers, greeting: bytes = b"220 x ESMTP\r\n") -> AsyncIterator[int]:
    """Says what `answers` makes of each line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while line := await reader.readline():
            writer.write(answers(line))
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def listens(port: int) -> Config:
    return replace(CONFIG, listen=Listen(smtp=(Address("127.0.0.1", port),)))


def relays(bad: str) -> Answers:
    """Takes strangers' mail to a recipient that is written so."""
    return lambda line: b"250 ok\r\n" if not line.startswith(b"RCPT") or bad.encode() in line else b"550 no\r\n"


@pytest.mark.parametrize("trick", gather_net.tricks("example.test"))
async def test_an_open_relay(trick: str) -> None:
    async with server(relays(f"<{trick}>")) as port:
        tries = await gather_net.relay_tries(listens(port))
    assert [one.recipient for one in tries if one.code == 250] == [trick]
    bad = [one for one in judge_access.relay(tries) if one.grade == "error"]
    assert [one.id for one in bad] == ["relay.open"]
    assert trick in bad[0].what


async def test_a_closed_one_and_none() -> None:
    async with server(relays("nobody at all")) as port:
        tries = await gather_net.relay_tries(listens(port))
    assert [one.code for one in tries] == [550] * len(gather_net.tricks("example.test"))
    async with server(lambda line: b"", b"554 not you\r\n") as port:
        tries = await gather_net.relay_tries(listens(port))
    assert {one.code for one in tries} == {554}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        tries = await gather_net.relay_tries(listens(closed.getsockname()[1]))
    assert [(one.recipient, one.code, one.answer) for one in tries] == [(STRANGER_TO, 0, "connection refused")]


def test_who_can_ask_as_a_stranger() -> None:
    trusting = replace(CONFIG, access=Access(("127.0.0.0/8", "::1", "192.0.2.0/24")))
    everywhere, all6 = Address("0.0.0.0", 25), Address("::", 25)
    own = ["198.51.100.1", "2001:db8::1"]
    assert vantages(CONFIG, everywhere, own) == [("198.51.100.1", "198.51.100.1")]
    assert ("2001:db8::1", "2001:db8::1") in vantages(CONFIG, all6, own)
    assert vantages(trusting, Address("127.0.0.1", 25), own) == []
    assert vantages(trusting, everywhere, ["192.0.2.7"]) == []


@pytest.mark.parametrize(
    ("greeting", "answers", "problem"),
    [
        (b"554 go away\r\n", b"", "it greets with 554 go away"),
        (b"HTTP/1.1 400\r\n", b"", "no SMTP: HTTP/1.1 400"),
        (b"220-" + b"x" * 10_000 + b"\r\n", b"", "a line of its answer has no end"),
        (b"220 x\r\n", b"250 x\r\n", "STARTTLS is not offered"),
        (b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", "STARTTLS is refused: 250 x"),
    ],
)
async def test_listeners_in_trouble(greeting: bytes, answers: bytes, problem: str) -> None:
    async with server(lambda line: answers, greeting) as port:
        [(kind, where, seen)] = await gather_net.seen(listens(port))
    assert (kind, where, seen.problem) == ("smtp", f"127.0.0.1:{port}", problem)


async def test_the_way_out_and_name_servers() -> None:
    resolver = Resolver(CONFIG.dns, lambda: 0.0)
    async with server(lambda line: b"") as port:
        found = await gather_net.outward(CONFIG, resolver, f"127.0.0.1:{port}", offline=False)
    assert (found.problem, found.greeting) == ("", "220 x ESMTP")
    found = await gather_net.outward(CONFIG, resolver, f"127.0.0.1:{port}", offline=False)
    assert found.problem == "connection refused"
    assert "no answer" in (await gather_net.outward(CONFIG, resolver, "remote.test", offline=False)).problem
    assert "no answer" in (await gather_net.resolving(CONFIG, resolver, offline=False)).problem
    assert not (await gather_net.resolving(CONFIG, resolver, offline=True)).asked
