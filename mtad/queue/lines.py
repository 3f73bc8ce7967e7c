# ruff: noqa: S608  (the statements are put together from constants of ours)
"""What the operator sees of the queue as lines of JSON, as SQL: a page in one step of SQLite, and so without the
interpreter lock. Text, no database.

`m`, `r` and `l` are a message, a recipient and its live lease, `:now` is the time. Python writes the same objects where
they are few (`mtad.control.handlers.rows`); the tests hold one against the other.
"""

from collections.abc import Mapping, Sequence

from mtad.mail import ident
from mtad.mail.envelope import TIME_MAX, State

REASON_MAX = 1000  # characters of what the other side said

# Postfix's name of the queue, by the display word of a recipient's state. A message has that of its most alive one.
QUEUE_NAMES: Mapping[str, str] = {"active": "active", "ready": "incoming", "deferred": "deferred", "held": "hold"}
STATES: Sequence[str] = ("active", "ready", "deferred", "held", "trashed", "failed", "done")  # most alive first
# What a stage of the dialogue is called where a reply to it is told.
COMMANDS: Mapping[str, str] = {
    "mail": "MAIL FROM",
    "rcpt": "RCPT TO",
    "data": "DATA",
    "final": "end of DATA",
    "ehlo": "EHLO",
}

LEASES = "LEFT JOIN temp.lease l ON l.message = r.message AND l.n = r.n AND l.until > :now"


# `ident.from_int`; a blob, because a character of a text is found by counting from its beginning.
_PAIRS = f"x'{ident.PAIRS.encode().hex()}'"
_ID = (
    " || ".join(["(''", *(f"substr({_PAIRS}, (m.id >> {bits} & 1023) * 2 + 1, 2)" for bits in range(50, -1, -10))])
    + ")"
)

_SAID = f"""
substr(r.last_code || iif(r.last_status = '', '', ' ' || r.last_status) || ' ' || replace(r.last_text, char(10), ' '),
    1, {REASON_MAX})
"""
_STAGES = " ".join(f"WHEN '{stage}' THEN ' (in reply to {command})'" for stage, command in COMMANDS.items())
_REASON = f"""
CASE WHEN r.last_code = 0 THEN '' WHEN r.last_host = '' THEN {_SAID}
ELSE 'host ' || r.last_host || ' said: ' || {_SAID} || CASE r.last_stage {_STAGES} ELSE '' END END
"""

_PLACES = {State.HELD: "held", State.TRASHED: "trashed", State.FAILED: "failed", State.DONE: "done"}
_PLACE = f"""
CASE r.state WHEN {State.READY:d} THEN iif(l.lease IS NOT NULL, 0, iif(r.next_at <= :now, 1, 2))
{" ".join(f"WHEN {state:d} THEN {STATES.index(word)}" for state, word in _PLACES.items())} END
"""


def _word(place: str, words: Sequence[str]) -> str:
    """The one at a place in STATES."""
    cases = " ".join(f"WHEN {n} THEN '{word}'" for n, word in enumerate(words))
    return f"CASE {place} {cases} END"


_STATE = _word(_PLACE, STATES)
_MESSAGE_STATE = _word(f"min({_PLACE})", STATES)
_QUEUE_NAME = _word(f"min({_PLACE})", [QUEUE_NAMES.get(word, word) for word in STATES])
_WAITS = f"r.state = {State.READY:d} AND l.lease IS NULL"


def _seconds(at: str) -> str:
    """A time, whole; 0 for what no clock can say: the row is damaged."""
    return f"iif(abs({at}) < {TIME_MAX:.0f}, CAST({at} AS INTEGER), 0)"


_NEXT = f"iif({_WAITS}, {_seconds('r.next_at')}, NULL)"

_POSTFIX = f"""
'queue_name', {_QUEUE_NAME},
'queue_id', {_ID},
'arrival_time', {_seconds("m.accepted_at")},
'message_size', m.size_bytes,
'forced_expire', json('false'),
'sender', m.sender
"""

