"""CHUNKING and BINARYMIME (RFC 3030): what BDAT takes, when it answers, and what it never lets through."""

import tracemalloc

import pytest
from inbound_house import House, codes

from mtad.inbound.conversation import Conversation
from mtad.mail.envelope import Peer

FROM = b"MAIL FROM:<x@far.test>\r\n"
TO = b"RCPT TO:<alice@example.test>\r\n"
BEGIN = b"EHLO client.test\r\n" + FROM + TO


async def hear(talk: Conversation, octets: bytes) -> list[str]:
    return codes(await talk.feed(octets))[-octets.count(b"BDAT") :]


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (BEGIN + b"BDAT 3 LAST\r\na\r\n", ["250 2.0.0"]),
        (BEGIN + b"bdat 0 last\r\n", ["250 2.0.0"]),
        (BEGIN + b"BDAT 2\r\nabBDAT 0\r\nBDAT 2\r\n\r\nBDAT 0 LAST\r\n", ["250 2.0.0"] * 4),
        (BEGIN + b"BDAT 2 LAST\r\nabBDAT 1 LAST\r\nx", ["250 2.0.0", "503 5.5.1"]),
        (BEGIN + b"BDAT 2\r\na\nBDAT 2\r\nab", ["550 5.6.11", "503 5.5.1"]),
        (BEGIN + b"BDAT 2\r\na\0BDAT 2 LAST\r\nab", ["550 5.6.11", "503 5.5.1"]),
        (BEGIN + b"BDAT 2\r\na\rBDAT 2 LAST\r\nab", ["250 2.0.0", "550 5.6.11"]),
        (BEGIN + b"BDAT 2 LAST\r\na\r", ["550 5.6.11"]),
        (BEGIN + b"BDAT 999999999999 LAST\r\n" + b"x" * 9, []),
        (b"BDAT 6\r\nRSET\r\n", ["503 5.5.1"]),
        (b"EHLO x\r\nBDAT 6 LAST\r\nQUIT\r\n", ["503 5.5.1"]),
        (b"EHLO x\r\n" + FROM + b"BDAT 6 LAST\r\nQUIT\r\n", ["554 5.5.1"]),
        (b"BDAT x\r\nQUIT\r\n", ["521 5.5.4"]),
        (b"BDAT 1234567890123456789\r\n", ["521 5.5.4"]),
        (b"BDAT 5 LAST now\r\n", ["521 5.5.4"]),
        (b"BDAT 5\nQUIT\r\n", ["521 5.5.4"]),
        (b"bdat 5\xff\r\nQUIT\r\n", ["521 5.5.4"]),
        (b"BDAT 5\0\r\nQUIT\r\n", ["521 5.5.4"]),
        (b"BDAT 5" + b" " * 3000 + b"\r\nQUIT\r\n", ["521 5.5.4"]),
    ],
)
async def test_answers(house: House, octets: bytes, said: list[str]) -> None:
    talk = house.talk()
    replies = codes(await talk.feed(octets))
    assert replies[len(replies) - len(said) :] == said
    assert len(replies) == len(said) + (
        3 if octets.startswith(BEGIN) else octets.count(b"EHLO") + octets.count(b"MAIL")
    )
    assert talk.closing == (said[-1:] == ["521 5.5.4"])


async def test_the_same_words_as_data_and_only_the_last_chunk_commits(house: House) -> None:
    talk = house.talk()
    await talk.feed(BEGIN + b"BDAT 14\r\nSubject: a\r\n\r\nBDAT 8\r\n.\r\nQUIT\r")
    assert await house.rows() == []
    assert talk.receiving
    assert b"queued" in await talk.feed(b"BDAT 1 LAST\r\n\n")
    row, content = await house.only()
    assert content.endswith(b"Subject: a\r\n\r\n.\r\nQUIT\r\n")
    assert row.message.body == "7BIT"
    assert not talk.receiving


