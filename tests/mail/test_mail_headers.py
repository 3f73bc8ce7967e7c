from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail.headers import (
    Field,
    count,
    count_received,
    date,
    end_of_head,
    fields,
    first_addresses,
    has,
    malformed,
    message_id,
    remove,
    split,
    subject,
    values,
)

HEAD = (
    b"Received: from a by b;\r\n\tSat, 22 Nov 2026 08:00:00 +0000\r\n"
    b"RECEIVED: from c by d; Sat, 22 Nov 2026 08:00:00 +0000\r\n"
    b"From: Alice <alice@a.example>,\r\n bob@b.example\r\n"
    b"To : c@c.example\r\n"
    b"bcc:\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= and\r\n =?utf-8?b?4pyT?=\r\n"
    b"Message-ID: <1@a.example>\r\n"
    b"X-Long:one\r\n \r\n two  \r\n"
    b"\r\n"
)


def test_fields_are_slices() -> None:
    found = fields(HEAD)
    assert [field.name for field in found] == [
        b"received", b"received", b"from", b"to", b"bcc", b"subject", b"message-id", b"x-long",
    ]  # fmt: skip
    assert b"".join(HEAD[start:end] for _, start, end in found) + b"\r\n" == HEAD
    assert found[2] == Field(b"from", HEAD.index(b"From"), HEAD.index(b"To :"))


def test_values_are_unfolded() -> None:
    assert values(HEAD, b"from") == [b"Alice <alice@a.example>, bob@b.example"]
    assert values(HEAD, b"received")[0] == b"from a by b;\tSat, 22 Nov 2026 08:00:00 +0000"
    assert values(HEAD, b"to") == [b"c@c.example"]
    assert values(HEAD, b"bcc") == [b""]
    assert values(HEAD, b"x-long") == [b"one  two"]
    assert values(HEAD, b"cc") == []


def test_questions() -> None:
    assert has(HEAD, b"bcc")
    assert not has(HEAD, b"cc")
    assert not has(HEAD, b"b")
    assert count(HEAD, b"received") == count_received(HEAD) == 2
    assert message_id(HEAD) == "<1@a.example>"
    assert subject(HEAD) == "Grüße and ✓"
    assert first_addresses(HEAD, b"from") == ["alice@a.example", "bob@b.example"]
    assert first_addresses(HEAD, b"sender") == []
    assert not malformed(HEAD)


def test_remove_takes_whole_fields_and_nothing_else() -> None:
    assert (
        remove(HEAD, frozenset([b"received", b"bcc", b"to"]))
        == HEAD[HEAD.index(b"From") : HEAD.index(b"To :")] + HEAD[HEAD.index(b"Subject") :]
    )
    assert remove(HEAD, frozenset([b"resent-bcc"])) is HEAD
    assert remove(HEAD, frozenset(field.name for field in fields(HEAD))) == b"\r\n"


@pytest.mark.parametrize(
    ("octets", "head", "body"),
    [
        (b"A: b\r\n\r\nbody\r\n\r\nmore", b"A: b\r\n\r\n", b"body\r\n\r\nmore"),
        (b"\r\nbody", b"\r\n", b"body"),
        (b"\r\n\r\nbody", b"\r\n", b"\r\nbody"),
        (b"A: b\r\n\r\n", b"A: b\r\n\r\n", b""),
        (b"A: b\r\n", b"A: b\r\n\r\n", b""),
        (b"A: b", b"A: b\r\n\r\n", b""),
        (b"", b"\r\n", b""),
        (b"just text\r\nmore text\r\n", b"just text\r\nmore text\r\n\r\n", b""),
    ],
)
def test_split(octets: bytes, head: bytes, body: bytes) -> None:
    assert split(octets) == (head, body)
    assert end_of_head(octets) == (len(head) if octets.startswith(head) else -1)


