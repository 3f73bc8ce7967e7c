"""Accounts in the database, and what each of them sent: the tables behind UserStore and the limits per user.

Runs in the writer's thread.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtad.mail import address as addresses
from mtad.mail.envelope import NewMessage
from mtad.queue import bulk
from mtad.queue.store import SENDING_STEP_S, SENDING_WINDOW_S, StoreError, Usage

if TYPE_CHECKING:
    from mtad.accounts.account import StoredUser

FORGOTTEN_S = 400 * 86400.0
"""After this long without mail a correspondent counts as new again."""

_TOUCH_S = 7 * 86400  # how exactly it is known when a correspondent was last written to: each touch is a write
_SWEPT_MAX = 1000  # rows of each table in one sweep
_ASKED_MAX = 500  # addresses in one question

_SENT = """
INSERT INTO sent VALUES (?, ?, ?) ON CONFLICT (user, at) DO UPDATE SET messages = messages + excluded.messages
"""
_WROTE_TO = """
INSERT INTO correspondent VALUES (?1, ?2, ?3, ?3)
ON CONFLICT (user, address) DO UPDATE SET last_at = excluded.last_at WHERE last_at < excluded.last_at - ?4
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which of these addresses (folded) has this user written to before?"""

    user: str
    addresses: tuple[str, ...]


class People:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def load_users(self, _: None) -> Sequence[tuple[str, str, float, str, str]]:
        return self._connection.execute(
            "SELECT name, secret, created_at, disabled, data FROM user ORDER BY name"
        ).fetchall()

    def save_user(self, user: "StoredUser") -> None:
        row = (user.name, user.secret, user.created_at, user.disabled, user.data)
        bulk.insert(self._connection, "user", [row], replace=True)

    def delete_user(self, name: str) -> bool:
        for table in ("sent", "correspondent"):
            self._connection.execute(f"DELETE FROM {table} WHERE user = ?", (name,))  # noqa: S608  (names of ours)
        return self._connection.execute("DELETE FROM user WHERE name = ?", (name,)).rowcount > 0

    def install_secret(self, _: None) -> bytes:
        row = self._connection.execute("SELECT value FROM secret WHERE name = 'accounts'").fetchone()
        if row is None:
            raise StoreError("the secret of this installation is gone from the database: restore a backup")
        return bytes(row[0])

    def usage(self, asked: tuple[str, float]) -> Usage:
        """What a user sent within SENDING_WINDOW_S, in steps."""
        user, now = asked
        since = _step(now - SENDING_WINDOW_S)
        messages = self._connection.execute(
            "SELECT at, messages FROM sent WHERE user = ? AND at >= ? ORDER BY at", (user, since)
        )
        new = self._connection.execute(
            "SELECT first_at - first_at % ?1 AS at, count(*) FROM correspondent"
            " WHERE user = ?2 AND first_at >= ?3 GROUP BY at ORDER BY at",
            (SENDING_STEP_S, user, since),
        )
        return Usage(tuple(messages.fetchall()), tuple(new.fetchall()))

    def correspondents(self, asked: Asked) -> frozenset[str]:
        known: set[str] = set()
        for start in range(0, len(asked.addresses), _ASKED_MAX):
            part = asked.addresses[start : start + _ASKED_MAX]
            found = self._connection.execute(
                f"SELECT address FROM correspondent WHERE user = ? AND address IN ({', '.join('?' * len(part))})",  # noqa: S608
                (asked.user, *part),
            )
            known.update(address for (address,) in found)
        return frozenset(known)

    def sweep(self, now: float) -> None:
        """Forget what no limit looks at any more. A part at a time; the next sweep takes the next part."""
        self._connection.execute(
            "DELETE FROM sent WHERE (user, at) IN (SELECT user, at FROM sent WHERE at < ? LIMIT ?)",
            (_step(now - SENDING_WINDOW_S), _SWEPT_MAX),
        )
        self._connection.execute(
            "DELETE FROM correspondent WHERE (user, address) IN"
            " (SELECT user, address FROM correspondent WHERE last_at < ? LIMIT ?)",
            (int(now - FORGOTTEN_S), _SWEPT_MAX),
        )


def record(connection: sqlite3.Connection, sent: Sequence[NewMessage]) -> None:
    """Note what users sent; part of the transaction that accepts it."""
    for item in sent:
        message = item.message
        if message.peer.source == "internal":
            continue
        connection.execute(_SENT, (message.peer.user, _step(message.accepted_at), 1))
        at = int(message.accepted_at)
        connection.executemany(
            _WROTE_TO,
            [(message.peer.user, fold(address), at, _TOUCH_S) for address in {r.original for r in item.recipients}],
        )


def fold(address: str) -> str:
    """The key under which an address is remembered."""
    try:
        return addresses.fold(address)
    except addresses.AddressError:
        return address.lower()


def _step(at: float) -> int:
    return int(at) - int(at) % SENDING_STEP_S
