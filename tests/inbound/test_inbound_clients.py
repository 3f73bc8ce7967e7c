"""Clients that others wrote, over the three listeners."""

import asyncio
import shutil
import smtplib
import ssl
import subprocess
from email.message import EmailMessage

import pytest
from inbound_house import PASSWORD, House

from mtad.inbound.server import Inbound

USER = "alice@example.test"


@pytest.fixture
async def inbound(house: House):  # type: ignore[no-untyped-def]
    made = house.inbound()
    await made.start()
    yield made
    await made.drain(1.0)


def port(inbound: Inbound, source: str) -> int:
    ((_, number),) = inbound.addresses(source)  # type: ignore[arg-type]
    return int(number)


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def letter() -> EmailMessage:
    message = EmailMessage()
    message["From"] = USER
    message["To"] = USER
    message["Subject"] = "a letter"
    message.set_content("first\n.\n..dots\nlast\n")
    return message


@pytest.mark.parametrize("source", ["smtp", "submission", "submissions"])
async def test_smtplib(house: House, inbound: Inbound, source: str) -> None:
    def send() -> dict[str, tuple[int, bytes]]:
        if source == "submissions":
            client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port(inbound, source), context=trusting())
        else:
            client = smtplib.SMTP("127.0.0.1", port(inbound, source))
            client.starttls(context=trusting())
        with client:
            if source != "smtp":
                client.login(USER, PASSWORD)
            return client.send_message(letter())

    assert await asyncio.to_thread(send) == {}
    row, content = await house.only()
    assert content.endswith(b"\r\n\r\nfirst\r\n.\r\n..dots\r\nlast\r\n")
    assert row.message.peer.user == ("" if source == "smtp" else USER)
    assert row.message.peer.tls.startswith("TLSv1.3")


@pytest.mark.peer
@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("smtp", []),
        ("smtp", ["-tls", "-pipeline"]),
        ("submission", ["-tls", "-a", "PLAIN", "-au", USER, "-ap", PASSWORD]),
        ("submission", ["-tls", "-a", "LOGIN", "-au", USER, "-ap", PASSWORD]),
        ("submissions", ["-tlsc", "-a", "-au", USER, "-ap", PASSWORD]),
    ],
)
async def test_swaks(house: House, inbound: Inbound, source: str, options: list[str]) -> None:
    program = shutil.which("swaks")
    if program is None:
        pytest.skip("swaks is not installed")
    command = [program, "--server", "127.0.0.1", "--port", str(port(inbound, source)), "-f", USER, "-t", USER, *options]
    done = await asyncio.to_thread(subprocess.run, [*command, "--helo", "x.test"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    row, _ = await house.only()
    assert row.message.sender == USER
    assert bool(row.message.peer.user) == (source != "smtp")
