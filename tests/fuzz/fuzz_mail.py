"""The parsers of mail and of SMTP."""

from collections.abc import Sequence
from itertools import pairwise

from fuzz_parser import Parser, readable, text

from mtactl.submit import header as submit_header
from mtactl.submit.text import Lines, Wire, head_and_body
from mtad.mail import address, addrlist, classify, dsn, headers, ident, params, sevenbit
from mtad.mail.data import ChunkDecoder, DataDecoder, DotStuffer, dot_stuff, end_of_data
from mtad.mail.dialogue import Dialogue
from mtad.mail.envelope import Envelope, Rcpt
from mtad.mail.extensions import Offers
from mtad.mail.opening import Want
from mtad.mail.replies import Malformed, ReplyReader, peer_reply
from mtad.mail.reply import Refused, Reply
from mtad.mail.sasl import Credentials, Distrusted, Scram
from mtad.mail.text import clean

NOW = 1_800_000_000.0
OFFERS = Offers(size_max_bytes=1 << 20, hold_max_s=3600.0, secure=True, submission=True)
HEAD = (
    b'Received: from a (b [192.0.2.1])\r\n\tby c; Wed, 25 Nov 2026 02:00:00 +0000\r\nFrom: "A, B" <a@b.test>\r\n'
    b"To: x@y.test, Team: u@v.test, (c) w@v.test;\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n hi\r\n"
    b'Message-ID: <1@b.test>\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
)
MULTIPART = HEAD + b"--b\r\nContent-Type: text/plain\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n--b\r\n\r\nx\r\n--b--\r\n"


def _path(octets: bytes) -> object:
    return [address.parse_path(text(octets), utf8=utf8) for utf8 in (True, False)]


def _address(octets: bytes) -> object:
    """Whatever form it has: the canonical one is its own."""
    found = address.parse(text(octets), utf8=True)
    assert address.parse(found, utf8=True) == found
    assert address.same(found, found)
    local, _ = address.split(found)
    return found, address.domain_of(found), address.subaddress(local, "+")


def _domain(octets: bytes) -> object:
    found = address.to_ascii(text(octets))
    assert address.to_ascii(found) == found
    return found


def _mail_params(octets: bytes) -> object:
    return params.mail_params(text(octets), OFFERS, NOW)


def _rcpt_params(octets: bytes) -> object:
    return params.rcpt_params(text(octets), OFFERS)


def _xtext(octets: bytes) -> object:
    decoded = params.xtext_decode(readable(octets))
    assert params.xtext_decode(params.xtext_encode(decoded)) == decoded
    return decoded


def _header(octets: bytes) -> object:
    head, body = headers.split(octets)
    assert (head + body).startswith(octets)
    found = headers.fields(head)
    assert all(a.end <= b.start for a, b in pairwise(found))
    for shown in (headers.message_id(head), headers.subject(head)):
        assert shown.isprintable()
        assert len(shown) <= 200
    names = frozenset(field.name for field in found[:20])
    assert not any(headers.has(headers.remove(head, names), name) for name in [*names][:3])
    return (
        found, headers.malformed(head), headers.count_received(head), headers.values(head, b"to"),
        headers.first_addresses(head, b"from"), headers.longest(head, b"subject"),
    )  # fmt: skip


def _addresses(octets: bytes) -> object:
    return addrlist.addresses(text(octets))


def _submitted(octets: bytes) -> object:
    """The header of sendmail -t."""
    fields, body, ended = head_and_body(octets.replace(b"\r", b""))
    named = [(field.partition(b":")[0].rstrip(b" \t").lower(), field) for field in fields]
    return named, body, ended, submit_header.recipients(named)


def _submitted_lines(chunks: Sequence[bytes]) -> object:
    lines, wire = Lines(dots=True), Wire()
    out = b"".join(wire.feed(lines.feed(chunk)) for chunk in chunks) + wire.feed(lines.end())
    assert b"\r\n.\r\n" not in b"\r\n" + out
    return out, lines.lone_dot


def _data(chunks: Sequence[bytes]) -> object:
    decoder = DataDecoder(size_max=5000, line_max=998)
    out, rest = [], b""
    for chunk in chunks:
        if decoder.done:
            rest += chunk
        else:
            out.append(decoder.feed(chunk))
            rest = decoder.rest
    if decoder.done and decoder.refused is None:
        octets = b"".join(out)
        assert b"\n" not in octets.replace(b"\r\n", b"")
        again = DataDecoder()
        assert again.feed(dot_stuff(octets) + end_of_data(octets)) == octets
        return octets, rest
    return decoder.done, decoder.refused, decoder.size_bytes if decoder.done else 0, rest


