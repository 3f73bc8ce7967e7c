"""Sessions and listeners over real loopback sockets. Each defect of the stock aiosmtpd class has its test here."""

import asyncio
import inspect
import os
import socket
import stat
import struct
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import aiosmtpd.smtp
import pytest
from inbound_client import connected, serving, trusting, until
from inbound_house import PASSWORD, House, codes

from mtad.config import Limits
from mtad.inbound.server import Inbound
from mtad.inbound.session import Session
from mtad.mail.envelope import NewMessage
from mtad.queue.store import StoreError

ENVELOPE = b"MAIL FROM:<x@far.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
MAIL = ENVELOPE + b"Subject: hi\r\n\r\nbody\r\n.\r\n"


@pytest.fixture
async def inbound(house: House) -> AsyncIterator[Inbound]:
    async with serving(house.inbound()) as made:
        yield made


def started(house: House, **limits: Any) -> AbstractAsyncContextManager[Inbound]:
    return serving(house.inbound(replace(house.config, limits=replace(Limits(), **limits))))


class SlowStore:
    """The real store behind a gate that the test opens."""

    def __init__(self, house: House) -> None:
        self.store = house.store
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.fault: Exception | None = None

    async def accept(self, new: NewMessage) -> str:
        self.begun.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await self.store.accept(new)


@pytest.fixture
async def slow(house: House, inbound: Inbound) -> SlowStore:
    store = SlowStore(house)
    inbound.host.acceptor._store = store  # type: ignore[assignment]
    return store


# The defects of the stock class


