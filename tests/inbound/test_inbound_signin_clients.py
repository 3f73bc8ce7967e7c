"""Real programs and real TLS: msmtp by each mechanism, our own SCRAM client with the channel bound, certificates."""

import asyncio
import shutil
import smtplib
import ssl
import subprocess
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from inbound_house import PASSWORD, House
from scram_client import ScramClient

from mtad.accounts.users import fingerprint
from mtad.inbound.server import Inbound
from mtad.tls.binding import end_point
from mtad.tls.contexts import server_context

USER = "alice@example.test"
LETTER = f"From: {USER}\r\nSubject: x\r\n\r\ntext\r\n"


class Client(NamedTuple):
    """A client certificate: its files, and its DER form."""

    cert: Path
    key: Path
    der: bytes


def make_client(root: Path, name: str, mailbox: str = "") -> Client:
    """Self-signed, so that it is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if mailbox:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(mailbox)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    files = root / f"{name}.pem", root / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files[1].write_bytes(pem)
    files[1].chmod(0o600)
    return Client(*files, certificate.public_bytes(serialization.Encoding.DER))


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Client]:
    root = tmp_path_factory.mktemp("clients")
    made = {name: make_client(root, name) for name in ("laptop", "stranger")}
    made["mailbox"] = make_client(root, "mailbox", USER)
    return made


@pytest.fixture
async def inbound(house: House, clients: dict[str, Client], tmp_path: Path) -> AsyncIterator[Inbound]:
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(clients["laptop"].cert.read_bytes() + clients["mailbox"].cert.read_bytes())
    made = house.inbound(tls=server_context(replace(house.config.tls, client_ca=str(authorities))))
    await made.start()
    yield made
    await made.drain(1.0)


def port(inbound: Inbound, source: str) -> int:
    ((_, number),) = inbound.addresses(source)  # type: ignore[arg-type]
    return int(number)


def trusting(client: Client | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return context


async def msmtp(inbound: Inbound, source: str, *options: str) -> "subprocess.CompletedProcess[bytes]":
    program = shutil.which("msmtp")
    if program is None:
        pytest.skip("msmtp is not installed")
    tls = ["--tls=on", "--tls-certcheck=off", f"--tls-starttls={'on' if source == 'submission' else 'off'}"]
    command = [
        program,
        "-C",
        "/dev/null",
        "--host=127.0.0.1",
        f"--port={port(inbound, source)}",
        *tls,
        f"--from={USER}",
    ]
    return await asyncio.to_thread(
        subprocess.run, [*command, *options, USER], input=LETTER.replace("\r\n", "\n").encode(), capture_output=True
    )


@pytest.mark.peer
@pytest.mark.parametrize("source", ["submission", "submissions"])
@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256", "on"])
async def test_msmtp(house: House, inbound: Inbound, source: str, mechanism: str) -> None:
    done = await msmtp(inbound, source, f"--auth={mechanism}", f"--user={USER}", f"--passwordeval=echo '{PASSWORD}'")
    assert done.returncode == 0, done.stderr.decode() + "\n".join(house.log)
    row, _ = await house.only()
    assert row.message.peer.user == USER


@pytest.mark.peer
async def test_msmtp_with_a_wrong_password(house: House, inbound: Inbound) -> None:
    for mechanism in ("plain", "scram-sha-256"):
        done = await msmtp(inbound, "submission", f"--auth={mechanism}", f"--user={USER}", "--passwordeval=echo wrong")
        assert done.returncode == 77
        assert b"535 5.7.8" in done.stderr
    assert await house.rows() == []


@pytest.mark.peer
@pytest.mark.parametrize("source", ["submission", "submissions"])
async def test_msmtp_with_a_certificate(
    house: House, inbound: Inbound, clients: dict[str, Client], source: str
) -> None:
    client = clients["laptop"]
    await house.users.update("alice", lambda form: replace(form, certificates=(fingerprint(client.der),)))
    files = f"--tls-cert-file={client.cert}", f"--tls-key-file={client.key}"
    done = await msmtp(inbound, source, "--auth=external", f"--user={USER}", *files)
    assert done.returncode == 0, done.stderr.decode() + "\n".join(house.log)
    assert (await house.only())[0].message.peer.user == USER


async def over_tls(inbound: Inbound, source: str, client: Client | None, *lines: str) -> list[bytes]:
    """What each line is answered, by smtplib below its login."""

    def talk() -> list[bytes]:
        if source == "submissions":
            server: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port(inbound, source), context=trusting(client))
        else:
            server = smtplib.SMTP("127.0.0.1", port(inbound, source))
            server.starttls(context=trusting(client))
        with server:
            server.ehlo("x.test")
            offered = server.esmtp_features["auth"].encode()
            said = [server.docmd(line) for line in lines]
            return [offered, *(b"%d %s" % answer for answer in said)]

    return await asyncio.to_thread(talk)


@pytest.mark.parametrize("source", ["submission", "submissions"])
async def test_a_certificate_that_names_the_address(
    house: House, inbound: Inbound, clients: dict[str, Client], source: str
) -> None:
    offered, said = await over_tls(inbound, source, clients["mailbox"], "AUTH EXTERNAL =")
    assert offered.endswith(b"PLAIN LOGIN EXTERNAL")
    assert said.startswith(b"235")


async def test_a_certificate_that_nobody_registered(house: House, inbound: Inbound, clients: dict[str, Client]) -> None:
    _, said = await over_tls(inbound, "submission", clients["laptop"], "AUTH EXTERNAL =")
    assert said.startswith(b"535")


async def test_without_a_certificate_one_signs_in_as_ever(house: House, inbound: Inbound) -> None:
    blob = b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    offered, refused, taken = await over_tls(inbound, "submissions", None, "AUTH EXTERNAL =", f"AUTH PLAIN {blob}")
    assert b"EXTERNAL" not in offered
    assert refused.startswith(b"504")
    assert taken.startswith(b"235")


async def test_a_certificate_of_another_authority_does_not_come_in(
    house: House, inbound: Inbound, clients: dict[str, Client]
) -> None:
    with pytest.raises((OSError, smtplib.SMTPException)):
        await over_tls(inbound, "submission", clients["stranger"], "AUTH EXTERNAL =")
    assert any("TLS failed" in line for line in house.log)


async def test_scram_plus_over_real_tls(house: House, inbound: Inbound) -> None:
    """The client hashes the certificate that it saw; nothing of the server's side is used."""

    def talk() -> list[int]:
        codes = []
        with smtplib.SMTP("127.0.0.1", port(inbound, "submission")) as server:
            server.starttls(context=trusting())
            server.ehlo("x.test")
            assert server.sock is not None
            seen = server.sock.getpeercert(binary_form=True)  # type: ignore[attr-defined]
            for binding in (b"x" * 32, end_point(seen)):
                client = ScramClient(USER, PASSWORD, header="p=tls-server-end-point,,", binding=binding)
                _, said = server.docmd("AUTH", "SCRAM-SHA-256-PLUS " + b64encode(client.first.encode()).decode())
                last = client.final(b64decode(said).decode())
                code, said = server.docmd(b64encode(last.encode()).decode())
                if code == 334:
                    assert b64decode(said).decode() == client.expected
                    code, _ = server.docmd("")
                codes.append(code)
        return codes

    assert await asyncio.to_thread(talk) == [535, 235]
