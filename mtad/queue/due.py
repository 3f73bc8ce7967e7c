# ruff: noqa: S608  (the statements are put together from constants of ours)
"""Which recipients are due: the search for what may be leased, in few seeks however many wait and are to be skipped.

Runs in the writer's thread.
"""

import json
import sqlite3
from dataclasses import dataclass

from mtad.mail import ident
from mtad.queue.rows import RECIPIENT, Row

# The search for due recipients looks at this many first; when domains that are to be skipped stand in front of all
# others it goes on from domain to domain, which costs about as much for one domain as for so many recipients.
_WINDOW = 1000
_RECIPIENTS_PER_DOMAIN = 12

_UNLEASED = "NOT EXISTS (SELECT 1 FROM temp.lease l WHERE l.message = r.message AND l.n = r.n AND l.until > :now)"
_AT_LEVEL = "state = 0 AND priority = :level AND next_at <= :now"
_OPEN_READY = "INDEXED BY recipient_open WHERE state IN (0, 2, 5) AND state = 0"
_UNSKIPPED = "domain NOT IN (SELECT value FROM json_each(:skip))"

# One seek for each priority that some waiting recipient has, the highest first; nearly always there is one.
_LEVELS = """
WITH RECURSIVE step (level) AS (
    SELECT max(priority) FROM recipient INDEXED BY recipient_due WHERE state = 0
    UNION ALL
    SELECT (SELECT max(priority) FROM recipient INDEXED BY recipient_due WHERE state = 0 AND priority < step.level)
    FROM step WHERE step.level IS NOT NULL
)
SELECT level FROM step WHERE level IS NOT NULL
"""

_TAKE = f"""
SELECT r.message, {RECIPIENT} FROM recipient r INDEXED BY recipient_due
WHERE {_AT_LEVEL} AND {_UNLEASED} ORDER BY r.next_at LIMIT :limit
"""

_TAKE_UNSKIPPED = f"""
SELECT r.message, {RECIPIENT} FROM (
    SELECT message, n, domain FROM recipient INDEXED BY recipient_due
    WHERE {_AT_LEVEL} ORDER BY next_at LIMIT :window
) d CROSS JOIN recipient r ON r.message = d.message AND r.n = d.n
WHERE d.{_UNSKIPPED} AND {_UNLEASED.replace("r.", "d.")} LIMIT :limit
"""
# No ORDER BY there: the loop runs in the order of `d`, and a sort would read all of the window before the first row.

_BEYOND = f"""
SELECT 1 FROM recipient INDEXED BY recipient_due WHERE {_AT_LEVEL}
ORDER BY next_at LIMIT 1 OFFSET :window
"""

# One seek a domain, however many recipients it has. The first row tells how many domains there are.
_DOMAINS = f"""
WITH RECURSIVE step (domain) AS MATERIALIZED (
    SELECT min(domain) FROM recipient {_OPEN_READY}
    UNION ALL
    SELECT (SELECT min(domain) FROM recipient {_OPEN_READY} AND domain > step.domain)
    FROM step WHERE step.domain IS NOT NULL
),
head (domain, due) AS MATERIALIZED (
    SELECT domain, (SELECT min(next_at) FROM recipient {_OPEN_READY} AND domain = step.domain)
    FROM step WHERE domain IS NOT NULL AND {_UNSKIPPED}
)
SELECT NULL, count(*) FROM step
UNION ALL SELECT * FROM (SELECT domain, due FROM head WHERE due <= :now ORDER BY due)
"""

_TAKE_DOMAIN = f"""
SELECT r.message, {RECIPIENT} FROM recipient r INDEXED BY recipient_open
WHERE r.state IN (0, 2, 5) AND r.domain = :domain AND {_AT_LEVEL} AND {_UNLEASED}
ORDER BY r.next_at LIMIT :limit
"""

# Domain by domain, from the index alone until a message is old enough.
_TAKE_OLD = f"""
SELECT r.message, {RECIPIENT} FROM json_each(:domains) d CROSS JOIN recipient r INDEXED BY recipient_open
ON r.state IN (0, 2, 5) AND r.state = 0 AND r.domain = d.value AND r.next_at <= :now AND r.message < :before
WHERE {_UNLEASED} LIMIT :limit
"""

# For operators and for whoever waits: the index of what is due has a part for each priority.
NEXT_DUE = f"""
SELECT min(at) FROM (
    SELECT (
        SELECT r.next_at FROM recipient r INDEXED BY recipient_due WHERE r.state = 0 AND r.priority = p.level AND
            NOT EXISTS (SELECT 1 FROM temp.lease l WHERE l.message = r.message AND l.n = r.n AND l.until > :now)
        ORDER BY r.next_at LIMIT 1
    ) AS at FROM ({_LEVELS}) p
    UNION ALL SELECT min(until) FROM temp.lease WHERE until > :now
)
"""
COUNT_DUE = f"""
SELECT coalesce(sum((
    SELECT count(*) FROM recipient INDEXED BY recipient_due WHERE state = 0 AND priority = p.level AND next_at <= ?
)), 0) FROM ({_LEVELS}) p
"""


@dataclass(frozen=True, slots=True)
class Lease:
    now: float
    until: float
    limit: int
    skip: frozenset[str]


@dataclass(frozen=True, slots=True)
class LeaseOld:
    now: float
    until: float
    limit: int
    domains: frozenset[str]
    accepted_before: float


class Due:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._domains = 0  # how many the last search from domain to domain met

    def first(self, want: Lease) -> list[Row]:
        """message and the columns of RECIPIENT, by priority."""
        found: list[Row] = []
        for (level,) in self._connection.execute(_LEVELS).fetchall():
            found += self._at(level, want, want.limit - len(found))
            if len(found) == want.limit:
                break
        return found

    def _at(self, level: int, want: Lease, limit: int) -> list[Row]:
        if not want.skip:
            given: dict[str, object] = {"now": want.now, "level": level, "limit": limit}
            return self._connection.execute(_TAKE, given).fetchall()
        window = limit + max(_WINDOW, _RECIPIENTS_PER_DOMAIN * self._domains)
        skip = json.dumps(sorted(want.skip))
        given = {"now": want.now, "level": level, "skip": skip, "window": window, "limit": limit}
        found = self._connection.execute(_TAKE_UNSKIPPED, given).fetchall()
        if len(found) == limit or self._connection.execute(_BEYOND, given).fetchone() is None:
            return found
        (_, self._domains), *domains = self._connection.execute(_DOMAINS, given).fetchall()
        found.clear()
        for domain, _ in domains:
            given.update(domain=domain, limit=limit - len(found))
            found += self._connection.execute(_TAKE_DOMAIN, given).fetchall()
            if len(found) == limit:
                break
        return found

    def old(self, want: LeaseOld) -> list[Row]:
        """As `first`, domain by domain."""
        given = {
            "domains": json.dumps(sorted(want.domains)),
            "now": want.now,
            "before": ident.first_at(want.accepted_before),
            "limit": want.limit,
        }
        return self._connection.execute(_TAKE_OLD, given).fetchall()
