"""What becomes of an accepted mail: its trace, its fields, its signature, its recipients, its file."""

import hashlib
import os
import re
from dataclasses import replace
from typing import Any

import dkim
import pytest
from inbound_house import PASSWORD, STRANGER, House, codes, say

from mtad.inbound import spool as spool_module
from mtad.inbound import stamps
from mtad.inbound.spool import Spool, split
from mtad.mail.envelope import Envelope, NewMessage, Peer, Rcpt
from mtad.queue.files import INLINE_MAX_BYTES

LOCAL = Peer("local", uid=1000)
ENVELOPE = Envelope("x@far.test", (Rcpt("alice@example.test"),))


async def send(house: House, peer: Peer, content: bytes, *to: str, sender: str = "x@far.test") -> str:
    talk = house.talk(peer)
    await say(talk, "EHLO client.test", f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in to), "DATA")
    return codes(await talk.feed(content + b"\r\n.\r\n"))[-1]


@pytest.mark.parametrize(
    ("peer", "utf8", "protocol"),
    [
        (Peer("smtp", esmtp=False), False, "SMTP"),
        (Peer("smtp"), False, "ESMTP"),
        (Peer("smtp", tls="x"), False, "ESMTPS"),
        (Peer("submission", tls="x", user="u"), False, "ESMTPSA"),
        (Peer("submission", user="u"), False, "ESMTPA"),
        (Peer("smtp", tls="x"), True, "UTF8SMTPS"),
    ],
)
def test_protocol_words(peer: Peer, utf8: bool, protocol: str) -> None:
    assert stamps.protocol(replace(ENVELOPE, smtputf8=utf8), peer) == protocol


@pytest.mark.parametrize("helo", ["x) by evil", "a<b>", "[IPv6:2001:db8::1]", "\u202eevil", "a;b", "x" * 5000])
def test_the_trace_stays_well_formed(helo: str) -> None:
    field = stamps.received(ENVELOPE, replace(STRANGER, helo=helo), "mx.example.test", "id", "date").decode()
    assert re.fullmatch(
        r"Received: from [A-Za-z0-9.:_?\[\]-]{1,255} \(\[192\.0\.2\.9\]\)\r\n"
        r"\tby mx\.example\.test with ESMTP\r\n\tid id\r\n\tfor <alice@example\.test>;\r\n\tdate\r\n",
        field,
    )


def test_only_a_single_recipient_is_named() -> None:
    two = replace(ENVELOPE, recipients=(*ENVELOPE.recipients, Rcpt("bob@example.test")))
    assert b" for " not in stamps.received(two, STRANGER, "mx", "id", "date").replace(b"\t", b" ")


@pytest.mark.parametrize(
    ("octets", "head", "body"),
    [
        (b"A: 1\r\n\r\nbody", b"A: 1\r\n\r\n", b"body"),
        (b"A: 1\r\n", b"A: 1\r\n\r\n", b""),
        (b"\r\nbody", b"\r\n", b"body"),
        (b"", b"\r\n", b""),
        (b"just text\r\n", b"\r\n", b"just text\r\n"),
        (b"just text\r\n\r\nmore", b"\r\n", b"just text\r\n\r\nmore"),
        (b"A: 1\r\ntext\r\nB: 2\r\n\r\nx", b"A: 1\r\n\r\n", b"text\r\nB: 2\r\n\r\nx"),
        (b"From x@y Mon Jan 1\r\nA: 1\r\n\r\nx", b"A: 1\r\n\r\n", b"x"),
        (b"From : a@b.test\r\nA: 1\r\n\r\nx", b"From : a@b.test\r\nA: 1\r\n\r\n", b"x"),
        (b"From x@y Mon 10:00\r\nFrom \t: a\r\n\r\nx", b"From \t: a\r\n\r\n", b"x"),
        (b">From x\r\nA: 1\r\n\tfolded\r\n\r\nx", b"A: 1\r\n\tfolded\r\n\r\n", b"x"),
    ],
)
def test_split(octets: bytes, head: bytes, body: bytes) -> None:
    assert split(octets) == (head, body)


async def test_a_submitter_s_mail_is_completed_and_private_fields_go(house: House) -> None:
    content = (
        b"To: a@b.test\r\nBCC: hidden@far.test,\r\n more@far.test\r\nReturn-Path: <x>\r\nContent-Length: 4\r\n"
        b"Resent-Bcc: r@far.test\r\n\r\nbody"
    )
    assert await send(house, LOCAL, content, "alice@example.test", sender="bob@example.test") == "250 2.0.0"
    row, stored = await house.only()
    head = stored.partition(b"\r\n\r\n")[0]
    for gone in (b"hidden", b"more@far", b"Return-Path", b"Content-Length", b"Resent"):
        assert gone not in stored
    assert b"\r\nFrom: bob@example.test\r\n" in head
    assert f"\r\nMessage-ID: <{row.message.id}@mx.example.test>\r\n".encode() in head
    assert re.search(rb"\r\nDate: \w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n", head)
    assert row.message.header_id == f"<{row.message.id}@mx.example.test>"


