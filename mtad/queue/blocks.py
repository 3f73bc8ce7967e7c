"""The rows of who is kept out. Runs in the writer's thread."""

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mtad.queue import bulk

if TYPE_CHECKING:
    from mtad.accounts.blocks import Block

_COLUMNS = "value, reason, made_by, made_at, until_at, times"


class BlockRows:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def load(self, _: None) -> Sequence[tuple[Any, ...]]:
        return self._connection.execute(f"SELECT {_COLUMNS} FROM block ORDER BY value").fetchall()  # noqa: S608

    def save(self, block: "Block") -> None:
        row = (block.value, block.reason, block.made_by, block.made_at, block.until_at, block.times)
        bulk.insert(self._connection, "block", [row], replace=True)

    def delete(self, value: str) -> bool:
        return self._connection.execute("DELETE FROM block WHERE value = ?", (value,)).rowcount > 0
