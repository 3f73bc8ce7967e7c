"""Clients that mean harm, over real sockets: many, slow, early, deaf, guessing, or behind a load balancer."""

import asyncio
import contextlib
import resource
import socket
import ssl
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from inbound_client import Client, connected, serving, trusting, until
from inbound_house import PASSWORD, House, codes

from mtad.config import Limits, Listen, Smtp
from mtad.inbound import session as session_module
from mtad.inbound.server import Inbound

MAIL = b"MAIL FROM:<x@far.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
IDLE, SLOW = 500, 100


@asynccontextmanager
async def running(
    house: House, *, guarded: bool = False, listen: Listen | None = None, **limits: Any
) -> AsyncIterator[Inbound]:
    """Strict listeners. `guarded`: with rates, delays and blocks too."""
    config = replace(
        house.config,
        limits=replace(Limits(), **limits),
        smtp=Smtp(),
        listen=listen or house.config.listen,
    )
    async with serving(house.inbound(config, guard=house.make_guard(config) if guarded else None)) as inbound:
        yield inbound


def client_of(
    inbound: Inbound, source: str = "smtp", ip: str = "127.0.0.1", **more: Any
) -> AbstractAsyncContextManager[Client]:
    return connected(inbound, source, local_addr=(ip, 0), **more)


# Early talkers (row 8)


async def test_who_speaks_before_the_greeting_is_refused(house: House) -> None:
    async with running(house, greet_delay_s=3600.0) as inbound, client_of(inbound) as client:
        assert await client.say(b"EHLO x\r\n" + MAIL) == "554 5.5.1"
        assert await client.read() == []
    assert any("CONNECT from unknown[127.0.0.1]" in line and "554 5.5.1" in line for line in house.log)


async def test_what_came_with_the_connection_is_too_early(house: House) -> None:
    """The listener is busy while the client connects and speaks: the octets are there before the greeting."""
    async with running(house) as inbound:
        (place,) = inbound.addresses("smtp")
        with socket.create_connection(place) as raw:  # blocking: the loop does not turn meanwhile
            raw.sendall(b"EHLO x\r\n")
            raw.setblocking(False)
            said = await asyncio.get_running_loop().sock_recv(raw, 1000)
    assert codes(said) == ["554 5.5.1"]


async def test_a_patient_client_is_greeted_late_or_at_once(house: House) -> None:
    for delay_s in (0.0, 0.01):
        async with running(house, greet_delay_s=delay_s) as inbound, client_of(inbound) as client:
            assert await client.reply() == "220"
            assert await client.say(b"EHLO x\r\n") == "250"
            assert await client.say(MAIL[:24]) == "250 2.1.0"


@pytest.mark.parametrize("source", ["smtp", "submission"])
async def test_nothing_is_obeyed_that_came_behind_the_first_ehlo(house: House, source: str) -> None:
    async with running(house) as inbound, client_of(inbound, source) as client:
        assert await client.reply() == "220"
        client.send(b"EHLO x\r\n" + MAIL + b"Subject: hi\r\n\r\nQU")
        assert [await client.reply() for _ in range(6)] == ["250"] + ["503 5.5.1"] * 5
        assert await client.say(b"IT\r\n") == "503 5.5.1"  # it had begun too early
        assert await client.say(b"QUIT\r\n") == "221 2.0.0"
    assert await house.rows() == []


async def test_a_second_ehlo_may_be_pipelined(house: House) -> None:
    async with running(house) as inbound, client_of(inbound) as client:
        assert await client.reply() == "220"
        assert await client.say(b"EHLO x\r\n") == "250"
        client.send(b"EHLO x\r\n" + MAIL[:24] + b"QUIT\r\n")
        assert await client.read() == ["250", "250 2.1.0", "221 2.0.0"]


async def test_programs_of_this_host_may_say_everything_at_once(house: House) -> None:
    async with running(house) as inbound, client_of(inbound, "local") as client:
        client.send(b"EHLO x\r\n" + MAIL + b"Subject: hi\r\n\r\nhi\r\n.\r\nQUIT\r\n")
        assert await client.read() == ["220", "250", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]


# Deadlines (row 35)


async def test_the_whole_session_has_an_end(house: House) -> None:
    """However busy the client is: here it would go on for ever."""
    async with running(house, session_timeout_s=0.3) as inbound, client_of(inbound) as client:
        assert await client.reply() == "220"
        assert await client.say(b"EHLO x\r\n") == "250"
        said = "250 2.1.0"
        while said in ("250 2.1.0", "250 2.0.0"):
            client.send(MAIL[:24] + b"RSET\r\n")
            said = await client.reply()
            if said == "250 2.1.0":
                said = await client.reply()
        assert said in ("421 4.4.2", "421 4.7.0")


