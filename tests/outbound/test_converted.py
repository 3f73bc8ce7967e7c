"""8-bit mail towards a host that takes none: converted, and its signature still good."""

import time
from dataclasses import replace

import pytest
from smtp_peer import Peer, serving
from test_scheduler import house, running, to

from mtad.dkim.canonical import BodyHash
from mtad.dkim.keys import Keys, record
from mtad.dkim.sign import sign_all
from mtad.mail import headers
from mtad.mail.envelope import Content, Message, NewMessage, Recipient, State
from mtad.mail.envelope import Peer as From
from mtad.mail.sevenbit import Impossible
from mtad.outbound.converted import BODY_MAX_BYTES, Converter

HEAD = (
    b"From: a@own.test\r\nTo: b@far.test\r\nSubject: hi\r\nDate: Wed, 25 Nov 2026 01:00:00 +0000\r\n"
    b"Message-ID: <1@own.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
)
OURS = "own.test/s1 own.test/s2"
BODY = "Gr\u00fc\u00dfe\r\n".encode()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = Keys(str(tmp_path_factory.mktemp("dkim")))
    made.generate("own.test", "s1", "ed25519")
    made.generate("own.test", "s2", "rsa", at_once=True)
    made.load()
    return made


def signed(keys, head=HEAD, body=BODY) -> Content:
    body_hash = BodyHash()
    body_hash.update(body)
    return Content(sign_all(keys.keys("own.test"), head, body_hash.digest(), int(time.time())) + head, body)


def verified(keys, octets: bytes) -> int:
    """How many of its signatures dkimpy finds good."""
    import dkim

    zone = {f"{key.selector}._domainkey.own.test.".encode(): record(key).encode() for key in keys.keys("own.test")}
    count = len(headers.values(headers.split(octets)[0], b"dkim-signature"))
    return sum(
        dkim.DKIM(octets).verify(idx=index, dnsfunc=lambda name, timeout=5: zone[name]) for index in range(count)
    )


def test_the_signatures_are_made_anew(keys):
    before = signed(keys)
    assert verified(keys, before.head + before.body) == 2
    after = Converter(keys, time.time)(before, OURS)
    assert (after.head + after.body).isascii()
    assert verified(keys, after.head + after.body) == 2
    assert headers.count(after.head, b"dkim-signature") == 2


def test_a_key_that_is_gone_is_followed_by_those_that_sign_now(keys):
    before = signed(keys)
    after = Converter(keys, time.time)(
        Content(before.head.replace(b"s=s1;", b"s=s0;"), BODY), "own.test/s0 own.test/s2"
    )
    assert verified(keys, after.head + after.body) == 2


def test_without_a_signature_there_is_none_after(keys):
    after = Converter(keys, time.time)(Content(HEAD, BODY))
    assert not headers.has(after.head, b"dkim-signature")
    assert after.body == b"Gr=C3=BC=C3=9Fe\r\n"


@pytest.mark.parametrize(
    "field",
    [
        b"DKIM-Signature: v=1; a=rsa-sha256; d=far.test; s=s1; h=from; bh=x; b=y\r\n",
        b"DKIM-Signature: nonsense\r\n",
        b"ARC-Seal: i=1; d=far.test\r\n",
    ],
)
def test_what_another_house_signed_is_not_changed(keys, field):
    for of in (keys, None):
        with pytest.raises(Impossible):
            Converter(of, time.time)(Content(field + HEAD, BODY), OURS)


EIGHT = "Subject: Gr\u00fc\u00dfe\r\n".encode() + HEAD.replace(b"Subject: hi\r\n", b"")


def test_where_only_header_fields_hold_8_bit_text_all_signatures_stay(keys, tmp_path):
    """There is nothing to convert, so nothing is signed anew: ours and others' verify as they did."""
    before = signed(keys, EIGHT, b"Hi\r\n")
    assert Converter(keys, time.time)(before, OURS) == before
    foreign = Content(b"DKIM-Signature: v=1; d=far.test; s=x; b=y\r\n" + EIGHT, b"Hi\r\n")
    assert Converter(keys, time.time)(foreign) == foreign
    (tmp_path / "body").write_bytes(b"Hi\r\n")
    filed = Converter(keys, time.time)(replace(foreign, body=str(tmp_path / "body")))
    assert filed == foreign  # its octets: the host is told their number


def test_8_bit_header_fields_are_not_signed_anew(keys):
    """A host that is not clean for 8 bits would break that signature at once."""
    for head, body in ((EIGHT, BODY), (MULTI, PART)):
        with pytest.raises(Impossible, match="header fields"):
            Converter(keys, time.time)(signed(keys, head, body), OURS)
        after = Converter(keys, time.time)(Content(head, body))
        assert b"Gr=C3=BC=C3=9Fe" in after.body


