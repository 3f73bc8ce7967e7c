"""dkimpy's own messages and records, through our verifier."""

from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mtad.dkim.keys import SigningKey, record
from mtad.dkim.sign import BodyHash, sign
from mtad.dkim.verify import Result, verify
from mtad.mail import headers

SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "dkim-dkimpy"
NOW = 1_600_000_000
RFC_8463_A2 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
KEY = SigningKey("example.com", "s", "rsa", 1024, "", rsa.generate_private_key(65537, 1024), b"rsa-sha256")

pytestmark = pytest.mark.skipif(not SUITE.is_dir(), reason="the shared suites are not here")


def mail(name: str) -> bytes:
    return (SUITE / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def text(name: str) -> str:
    return (SUITE / name).read_text().strip()


def test_signatures_of_others() -> None:
    def lookup(name: str) -> list[str]:
        assert name in ("brisbane._domainkey.football.example.com", "test._domainkey.football.example.com")
        return [RFC_8463_A2 if name.startswith("brisbane") else text("test.txt")]

    signed = mail("rfc6376.signed.msg")
    assert [result.result for result in verify(signed, lookup, NOW)] == ["pass", "pass"]
    assert [result.result for result in verify(signed.replace(b"lost", b"won"), lookup, NOW)] == ["fail", "fail"]
    exim = verify(mail("ed25519test2.msg"), lambda name: [text("eximtest.dns")], NOW)
    assert exim == [Result("test.ex", "sed", "pass")]
    # What went through hands that changed it.
    for name in ("message.mbox", "test2.message"):
        assert [result.result for result in verify(mail(name), lambda name: [text("test.txt")], NOW)] == ["fail"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("test.txt", "pass"),
        ("test2.txt", "pass"),  # the same key, without k=
        ("badk.txt", "permerror"),
        ("badversion.txt", "permerror"),
        ("test_tlsrpt.txt", "permerror"),  # s=tlsrpt: not for mail
        ("test_bad.txt", "permerror"),
        ("ed25519test.dns", "permerror"),
    ],
)
def test_records(name: str, wanted: str) -> None:
    results = verify(mail("rfc6376.signed.msg"), lambda _: [text(name)], NOW)
    assert results[1].result == wanted, results


@pytest.mark.parametrize(
    "name", ["ed25519test.msg", "rfc6376.msg", "test.message", "test2.message", "test_extra.message", "message.mbox"]
)
def test_we_sign_them_all(name: str) -> None:
    octets = mail(name)
    head, body = headers.split(octets)
    made = BodyHash()
    made.update(body)
    signed = sign(KEY, head, made.digest(), NOW) + head + body
    assert verify(signed, lambda _: [record(KEY)], NOW)[0].result == "pass"
    assert dkim.verify(signed, dnsfunc=lambda name, timeout=5: record(KEY).encode())
