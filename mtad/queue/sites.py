"""The rows of sites and of suspensions. Runs in the writer's thread."""

import sqlite3
from collections.abc import Sequence

from mtad.queue import bulk
from mtad.queue.sitestore import StoredSite, Suspension


class SiteRows:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def load(self, _: None) -> Sequence[StoredSite]:
        return [StoredSite(*row) for row in self._connection.execute("SELECT name, data FROM site ORDER BY name")]

    def save(self, sites: Sequence[StoredSite]) -> None:
        bulk.insert(self._connection, "site", [(one.name, one.data) for one in sites if one.data], replace=True)
        for one in sites:
            if not one.data:
                self._connection.execute("DELETE FROM site WHERE name = ?", (one.name,))

    def suspensions(self, _: None) -> Sequence[Suspension]:
        return [
            Suspension(*row)
            for row in self._connection.execute(
                "SELECT kind, value, reason, made_by, made_at, until_at FROM suspension ORDER BY kind, value"
            )
        ]

    def suspend(self, one: Suspension) -> None:
        row = (one.kind, one.value, one.reason, one.made_by, one.made_at, one.until_at)
        bulk.insert(self._connection, "suspension", [row], replace=True)

    def resume(self, key: tuple[str, str]) -> bool:
        return self._connection.execute("DELETE FROM suspension WHERE kind = ? AND value = ?", key).rowcount > 0
