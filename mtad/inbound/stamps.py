"""The header fields that we write: Received (RFC 5321 4.4), Date, Message-ID, From. Pure."""

import re
import time

from mtad.mail import headers
from mtad.mail.envelope import Envelope, Peer

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HOSTILE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_NAME_MAX = 255


def date(at: float) -> str:
    """RFC 5322 3.3, in UTC."""
    t = time.gmtime(at)
    return f"{_DAYS[t[6]]}, {t[2]} {_MONTHS[t[1] - 1]} {t[0]} {t[3]:02}:{t[4]:02}:{t[5]:02} +0000"


def received(envelope: Envelope, peer: Peer, hostname: str, queue_id: str, at: str) -> bytes:
    """The Received field of one hop. Only a mail to one recipient names it: others must not learn of each other."""
    to = f"\r\n\tfor <{envelope.recipients[0].address}>" if len(envelope.recipients) == 1 else ""
    if peer.source in ("local", "maildrop"):
        lead = f"Received: by {hostname} (uid {peer.uid})\r\n\t"
    else:
        tls = f" ({peer.tls})" if peer.tls else ""
        name = _HOSTILE.sub("?", peer.helo[:_NAME_MAX])
        how = f"{protocol(envelope, peer)}{tls}"
        lead = f"Received: from {name} ({literal(peer.ip)})\r\n\tby {hostname} with {how}\r\n\t"
    return f"{lead}id {queue_id}{to};\r\n\t{at}\r\n".encode("utf-8", "replace")


def literal(ip: str) -> str:
    """An address literal (RFC 5321 4.1.3)."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def protocol(envelope: Envelope, peer: Peer) -> str:
    """The "with" word: RFC 3848, RFC 6531 4.3."""
    if not peer.esmtp:
        return "SMTP"
    word = "UTF8SMTP" if envelope.smtputf8 else "ESMTP"
    return f"{word}{'S' if peer.tls else ''}{'A' if peer.user else ''}"


def missing(head: bytes, sender: str, hostname: str, queue_id: str, at: str) -> bytes:
    """The fields that a mail must have and a submitter left out (RFC 6409 8). Queue ids are never given twice."""
    fields = ""
    if not headers.has(head, b"from"):
        fields += f"From: {sender or f'MAILER-DAEMON@{hostname}'}\r\n"
    if not headers.has(head, b"date"):
        fields += f"Date: {at}\r\n"
    if not headers.has(head, b"message-id"):
        fields += f"Message-ID: <{queue_id}@{hostname}>\r\n"
    return fields.encode("utf-8", "replace")
