"""Selector -> SQL. Pure: what the operator said becomes bound parameters and never text of the statement.

The condition is over the aliases `m` (message), `r` (recipient) and `l` (the live lease of the recipient, or NULLs).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtad.mail import ident
from mtad.mail.envelope import State
from mtad.mail.errorclass import CLASSES
from mtad.queue.store import Selector

IDS_MAX = 50_000
PATTERN_MAX = 1000
SUBJECTS_MAX = 100  # each is a term of the statement

Lookup = Callable[[int, int], Sequence[int]]
"""The numbers of existing messages in low <= number < end; two are enough."""

Value = int | float | str

_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_COMPARE = frozenset(("<", "<=", "=", ">=", ">"))
_STATES = {
    "active": (f"r.state = {State.READY:d} AND l.lease IS NOT NULL", False),
    "ready": (f"r.state = {State.READY:d} AND l.lease IS NULL AND r.next_at <= ?", True),
    "deferred": (f"r.state = {State.READY:d} AND l.lease IS NULL AND r.next_at > ?", True),
    "held": (f"r.state = {State.HELD:d}", False),
    "trashed": (f"r.state = {State.TRASHED:d}", False),
    "done": (f"r.state = {State.DONE:d}", False),
    "failed": (f"r.state = {State.FAILED:d}", False),
}
_ENDED = frozenset(("done", "failed"))
_TOUCHED = "EXISTS (SELECT 1 FROM touched t WHERE t.message = r.message AND t.n = r.n AND t.audit"
# What lies in the trash was last touched by what brought it there.
_LAST_PURGE = """
SELECT max(t.audit) FROM recipient x INDEXED BY recipient_open JOIN touched t ON t.message = x.message AND t.n = x.n
WHERE x.state IN (0, 2, 5) AND x.state = 5
"""


@dataclass(frozen=True, slots=True)
class Where:
    """A condition and its parameters. `low` and `high` bound the message numbers it can be true for."""

    sql: str
    params: tuple[Value, ...]
    low: int
    high: int


def where(what: Selector, now: float, lookup: Lookup) -> Where:
    """The condition a selector means at `now`. ValueError, with words for the operator, where it has no meaning."""
    terms: list[str] = []
    params: list[Value] = []
    low, high = 0, 1 << 60

    def add(term: str, *values: Value) -> None:
        terms.append(term)
        params.extend(values)

    if what.ids:
        messages, recipients = _ids(what.ids, lookup)
        numbers = [*messages, *(message for message, _ in recipients)]
        low, high = min(numbers, default=1), max(numbers, default=0)
        add("m.id IN (SELECT value FROM json_each(?))", json.dumps(numbers))
        if recipients:  # the text of the statement must not grow with them
            add(
                "(m.id IN (SELECT value FROM json_each(?))"
                " OR (m.id, r.n) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?)))",
                json.dumps(messages),
                json.dumps(recipients),
            )
    if what.sender == "<>":
        add("m.sender = ''")
    elif what.sender:
        add(*pattern("m.sender", what.sender))
    if what.recipient:
        add(*pattern("r.address", what.recipient))
    if what.domain:
        add(*pattern("r.domain", what.domain))
    if what.user:
        add(*pattern("m.user", what.user))
    if what.ip:
        add(*pattern("m.ip", what.ip))
    if what.states:
        add(*_states(what.states, now))
    if what.error.translate(_LOWER) in CLASSES:
        name = what.error.translate(_LOWER)
        # The first keeps from reading every recipient, the second is what is meant.
        add("m.id IN (SELECT message FROM recipient INDEXED BY recipient_error WHERE error <> '' AND error = ?)", name)
        add("r.error = ?", name)
    elif what.error:
        words = what.error.translate(_LOWER)
        add(
            "(r.last_code > 0 AND"
            " (CAST(r.last_code AS TEXT) = ? OR r.last_status = ? OR instr(lower(r.last_text), ?)))",
            words,
            words,
            words,
        )
    if what.older_s is not None:
        add("m.accepted_at <= ?", now - what.older_s)
    if what.newer_s is not None:
        add("m.accepted_at >= ?", now - what.newer_s)
    if what.size is not None:
        add(f"m.size_bytes {_operator(what.size[0])} ?", what.size[1])
    if what.attempts is not None:
        add(f"r.tries {_operator(what.attempts[0])} ?", what.attempts[1])
    if what.header_id:
        bare = what.header_id.removeprefix("<").removesuffix(">")
        add("m.header_id IN (?, ?)", bare, f"<{bare}>")
    if what.subjects:
        add(*_subjects(what.subjects))
    if what.not_subjects:
        term, *parts = _subjects(what.not_subjects)
        add(f"NOT {term}", *parts)
    if what.audits:
        add(f"{_TOUCHED} IN (SELECT value FROM json_each(?)))", json.dumps(what.audits))  # noqa: S608
    if what.last:
        add(f"r.state = {State.TRASHED:d} AND {_TOUCHED} = ({_LAST_PURGE}))")
    return Where(" AND ".join(terms) or "1", tuple(params), low, high)


def only_open(what: Selector) -> bool:
    """Whether no recipient that ended (DONE, FAILED) can be meant by the states of `select`."""
    return not _ENDED.intersection(what.states)


def recipient_id(text: str) -> tuple[int, int]:
    """(number of the message, n) of a full recipient id. ValueError."""
    message, _, n = text.partition(".")
    try:
        return ident.to_int(message), _count(n)
    except ValueError:
        raise ValueError(f"{text!r} is not the id of a recipient") from None


def _ids(texts: Sequence[str], lookup: Lookup) -> tuple[list[int], list[tuple[int, int]]]:
    if len(texts) > IDS_MAX:
        raise ValueError(f"more than {IDS_MAX} ids at once")
    messages: list[int] = []
    recipients: list[tuple[int, int]] = []
    for text in texts:
        message, dot, n = text.translate(_LOWER).partition(".")
        try:
            low, end = ident.prefix_range(message)
            number = _count(n) if dot else 0
        except ValueError:
            raise ValueError(f"{text[:100]!r} is not the id of a message or a recipient") from None
        found: Sequence[int] = (low,) if len(message) == ident.LENGTH else lookup(low, end)
        if len(found) > 1:
            one, other = ident.from_int(found[0]), ident.from_int(found[1])
            raise ValueError(f"{text!r} begins the ids of more than one message: {one} and {other}")
        if dot:
            recipients += [(message_number, number) for message_number in found]
        else:
            messages += found
    return messages, recipients


def _count(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 6):
        raise ValueError("not a number")
    return int(digits)


def pattern(column: str, text: str) -> tuple[str, str]:
    """Exact, "@domain", or a glob with * and ?, all case-insensitive in ASCII (as SQLite's lower and NOCASE are)."""
    if len(text) > PATTERN_MAX:
        raise ValueError(f"a pattern has at most {PATTERN_MAX} characters")
    if text[0] == "@":
        text = f"*{text}"
    elif "*" not in text and "?" not in text:
        return f"{column} = ? COLLATE NOCASE", text
    while "**" in text:  # means the same, and is slow to match
        text = text.replace("**", "*")
    return f"lower({column}) GLOB ?", text.translate(_LOWER).replace("[", "[[]")


def _states(words: Sequence[str], now: float) -> tuple[str, *tuple[Value, ...]]:
    terms: list[str] = []
    params: list[Value] = []
    for word in words:
        if word not in _STATES:
            raise ValueError(f"{word!r} is not a state: {', '.join(_STATES)}")
        term, timed = _STATES[word]
        terms.append(f"({term})")
        if timed:
            params.append(now)
    return f"({' OR '.join(terms)})", *params


def _subjects(parts: Sequence[str]) -> tuple[str, *tuple[Value, ...]]:
    """That one of these is in the subject."""
    if len(parts) > SUBJECTS_MAX:
        raise ValueError(f"more than {SUBJECTS_MAX} subjects at once")
    return f"({' OR '.join(['instr(lower(m.subject), ?)'] * len(parts))})", *(part.translate(_LOWER) for part in parts)


def _operator(text: str) -> str:
    if text not in _COMPARE:
        raise ValueError(f"{text!r} does not compare: <, <=, =, >= or >")
    return text
