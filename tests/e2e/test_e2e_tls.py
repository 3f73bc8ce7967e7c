"""Certificates of the running daemon: by name, renewed in each of the ways there are, broken, and soon over."""

import datetime as dt
import json
import os
import signal
import smtplib
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from peer_mtad import REPOSITORY, Make, Mtad
from peer_process import Process, wait_for

SETTINGS = """\
[access]
trusted_networks = []
[tls]
cert = "tls/a.pem"
key = "tls/a.key"
[[tls.certificate]]
cert = "tls/b.pem"
key = "tls/b.key"
"""


def issue(folder: Path, name: str, *names: str, days: float = 30.0, serial: int = 1) -> None:
    """A new certificate in the place of the old one, written as an ACME client does: each file at once, the time of
    the last change a while ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - dt.timedelta(days=100))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{name}.key", pem)
    write(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM))


def write(path: Path, octets: bytes) -> None:
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_bytes(octets)
    os.utime(new, (1_000_000_000, 1_000_000_000))
    new.rename(path)


def serial(host: Mtad, name: str | None = None) -> int:
    """Of the certificate that a client gets who asks for this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", host.ports["submissions"]), 10) as sock:
        with context.wrap_socket(sock, server_hostname=name) as secure:
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number


@pytest.fixture
def host(mtad: Make, short_dir: Path) -> Mtad:
    """Looks at its certificates all the time, and not once a minute."""
    folder = short_dir / "m" / "tls"
    issue(folder, "a", "mail.example.test", serial=1)
    issue(folder, "b", "mail.other.test", "*.wild.test", serial=2)
    return mtad(listeners=("smtp", "submission", "submissions"), extra=SETTINGS)


@pytest.fixture
def hasty(host: Mtad) -> Iterator[Mtad]:
    """The same, looking at its files all the time and not once a minute."""
    code = (
        "import sys; from mtad import app, command; app.CERTIFICATES_INTERVAL_S = 0.05;"
        " sys.exit(command.main(sys.argv[1:]))"
    )
    process = Process([sys.executable, "-c", code, "--root", str(host.root), "run"], host.root / "log.1",
                      env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)})  # fmt: skip
    process.ready("mtad listens", lambda: host.mtactl("status", check=False).returncode == 0)
    yield host
    process.stop()


def test_names_and_mtactl(host: Mtad) -> None:
    host.start()
    for name, wanted in (
        ("mail.example.test", 1), ("mail.other.test", 2), ("x.wild.test", 2), ("x.y.wild.test", 1), (None, 1),
        ("unknown.test", 1),
    ):  # fmt: skip
        assert serial(host, name) == wanted
    rows = host.rows("tls", "show")
    assert [row["names"] for row in rows] == [["mail.example.test"], ["mail.other.test", "*.wild.test"]]
    assert "mail.other.test *.wild.test" in host.mtactl("tls", "show").stdout
    with smtplib.SMTP("127.0.0.1", host.ports["smtp"]) as before:
        issue(host.root / "tls", "b", "mail.other.test", "new.test", serial=22)
        assert "new.test" in host.mtactl("tls", "reload").stdout
        assert (serial(host, "new.test"), serial(host, "x.wild.test"), serial(host)) == (22, 1, 1)
        assert before.noop()[0] == 250
    assert "tls: certificate=" in host.log
    assert "operation=tls.reload" in host.log


