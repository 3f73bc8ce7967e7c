"""The plan of a mail: the expansion as a tree, then each domain with its decisions."""

import sys
import textwrap
from collections.abc import Iterator, Mapping

from mtactl.table import width_of
from mtactl.views import View
from mtactl.words import Row, age, moment
from mtad.mail.text import clean

LABEL = 9


def _plan(row: Row, now: float) -> Iterator[str]:
    width = min(width_of(sys.stdout), 120)
    yield from _expansion(row, width)
    if row["problem"]:
        yield ""
        yield from _line("result", row["problem"], width)
    for way in row["ways"]:
        yield ""
        yield from _way(row, way, now, width)
    if row["more"]:
        yield ""
        yield f"and {row['more']} more domains, which were not looked at"


def _expansion(row: Row, width: int) -> Iterator[str]:
    steps = [("  " * step["depth"] + clean(step["address"]), clean(step["says"])) for step in row["steps"]]
    column = min(max((len(address) for address, _ in steps), default=0), 40)
    for address, says in steps:
        lines = textwrap.wrap(says, max(width - column - 2, 30)) or [""]
        if len(address) > column:
            yield address
        else:
            yield f"{address:<{column}}  {lines.pop(0)}".rstrip()
        for line in lines:
            yield f"{'':<{column}}  {line}"


def _way(row: Row, way: Row, now: float, width: int) -> Iterator[str]:
    many = len(way["addresses"])
    whom = way["addresses"][0] if many == 1 else f"{many} addresses"
    yield clean(f"{way['domain']} ({whom})")
    if way["sender_why"]:
        yield from _line("sender", f"{way['sender']} ({way['sender_why']})", width)
    yield from _line("route", f"{way['route']} ({way['route_why']})", width)
    for server in way["servers"]:
        yield from _server(server, width)
    for out in way["left_out"]:
        yield from _line("left out", f"{out['what']}: {out['why']}", width)
    for pace in way["pace"]:
        until = f", until {moment(pace['until'])} (in {age(pace['until'] - now)})" if pace["until"] else ""
        why = f" ({pace['why']})" if pace["why"] else ""
        yield from _line("pace", f"{pace['what']}{until}{why}", width)
    yield from _line("result", way["result"], width)


def _server(server: Row, width: int) -> Iterator[str]:
    label = "host" if server["preference"] is None else f"mx {server['preference']}"
    where = ", ".join(server["addresses"])
    port = f" port {server['port']}" if server["port"] else ""
    yield from _line(label, f"{server['name']}: {where}{port}", width)
    if server["refused"]:
        yield from _line("", f"not used now: {server['refused']} ({server['why']})", width)
    elif server["tls"]:
        why = f": {server['why']}" if server["why"] else ""
        yield from _line("", f"TLS {_TLS[server['tls']]}{why}", width)


_TLS = {
    "may": "where it is offered",
    "encrypt": "required",
    "verify": "required, with a certificate for its name",
    "pinned": "required, with a key that is pinned",
    "dane": "required, with a certificate that DNS names",
}


def _line(label: str, text: str, width: int) -> Iterator[str]:
    room = max(width - LABEL - 2, 30)
    for line in textwrap.wrap(clean(text, 1000), room, break_on_hyphens=False) or [""]:
        yield f"  {label:<{LABEL}}{line}".rstrip()
        label = ""


VIEWS: Mapping[str, View] = {"explain": View(card=_plan)}
