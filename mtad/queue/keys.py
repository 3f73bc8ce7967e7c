"""Keys of submissions: what a program says twice is stored once. Runs in the writer's thread, within the transaction
that stores the mail."""

import hashlib
import json
import sqlite3
from collections.abc import Sequence

from mtad.mail import ident
from mtad.mail.address import fold
from mtad.mail.envelope import NewMessage
from mtad.queue.store import KEY_S, KeyTaken

_CLAIM = """
INSERT INTO submission_key VALUES (?, ?, ?, ?, ?) ON CONFLICT (uid, key) DO UPDATE
SET message = excluded.message, mark = excluded.mark, at = excluded.at WHERE at <= excluded.at - ?
RETURNING message
"""
_OWNER = "SELECT message, mark FROM submission_key WHERE uid = ? AND key = ?"


def claim(connection: sqlite3.Connection, new: Sequence[NewMessage]) -> list[str]:
    """For each the id under which it is to be stored: its own, or of the mail that has its key. KeyTaken when that
    mail is another."""
    ids: list[str] = []
    for item in new:
        message = item.message
        if not item.key:
            ids.append(message.id)
            continue
        mine, mark = (message.peer.uid, item.key), _mark(item)
        given = (*mine, ident.to_int(message.id), mark, message.accepted_at, KEY_S)
        if connection.execute(_CLAIM, given).fetchone():
            ids.append(message.id)
            continue
        number, first = connection.execute(_OWNER, mine).fetchone()
        if first != mark:
            raise KeyTaken("the key belongs to another mail")
        ids.append(ident.from_int(number))
    return ids


def sweep(connection: sqlite3.Connection, now: float, limit: int) -> None:
    """Forget old keys, at most `limit`."""
    connection.execute(
        "DELETE FROM submission_key WHERE (uid, key) IN (SELECT uid, key FROM submission_key WHERE at <= ? LIMIT ?)",
        (now - KEY_S, limit),
    )


def owner(connection: sqlite3.Connection, asked: tuple[int, str]) -> str:
    """The id of the mail that this uid submitted with this key; "" when there is none, or it is long ago."""
    row = connection.execute(_OWNER, asked).fetchone()
    return "" if row is None else ident.from_int(row[0])


def _mark(new: NewMessage) -> bytes:
    """Whom it is from and for. Not its octets: a program that tries again may date it again."""
    sender = fold(new.message.sender) if new.message.sender else ""
    originals = sorted({fold(recipient.original) for recipient in new.recipients})
    return hashlib.sha256(json.dumps([sender, *originals]).encode()).digest()
