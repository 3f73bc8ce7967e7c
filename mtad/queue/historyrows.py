# ruff: noqa: S608  (the statements are put together from constants of ours)
"""The past, read from the rows that the life of messages leaves. Runs in the writer's thread."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from mtad.mail import ident, logline
from mtad.mail.envelope import State
from mtad.mail.event import Event, Wanted
from mtad.queue import bulk, rows, selector
from mtad.queue.history import EVENTS_MAX, STEP_S, TALLIED, TALLIES_S, Report, Sent, Sought, Tally
from mtad.queue.rows import MESSAGE, MESSAGE_WIDTH, RECIPIENT

STEP_MESSAGES = 5000  # a question looks at so many at once
DOMAINS_MAX = 200  # of one message
_EVERY = 1 << 60

_ADDRESSED = "EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id AND ({condition}))"
_WORD = """
(m.header_id IN (:bare, :bracketed) OR m.ip = :bare OR m.sender = :bare COLLATE NOCASE OR EXISTS (
    SELECT 1 FROM recipient r WHERE r.message = m.id
    AND (r.address = :bare COLLATE NOCASE OR r.original = :bare COLLATE NOCASE)
))
"""
_FLOOR = "SELECT id FROM {table} WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?"
_ATTEMPT = "a.started_at, a.took_s, a.code, a.status, a.text, a.host, a.stage, a.cause, a.relay, a.tls, a.error"


@dataclass(frozen=True, slots=True)
class Asked:
    """One step of a search."""

    sought: Sought
    before: int
    limit: int


@dataclass(frozen=True, slots=True)
class Looked:
    """The same for events."""

    wanted: Wanted
    before: int
    limit: int


class HistoryRows:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, ask: Asked) -> tuple[Sequence[str], int]:
        condition, given = _condition(ask.sought)
        low, after = self._step("message", ask.before, ident.first_at(ask.sought.since_at))
        found = self._connection.execute(
            f"SELECT m.id FROM message m WHERE m.id >= :low AND m.id < :before AND {condition}"
            " ORDER BY m.id DESC LIMIT :limit",
            {**given, "low": low, "before": ask.before or _EVERY, "limit": ask.limit},
        ).fetchall()
        return [ident.from_int(number) for (number,) in found], after

    def sent(self, ask: Asked) -> tuple[Sequence[Sent], int]:
        condition, given = _condition(ask.sought)
        low, after = self._step("message", ask.before, ident.first_at(ask.sought.since_at))
        found = self._connection.execute(
            "SELECT m.id, m.accepted_at, m.size_bytes, m.sender, m.ip, m.source, m.user, m.subject FROM message m"
            f" WHERE m.id >= :low AND m.id < :before AND {condition} ORDER BY m.id DESC LIMIT :limit",
            {**given, "low": low, "before": ask.before or _EVERY, "limit": ask.limit},
        ).fetchall()
        sent = []
        for number, at, size_bytes, sender, ip, source, user, subject in found:
            states, domains = self._outcomes(number)
            message_id = ident.from_int(number)
            sent.append(Sent(message_id, at, size_bytes, sender, ip, source, user, subject, states, domains))
        return sent, after

    def _outcomes(self, number: int) -> tuple[dict[str, int], frozenset[str]]:
        states: dict[str, int] = {}
        domains: set[str] = set()
        for state, domain, count in self._connection.execute(
            "SELECT state, domain, count(*) FROM recipient WHERE message = ? AND domain <> '' GROUP BY state, domain",
            (number,),
        ):
            name = "waiting" if state == State.READY else State(state).name.lower()
            states[name] = states.get(name, 0) + count
            if len(domains) < DOMAINS_MAX:
                domains.add(domain)
        return states, frozenset(domains)

    def accepted(self, look: Looked) -> tuple[Sequence[Event], int]:
        condition, given = _wanted(look.wanted)
        low, after = self._step("message", look.before, ident.first_at(look.wanted.since_at))
        found = self._connection.execute(
            f"SELECT {MESSAGE}, count(r.n), min(r.address) FROM message m JOIN recipient r ON r.message = m.id"
            f" WHERE m.id >= :low AND m.id < :before AND {condition} GROUP BY m.id ORDER BY m.id DESC LIMIT :limit",
            {**given, "low": low, "before": look.before or _EVERY, "limit": look.limit},
        ).fetchall()
        events = []
        for row in found:
            message, peer = rows.message_of(row), rows.message_of(row).peer
            line = logline.accepted(message, row[MESSAGE_WIDTH])
            events.append(
                Event(
                    message.accepted_at,
                    "accepted",
                    line,
                    message.id,
                    message.sender,
                    (row[MESSAGE_WIDTH + 1],),
                    peer.ip,
                    peer.user,
                )
            )
        return events, after

    def attempts(self, look: Looked) -> tuple[Sequence[Event], int]:
        condition, given = _wanted(look.wanted, of_one="r.address")
        low, after = self._step("attempt", look.before, 0)
        found = self._connection.execute(
            f"SELECT {MESSAGE}, {RECIPIENT}, a.n, {_ATTEMPT} FROM attempt a CROSS JOIN message m ON m.id = a.message"
            " CROSS JOIN recipient r ON r.message = a.message AND r.n = a.n"
            f" WHERE a.id >= :low AND a.id < :before AND a.started_at >= :since AND {condition}"
            " ORDER BY a.id DESC LIMIT :limit",
            {
                **given,
                "low": low,
                "before": look.before or _EVERY,
                "since": look.wanted.since_at,
                "limit": look.limit,
            },
        ).fetchall()
        events = [_attempt(row) for row in found]
        if after and look.wanted.since_at:
            (oldest,) = self._connection.execute("SELECT started_at FROM attempt WHERE id = ?", (low,)).fetchone()
            after = after if oldest >= look.wanted.since_at else 0
        return events, after

    def others(self, look: Looked) -> Sequence[Event]:
        """Reports, the audit trail, and what was kept."""
        return sorted(
            [*self._kept(look), *self._reports(look), *self._operators(look)],
            key=lambda event: event.at,
            reverse=True,
        )[: look.limit]

    def _kept(self, look: Looked) -> Sequence[Event]:
        wanted, terms, params = look.wanted, ["e.at >= ?"], list[object]([look.wanted.since_at])
        if wanted.kinds:
            terms.append(f"e.kind IN ({', '.join('?' * len(wanted.kinds))})")
            params += sorted(wanted.kinds)
        for column, text in (
            ("e.sender", wanted.sender),
            ("e.recipient", wanted.to),
            ("e.user", wanted.user),
            ("e.ip", wanted.ip),
        ):
            if text == "<>":
                terms.append("e.sender = '' AND e.message <> ''")
            elif text:
                term, value = selector.pattern(column, text)
                terms.append(term)
                params.append(value)
        found = self._connection.execute(
            "SELECT e.at, e.kind, e.text, e.message, e.sender, e.recipient, e.ip, e.user FROM event e"
            f" WHERE {' AND '.join(terms)} ORDER BY e.id DESC LIMIT ?",
            [*params, look.limit],
        )
        return [
            Event(at, kind, text, message, sender, (to,) if to else (), ip, user)
            for at, kind, text, message, sender, to, ip, user in found
        ]

    def _reports(self, look: Looked) -> Sequence[Event]:
        wanted = look.wanted
        if (wanted.kinds and "report" not in wanted.kinds) or wanted.user or wanted.ip or wanted.sender:
            return ()
        found = self._connection.execute(
            "SELECT p.of, p.message, m.accepted_at, r.address FROM report p CROSS JOIN message m ON m.id = p.message"
            " CROSS JOIN recipient r ON r.message = m.id AND r.n = 1 WHERE p.message >= ? ORDER BY p.message DESC"
            " LIMIT ?",
            (ident.first_at(wanted.since_at), look.limit),
        ).fetchall()
        events = [
            Event(
                at,
                "report",
                logline.report(ident.from_int(of), ident.from_int(number), to),
                message=ident.from_int(of),
                to=(to,),
            )
            for of, number, at, to in found
        ]
        return [event for event in events if wanted.meets(event)]

    def _operators(self, look: Looked) -> Sequence[Event]:
        wanted = look.wanted
        if (wanted.kinds and "operator" not in wanted.kinds) or wanted.user or wanted.ip or wanted.sender or wanted.to:
            return ()
        found = self._connection.execute(
            "SELECT at, who, uid, operation, selector, reason, changed FROM audit WHERE at >= ?"
            " ORDER BY id DESC LIMIT ?",
            (wanted.since_at, look.limit),
        )
        return [
            Event(at, "operator", logline.operator(f"{who}({uid})" if who else f"uid={uid}", *rest))
            for at, who, uid, *rest in found
        ]

    def keep(self, asked: tuple[Sequence[Event], Tally]) -> None:
        events, tally = asked
        one = self._connection.execute
        bulk.insert(
            self._connection,
            "event",
            [(None, e.at, e.kind, e.text, e.message, e.sender, e.to[0] if e.to else "", e.ip, e.user) for e in events],
        )
        for kind in sorted({event.kind for event in events}):
            one(
                "DELETE FROM event WHERE kind = ?1 AND id <="
                " (SELECT id FROM event WHERE kind = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                (kind, EVENTS_MAX),
            )
        if any(getattr(tally, name) for name in TALLIED):
            adding = ", ".join(f"{name} = {name} + excluded.{name}" for name in TALLIED)
            one(
                f"INSERT INTO tally VALUES (?{', ?' * len(TALLIED)}) ON CONFLICT (at) DO UPDATE SET {adding}",
                (tally.at // STEP_S * STEP_S, *(getattr(tally, name) for name in TALLIED)),
            )
            one("DELETE FROM tally WHERE at < ?", (tally.at - TALLIES_S,))

    def tallies(self, since_at: float) -> Sequence[Tally]:
        found = self._connection.execute(
            f"SELECT at, {', '.join(TALLIED)} FROM tally WHERE at + ? > ? ORDER BY at", (STEP_S, since_at)
        )
        return [Tally(*row) for row in found]

    def reports(self, message_id: str) -> Sequence[Report]:
        found = self._connection.execute(
            f"SELECT p.message, m.accepted_at, {RECIPIENT} FROM report p LEFT JOIN message m ON m.id = p.message"
            " LEFT JOIN recipient r ON r.message = p.message WHERE p.of = ? ORDER BY p.message, r.n",
            (ident.to_int(message_id),),
        )
        reports = []
        for number, at, *row in found:
            name = ident.from_int(number)
            if at is None or row[0] is None:
                reports.append(Report(name, "", at or 0.0, "forgotten", ""))
                continue
            recipient = rows.recipient_of(name, tuple(row), leased=False)
            state = "waiting" if recipient.state is State.READY else recipient.state.name.lower()
            reports.append(Report(name, recipient.address, at, state, str(recipient.last or "")))
        return reports

    def report_of(self, message_id: str) -> str:
        found = self._connection.execute(
            "SELECT of FROM report WHERE message = ? LIMIT 1", (ident.to_int(message_id),)
        ).fetchone()
        return ident.from_int(found[0]) if found else ""

    def _step(self, table: str, before: int, floor: int) -> tuple[int, int]:
        """The numbers that this step looks at are at least the first; the next step begins below the second, if any."""
        found = self._connection.execute(_FLOOR.format(table=table), (before or _EVERY, STEP_MESSAGES - 1)).fetchone()
        if found is None or found[0] <= floor:
            return floor, 0
        return found[0], found[0]


def _attempt(row: rows.Row) -> Event:
    message = rows.message_of(row)
    of_recipient = row[MESSAGE_WIDTH:]
    recipient = rows.recipient_of(message.id, of_recipient, leased=False)
    attempt = rows.attempt_of(row[-12:])
    # What it left the recipient in is not kept for each try; that of the last one is known.
    reply = attempt.reply
    ended = State.DONE if reply.ok else State.FAILED if reply.permanent else State.READY
    status, result = logline.outcome(reply, ended)
    line = logline.attempt(message, recipient, attempt, status, attempt.error)
    at, peer = attempt.started_at + attempt.took_s, message.peer
    return Event(at, result, line, message.id, message.sender, (recipient.address,), peer.ip, peer.user)


def _condition(sought: Sought) -> tuple[str, dict[str, object]]:
    terms, given = ["m.accepted_at >= :since"], dict[str, object](since=sought.since_at)
    if sought.word:
        bare = sought.word.removeprefix("<").removesuffix(">")
        given.update(bare=bare, bracketed=f"<{bare}>")
        terms.append(_WORD)
    if sought.subject:
        given["subject"] = sought.subject.lower()
        terms.append("instr(lower(m.subject), :subject)")
    _addresses(terms, given, sought.sender, sought.recipient, sought.user, sought.ip)
    return " AND ".join(terms), given


def _wanted(wanted: Wanted, of_one: str = "") -> tuple[str, dict[str, object]]:
    terms, given = ["m.accepted_at >= 0"], dict[str, object]()
    _addresses(terms, given, wanted.sender, wanted.to, wanted.user, wanted.ip, of_one)
    return " AND ".join(terms), given


def _addresses(
    terms: list[str], given: dict[str, object], sender: str, recipient: str, user: str, ip: str, of_one: str = ""
) -> None:
    if sender == "<>":
        terms.append("m.sender = ''")
        sender = ""
    for name, column, text in (("sender", "m.sender", sender), ("user", "m.user", user), ("ip", "m.ip", ip)):
        if text:
            term, given[name] = selector.pattern(column, text)
            terms.append(term.replace("?", f":{name}"))
    if recipient:
        term, given["recipient"] = selector.pattern(of_one or "r.address", recipient)
        term = term.replace("?", ":recipient")
        if not of_one:
            term = _ADDRESSED.format(condition=f"{term} OR {term.replace('r.address', 'r.original')}")
        terms.append(term)
