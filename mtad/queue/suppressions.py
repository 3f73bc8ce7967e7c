"""The rows of addresses that are not tried, and of what is counted against an address. Runs in the writer's thread."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtad.mail import ident
from mtad.queue import bulk

if TYPE_CHECKING:
    from mtad.accounts.suppressions import Suppression

_SWEPT_MAX = 1000  # rows of each table in one sweep
_COLUMNS = "user, address, reason, made_by, made_at, until_at, error"


@dataclass(frozen=True, slots=True)
class Bounce:
    user: str
    address: str
    message_id: str
    at: float
    since: float


class SuppressionRows:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def load(self, _: None) -> Sequence[tuple[Any, ...]]:
        return self._connection.execute(f"SELECT {_COLUMNS} FROM suppression").fetchall()  # noqa: S608

    def save(self, one: "Suppression") -> None:
        row = (one.user, one.address, one.reason, one.made_by, one.made_at, one.until_at, one.error)
        bulk.insert(self._connection, "suppression", [row], replace=True)

    def delete(self, key: tuple[str, str]) -> bool:
        self._connection.execute("DELETE FROM hard_bounce WHERE user = ? AND address = ?", key)
        return self._connection.execute("DELETE FROM suppression WHERE user = ? AND address = ?", key).rowcount > 0

    def count(self, bounce: Bounce) -> int:
        row = (bounce.user, bounce.address, bounce.at, ident.to_int(bounce.message_id))
        bulk.insert(self._connection, "hard_bounce", [row], replace=True)
        (times,) = self._connection.execute(
            "SELECT count(*) FROM hard_bounce WHERE address = ? AND user = ? AND at >= ?",
            (bounce.address, bounce.user, bounce.since),
        ).fetchone()
        return int(times)

    def sweep(self, times: tuple[float, float]) -> None:
        now, since = times
        self._connection.execute(
            "DELETE FROM suppression WHERE (address, user) IN"
            " (SELECT address, user FROM suppression WHERE until_at > 0 AND until_at <= ? LIMIT ?)",
            (now, _SWEPT_MAX),
        )
        self._connection.execute(
            "DELETE FROM hard_bounce WHERE (address, user, message) IN"
            " (SELECT address, user, message FROM hard_bounce WHERE at < ? LIMIT ?)",
            (since, _SWEPT_MAX),
        )
