"""Blocks, sessions, limits."""

from collections.abc import Iterator, Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import Row, age, moment
from mtad.mail.text import clean


def _expires(row: Row, now: float) -> str:
    at = row.get("expires")
    return "never" if at is None else f"in {age(at - now)}"


def _client(row: Row, now: float) -> str:
    return row["client_ip"] or ("-" if row["uid"] is None else f"uid={row['uid']}")


def _block(row: Row, now: float) -> Iterator[str]:
    until = f" until {moment(row['expires'])}" if row["expires"] is not None else ""
    yield clean(f"{row['value']}: blocked{until}", 2000)


def _unblock(row: Row, now: float) -> Iterator[str]:
    yield clean(f"{row['value']}: not blocked any more", 2000)


def _closed(row: Row, now: float) -> Iterator[str]:
    yield f"session {row['number']} is closed"


VIEWS: Mapping[str, View] = {
    "block.list": View(
        (
            Column("BLOCKED", lambda row, now: row["value"]),
            Column("EXPIRES", _expires),
            Column("BY", lambda row, now: row["made_by"]),
            Column("TIMES", lambda row, now: row["times"], right=True),
            Column("REASON", lambda row, now: row["reason"] or "-"),
        )
    ),
    "block.add": View(card=_block),
    "block.remove": View(card=_unblock),
    "session.list": View(
        (
            Column("NUMBER", lambda row, now: row["number"], right=True),
            Column("CLIENT", _client),
            Column("USER", lambda row, now: row["user"] or "-"),
            Column("AGE", lambda row, now: age(now - row["since"]), right=True),
            Column("LISTENER", lambda row, now: row["source"]),
            Column("TLS", lambda row, now: row["tls"].partition(" ")[0] or "-"),
            Column("STATE", lambda row, now: row["state"]),
            Column("MAILS", lambda row, now: row["mails"], right=True),
            Column("COMMANDS", lambda row, now: row["commands"], right=True),
            Column("ERRORS", lambda row, now: row["errors"], right=True),
            Column("HELO", lambda row, now: row["helo"] or "-"),
        )
    ),
    "session.close": View(card=_closed),
    "limit.show": View(
        (
            Column("SCOPE", lambda row, now: row["scope"]),
            Column("WHAT", lambda row, now: row["what"]),
            Column("COUNT", lambda row, now: row["count"], right=True),
            Column("LIMIT", lambda row, now: "none" if row["limit"] == "0" else row["limit"] or _expires(row, now)),
            Column("SETTING", lambda row, now: row["setting"]),
        )
    ),
}
