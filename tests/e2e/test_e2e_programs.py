"""More clients as they are, each over 25, 587 and 465: msmtp, aiosmtplib, openssl s_client, and Postfix as a user."""

import asyncio
import contextlib
import smtplib
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest
from peer_mtad import Mtad
from peer_postfix import Postfix, missing
from peer_process import program, wait_for
from test_e2e_clients import PASSWORD, UNTRUSTED, certificate, text, trusting

USER = "alice@example.test"
needs = {
    name: pytest.mark.skipif(not program(name), reason=f"{name} is not installed") for name in ("msmtp", "openssl")
}


@pytest.fixture(scope="module")
def host() -> Iterator[Mtad]:
    """One for all of these tests: each finds its mails by their subjects."""
    with tempfile.TemporaryDirectory(prefix="mtad-", dir="/tmp") as root:
        extra = certificate(Path(root)) + UNTRUSTED
        host = Mtad(Path(root), listeners=("smtp", "submission", "submissions"), extra=extra)
        for name in ("alice", "bob"):
            host.mtactl("user", "add", f"{name}@example.test", text=f"{PASSWORD}\n")
        host.start()
        yield host
        host.stop()
        assert "Traceback" not in host.log
        assert PASSWORD not in host.log


def arrived(host: Mtad, *words: str) -> dict[str, bytes]:
    """The mails for bob with these subjects, one of each."""

    def found() -> dict[str, bytes]:
        mails = host.mails("bob", 0) if (host.root / "mail" / "bob" / "new").exists() else []
        return {word: mail for word in words for mail in mails if f"Subject: {word}\n".encode() in mail}

    wait_for(f"mails {words}", lambda: len(found()) == len(words))
    return found()