MULTI = HEAD.replace(b"text/plain; charset=utf-8", b'multipart/mixed; boundary="b"')
PART = b"--b\r\n" + "Content-Description: \u00e4\r\n\r\n".encode() + BODY + b"\r\n--b--\r\n"


def test_a_large_body_comes_from_its_file_up_to_a_limit(keys, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(BODY * 20_000)
    after = Converter(keys, time.time)(Content(HEAD, str(body)))
    assert after.body == b"Gr=C3=BC=C3=9Fe\r\n" * 20_000
    with body.open("wb") as file:
        file.truncate(BODY_MAX_BYTES + 1)
    with pytest.raises(Impossible):
        Converter(keys, time.time)(Content(HEAD, str(body)))


async def put(made, content: Content, signed: str = "", *, smtputf8: bool = False) -> str:
    name, now = made.ids.new(), made.clock()
    size = len(content.head) + len(content.body)
    message = Message(
        name,
        "a@own.test",
        size,
        now,
        now + 86400,
        From("submission"),
        body="8BITMIME",
        smtputf8=smtputf8,
        signed=signed,
    )
    recipient = Recipient(name, 1, "b@far.test", "b@far.test", "far.test", next_at=now)
    await made.store.accept(NewMessage(message, (recipient,), content.head, content.body))
    return name


@pytest.mark.parametrize("offers", [("PIPELINING", "SIZE"), ("PIPELINING", "SIZE", "8BITMIME")])
async def test_on_the_wire(tmp_path, keys, offers):
    content = signed(keys)
    async with serving(Peer(offers=offers)) as peer, house(tmp_path, routes=to(peer.port)) as made:
        async with running(made, keys=keys):
            [row] = await made.settled(await put(made, content, OURS))
    assert row.state is State.DONE
    [mail] = peer.mails
    assert verified(keys, mail.octets) == 2
    assert mail.octets.isascii() is ("8BITMIME" not in offers)
    assert ("BODY=8BITMIME" in mail.sender) is ("8BITMIME" in offers)
    assert f"SIZE={len(mail.octets)}" in mail.sender


@pytest.mark.parametrize(("offers", "utf8", "state"), [
    (("SIZE",), False, State.DONE),  # as it came, whatever the host offers
    (("SIZE", "8BITMIME"), False, State.DONE),
    (("SIZE",), True, State.FAILED),  # who asked for SMTPUTF8 gets it or the mail back (RFC 6531 3.6)
    (("SIZE", "8BITMIME"), True, State.FAILED),
    (("SIZE", "8BITMIME", "SMTPUTF8"), True, State.DONE),
])  # fmt: skip
async def test_header_fields_with_8_bit_text(tmp_path, keys, offers, utf8, state):
    content = signed(keys, EIGHT, b"Hi\r\n")
    async with serving(Peer(offers=offers)) as peer, house(tmp_path, routes=to(peer.port)) as made:
        async with running(made, keys=keys):
            [row] = await made.settled(await put(made, content, OURS, smtputf8=utf8))
    assert row.state is state
    if state is State.DONE:
        [mail] = peer.mails
        assert mail.octets == content.head + content.body
        assert verified(keys, mail.octets) == 2
        assert ("SMTPUTF8" in mail.sender) is utf8
    else:
        assert row.last.status == "5.6.7"


async def test_where_it_cannot_be_done_the_sender_learns_why(tmp_path, keys):
    content = Content(b"DKIM-Signature: v=1; d=far.test; s=x; b=y\r\n" + HEAD, BODY)
    async with serving(Peer(offers=("SIZE",))) as peer, house(tmp_path, routes=to(peer.port)) as made:
        async with running(made, keys=keys):
            [row] = await made.settled(await put(made, content))
    assert (row.state, row.last.code, row.last.status) == (State.FAILED, 554, "5.6.3")
    assert "signed by another house" in row.last.text


async def test_what_only_says_that_we_signed_it_is_not_signed(tmp_path, keys):
    """Else whoever gets mail forwarded by us, at a host that takes no 8-bit content, had our signature for anything."""
    forged = b"DKIM-Signature: v=1; a=rsa-sha256; d=own.test; s=s1; h=from; bh=x; b=y\r\n"
    async with serving(Peer(offers=("SIZE",))) as peer, house(tmp_path, routes=to(peer.port)) as made:
        async with running(made, keys=keys):
            [row] = await made.settled(await put(made, Content(forged + HEAD, BODY)))
    assert (row.state, row.last.status) == (State.FAILED, "5.6.3")
    assert all("b@far.test" not in mail.recipients for mail in peer.mails)
