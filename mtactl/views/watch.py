"""Looking on: a screen that is drawn again and again, and changes as lines."""

import io
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mtactl.table import Column, plain_table
from mtactl.views import View
from mtactl.words import Row, age, size
from mtad.mail.text import clean

TEXT_MAX = 2000

_RATES = ("accepted", "delivered", "deferred", "failed", "refused", "sign_in_failed")
_SITES = (
    Column("SITE", lambda row, now: row["site"] or "-"),
    Column("DELIVERED", lambda row, now: row["delivered"], right=True),
    Column("DEFERRED", lambda row, now: row["deferred"], right=True),
    Column("FAILED", lambda row, now: row["failed"], right=True),
)
_SENDERS = (
    Column("SENDER", lambda row, now: row["sender"]),
    Column("MESSAGES", lambda row, now: row["messages"], right=True),
)
_ERRORS = (
    Column("ERROR", lambda row, now: row["error"]),
    Column("TRIES", lambda row, now: row["count"], right=True),
)
_WAITING = (
    Column("WAITING FOR", lambda row, now: row["domain"]),
    Column("RECIPIENTS", lambda row, now: row["recipients"], right=True),
    Column("OLDEST", lambda row, now: age(now - row["oldest"]), right=True),
)


def _top(row: Row, now: float, width: int) -> Iterator[str]:
    queue, rates = row["queue"], row["rates"]
    at = time.strftime("%H:%M:%S", time.localtime(row["at"]))
    lines = [
        f"{clean(row['hostname'])}  up {age(row['uptime_s'])}  {at}  over {row['interval_s']:.0f}s"
        f"  {row['sessions']} sessions  {row['deliveries']} deliveries",
        "per second  " + "  ".join(f"{name.replace('_', '-')} {rates[name]:.1f}" for name in _RATES),
        f"queue  {queue['messages']} messages  {size(queue['size_bytes'])}  "
        + "  ".join(f"{name} {queue[name]}" for name in ("active", "ready", "deferred", "held", "trashed"))
        + (f"  oldest {age(now - queue['oldest'])}" if queue["oldest"] is not None else ""),
    ]
    for line in lines:
        yield from _folded(line, width)
    for columns, name in ((_SITES, "sites"), (_SENDERS, "senders"), (_ERRORS, "errors"), (_WAITING, "waiting")):
        if row[name]:
            yield ""
            yield from _tabled(columns, row[name], now, width)


def _folded(line: str, width: int) -> Iterator[str]:
    """At the gaps between its facts."""
    while len(line) > width:
        cut = line.rfind("  ", 0, width)
        if cut <= 0:
            break
        yield line[:cut]
        line = "    " + line[cut:].lstrip()
    yield line


def _tabled(columns: Sequence[Column], rows: Sequence[Row], now: float, width: int) -> Iterator[str]:
    out = io.StringIO()
    plain_table(columns, rows, out, now, width)
    yield from out.getvalue().splitlines()


def _watch(rows: Iterable[Row], now: float, width: int) -> Iterator[str]:
    for row in rows:
        at = time.strftime("%H:%M:%S", time.localtime(row["at"]))
        state = f"{row['before']} -> {row['state']}" if row["before"] else row["state"]
        said = [
            f"{row['change']:<7}",
            f"{row['id']:<14}",
            f"{state:<20}",
            row.get("address", ""),
            row.get("delay_reason", ""),
        ]
        line = clean("  ".join([at, *filter(None, said)]), TEXT_MAX)
        yield line if len(line) <= width else line[: max(width - 3, 0)] + "..."


def _metrics(rows: Iterable[Row], now: float, width: int) -> Iterator[str]:
    last = ""
    for row in rows:
        family = row["name"].partition("{")[0]
        if family != last:
            yield clean(f"# TYPE {family} {row['type']}", TEXT_MAX)
            last = family
        yield clean(f"{row['name']} {row['value']}", TEXT_MAX)


def _alerts(rows: Iterable[Row], now: float, width: int) -> Iterator[str]:
    for row in rows:
        if "rules" in row:
            yield from row["rules"].splitlines()
            continue
        yield clean(f"{'FIRING' if row['firing'] else 'ok':<6}  {row['name']:<20}  {row['text']}", TEXT_MAX)
        if row["firing"]:
            yield clean(f"{'':<30}look at: {row['advice']}", TEXT_MAX)


VIEWS: Mapping[str, View] = {
    "top": View(screen=_top),
    "queue.watch": View(lines=_watch),
    "metrics": View(lines=_metrics),
    "alerts": View(lines=_alerts),
}
