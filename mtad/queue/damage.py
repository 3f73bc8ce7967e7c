# ruff: noqa: S608  (the statements are put together from constants of ours)
"""Rows that are not what was written: a disk that flips a bit takes no other mail with it.

A text that is no UTF-8 is read all the same, from then on, and counted; who leases mail learns of it and of every other
row that cannot be used, and has those looked for and set aside. Runs in the writer's thread.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mtad.mail import ident
from mtad.mail.envelope import State
from mtad.mail.reply import DAMAGED
from mtad.queue import rows
from mtad.queue.rows import MESSAGE, RECIPIENT

_FAR = 9e15
_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# From the index alone: that one row cannot be read stops nothing.
_DUE = """
SELECT message, n FROM recipient r INDEXED BY recipient_due WHERE state = 0 AND next_at <= :now
AND NOT EXISTS (SELECT 1 FROM temp.lease l WHERE l.message = r.message AND l.n = r.n AND l.until > :now)
"""
_RECIPIENT = f"SELECT {RECIPIENT} FROM recipient r WHERE r.message = ? AND r.n = ?"
_MESSAGE = f"SELECT {MESSAGE} FROM message m WHERE m.id = ?"
_HOLD = """
UPDATE recipient SET state = ?, last_code = ?, last_status = ?, last_text = ?, last_host = ?, last_stage = ?,
    last_cause = ?, error = ? WHERE message = ? AND n = ?
"""


class Texts:
    """Makes texts of the octets in a database. Those that are no UTF-8 are written as they look, and counted."""

    def __init__(self) -> None:
        self.spoiled = 0

    def __call__(self, octets: bytes) -> str:
        try:
            return octets.decode()
        except UnicodeDecodeError:
            self.spoiled += 1
            return octets.decode("utf-8", "backslashreplace")


def forgive(connection: sqlite3.Connection, error: BaseException) -> bool:
    """After a text that could not be decoded: read all texts from now on. Whether that is new, so that it is worth
    another try. Not from the start: each text would cost a call."""
    if not isinstance(error, sqlite3.OperationalError) or "decode" not in str(error):
        return False
    if isinstance(connection.text_factory, Texts):
        return False
    connection.text_factory = Texts()
    return True


def spoiled(connection: sqlite3.Connection) -> int:
    """How many texts could not be decoded so far."""
    texts = connection.text_factory
    return texts.spoiled if isinstance(texts, Texts) else 0


def is_damage(error: sqlite3.Error) -> bool:
    """Whether waiting mends nothing: the file is not as SQLite wrote it."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _CODES


@dataclass(frozen=True, slots=True)
class Lost:
    """A recipient that was set aside. `held`: durably; else until the daemon ends, for its row takes no change."""

    id: str  # the message's; "" where the row does not say
    n: int
    why: str
    held: bool


class Damage:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def set_aside(self, now: float) -> Sequence[Lost]:
        """Hold the recipients that are due and cannot be used. All that are due are read one by one: it takes its time,
        and is done only when something was met."""
        if not isinstance(self._connection.text_factory, Texts):
            self._connection.text_factory = Texts()
        found = [(message, n, why) for message, n in self._due(now) if (why := self.wrong(message, n))]
        return [self._lose(message, n, why) for message, n, why in found]

    def wrong(self, message: int, n: int) -> str:
        """What is wrong with the row of a recipient or that of its message, "" for nothing."""
        before = spoiled(self._connection)
        try:
            message_id = ident.from_int(message)
            what = "its recipient"
            row = self._connection.execute(_RECIPIENT, (message, n)).fetchone()
            if row is None:
                return "its recipient is gone"
            rows.recipient_of(message_id, row, leased=False)
            what = "the message"
            row = self._connection.execute(_MESSAGE, (message,)).fetchone()
            if row is None:
                return "the message is gone"
            rows.message_of(row)
        except sqlite3.Error as error:
            return f"the row of {what} cannot be read ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
        except (LookupError, ValueError, TypeError):
            return "its row in the database is damaged"
        return "" if spoiled(self._connection) == before else "a text in its row is damaged"

    def _due(self, now: float) -> Iterator[tuple[int, int]]:
        """What is due, as far as the index can be read."""
        with suppress(sqlite3.DatabaseError):
            yield from self._connection.execute(_DUE, {"now": now})

    def _lose(self, message: int, n: int, why: str) -> Lost:
        reply = DAMAGED.because(why)
        try:
            message_id = ident.from_int(message)
        except ValueError:
            message_id = ""
        one = self._connection.execute
        try:
            one("SAVEPOINT aside")
            one(_HOLD, (int(State.HELD), *rows.of_reply(reply), rows.error_of(reply), message, n))
            one("RELEASE aside")
            return Lost(message_id, n, why, True)
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                one("ROLLBACK TO aside")
                one("RELEASE aside")
            one("REPLACE INTO temp.lease VALUES (?, ?, ?, 0, 0)", (message, n, _FAR))
            return Lost(message_id, n, why, False)
