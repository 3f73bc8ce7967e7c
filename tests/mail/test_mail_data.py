from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.mail.data import BARE_NEWLINE, NUL_OCTET, TOO_BIG, DataDecoder, DotStuffer, dot_stuff, end_of_data
from mtad.mail.reply import Reply

Outcome = tuple[bytes, bytes, Reply | None, int]


def reference(stream: bytes, size_max: int) -> Outcome | None:
    """Line by line, as RFC 5321 tells it; None when the stream does not end."""
    lines = []
    while True:
        line, crlf, stream = stream.partition(b"\r\n")
        if not crlf:
            return None
        if line == b".":
            break
        lines.append(line)
    kept = [line[1:] if line.startswith(b".") else line for line in lines]
    size = sum(len(line) + 2 for line in kept)
    if any(b"\r" in line or b"\n" in line for line in lines):
        return b"", stream, BARE_NEWLINE, size
    if any(b"\0" in line for line in lines):
        return b"", stream, NUL_OCTET, size
    if 0 < size_max < size:
        return b"", stream, TOO_BIG, size
    return b"".join(line + b"\r\n" for line in kept), stream, None, size


def decode(chunks: list[bytes], size_max: int = 0) -> Outcome | None:
    decoder = DataDecoder(size_max)
    body = b""
    for n, chunk in enumerate(chunks):
        body += decoder.feed(chunk)
        assert len(decoder._held) <= 4
        if decoder.done:
            rest = decoder.rest + b"".join(chunks[n + 1 :])
            return (b"" if decoder.refused else body), rest, decoder.refused, decoder.size_bytes
        assert decoder.refused is None
    return None


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(stream) + 1) for place in at), len(stream)]
    return [stream[a:b] for a, b in pairwise(places)]


STREAM = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b".", b"..", b"\0", b"x", b"line", b"\r\n.\r\n", b"\r\n..", b"MAIL FROM:<>\r\n"]
    ),
    max_size=24,
).map(b"".join)
TIDY = st.lists(st.sampled_from([b"\r\n", b".", b"x", b"\r\n..", b"line\r\n"]), max_size=24).map(
    lambda parts: b"".join(parts) + b"\r\n.\r\nQUIT\r\n"
)


@given(STREAM | TIDY, st.lists(st.integers(0, 400), max_size=12), st.sampled_from([0, 1, 8, 1000]))
@example(b".\r\n", [1, 2], 0)
@example(b"\r\n.\r\n.\r\n", [2, 3, 4], 0)
@example(b"..\r\n.\r\n", [1], 3)
def test_any_chunking_is_the_reference(stream: bytes, at: list[int], size_max: int) -> None:
    assert decode(cut(stream, at), size_max) == reference(stream, size_max)


@given(STREAM | TIDY)
def test_octet_by_octet_is_the_reference(stream: bytes) -> None:
    assert decode([stream[n : n + 1] for n in range(len(stream))]) == reference(stream, 0)


FAKE_ENDS = [
    b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n. \r\n", b"\r\n\n.\r\n", b"\n\n.\r\n", b"\r\n\x0c.\r\n",
    b"\x0b.\r\n", b"\x0c.\x0c", "\u0085.\u0085".encode(), "\u2028.\u2028".encode(), b"\r\n\r.\r\n", b"\r\n.\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("fake", FAKE_ENDS)
@pytest.mark.parametrize("octet_wise", [False, True])
def test_only_the_true_end_ends(fake: bytes, octet_wise: bool) -> None:
    smuggled = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<bob@y.example>\r\nDATA\r\nevil"
    stream = b"Subject: x\r\n\r\nhello" + fake + smuggled + b"\r\n.\r\nQUIT\r\n"
    chunks = [stream[n : n + 1] for n in range(len(stream))] if octet_wise else [stream]
    outcome = decode(chunks)
    assert outcome is not None
    body, rest, refused, _ = outcome
    assert rest == b"QUIT\r\n"
    bare = fake.count(b"\r") != fake.count(b"\r\n") or fake.count(b"\n") != fake.count(b"\r\n")
    expected = BARE_NEWLINE if bare else NUL_OCTET if b"\0" in fake else None
    assert refused == expected
    assert (smuggled in body) == (expected is None)


def test_a_stray_cr_before_the_true_end_ends_and_is_refused() -> None:
    outcome = decode([b"x\r\r\n.\r\nNOOP\r\n"])
    assert outcome == (b"", b"NOOP\r\n", BARE_NEWLINE, 4)


@pytest.mark.parametrize(
    ("stream", "body"),
    [(b".\r\n", b""), (b"..\r\n.\r\n", b".\r\n"), (b"\r\n.\r\n", b"\r\n"), (b".x\r\n.\r\n", b"x\r\n")],
)
def test_at_the_very_start(stream: bytes, body: bytes) -> None:
    assert decode([stream]) == (body, b"", None, len(body))


def test_too_big_is_said_at_the_end_and_nothing_is_given_out_meanwhile() -> None:
    decoder = DataDecoder(1000)
    given_out = sum(len(decoder.feed(b"x" * 98 + b"\r\n")) for _ in range(100_000))
    assert given_out <= 1000
    assert decoder.refused is None
    assert not decoder.done
    assert decoder.feed(b".\r\nRSET\r\n") == b""
    assert decoder.refused == TOO_BIG
    assert decoder.rest == b"RSET\r\n"
    assert decoder.size_bytes == 100 * 100_000


def test_the_limit_itself_is_allowed() -> None:
    assert decode([b"x" * 98 + b"\r\n.\r\n"], 100) == (b"x" * 98 + b"\r\n", b"", None, 100)
    assert decode([b"x" * 99 + b"\r\n.\r\n"], 100) == (b"", b"", TOO_BIG, 101)


def test_nothing_is_data_after_the_end() -> None:
    decoder = DataDecoder()
    decoder.feed(b".\r\n")
    with pytest.raises(ValueError):
        decoder.feed(b"x")


@given(STREAM, st.lists(st.integers(0, 400), max_size=12))
def test_stuffing_in_chunks_is_stuffing_at_once(octets: bytes, at: list[int]) -> None:
    stuffer = DotStuffer()
    stuffed = b"".join(stuffer.feed(chunk) for chunk in cut(octets, at))
    assert stuffed == dot_stuff(octets)
    assert stuffer.finish() == end_of_data(octets)


@given(st.lists(st.sampled_from([b".", b"x", b"", b"..", b".x"]), max_size=8), st.booleans())
def test_decoding_undoes_stuffing(lines: list[bytes], last_ended: bool) -> None:
    octets = b"\r\n".join(lines) + (b"\r\n" if last_ended else b"")
    whole = octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"
    assert decode([dot_stuff(octets) + end_of_data(octets) + b"QUIT\r\n"]) == (whole, b"QUIT\r\n", None, len(whole))
