"""OpenDKIM's verdict on what we sign. It knows RSA only."""

import re
from pathlib import Path

import peer_opendkim
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mtad.dkim.keys import Keys, record
from mtad.dkim.sign import BodyHash, sign

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(bool(peer_opendkim.missing()), reason=peer_opendkim.missing() or "-"),
]

DATE = b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"  # without one, OpenDKIM calls the whole mail a syntax error
HEADS = {
    "plain": b"From: alice@example.test\r\nTo: bob@example.net\r\nSubject: hi\r\n",
    "folded": b"From: Alice\r\n\t<alice@example.test>\r\nTo: a@b.test,\r\n  c@d.test \r\nSubject:\r\n",
    "odd": b"Subject :  blanks \t here \r\nFrom: \xc3\xa4 <a@example.test>\r\nlist-id: <x>\r\nReferences: <1>\r\n"
    b" <2>\r\nList-Help: <1>\r\nList-Help:  <2>\t\r\n",
}
BODIES = {
    "empty": b"",
    "text": b"hello\r\n",
    "blanks": b" a \t b \r\n\t\r\n\r\nlast  \r\n \r\n\r\n",
    "dots": b".\r\n..\r\n",
}


@pytest.mark.parametrize(
    ("head", "body"), [("plain", "empty"), ("plain", "text"), ("folded", "blanks"), ("odd", "dots"), ("odd", "blanks")]
)
def test_opendkim_verifies(tmp_path: Path, head: str, body: str) -> None:
    keys = Keys(str(tmp_path / "keys"))
    keys.generate("example.test", "s1", "rsa", 1_700_000_000.0)
    keys.load()
    [key] = keys.keys("example.test")
    made = BodyHash()
    made.update(BODIES[body])
    block = HEADS[head] + DATE + b"\r\n"
    mail = sign(key, block, made.digest(), 1_700_000_000) + block + BODIES[body]
    name = "s1._domainkey.example.test"
    assert peer_opendkim.complaint(tmp_path / "peer", mail, name, record(key)) == ""
    if body == "text":
        spoilt = mail.replace(b"hello", b"hallo")
        assert peer_opendkim.complaint(tmp_path / "peer", spoilt, name, record(key)) != ""


NAMES = [
    "To",
    "Cc",
    "Subject",
    "Message-ID",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "List-Id",
    "X-Other",
    "Sender",
]
VALUES = st.lists(
    st.sampled_from(["a", " ", "  ", "\t", "\r\n ", "\r\n\t", "word", "ä", ":", ";", "b=", "<x@y.test>", ","]),
    max_size=12,
).map(lambda parts: re.sub(r"\s+$", "", "".join(parts)) + "x")
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8, unique_by=lambda field: field[0])
LINES = st.lists(st.sampled_from(["x", " ", "\t", "\r\n", "\r\n\r\n", " \t ", ".", "é", "\x0b"]), max_size=25).map(
    "".join
)


def test_opendkim_verifies_whatever_we_sign(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path / "keys"))
    keys.generate("example.test", "s1", "rsa", 1_700_000_000.0)
    keys.load()
    [key] = keys.keys("example.test")
    mails: list[bytes] = []

    @settings(max_examples=60, deadline=None, database=None, phases=[Phase.generate])
    @given(FIELDS, LINES)
    def write(fields: list[tuple[str, str]], text: str) -> None:
        head = b"From: alice@example.test\r\n" + DATE
        head += "".join(f"{name}: {value}\r\n" for name, value in fields).encode() + b"\r\n"
        body = text.encode() + b"\r\n" if text else b""
        made = BodyHash()
        made.update(body)
        mails.append(sign(key, head, made.digest(), 1_700_000_000) + head + body)

    write()
    said = peer_opendkim.complaints(tmp_path / "peer", mails, "s1._domainkey.example.test", record(key))
    assert [(words, mail) for words, mail in zip(said, mails, strict=True) if words] == []
    assert len(mails) >= 40


def test_the_key_matches_its_record(tmp_path: Path) -> None:
    """opendkim-testkey finds our private key and the record that we print to belong together. (libunbound holds
    that nothing is below .test.)"""
    keys = Keys(str(tmp_path / "keys"))
    keys.generate("example.org", "s1", "rsa", 1_700_000_000.0)
    keys.generate("example.org", "s2", "rsa", 1_700_000_000.0, at_once=True)
    keys.load()
    first, second = (key.record for key in keys.list())
    pem = keys.private("example.org", "s1")
    assert peer_opendkim.key_complaint(tmp_path / "right", pem, "s1._domainkey.example.org", first) == ""
    assert "match" in peer_opendkim.key_complaint(tmp_path / "wrong", pem, "s1._domainkey.example.org", second)