async def test_who_delivers_learns_of_a_mail_by_the_time_at_which_it_was_made(house: House) -> None:
    """The clock may be set back before it is stored: then it says that it is due far ahead."""
    told: list[float] = []
    house.now = 2e9
    acceptor = house.make_acceptor(house.config, told.append)
    store_accept = house.store.accept

    async def set_back(new: NewMessage) -> str:
        house.now = 1.9e9
        return await store_accept(new)

    house.store.accept = set_back  # type: ignore[method-assign]
    talk = house.talk(LOCAL, house.host.with_acceptor(acceptor))
    await say(talk, "EHLO x", "MAIL FROM:<x@far.test>", "RCPT TO:<alice@example.test>", "DATA", "hi", ".")
    assert (talk.accepted, told) == (1, [2e9])


async def test_what_is_there_is_left_alone(house: House) -> None:
    content = (
        b"From: a@b.test\r\nDate: yesterday\r\nMessage-Id: <own@b.test>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n\r\nx"
    )
    await send(house, LOCAL, content, "alice@example.test")
    row, stored = await house.only()
    assert stored.endswith(content + b"\r\n")
    assert (row.message.header_id, row.message.subject) == ("<own@b.test>", "caf\u00e9")


async def test_a_relayed_mail_is_only_stamped(house: House) -> None:
    content = b"Bcc: seen@far.test\r\nSubject: x\r\n\r\nbody"
    await send(house, STRANGER, content, "alice@example.test")
    row, stored = await house.only()
    assert stored.partition(b"+0000\r\n")[2] == content + b"\r\n"
    assert row.message.header_id == ""


@pytest.mark.parametrize(("hops", "reply"), [(50, "250 2.0.0"), (51, "554 5.4.6")])
async def test_a_loop_is_broken(house: House, hops: int, reply: str) -> None:
    assert await send(house, STRANGER, b"Received: x\r\n" * hops + b"\r\n", "alice@example.test") == reply


async def test_aliases_become_recipients_once(house: House) -> None:
    await send(house, STRANGER, b"\r\nx", "team@example.test", "Bob@example.test", "both@example.test")
    rows = await house.rows()
    assert [(row.recipient.n, row.recipient.address, row.recipient.original) for row in rows] == [
        (1, "alice@example.test", "team@example.test"),
        (2, "bob@example.test", "team@example.test"),
        (3, "carol@far.test", "team@example.test"),
    ]
    assert [row.recipient.domain for row in rows] == ["example.test", "example.test", "far.test"]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("alice", "alice@example.test"),
        ('"a>b"@far.test', '"a>b"@far.test'),
        ('"a@b>c"@far.test', '"a@b>c"@far.test'),
        ('"a\\">b"@far.test', '"a\\">b"@far.test'),
        ('"alice"', "alice@example.test"),
    ],
)
async def test_a_login_name_gets_the_domain_and_a_quoted_one_is_not_cut(
    house: House, written: str, address: str
) -> None:
    assert await send(house, LOCAL, b"hi", written) == "250 2.0.0"
    (row,) = await house.rows()
    assert row.recipient.address == address


async def test_domains_are_kept_as_a_labels(house: House) -> None:
    talk = house.talk(LOCAL)
    await say(talk, "MAIL FROM:<> SMTPUTF8", "RCPT TO:<x@B\u00dcCHER.test>", "DATA", "\r\nx", ".")
    row, _ = await house.only()
    assert (row.recipient.address, row.recipient.domain) == ("x@b\u00fccher.test", "xn--bcher-kva.test")