async def test_a_mail_that_never_ends_ends_with_the_session(house: House) -> None:
    async with running(house, session_timeout_s=0.2) as inbound, client_of(inbound) as client:
        assert await client.reply() == "220"
        assert await client.say(b"EHLO x\r\n") == "250"
        client.send(MAIL)
        assert [await client.reply() for _ in range(3)] == ["250 2.1.0", "250 2.1.5", "354"]
        ended = asyncio.create_task(client.read())
        while not ended.done():
            client.send(b"line\r\n")
            await asyncio.sleep(0)
        assert await ended in (["421 4.4.2"], [])
        await until(lambda: not inbound.sessions())
    assert await house.rows() == []


async def test_who_never_reads_is_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "BLOCKED_S", 0.05)
    async with running(house, errors=10**6) as inbound:
        (place,) = inbound.addresses("smtp")
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(place)
            raw.setblocking(False)
            await until(inbound.sessions)
            (held,) = inbound._sessions.values()
            transport = held[0].transport
            assert transport is not None
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            while inbound.sessions():
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    raw.send(b"WHAT\r\n" * 1000)
                assert transport.get_write_buffer_size() < 1 << 20
                await asyncio.sleep(0)


async def test_a_handshake_has_a_deadline(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "TLS_HANDSHAKE_S", 0.05)
    async with running(house) as inbound, client_of(inbound, "submissions") as client:
        client.send(b"\x16\x03\x01")
        assert await client.reader.read() == b""
    assert any("TLS failed" in line for line in house.log)


async def test_a_thousand_commands_without_a_mail(house: House) -> None:
    """Row 14."""
    for command in (b"NOOP\r\n", b"RSET\r\n", b"VRFY x\r\n", b"HELO x\r\n", b"WHAT\r\n"):
        async with running(house) as inbound, client_of(inbound) as client:
            assert await client.reply() == "220"
            assert await client.say(b"EHLO x\r\n") == "250"
            client.send(command * 1000)
            said = await client.read()
            assert said[-1] == "421 4.7.0"
            assert len(said) <= 101


# Other protocols, and load balancers (row 38)


@pytest.mark.parametrize(
    ("octets", "first", "closed"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "502 5.7.0", True),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 25\r\n", "550 5.7.0", True),
        (b"XCLIENT ADDR=10.0.0.1\r\n", "550 5.7.0", False),
        (b"XFORWARD ADDR=10.0.0.1\r\n", "550 5.7.0", False),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\n\x00\x00\x01\n\x00\x00\x02\x00\x01\x00\x19", "500 5.5.2", False),
    ],
)
async def test_other_protocols_get_nowhere(house: House, octets: bytes, first: str, closed: bool) -> None:
    async with running(house) as inbound, client_of(inbound) as client:
        assert await client.reply() == "220"
        assert await client.say(octets) == first
        (info,) = inbound.sessions() or [None]
        assert info is None or info.peer.ip == "127.0.0.1"
        if closed:
            assert await client.read() == []
        else:
            client.send(b"\r\nRCPT TO:<x@far.test>\r\nQUIT\r\n")
            said = await client.read()
            assert said[-1] == "221 2.0.0"
            assert "250 2.1.5" not in said


def behind(house: House) -> Listen:
    return replace(house.config.listen, proxy_from=("127.0.0.8", "127.0.0.9"))


async def test_a_load_balancer_says_who_it_is(house: House) -> None:
    async with running(house, listen=behind(house)) as inbound:
        async with client_of(inbound, ip="127.0.0.8") as client:
            client.send(b"PROXY TCP4 192.0.2.44 127.0.0.1 4242 25\r\n")
            assert await client.reply() == "220"
            assert await client.say(b"EHLO x\r\n") == "250"
            (info,) = inbound.sessions()
            assert (info.peer.ip, info.peer.port) == ("192.0.2.44", 4242)
            client.send(MAIL)
            assert [await client.reply() for _ in range(3)][-1] == "354"
            assert await client.say(b"Subject: hi\r\n\r\nhi\r\n.\r\n") == "250 2.0.0"
        _, content = await house.only()
        assert b"[192.0.2.44]" in content
        assert b"127.0.0.8" not in content


