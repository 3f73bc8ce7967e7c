"""Mails for the queue's tests."""

import hashlib
from typing import Any

from mtad.mail import ident
from mtad.mail.envelope import Attempt, Job, Message, NewMessage, Peer, Recipient, State
from mtad.mail.reply import Reply
from mtad.queue.store import Settlement

NOW = 1_800_000_000.0
OK = Reply(250, "2.0.0", "ok", "mx.example", "final")
LATER = Reply(451, "4.7.1", "Greylisted, come back", "mx.example", "rcpt", "a cause")
NEVER = Reply(550, "5.1.1", "No such user", "mx.example", "rcpt")
HEAD = b"Subject: hi\r\n\r\n"


def message_id(number: int) -> str:
    return ident.from_int((1 << 50) + number)


def mail(
    number: int,
    *addresses: str,
    sender: str = "alice@example.test",
    body: bytes | str = b"hello\r\n",
    accepted_at: float = NOW,
    next_at: float = NOW,
    peer: Peer = Peer("smtp", "192.0.2.1", 2525, "client.example"),  # noqa: B008
    digest: bytes | None = None,
    size_bytes: int | None = None,
    **fields: Any,
) -> NewMessage:
    octets = b"" if isinstance(body, str) else body
    message = Message(
        message_id(number),
        sender,
        len(HEAD) + len(octets) if size_bytes is None else size_bytes,
        accepted_at,
        accepted_at + 86400,
        peer,
        digest=hashlib.sha256(octets + HEAD).digest() if digest is None else digest,
        **fields,
    )
    recipients = tuple(
        Recipient(message.id, n, address, address, address.rpartition("@")[2], next_at=next_at)
        for n, address in enumerate(addresses or ("bob@remote.test",), 1)
    )
    return NewMessage(message, recipients, HEAD, body)


def outcome(
    job: Job, state: State, reply: Reply, *, next_at: float = NOW, spawn: tuple[NewMessage, ...] = ()
) -> Settlement:
    """All recipients of a job end the same way."""
    from dataclasses import replace

    attempts = [
        Attempt(one.n, NOW, 0.25, reply, "mx.example[192.0.2.9]:25", "TLSv1.3 verified") for one in job.recipients
    ]
    changes = [replace(one, state=state, tries=one.tries + 1, next_at=next_at, last=reply) for one in job.recipients]
    return Settlement(job, attempts, changes, spawn)
