# ruff: noqa: S608  (the statements are put together from constants of ours)
"""The queue as the lines that go to the operator, page by page. A page looks at a few hundred recipients, or finds as
many: so long is the writer busy with it, and mail that comes in meanwhile is served in between."""

import json
import re
import sqlite3
from dataclasses import dataclass
from itertools import count
from typing import Any

from mtad.queue import effects, lines, selector
from mtad.queue.store import Listed, Place, Selector, Why

PAGE = 500  # recipients; a message is not divided for it
RECIPIENTS_PER_ROW = 2000  # more of one message come in a further row

_LAST = (1 << 60, 0)
_OPEN_MESSAGES = "FROM message m INDEXED BY message_finished CROSS JOIN recipient r ON r.message = m.id"
_FROM_START = "m.finished_at IS NULL AND m.id >= :message AND (m.id > :message OR r.n >= :n)"

_END = f"SELECT r.message, r.n {_OPEN_MESSAGES} WHERE {_FROM_START} ORDER BY m.id, r.n LIMIT 1 OFFSET :recipients"


_OF_PAGE = f"{_FROM_START} AND m.id <= :end_message AND (m.id < :end_message OR r.n < :end_n) AND {effects.OPEN}"


def _mailq(*, whys: bool) -> str:
    return f"""
{f"WITH {lines.WHYS}" if whys else ""}
SELECT group_concat(line, char(10)) FROM (
    SELECT {lines.mailq(whys=whys)} AS line {_OPEN_MESSAGES} {lines.LEASES} {lines.OF_WHYS if whys else ""}
    WHERE {_OF_PAGE} AND (:uid IS NULL OR m.uid = :uid) GROUP BY m.id ORDER BY m.id
)
"""


_MAILQ = _mailq(whys=False)
_MAILQ_WHYS = _mailq(whys=True)
_MAILQ_WAITING = f"SELECT {lines.WAITING} {_OPEN_MESSAGES} {lines.LEASES} WHERE {_OF_PAGE}"


@dataclass(frozen=True, slots=True)
class MailqLines:
    now: float
    start: Place
    uid: int | None = None
    whys: tuple[Why, ...] = ()
    busy: str = ""


@dataclass(frozen=True, slots=True)
class SelectLines:
    what: Selector
    now: float
    start: Place
    limit: int | None
    whys: tuple[Why, ...] = ()
    busy: str = ""


class Listing:
    def __init__(self, connection: sqlite3.Connection, lookup: selector.Lookup) -> None:
        self._connection = connection
        self._lookup = lookup

    def mailq(self, ask: MailqLines) -> Listed:
        end = self._end(ask.start)
        asked = _page(ask, end) | {"uid": ask.uid, "whys": json.dumps(ask.whys), "busy": ask.busy}
        (found,) = self._connection.execute(_MAILQ_WHYS if ask.whys else _MAILQ, asked).fetchone()
        return Listed(found or "", end)

    def waiting(self, ask: MailqLines | SelectLines) -> tuple[tuple[str, str], ...]:
        if isinstance(ask, MailqLines):
            (found,) = self._connection.execute(_MAILQ_WAITING, _page(ask, self._end(ask.start))).fetchone()
        else:
            found, recipients, one = self._waiting(ask, PAGE)
            if one and recipients == PAGE:
                found, _, _ = self._waiting(ask, RECIPIENTS_PER_ROW)
        return tuple((domain, user) for domain, user in json.loads(found))

    def _waiting(self, ask: SelectLines, page: int) -> tuple[str, int, int]:
        index, condition, asked = self._condition(ask, page)
        found: tuple[str, int, int] = self._connection.execute(lines.waiting(index, condition), asked).fetchone()
        return found

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
        index, condition, asked = self._condition(ask, page)
        asked |= {"uid": None, "whys": json.dumps(ask.whys), "busy": ask.busy}
        text, recipients, message, last, n = self._connection.execute(
            lines.selected(index, condition), asked
        ).fetchone()
        if recipients is None:
            return Listed("", None)
        if recipients < asked["limit"] or asked["limit"] == ask.limit:
            return Listed(text, None, recipients)
        before, _, _ = text.rpartition("\n")
        if before:  # of the last message there may be more
            return Listed(before, (message, 0), recipients - last)
        return Listed(text, (message, n + 1), recipients)

    def _condition(self, ask: SelectLines, page: int) -> tuple[str, str, dict[str, Any]]:
        """The index to use, what a recipient of the page must be, and its parameters."""
        where = selector.where(ask.what, ask.now, self._lookup)
        only_open = selector.only_open(ask.what)
        terms = [where.sql, *([] if ask.what.states else [effects.OPEN]), *(["m.finished_at IS NULL"] * only_open)]
        numbers = count()
        condition = re.sub(r"\?", lambda _: f":p{next(numbers)}", " AND ".join(terms))
        message, n = ask.start
        asked: dict[str, Any] = {f"p{number}": value for number, value in enumerate(where.params)}
        asked |= {"now": ask.now, "low": max(where.low, message), "high": where.high, "message": message, "n": n}
        asked |= {"limit": _limit(ask, page)}
        return "INDEXED BY message_finished" if only_open else "", condition, asked


def _page(ask: MailqLines, end: Place | None) -> dict[str, Any]:
    (message, n), (end_message, end_n) = ask.start, end or _LAST
    return {"message": message, "n": n, "end_message": end_message, "end_n": end_n, "now": ask.now}


def _limit(ask: SelectLines, page: int) -> int:
    return page if ask.limit is None else min(page, ask.limit)
