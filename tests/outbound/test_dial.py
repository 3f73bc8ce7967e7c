"""Addresses of one host, raced over real sockets of the loopback."""

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import pytest
from smtp_peer import Peer, serving
from test_scheduler import house, running

from mtad.config import Config, Delivery, Paths
from mtad.mail.envelope import Content, Envelope, Rcpt, State
from mtad.outbound.dial import SourceError, dial
from mtad.outbound.opener import NoWay
from mtad.outbound.route import Host, Remote
from mtad.outbound.transport import Transport
from mtad.tls.contexts import client_context

CONTENT = Content(b"Subject: hi\r\n\r\n", b"one\r\n")
ENVELOPE = Envelope("a@x.test", (Rcpt("b@y.test"),))


@contextmanager
def silent(address: str, port: int):
    """An address where a connection comes to nothing: its queue of connections is full, so the first packet is lost."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.bind((address, port))
        listening.listen(0)
        fillers = [socket.socket(family, socket.SOCK_STREAM) for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((address, port))
        try:
            yield
        finally:
            for filler in fillers:
                filler.close()


@asynccontextmanager
async def listening(address: str, port: int = 0):
    heard: list[str] = []

    async def serve(_, writer):
        heard.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(serve, address, port)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        await server.wait_closed()


async def test_a_silent_address_does_not_hold_up_the_next():
    async with listening("127.0.0.1") as (port, _):
        with silent("127.0.0.2", port):
            sock, address = await asyncio.wait_for(dial(("127.0.0.2", "127.0.0.1"), port), 10)
            assert address == sock.getpeername()[0] == "127.0.0.1"
            sock.close()


async def test_a_refused_address_costs_no_pause():
    async with listening("127.0.0.1") as (port, _):
        sock, address = await asyncio.wait_for(dial(("127.0.0.2", "127.0.0.1"), port, stagger_s=3600), 10)
        assert address == "127.0.0.1"
        sock.close()


async def test_without_ipv6_nobody_waits():
    async with listening("127.0.0.1") as (port, _):
        # A documentation address: where there is no way to it, it fails at once; where there is, it is silent.
        sock, address = await asyncio.wait_for(dial(("2001:db8::1", "127.0.0.1"), port), 10)
        assert address == "127.0.0.1"
        sock.close()


async def test_no_address_answers():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await dial(("127.0.0.1", "127.0.0.2", "::1"), taken.getsockname()[1])


async def test_given_up_nothing_stays_open():
    before = len(os.listdir("/proc/self/fd"))
    port = _free()
    with silent("127.0.0.2", port), silent("127.0.0.3", port):
        task = asyncio.create_task(dial(("127.0.0.2", "127.0.0.3"), port, stagger_s=0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.1)
    assert len(os.listdir("/proc/self/fd")) == before


def _free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_source_addresses():
    async with listening("127.0.0.1") as (port, _):
        sock, _ = await dial(("127.0.0.1",), port, ("2001:db8::1", "127.0.0.9"))
        assert sock.getsockname()[0] == "127.0.0.9"
        sock.close()
        with pytest.raises(SourceError, match=r"192\.0\.2\.1"):
            await dial(("127.0.0.1",), port, ("192.0.2.1",))


@pytest.fixture
async def transport():
    config = Config("me.test", ("me.test",), Paths("", "/d", "/r"), delivery=Delivery(max_per_domain=2))
    with ThreadPoolExecutor(1) as executor:
        made = Transport(config, executor, client_context)
        yield made
        made.close()


async def test_the_connection_that_won_is_used_again(transport):
    async with serving(Peer()) as peer:
        with silent("127.0.0.2", peer.port):
            host = Host("peer.test", "127.0.0.2", peer.port, others=("127.0.0.1",))
            for _ in range(2):
                outcome = await transport.deliver(Remote((host,)), host, ENVELOPE, CONTENT, 10)
                assert outcome.host.relay == f"peer.test[127.0.0.1]:{peer.port}"
        assert peer.connections == 1
        transport.close()


async def test_a_connection_is_not_used_for_an_address_that_it_is_not_to(transport):
    async with serving(Peer()) as peer, listening("127.0.0.2", peer.port) as (_, heard):
        host = Host("peer.test", "127.0.0.1", peer.port)
        await transport.deliver(Remote((host,)), host, ENVELOPE, CONTENT, 10)
        other = Host("peer.test", "127.0.0.2", peer.port)
        with pytest.raises(NoWay) as caught:
            await transport.deliver(Remote((other,)), other, ENVELOPE, CONTENT, 10)
        assert caught.value.address == "127.0.0.2"
        assert len(heard) == 1
        transport.close()


async def test_our_source_that_is_not_here_is_our_trouble(transport):
    async with serving(Peer()) as peer:
        host = Host("peer.test", "127.0.0.1", peer.port)
        with pytest.raises(NoWay) as caught:
            await transport.deliver(Remote((host,), source=("192.0.2.1",)), host, ENVELOPE, CONTENT, 10)
    reply = caught.value.reply
    assert (reply.code, reply.status, "192.0.2.1" in reply.cause) == (451, "4.3.5", True)


async def test_the_next_address_of_a_server_gets_who_was_deferred(tmp_path):
    """Two addresses of one name: the first answers, and says not now."""
    busy = Peer(says={"RCPT": "451 4.3.2 busy"})
    async with serving(Peer()) as good:
        server = await asyncio.start_server(busy.serve, "127.0.0.2", good.port)
        async with house(tmp_path, allow_private_addresses=True) as made, running(made) as scheduler:
            host = Host("peer.test", "127.0.0.2", good.port, others=("127.0.0.1",))

            async def plan(*_):
                return Remote((host,))

            scheduler._delivery.plan = plan
            message = await made.put("b@there.test")
            scheduler.wake()
            [recipient] = await made.settled(message)
        server.close()
    assert recipient.state is State.DONE
    assert (busy.connections, len(busy.mails), len(good.mails)) == (1, 0, 1)