_HOLDER = """
SELECT CASE a.operation WHEN 'queue.hold_rule.add' THEN 'held by rule ' || a.id || ' of '
    WHEN 'user.freeze' THEN 'user frozen by ' ELSE 'held by ' END
    || iif(a.who = '', 'uid=' || a.uid, a.who) || iif(a.reason = '', '', ': ' || replace(a.reason, char(10), ' '))
FROM touched t JOIN audit a ON a.id = t.audit WHERE t.message = r.message AND t.n = r.n
    AND a.operation IN ('queue.hold', 'queue.hold_rule.add', 'user.freeze') ORDER BY t.audit DESC LIMIT 1
"""


def mailq(why: str) -> str:
    """A message with those of its recipients that are grouped together, in the members of `postqueue -j`. `why` is the
    reason of what waits without having been tried."""
    return f"""
json_object({_POSTFIX}, 'recipients', json_group_array(json_object(
    'address', r.address, 'orig_address', r.original, 'delay_reason', CASE WHEN r.last_code != 0 THEN {_REASON}
        WHEN r.state = {State.READY:d} THEN {why} WHEN :uid IS NULL THEN coalesce(({_HOLDER}), '') ELSE '' END
)))
"""


# `p` is the page: the recipients shown. `c` is why the site of the recipient takes no mail of this user now, or NULLs.
_DOMAINS = """
json(iif(min(r.domain) = max(r.domain), json_array(min(r.domain)), (
    SELECT json_group_array(domain) FROM (
        SELECT DISTINCT x.domain FROM page q CROSS JOIN recipient x ON x.message = q.message AND x.n = q.n
        WHERE q.message = m.id ORDER BY x.domain
    )
)))
"""
_LISTED = f"""
json_object({_POSTFIX}, 'recipients', json_group_array(json_object(
        'address', r.address, 'orig_address', r.original,
        'delay_reason', iif({_WAITS} AND c.reason IS NOT NULL, c.reason, {_REASON}),
        'id', {_ID} || '.' || r.n, 'state', {_STATE}, 'tries', r.tries, 'next_attempt', {_NEXT},
        'code', nullif(r.last_code, 0), 'status', r.last_status, 'error', r.error
    )),
    'state', {_MESSAGE_STATE}, 'next_attempt', min({_NEXT}), 'expires', {_seconds("m.expires_at")},
    'tries', max(r.tries), 'domains', {_DOMAINS}, 'source', m.source, 'user', m.user,
    'uid', iif(m.uid >= 0, m.uid, NULL), 'client_ip', m.ip, 'message_id', m.header_id
)
"""
_OF_PAGE = f"""
FROM page p CROSS JOIN message m ON m.id = p.message CROSS JOIN recipient r ON r.message = p.message AND r.n = p.n
{LEASES}
"""

_SELECTED = f"""
WITH page (message, n) AS MATERIALIZED (
    SELECT r.message, r.n FROM message m {{index}} CROSS JOIN recipient r ON r.message = m.id {LEASES}
    WHERE m.id BETWEEN :low AND :high AND (m.id > :message OR r.n >= :n) AND {{where}} ORDER BY m.id, r.n LIMIT :limit
),
closed (domain, user, reason) AS MATERIALIZED (
    SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:closed)
)
SELECT group_concat(line, char(10)), sum(recipients), max(message), recipients, last, iif(:waits, (
    SELECT json_group_array(DISTINCT json_array(r.domain, m.user)) {_OF_PAGE} WHERE {_WAITS}
), '[]') FROM (
    SELECT m.id AS message, count(*) AS recipients, max(r.n) AS last, {_LISTED} AS line
    {_OF_PAGE} LEFT JOIN closed c ON c.domain = r.domain AND c.user = m.user
    GROUP BY p.message ORDER BY p.message
)
"""


def selected(index: str, where: str) -> str:
    """The page of what a condition is true for, from `:message` and `:n` on. Lines, the number of recipients; of the
    last message its number, how many recipients there are, and the highest of them; and, if `:waits`, the destination
    and user of those that wait. `:closed` is why some do, as a JSON array of (domain, user, reason)."""
    return _SELECTED.format(index=index, where=where)
