"""Certificates, and what others see of TLS."""

import sys
import textwrap
from collections.abc import Iterator, Mapping

from mtactl.table import Column, width_of
from mtactl.views import View
from mtactl.words import Row, age, moment
from mtad.mail.text import clean

LABEL = 10

_LIST = View(
    (
        Column("CERTIFICATE", lambda row, now: row["cert"]),
        Column("NAMES", lambda row, now: " ".join(row["names"]) or "-"),
        Column("EXPIRES", lambda row, now: moment(row["expires"])),
        Column("IN", lambda row, now: "over" if row["expires"] <= now else age(row["expires"] - now), right=True),
    )
)


def _pair(row: Row, now: float) -> Iterator[str]:
    yield clean(row["cert"])
    yield from _line("key", f"{row['key']}{'' if row['matches'] else ' (does not belong to it, or cannot be used)'}")
    if row["names"]:
        yield from _line("names", " ".join(row["names"]))
    yield from _chain(row, now)
    if row["matches"]:
        yield from _line("clients", (row["distrust"] and f"would say: {row['distrust']}") or "trust it")
    yield from _problems(row)


def _listener(row: Row, now: float) -> Iterator[str]:
    asked = "" if row["where"].startswith(f"{row['name']}:") else f", asked for {row['name']}"
    yield clean(f"{row['where']} ({row['way']}{asked})")
    if row["greeting"]:
        yield from _line("greeting", row["greeting"])
    if row["protocol"]:
        yield from _line("TLS", f"{row['protocol']} {row['cipher']}")
        yield from _chain(row, now)
        yield from _line("clients", (row["distrust"] and f"would say: {row['distrust']}") or "trust it")
        old = row["old"]
        told = "cannot be asked for from here" if old is None else f"taken: {', '.join(old)}" if old else "refused"
        yield from _line("TLS 1.0/1", told)
    if row["auth"]:
        yield from _line("sign-in", " ".join(row["auth"]))
    if row["needs"]:
        yield from _line("needs", row["needs"])
    yield from _line("result", row["result"])
    yield from _problems(row)


def _chain(row: Row, now: float) -> Iterator[str]:
    for number, link in enumerate(row["chain"]):
        left = "expired" if link["expires_at"] <= now else f"{age(link['expires_at'] - now)} left"
        yield from _line("" if number else "chain", f"{link['subject']}, {link['key']}, {left}")
        if number == len(row["chain"]) - 1 and not link["self_signed"]:
            yield from _line("", f"issued by {link['issuer']}")


def _problems(row: Row) -> Iterator[str]:
    for number, problem in enumerate(row["problems"]):
        yield from _line("" if number else "problem", problem)


def _line(label: str, text: str) -> Iterator[str]:
    room = max(min(width_of(sys.stdout), 120) - LABEL - 2, 30)
    for line in textwrap.wrap(clean(text, 1000), room, break_on_hyphens=False) or [""]:
        yield f"  {label:<{LABEL}}{line}".rstrip()
        label = ""


VIEWS: Mapping[str, View] = {
    "tls.show": View(card=_pair),
    "tls.test": View(card=_listener),
    "tls.reload": _LIST,
}
