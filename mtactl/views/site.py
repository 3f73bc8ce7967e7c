"""Sites and suspensions."""

from collections.abc import Iterator, Mapping

from mtactl.table import Column
from mtactl.views import View
from mtactl.words import Row, age, lines, moment, pairs
from mtad.mail.text import clean


def _site(row: Row, now: float) -> Iterator[str]:
    facts = [
        ("site", _name(row)),
        ("state", row["state"]),
        ("suspended", row["suspended"]),
        ("at work", f"{row['running']}; {row['concurrency']} may be at the same time now, {row['ceiling']} at most"),
        ("rate", row["rate"]),
        ("breaker", row["breaker"]),
        ("probes", _probes(row)),
        ("it said" if row["cause"][:3].isdigit() else "trouble", row["cause"]),
        ("warm-up", row["warmup"]),
        ("each mail", f"is tried again after {' '.join(row['retry'])}, but not while the site is closed"),
        ("queued", str(row["queued"])),
        *lines("hosts", row["hosts"]),
        *lines("domains", row["domains"]),
    ]
    yield from pairs([(name, value) for name, value in facts if value])


def _name(row: Row) -> str:
    """The site, and if it was asked for by another name, how that leads here."""
    asked = row["asked"].lower().removesuffix(".")
    if asked == row["site"]:
        return str(row["site"])
    return (
        f"{row['site']} ({f'one of its hosts is {asked}' if asked in row['hosts'] else f'mail for {asked} goes there'})"
    )


def _probes(row: Row) -> str:
    plan = row["probe_plan"]
    return f"one mail at a time, after {' '.join(plan)}, until the site takes one" if plan else ""


def _reset(row: Row, now: float) -> Iterator[str]:
    asked = row["asked"].lower().removesuffix(".")
    yield clean(f"{row['site']}{f', for {asked},' if asked != row['site'] else ''} begins anew", 2000)


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
