"""The rows of the audit trail. Runs in the writer's thread."""

import sqlite3
from collections.abc import Sequence

from mtad.mail import ident
from mtad.mail.envelope import State
from mtad.queue import bulk
from mtad.queue.audit import Action, Entry, Looked

SWEPT_MAX = 10_000

_COLUMNS = "a.uid, a.who, a.operation, a.selector, a.reason, a.changed, a.at, a.id"


def record(connection: sqlite3.Connection, entry: Entry, changed: int, now: float) -> int:
    """Add a line; the number it got."""
    row = (None, now, entry.uid, entry.who, entry.operation, entry.selector, entry.reason, changed)
    bulk.insert(connection, "audit", [row])
    (number,) = connection.execute("SELECT last_insert_rowid()").fetchone()
    return int(number)


def add(connection: sqlite3.Connection, number: int, changed: int) -> None:
    """What the operation of that line changed since."""
    connection.execute("UPDATE audit SET changed = changed + ? WHERE id = ?", (changed, number))


class Trail:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def note(self, asked: tuple[Entry, float]) -> int:
        entry, now = asked
        return record(self._connection, entry, entry.changed, now)

    def look(self, looked: Looked) -> Sequence[Entry]:
        found = self._connection.execute(
            f"SELECT {_COLUMNS} FROM audit a WHERE a.at >= ?1 AND (?2 = '' OR a.who = ?2 OR CAST(a.uid AS TEXT) = ?2)"  # noqa: S608
            " AND (?3 = '' OR a.operation = ?3 OR substr(a.operation, 1, length(?3) + 1) = ?3 || '.')"
            " ORDER BY a.id DESC LIMIT ?4",
            (looked.since_at, looked.who, looked.operation, looked.limit),
        )
        return [Entry(*row) for row in found][::-1]

    def actions(self, message_id: str) -> Sequence[Action]:
        found = self._connection.execute(
            f"SELECT t.n, t.state, t.address, {_COLUMNS} FROM touched t JOIN audit a ON a.id = t.audit"  # noqa: S608
            " WHERE t.message = ? ORDER BY t.audit, t.n",
            (ident.to_int(message_id),),
        )
        return [Action(row[0], State(row[1]), Entry(*row[3:]), row[2]) for row in found]

    def sweep(self, before_at: float) -> None:
        """Forget old lines, but those of rules that still hold."""
        self._connection.execute(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? AND id NOT IN (SELECT id FROM hold_rule)"
            " ORDER BY at LIMIT ?)",
            (before_at, SWEPT_MAX),
        )
