"""That the peers are what the other tests take them for."""

import base64
import os
import signal
import smtplib
from pathlib import Path

import dkim
import dns.resolver
import peer_dovecot
import peer_knot
import peer_opendkim
import peer_postfix
import peer_process
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

pytestmark = pytest.mark.peer


def needs(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(reason), reason=reason or "-")


@needs(peer_postfix.missing())
def test_postfix_takes_and_delivers(short_dir: Path) -> None:
    postfix = peer_postfix.Postfix(short_dir, {"virtual_mailbox_domains": "remote.test"}).start()
    try:
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            client.sendmail("a@x.test", ["b@remote.test"], "Subject: one\n\ntext")
        (mail,) = postfix.mails()
        assert b"\nSubject: one\n" in mail
        done = postfix.command("sendmail", "-i", "-fa@x.test", "b@remote.test", mail=b"Subject: two\n\n")
        assert (done.returncode, done.stderr) == (0, b"")
        assert any(b"\nSubject: two\n" in mail for mail in postfix.mails(2))
    finally:
        master = postfix.master
        postfix.stop()
    assert not Path(f"/proc/{master}").exists()  # asked by its id: its port may be another test's by now


@needs(peer_postfix.missing())
def test_a_postfix_that_does_not_stop_is_ended(short_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    postfix = peer_postfix.Postfix(short_dir).start()
    try:
        with smtplib.SMTP("127.0.0.1", postfix.port):  # so that there is an smtpd
            group = os.getpgid(postfix.master)
            os.kill(postfix.master, signal.SIGSTOP)
            postfix.stop(0.1)
        assert capsys.readouterr().err == "Postfix did not end within 0.1 s of SIGTERM: it was killed\n"
        peer_process.wait_for("nothing of it is left", lambda: not _in_group(group))
    finally:
        postfix.stop()


def _in_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@needs(peer_knot.missing())
def test_knot_answers(short_dir: Path) -> None:
    zone = "@ 60 MX 10 mx\nmx 60 A 127.0.0.1\nnull 60 MX 0 .\nlong 60 TXT " + peer_knot.txt("v" * 600) + "\n"
    knot = peer_knot.Knot(short_dir, {"remote.test": zone, "other.test": "@ 60 A 127.0.0.2\n"}).start()
    try:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], knot.port
        (mx,) = resolver.resolve("remote.test", "MX")
        assert (mx.preference, mx.exchange.to_text()) == (10, "mx.remote.test.")
        assert [rr.to_text() for rr in resolver.resolve("null.remote.test", "MX")] == ["0 ."]
        assert b"".join(resolver.resolve("long.remote.test", "TXT")[0].strings) == b"v" * 600
        assert [rr.to_text() for rr in resolver.resolve("other.test", "A")] == ["127.0.0.2"]
        with pytest.raises(dns.resolver.NXDOMAIN):
            resolver.resolve("no.remote.test", "A")
    finally:
        knot.stop()


@needs(peer_dovecot.missing())
def test_dovecot_takes_lmtp(short_dir: Path) -> None:
    dovecot = peer_dovecot.Dovecot(short_dir / "dovecot").start()
    try:
        with smtplib.LMTP(str(dovecot.socket)) as client:
            client.ehlo("x.test")
            client.sendmail("a@x.test", ["bob@example.test"], "Subject: one\n\ntext\n")
        (mail,) = dovecot.mails("bob")
        assert b"Subject: one" in mail
    finally:
        dovecot.stop()


@needs(peer_opendkim.missing())
def test_opendkim_judges(short_dir: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
    date = b"Date: Sun, 22 Nov 2026 08:00:00 +0000\r\n"  # without one, OpenDKIM calls the whole mail a syntax error
    mail = b"From: a@example.test\r\nTo: b@x.test\r\n" + date + b"Subject: s\r\n\r\ntext\r\n"
    signed = dkim.sign(mail, b"sel", b"example.test", pem) + mail
    assert peer_opendkim.complaint(short_dir / "good", signed, "sel._domainkey.example.test", record) == ""
    bad = signed.replace(b"\r\ntext", b"\r\ntexts")
    assert peer_opendkim.complaint(short_dir / "bad", bad, "sel._domainkey.example.test", record) != ""
    assert peer_opendkim.complaint(short_dir / "none", signed, "other._domainkey.example.test", record) != ""
