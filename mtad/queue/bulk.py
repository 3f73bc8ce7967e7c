"""Many rows in few statements.

Each step of a statement hands the interpreter lock to the event loop and has to win it back; under load that costs far
more than the row. So rows go to the engine 64 at a time. Texts are made once per shape, so the driver's cache of
prepared statements holds them.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

_CHUNKS = (64, 32, 16, 8, 4, 2, 1)
_KEYS_MAX = 512


def insert(
    connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]], *, replace: bool = False
) -> None:
    """INSERT whole rows, or put them in place of those with the same key."""
    into = f"REPLACE INTO {table}" if replace else f"INSERT INTO {table}"
    for chunk in _chunks(rows):
        connection.execute(_insert(into, len(chunk[0]), len(chunk)), list(chain.from_iterable(chunk)))


def update(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Run an UPDATE ... FROM ({rows}) AS v: the columns of `v` are column1, column2 ..."""
    for chunk in _chunks(rows):
        connection.execute(_update(sql, len(chunk[0]), len(chunk)), list(chain.from_iterable(chunk)))


def by_keys(
    connection: sqlite3.Connection, sql: str, keys: Sequence[int], before: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """Run a statement with `IN ({keys})` for all keys; `before` are the parameters in front of it. Its rows, if any.

    The list is filled up with a key again to one of few lengths, which changes nothing and keeps the texts few.
    """
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(keys), _KEYS_MAX):
        part = list(keys[start : start + _KEYS_MAX])
        part += part[-1:] * (_length(len(part)) - len(part))
        found += connection.execute(_keys(sql, len(part)), [*before, *part]).fetchall()
    return found


def _chunks(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def _length(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _values(width: int, count: int) -> str:
    return ", ".join([f"({', '.join('?' * width)})"] * count)


@lru_cache(maxsize=64)
def _insert(into: str, width: int, count: int) -> str:
    return f"{into} VALUES {_values(width, count)}"


@lru_cache(maxsize=64)
def _update(sql: str, width: int, count: int) -> str:
    return sql.format(rows=f"VALUES {_values(width, count)}")


@lru_cache(maxsize=128)
def _keys(sql: str, count: int) -> str:
    return sql.format(keys=", ".join("?" * count))