@pytest.mark.parametrize(
    ("junk", "names"),
    [
        (b"From alice@a Sat Nov 22 08:00:00 2026\r\nA: b\r\n\r\n", [b"a"]),
        (b">From alice\r\nA: b\r\n\r\n", [b"a"]),
        (b"A: b\r\nno colon\r\n folded junk\r\nC: d\r\n\r\n", [b"a", b"c"]),
        (b" folded: first\r\nA: b\r\n\r\n", [b"a"]),
        (b": nameless\r\nA: b\r\n\r\n", [b"a"]),
        (b"na me: x\r\nA: b\r\n\r\n", [b"a"]),
        (b"n\xc3\xa4me: x\r\nA: b\r\n\r\n", [b"a"]),
        (b"\0: x\r\nA: b\r\n\r\n", [b"a"]),
        (b"no colon\r\n\r\n", []),
    ],
)
def test_junk_lines_end_nothing(junk: bytes, names: list[bytes]) -> None:
    assert [field.name for field in fields(junk)] == names
    assert malformed(junk)


@pytest.mark.parametrize("tidy", [b"\r\n", b"A:\r\n\r\n", b"A: b\r\n c\r\n\r\n", b"A: b\n\n", b"A: b\r\n"])
def test_tidy_blocks(tidy: bytes) -> None:
    assert not malformed(tidy)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain", "plain"),
        (b"=?", "=?"),
        (b"=?utf-8?b?!!!?=", ""),
        (b"=?no-such-charset?q?x?=", "=?no-such-charset?q?x?="),
        (b"=?utf-8?b?AAAAA?=", "=?utf-8?b?AAAAA?="),
        (b"=?utf-8?q?=0D=0ABcc:_x?=", "\\x0d\\x0aBcc: x"),
        (b"=?utf-8?q?=1B[2J?=", "\\x1b[2J"),
        (b"=?iso-8859-1?q?=E9?=", "é"),
        ("größe".encode(), "größe"),
        (b"\xff\x1b", "\ufffd\\x1b"),
        (b"x" * 300, "x" * 197 + "..."),
    ],
)
def test_subject_is_fit_to_show(raw: bytes, shown: str) -> None:
    assert subject(b"Subject: " + raw + b"\r\n\r\n") == shown


WORDS = st.lists(
    st.sampled_from([b"Subject:", b"Message-ID:", b"From:", b"Received:", b" ", b"\t", b"\r\n", b"\n", b"\r", b":",
                     b"x", b"=?utf-8?", b"?=", b"q?", b"b?", b"\xff", b"\0", b"<", b"(", b'"', b"idna?",
                     b"=?punycode?q?", b"=?idna?b?"])
).map(b"".join)  # fmt: skip


def gaps(taken: list[Field], end: int) -> list[tuple[int, int]]:
    return list(zip([0, *(field.end for field in taken)], [*(field.start for field in taken), end], strict=True))


@given(WORDS | st.binary())
def test_garbage_never_raises_and_nothing_is_lost(octets: bytes) -> None:
    head, body = split(octets)
    assert (head + body).startswith(octets)
    found = fields(head)
    at = 0
    for field in found:
        assert at <= field.start < field.end <= len(head)
        assert head[field.start :].lower().startswith(field.name)
        at = field.end
    assert subject(head).isprintable()
    assert message_id(head).isprintable()
    first_addresses(head, b"from")
    for name in {field.name for field in found}:
        assert count(head, name) == sum(field.name == name for field in found)
        assert remove(head, frozenset([name])) == b"".join(
            head[a:b] for a, b in gaps([field for field in found if field.name == name], len(head))
        )
    assert malformed(head) == (b"".join(head[a:b] for a, b in gaps(found, len(head))) not in (b"\r\n", b"\n", b""))
    assert not has(remove(head, frozenset([b"subject"])), b"subject")


@pytest.mark.parametrize(
    "part", [b"A:\r\n", b"x", b"x ", b" \r\n", b"A:b\r\n ", b":\r\n", b"\r\n", b"Subject: =?", b"\t", b"a\n"]
)
def test_a_megabyte_of_anything_is_read(part: bytes) -> None:
    head = b"Subject:" + part * (1_000_000 // len(part)) + b"\r\n\r\n"
    malformed(head)
    fields(head)
    subject(head)
    values(head, b"subject")
    remove(head, frozenset([b"a"]))


@given(st.integers(0, 2**34))
def test_date_is_what_the_standard_library_writes(at: int) -> None:
    assert date(at + 0.999) == format_datetime(datetime.fromtimestamp(at, UTC))