async def test_half_close_after_the_dot_still_commits_and_is_answered(
    house: House, inbound: Inbound, slow: SlowStore
) -> None:
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\n" + MAIL)
        client.writer.write_eof()
        await slow.begun.wait()
        slow.gate.set()
        assert codes(await client.ended()) == ["220", "250", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    await house.only()


async def test_a_peer_that_is_gone_after_the_dot_does_not_stop_the_commit(
    house: House, inbound: Inbound, slow: SlowStore
) -> None:
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\n" + MAIL)
        await slow.begun.wait()
        reset = struct.pack("ii", 1, 0)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        client.writer.transport.abort()
        await until(lambda: not inbound.sessions())
        slow.gate.set()
    await inbound.drain(5.0)
    await house.only()


async def test_a_peer_that_is_gone_before_the_dot_leaves_nothing(house: House, inbound: Inbound) -> None:
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\n" + ENVELOPE + b"Subject: x\r\n\r\n" + b"x" * 70 * 1000 + b"\r\n" + b"y" * 70 * 1000)
        await client.replies(5)
    await until(lambda: not inbound.sessions())
    assert await house.rows() == []
    assert os.listdir(house.config.paths.spool) == []


@pytest.mark.parametrize(
    ("fault", "reply"),
    [
        (RuntimeError("locked: /secret/path"), "451 4.3.0"),
        (StoreError("locked: /secret/path"), "451 4.3.0"),
        (StoreError("/secret/path", full=True), "452 4.3.1"),
    ],
)
async def test_an_internal_error_is_temporary_and_tells_nothing(
    house: House, inbound: Inbound, slow: SlowStore, fault: Exception, reply: str
) -> None:
    slow.fault = fault
    slow.gate.set()
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\n" + MAIL + b"QUIT\r\n")
        said = await client.ended()
    assert codes(said)[-2:] == [reply, "221 2.0.0"]
    assert b"secret" not in said
    assert b"Error" not in said
    assert any("secret" in line for line in house.log)
    assert await house.rows() == []


async def test_the_clock_of_data_runs_per_block_and_says_421(house: House) -> None:
    async with started(house, data_timeout_s=0.2, command_timeout_s=30.0) as inbound, connected(inbound) as client:
        client.send(b"EHLO x\r\n" + ENVELOPE)
        await client.replies(5)
        (held,) = inbound._sessions.values()
        session = held[0]
        before = session._deadline.at
        client.send(b"one block\r\n")
        await until(lambda: session._deadline.at > before)
        assert codes(await client.ended()) == ["421 4.4.2"]


async def test_an_idle_peer_is_told_421(house: House) -> None:
    async with started(house, command_timeout_s=0.1) as inbound, connected(inbound) as client:
        assert codes(await client.ended()) == ["220", "421 4.4.2"]


async def test_octets_without_a_command_do_not_move_the_deadline(house: House, inbound: Inbound) -> None:
    async with connected(inbound) as client:
        await client.reply()
        (held,) = inbound._sessions.values()
        session = held[0]
        before = session._deadline.at
        client.send(b"NO")
        await until(lambda: session.conversation._input == b"NO")
        assert session._deadline.at == before
        client.send(b"OP\r\n")
        await client.reply()
        assert session._deadline.at > before


async def test_a_steady_trickle_ends(house: House) -> None:
    """Long before `data_timeout`: what it has sent by then is not enough."""
    limits = {"data_rate_min": 1_000_000, "data_grace_s": 0.05}
    async with started(house, **limits) as inbound, connected(inbound) as client:
        client.send(b"EHLO x\r\n" + ENVELOPE)
        await client.replies(5)
        assert codes(await client.ended()) == ["421 4.4.2"]
    assert await house.rows() == []


async def test_a_line_without_end_in_data_keeps_memory_flat(house: House) -> None:
    async with started(house, message_size_bytes=1000) as inbound, connected(inbound) as client:
        client.send(b"EHLO x\r\n" + ENVELOPE)
        await client.replies(5)
        (held,) = inbound._sessions.values()
        talk = held[0].conversation
        for _ in range(64):
            client.send(b"x" * 65536)
            await client.writer.drain()
        assert talk._spool is not None
        assert sum(map(len, talk._spool._chunks)) <= 1000 + 256 * 1024
        client.send(b"\r\n.\r\nQUIT\r\n")
        assert codes(await client.ended()) == ["552 5.3.4", "221 2.0.0"]


async def test_nothing_of_one_connection_changes_another(inbound: Inbound) -> None:
    """The stock class keeps its command limits on the class: each EHLO raises them, each connection clears them."""
    before = dict(aiosmtpd.smtp.SMTP.command_size_limits)
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\n" * 20 + b"NOOP " + b"x" * 2042 + b"\r\n")
        assert (await client.replies(22))[-1] == "500 5.5.2"
        async with connected(inbound) as other:
            other.send(b"NOOP " + b"x" * 2041 + b"\r\n")
            assert await other.replies(2) == ["220", "250 2.0.0"]
    assert dict(aiosmtpd.smtp.SMTP.command_size_limits) == before


async def test_a_connection_asks_no_name_server(inbound: Inbound, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("getfqdn")

    monkeypatch.setattr(socket, "getfqdn", asked)
    async with connected(inbound) as client:
        assert await client.reply() == "220"


async def test_the_constructor_looks_at_no_attribute_tables(inbound: Inbound, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object) -> list[tuple[str, object]]:
        raise AssertionError("getmembers")

    monkeypatch.setattr(inspect, "getmembers", looked)
    Session(inbound, "smtp")


async def test_auth_over_implicit_tls(house: House, inbound: Inbound) -> None:
    async with connected(inbound, "submissions", ssl=trusting(), server_hostname="x") as client:
        assert await client.reply() == "220"
        word = b64encode(f"\0alice@example.test\0{PASSWORD}".encode())
        client.send(b"EHLO x\r\nAUTH plain " + word + b"\r\nMAIL FROM:<alice@example.test>\r\n")
        assert await client.replies(3) == ["250", "235 2.7.0", "250 2.1.0"]
        (info,) = inbound.sessions()
        assert info.peer.tls.startswith("TLSv1.3 TLS_")
        assert (info.peer.user, info.state) == ("alice@example.test", "mail")


# TLS


async def test_starttls_and_then_a_mail(house: House, inbound: Inbound) -> None:
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\nSTARTTLS\r\n")
        await client.replies(3)
        await client.tls()
        client.send(MAIL)
        assert await client.reply() == "503 5.5.1"
        await client.replies(2)
        # The rest was no command either; a new connection shows the mail.
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\nSTARTTLS\r\n")
        await client.replies(3)
        await client.tls()
        client.send(b"EHLO x\r\n" + MAIL)
        assert await client.replies(5) == ["250", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    _, content = await house.only()
    assert b"with ESMTPS (TLSv1.3 TLS_" in content


async def test_clear_text_after_starttls_is_never_heard(house: House, inbound: Inbound) -> None:
    """CVE-2011-0411: what was pipelined behind STARTTLS must not be answered inside TLS."""
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\nSTARTTLS\r\nNOOP\r\nEHLO evil\r\n")
        assert await client.replies(3) == ["220", "250", "220 2.0.0"]
        await client.tls()
        client.send(b"QUIT\r\n")
        assert codes(await client.ended()) == ["221 2.0.0"]


async def test_garbage_in_place_of_a_handshake_ends_the_connection_only(house: House, inbound: Inbound) -> None:
    for source, first in (("smtp", b"EHLO x\r\nSTARTTLS\r\n"), ("submissions", b"")):
        async with connected(inbound, source) as client:
            if first:
                client.send(first)
                await client.replies(3)
            client.send(b"this is no handshake\r\n" * 10)
            await client.ended()
        await until(lambda: not inbound.sessions())
    assert sum("TLS failed" in line for line in house.log) == 2
    async with connected(inbound) as client:
        assert await client.reply() == "220"


async def test_a_peer_that_leaves_during_the_handshake_is_forgotten(inbound: Inbound) -> None:
    async with connected(inbound, "submissions"):
        await until(lambda: len(inbound.sessions()) == 1)
    await until(lambda: not inbound.sessions())
    assert inbound._connections.total == 0


# Limits, flow, stop


async def test_connections_are_limited_in_all_and_per_client(house: House) -> None:
    async with started(house, connections=2, connections_per_ip=1) as inbound:
        async with connected(inbound) as one, connected(inbound) as two:
            assert await one.reply() == "220"
            assert codes(await two.ended()) == ["421 4.7.0"]
            async with (
                connected(inbound, local_addr=("127.0.0.2", 0)) as three,
                connected(inbound, local_addr=("127.0.0.3", 0)) as four,
            ):
                assert await three.reply() == "220"
                assert codes(await four.ended()) == ["421 4.3.2"]
        await until(lambda: not inbound.sessions())
        async with connected(inbound) as client:
            assert await client.reply() == "220"


async def test_a_peer_that_does_not_read_is_not_served_further(inbound: Inbound) -> None:
    async with connected(inbound) as client:
        await client.reply()
        (held,) = inbound._sessions.values()
        session = held[0]
        session.pause_writing()  # what the transport calls when its buffer is full
        assert session.transport is not None
        assert not session.transport.is_reading()
        session.resume_writing()
        assert session.transport.is_reading()
        session.pause_writing()
        session._deadline.at = 0.0
        session._deadline._tick()
        assert await client.ended() == b""


async def test_what_comes_during_the_commit_waits(house: House, inbound: Inbound, slow: SlowStore) -> None:
    async with connected(inbound) as client:
        client.send(b"EHLO x\r\n" + MAIL)
        await slow.begun.wait()
        client.send(b"NOOP\r\nQUIT\r\n")
        (held,) = inbound._sessions.values()
        await until(lambda: held[0]._paused)
        slow.gate.set()
        assert codes(await client.ended())[-3:] == ["250 2.0.0", "250 2.0.0", "221 2.0.0"]


async def test_stop_sends_the_idle_away_and_lets_a_mail_end(house: House, inbound: Inbound) -> None:
    async with connected(inbound) as idle, connected(inbound) as busy:
        busy.send(b"EHLO x\r\n" + ENVELOPE)
        await busy.replies(5)
        await idle.reply()
        (place,) = inbound.addresses("smtp")
        draining = asyncio.ensure_future(inbound.drain(30.0))
        assert codes(await idle.ended()) == ["421 4.3.2"]
        busy.send(b"\r\nx\r\n.\r\n")
        assert codes(await busy.ended()) == ["250 2.0.0", "421 4.3.2"]
        assert await draining == 0
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*place)
    await house.only()


async def test_stop_cuts_who_does_not_end_but_finishes_the_commit(
    house: House, inbound: Inbound, slow: SlowStore
) -> None:
    async with connected(inbound) as stuck, connected(inbound) as committing:
        stuck.send(b"EHLO x\r\n" + ENVELOPE)
        await stuck.replies(5)
        committing.send(b"EHLO x\r\n" + MAIL)
        await slow.begun.wait()
        draining = asyncio.ensure_future(inbound.drain(0.0))
        await until(lambda: not inbound.sessions())
        assert not draining.done()
        slow.gate.set()
        assert await draining == 2
    await house.only()


async def test_sockets_that_are_given_are_used(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        name = sock.getsockname()
        inbound = house.inbound()
        await inbound.start({"smtp": [sock]})
        assert inbound.addresses("smtp") == [name]
        async with connected(inbound) as client:
            assert await client.reply() == "220"
        await inbound.drain(0.0)


async def test_an_address_in_use_is_named(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listen = replace(house.config.listen, submission=(replace(house.config.listen.smtp[0], port=port),))
        with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
            await house.inbound(replace(house.config, listen=listen)).start()


# The local socket


async def test_the_submit_socket_is_open_to_all_and_knows_who_speaks(house: House, inbound: Inbound) -> None:
    path = house.config.paths.submit
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    async with connected(inbound, "local") as client:
        client.send(
            b"EHLO x\r\nMAIL FROM:<cron>\r\nRCPT TO:<root>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n"
        )
        said = codes(await client.ended())
    assert said[-6:] == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]
    rows = await house.rows()
    assert [row.recipient.address for row in rows] == ["postmaster@example.test", "x@far.test"]
    assert rows[0].recipient.original == "root@example.test"
    assert (rows[0].message.sender, rows[0].message.peer.uid) == ("cron@example.test", os.getuid())
    content = await house.content(rows[0])
    assert content.startswith(f"Received: by mx.example.test (uid {os.getuid()})\r\n\tid ".encode())
    assert content.endswith(b"\r\n\r\nhi\r\n")


async def test_a_stale_submit_socket_is_replaced_and_a_file_is_not(house: House) -> None:
    path = house.config.paths.submit
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    inbound = house.inbound()
    await inbound.start()
    async with connected(inbound, "local") as client:
        assert await client.reply() == "220"
    await inbound.drain(0.0)
    os.unlink(path)
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(OSError, match=path):
        await house.inbound().start()
    with open(path) as file:
        assert file.read() == "precious"


# What we use of others' inside


def test_the_parts_of_aiosmtpd_that_we_stand_on() -> None:
    """We replace these and inherit nothing else that runs: a new release that adds a callback must be looked at."""
    assert aiosmtpd.smtp.__version__.startswith("1.4.")
    assert issubclass(Session, asyncio.StreamReaderProtocol)
    callbacks = {
        "connection_made",
        "connection_lost",
        "data_received",
        "eof_received",
        "pause_writing",
        "resume_writing",
    }
    assert callbacks <= set(vars(Session))
    inherited = {
        name
        for kind in (
            aiosmtpd.smtp.SMTP,
            asyncio.StreamReaderProtocol,
            asyncio.streams.FlowControlMixin,
            asyncio.Protocol,
        )
        for name in vars(kind)
        if name.endswith(("_made", "_lost", "_received", "_writing"))
    }
    assert inherited == callbacks


@pytest.mark.parametrize("run", ["asyncio", "uvloop"])
def test_tls_on_both_loops(run: str, house_factory: Callable[[], Any]) -> None:
    """The client's first words come with the end of its handshake; others never finish theirs."""
    work = _tls_on_this_loop(house_factory)
    if run == "uvloop":
        pytest.importorskip("uvloop").run(work)
    else:
        asyncio.run(work)


async def _tls_on_this_loop(house_factory: Callable[[], Any]) -> None:
    async with house_factory() as house:
        inbound = house.inbound()
        await inbound.start()
        (implicit,), (clear,) = inbound.addresses("submissions"), inbound.addresses("submission")
        for _ in range(10):
            assert codes(await asyncio.to_thread(_blocking_talk, implicit, b"")) == ["220", "250", "221 2.0.0"]
            assert codes(await asyncio.to_thread(_blocking_talk, clear, b"STARTTLS\r\n")) == ["250", "221 2.0.0"]
        for octets in (b"no handshake at all\r\n" * 3, b"\x16\x03\x01", b""):
            async with connected(inbound, "submissions") as client:
                await until(lambda: len(inbound.sessions()) == 1)
                client.send(octets)
            await until(lambda: not inbound.sessions())
        assert sum("TLS failed" in line for line in house.log) == 3
        assert await inbound.drain(5.0) == 0
        assert not [line for line in house.log if "internal error" in line]


def _blocking_talk(place: tuple[str, int], first: bytes) -> bytes:
    with socket.create_connection(place) as raw:
        if first:
            raw.recv(100)
            raw.sendall(first)
            raw.recv(100)
        with trusting().wrap_socket(raw) as secure:
            secure.sendall(b"EHLO x\r\nQUIT\r\n")
            said = b""
            while octets := secure.recv(4096):
                said += octets
            return said


@pytest.mark.parametrize("run", ["asyncio", "uvloop"])
def test_a_peer_that_was_gone_before_we_looked_is_not_counted_for_ever(
    run: str, house_factory: Callable[[], Any]
) -> None:
    """uvloop cannot name it any more: without an address it must not take places that nobody gives back."""
    work = _gone_before_accept(house_factory)
    if run == "uvloop":
        pytest.importorskip("uvloop").run(work)
    else:
        asyncio.run(work)


async def _gone_before_accept(house_factory: Callable[[], Any]) -> None:
    async with house_factory() as house:
        inbound = house.inbound()
        listener = socket.create_server(("127.0.0.1", 0))
        await inbound.start({"smtp": [listener]})
        for _ in range(3):
            client = socket.create_connection(listener.getsockname())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # with a reset, before the loop turns
        await until(lambda: inbound._next_number == 4)
        await until(lambda: not inbound.sessions())
        assert inbound._connections.total == 0
        assert await inbound.drain(5.0) == 0
