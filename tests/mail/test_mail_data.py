import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.mail.data import (
    BARE_NEWLINE,
    LONG_LINE,
    NUL_OCTET,
    TOO_BIG,
    ChunkDecoder,
    DataDecoder,
    DotStuffer,
    dot_stuff,
    end_of_data,
    is_text,
)
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


LINES = st.lists(st.sampled_from([b"\r\n", b"x", b"xyz", b".", b"x" * 9]), max_size=30).map(b"".join)


@given(LINES, st.lists(st.integers(0, 300), max_size=8), st.integers(1, 20))
@example(b"x" * 10, [10], 10)
@example(b"x" * 10 + b"\r\n" + b"x" * 11, [11], 10)
def test_the_longest_line_counts_however_it_is_cut(text: bytes, at: list[int], line_max: int) -> None:
    whole = text + b"\r\n"
    long = max(map(len, whole.split(b"\r\n"))) > line_max
    decoder = DataDecoder(0, line_max)
    for chunk in cut(dot_stuff(whole) + b".\r\n", at):
        if not decoder.done:  # a cut at the very end leaves an empty chunk
            decoder.feed(chunk)
    assert (decoder.done, decoder.rest) == (True, b"")
    assert decoder.refused == (LONG_LINE if long else None)


BINARY = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b"x", b".", b"line"]), max_size=20).map(b"".join)


@given(BINARY, st.lists(st.integers(0, 200), max_size=5), st.lists(st.integers(0, 200), max_size=9), st.integers(0, 40))
@example(b"\r\n", [1], [], 0)
@example(b"x\r", [2], [], 0)
def test_chunks(content: bytes, edges: list[int], at: list[int], size_max: int) -> None:
    """Announced chunks, whose octets come cut otherwise: text as DATA would have it, binary as it is."""
    for binary in (False, True):
        decoder = ChunkDecoder(size_max, binary=binary)
        taken = b""
        chunks = cut(content, edges)
        for n, chunk in enumerate(chunks):
            decoder.expect(len(chunk), last=n == len(chunks) - 1)
            pieces = cut(chunk + b"REST", at)
            for piece in pieces[:-1] if len(pieces) > 1 else [*pieces, b""]:
                taken += decoder.feed(piece) if not decoder.done or not chunk else b""
            if decoder._left:
                taken += decoder.feed(pieces[-1])
            if decoder.refused:
                break
        bare = content.replace(b"\r\n", b"")
        expected = TOO_BIG if 0 < size_max < len(content) else None
        if not binary and (b"\r" in bare or b"\n" in bare):
            assert decoder.refused in (BARE_NEWLINE, NUL_OCTET, TOO_BIG)  # whichever an earlier chunk had
        elif not binary and b"\0" in bare:
            assert decoder.refused in (NUL_OCTET, TOO_BIG)
        else:
            assert decoder.refused == expected
            assert expected or taken == content


def test_what_follows_a_chunk_is_left_alone() -> None:
    decoder = ChunkDecoder()
    decoder.expect(3, last=False)
    assert (decoder.feed(b"ab"), decoder.done) == (b"ab", False)
    assert (decoder.feed(b"cBDAT 0 LAST"), decoder.rest, decoder.done) == (b"c", b"BDAT 0 LAST", True)


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([], True),
        ([b"a\r", b"\nb"], True),
        ([b"x" * 998, b"\r\n"], True),
        ([b"x" * 500, b"x" * 498], True),
        ([b"x" * 500, b"x" * 499], False),
        ([b"x" * 999, b"\r\n"], False),
        ([b"a\r"], False),
        ([b"a", b"\n"], False),
        ([b"\0"], False),
        ([b"a\nb", b"c\r\n"], False),
    ],
)
def test_is_text(chunks: list[bytes], text: bool) -> None:
    assert is_text(chunks) == text


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"a\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n", b"a\r\nb\r\n"),
        (b"a\n\nb\r\r\n", b"a\r\n\r\nb\r\n\r\n"),
        (b"a\n.\nb\r\n", b"a\r\n.\r\nb\r\n"),  # no end, and no stuffed dot
        (b"a\n..b\r\n", b"a\r\n..b\r\n"),
        (b"a\r.\r\n..b\r\n", b"a\r\n.\r\n.b\r\n"),
        (b"..\n\r\n", b".\r\n\r\n"),
        (b"\na\r\n", b"\r\na\r\n"),
        (b"a\r\n", b"a\r\n"),
    ],
)
def test_bare_newlines_are_made_crlf_where_that_is_asked_for(sent: bytes, stored: bytes) -> None:
    octets = sent + b".\r\nNOOP\r\n"
    for size in range(1, len(octets) + 1):
        decoder = DataDecoder(normalize=True)
        body, rest = b"", b""
        for at in range(0, len(octets), size):
            if decoder.done:
                rest += octets[at : at + size]
            else:
                body += decoder.feed(octets[at : at + size])
                rest += decoder.rest
        assert (body, rest, decoder.refused) == (stored, b"NOOP\r\n", None)


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n"]), max_size=20).map(b"".join), st.integers(1, 9))
def test_what_is_normalized_has_no_bare_newline_in_any_chunking(content: bytes, size: int) -> None:
    octets = content.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n"
    octets = b"." + octets if octets.startswith(b".") else octets

    def decoded(size: int) -> bytes:
        decoder = DataDecoder(normalize=True)
        body = b"".join(decoder.feed(octets[at : at + size]) for at in range(0, len(octets), size))
        assert decoder.done
        assert decoder.refused is None
        return body

    whole = decoded(len(octets))
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", whole) is None
    assert decoded(size) == whole
    assert whole == re.sub(rb"\r\n|\r|\n", b"\r\n", content + b"\r\n")


@given(
    st.lists(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n"]), max_size=8).map(b"".join), min_size=1),
    st.integers(1, 9),
)
def test_chunks_are_normalized_as_data_is(chunks: list[bytes], size: int) -> None:
    decoder = ChunkDecoder(normalize=True)
    body = b""
    for n, chunk in enumerate(chunks, 1):
        decoder.expect(len(chunk), last=n == len(chunks))
        for at in range(0, max(len(chunk), 1), size):
            body += decoder.feed(chunk[at : at + size])
    assert decoder.refused is None
    assert body == re.sub(rb"\r\n|\r|\n", b"\r\n", b"".join(chunks))


def test_a_nul_is_refused_all_the_same() -> None:
    decoder = DataDecoder(normalize=True)
    assert decoder.feed(b"a\0b\r\n.\r\n") == b""
    assert decoder.refused is NUL_OCTET