def test_a_broken_one_leaves_the_old_in_use(host: Mtad) -> None:
    host.start()
    for broken in (b"", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
        write(host.root / "tls" / "b.pem", broken)
        done = host.mtactl("tls", "reload", check=False)
        assert done.returncode == 78
        assert "b.pem" in done.stderr
        assert "stay in use" in done.stderr
        assert serial(host, "mail.other.test") == 2
        [row] = host.rows("status")
        assert any("b.pem" in problem for problem in row["problems"])
    issue(host.root / "tls", "b", "mail.other.test", serial=23)
    host.mtactl("tls", "reload")
    assert serial(host, "mail.other.test") == 23
    [row] = host.rows("status")
    assert not [problem for problem in row["problems"] if "b.pem" in problem]
    assert sum("certificates refused" in line for line in host.log.splitlines()) == 2


def test_on_a_signal(host: Mtad) -> None:
    host.start()
    issue(host.root / "tls", "a", "mail.example.test", serial=11)
    assert host._process is not None
    os.kill(host._process.pid, signal.SIGHUP)
    wait_for("the new certificate", lambda: serial(host) == 11)
    write(host.root / "tls" / "a.key", b"no key")
    os.kill(host._process.pid, signal.SIGHUP)
    wait_for("it is told", lambda: "configuration refused" in host.log)
    assert serial(host) == 11


def test_when_a_file_changes(hasty: Mtad) -> None:
    host = hasty
    issue(host.root / "tls", "a", "mail.example.test", serial=12)
    wait_for("the new certificate", lambda: serial(host) == 12)
    write(host.root / "tls" / "a.key", b"no key")
    wait_for("it is told", lambda: "certificates refused" in host.log)
    assert serial(host) == 12
    issue(host.root / "tls", "a", "mail.example.test", serial=13)
    wait_for("the next one", lambda: serial(host) == 13)
    assert sum("certificates refused" in line for line in host.log.splitlines()) == 1, "once for each change"


def test_the_end_is_near(host: Mtad) -> None:
    issue(host.root / "tls", "b", "mail.other.test", days=3.5, serial=2)
    host.start()
    assert "expires in 3.5 days" in host.log
    [row] = host.rows("status")
    assert any("b.pem expires in 3.5 days" in line for line in row["certificates"])
    assert any("b.pem" in problem for problem in row["problems"])


def test_hostile_names_and_no_traceback(host: Mtad) -> None:
    """Octets that are no ASCII end the handshake, with one line; any other name gets the default."""
    host.start()
    before = host.log.count("TLS failed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="aaaaaaaa.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = out.read()
    for name, taken in ((b"\xff\xfe\x80aaaaa.test", False), (b"\x01\x02\n\r aaa.test", True), (b"*.*.*.*..test", True)):
        assert len(name) == 13
        with socket.create_connection(("127.0.0.1", host.ports["submissions"]), 10) as sock:
            sock.sendall(hello.replace(b"aaaaaaaa.test", name))
            first = sock.recv(1)
            assert (first == b"\x16") is taken, name
    wait_for("all are told", lambda: host.log.count("TLS failed") == before + 3)
    assert "Traceback" not in host.log
    assert "Exception ignored" not in host.log
    assert serial(host, "mail.other.test") == 2


def test_what_clients_get(host: Mtad) -> None:
    """`tls test` on the own listeners, and on one of them as if it was another's."""
    host.start()
    done = host.mtactl("tls", "test", "--json", check=False)
    rows = {row["where"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(rows) == [f"127.0.0.1:{host.ports[name]}" for name in ("smtp", "submission", "submissions")]
    assert done.returncode == 1
    for row in rows.values():
        assert (row["protocol"], row["old"], row["distrust"]) == ("TLSv1.3", [], "self-signed certificate")
        assert row["chain"][0]["names"] == ["mail.example.test"]
    secure, plain = (rows[f"127.0.0.1:{host.ports[name]}"] for name in ("submissions", "smtp"))
    assert (secure["way"], plain["way"], plain["auth"]) == ("implicit", "STARTTLS", [])
    assert "PLAIN" in secure["auth"]
    shown = host.mtactl("tls", "test", f"127.0.0.1:{host.ports['smtp']}")
    assert "result    mail goes encrypted\n" in shown.stdout
    host.stop()
    done = host.mtactl("tls", "test", check=False)
    assert (done.returncode, done.stdout.count("problem   connection refused")) == (1, 3)
    assert "3 of 3 have problems" in done.stderr
    assert host.mtactl("tls", "test", "a:b:c:99999", check=False).returncode == 1
    assert host.mtactl("tls", "test", "mail.test:0", check=False).returncode == 64
