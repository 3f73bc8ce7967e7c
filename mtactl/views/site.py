"""Sites and suspensions."""

from collections.abc import Iterator, Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import Row, age, lines, moment, pairs
from mtad.mail.text import clean


def _site(row: Row, now: float) -> Iterator[str]:
    facts = [
        ("site", row["site"]),
        ("state", row["state"]),
        ("suspended", row["suspended"]),
        ("concurrency", f"{row['concurrency']} of {row['ceiling']}, {row['running']} at work"),
        ("rate", row["rate"]),
        ("breaker", row["breaker"]),
        ("it said", row["cause"]),
        ("warm-up", row["warmup"]),
        ("retry", " ".join(row["retry"])),
        ("queued", str(row["queued"])),
        *lines("hosts", row["hosts"]),
        *lines("domains", row["domains"]),
    ]
    yield from pairs([(name, value) for name, value in facts if value])


def _reset(row: Row, now: float) -> Iterator[str]:
    yield clean(f"{row['site']}: begins anew", 2000)


def _what(row: Row) -> str:
    return f"{row['kind']} {row['value']}"


def _expires(row: Row, now: float) -> str:
    return "never" if row["expires"] is None else f"in {age(row['expires'] - now)}"


def _suspended(row: Row, now: float) -> Iterator[str]:
    until = f" until {moment(row['expires'])}" if row["expires"] is not None else ", until it is removed"
    yield clean(f"{_what(row)}: suspended{until}", 2000)


def _resumed(row: Row, now: float) -> Iterator[str]:
    yield clean(f"{_what(row)}: not suspended any more", 2000)


VIEWS: Mapping[str, View] = {
    "site.list": View(
        (
            Column("SITE", lambda row, now: row["site"]),
            Column("STATE", lambda row, now: row["state"]),
            Column("RUNNING", lambda row, now: row["running"], right=True),
            Column("OF", lambda row, now: row["concurrency"], right=True),
            Column("MAX", lambda row, now: row["ceiling"], right=True),
            Column("QUEUED", lambda row, now: row["queued"], right=True),
            Column("RATE", lambda row, now: row["rate"] or "-"),
            Column("WARM-UP", lambda row, now: row["warmup"] or "-"),
            Column("BREAKER", lambda row, now: row["breaker"] or "-"),
        )
    ),
    "site.show": View(card=_site),
    "site.reset": View(card=_reset),
    "suspend.list": View(
        (
            Column("SUSPENDED", lambda row, now: _what(row)),
            Column("SINCE", lambda row, now: moment(row["created"])),
            Column("EXPIRES", _expires),
            Column("BY", lambda row, now: row["made_by"]),
            Column("REASON", lambda row, now: row["reason"] or "-"),
        )
    ),
    "suspend.add": View(card=_suspended),
    "suspend.remove": View(card=_resumed),
}
