"""Any chunking gives the same replies and the same mail; garbage gets one well-formed reply per line, or the end."""

import asyncio
import re
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inbound_house import House

from mtad.inbound.talk import JUNK_MAX
from mtad.mail.envelope import Peer

STREAM = (
    b"EHLO client.test\r\nMAIL FROM:<x@far.test> SIZE=100\r\nRCPT TO:<alice@example.test>\r\n"
    b"RCPT TO:<no@example.test>\r\nWHAT\r\nDATA\r\nSubject: hi\r\n\r\n..dots\r\n.not the end\r\n.\r\n"
    b"NOOP " + b"x" * 2100 + b"\r\nMAIL FROM:<>\r\nRCPT TO:<team@example.test>\r\nDATA\r\n"
    b"..stuffed\r\nA: b\r\n\r\nsecond\r\n.\r\nRSET\r\nNOOP\nQUIT\r\nNOOP\r\n"
)
CHUNKS = (
    b"EHLO client.test\r\nBDAT 9\r\nMAIL\r\nXX\nMAIL FROM:<x@far.test>\r\nBDAT 6 LAST\r\nRSET\r\n"
    b"RCPT TO:<alice@example.test>\r\nBDAT 9\r\nSubject: BDAT 0\r\nDATA\r\nbdat 4 last\r\nx\r\n."
    b"MAIL FROM:<x@far.test>\r\nRCPT TO:<alice@example.test>\r\nBDAT 5\r\na: b\rBDAT 10 LAST\r\n\n\r\nhello\r\n"
    b"MAIL FROM:<x@far.test>\r\nRCPT TO:<alice@example.test>\r\nBDAT 5\r\na: b\rBDAT 5 LAST\r\nQUIT\n"
    b"MAIL FROM:<x@far.test> BODY=BINARYMIME\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nBDAT 12 LAST\r\n"
    b"\r\n\n\r\0\xff.\r\n.\r\nBDAT 3 LAST\r\nxxxQUIT\r\n"
)
REPLY = re.compile(rb"(?:[2-5][0-9]{2}-[ -~]*\r\n)*[2-5][0-9]{2} [ -~]*\r\n")
ID = re.compile(rb"[0-9a-z]{12}")
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def hear(house: House, chunks: list[bytes], source: str = "smtp") -> tuple[bytes, list[bytes]]:
    """All replies, and what was stored by them; ids are masked."""
    before = {row.message.id for row in await house.rows()}
    talk = house.talk(Peer(source, ip="192.0.2.9", tls="x"))  # type: ignore[arg-type]
    replies = b"".join([await talk.feed(chunk) for chunk in chunks])
    talk.abandon()
    stored = [await house.content(row) for row in await house.rows() if row.message.id not in before]
    return ID.sub(b"ID", replies), [ID.sub(b"ID", octets) for octets in stored]


def cut(octets: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({at for at in cuts if at < len(octets)}), len(octets)]
    return [octets[start:end] for start, end in pairwise(edges)]


@QUICK
@given(cuts=st.lists(st.integers(1, len(STREAM) - 1), max_size=30))
def test_any_chunking_is_the_same(runner: asyncio.Runner, steady: House, cuts: list[int]) -> None:
    whole = runner.run(hear(steady, [STREAM]))
    assert whole[0].count(b"\r\n") == 26
    assert len(whole[1]) == 4
    assert runner.run(hear(steady, cut(STREAM, cuts))) == whole


@QUICK
@given(cuts=st.lists(st.integers(1, len(CHUNKS) - 1), max_size=30))
def test_any_cut_of_chunks_is_the_same(runner: asyncio.Runner, steady: House, cuts: list[int]) -> None:
    whole = runner.run(hear(steady, [CHUNKS]))
    assert [line[:9] for line in whole[0].splitlines() if not line.startswith(b"250-")] == [
        b"250 REQUI", b"503 5.5.1", b"250 2.1.0", b"554 5.5.1", b"250 2.1.5", b"250 2.0.0", b"250 2.0.0", b"503 5.5.1",
        b"250 2.0.0", b"250 2.1.0", b"250 2.1.5", b"250 2.0.0", b"250 2.0.0", b"250 2.1.0", b"250 2.1.5", b"250 2.0.0",
        b"550 5.6.1", b"250 2.1.0", b"250 2.1.5", b"503 5.5.1", b"250 2.0.0", b"503 5.5.1", b"221 2.0.0",
    ]  # fmt: skip
    assert [stored[stored.find(b"\r\n\r\n") + 4 :] for stored in whole[1]] == [
        b".",
        b"hello\r\n",
        b"\n\r\0\xff.\r\n.\r\n",
    ]
    assert runner.run(hear(steady, cut(CHUNKS, cuts))) == whole


def test_octet_by_octet_is_the_same(runner: asyncio.Runner, steady: House) -> None:
    for stream in (STREAM, CHUNKS):
        chunks = [stream[at : at + 1] for at in range(len(stream))]
        assert runner.run(hear(steady, chunks)) == runner.run(hear(steady, [stream]))


VERBS = [
    b"EHLO",
    b"HELO",
    b"MAIL FROM:",
    b"RCPT TO:",
    b"RSET",
    b"NOOP",
    b"HELP",
    b"VRFY",
    b"STARTTLS",
    b"AUTH PLAIN",
    b"BDAT",
]
NOISE = st.binary(max_size=40).map(lambda octets: octets.replace(b"\n", b""))
PATH = st.sampled_from(
    [b"<>", b"<a@b.test>", b"<alice@example.test>", b"<\xc3\xa9@b.test>", b'<"a b"@c.test>', b"<@a:b@c>", b"<"]
)
LINE = st.one_of(
    NOISE,
    st.tuples(st.sampled_from(VERBS), st.sampled_from([b"", b" "]), NOISE).map(b"".join),
    st.tuples(st.sampled_from(VERBS), PATH, st.sampled_from([b"", b" "]), NOISE).map(b"".join),
)


@QUICK
@given(lines=st.lists(LINE, max_size=JUNK_MAX), source=st.sampled_from(["smtp", "submission", "local"]))
def test_garbage_gets_one_reply_per_line_or_the_end(
    runner: asyncio.Runner, steady: House, lines: list[bytes], source: str
) -> None:
    async def talk() -> None:
        conversation = steady.talk(Peer(source, ip="192.0.2.9", tls="x"))  # type: ignore[arg-type]
        for line in lines:
            ended = conversation.closing or conversation.starttls
            reply = await conversation.feed(line + b"\r\n")
            if ended:
                assert reply == b""
            else:
                assert REPLY.fullmatch(reply), reply
        conversation.abandon()

    steady.log.clear()
    runner.run(talk())
    assert not [line for line in steady.log if "internal error" in line]


@QUICK
@given(octets=st.binary(max_size=5000), cuts=st.lists(st.integers(1, 5000), max_size=10))
def test_noise_in_any_chunking_gives_whole_replies(
    runner: asyncio.Runner, steady: House, octets: bytes, cuts: list[int]
) -> None:
    steady.log.clear()
    whole = runner.run(hear(steady, [octets]))[0]
    assert re.fullmatch(b"(?:" + REPLY.pattern + b")*", whole)
    assert runner.run(hear(steady, cut(octets, cuts)))[0] == whole
    assert not [line for line in steady.log if "internal error" in line]
