"""Clients as they are: smtplib, swaks and Postfix, on 25, 587 and 465; who may relay and who may not."""

import datetime as dt
import smtplib
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from peer_mtad import Make, Mtad
from peer_postfix import Postfix, missing
from peer_process import program, wait_for

PASSWORD = "correct horse battery staple"
UNTRUSTED = "[access]\ntrusted_networks = []\n"


def certificate(root: Path) -> str:
    """A self-signed one for mail.example.test, below `root`; the settings that name it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.test")])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mail.example.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = root / "tls"
    folder.mkdir(parents=True)
    (folder / "fullchain.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").touch(0o600)
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return '[tls]\ncert = "tls/fullchain.pem"\nkey = "tls/privkey.pem"\n'


@pytest.fixture
def host(mtad: Make, short_dir: Path) -> Mtad:
    """With all three listeners, a certificate, and alice and bob; nobody is trusted for the network they are in."""
    settings = certificate(short_dir / "m") + UNTRUSTED
    host = mtad(listeners=("smtp", "submission", "submissions"), extra=settings)
    for name in ("alice", "bob"):
        host.mtactl("user", "add", f"{name}@example.test", text=f"{PASSWORD}\n")
    return host.start()


def trusting(host: Mtad) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(host.root / "tls" / "fullchain.pem"))
    context.check_hostname = False  # smtplib was given an address
    return context


def text(word: str) -> str:
    return f"From: alice@example.test\nTo: bob@example.test\nSubject: {word}\n\n.text\n"


def test_smtplib_on_all_ports(host: Mtad) -> None:
    with smtplib.SMTP("127.0.0.1", host.ports["smtp"]) as client:
        client.sendmail("x@elsewhere.test", ["bob@example.test"], text("25"))
    with smtplib.SMTP("127.0.0.1", host.ports["submission"]) as client:
        client.starttls(context=trusting(host))
        client.login("alice@example.test", PASSWORD)
        client.sendmail("alice@example.test", ["bob@example.test"], text("587"))
    with smtplib.SMTP_SSL("127.0.0.1", host.ports["submissions"], context=trusting(host)) as client:
        client.login("alice", PASSWORD)
        client.sendmail("alice@example.test", ["bob@example.test"], text("465"))
    mails = host.mails("bob", 3)
    for word in (b"25", b"587", b"465"):
        assert sum(b"Subject: " + word in mail for mail in mails) == 1
    assert all(mail.replace(b"\r\n", b"\n").endswith(b"\n\n.text\n") for mail in mails)


def test_who_may_not(host: Mtad) -> None:
    with smtplib.SMTP("127.0.0.1", host.ports["smtp"]) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            client.sendmail("x@elsewhere.test", ["y@elsewhere.test", "nobody@example.test"], text("x"))
        relay, unknown = (refused.value.recipients[name] for name in ("y@elsewhere.test", "nobody@example.test"))
        assert relay[1].startswith(b"5.7.1")
        assert unknown[1].startswith(b"5.1.1")
    with smtplib.SMTP("127.0.0.1", host.ports["submission"]) as client:
        client.ehlo()
        assert not client.has_extn("auth"), "no password may travel in clear text"
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("alice@example.test", ["bob@example.test"], text("x"))
        client.starttls(context=trusting(host))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("alice@example.test", "wrong")
    assert host.rows("queue", "list") == []
    assert PASSWORD not in host.log


@pytest.mark.peer
@pytest.mark.skipif(not program("swaks"), reason="swaks is not installed")
@pytest.mark.parametrize(
    ("port", "words"),
    [
        ("smtp", []),
        ("smtp", ["--pipeline"]),
        ("submission", ["-tls", "-a", "PLAIN", "-au", "alice@example.test", "-ap", PASSWORD]),
        ("submission", ["-tls", "-a", "LOGIN", "-au", "alice@example.test", "-ap", PASSWORD]),
        ("submissions", ["-tlsc", "-a", "PLAIN", "-au", "alice@example.test", "-ap", PASSWORD]),
    ],
)
def test_swaks(host: Mtad, port: str, words: list[str]) -> None:
    done = subprocess.run(
        [
            program("swaks"), "--server", "127.0.0.1", "--port", str(host.ports[port]), "--from", "alice@example.test",
            "--to", "bob@example.test", "--helo", "client.test", "--header", "Subject: swaks", *words,
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "not available" in done.stderr + done.stdout and done.returncode in (10, 11):
        pytest.skip("swaks has no TLS here (libnet-ssleay-perl)")
    assert done.returncode == 0, done.stdout + done.stderr
    (mail,) = host.mails("bob")
    assert b"Subject: swaks" in mail


@pytest.mark.peer
@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_postfix_sends_to_us(mtad: Make, short_dir: Path) -> None:
    """A real server as client: pipelining, one connection for several mails, opportunistic TLS, its own bounces."""
    host = mtad(listeners=("smtp",), extra=certificate(short_dir / "m") + UNTRUSTED)
    host.mtactl("user", "add", "bob@example.test", text=f"{PASSWORD}\n")
    host.start()
    relay = f"[127.0.0.1]:{host.ports['smtp']}"
    postfix = Postfix(short_dir / "postfix", {"relayhost": relay, "smtp_tls_security_level": "may"})
    postfix.start()
    try:
        for n in range(5):
            with smtplib.SMTP("127.0.0.1", postfix.port) as client:
                client.sendmail("a@remote.test", ["bob@example.test"], text(f"number {n}"))
        mails = host.mails("bob", 5)
        assert all(b"with ESMTPS" in mail for mail in mails)
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            client.sendmail("", ["nobody@example.test"], text("bounces"))
        wait_for("Postfix gives up", lambda: "dsn=5.1.1" in postfix.log.read_text())
    finally:
        postfix.stop()
