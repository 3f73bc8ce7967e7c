"""The header fields that we write: Received (RFC 5321 4.4), Date, Message-ID, From. Pure."""

import re

from mtad.mail import headers
from mtad.mail.addrlist import addresses
from mtad.mail.envelope import Envelope, Peer

_HOSTILE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_NAME_MAX = 255
_ADDRESSES = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc"})
_LOGIN = re.compile(r"[A-Za-z0-9._+$-]+")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


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


def wants_no_tls(head: bytes) -> bool:
    """Whether the author would rather have it delivered than encrypted (RFC 8689 3). The field may come only once."""
    return [value.lower() for value in headers.values(head, b"tls-required")] == [b"no"]


def qualify(head: bytes, domain: str) -> bytes:
    """The head with bare login names in its addresses made whole: "root" -> "root@example.org".

    Programs of this host write them (cron's "From: root (Cron Daemon)"); no receiver could answer, and no signature
    could be aligned with them. Only a field that has one is written anew.
    """
    parts: list[bytes] = []
    at = 0
    for field in headers.fields(head):
        if field.name not in _ADDRESSES:
            continue
        whole = head[field.start : field.end]
        name, _, value = whole.partition(b":")
        mailboxes = addresses(value.decode("utf-8", "surrogateescape"))
        bare = [spec for _, spec in mailboxes if spec and "@" not in spec]
        if not bare or not all(_LOGIN.fullmatch(spec) for spec in bare):
            continue
        written = ",\r\n\t".join(_mailbox(shown, spec, domain) for shown, spec in mailboxes)
        parts += [head[at : field.start], name, b": ", written.encode("utf-8", "surrogateescape"), b"\r\n"]
        at = field.end
    return b"".join(parts) + head[at:] if parts else head


def _mailbox(shown: str, spec: str, domain: str) -> str:
    address = spec if "@" in spec or not spec else f"{spec}@{domain}"
    shown = " ".join(shown.split())
    if not shown:
        return address
    if not _PHRASE.fullmatch(shown) and not shown.startswith("=?"):
        shown = '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{shown} <{address}>"
