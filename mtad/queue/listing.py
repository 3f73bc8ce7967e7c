# ruff: noqa: S608  (the statement is put together from constants of ours)
"""The whole queue in few words, for mailq: no more is read of a recipient than a line of it shows."""

import sqlite3
from collections.abc import Sequence

from mtad.mail import ident
from mtad.mail.envelope import State
from mtad.mail.reply import Reply
from mtad.queue import effects, selector
from mtad.queue.store import Listed

_LISTING = f"""
SELECT m.id, m.size_bytes, m.accepted_at, m.sender, m.uid, r.n, r.address, r.original, r.state, r.next_at,
    r.last_code, r.last_status, r.last_text, r.last_host, r.last_stage, l.lease IS NOT NULL
FROM message m INDEXED BY message_finished CROSS JOIN recipient r ON r.message = m.id
LEFT JOIN temp.lease l ON l.message = r.message AND l.n = r.n AND l.until > :now
WHERE m.finished_at IS NULL AND m.id >= :message AND (m.id > :message OR r.n > :n) AND {effects.OPEN}
ORDER BY m.id, r.n LIMIT :limit
"""


class Listing:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read(self, ask: tuple[float, str, int]) -> Sequence[Listed]:
        now, after, limit = ask
        message, n = selector.recipient_id(after) if after else (0, 0)
        found = self._connection.execute(_LISTING, {"now": now, "message": message, "n": n, "limit": limit})
        return [
            Listed(
                ident.from_int(number),
                size_bytes,
                accepted_at,
                sender,
                uid,
                n,
                address,
                original,
                State.LEASED if leased else _STATES[state],
                next_at,
                Reply(code, status, text, host, stage) if code else None,
            )
            for (
                number, size_bytes, accepted_at, sender, uid, n, address, original, state, next_at,
                code, status, text, host, stage, leased,
            ) in found
        ]  # fmt: skip


_STATES = {int(state): state for state in State}