def _bdat(chunks: Sequence[bytes]) -> object:
    decoder = ChunkDecoder(size_max=5000, line_max=998, normalize=True)
    decoder.expect(sum(map(len, chunks)), last=True)
    out = b"".join([decoder.feed(chunk) for chunk in chunks])
    return (out if decoder.refused is None else b""), decoder.refused


def _stuffed(chunks: Sequence[bytes]) -> object:
    stuffer = DotStuffer()
    return b"".join([stuffer.feed(chunk) for chunk in chunks]) + stuffer.finish()


def _replies(chunks: Sequence[bytes]) -> object:
    reader = ReplyReader()
    found: list[Reply] = []
    try:
        for chunk in chunks:
            for code, lines in reader.feed(chunk):
                found.append(peer_reply(code, lines, "mx", "rcpt"))
    except Malformed as error:
        return found, str(error)
    for reply in found:
        assert all(line.isprintable() for line in reply.text.split("\n"))
        assert len(reply.text) < 1100
        assert classify.classify(reply) or reply.code < 400
        assert isinstance(classify.hard(reply), bool)
    return found, reader.unfinished


def _dialogue(chunks: Sequence[bytes]) -> object:
    """A hostile server from the greeting on: an outcome for each recipient, and "sent" only after the final dot."""
    talk = Dialogue("me.test", "mx", credentials=Credentials("u", "p", clear=True), tls="may")
    sent = False
    envelope = Envelope("a@x.test", (Rcpt("b@y.test"), Rcpt("c@y.test")))
    begun = False
    for chunk in [*chunks, b""]:
        if chunk:
            talk.feed(chunk)
        while talk.want is not Want.READ:
            match talk.want:
                case Want.STARTTLS:
                    talk.secured()
                case Want.BODY:
                    sent = True
                    talk.sent()
                case Want.IDLE if not begun:
                    begun = True
                    talk.begin(envelope, 100, now=NOW)
                case Want.IDLE:
                    talk.quit()
                case _:
                    break
            talk.take()
        if talk.closed:
            break
    talk.lost(Reply(451, "4.4.2", "lost", stage="lost"))
    outcome = talk.replies or [talk.failure]
    if begun:
        assert all(reply is not None for reply in outcome)
    for reply in outcome:
        assert reply is None or not reply.ok or (sent and reply.stage == "final")
        assert reply is None or all(line.isprintable() for line in reply.text.split("\n"))
    return outcome


def _seven_bit(octets: bytes) -> object:
    head, body = headers.split(octets)
    head, body = sevenbit.convert(head, body)
    assert sevenbit.convert(head, body) == (head, body)  # so what is left of 8-bit text is in header fields
    return head, body


def _scram(octets: bytes) -> object:
    mechanism = Scram(Credentials("u", "p", prepared=b"p", nonce="n"), "n,,", b"", plus=False)
    for challenge in octets.split(b"\n")[:3]:
        mechanism.step(challenge)
    assert not mechanism.complete
    return None


def _report(octets: bytes) -> object:
    """What a stranger wrote comes back in a report that other programs can read."""
    import email
    import email.policy

    words = readable(octets)
    head, body = headers.split(octets.replace(b"\r", b"").replace(b"\n", b"\r\n"))
    failed = dsn.DsnRecipient(
        clean(words, 200), "failed", Reply(550, "5.1.1", clean(words), clean(words), "rcpt"), orcpt=f"rfc822;{words}"
    )
    report = dsn.DsnInput(
        "3kf9x2m7q0w1", "me.test", "a@b.test", "3kf9x2m7q0w0", NOW, NOW, (failed, failed), words, words, "", head, body
    )
    top, rest = dsn.build(report)
    read = email.message_from_bytes(top + rest, policy=email.policy.compat32)
    parts = read.get_payload()
    assert read.get_content_type() == "multipart/report"
    assert isinstance(parts, list)
    assert len(parts) == 3
    assert not read.defects
    assert parts[1].get_content_type() == "message/delivery-status"
    assert max(map(len, (top + rest).split(b"\r\n"))) <= 998
    return len(rest)


def _id(octets: bytes) -> object:
    words = text(octets)
    low, end = ident.prefix_range(words)
    assert low <= end
    assert ident.to_int(ident.from_int(low)) == low
    return low, end


def _clean(octets: bytes) -> object:
    shown = clean(text(octets), 80)
    assert shown.isprintable()
    assert len(shown) <= 80
    return shown


def whole(read):  # type: ignore[no-untyped-def]
    """A parser of chunks, given all at once."""
    return lambda octets: read([octets])


PATHS = (b"<a.b@c.test>", b'<"a b\\"c"@[IPv6:2001:db8::1]> SIZE=1 BODY=8BITMIME', b"<@a.test,@b.test:u@c.test>", b"<>",
         "<jürgen@bücher.test>".encode(), b"<Postmaster>")  # fmt: skip