@pytest.mark.peer
@needs["msmtp"]
def test_msmtp(host: Mtad, tmp_path: Path) -> None:
    """GnuTLS and GNU SASL: nothing of OpenSSL's or Python's. Its choice of mechanism, then each by name."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    common = f"tls_trust_file {host.root}/tls/fullchain.pem\ntls_host_override mail.example.test\nhost 127.0.0.1\n"
    signed = f"auth {{auth}}\nuser {USER}\npasswordeval cat {tmp_path}/password\ntls on\n"
    accounts = {
        "clear": ("smtp", "auth off\ntls off\n"),
        "secure": ("smtp", "auth off\ntls on\ntls_starttls on\n"),
        "user": ("submission", signed.format(auth="on") + "tls_starttls on\n"),
        "plain": ("submission", signed.format(auth="plain") + "tls_starttls on\n"),
        "login": ("submissions", signed.format(auth="login") + "tls_starttls off\n"),
        "scram": ("submissions", signed.format(auth="scram-sha-256") + "tls_starttls off\n"),
    }
    config = tmp_path / "msmtprc"
    config.touch(0o600)
    config.write_text(
        "".join(
            f"account {name}\nport {host.ports[port]}\nfrom {USER}\n{common}{words}\n"
            for name, (port, words) in accounts.items()
        )
    )
    for name in accounts:
        done = subprocess.run(
            [program("msmtp"), "-C", str(config), "-a", name, "bob@example.test"],
            input=text(name).encode(), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stderr.decode()}"
    mails = arrived(host, *accounts)
    assert b"with ESMTP\n" in mails["clear"]
    assert b"with ESMTPS (TLSv1.3 " in mails["secure"]
    assert all(b"with ESMTPSA (TLSv1.3 " in mails[name] for name in ("user", "plain", "login", "scram"))


def test_aiosmtplib(host: Mtad) -> None:
    async def send() -> None:
        for word, port, options in (
            ("25", "smtp", {"start_tls": False}),
            ("25 with TLS", "smtp", {"start_tls": True}),
            ("587", "submission", {"start_tls": True, "username": USER, "password": PASSWORD}),
            ("465", "submissions", {"use_tls": True, "username": USER, "password": PASSWORD}),
        ):
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = USER, "bob@example.test", f"[{word}]"
            message.set_content("text\n.\n")
            context = None if options == {"start_tls": False} else trusting(host)
            errors, said = await aiosmtplib.send(
                message, hostname="127.0.0.1", port=host.ports[port], tls_context=context, **options
            )
            assert not errors
            assert said.endswith("queued")

    asyncio.run(send())
    for mail in arrived(host, "[25]", "[25 with TLS]", "[587]", "[465]").values():
        assert mail.replace(b"\r\n", b"\n").endswith(b"\n\ntext\n.\n")


class Terminal:
    """openssl s_client, typed into."""

    def __init__(self, host: Mtad, port: str, *words: str) -> None:
        command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{host.ports[port]}", "-crlf",
                   "-CAfile", f"{host.root}/tls/fullchain.pem", "-verify_return_error", "-verify_hostname",
                   "mail.example.test", "-servername", "mail.example.test", *words]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )

    def until(self, start: bytes) -> bytes:
        """Read up to a line that begins like this."""
        assert self.process.stdout is not None
        said = b""
        for line in self.process.stdout:
            said += line
            if line.startswith(start):
                return said
        raise AssertionError(said.decode())

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.peer
@needs["openssl"]
def test_openssl_s_client(host: Mtad) -> None:
    """A person at a terminal, on each port."""
    credentials = b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    for word, port, words in (
        ("25", "smtp", ["-starttls", "smtp"]),
        ("587", "submission", ["-starttls", "smtp", "-tls1_2"]),
        ("465", "submissions", ["-tls1_3"]),
    ):
        client = Terminal(host, port, "-quiet", *words)
        try:
            # s_client shows the end of the EHLO that it said itself for STARTTLS.
            client.until(b"220 " if port == "submissions" else b"250 ")
            client.type("EHLO client.test")
            client.until(b"250 ")
            if port != "smtp":
                client.type(f"AUTH PLAIN {credentials}")
                client.until(b"235 ")
            for line, start in (
                (f"MAIL FROM:<{USER}>", b"250 2.1.0"), ("RCPT TO:<bob@example.test>", b"250 2.1.5"), ("DATA", b"354"),
                (f"From: {USER}\nSubject: typed {word}\n\ntyped\n.", b"250 2.0.0"), ("QUIT", b"221"),
            ):  # fmt: skip
                client.type(line)
                client.until(start)
            assert client.process.wait(30) == 0
        finally:
            client.end()
    arrived(host, "typed 25", "typed 587", "typed 465")


@pytest.mark.peer
@needs["openssl"]
@pytest.mark.parametrize(
    "words", [["-tls1"], ["-tls1_1"], ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"]], ids=" ".join
)
def test_openssl_with_what_is_old(host: Mtad, words: list[str]) -> None:
    before = host.log.count("TLS failed")  # whether it listens was asked without TLS
    client = Terminal(host, "submissions", "-cipher", "ALL:@SECLEVEL=0", *words)
    said, _ = client.process.communicate(b"", timeout=30)
    assert client.process.returncode != 0, said.decode()
    assert b"220 " not in said
    assert host.log.count("TLS failed") == before + 1


@pytest.mark.peer
@needs["openssl"]
def test_openssl_may_not_renegotiate(host: Mtad) -> None:
    client = Terminal(host, "submissions", "-tls1_2")
    try:
        client.until(b"220 ")
        client.type("R")
        with contextlib.suppress(BrokenPipeError):
            client.type("NOOP")
        assert client.process.stdout is not None
        rest = client.process.stdout.read()
        assert client.process.wait(30) != 0, rest
    finally:
        client.end()
    with smtplib.SMTP_SSL("127.0.0.1", host.ports["submissions"], context=trusting(host)) as other:
        assert other.noop()[0] == 250


@pytest.mark.peer
@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_postfix_signs_in(host: Mtad, short_dir: Path) -> None:
    """As the relay of a small site does: Cyrus SASL, verified TLS, both submission ports."""
    common = {
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": f"static:{{{USER}:{PASSWORD}}}",
        "smtp_sasl_security_options": "noanonymous",
        "smtp_tls_CAfile": f"{host.root}/tls/fullchain.pem",
        "smtp_tls_security_level": "verify",
        "smtp_tls_verify_cert_match": "mail.example.test",
    }
    for word, port, more in (
        ("587", "submission", {}),
        ("465", "submissions", {"smtp_tls_wrappermode": "yes"}),
    ):
        settings = {"relayhost": f"[127.0.0.1]:{host.ports[port]}", **common, **more}
        postfix = Postfix(short_dir / f"postfix{word}", settings)
        postfix.start()
        try:
            with smtplib.SMTP("127.0.0.1", postfix.port) as client:
                client.sendmail(USER, ["bob@example.test"], text(f"Postfix {word}"))
            try:
                [mail] = arrived(host, f"Postfix {word}").values()
            except AssertionError:
                raise AssertionError(postfix.log.read_text()) from None
        finally:
            postfix.stop()
        assert b"with ESMTPSA" in mail
