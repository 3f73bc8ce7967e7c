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

# Why mail waits that has no reply of its own to tell.
SENDER_ASKED = "its sender asked for a later delivery"
NOT_DUE = "not yet due"
PUT_OFF = "put off by "
HELD_BY_DAEMON = "held by the daemon, since it was restored from a backup or came so"
PUT_OFF_WITH = ("queue.retry", "suspend.add")
# The operation that held it, and what is said before who it was. A rule is named too.
HOLDS: Mapping[str, str] = {
    "queue.hold": "held by ",
    "queue.hold_rule.add": "held by rule ",
    "user.freeze": "the user is frozen by ",
}

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
CASE WHEN r.last_code = 0 THEN ''
WHEN r.last_host = '' THEN substr(replace(r.last_text, char(10), ' '), 1, {REASON_MAX})
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

_NOT_BEFORE = f"""
CASE WHEN NOT ({_WAITS}) OR w.shut != '' AND w.until = 0 THEN NULL
WHEN w.shut != '' THEN max({_seconds("r.next_at")}, {_seconds("w.until")}) ELSE {_seconds("r.next_at")} END
"""

_POSTFIX = f"""
'queue_name', {_QUEUE_NAME},
'queue_id', {_ID},
'arrival_time', {_seconds("m.accepted_at")},
'message_size', m.size_bytes,
'forced_expire', json('false'),
'sender', m.sender
"""

_TOUCHED = "FROM touched t JOIN audit a ON a.id = t.audit WHERE t.message = r.message AND t.n = r.n"
_WHO = "iif(a.who = '', 'uid=' || a.uid, a.who)"
_HOLDER = f"""
SELECT CASE a.operation {" ".join(f"WHEN '{one}' THEN '{words}'" for one, words in HOLDS.items())} END
    || iif(a.operation = 'queue.hold_rule.add', a.id || ' of ', '') || {_WHO}
    || iif(a.reason = '', '', ': ' || replace(a.reason, char(10), ' '))
{_TOUCHED} AND a.operation IN ({", ".join(f"'{one}'" for one in HOLDS)}) ORDER BY t.audit DESC LIMIT 1
"""
_PUT_OFF = f"""
SELECT iif(a.operation IN ({", ".join(f"'{one}'" for one in PUT_OFF_WITH)}), '{PUT_OFF}' || {_WHO}, NULL)
{_TOUCHED} ORDER BY t.audit DESC LIMIT 1
"""

# What is known of where a recipient's mail goes: `w.shut` is why nothing of this user goes there now, `w.due` why what
# is due is not tried. With `:uid` somebody asks for his own mail: what operators did, and why, is for operators.
WHYS = """
why (domain, user, shut, due, until) AS MATERIALIZED (
    SELECT CAST(value ->> 0 AS TEXT), CAST(value ->> 1 AS TEXT), value ->> 2, value ->> 3, value ->> 4
    FROM json_each(:whys)
)
"""
OF_WHYS = "LEFT JOIN why w ON w.domain = r.domain AND w.user = m.user"
WAITING = f"json_group_array(DISTINCT json_array(r.domain, m.user)) FILTER (WHERE {_WAITS})"


def _why(shut: str, due: str) -> str:
    return f"""
CASE WHEN r.state = {State.HELD:d} THEN coalesce(iif(:uid IS NULL, ({_HOLDER}), NULL),
        nullif({_REASON}, ''), iif(:uid IS NULL, '{HELD_BY_DAEMON}', ''))
    WHEN {_WAITS} THEN coalesce({shut}, nullif({_REASON}, ''), CASE WHEN r.next_at <= :now THEN coalesce({due}, :busy)
        WHEN m.hold_until > :now THEN '{SENDER_ASKED}'
        ELSE coalesce(iif(:uid IS NULL, ({_PUT_OFF}), NULL), '{NOT_DUE}') END)
    ELSE {_REASON} END
"""


_WHY = _why("nullif(w.shut, '')", "nullif(w.due, '')")


def mailq(*, whys: bool) -> str:
    """A message with those of its recipients that are grouped together, in the members of `postqueue -j`. `:busy` is
    why nothing that is due is tried."""
    return f"""
json_object({_POSTFIX}, 'recipients', json_group_array(json_object(
    'address', r.address, 'orig_address', r.original, 'delay_reason', {_WHY if whys else _why("NULL", "NULL")}
)))
"""


# `p` is the page: the recipients shown.
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
        'delay_reason', {_WHY},
        'id', {_ID} || '.' || r.n, 'state', {_STATE}, 'tries', r.tries, 'next_attempt', {_NEXT},
        'not_before', {_NOT_BEFORE}, 'code', nullif(r.last_code, 0), 'status', r.last_status, 'error', r.error
    )),
    'state', {_MESSAGE_STATE}, 'next_attempt', min({_NEXT}), 'expires', {_seconds("m.expires_at")},
    'tries', max(r.tries), 'domains', {_DOMAINS}, 'source', m.source, 'user', m.user,
    'uid', iif(m.uid >= 0, m.uid, NULL), 'client_ip', m.ip, 'message_id', m.header_id, 'subject', m.subject
)
"""
_OF_PAGE = f"""
FROM page p CROSS JOIN message m ON m.id = p.message CROSS JOIN recipient r ON r.message = p.message AND r.n = p.n
{LEASES}
"""

_PAGE = f"""
page (message, n) AS MATERIALIZED (
    SELECT r.message, r.n FROM message m {{index}} CROSS JOIN recipient r ON r.message = m.id {LEASES}
    WHERE m.id BETWEEN :low AND :high AND (m.id > :message OR r.n >= :n) AND {{where}} ORDER BY m.id, r.n LIMIT :limit
)
"""
_SELECTED = f"""
WITH {_PAGE}, {WHYS}
SELECT group_concat(line, char(10)), sum(recipients), max(message), recipients, last FROM (
    SELECT m.id AS message, count(*) AS recipients, max(r.n) AS last, {_LISTED} AS line
    {_OF_PAGE} {OF_WHYS} GROUP BY p.message ORDER BY p.message
)
"""
_WAITING = f"WITH {_PAGE} SELECT {WAITING}, count(*), min(m.id) = max(m.id) {_OF_PAGE}"


def selected(index: str, where: str) -> str:
    """The page of what a condition is true for, from `:message` and `:n` on. Lines, the number of recipients; of the
    last message its number, how many recipients there are, and the highest of them. `:whys` is a JSON array of
    mtad.queue.store.Why."""
    return _SELECTED.format(index=index, where=where)


def waiting(index: str, where: str) -> str:
    """The destination and user of those in the same page that wait, a JSON array; how many recipients the page has, and
    whether they are of one message."""
    return _WAITING.format(index=index, where=where)
