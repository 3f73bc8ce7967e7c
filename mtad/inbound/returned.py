"""The report about a maildrop file that is no mail we take: its writer was told that all is well, so it must hear that
it was not. Pure."""

import hashlib
from collections.abc import Callable, Sequence

from mtad.config import Config
from mtad.mail import address as mail_address
from mtad.mail import dsn, headers
from mtad.mail.envelope import Message, NewMessage, Peer, Recipient
from mtad.mail.reply import Refused, Reply

SHOWN_MAX = 1000  # recipients that are named


def report(
    recorded: bytes,
    reply: Reply,
    name: str,
    written_at: float,
    config: Config,
    now: float,
    new_id: str,
    expand: Callable[[str], Sequence[str]],
) -> NewMessage | None:
    """To the sender of the file that begins with `recorded` (all of its envelope, and of the mail at least the head),
    about all its recipients. None: it has no sender, or one who does not exist here. `expand` as of the directory."""
    envelope, _, mail = recorded.partition(b"\r\nDATA\r\n")
    lines = envelope.split(b"\r\n")
    sender = next((_sender(line, config) for line in lines if line[:10].upper() == b"MAIL FROM:"), "")
    if not sender:
        return None
    try:
        targets = tuple(expand(sender))
    except Refused:
        targets = (sender,)
    if not targets:
        return None
    told = [
        dsn.DsnRecipient(_path(line[8:]), "failed", reply, last_attempt_at=now)
        for line in lines
        if line[:8].upper() == b"RCPT TO:"
    ]
    head = headers.split(mail.replace(b"\r\n..", b"\r\n."))[0]
    top, text = dsn.build(
        dsn.DsnInput(
            id=new_id,
            hostname=config.hostname,
            to=sender,
            message_id=name,
            arrived_at=written_at,
            now=now,
            recipients=tuple(told[:SHOWN_MAX]),
            header_id=headers.message_id(head),
            ret="HDRS",
            head=head,
        )
    )
    message = Message(
        id=new_id,
        sender="",
        size_bytes=len(top) + len(text),
        accepted_at=now,
        expires_at=now + config.delivery.expire_s,
        peer=Peer("internal"),
        body="7BIT" if top.isascii() and text.isascii() else "8BITMIME",
        smtputf8=not (top.isascii() and all(target.isascii() for target in targets)),
        header_id=headers.message_id(top),
        subject=headers.subject(top),
        digest=hashlib.sha256(text + top).digest(),
    )
    recipients = tuple(
        Recipient(new_id, n, target, sender, mail_address.domain_of(target), next_at=now)
        for n, target in enumerate(targets, 1)
    )
    return NewMessage(message, recipients, top, text)


def _sender(line: bytes, config: Config) -> str:
    """The address of MAIL FROM, a bare login made whole; "" when there is none."""
    text = _path(line[10:])
    if text and "@" not in text:
        text = f"{text}@{config.domains[0]}"
    try:
        return mail_address.parse(text, utf8=True) if text else ""
    except mail_address.AddressError:
        return ""


def _path(octets: bytes) -> str:
    """What stands between the brackets, whatever it is."""
    text = octets.decode("utf-8", "replace").strip()
    return text.removeprefix("<").rpartition(">")[0] or text.removeprefix("<")
