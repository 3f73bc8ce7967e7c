"""The rows of MTA-STS policies and of what TLS came to. Runs in the writer's thread."""

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mtad.queue import bulk

if TYPE_CHECKING:
    from mtad.tls.mta_sts import Known
    from mtad.tls.tlsrpt import Counted

SESSIONS_MAX = 200_000  # rows; beyond it only what is known already is counted on

_POLICY = "domain, id, mode, mx, max_age_s, fetched_at, used_at"
_SESSION = "day, domain, policy, result, mx, sender_ip, mx_ip, reason"


class TlsRows:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def load_policies(self, _: None) -> Sequence[tuple[Any, ...]]:
        return self._connection.execute(f"SELECT {_POLICY} FROM sts_policy ORDER BY domain").fetchall()  # noqa: S608

    def save_policies(self, policies: Sequence["Known"]) -> None:
        rows = [
            (
                one.domain,
                one.id,
                one.policy.mode,
                "\n".join(one.policy.mx),
                one.policy.max_age_s,
                one.fetched_at,
                one.used_at,
            )
            for one in policies
        ]
        bulk.insert(self._connection, "sts_policy", rows, replace=True)

    def delete_policies(self, domains: Sequence[str]) -> None:
        self._connection.executemany("DELETE FROM sts_policy WHERE domain = ?", [(domain,) for domain in domains])

    def count(self, sessions: Sequence["Counted"]) -> None:
        [have] = self._connection.execute("SELECT count(*) FROM tls_session").fetchone()
        for one in sessions:
            key = (one.day, one.domain, one.policy, one.result, one.mx, one.sender_ip, one.mx_ip, one.reason)
            updated = self._connection.execute(
                "UPDATE tls_session SET count = count + ? WHERE day = ? AND domain = ? AND policy = ? AND result = ?"
                " AND mx = ? AND sender_ip = ? AND mx_ip = ? AND reason = ?",
                (one.count, *key),
            ).rowcount
            if not updated and have < SESSIONS_MAX:
                bulk.insert(self._connection, "tls_session", [(*key, one.count)])
                have += 1

    def days(self, before: int) -> Sequence[tuple[int, str]]:
        """(day, domain) of what was counted before a day."""
        return self._connection.execute(
            "SELECT DISTINCT day, domain FROM tls_session WHERE day < ? ORDER BY day, domain", (before,)
        ).fetchall()

    def sessions(self, what: tuple[int, str]) -> Sequence[tuple[Any, ...]]:
        return self._connection.execute(
            f"SELECT {_SESSION}, count FROM tls_session WHERE day = ? AND domain = ?",  # noqa: S608
            what,
        ).fetchall()

    def forget(self, what: tuple[int, str]) -> None:
        self._connection.execute("DELETE FROM tls_session WHERE day = ? AND domain = ?", what)
