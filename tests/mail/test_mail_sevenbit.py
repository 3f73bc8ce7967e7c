"""8-bit mail made 7-bit: what a reader sees stays the same."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail import headers
from mtad.mail.sevenbit import DEPTH_MAX, PARTS_MAX, Impossible, convert, quoted_printable

TEXT = "Gr\u00fc\u00dfe aus K\u00f6ln = 100 %\r\n.\r\nFrom here \r\n\ttab\t\r\n\r\n".encode()
TEXT_HEAD = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
TOP = b"From: a@x.test\r\nMIME-Version: 1.0\r\n"


def made(octets: bytes) -> bytes:
    head, body = convert(*headers.split(octets))
    assert (head + body).isascii()
    assert all(len(line) <= 998 for line in (head + body).split(b"\r\n"))
    assert b"\n" not in (head + body).replace(b"\r\n", b"")
    return head + body


def leaves(octets: bytes) -> list[tuple[str, bytes]]:
    """(type, octets) of all that is no container."""
    message = email.message_from_bytes(octets, policy=email.policy.SMTP)
    return [
        (part.get_content_type(), part.get_payload(decode=True)) for part in message.walk() if not part.is_multipart()
    ]


def test_text():
    octets = made(TOP + TEXT_HEAD + TEXT)
    assert b"Content-Transfer-Encoding: quoted-printable\r\n" in octets
    assert b"8bit" not in octets
    assert leaves(octets) == [("text/plain", TEXT)]


def test_nothing_8_bit_is_nothing_to_do():
    head, body = headers.split(TOP + TEXT_HEAD + b"plain \r\n")
    assert convert(head, body) == (head, body)


def test_no_mime_at_all_gets_the_fields_it_needs():
    octets = made(b"From: a@x.test\r\nSubject: x\r\n\r\n" + TEXT)
    assert octets.startswith(
        b"From: a@x.test\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )


def multipart(*parts: bytes, kind: bytes = b"mixed", boundary: bytes = b"b 1", end: bytes = b"--", top=TOP) -> bytes:
    body = b"".join(b"\r\n--" + boundary + b"\r\n" + part for part in parts)
    kind = b"Content-Type: multipart/%b; boundary=%b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" % (
        kind,
        b'"' + boundary + b'"',
    )
    return top + kind + b"preamble" + body + b"\r\n--" + boundary + end + b"\r\nepilogue\r\n"


BINARY = (
    b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n" + bytes(range(128, 256)) * 3
)
PLAIN = b"Content-Type: text/html\r\n\r\n<p>plain</p>"
READY = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"


def test_parts_by_their_kind_and_what_is_around_them():
    before = multipart(TEXT_HEAD + TEXT, BINARY, PLAIN, READY)
    octets = made(before)
    assert leaves(octets) == leaves(before)
    assert PLAIN in octets
    assert READY in octets
    assert octets.count(b"Content-Transfer-Encoding: 7bit\r\n") == 1
    assert octets.count(b"\r\n--b 1") == before.count(b"\r\n--b 1")
    assert b"preamble\r\n--b 1" in octets
    assert octets.endswith(b"epilogue\r\n")


def test_multiparts_in_each_other_and_messages_in_them():
    inner = multipart(TEXT_HEAD + TEXT, boundary=b"inner", top=b"")
    message = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + TOP + TEXT_HEAD + TEXT
    before = multipart(inner, message, boundary=b"outer")
    octets = made(before)
    assert leaves(octets) == leaves(before)
    digest = multipart(b"\r\n" + TOP + TEXT_HEAD + TEXT, kind=b"digest")
    assert leaves(made(digest)) == leaves(digest)


def test_a_multipart_without_its_end():
    before = multipart(TEXT_HEAD + TEXT).rpartition(b"\r\n--b 1--")[0]
    assert leaves(made(before)) == leaves(before)


@pytest.mark.parametrize(
    "octets",
    [
        multipart(TEXT_HEAD + TEXT, PLAIN, kind=b"signed"),
        multipart(TEXT_HEAD + TEXT, PLAIN, kind=b"encrypted"),
        multipart(multipart(TEXT_HEAD + TEXT, kind=b"signed", boundary=b"s", top=b"")),
        TOP + b"Content-Type: multipart/mixed\r\n\r\n" + TEXT,
        TOP + b"Content-Transfer-Encoding: base64\r\n\r\n" + TEXT,
        TOP + b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + TEXT,
        TOP + b"Content-Type: message/partial\r\n\r\n" + TEXT,
        multipart("Content-Description: \u00e4\r\n\r\nx".encode(), kind=b"signed"),
        multipart(PLAIN).replace(b"preamble", "pre\u00e4mble".encode()),
        multipart(PLAIN).replace(b"epilogue", "epil\u00f6gue".encode()),
        multipart(TEXT.replace(b"\r\n\r\n", b"")),
    ],
)
def test_impossible(octets):
    with pytest.raises(Impossible):
        convert(*headers.split(octets))


@pytest.mark.parametrize(
    "octets",
    [
        "Subject: \u00e4\r\n\r\nx".encode(),
        multipart("Content-Description: \u00e4\r\n\r\nx".encode()),
        TOP + "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nTo: \u00e4\r\n\r\nx".encode(),
    ],
)
def test_header_fields_stay_as_they_are(octets):
    """As other servers do: no encoding is agreed for what they mean, and 8BITMIME is not about them."""
    assert b"".join(convert(*headers.split(octets))) == octets


def test_beside_an_8_bit_header_field_the_body_is_converted():
    head, body = convert(*headers.split("Subject: \u00e4\r\n".encode() + TOP + TEXT_HEAD + TEXT))
    assert (head, body) == (
        "Subject: \u00e4\r\n".encode()
        + TOP
        + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
        quoted_printable(TEXT),
    )
    part = "Content-Description: \u00e4\r\n".encode() + TEXT_HEAD + TEXT
    head, body = convert(*headers.split(multipart(part)))
    assert b"Content-Transfer-Encoding: 7bit" not in head
    assert "Content-Description: \u00e4\r\n".encode() in body
    assert quoted_printable(TEXT) in body


def test_a_signed_part_without_8_bit_stays_as_it_is_beside_one_that_changes():
    signed = multipart(PLAIN, kind=b"signed", boundary=b"s", top=b"")
    octets = made(multipart(signed, TEXT_HEAD + TEXT))
    assert signed in octets


def test_bounded():
    nested = TEXT_HEAD + TEXT
    for number in range(DEPTH_MAX + 1):
        nested = multipart(nested, boundary=b"b%d" % number, top=b"")
    with pytest.raises(Impossible):
        convert(*headers.split(TOP + nested))
    with pytest.raises(Impossible):
        convert(*headers.split(multipart(*[TEXT_HEAD + TEXT] * (PARTS_MAX + 1))))


@given(st.lists(st.binary(max_size=300).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")), max_size=6))
def test_quoted_printable_there_and_back(lines):
    import quopri

    octets = b"\r\n".join(lines)
    coded = quoted_printable(octets)
    assert coded.isascii()
    assert all(len(line) <= 76 and line[-1:] not in (b" ", b"\t") for line in coded.split(b"\r\n"))
    assert quopri.decodestring(coded) == octets


@given(st.binary(max_size=400))
def test_garbage_is_converted_or_refused(octets):
    text = octets.replace(b"\r", b"").replace(b"\n", b"\r\n")
    try:
        head, body = convert(*headers.split(b'Content-Type: multipart/mixed; boundary="a"\r\n\r\n--a\r\n' + text))
    except Impossible:
        return
    assert convert(head, body) == (head, body)
    if not any(headers.split(part + b"\r\n\r\n")[0].strip() for part in text.split(b"--a")):
        assert (head + body).isascii()  # nothing of it is in a header field