ADDRESSES = (b"a.b+c@d.test", b'"a\\\\b"@[192.0.2.1]', "ü@ß.test".encode(), b"a@xn--bcher-kva.test")
LISTS = (
    b'"A, B" <a@b.test>, (c) d@e.test, Team: f@g.test, <@h:i@j.test>;, k@[192.0.2.1]',
    b'a@b.test (x (y) "z\\)"), Group:;, =?utf-8?q?a?= <b@c>',
)
PEER = (
    b"220-mx.test\r\n220 hi\r\n250-mx\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 10\r\n235 2.7.0 ok\r\n"
    b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n550-5.1.1 no\r\n550 5.1.1 user\r\n354 go\r\n250 2.0.0 queued\r\n221 bye\r\n",
    b"220 x\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n250 mx\r\n",
    b"220 x\r\n502 no\r\n250 hi\r\n421 4.3.2 down\r\n",
)
DATA = (b"Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n", b"a\r\n.b\r\n\r\n.\r\n", b"x\n.\r\n.\r\n", b"\r.\r\r\n.\r\n")

PARSERS = (
    Parser("path", _path, (address.AddressError,), PATHS, ((b"<", b">"), (b'<"', b'"@c.test>'), (b"<a@", b">"))),
    Parser("address", _address, (address.AddressError,), ADDRESSES, ((b"", b"@c.test"), (b"a@", b""), (b'"', b'"@c'))),
    Parser("domain", _domain, (address.AddressError,), (b"a.b.test", "bücher.test".encode(), b"[192.0.2.1]")),
    Parser(
        "mail-params",
        _mail_params,
        (Refused,),
        (
            b"SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb",
            b"AUTH=<> MT-PRIORITY=-3 REQUIRETLS BY=120;RT",
            b"HOLDUNTIL=2027-01-15T08:00:30Z",
        ),
        ((b"", b""), (b"ENVID=", b""), (b"SIZE=", b"")),
    ),
    Parser(
        "rcpt-params",
        _rcpt_params,
        (Refused,),
        (b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@c.test",),
        ((b"NOTIFY=", b""), (b"ORCPT=rfc822;", b"")),
    ),
    Parser("xtext", _xtext, (ValueError,), (b"a+2Bb+C3+BC", b"+")),
    Parser(
        "header",
        _header,
        (),
        (HEAD, MULTIPART),
        ((b"", b"\r\n\r\n"), (b"Subject: ", b"\r\n\r\n"), (b"From: ", b"\r\n\r\n"), (b"Received:", b"\r\n\r\nbody")),
    ),
    Parser("address-list", _addresses, (), LISTS, ((b"", b""), (b"a (", b""), (b'"', b""), (b"<", b">"))),
    Parser(
        "submit-header",
        _submitted,
        (),
        (b"From x\nTo: a@b.test\n c@d.test\nBcc: e@f.test\nSubject: x\n\nhi\n",),
        ((b"", b"\n\n"), (b"To: ", b"\n\n")),
    ),
    Parser(
        "submit-lines",
        whole(_submitted_lines),
        (),
        (b"a\r\n.\r\nb", b".a\n..\n.\n", b"\r\r\n"),
        pieces=_submitted_lines,
    ),
    Parser("data", whole(_data), (), DATA, ((b"", b"\r\n.\r\n"),), pieces=_data),
    Parser("bdat", whole(_bdat), (), DATA, pieces=_bdat),
    Parser("stuffing", whole(_stuffed), (), DATA, pieces=_stuffed),
    Parser(
        "replies",
        whole(_replies),
        (),
        PEER,
        ((b"250-", b"\r\n"), (b"", b""), (b"550-5.1.1 ", b"\r\n550 x\r\n")),
        pieces=_replies,
    ),
    Parser(
        "dialogue",
        whole(_dialogue),
        (),
        PEER,
        ((b"", b""), (b"220 x\r\n250-", b"\r\n250 AUTH PLAIN\r\n")),
    ),
    Parser(
        "seven-bit",
        _seven_bit,
        (sevenbit.Impossible,),
        (MULTIPART,),
        (
            (HEAD, b"\xe9"),
            (b'Content-Type: multipart/mixed; boundary="', b'"\r\n\r\n\xe9'),
            (b"Content-Type: text/plain\r\n\r\n\xe9", b""),
        ),
    ),
    Parser("sasl-client", _scram, (Distrusted,), (b"r=nX,s=AAAA,i=4096\nv=AAAA", b"e=other")),
    Parser("report", _report, (), (MULTIPART, b"<1@b.test>")),
    Parser("queue-id", _id, (ValueError,), (b"3kf9x2m7q0w1", b"3KF9")),
    Parser("clean", _clean, (), (b"a\x1b[31mb", "\u202ex".encode())),
)