@pytest.mark.parametrize("size", [10, INLINE_MAX_BYTES - 200, INLINE_MAX_BYTES + 1, 700_000])
async def test_small_and_large_bodies_are_stored_as_they_came(house: House, size: int) -> None:
    body = b"0123456789abcdef0123456789abcd\r\n" * (size // 32)
    content = b"Subject: x\r\n\r\n" + body
    stream = content + b".\r\n"
    talk = house.talk()
    await say(talk, "EHLO x", "MAIL FROM:<x@far.test>", "RCPT TO:<alice@example.test>", "DATA")
    said = b"".join([await talk.feed(stream[at : at + 10_000]) for at in range(0, len(stream), 10_000)])
    assert codes(said) == ["250 2.0.0"]
    row, stored = await house.only()
    assert stored.endswith(content)
    assert row.message.size_bytes == len(stored)
    head, _, rest = stored.partition(b"\r\n\r\n")
    assert row.message.digest == hashlib.sha256(rest + head + b"\r\n\r\n").digest()
    assert os.listdir(house.config.paths.spool) == ([row.message.id] if size > INLINE_MAX_BYTES else [])


async def test_a_large_mail_for_which_the_store_has_no_room_leaves_no_file(house: House) -> None:
    """Else a full disk gets fuller with each time that the client tries again."""
    house.store.reserve_bytes = 1 << 62
    assert (await send(house, STRANGER, b"a: b\r\n\r\n" + b"x\r\n" * INLINE_MAX_BYTES, "alice@example.test"))[
        :3
    ] == "452"
    assert os.listdir(house.config.paths.spool) == []


async def test_a_refused_large_mail_leaves_no_file(house: House) -> None:
    large = b"Received: x\r\n" * 60 + b"\r\n" + b"x" * 60 * 5000
    assert await send(house, STRANGER, large, "alice@example.test") == "554 5.4.6"
    host = house.with_limits(message_size_bytes=200_000)
    talk = house.talk(host=host)
    await say(talk, "EHLO x", "MAIL FROM:<x@far.test>", "RCPT TO:<alice@example.test>", "DATA")
    assert codes(await talk.feed(b"\r\n" + b"x\r\n" * 100_000 + b".\r\n")) == ["552 5.3.4"]
    assert os.listdir(house.config.paths.spool) == []


@pytest.mark.parametrize("fails", ["create", "write", "finish"])
@pytest.mark.parametrize(("number", "reply"), [(28, "452 4.3.1"), (122, "452 4.3.1"), (5, "451 4.3.0")])
async def test_storage_trouble_is_temporary_and_the_mail_is_drained(
    house: House, monkeypatch: pytest.MonkeyPatch, fails: str, number: int, reply: str
) -> None:
    class Broken(spool_module.BodyWriter):
        def __init__(self, *args: Any) -> None:
            if fails == "create":
                raise OSError(number, "no")
            super().__init__(*args)

        def write(self, chunk: bytes) -> None:
            if fails == "write":
                raise OSError(number, "no")
            super().write(chunk)

        def finish(self) -> str:
            self.discard()
            raise OSError(number, "no")

    monkeypatch.setattr(spool_module, "BodyWriter", Broken)
    talk = house.talk()
    await say(talk, "EHLO x", "MAIL FROM:<x@far.test>", "RCPT TO:<alice@example.test>", "DATA")
    stream = b"\r\n" + b"x" * 300_000 + b"\r\n.\r\nNOOP\r\n"
    said = b"".join([await talk.feed(stream[at : at + 50_000]) for at in range(0, len(stream), 50_000)])
    assert codes(said) == [reply, "250 2.0.0"]
    assert await house.rows() == []
    assert os.listdir(house.config.paths.spool) == []


async def test_a_header_without_end_is_refused_with_flat_memory(house: House) -> None:
    spool = house.acceptor.spool(STRANGER, "")
    for _ in range(100):
        spool.write(b"X: y\r\n" * 2000)
        assert sum(map(len, spool._chunks)) <= house.config.limits.header_size_bytes + 12_000
    assert spool.refused is not None
    assert spool.refused.status == "5.3.4"


async def test_two_acceptances_never_share_a_file(house: House) -> None:
    spools: list[Spool] = [house.acceptor.spool(STRANGER, "") for _ in range(2)]
    for spool in spools:
        spool.write(b"\r\n" + b"x" * (INLINE_MAX_BYTES + 1))
    received = [await spool.finish() for spool in spools]
    assert len({one.id for one in received}) == 2


# DKIM


@pytest.fixture
async def signing(house: House) -> House:
    house.keys.generate("example.test", "s1", "both", 0)
    assert house.keys.load() == []
    return house


def signed_by(house: House, stored: bytes) -> list[str]:
    """The algorithms of the signatures; that of RSA verifies (dkimpy has no Ed25519 without another library)."""
    records = {f"{key.name}.".encode(): key.record.encode() for key in house.keys.list()}
    found = [tag.decode() for tag in re.findall(rb"DKIM-Signature: v=1; a=(\S+);", stored)]
    if found:
        assert dkim.DKIM(stored).verify(0, dnsfunc=lambda name, **_: records[name])
    return found


AUTHOR = b"From: Alice <alice@example.test>\r\nSubject: signed\r\n\r\n"


@pytest.mark.parametrize(
    ("peer", "content", "signatures"),
    [
        (LOCAL, AUTHOR + b"x  y \r\n\r\n\r\n", 2),
        (LOCAL, AUTHOR + b"x" * 200_000 + b"\r\n\r\n", 2),
        (Peer("smtp", ip="10.1.1.1"), AUTHOR + b"x", 2),
        (Peer("submission", tls="x", helo="x", user="alice@example.test"), AUTHOR + b"x", 2),
        (STRANGER, AUTHOR + b"x", 0),
        (LOCAL, b"From: a@far.test\r\n\r\nx", 0),
        (LOCAL, b"From: a@other.test\r\n\r\nx", 0),
        (Peer("smtp", ip="10.1.1.1"), b"From: nonsense\r\n\r\nx", 0),
        (LOCAL, b"From: root (Cron Daemon)\r\n\r\nx", 2),
        (LOCAL, b"Subject: the sender is the author\r\n\r\nx", 2),
    ],
)
async def test_own_mail_is_signed_by_every_key(signing: House, peer: Peer, content: bytes, signatures: int) -> None:
    assert await send(signing, peer, content, "alice@example.test", sender="alice@example.test") == "250 2.0.0"
    _, stored = await signing.only()
    assert signed_by(signing, stored) == ["rsa-sha256", "ed25519-sha256"][:signatures]
    assert PASSWORD.encode() not in stored
