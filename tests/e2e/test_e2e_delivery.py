"""One mail from `sendmail -t` to where it belongs: a Maildir, an LMTP server, an MX found in the DNS; and back."""

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import dkim
import peer_opendkim
import pytest
from peer_dovecot import Dovecot
from peer_knot import Knot, txt
from peer_mtad import Make, Mtad
from peer_postfix import Postfix
from peer_process import wait_for

MAIL = b"From: Alice <alice@example.test>\nTo: %s\nBcc: %s\nSubject: one\n\ntext\n.\n..\n"


def parsed(octets: bytes) -> EmailMessage:
    return email.message_from_bytes(octets, policy=email.policy.default)


def with_users(host: Mtad, *names: str) -> Mtad:
    for name in names:
        host.mtactl("user", "add", name, text="a long password\n")
    return host


def test_to_a_maildir(mtad: Make) -> None:
    host = with_users(mtad(), "bob@example.test", "carol@example.test").start()
    host.sendmail("-ti", "-falice@example.test", mail=MAIL % (b"bob@example.test", b"carol+tag@example.test"))
    for name in ("bob", "carol"):
        (octets,) = host.mails(name)
        mail = parsed(octets)
        assert mail["Subject"] == "one"
        assert mail["Return-Path"] == "<alice@example.test>"
        assert mail["Bcc"] is None
        assert mail["Date"]
        assert mail["Message-ID"]
        assert octets.replace(b"\r\n", b"\n").endswith(b"\n\ntext\n.\n..\n")
    host.empty()


@pytest.mark.peer
def test_to_lmtp(mtad: Make, dovecot: Dovecot) -> None:
    host = with_users(mtad(deliver=f"lmtp://{dovecot.socket}"), "bob@example.test").start()
    host.sendmail("-ti", "-falice@example.test", mail=MAIL % (b"bob@example.test", b"bob@example.test"))
    (octets,) = dovecot.mails("bob")
    assert octets.replace(b"\r\n", b"\n").endswith(b"\n\ntext\n.\n..\n")
    host.empty()


@pytest.mark.peer
def test_to_an_mx_signed(mtad: Make, postfix: Postfix, knot: Callable[[str], Knot], tmp_path: Path) -> None:
    host = mtad(mx_port=postfix.port)
    host.mtactl("dkim", "generate", "example.test", "--selector", "s1", "--algorithm", "rsa")
    (key,) = host.rows("dkim", "list")
    zone = knot(f"s1._domainkey 60 TXT {txt(key['record'])}\n")
    toml = host.root / "mtad.toml"
    toml.write_text(toml.read_text().replace('"127.0.0.1:9"', f'"127.0.0.1:{zone.port}"'))
    host.start()
    host.sendmail("-ti", "-falice@example.test", mail=MAIL % (b"Bob <bob@remote.test>", b"carol@remote.test"))
    octets = postfix.mails(2)[0]
    host.empty()
    mail = parsed(octets)
    assert mail["Bcc"] is None
    # What the MX put on top is not ours, and was not signed.
    wire = octets[octets.index(b"Received: from mail.example.test") :].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    record = key["record"].encode()
    assert dkim.verify(wire, dnsfunc=lambda name, timeout=5: record if name.startswith(b"s1._domainkey.") else b"")
    assert not dkim.verify(wire.replace(b"text", b"test"), dnsfunc=lambda name, timeout=5: record)
    if reason := peer_opendkim.missing():
        pytest.skip(reason)
    assert peer_opendkim.complaint(tmp_path / "a", wire, "s1._domainkey.example.test", key["record"]) == ""
    changed = wire.replace(b"text", b"test")
    assert peer_opendkim.complaint(tmp_path / "b", changed, "s1._domainkey.example.test", key["record"]) != ""


@pytest.mark.peer
@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        ("x@null.test", "5.1.10"),
        ("x@nothing.remote.test", "5.1.2"),
        ("x@dangling.test", "5.4.4"),
    ],
)
def test_what_the_dns_rules_out_comes_back(mtad: Make, knot: Callable[[], Knot], recipient: str, status: str) -> None:
    host = with_users(mtad(dns_port=knot().port), "alice@example.test").start()
    host.sendmail("-falice@example.test", recipient, mail=b"From: alice@example.test\nSubject: lost\n\ntext\n")
    (octets,) = host.mails("alice")
    report = parsed(octets)
    assert report["Return-Path"] == "<>"
    assert report.get_content_type() == "multipart/report"
    fields = [part for part in report.walk() if part.get_content_type() == "message/delivery-status"]
    text = fields[0].as_string()
    assert f"Status: {status}" in text
    assert recipient in text
    host.empty()


@pytest.mark.peer
def test_a_refusal_of_the_mx_comes_back(mtad: Make, postfix: Postfix, knot: Callable[[], Knot]) -> None:
    """Postfix serves remote.test only: it refuses to relay for another domain that leads to it."""
    host = with_users(mtad(dns_port=knot().port, mx_port=postfix.port), "alice@example.test").start()
    postfix.command("postconf", "-e", "smtpd_recipient_restrictions=reject")
    postfix.command("postfix", "reload")
    host.sendmail("-falice@example.test", "bob@remote.test", mail=b"Subject: refused\n\ntext\n")
    (octets,) = host.mails("alice")
    assert b"mx.remote.test" in octets
    assert b"5.7.1" in octets


def test_a_host_that_is_down_defers(mtad: Make) -> None:
    host = mtad(extra='[[delivery.route]]\nmatch = "*"\nto = "smtp://127.0.0.1:1"\n').start()
    host.sendmail("-falice@example.test", "bob@remote.test", mail=b"Subject: x\n\n")

    def deferred() -> bool:
        rows = host.rows("queue", "list")
        return bool(rows) and rows[0]["queue_name"] == "deferred"

    wait_for("the mail is deferred", deferred)
    (row,) = host.rows("queue", "list")
    assert row["recipients"][0]["status"] == "4.4.1"
