"""What operators see and change: select, change, stats, sweep. Runs in the writer's thread."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtad.mail import ident
from mtad.mail.envelope import Attempt, Message, State
from mtad.queue import bulk, effects, groups, keys, rows, selector, trail
from mtad.queue.audit import Changed, Entry
from mtad.queue.cycle import finish
from mtad.queue.due import COUNT_DUE, NEXT_DUE
from mtad.queue.rows import MESSAGE, MESSAGE_WIDTH, RECIPIENT
from mtad.queue.store import Bundle, BundleBy, Change, Group, GroupBy, Preview, Row, Selector, SortBy, Stats

DOMAINS_MAX = 20

# `m`, `r` and the live lease `l`, in the order of recipient ids. The first parameter is the time.
_ROWS = """
FROM message m {index} CROSS JOIN recipient r ON r.message = m.id
LEFT JOIN temp.lease l ON l.message = r.message AND l.n = r.n AND l.until > ?
WHERE m.id BETWEEN ? AND ? AND {where}
"""
_IN_ORDER = "ORDER BY m.id, r.n LIMIT ?"
_OF_OPEN_MESSAGES = "INDEXED BY message_finished"

_OPEN = effects.OPEN


@dataclass(frozen=True, slots=True)
class Select:
    what: Selector
    now: float
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class ChangeAll:
    what: Selector
    change: Change
    now: float
    limit: int = 0
    entry: Entry | None = None  # None: no operator did it, but the daemon, which leaves no trail
    always: bool = False  # the operation is worth a line even if it changes no recipient
    rows: int = 0  # of a preview


@dataclass(frozen=True, slots=True)
class BundleAll:
    what: Selector
    by: BundleBy
    now: float
    limit: int


@dataclass(frozen=True, slots=True)
class SortAll:
    what: Selector
    by: SortBy
    now: float
    down: bool
    limit: int


@dataclass(frozen=True, slots=True)
class Sweep:
    now: float
    history_s: float
    trash_s: float
    limit: int


class Operate:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def select(self, ask: Select) -> Sequence[Row]:
        where = selector.where(ask.what, ask.now, self.lookup)
        low, params = where.low, list(where.params)
        terms = [where.sql]
        if not ask.what.states:
            terms.append(_OPEN)
        if ask.after:
            message, n = selector.recipient_id(ask.after)
            low = max(low, message)
            terms.append("(m.id > ? OR r.n > ?)")
            params += [message, n]
        sql = self._rows(terms, only_open=selector.only_open(ask.what))
        return self._found(sql, [ask.now, low, where.high, *params, ask.limit])

    def change(self, ask: ChangeAll) -> Changed:
        """One transaction: what is selected, its line in the trail, and the change."""
        recipients, active = self._pick(ask)
        if not recipients and not ask.always:
            return Changed()
        one, audit = self._connection.execute, 0
        if ask.entry is not None:
            audit = trail.record(self._connection, ask.entry, recipients, ask.now)
            one(_TOUCH.format(place=effects.place(ask.change)), (audit,))
        changes, params = effects.changes(ask.change, ask.now)
        one(
            f"UPDATE recipient SET {changes} WHERE (message, n) IN (SELECT message, n FROM temp.picked)",  # noqa: S608
            params,
        )
        # One whose time is over too: its owner may come and renew it.
        one(
            "UPDATE temp.lease SET changed = 1 WHERE EXISTS"
            " (SELECT 1 FROM temp.picked p WHERE p.message = lease.message AND p.n = lease.n AND p.state = 0)"
        )
        return Changed(recipients, active, audit)

    def pick(self, ask: ChangeAll) -> tuple[int, int]:
        """Put what such a change would be about into temp.picked, for whoever does more with it in this transaction."""
        return self._pick(ask)

    def preview(self, ask: ChangeAll) -> Preview:
        recipients, active = self._pick(ask)
        if not recipients or not ask.rows:
            return Preview(recipients, active, ())
        return Preview(recipients, active, self._found(_PICKED_ROWS, (ask.now, ask.rows)))

    def bundles(self, ask: BundleAll) -> Sequence[Bundle]:
        where = selector.where(ask.what, ask.now, self.lookup)
        terms = [where.sql] if ask.what.states else [where.sql, _OPEN]
        sql = self._rows(terms, only_open=selector.only_open(ask.what), ordered=False)
        found = self._connection.execute(
            "SELECT key, sum(count), count(*), sum(size), min(at) FROM"  # noqa: S608
            f" (SELECT {_KEYS[ask.by]} AS key, count(*) AS count, m.size_bytes AS size, m.accepted_at AS at"
            f" {sql} GROUP BY key, m.id) GROUP BY key ORDER BY 2 DESC, key LIMIT ?",
            (ask.now, where.low, where.high, *where.params, ask.limit),
        )
        return [Bundle(*row) for row in found]

    def sort(self, ask: SortAll) -> Sequence[str]:
        where = selector.where(ask.what, ask.now, self.lookup)
        terms = [where.sql] if ask.what.states else [where.sql, _OPEN]
        sql = self._rows(terms, only_open=selector.only_open(ask.what), ordered=False)
        order = f"{_ORDERS[ask.by]} {'DESC' if ask.down else 'ASC'}, m.id, r.n"
        found = self._connection.execute(
            f"SELECT r.message, r.n {sql} ORDER BY {order} LIMIT ?",
            (ask.now, where.low, where.high, *where.params, ask.limit),
        )
        return [f"{ident.from_int(message)}.{n}" for message, n in found]

    def _pick(self, ask: ChangeAll) -> tuple[int, int]:
        """Put what the change is about into temp.picked. How many, and how many of them are leased."""
        if ask.what.empty:
            raise ValueError("a change needs to be told which recipients: no selector was given")
        where = selector.where(ask.what, ask.now, self.lookup)
        sql = self._rows([where.sql, effects.allowed(ask.change)], only_open=True)
        one = self._connection.execute
        one("DELETE FROM temp.picked")
        one(
            "INSERT INTO temp.picked SELECT r.message, r.n, r.state, r.next_at, r.address, r.domain,"
            f" r.state = 0 AND l.lease IS NOT NULL {sql}",
            (ask.now, where.low, where.high, *where.params, ask.limit or -1),
        )
        recipients, active = one("SELECT count(*), coalesce(sum(leased), 0) FROM temp.picked").fetchone()
        return recipients, active

    def _found(self, sql: str, params: Sequence[object]) -> Sequence[Row]:
        """Rows of messages and their recipients; `sql` is from FROM on."""
        found: list[Row] = []
        last: Message | None = None
        last_number = -1
        for row in self._connection.execute(f"SELECT {MESSAGE}, {RECIPIENT}, l.lease IS NOT NULL {sql}", params):
            if last is None or row[0] != last_number:
                last, last_number = rows.message_of(row), row[0]
            found.append(Row(last, rows.recipient_of(last.id, row[MESSAGE_WIDTH:], leased=bool(row[-1]))))
        return found

    def bring_forward(self, times: tuple[float, float]) -> int:
        now, latest = times
        put_off = self._connection.execute(
            "UPDATE recipient SET next_at = ?1 WHERE (message, n) IN"
            " (SELECT message, n FROM recipient INDEXED BY recipient_due"
            " WHERE state = 0 AND next_at > ?1 AND (tries > 0 OR last_code > 0))",
            (latest,),
        )
        fresh = self._connection.execute(
            "UPDATE recipient SET next_at = ?1 WHERE (message, n) IN"
            " (SELECT r.message, r.n FROM recipient r INDEXED BY recipient_due CROSS JOIN message m ON m.id = r.message"
            " WHERE r.state = 0 AND r.next_at > ?1 AND r.tries = 0 AND r.last_code = 0"
            " AND m.accepted_at > ?1 AND m.hold_until = 0)",
            (now,),
        )
        return put_off.rowcount + fresh.rowcount

    def attempts(self, message_id: str) -> Sequence[Attempt]:
        found = self._connection.execute(
            "SELECT n, started_at, took_s, code, status, text, host, stage, cause, relay, tls, error"
            " FROM attempt WHERE message = ? ORDER BY id",
            (ident.to_int(message_id),),
        )
        return [rows.attempt_of(row) for row in found]

    def body(self, message_id: str) -> tuple[bytes, bytes | None, int, bytes] | None:
        """(head, the octets after it or None for a file, size of both, digest of both)."""
        found: tuple[bytes, bytes | None, int, bytes] | None = self._connection.execute(
            "SELECT CAST(b.head AS BLOB), CAST(b.data AS BLOB), m.size_bytes, m.digest"
            " FROM body b JOIN message m ON m.id = b.id WHERE b.id = ?",
            (ident.to_int(message_id),),
        ).fetchone()
        return found

    def next_due(self, now: float) -> float | None:
        (due,) = self._connection.execute(NEXT_DUE, {"now": now}).fetchone()
        return None if due is None else float(due)

    def newest(self, _: None) -> str:
        (number,) = self._connection.execute("SELECT max(id) FROM message").fetchone()
        return "" if number is None else ident.from_int(number)

    def stats(self, now: float) -> Stats:
        one = self._connection.execute
        states: dict[int, tuple[int, int]] = {}
        domains: list[tuple[str, int, float]] = []
        for state, domain, count, oldest, accepted_at in one(_TOTALS, (DOMAINS_MAX,)):
            if state is None:
                domains.append((domain, count, accepted_at))
            else:
                states[state] = count, oldest
        waiting, oldest_ready = states.get(State.READY, (0, None))
        held, oldest_held = states.get(State.HELD, (0, None))
        trashed, _ = states.get(State.TRASHED, (0, None))
        (due,) = one(COUNT_DUE, (now,)).fetchone()
        active, active_due = one(
            "SELECT count(*), coalesce(sum(r.next_at <= ?1), 0) FROM temp.lease l CROSS JOIN recipient r"
            " ON r.message = l.message AND r.n = l.n WHERE l.until > ?1 AND r.state = 0",
            (now,),
        ).fetchone()
        messages, size_bytes = one(
            "SELECT count(*), coalesce(sum(size_bytes), 0) FROM message INDEXED BY message_finished"
            " WHERE finished_at IS NULL"
        ).fetchone()
        if trashed:  # messages of which nothing but trash is left are not counted
            gone, gone_bytes = one(
                "SELECT count(*), coalesce(sum(m.size_bytes), 0) FROM (SELECT DISTINCT message FROM recipient"
                " INDEXED BY recipient_open WHERE state IN (0, 2, 5) AND state = 5) t CROSS JOIN message m"
                " ON m.id = t.message WHERE NOT EXISTS"
                " (SELECT 1 FROM recipient r WHERE r.message = t.message AND r.state IN (0, 2))"
            ).fetchone()
            messages, size_bytes = messages - gone, size_bytes - gone_bytes
        history = dict(
            one(
                "SELECT state, count(*) FROM recipient INDEXED BY recipient_history"
                " WHERE state IN (3, 4) GROUP BY state"
            )
        )
        oldest = min((number for number in (oldest_ready, oldest_held) if number is not None), default=None)
        return Stats(
            messages=messages,
            size_bytes=size_bytes,
            active=active,
            ready=due - active_due,
            deferred=waiting - due - (active - active_due),
            held=held,
            trashed=trashed,
            done=history.get(State.DONE, 0),
            failed=history.get(State.FAILED, 0),
            oldest_at=None if oldest is None else self._accepted_at(oldest),
            domains=tuple(domains),
        )

    def groups(self, by: GroupBy) -> Sequence[Group]:
        return groups.grouped(self._connection, by)

    def sweep(self, ask: Sweep) -> tuple[int, dict[str, bool]]:
        """(messages forgotten, id -> whether a file may go now of each message whose body was dropped)."""
        one = self._connection.execute
        trash = [
            number
            for (number,) in one(
                "SELECT DISTINCT message FROM recipient INDEXED BY recipient_open WHERE state IN (0, 2, 5)"
                " AND state = 5 AND next_at <= ? AND message NOT IN (SELECT message FROM temp.lease WHERE until > ?)"
                " LIMIT ?",
                (ask.now - ask.trash_s, ask.now, ask.limit),
            )
        ]
        bulk.by_keys(
            self._connection,
            "DELETE FROM recipient WHERE state = 5 AND next_at <= ? AND message IN ({keys})",
            trash,
            before=(ask.now - ask.trash_s,),
        )
        bulk.by_keys(
            self._connection,
            "DELETE FROM attempt WHERE message IN ({keys}) AND NOT EXISTS"
            " (SELECT 1 FROM recipient r WHERE r.message = attempt.message AND r.n = attempt.n)",
            trash,
        )
        closed = finish(self._connection, trash, ask.now)
        kept = {number for (number,) in bulk.by_keys(self._connection, _WITH_RECIPIENTS, trash)}
        old = [number for number in trash if number not in kept]
        old += [
            number
            for (number,) in one(
                "SELECT id FROM message INDEXED BY message_finished WHERE finished_at <= ?"
                " ORDER BY finished_at LIMIT ?",
                (ask.now - ask.history_s, ask.limit - len(old)),
            )
            if number not in closed
        ]
        bulk.by_keys(self._connection, "DELETE FROM message WHERE id IN ({keys})", old)
        keys.sweep(self._connection, ask.now, ask.limit)
        return len(old), {ident.from_int(number): is_file for number, is_file in closed.items()}

    def without_row(self, message_ids: Sequence[str]) -> Sequence[str]:
        """Which of these have no body file according to the database."""
        numbers = [ident.to_int(message_id) for message_id in message_ids]
        named = bulk.by_keys(self._connection, "SELECT id FROM body WHERE data IS NULL AND id IN ({keys})", numbers)
        return sorted(set(message_ids).difference(ident.from_int(number) for (number,) in named))

    def _rows(self, terms: Sequence[str], *, only_open: bool, ordered: bool = True) -> str:
        if only_open:
            terms = ["m.finished_at IS NULL", *terms]
        sql = _ROWS.format(index=_OF_OPEN_MESSAGES if only_open else "", where=" AND ".join(terms))
        return sql + _IN_ORDER if ordered else sql

    def lookup(self, low: int, end: int) -> Sequence[int]:
        """The numbers of messages in low <= number < end; two are enough."""
        found = self._connection.execute("SELECT id FROM message WHERE id >= ? AND id < ? LIMIT 2", (low, end))
        return [number for (number,) in found]

    def _accepted_at(self, number: int) -> float | None:
        row = self._connection.execute("SELECT accepted_at FROM message WHERE id = ?", (number,)).fetchone()
        return None if row is None else float(row[0])


# By state: the number and the oldest message. By domain, most first: the open ones, and when the oldest was accepted.
_TOTALS = """
WITH part (state, domain, count, oldest) AS MATERIALIZED (
    SELECT state, domain, count(*), min(message) FROM recipient INDEXED BY recipient_open
    WHERE state IN (0, 2, 5) GROUP BY state, domain
)
SELECT state, NULL, sum(count), min(oldest), NULL FROM part GROUP BY state
UNION ALL
SELECT * FROM (
    SELECT NULL, d.domain, d.count, d.oldest, m.accepted_at FROM (
        SELECT domain, sum(count) AS count, min(oldest) AS oldest FROM part WHERE state IN (0, 2)
        GROUP BY domain ORDER BY count DESC, domain LIMIT ?
    ) d CROSS JOIN message m ON m.id = d.oldest ORDER BY d.count DESC, d.domain
)
"""

_WITH_RECIPIENTS = "SELECT DISTINCT message FROM recipient WHERE message IN ({keys})"


_TOUCH = "INSERT INTO touched SELECT message, n, ?, state, next_at, {place} FROM temp.picked"
_PICKED_ROWS = """
FROM temp.picked p CROSS JOIN message m ON m.id = p.message
CROSS JOIN recipient r ON r.message = p.message AND r.n = p.n
LEFT JOIN temp.lease l ON l.message = r.message AND l.n = r.n AND l.until > ? ORDER BY p.message, p.n LIMIT ?
"""

_KEYS: Mapping[BundleBy, str] = {
    "all": "''",
    "domain": "r.domain",
    "sender": "m.sender",
    "user": "m.user",
    "ip": "m.ip",
    "error": "r.error",
    "subject": "m.subject",
}
_ORDERS: Mapping[SortBy, str] = {
    "age": "-m.accepted_at",
    "size": "m.size_bytes",
    "tries": "r.tries",
    "next": "r.next_at",
    "from": "lower(m.sender)",
    "to": "lower(r.address)",
    "domain": "r.domain",
}
