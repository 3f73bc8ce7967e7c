"""A mail of mtactl's own: composed, and given to a listener or to the socket for programs of this host."""

import smtplib
import socket
import ssl
import time
from email.utils import formatdate
from random import SystemRandom
from string import ascii_lowercase, digits
from typing import Any

from mtactl.errors import EX_TEMPFAIL, EX_UNAVAILABLE, CallError
from mtad.mail.text import clean

TIMEOUT_S = 30.0


class _OverUnix(smtplib.SMTP):
    """SMTP over a Unix socket; `host` is its path."""

    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            connection.connect(host)
        except OSError:
            connection.close()
            raise
        return connection


def compose(sender: str, recipient: str, hostname: str, subject: str, text: str) -> tuple[bytes, str]:
    """The octets of a plain mail, and its Message-ID without its <>."""
    # Each word is an address or was made here: no line can be broken into.
    unique = "".join(SystemRandom().choices(ascii_lowercase + digits, k=16))
    message_id = f"{int(time.time())}.{unique}@{hostname}"
    lines = (
        f"From: <{sender}>", f"To: <{recipient}>", f"Subject: {subject}", f"Date: {formatdate(localtime=True)}",
        f"Message-ID: <{message_id}>", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
        "Auto-Submitted: auto-generated", "", text, "",
    )  # fmt: skip
    return "\r\n".join(lines).encode(), message_id


def by_socket(path: str, sender: str, recipient: str, octets: bytes, *, hold_s: int = 0) -> tuple[str, bool]:
    """Through the socket for programs of this host: (queue id, it waits for `hold_s`). CallError."""
    try:
        with _OverUnix(path, 25, "localhost", TIMEOUT_S) as smtp:
            smtp.ehlo()
            held = bool(hold_s) and smtp.has_extn("futurerelease")
            return _handed(smtp, sender, recipient, octets, f" HOLDFOR={hold_s}" if held else ""), held
    except (OSError, smtplib.SMTPException) as error:
        raise _failure(path, error) from None


def by_port(
    host: str,
    port: int,
    sender: str,
    recipient: str,
    octets: bytes,
    *,
    implicit: bool = False,
    user: str = "",
    password: str = "",
) -> str:
    """Through a listener, with TLS where it is offered, whatever its certificate (that is for others to judge): the
    queue id. CallError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        smtp: Any = (
            smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=context)
            if implicit
            else smtplib.SMTP(host, port, timeout=TIMEOUT_S)
        )
        with smtp:
            smtp.ehlo()
            if not implicit and smtp.has_extn("starttls"):
                smtp.starttls(context=context)
                smtp.ehlo()
            if user:
                smtp.login(user, password)
            return _handed(smtp, sender, recipient, octets, "")
    except (OSError, smtplib.SMTPException) as error:
        raise _failure(f"{host} port {port}", error) from None


def _handed(smtp: smtplib.SMTP, sender: str, recipient: str, octets: bytes, params: str) -> str:
    utf8 = "" if (sender + recipient).isascii() else " SMTPUTF8"
    smtp.command_encoding = "utf-8"
    for words, good in ((f"MAIL FROM:<{sender}>{params}{utf8}", 250), (f"RCPT TO:<{recipient}>", 250)):
        code, said = smtp.docmd(words)
        if code != good:
            raise smtplib.SMTPResponseException(code, said)
    code, said = smtp.data(octets)
    if code != 250:
        raise smtplib.SMTPResponseException(code, said)
    words_said = said.decode("utf-8", "replace").split()
    return clean(words_said[1], 60) if len(words_said) > 1 else ""


def _failure(where: str, error: Exception) -> CallError:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        said = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        code = EX_UNAVAILABLE if error.smtp_code >= 500 else EX_TEMPFAIL
        return CallError(f"{where} refuses it: {error.smtp_code} {clean(said, 300)}", code)
    if isinstance(error, OSError):
        return CallError(f"{where}: {error.strerror or 'no answer'}", EX_UNAVAILABLE)
    return CallError(f"{where}: {clean(str(error), 300)}", EX_TEMPFAIL)
