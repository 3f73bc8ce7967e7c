"""Rows 35, 36 and 38: time, many connections, connections that break, and other protocols."""

import asyncio
import random
import socket
import struct
from contextlib import AsyncExitStack

import pytest
from inbound_house import House
from security_rows import prove
from security_target import Target, Wire, hold

LOOK_S = 0.02
CONTENT = b"Subject: whole\r\n\r\n" + b"0123456789abcdef\r\n" * 40 + b"the end"


async def test_row_35_one_address_cannot_take_all_places(house: House) -> None:
    async def occupy(target: Target) -> None:
        async with AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(target.connect()) for _ in range(60)]
            codes = [(await wire.answer()).code for wire in wires]
            hold(codes.count(220) <= 50, f"{codes.count(220)} connections of one address")
            async with target.connect(ip="127.0.0.2") as other:
                hold((await other.answer()).code == 220, "another address is not let in")

    await prove(35, occupy, house)


async def trickle(wire: Wire, octets: bytes, times: int) -> bool:
    """Say it again and again, slowly. Whether the server ended it before the last time."""
    heard = asyncio.ensure_future(wire.reader.read())
    try:
        for _ in range(times):
            if heard.done():
                return True
            await wire.send(octets)
            await asyncio.sleep(LOOK_S)
        return heard.done()
    finally:
        heard.cancel()


async def test_row_35_a_dribbled_command_does_not_keep_a_session(house: House) -> None:
    async def dribble(target: Target) -> None:
        async with target.greeted() as wire:
            hold(await trickle(wire, b"N", 500), "10 s for one command, where 0.5 s are allowed")

    await prove(35, dribble, house, safe_there=True, command_timeout_s=0.5, stock_options={"timeout": 0.5})


async def test_row_35_a_dribbled_mail_does_not_keep_a_session(house: House) -> None:
    """Every octet moves the deadline of a block; the rate ends it."""

    async def dribble(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            await wire.say("RCPT TO:<alice@example.test>")
            await wire.say("DATA")
            hold(await trickle(wire, b"x", 500), "10 s at 50 octets a second")

    limits = {"data_timeout_s": 0.5, "data_rate_min": 500, "data_grace_s": 0.5}
    await prove(35, dribble, house, safe_there=True, stock_options={"timeout": 0.5}, **limits)


async def test_row_35_commands_do_not_keep_a_session_for_ever(house: House) -> None:
    async def chat(target: Target) -> None:
        async with target.greeted() as wire:
            hold(await trickle(wire, b"NOOP\r\n", 90), "no deadline for the whole session")

    await prove(35, chat, house, session_timeout_s=0.5, stock_options={"timeout": 0.5})


async def test_row_35_an_honest_slow_mail_gets_through(house: House) -> None:
    """A deadline for all of DATA would cut it: it takes longer than a session may be silent."""

    async def slow(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            await wire.say("RCPT TO:<alice@example.test>")
            await wire.say("DATA")
            hold(not await trickle(wire, b"x" * 70 + b"\r\n", 100), "cut off")

    limits = {"command_timeout_s": 0.8, "data_timeout_s": 0.8, "data_rate_min": 500}
    await prove(35, slow, house, stock_options={"timeout": 0.8}, **limits)


async def test_row_36_no_part_of_a_mail_is_delivered(house: House) -> None:
    """Cut at any octet, by an end or by a reset: the whole mail once, or nothing."""
    stream = b"MAIL FROM:<x@far.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n" + CONTENT + b"\r\n.\r\n"
    rng = random.Random(36)
    cuts = [rng.randrange(len(stream) + 1) for _ in range(150)] + list(range(len(stream) - 8, len(stream) + 1))

    async def cut(target: Target) -> None:
        whole = 0
        for at in cuts:
            async with target.greeted() as wire:
                await wire.send(stream[:at])
                if rng.random() < 0.5:
                    reset(wire)
                else:
                    wire.writer.write_eof()
                    await wire.rest()
            whole += at == len(stream)
        mails = await target.stored()
        hold(len(mails) <= whole, f"{len(mails)} mails of {whole}")
        hold(all(CONTENT in octets for _, _, octets in mails), "a part of a mail")

    await prove(36, cut, house, safe_there=True)


async def test_row_36_an_end_after_the_dot_loses_no_mail(house: House) -> None:
    """The client has said all it has to say, and listens."""

    async def half_close(target: Target) -> None:
        for _ in range(10):
            async with target.greeted() as wire:
                await wire.say("MAIL FROM:<x@far.test>")
                await wire.say("RCPT TO:<alice@example.test>")
                await wire.say("DATA")
                before = len(await target.stored())
                await wire.send(CONTENT + b"\r\n.\r\n")
                wire.writer.write_eof()
                codes = [answer.code for answer in await wire.rest()]
                hold(codes == [250], f"{codes}")
                hold(len(await target.stored()) == before + 1, "the reply is not the truth")

    await prove(36, half_close, house)


def reset(wire: Wire) -> None:
    sock = wire.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.writer.transport.abort()


@pytest.mark.parametrize("verb", ["GET / HTTP/1.1", "POST / HTTP/1.1", "CONNECT mx:25 HTTP/1.1", "OPTIONS * HTTP/1.1"])
async def test_row_38_a_browser_is_cut_at_once(house: House, verb: str) -> None:
    """Its body could hold commands (cross-protocol attacks)."""

    async def browse(target: Target) -> None:
        async with target.connect() as wire:
            await wire.answer()
            mail = "MAIL FROM:<x@far.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
            await wire.send(f"{verb}\r\nHost: mx.example.test\r\n\r\nHELO x\r\n{mail}QUIT\r\n".encode())
            replies = await wire.rest()
            hold(len(replies) <= 1 and not any(reply.yes for reply in replies), f"{[r.code for r in replies]}")
            hold(not await target.stored(), "a mail from a browser")

    await prove(38, browse, house)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 10.0.0.1 127.0.0.1 1 25\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x0a\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x19",
        b"XCLIENT ADDR=10.0.0.1\r\n",
        b"XFORWARD ADDR=10.0.0.1\r\n",
    ],
    ids=["v1", "v2", "XCLIENT", "XFORWARD"],
)
async def test_row_38_nobody_says_who_he_is_instead(house: House, header: bytes) -> None:
    """10.0.0.1 is trusted, and may relay."""

    async def disguise(target: Target) -> None:
        async with target.connect() as wire:
            await wire.answer()
            await wire.send(header)
            answer = await wire.answer()
            hold(not answer.yes, f"{answer}")
            for line in ("EHLO x", "MAIL FROM:<x@far.test>", "RCPT TO:<y@far.test>"):
                await wire.send(line.encode() + b"\r\n")
        hold(not any("10.0.0.1" in line and "reject" not in line for line in target.log), "the log believes it")

    await prove(38, disguise, house, safe_there=True)
