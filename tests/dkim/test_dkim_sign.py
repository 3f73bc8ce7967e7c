"""Signatures, judged by dkimpy and OpenDKIM."""

import hashlib
import re

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mtad.dkim.keys import SigningKey, record
from mtad.dkim.sign import FIELDS_MAX, LINE_MAX, BodyHash, sign, sign_all
from mtad.dkim.verify import verify

NOW = 1_700_000_000
RSA = rsa.generate_private_key(65537, 1024)  # small: the tests make many signatures
ED = ed25519.Ed25519PrivateKey.generate()
KEYS = {
    "rsa": SigningKey("example.test", "s1", "rsa", 1024, "", RSA, b"rsa-sha256"),
    "ed25519": SigningKey("example.test", "s1-ed", "ed25519", 256, "", ED, b"ed25519-sha256"),
}
HEAD = (
    b"Received: from a by b; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    b"From: Alice <alice@example.test>\r\nTo: bob@example.net,\r\n\tcarol@example.net\r\n"
    b"Subject:  hello   there \t\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@example.test>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nList-Unsubscribe: <mailto:x@example.test>\r\n\r\n"
)


def records(name: bytes, timeout: int = 5) -> bytes:
    by_name = {f"{key.selector}._domainkey.{key.domain}.".encode(): record(key).encode() for key in KEYS.values()}
    return by_name[name]


def body_hash(body: bytes, *cuts: int) -> bytes:
    made = BodyHash()
    at = 0
    for cut in (*sorted(cuts), len(body)):
        made.update(body[at:cut])
        at = cut
    return made.digest()


def verifies(message: bytes, idx: int = 0) -> bool:
    """Our verifier and dkimpy by itself, its own arithmetic included, are of one mind."""
    judged = verify(message, lambda name: [records(f"{name}.".encode()).decode()], NOW)
    assert [result.reason for result in judged if result.result == "permerror"] == []
    right = judged[idx].result == "pass"
    try:
        alone = dkim.DKIM(message).verify(idx, dnsfunc=records)
    except dkim.ValidationError:
        alone = False
    assert alone == right
    return right


@pytest.mark.parametrize(
    "name", [b"List-A;l=0;n", b"List-A;i=ceo@example.test;n", b"List-A;x=1;n", b"List-" + b"a" * 9000]
)
def test_the_name_of_a_field_is_no_tag_of_the_signature(name: bytes) -> None:
    """RFC 5322 2.2 allows ";" and "=" in it, and we sign what a stranger wrote."""
    head = name + b": x\r\n" + HEAD
    signed = sign(KEYS["ed25519"], head, body_hash(b""), NOW)
    tags = [tag.partition(b"=")[0].strip() for tag in signed.partition(b":")[2].split(b";")]
    assert tags == [b"v", b"a", b"c", b"d", b"s", b"t", b"h", b"bh", b"b"]
    assert max(map(len, signed.split(b"\r\n"))) < 998
    assert verifies(signed + head)


# Bodies as they are stored: CRLF only, and ended by it. Blanks of every shape.
PIECES = st.sampled_from(
    [b" ", b"\t", b"\r\n", b"\r\n\r\n", b"x", b"  \t ", b".", b"\xc3\xa9", b"\x0b", b"\x0c", b"\x00"]
)
BODIES = st.lists(PIECES, max_size=30).map(b"".join).map(lambda body: body + b"\r\n" if body else b"")

