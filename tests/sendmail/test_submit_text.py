"""Line ends, the lone dot, dot-stuffing and the header block: tables, and the same result for any chunking."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtactl.submit.text import Lines, Wire, field_name, head_and_body

TEXT = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\n.\n", b"\x00", b"\xff"]), max_size=24).map(
    b"".join
)


def lines(chunks: list[bytes], *, dots: bool) -> bytes:
    reader = Lines(dots)
    out = [reader.feed(chunk) for chunk in chunks]
    if not reader.done:
        out.append(reader.end())
    return b"".join(out)


@pytest.mark.parametrize(
    ("given_", "dots", "wanted"),
    [
        (b"", True, b""),
        (b"a", True, b"a\n"),
        (b"a\r\nb\r\r\nc\nd\r", False, b"a\nb\nc\nd\n"),
        (b"a\rb\r\n", False, b"a b\n"),
        (b"a\n.\nb\n", True, b"a\n"),
        (b"a\n.\nb\n", False, b"a\n.\nb\n"),
        (b".\n", True, b""),
        (b".", True, b""),
        (b"a\n.", True, b"a\n"),
        (b"a\r\n.\r\nb", True, b"a\n"),
        (b"a\n.\r\r\nb", True, b"a\n"),
        (b"a\n..\n", True, b"a\n..\n"),
        (b"a\n.b\n", True, b"a\n.b\n"),
        (b"a.\nb\n", True, b"a.\nb\n"),
        (b"a\n.\rb\n", True, b"a\n. b\n"),
        (b"a\x00b\n", True, b"a\x00b\n"),
    ],
)
def test_lines(given_: bytes, dots: bool, wanted: bytes) -> None:
    assert lines([given_], dots=dots) == wanted
    assert lines([bytes([octet]) for octet in given_], dots=dots) == wanted


@given(TEXT, st.lists(st.integers(0, 60), max_size=4), st.booleans())
@example(b"\n\r.\n", [2], True)
def test_any_chunking_is_the_same(text: bytes, cuts: list[int], dots: bool) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in pairwise(edges)]
    whole = lines([text], dots=dots)
    assert lines(chunks, dots=dots) == whole
    assert b"\r" not in whole
    assert whole == b"" or whole.endswith(b"\n")


@given(TEXT, st.integers(0, 60))
def test_the_wire_form_never_ends_early(text: bytes, cut: int) -> None:
    plain = lines([text], dots=False)
    wire = Wire()
    sent = wire.feed(plain[:cut]) + wire.feed(plain[cut:])
    assert sent == Wire().feed(plain)
    received = sent.split(b"\r\n")
    assert b"." not in received
    assert b"\n".join(line.removeprefix(b".") for line in received) == plain


def test_many_carriage_returns_are_linear_and_bounded() -> None:
    reader = Lines(dots=True)
    for _ in range(64):
        reader.feed(b"\r" * 65536)
        assert len(reader._held) <= 65536
    assert lines([b"\r" * 65536 + b"\n"], dots=True) == b"\n"


@pytest.mark.parametrize(
    ("text", "names", "body", "ended"),
    [
        (b"A: 1\nB: 2\n\nbody\n", [b"a", b"b"], b"body\n", True),
        (b"A: 1\n folded\n\nbody\n", [b"a"], b"body\n", True),
        (b"From me Mon\n>From you\n>>From x\nA: 1\n\nb\n", [b"a"], b"b\n", True),
        (b"A: 1\nFrom me Mon\n\nb\n", [b"a"], b"From me Mon\n\nb\n", True),
        (b"From me Mon 10:00\nFrom : a\nA: 1\n\nb\n", [b"from", b"a"], b"b\n", True),
        (b"hello\nthere\n", [], b"hello\nthere\n", True),
        (b"\nhello\n", [], b"hello\n", True),
        (b" indented\n", [], b" indented\n", True),
        (b"http://example.test/ is it\n", [], b"http://example.test/ is it\n", True),
        (b"A: 1\nno field\nB: 2\n", [b"a"], b"no field\nB: 2\n", True),
        (b"A : 1\n\n", [b"a"], b"", True),
        (b"A: 1\n", [b"a"], b"", False),
        (b"a b: 1\n", [], b"a b: 1\n", True),
        (b"\xc3\xa4: 1\n", [], b"\xc3\xa4: 1\n", True),
        (b"", [], b"", False),
    ],
)
def test_head_and_body(text: bytes, names: list[bytes], body: bytes, ended: bool) -> None:
    fields, rest, done = head_and_body(text)
    assert ([field_name(field) for field in fields], rest, done) == (names, body, ended)


@given(TEXT.map(lambda text: b"A: 1\n" + text))
def test_nothing_of_a_header_is_lost(text: bytes) -> None:
    plain = lines([text], dots=False)
    fields, body, _ = head_and_body(plain)
    head = b"".join(fields)
    assert plain in (head + body, head + b"\n" + body)