async def test_a_load_balancer_checks_health(house: House) -> None:
    async with running(house, listen=behind(house)) as inbound, client_of(inbound, ip="127.0.0.9") as client:
        client.send(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
        assert await client.reply() == "220"
        assert inbound.sessions()[0].peer.ip == "127.0.0.9"


async def test_its_clients_are_held_to_their_own_limits(house: House) -> None:
    async with running(house, listen=behind(house), connections_per_ip=1) as inbound:
        async with client_of(inbound, ip="127.0.0.8") as one, client_of(inbound, ip="127.0.0.8") as two:
            assert await one.say(b"PROXY TCP4 192.0.2.44 127.0.0.1 1 25\r\n") == "220"
            assert await two.say(b"PROXY TCP4 192.0.2.44 127.0.0.1 2 25\r\n") == "421 4.7.0"
        async with client_of(inbound, ip="127.0.0.8") as three:
            assert await three.say(b"PROXY TCP4 192.0.2.45 127.0.0.1 3 25\r\n") == "220"


async def test_what_its_client_said_already_is_too_early(house: House) -> None:
    async with running(house, listen=behind(house)) as inbound, client_of(inbound, ip="127.0.0.8") as client:
        assert await client.say(b"PROXY TCP4 192.0.2.44 127.0.0.1 4242 25\r\nEHLO x\r\n") == "554 5.5.1"


@pytest.mark.parametrize(
    "octets", [b"EHLO x\r\n", b"PROXY TCP4 x y 1 2\r\n", b"\r\n\r\n\x00\r\nQUIT\n\xff" + b"x" * 99]
)
async def test_a_load_balancer_without_its_header_is_closed(house: House, octets: bytes) -> None:
    async with running(house, listen=behind(house)) as inbound, client_of(inbound, ip="127.0.0.8") as client:
        client.send(octets)
        assert await client.read() == []
        assert inbound.sessions() == []
    assert any("cause=" in line and "PROXY" in line for line in house.log)


async def test_a_load_balancer_has_little_time(house: House) -> None:
    async with running(house, listen=behind(house), proxy_timeout_s=0.05) as inbound:
        async with client_of(inbound, ip="127.0.0.8") as client:
            client.send(b"PROXY ")
            assert await client.read() == []


async def test_tls_begins_behind_the_header(house: House) -> None:
    """Header and handshake in as few segments as the client likes."""
    async with running(house, listen=behind(house)) as inbound:
        (place,) = inbound.addresses("submissions")
        said = await asyncio.to_thread(_tls_behind_header, place)
    assert said.startswith(b"220 ")
    assert any("connect from unknown[192.0.2.44]" in line for line in house.log)


def _tls_behind_header(place: tuple[str, int]) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing)
    with socket.create_connection(place, source_address=("127.0.0.8", 0)) as raw:
        first = b"PROXY TCP4 192.0.2.44 127.0.0.1 4242 465\r\n"
        while True:
            try:
                said = tls.read(100)
            except ssl.SSLWantReadError:
                raw.sendall(first + outgoing.read())
                first = b""
                incoming.write(raw.recv(65536))
            else:
                return said