VALUES = st.lists(
    st.sampled_from(
        [b"a", b" ", b"\t", b"\r\n ", b"\r\n\t", b"word", b"\xc3\xa9", b"\xff", b":", b";", b"b=", b"<x@y>"]
    ),
    max_size=12,
).map(lambda parts: re.sub(rb"(?:\r\n[ \t]+)+$", b"", b"".join(parts)))
NAMES = st.sampled_from(
    [b"From", b"TO", b"cc", b"Subject", b"Date", b"Message-ID", b"Reply-To", b"MIME-Version", b"Content-Type",
     b"Content-Transfer-Encoding", b"In-Reply-To", b"References", b"List-Id", b"list-post", b"X-Other", b"Received"]
)  # fmt: skip
HEADS = st.lists(st.tuples(NAMES, VALUES), max_size=14).map(
    lambda found: b"From: a@example.test\r\n" + b"".join(b"%b:%b\r\n" % field for field in found) + b"\r\n"
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(head=HEADS, body=BODIES, kind=st.sampled_from(["rsa", "ed25519"]))
@example(head=HEAD, body=b"", kind="rsa")
@example(head=HEAD, body=b" \r\n\t\r\n\r\n", kind="rsa")
@example(head=HEAD, body=b"a \r\n \t\r\n\r\n", kind="ed25519")
def test_dkimpy_verifies_whatever_we_sign(head: bytes, body: bytes, kind: str) -> None:
    field = sign(KEYS[kind], head, body_hash(body), NOW)
    assert verifies(field + head + body)


@settings(max_examples=300, deadline=None)
@given(body=st.lists(PIECES | st.sampled_from([b"\r", b"\n"]), max_size=40).map(b"".join), data=st.data())
def test_any_chunking_gives_the_same_body_hash(body: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    assert body_hash(body, *cuts) == body_hash(body)
    assert body_hash(body, *range(len(body))) == body_hash(body)


@settings(max_examples=300, deadline=None)
@given(body=BODIES | st.lists(PIECES, max_size=20).map(b"".join).map(lambda body: body.rstrip(b" \t")))
def test_body_hash_is_that_of_the_relaxed_form(body: bytes) -> None:
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    relaxed = b"".join(line + b"\r\n" for line in lines)
    assert body_hash(body) == hashlib.sha256(relaxed).digest()


@pytest.mark.parametrize(
    ("body", "relaxed"),
    [
        (b"", b""),  # RFC 6376 3.4.4: an empty body stays empty
        (b"\r\n", b""),
        (b" \t\r\n\r\n", b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),  # the example of RFC 6376 3.4.5
        (b"a", b"a\r\n"),
        (b"a \t", b"a\r\n"),
        (b"\r\na\r\n", b"\r\na\r\n"),
        (b"a\r\n" + b"\r\n" * 100_000 + b"b\r\n", b"a\r\n" + b"\r\n" * 100_000 + b"b\r\n"),
        (b"a" + b" " * 1_000_000 + b"b\r\n", b"a b\r\n"),
    ],
)
def test_body_hash_table(body: bytes, relaxed: bytes) -> None:
    wanted = hashlib.sha256(relaxed).digest()
    assert body_hash(body) == wanted
    assert body_hash(body, *range(0, len(body), 4096)) == wanted


def test_a_long_run_of_blanks_in_small_chunks_stays_one_blank() -> None:
    made = BodyHash()
    made.update(b"a")
    for _ in range(100_000):
        made.update(b" \t" * 8)
    made.update(b"b\r\n")
    assert made.digest() == hashlib.sha256(b"a b\r\n").digest()


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_the_field_is_folded_and_oversigns(kind: str) -> None:
    field = sign(KEYS[kind], HEAD, body_hash(b"hi\r\n"), NOW)
    assert field.endswith(b"\r\n")
    assert all(len(line) <= LINE_MAX + 1 for line in field.split(b"\r\n"))
    tags = dict(tag.split(b"=", 1) for tag in re.sub(rb"\s", b"", field.partition(b":")[2]).split(b";"))
    signed = tags[b"h"].lower().split(b":")
    assert {name: signed.count(name) for name in (b"from", b"to", b"subject", b"cc", b"reply-to", b"mime-version")} == {
        b"from": 2, b"to": 2, b"subject": 2, b"cc": 1, b"reply-to": 1, b"mime-version": 1,
    }  # fmt: skip
    assert b"list-unsubscribe" in signed
    assert b"received" not in signed
    assert b"l" not in tags
    assert tags[b"t"] == str(NOW).encode()


@pytest.mark.parametrize(
    "added", [b"Subject: other\r\n", b"From: eve@example.org\r\n", b"Reply-To: eve@example.org\r\n"]
)
def test_an_added_field_breaks_the_signature(added: bytes) -> None:
    field = sign(KEYS["rsa"], HEAD, body_hash(b"hi\r\n"), NOW)
    assert verifies(field + HEAD + b"hi\r\n")
    assert not verifies(field + added + HEAD + b"hi\r\n")


def test_a_changed_body_breaks_the_signature() -> None:
    field = sign(KEYS["ed25519"], HEAD, body_hash(b"hi\r\n"), NOW)
    assert verifies(field + HEAD + b"hi\r\n")
    assert not verifies(field + HEAD + b"ho\r\n")


def test_two_keys_give_two_valid_fields() -> None:
    both = sign_all((KEYS["rsa"], KEYS["ed25519"]), HEAD, body_hash(b"hi\r\n"), NOW)
    message = both + HEAD + b"hi\r\n"
    assert verifies(message, 0)
    assert verifies(message, 1)
    assert sign_all((), HEAD, b"", NOW) == b""


def test_long_names_are_folded_too() -> None:
    domain = ".".join(["d" * 60] * 3) + ".test"
    key = SigningKey(domain, "s" * 60, "ed25519", 256, "", ED, b"ed25519-sha256")
    field = sign(key, HEAD, body_hash(b"hi\r\n"), NOW)
    assert verify(field + HEAD + b"hi\r\n", lambda name: [record(key)], NOW)[0].result == "pass"


@pytest.mark.parametrize(
    "head",
    [
        b"Subject : blank before the colon\r\nFrom: a@example.test\r\n\r\n",
        b"S\xfcbject: 8-bit name\r\nFrom: a@example.test\r\n\r\n",
        b" begins with a fold\r\nFrom: a@example.test\r\n\r\n",
        b"no colon at all\r\n\r\n",
        b"\r\n",
        b"",
        b"From: a@example.test\r\n \r\n\t\r\n\r\n",
        b"Subject: \x00\xff\xfe\r\n\r\n",
    ],
)
def test_odd_headers_are_signed_without_complaint(head: bytes) -> None:
    assert sign(KEYS["ed25519"], head, body_hash(b""), NOW).startswith(b"DKIM-Signature: v=1;")


@given(head=st.binary(max_size=300))
def test_no_octets_make_it_raise(head: bytes) -> None:
    sign(KEYS["ed25519"], head, body_hash(head), NOW)


def test_a_block_with_too_many_fields_is_not_signed() -> None:
    assert sign(KEYS["ed25519"], b"To: a@b.test\r\n" * (FIELDS_MAX - 7) + b"\r\n", b"", NOW) != b""
    assert sign(KEYS["ed25519"], b"To: a@b.test\r\n" * FIELDS_MAX + b"\r\n", b"", NOW) == b""