async def test_binary_is_kept_as_it_is_and_needs_bdat(house: House) -> None:
    talk = house.talk()
    body = b"a\nb\rc\0\r\n.\r\n\xff" + b"x" * 2000
    begin = BEGIN.replace(b"test>\r\nRCPT", b"test> BODY=BINARYMIME\r\nRCPT")
    assert codes(await talk.feed(begin + b"DATA\r\n"))[-1] == "503 5.5.1"
    assert codes(await talk.feed(b"BDAT %d LAST\r\nA: b\r\n\r\n%b" % (len(body) + 8, body))) == ["250 2.0.0"]
    row, content = await house.only()
    assert content.endswith(b"A: b\r\n\r\n" + body)
    assert row.message.body == "BINARYMIME"


@pytest.mark.parametrize("verb", [b"DATA\r\n", b"MAIL FROM:<>\r\n", TO])
async def test_nothing_else_between_chunks(house: House, verb: bytes) -> None:
    talk = house.talk()
    await talk.feed(BEGIN + b"BDAT 2\r\nab")
    assert codes(await talk.feed(verb)) == ["503 5.5.1"]
    assert codes(await talk.feed(b"NOOP\r\nBDAT 0 LAST\r\n")) == ["250 2.0.0"] * 2


@pytest.mark.parametrize("end", [b"RSET\r\n", b"EHLO x\r\n"])
async def test_a_begun_mail_can_be_dropped(house: House, end: bytes) -> None:
    talk = house.talk()
    await talk.feed(BEGIN + b"BDAT 2\r\nab" + end)
    assert codes(await talk.feed(b"BDAT 0 LAST\r\n")) == ["503 5.5.1"]
    assert await house.rows() == []


async def test_too_big_is_said_after_its_octets_and_ends_the_mail(house: House) -> None:
    talk = house.talk(host=house.with_limits(message_size_bytes=100))
    octets = BEGIN + b"BDAT 60\r\n" + b"x" * 60 + b"BDAT 41\r\n" + b"y" * 41 + b"BDAT 2 LAST\r\nzz"
    assert codes(await talk.feed(octets))[-3:] == ["250 2.0.0", "552 5.3.4", "503 5.5.1"]
    assert not talk.receiving
    octets = FROM + TO + b"BDAT 100 LAST\r\n" + b"x" * 100
    assert codes(await talk.feed(octets))[-1] == "250 2.0.0"


async def test_a_header_that_is_too_big_is_refused_at_the_end_of_its_chunk(house: House) -> None:
    talk = house.talk(host=house.make_host(house.config))
    octets = b"".join(b"BDAT 100000\r\n" + b"A: " + b"x" * 99_997 for _ in range(4))
    said = codes(await talk.feed(BEGIN + octets))
    assert said[-4:] == ["250 2.0.0", "250 2.0.0", "552 5.3.4", "503 5.5.1"]


async def test_many_chunks_take_no_more_memory_than_one(house: House) -> None:
    """A large mail in chunks of 64 KiB, and a small one in chunks of an octet: neither is kept in pieces."""
    talk = house.talk()
    await talk.feed(BEGIN + b"BDAT 6\r\nA: b\r\nBDAT 2\r\n\r\n")
    block = b"BDAT 65536\r\n" + (b"x" * 62 + b"\r\n") * 1024
    tracemalloc.start()
    try:
        for _ in range(100):
            assert (await talk.feed(block)).startswith(b"250 2.0.0")
        assert tracemalloc.get_traced_memory()[0] < 600_000
        tracemalloc.clear_traces()
        other = house.talk()
        await other.feed(BEGIN)
        for _ in range(50):
            await other.feed(b"BDAT 1\r\nx" * 1000)
        assert tracemalloc.get_traced_memory()[0] < 400_000
    finally:
        tracemalloc.stop()
    assert codes(await talk.feed(b"BDAT 0 LAST\r\n")) == ["250 2.0.0"]
    row, _ = await house.only()
    assert row.message.size_bytes > 6_500_000


async def test_chunks_of_nothing_are_no_way_to_stay(house: House) -> None:
    talk = house.talk()
    await talk.feed(BEGIN)
    assert codes(await talk.feed(b"BDAT 0\r\n" * 200))[-1] == "421 4.7.0"
    assert talk.closing


async def test_the_clock_of_a_mail_runs_over_all_its_chunks(house: House) -> None:
    talk = house.talk(Peer("smtp", ip="192.0.2.9"))
    await talk.feed(BEGIN)
    before = talk.lines
    await talk.feed(b"BDAT 1\r\nx" * 50)
    assert talk.lines == before + 1
