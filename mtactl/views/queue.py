"""Queue rows: one line a recipient, or everything about a message."""

import io
import textwrap
import time
from collections.abc import Iterator, Mapping

from mtactl.table import Column, table
from mtactl.views import View
from mtactl.words import Row, age, facts, moment, pairs, size
from mtad.mail.text import clean

ADVICE_WIDTH = 80


def _next(row: Row, now: float) -> str:
    at = row["next_attempt"]
    if at is None:
        return "-"
    return "now" if at <= now else age(at - now)


def _message(row: Row, now: float) -> Iterator[str]:
    client = " ".join(word for word in (row["client_ip"], row["helo"] and f"helo={row['helo']}", row["tls"]) if word)
    facts = [
        ("id", row["queue_id"]),
        ("state", row["state"]),
        ("from", row["sender"] or "<>"),
        ("subject", row["subject"]),
        ("message-id", row["message_id"]),
        ("size", size(row["message_size"])),
        ("arrived", f"{moment(row['arrival_time'])} ({age(now - row['arrival_time'])})"),
        ("expires", moment(row["expires"])),
        ("by", " ".join(word for word in (row["source"], row["user"], _uid(row)) if word)),
        ("client", client),
    ]
    yield from pairs([(name, value) for name, value in facts if value])
    for recipient in row["recipients"]:
        yield ""
        yield f"to {clean(recipient['address'])}"
        facts = [
            ("id", recipient["id"]),
            ("state", recipient["state"]),
            ("alias", recipient["orig_address"] if recipient["orig_address"] != recipient["address"] else ""),
            ("tries", str(recipient["tries"])),
            ("next", _next_words(recipient, now)),
            ("last", recipient["delay_reason"]),
        ]
        yield from pairs([(name, value) for name, value in facts if value], "  ")
        for attempt in row["attempts"]:
            if attempt["id"] == recipient["id"]:
                yield "  " + clean(_attempt(attempt), 2000)


def _outcome(row: Row, now: float) -> Iterator[str]:
    yield f"{row['queue_id']} {row['outcome']}"
    for recipient in row["recipients"]:
        said = f"  {recipient['delay_reason']}" if recipient["delay_reason"] else ""
        yield clean(f"  {recipient['state']:<8}  {recipient['address']}{said}", 2000)


def _uid(row: Row) -> str:
    return "" if row["uid"] is None else f"uid={row['uid']}"


def _next_words(recipient: Row, now: float) -> str:
    at = recipient["next_attempt"]
    return "" if at is None else "now" if at <= now else f"{moment(at)} (in {age(at - now)})"


def _attempt(attempt: Row) -> str:
    said = " ".join(str(word) for word in (attempt["code"], attempt["status"], attempt["text"]) if word)
    tls = f" ({attempt['tls']})" if attempt["tls"] else ""
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt["started"]))
    return f"{started}  {attempt['took_s']:.2f}s  {attempt['relay'] or '-'}{tls}  {said}"


def _stats(row: Row, now: float) -> Iterator[str]:
    """The counts, then the groups as a table: the oldest open one, and for an error what to do."""
    yield from pairs(
        [pair for name, value in row.items() if name not in ("by", "groups") for pair in facts(name, value, now)]
    )
    if not row["by"]:
        return
    yield ""
    if not row["groups"]:
        yield "no recipient is open or failed" if row["by"] != "error" else "no recipient had an error"
        return
    columns = (
        Column(row["by"].upper(), lambda group, now: group[row["by"]] or "-"),
        Column("OPEN", lambda group, now: group["open"], right=True),
        Column("OLDEST", lambda group, now: "-" if group["oldest"] is None else age(now - group["oldest"]), right=True),
        Column("FAILED", lambda group, now: group["failed"], right=True),
    )
    out = io.StringIO()
    table(columns, row["groups"], out, now)
    yield from out.getvalue().splitlines()
    if row["by"] == "error":
        yield ""
        for group in row["groups"]:
            yield from textwrap.wrap(f"{group['error']}: {group['advice']}", ADVICE_WIDTH, subsequent_indent="  ")


LIST = (
    Column("ID", lambda row, now: row["id"]),
    Column("STATE", lambda row, now: row["state"]),
    Column("AGE", lambda row, now: age(now - row["arrival_time"]), right=True),
    Column("SIZE", lambda row, now: size(row["message_size"]), right=True),
    Column("TRIES", lambda row, now: row["tries"], right=True),
    Column("NEXT", _next, right=True),
    Column("FROM", lambda row, now: row["sender"] or "<>"),
    Column("TO", lambda row, now: row["address"]),
    Column("REASON", lambda row, now: row["delay_reason"]),
)


def _changing(past: str) -> View:
    return View(LIST, past=past)


VIEWS: Mapping[str, View] = {
    "queue.list": View(LIST),
    "queue.show": View(card=_message),
    "queue.stats": View(card=_stats),
    "queue.flush": _changing("due now"),
    "queue.hold": _changing("held"),
    "queue.release": _changing("released"),
    "queue.retry": _changing("rescheduled"),
    "queue.purge": _changing("purged"),
    "queue.restore": _changing("restored"),
    "queue.wait": View(card=_outcome),
}
