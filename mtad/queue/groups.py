# ruff: noqa: S608  (the statements are put together from constants of ours)
"""The queue by what recipients have in common: error, domain, user or client. Runs in the writer's thread."""

import sqlite3
from collections.abc import Mapping, Sequence

from mtad.queue.store import Group, GroupBy

GROUPS_MAX = 200

# What is open, and what failed and is still history, each (key, open, failed, oldest message of the open ones).
# Each part reads an index only; the indexes of errors and of open recipients hold few rows of a queue that flows.
_BY_ERROR = """
SELECT error AS key, sum(state <> 4) AS open, sum(state = 4) AS failed,
    min(CASE WHEN state <> 4 THEN message END) AS oldest
FROM recipient INDEXED BY recipient_error WHERE error <> '' AND state IN (0, 2, 4) GROUP BY error
"""
_BY_DOMAIN = """
SELECT key, sum(open) AS open, sum(failed) AS failed, min(oldest) AS oldest FROM (
    SELECT domain AS key, count(*) AS open, 0 AS failed, min(message) AS oldest
    FROM recipient INDEXED BY recipient_open WHERE state IN (0, 2, 5) AND state <> 5 GROUP BY domain
    UNION ALL
    SELECT domain, 0, count(*), NULL FROM recipient INDEXED BY recipient_error WHERE error <> '' AND state = 4
    GROUP BY domain
) GROUP BY key
"""
_OF_MESSAGE = """
SELECT key, sum(open) AS open, sum(failed) AS failed, min(oldest) AS oldest FROM (
    SELECT m.{column} AS key, count(*) AS open, 0 AS failed, min(r.message) AS oldest
    FROM recipient r INDEXED BY recipient_open CROSS JOIN message m ON m.id = r.message
    WHERE r.state IN (0, 2, 5) AND r.state <> 5 GROUP BY m.{column}
    UNION ALL
    SELECT m.{column}, 0, count(*), NULL
    FROM recipient r INDEXED BY recipient_error CROSS JOIN message m ON m.id = r.message
    WHERE r.error <> '' AND r.state = 4 GROUP BY m.{column}
) GROUP BY key
"""
_KEYS: Mapping[GroupBy, str] = {
    "error": _BY_ERROR,
    "domain": _BY_DOMAIN,
    "user": _OF_MESSAGE.format(column="user"),
    "sender": _OF_MESSAGE.format(column="sender"),
    "ip": _OF_MESSAGE.format(column="ip"),
}


def grouped(connection: sqlite3.Connection, by: GroupBy) -> Sequence[Group]:
    found = connection.execute(
        f"SELECT g.key, g.open, g.failed, m.accepted_at FROM ({_KEYS[by]}) g LEFT JOIN message m ON m.id = g.oldest"
        " ORDER BY g.open DESC, g.failed DESC, g.key LIMIT ?",
        (GROUPS_MAX,),
    )
    return [Group(*row) for row in found]
