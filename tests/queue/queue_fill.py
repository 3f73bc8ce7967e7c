"""A long queue, made straight in the database: accepting so much would take minutes."""

import sqlite3

from mtad.config import Paths
from mtad.mail.envelope import Message, Peer, Recipient
from mtad.mail.ident import from_int
from mtad.mail.reply import Reply
from mtad.queue import bulk, rows
from mtad.queue.sqlite import open_store

LATER = Reply(451, "4.7.1", "Greylisted, come back", "mx.example", "rcpt")
FIRST = 1 << 58


async def fill(paths: Paths, messages: int, now: float, domains: int = 50, senders: int = 20) -> None:
    """So many messages of one recipient each, half of them tried once; of `domains` and `senders`, in turns."""
    await open_store(paths, lambda: now).close()
    connection = sqlite3.connect(paths.database, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    for start in range(0, messages, 10_000):
        numbers = range(start, min(start + 10_000, messages))
        bulk.insert(
            connection, "message", [rows.of_message(FIRST + n, _message(n, now, senders), None) for n in numbers]
        )
        bulk.insert(connection, "body", [(FIRST + n, b"Subject: hi\r\n\r\n", b"text\r\n") for n in numbers])
        bulk.insert(connection, "recipient", [rows.of_recipient(FIRST + n, _to(n, now, domains), 0) for n in numbers])
    connection.execute("COMMIT")
    connection.close()


def _message(n: int, now: float, senders: int) -> Message:
    peer = Peer("submission", f"192.0.2.{n % 250}", 2525, "client.example", user=f"u{n % senders}@example.test")
    return Message(
        from_int(FIRST + n), f"u{n % senders}@example.test", 21, now - n % 86400, now + 86400, peer,
        header_id=f"<{n}@example.test>", subject=f"Offer {n}",
    )  # fmt: skip


def _to(n: int, now: float, domains: int) -> Recipient:
    domain = f"d{n % domains}.test"
    tried = n % 2
    return Recipient(
        from_int(FIRST + n), 1, f"r{n}@{domain}", f"r{n}@{domain}", domain, tries=tried, next_at=now + 3600,
        last=LATER if tried else None,
    )  # fmt: skip
