"""OpenDKIM's verdict on what we sign. It knows RSA only."""

from pathlib import Path

import peer_opendkim
import pytest

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
