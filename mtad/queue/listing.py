# ruff: noqa: S608  (the statements are put together from constants of ours)
"""The queue as the lines that go to the operator, page by page. A page looks at a few hundred recipients, or finds as
many: so long is the writer busy with it, and mail that comes in meanwhile is served in between."""

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from mtad.queue import effects, lines, selector
from mtad.queue.store import Closure, Listed, Place, Selector

PAGE = 500  # recipients; a message is not divided for it
RECIPIENTS_PER_ROW = 2000  # more of one message come in a further row

_LAST = (1 << 60, 0)
_OPEN_MESSAGES = "FROM message m INDEXED BY message_finished CROSS JOIN recipient r ON r.message = m.id"
_FROM_START = "m.finished_at IS NULL AND m.id >= :message AND (m.id > :message OR r.n >= :n)"

_END = f"SELECT r.message, r.n {_OPEN_MESSAGES} WHERE {_FROM_START} ORDER BY m.id, r.n LIMIT 1 OFFSET :recipients"


def _mailq(why: str, shut: str) -> str:
    return f"""
WITH shut (key, value) AS MATERIALIZED (SELECT key, value FROM json_each(:shut))
SELECT group_concat(line, char(10)) FROM (
    SELECT {lines.mailq(why)} AS line {_OPEN_MESSAGES} {lines.LEASES} {shut}
    WHERE {_FROM_START} AND m.id <= :end_message AND (m.id < :end_message OR r.n < :end_n)
        AND {effects.OPEN} AND (:uid IS NULL OR m.uid = :uid)
    GROUP BY m.id ORDER BY m.id
)
"""


_MAILQ = _mailq("''", "")
_MAILQ_SHUT = _mailq(
    "coalesce(u.value, d.value, '')",
    # Whom a suspension is of is kept in lower case.
    "LEFT JOIN shut d ON d.key = '@' || r.domain LEFT JOIN shut u ON m.user != '' AND u.key = lower(m.user)",
)


@dataclass(frozen=True, slots=True)
class SelectLines:
    what: Selector
    now: float
    start: Place
    limit: int | None
    waits: bool
    closed: tuple[Closure, ...]


class Listing:
    def __init__(self, connection: sqlite3.Connection, lookup: selector.Lookup) -> None:
        self._connection = connection
        self._lookup = lookup

    def mailq(self, ask: tuple[float, Place, int | None, Mapping[str, str]]) -> Listed:
        now, start, uid, shut = ask
        end = self._end(start)
        asked = {"message": start[0], "n": start[1], "now": now, "uid": uid, "shut": json.dumps(shut)}
        asked["end_message"], asked["end_n"] = end or _LAST
        (found,) = self._connection.execute(_MAILQ_SHUT if shut else _MAILQ, asked).fetchone()
        return Listed(found or "", end)

    def _end(self, start: Place) -> Place | None:
        """Where the page that begins there ends: before a message, if it holds a whole one; None: with the queue."""
        end = self._after(start, PAGE)
        if end is not None and end[0] == start[0]:
            end = self._after(start, RECIPIENTS_PER_ROW)
        return end if end is None or end[0] == start[0] else (end[0], 0)

    def _after(self, start: Place, recipients: int) -> Place | None:
        message, n = start
        asked = {"message": message, "n": n, "recipients": recipients}
        found: Place | None = self._connection.execute(_END, asked).fetchone()
        return found

    def select(self, ask: SelectLines) -> Listed:
        found = self._selected(ask, PAGE)
        if found.rest is not None and "\n" not in found.lines:  # it may be one message that is longer than a page
            found = self._selected(ask, RECIPIENTS_PER_ROW)
        return found

    def _selected(self, ask: SelectLines, page: int) -> Listed:
        where = selector.where(ask.what, ask.now, self._lookup)
        only_open = selector.only_open(ask.what)
        terms = [where.sql, *([] if ask.what.states else [effects.OPEN]), *(["m.finished_at IS NULL"] * only_open)]
        numbers = count()
        condition = re.sub(r"\?", lambda _: f":p{next(numbers)}", " AND ".join(terms))
        limit = page if ask.limit is None else min(page, ask.limit)
        message, n = ask.start
        asked = {f"p{number}": value for number, value in enumerate(where.params)}
        asked |= {"now": ask.now, "low": max(where.low, message), "high": where.high, "message": message, "n": n}
        asked |= {"limit": limit, "waits": ask.waits, "closed": json.dumps(ask.closed)}
        sql = lines.selected("INDEXED BY message_finished" if only_open else "", condition)
        text, recipients, message, last, n, waits = self._connection.execute(sql, asked).fetchone()
        pairs = tuple((domain, user) for domain, user in json.loads(waits))
        if recipients is None:
            return Listed("", None)
        if recipients < limit or limit == ask.limit:
            return Listed(text, None, recipients, pairs)
        before, _, _ = text.rpartition("\n")
        if before:  # of the last message there may be more
            return Listed(before, (message, 0), recipients - last, pairs)
        return Listed(text, (message, n + 1), recipients, pairs)
