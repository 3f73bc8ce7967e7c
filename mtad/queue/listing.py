# ruff: noqa: S608  (the statements are put together from constants of ours)
"""The whole queue as the lines that go to the operator: a JSON object for each message, as `postqueue -j` has it.

SQLite writes them, a page in one step, and so without the interpreter lock: whoever lists a long queue does not keep
the others from accepting mail. A page looks at a few hundred recipients, and so long is the writer busy with it.
"""

import json
import sqlite3
from collections.abc import Mapping

from mtad.mail import ident
from mtad.queue import effects
from mtad.queue.store import Listed, Place

PAGE = 500  # recipients; a message is not divided for it
RECIPIENTS_PER_ROW = 2000  # more of one message come in a further row
REASON_MAX = 1000  # characters of what the other side said

# Postfix's name of the queue, by the display word of a recipient's state. A message has that of its most alive one.
QUEUE_NAMES: Mapping[str, str] = {"active": "active", "ready": "incoming", "deferred": "deferred", "held": "hold"}
# What a stage of the dialogue is called where a reply to it is told.
COMMANDS: Mapping[str, str] = {
    "mail": "MAIL FROM",
    "rcpt": "RCPT TO",
    "data": "DATA",
    "final": "end of DATA",
    "ehlo": "EHLO",
}

_LAST = (1 << 60, 0)

# `ident.from_int`; a blob, because a character of a text is found by counting from its beginning.
_ID = " || ".join(f"substr(:pairs, (m.id >> {shift} & 1023) * 2 + 1, 2)" for shift in range(50, -1, -10))
_PAIRS = ident.PAIRS.encode()

_SAID = f"""
substr(r.last_code || iif(r.last_status = '', '', ' ' || r.last_status) || ' ' || replace(r.last_text, char(10), ' '),
    1, {REASON_MAX})
"""
_STAGE = " ".join(f"WHEN '{stage}' THEN ' (in reply to {command})'" for stage, command in COMMANDS.items())
_HOLDER = """
SELECT CASE a.operation WHEN 'queue.hold_rule.add' THEN 'held by rule ' || a.id || ' of '
    WHEN 'user.freeze' THEN 'user frozen by ' ELSE 'held by ' END
    || iif(a.who = '', 'uid=' || a.uid, a.who) || iif(a.reason = '', '', ': ' || replace(a.reason, char(10), ' '))
FROM touched t JOIN audit a ON a.id = t.audit WHERE t.message = r.message AND t.n = r.n
    AND a.operation IN ('queue.hold', 'queue.hold_rule.add', 'user.freeze') ORDER BY t.audit DESC LIMIT 1
"""
_REASON = f"""
CASE WHEN r.last_code = 0 THEN
    CASE WHEN r.state = 0 THEN coalesce(u.value, d.value, '')
    WHEN :uid IS NULL THEN coalesce(({_HOLDER}), '') ELSE '' END
WHEN r.last_host = '' THEN {_SAID}
ELSE 'host ' || r.last_host || ' said: ' || {_SAID} || CASE r.last_stage {_STAGE} ELSE '' END END
"""
_ALIVE = "CASE WHEN r.state = 2 THEN 3 WHEN l.lease IS NOT NULL THEN 0 WHEN r.next_at <= :now THEN 1 ELSE 2 END"
_NAMES = " ".join(f"WHEN {number} THEN '{name}'" for number, name in enumerate(QUEUE_NAMES.values()))

_OPEN_MESSAGES = """
FROM message m INDEXED BY message_finished CROSS JOIN recipient r ON r.message = m.id
"""
_FROM_START = "m.finished_at IS NULL AND m.id >= :message AND (m.id > :message OR r.n >= :n)"

_END = f"SELECT r.message, r.n {_OPEN_MESSAGES} WHERE {_FROM_START} ORDER BY m.id, r.n LIMIT 1 OFFSET :recipients"

_LINES = f"""
WITH shut (key, value) AS MATERIALIZED (SELECT key, value FROM json_each(:shut))
SELECT group_concat(line, char(10)) FROM (
    SELECT json_object(
        'queue_name', CASE min({_ALIVE}) {_NAMES} END,
        'queue_id', {_ID},
        'arrival_time', CAST(m.accepted_at AS INTEGER),
        'message_size', m.size_bytes,
        'forced_expire', json('false'),
        'sender', m.sender,
        'recipients', json_group_array(
            json_object('address', r.address, 'orig_address', r.original, 'delay_reason', {_REASON})
        )
    ) AS line
    {_OPEN_MESSAGES} LEFT JOIN temp.lease l ON l.message = r.message AND l.n = r.n AND l.until > :now
    LEFT JOIN shut d ON d.key = '@' || r.domain LEFT JOIN shut u ON m.user != '' AND u.key = m.user
    WHERE {_FROM_START} AND m.id <= :end_message AND (m.id < :end_message OR r.n < :end_n)
        AND {effects.OPEN} AND (:uid IS NULL OR m.uid = :uid)
    GROUP BY m.id ORDER BY m.id
)
"""


class Listing:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read(self, ask: tuple[float, Place, int | None, Mapping[str, str]]) -> Listed:
        now, start, uid, shut = ask
        end = self._end(start)
        asked: dict[str, object] = {"message": start[0], "n": start[1], "now": now, "uid": uid, "pairs": _PAIRS}
        asked["shut"] = json.dumps(shut)
        asked["end_message"], asked["end_n"] = end or _LAST
        (lines,) = self._connection.execute(_LINES, asked).fetchone()
        return Listed(lines or "", end)

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