# Many at once


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * (IDLE + SLOW)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the system allows only {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_idle_and_slow_clients_leave_room_for_others(house: House, many_files: None) -> None:
    """500 that say nothing and 100 that dribble; an honest client is served between each of their octets."""
    async with running(house, guarded=True) as inbound, contextlib.AsyncExitStack() as stack:
        (place,) = inbound.addresses("smtp")

        async def opened(count: int, first: int) -> list[socket.socket]:
            made = []
            for number in range(count):
                raw = stack.enter_context(socket.socket())
                raw.bind((f"127.0.{1 + (first + number) // 40}.1", 0))
                raw.setblocking(False)
                await asyncio.get_running_loop().sock_connect(raw, place)
                made.append(raw)
            return made

        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await opened(IDLE, 0)
        await until(lambda: len(inbound.sessions()) == IDLE)
        each = (tracemalloc.get_traced_memory()[0] - before) / IDLE
        tracemalloc.stop()
        assert each < 16 * 1024  # both ends of it, in Python's memory
        slow = await opened(SLOW, IDLE)
        await until(lambda: len(inbound.sessions()) == IDLE + SLOW)

        trickle = b"NOOP " + b"x" * 100

        def dribble(at: int) -> None:
            for raw in slow:
                raw.send(trickle[at : at + 1])

        async with client_of(inbound) as client:
            assert await client.reply() == "220"
            for at, (command, answer) in enumerate(
                [
                    (b"EHLO x\r\n", "250"),
                    (b"MAIL FROM:<x@far.test>\r\n", "250 2.1.0"),
                    (b"RCPT TO:<alice@example.test>\r\n", "250 2.1.5"),
                    (b"DATA\r\n", "354"),
                    (b"Subject: hi\r\n\r\nhi\r\n.\r\n", "250 2.0.0"),
                    (b"QUIT\r\n", "221 2.0.0"),
                ]
            ):
                dribble(at)
                assert await client.say(command) == answer
        await house.only()
        waiting = [info for info in inbound.sessions() if info.state == "new"]
        assert len(waiting) == IDLE + SLOW


async def test_one_client_cannot_take_all_connections(house: House) -> None:
    async with running(house, connections_per_ip=5) as inbound, contextlib.AsyncExitStack() as stack:
        said = [await (await stack.enter_async_context(client_of(inbound, ip="127.0.0.2"))).reply() for _ in range(8)]
        assert said == ["220"] * 5 + ["421 4.7.0"] * 3
        other = await stack.enter_async_context(client_of(inbound, ip="127.0.0.3"))
        assert await other.reply() == "220"


async def guess(inbound: Inbound, ip: str, password: str, tries: int) -> list[str]:
    """What a sign-in over implicit TLS is answered, until the connection ends."""
    word = b64encode(f"\0alice@example.test\0{password}".encode())
    try:
        async with client_of(inbound, "submissions", ip, ssl=trusting(), server_hostname="x") as client:
            said = [await client.reply()]
            if said == ["220"] and await client.say(b"EHLO x\r\n") == "250":
                for _ in range(tries):
                    said.append(await client.say(b"AUTH PLAIN " + word + b"\r\n"))
                    if said[-1] in ("", "421 4.7.0"):
                        break
            return said
    except (ConnectionError, ssl.SSLError):  # sent away before the handshake
        return [""]


async def test_a_thousand_guesses_are_stopped_and_others_sign_in(house: House) -> None:
    """Row 16. The guesser gets few answers, then none; the user, elsewhere, does not notice."""
    async with running(house, guarded=True, delay_max_s=0.001) as inbound:
        answered = 0
        for number in range(20):
            rounds = await asyncio.gather(*(guess(inbound, "127.0.0.2", f"wrong {number}", 50) for _ in range(10)))
            answered += sum(said.count("535 5.7.8") + said.count("421 4.7.0") for said in rounds)
            if number == 1:
                assert "235 2.7.0" in await guess(inbound, "127.0.0.3", PASSWORD, 1)
        assert answered <= 20 + 3 * 10  # the limit, and who was in the middle of an exchange
        assert await guess(inbound, "127.0.0.2", PASSWORD, 1) == [""]  # not even the right password
        (block,) = house.blocks.list()
        assert (block.value, block.made_by, block.until_at - block.made_at) == ("127.0.0.2", "mtad", 3600)
        assert "235 2.7.0" in await guess(inbound, "127.0.0.3", PASSWORD, 1)
        await house.blocks.remove("127.0.0.2")
        assert "235 2.7.0" in await guess(inbound, "127.0.0.2", PASSWORD, 1)
    assert sum("SASL PLAIN authentication failed" in line for line in house.log) <= 50
    assert not [line for line in house.log if "internal error" in line]


async def test_unknown_recipients_are_answered_ever_slower_and_then_not_at_all(house: House) -> None:
    """Row 13: who tries names."""
    async with running(house, guarded=True, delay_max_s=0.001) as inbound:
        asked = 0
        for _ in range(60):
            async with client_of(inbound, ip="127.0.0.2") as client:
                said = [await client.reply()]
                if said == ["220"] and await client.say(b"EHLO x\r\n") == "250":
                    client.send(b"MAIL FROM:<>\r\n" + b"RCPT TO:<nobody@example.test>\r\n" * 50)
                    said += await client.read()
            asked += said.count("550 5.1.1")
        assert asked <= 100
        assert said == ["421 4.7.0"]
        async with client_of(inbound, ip="127.0.0.3") as other:
            assert await other.reply() == "220"


# The operator's view


async def test_sessions_are_seen_and_ended(house: House) -> None:
    async with running(house) as inbound, client_of(inbound) as one, client_of(inbound, "submissions") as two:
        assert await one.reply() == "220"
        assert await one.say(b"EHLO me.test\r\n") == "250"
        assert await one.say(b"WHAT\r\n") == "500 5.5.2"
        assert await one.say(MAIL[:24]) == "250 2.1.0"
        await until(lambda: len(inbound.sessions()) == 2)
        mine, other = inbound.sessions()
        assert (mine.peer.helo, mine.state, mine.commands, mine.errors, mine.mails) == ("me.test", "mail", 3, 1, 0)
        assert mine.listener == "127.0.0.1:{}".format(inbound.addresses("smtp")[0][1])
        assert other.state == "tls"
        assert inbound.close(mine.number)
        assert await one.read() == ["421 4.3.2"]
        assert inbound.close(other.number)
        assert await two.reader.read() == b""
        await until(lambda: not inbound.sessions())
        assert not inbound.close(mine.number)
